//! One opened `sled` database: tables, chunks and a ledger.
//!
//! Obeys what was measured of `sled`: plain inserts and removes only (a `Batch` or transaction that mixes them makes
//! memory and disk grow without bound), no value over 4 KiB (see [`super::value`]), one `flush` and then an `fdatasync`
//! of our own for each commit (on Linux `flush` only asks for the pages to be written, not for the drive's cache), a
//! bounded page cache, no ids from `sled` (they jump by two million at each opening).
//!
//! Only one thread writes. After an error of a write the state of the engine is not known: it is to be dropped and
//! opened again.

mod stock;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use ::sled::{Db, IVec, Tree};
use bytes::Bytes;

use super::super::{Order, StoreError, Table, Write};
use super::ledger::{Committed, MAX_STEPS, Plan, Sum};
use super::value::{self, Head};
use crate::metrics;
use crate::model::ids::Epoch;

const EPOCH: &[u8] = b"epoch";
const COMMITTED: &[u8] = b"committed";
const PLAN: &[u8] = b"plan";
/// Damaged values that are remembered, so that each is told of once.
const MAX_REMEMBERED: usize = 1024;
/// A database that this process has just closed may be locked a little longer, until the last thread of it has ended.
const LOCK_WAIT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Engine {
    db: Db,
    heads: [Tree; Table::ALL.len()],
    chunks: [Tree; Table::ALL.len()],
    about: Tree,
    /// `sled`'s data file, opened a second time for the `fdatasync`.
    data: File,
    live: AtomicU64,
    /// Of all heads; only the writer touches it.
    sum: Mutex<Sum>,
    found: Found,
    damaged: Mutex<BTreeSet<(Table, Vec<u8>)>>,
}

/// What was found at opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Whole,
    /// It can be read, but something that was acknowledged is not there, or something deleted is there again.
    Holes,
}

/// One write, with the heads of its key before and after it.
struct Step<'a> {
    table: Table,
    key: &'a [u8],
    value: Option<&'a [u8]>,
    old: Option<IVec>,
    new: Option<IVec>,
    /// After it.
    sum: Sum,
}

/// The names of the trees are on disk: they never change.
const fn tree_names(table: Table) -> (&'static str, &'static str) {
    match table {
        Table::Inbox => ("inbox", "inbox.chunks"),
        Table::Records => ("records", "records.chunks"),
        Table::Push => ("push", "push.chunks"),
        Table::Held => ("held", "held.chunks"),
    }
}

impl Engine {
    /// Opens or creates the database, reads all of it once (so that damage shows now) and removes what a crash left.
    ///
    /// The caller owns the directory: a lock of another owner is waited for only a few seconds.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        guarded(|| {
            let db = open_database(path, cache_bytes)?;
            let open = |name: &str| db.open_tree(name).map_err(failed);
            let [inbox, records, push, held] = Table::ALL.map(tree_names);
            let mut engine = Self {
                heads: [open(inbox.0)?, open(records.0)?, open(push.0)?, open(held.0)?],
                chunks: [open(inbox.1)?, open(records.1)?, open(push.1)?, open(held.1)?],
                about: open("about")?,
                data: File::open(path.join("db")).map_err(StoreError::Unwritable)?,
                live: AtomicU64::new(0),
                sum: Mutex::default(),
                found: Found::Whole,
                damaged: Mutex::default(),
                db,
            };
            engine.found = engine.take_stock()?;
            Ok(engine)
        })
    }

    pub(super) fn found(&self) -> Found {
        self.found
    }

    pub(super) fn epoch(&self) -> Result<Option<Epoch>, StoreError> {
        let Some(raw) = self.about.get(EPOCH).map_err(failed)? else { return Ok(None) };
        let raw = raw.as_ref().try_into().map_err(|_| StoreError::Damaged("its epoch is no number".to_owned()))?;
        Ok(Some(Epoch(u64::from_be_bytes(raw))))
    }

    /// How many commits it holds.
    pub(super) fn commits(&self) -> Result<u64, StoreError> {
        Ok(self.committed()?.number)
    }

    fn committed(&self) -> Result<Committed, StoreError> {
        let raw = self.about.get(COMMITTED).map_err(failed)?;
        let decode =
            |raw: IVec| Committed::decode(&raw).ok_or(StoreError::Damaged("its ledger is unreadable".to_owned()));
        raw.map_or(Ok(Committed::default()), decode)
    }

    /// Takes what it holds now for right. Durable when this returns.
    pub(super) fn set_about(&self, epoch: Epoch, commits: u64) -> Result<(), StoreError> {
        guarded(|| {
            self.about.insert(EPOCH, &epoch.0.to_be_bytes()).map_err(failed)?;
            self.seal(commits)
        })
    }

    fn seal(&self, number: u64) -> Result<(), StoreError> {
        let committed = Committed { number, sum: self.sum() };
        self.about.insert(COMMITTED, &committed.encode()).map_err(failed)?;
        self.db.flush().map_err(failed)?;
        self.data.sync_data().map_err(StoreError::Unwritable)
    }

    fn sum(&self) -> Sum {
        *self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heads.iter().all(Tree::is_empty)
    }

    /// Bytes of all keys and values, heads and chunks.
    pub(super) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// Applies `writes` in order, and makes them and the number of this commit durable.
    pub(super) fn commit(&self, writes: &[Write], number: u64) -> Result<(), StoreError> {
        guarded(|| {
            for part in writes.chunks(MAX_STEPS) {
                let steps = self.plan(part)?;
                let sums = std::iter::once(self.sum()).chain(steps.iter().map(|step| step.sum)).collect();
                self.about.insert(PLAN, Plan { number, sums }.encode()).map_err(failed)?;
                steps.iter().try_for_each(|step| self.take(step))?;
            }
            self.seal(number)
        })
    }

    /// Applies `writes` in order, for an engine that nobody relies on yet.
    pub(super) fn apply(&self, writes: &[Write]) -> Result<(), StoreError> {
        guarded(|| self.plan(writes)?.iter().try_for_each(|step| self.take(step)))
    }

    fn plan<'a>(&self, writes: &'a [Write]) -> Result<Vec<Step<'a>>, StoreError> {
        let mut sum = self.sum();
        let mut steps: Vec<Step<'a>> = Vec::with_capacity(writes.len());
        let mut last: HashMap<(Table, &[u8]), usize> = HashMap::with_capacity(writes.len());
        for write in writes {
            let (table, key, value) = match write {
                Write::Put { table, key, value } => (*table, key.as_ref(), Some(value.as_ref())),
                Write::Delete { table, key } => (*table, key.as_ref(), None),
            };
            let old = match last.insert((table, key), steps.len()) {
                Some(earlier) => steps[earlier].new.clone(),
                None => self.heads[table as usize].get(key).map_err(failed)?,
            };
            let new = value.map(|value| {
                // A generation that no chunk of the old value has: they must stay whole until the new head is there.
                let before = old.as_ref().and_then(|raw| Head::decode(raw));
                let generation = before.map_or(0, |(before, _)| before.generation.wrapping_add(1));
                IVec::from(Head::of(key, value, generation).encode(value))
            });
            if let Some(old) = &old {
                sum = sum.without(table, key, Head::header(old));
            }
            if let Some(new) = &new {
                sum = sum.with(table, key, Head::header(new));
            }
            steps.push(Step { table, key, value, old, new, sum });
        }
        Ok(steps)
    }

    fn take(&self, step: &Step<'_>) -> Result<(), StoreError> {
        let (heads, chunks) = (&self.heads[step.table as usize], &self.chunks[step.table as usize]);
        match (step.value, &step.new) {
            (Some(value), Some(raw)) => {
                let generation = Head::decode(raw).map_or(0, |(head, _)| head.generation);
                for (number, chunk) in value::chunks(value).enumerate() {
                    self.insert(chunks, &value::chunk_key(step.key, generation, number as u16), chunk)?;
                }
                self.insert(heads, step.key, raw)?;
            }
            _ => self.remove(heads, step.key)?,
        }
        *self.sum.lock().unwrap_or_else(PoisonError::into_inner) = step.sum;
        self.replaced(step.table, step.key, step.old.as_ref())
    }

    /// Removes what belonged to a head that is no longer there.
    fn replaced(&self, table: Table, key: &[u8], old: Option<&IVec>) -> Result<(), StoreError> {
        let Some(old) = old else { return Ok(()) };
        if let Some((old, _)) = Head::decode(old) {
            for number in 0..old.chunks() {
                self.remove(&self.chunks[table as usize], &value::chunk_key(key, old.generation, number))?;
            }
        }
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if !damaged.is_empty() {
            damaged.remove(&(table, key.to_vec()));
        }
        Ok(())
    }

    fn insert(&self, tree: &Tree, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let old = tree.insert(key, value).map_err(failed)?;
        self.live.fetch_add((key.len() + value.len()) as u64, Ordering::Relaxed);
        self.forget(key, old.as_ref());
        Ok(())
    }

    fn remove(&self, tree: &Tree, key: &[u8]) -> Result<(), StoreError> {
        let old = tree.remove(key).map_err(failed)?;
        self.forget(key, old.as_ref());
        Ok(())
    }

    fn forget(&self, key: &[u8], old: Option<&IVec>) {
        let bytes = old.map_or(0, |old| (key.len() + old.len()) as u64);
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.heads[table as usize].get(key).map_err(failed)? {
            Some(raw) => self.whole(table, key, raw),
            None => Ok(None),
        }
    }

    /// Visits the pairs with `from <= key` (`< to`, where there is one) in order until told to stop.
    pub(super) fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let heads = &self.heads[table as usize];
        let mut range = match to {
            Some(to) if from >= to => return Ok(()),
            Some(to) => heads.range(from..to),
            None => heads.range(from..),
        };
        let mut next = || match order {
            Order::Ascending => range.next(),
            Order::Descending => range.next_back(),
        };
        while let Some(pair) = next() {
            let (key, raw) = pair.map_err(failed)?;
            if let Some(value) = self.whole(table, &key, raw)?
                && visit(&key, value).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    /// The whole value of a head. While the writer replaces it, the head and its chunks may not belong together: then it
    /// is read again. One that stays wrong is damaged, and as good as absent.
    fn whole(&self, table: Table, key: &[u8], mut raw: IVec) -> Result<Option<Bytes>, StoreError> {
        let mut unchanged = 0;
        while unchanged < 3 {
            if let Some(value) = self.assemble(table, key, &raw)? {
                return Ok(Some(value));
            }
            match self.heads[table as usize].get(key).map_err(failed)? {
                None => return Ok(None),
                Some(again) if again == raw => unchanged += 1,
                Some(again) => raw = again,
            }
        }
        self.tell_damaged(table, key);
        Ok(None)
    }

    fn assemble(&self, table: Table, key: &[u8], raw: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let Some((head, inline)) = Head::decode(raw) else { return Ok(None) };
        let mut value = Vec::with_capacity(head.len as usize);
        value.extend_from_slice(inline);
        for number in 0..head.chunks() {
            let chunk =
                self.chunks[table as usize].get(value::chunk_key(key, head.generation, number)).map_err(failed)?;
            let Some(chunk) = chunk else { return Ok(None) };
            value.extend_from_slice(&chunk);
        }
        Ok(head.is_of(key, &value).then(|| value.into()))
    }

    fn tell_damaged(&self, table: Table, key: &[u8]) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.len() < MAX_REMEMBERED && damaged.insert((table, key.to_vec())) {
            metrics::INBOX_DROPPED.with_label_values(&["damaged"]).inc();
            log::error!("a damaged value is left out: table {}, key {}", tree_names(table).0, key.escape_ascii());
        }
    }
}

fn open_database(path: &Path, cache_bytes: u64) -> Result<Db, StoreError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match ::sled::Config::new().path(path).cache_capacity(cache_bytes).open() {
            Err(::sled::Error::Io(error)) if is_lock(&error) => {
                if Instant::now() > deadline {
                    return Err(StoreError::InUse(PathBuf::from(path)));
                }
                thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.map_err(failed),
        }
    }
}

/// `sled` has no kind of its own for this.
fn is_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.to_string().contains("could not acquire lock")
}

fn failed(error: ::sled::Error) -> StoreError {
    match error {
        // What a file that was cut off gives, not what a disk that fails gives.
        ::sled::Error::Io(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
        {
            StoreError::Damaged(error.to_string())
        }
        ::sled::Error::Io(error) => StoreError::Unwritable(error),
        ::sled::Error::Corruption { .. } => StoreError::Damaged("a checksum of the database is wrong".to_owned()),
        other => StoreError::Damaged(other.to_string()),
    }
}

/// `sled` asserts what it expects of its files: that must not take the thread of the caller with it.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("for an unknown reason");
        Err(StoreError::Damaged(format!("the database gave up: {text}")))
    })
}

#[cfg(test)]
mod tests;
