//! One opened `sled` database: tables, chunks and a little about itself.
//!
//! Obeys what was measured of `sled`: plain inserts and removes only (a `Batch` or transaction that mixes them makes
//! memory and disk grow without bound), no value over 4 KiB (see [`super::value`]), one `flush` and then an `fdatasync`
//! of our own for each commit (on Linux `flush` only asks for the pages to be written, not for the drive's cache), a
//! bounded page cache, no ids from `sled` (they jump by two million at each opening).
//!
//! Only one thread writes. After an error of a write the state of the engine is not known: it is to be dropped and
//! opened again.

use std::collections::BTreeSet;
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
use super::value::{self, Head};
use crate::metrics;
use crate::model::ids::Epoch;

const EPOCH: &[u8] = b"epoch";
const COMMITS: &[u8] = b"commits";
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
    damaged: Mutex<BTreeSet<(Table, Vec<u8>)>>,
}

/// The names of the trees are on disk: they never change.
const fn tree_names(table: Table) -> (&'static str, &'static str) {
    match table {
        Table::Inbox => ("inbox", "inbox.chunks"),
        Table::Records => ("records", "records.chunks"),
        Table::Push => ("push", "push.chunks"),
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
            let engine = Self {
                heads: [
                    open(tree_names(Table::Inbox).0)?,
                    open(tree_names(Table::Records).0)?,
                    open(tree_names(Table::Push).0)?,
                ],
                chunks: [
                    open(tree_names(Table::Inbox).1)?,
                    open(tree_names(Table::Records).1)?,
                    open(tree_names(Table::Push).1)?,
                ],
                about: open("about")?,
                data: File::open(path.join("db")).map_err(StoreError::Unwritable)?,
                live: AtomicU64::new(0),
                damaged: Mutex::default(),
                db,
            };
            for table in Table::ALL {
                engine.count(table)?;
                engine.remove_orphans(table)?;
            }
            Ok(engine)
        })
    }

    pub(super) fn epoch(&self) -> Result<Option<Epoch>, StoreError> {
        Ok(self.number(EPOCH)?.map(Epoch))
    }

    pub(super) fn commits(&self) -> Result<u64, StoreError> {
        Ok(self.number(COMMITS)?.unwrap_or(0))
    }

    /// Durable when this returns.
    pub(super) fn set_about(&self, epoch: Epoch, commits: u64) -> Result<(), StoreError> {
        guarded(|| {
            self.about.insert(EPOCH, &epoch.0.to_be_bytes()).map_err(failed)?;
            self.about.insert(COMMITS, &commits.to_be_bytes()).map_err(failed)?;
            self.sync()
        })
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
            self.apply(writes)?;
            self.about.insert(COMMITS, &number.to_be_bytes()).map_err(failed)?;
            self.sync()
        })
    }

    /// Applies `writes` in order; they are durable after the next sync.
    pub(super) fn apply(&self, writes: &[Write]) -> Result<(), StoreError> {
        writes.iter().try_for_each(|write| match write {
            Write::Put { table, key, value } => self.put(*table, key, value),
            Write::Delete { table, key } => self.delete(*table, key),
        })
    }

    pub(super) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let chunks = &self.chunks[table as usize];
        let mut head = Head::of(key, value, 0);
        if head.chunks() > 0 {
            // A generation that no chunk of the old value has: they must stay whole until the new head is there.
            let old = self.heads[table as usize].get(key).map_err(failed)?;
            let old = old.as_ref().and_then(|raw| Head::decode(raw));
            head.generation = old.map_or(0, |(old, _)| old.generation.wrapping_add(1));
            for (number, chunk) in value::chunks(value).enumerate() {
                self.insert(chunks, &value::chunk_key(key, head.generation, number as u16), chunk)?;
            }
        }
        let old = self.insert(&self.heads[table as usize], key, &head.encode(value))?;
        self.replaced(table, key, old)
    }

    fn delete(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let old = self.remove(&self.heads[table as usize], key)?;
        self.replaced(table, key, old)
    }

    /// Removes what belonged to a head that is no longer there.
    fn replaced(&self, table: Table, key: &[u8], old: Option<IVec>) -> Result<(), StoreError> {
        let Some(old) = old else { return Ok(()) };
        if let Some((old, _)) = Head::decode(&old) {
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

    fn insert(&self, tree: &Tree, key: &[u8], value: &[u8]) -> Result<Option<IVec>, StoreError> {
        let old = tree.insert(key, value).map_err(failed)?;
        self.live.fetch_add((key.len() + value.len()) as u64, Ordering::Relaxed);
        self.forget(key, old.as_ref());
        Ok(old)
    }

    fn remove(&self, tree: &Tree, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        let old = tree.remove(key).map_err(failed)?;
        self.forget(key, old.as_ref());
        Ok(old)
    }

    fn forget(&self, key: &[u8], old: Option<&IVec>) {
        let bytes = old.map_or(0, |old| (key.len() + old.len()) as u64);
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(failed)?;
        self.data.sync_data().map_err(StoreError::Unwritable)
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

    fn number(&self, name: &[u8]) -> Result<Option<u64>, StoreError> {
        let Some(raw) = self.about.get(name).map_err(failed)? else { return Ok(None) };
        let raw = raw
            .as_ref()
            .try_into()
            .map_err(|_| StoreError::Damaged(format!("{} is no number", name.escape_ascii())))?;
        Ok(Some(u64::from_be_bytes(raw)))
    }

    fn count(&self, table: Table) -> Result<(), StoreError> {
        let mut live = 0;
        for pair in self.heads[table as usize].iter().chain(self.chunks[table as usize].iter()) {
            let (key, value) = pair.map_err(failed)?;
            live += (key.len() + value.len()) as u64;
        }
        self.live.fetch_add(live, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the chunks that no head names: a crash came between them and their head.
    fn remove_orphans(&self, table: Table) -> Result<(), StoreError> {
        let chunks = &self.chunks[table as usize];
        let mut owner: Option<(Vec<u8>, Option<Head>)> = None;
        for raw in chunks.iter().keys() {
            let raw = raw.map_err(failed)?;
            let Some((key, generation, number)) = value::split_chunk_key(&raw) else {
                self.remove(chunks, &raw)?;
                continue;
            };
            if owner.as_ref().is_none_or(|(owner, _)| owner != key) {
                let head = self.heads[table as usize].get(key).map_err(failed)?;
                owner = Some((key.to_vec(), head.and_then(|raw| Head::decode(&raw).map(|(head, _)| head))));
            }
            let head = owner.as_ref().and_then(|(_, head)| *head);
            if head.is_none_or(|head| head.generation != generation || number >= head.chunks()) {
                self.remove(chunks, &raw)?;
            }
        }
        Ok(())
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
mod tests {
    use super::*;
    use crate::store::suite::patterned;

    fn engine() -> (Engine, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Engine::open(dir.path(), 1 << 20).unwrap(), dir)
    }

    #[test]
    fn a_flipped_bit_is_never_served_and_is_told_of_once() {
        let (engine, _dir) = engine();
        let long = patterned(10_000, 1);
        for (key, value) in [(b"a", b"short".as_slice()), (b"b", &long), (b"c", &long), (b"d", &long)] {
            engine.put(Table::Inbox, key, value).unwrap();
        }
        let (heads, chunks) = (&engine.heads[0], &engine.chunks[0]);
        let flip = |tree: &Tree, key: &[u8]| {
            let mut raw = tree.get(key).unwrap().unwrap().to_vec();
            *raw.last_mut().unwrap() ^= 1;
            tree.insert(key, raw).unwrap();
        };
        flip(heads, b"a");
        flip(chunks, &value::chunk_key(b"b", 0, 1));
        chunks.remove(value::chunk_key(b"c", 0, 0)).unwrap();
        let before = metrics::INBOX_DROPPED.with_label_values(&["damaged"]).get();
        for _ in 0..3 {
            for key in [b"a", b"b", b"c"] {
                assert_eq!(engine.get(Table::Inbox, key).unwrap(), None);
            }
            let mut seen = Vec::new();
            let mut visit = |key: &[u8], value: Bytes| {
                assert_eq!(value, long);
                seen.extend_from_slice(key);
                ControlFlow::Continue(())
            };
            engine.scan(Table::Inbox, b"", None, Order::Ascending, &mut visit).unwrap();
            assert_eq!(seen, b"d");
        }
        assert_eq!(metrics::INBOX_DROPPED.with_label_values(&["damaged"]).get() - before, 3);
        engine.put(Table::Inbox, b"a", b"anew").unwrap();
        assert_eq!(engine.get(Table::Inbox, b"a").unwrap(), Some("anew".into()));
    }

    #[test]
    fn a_crash_within_a_put_leaves_the_old_value_and_no_rubbish() {
        let (engine, dir) = engine();
        let (old, new) = (patterned(10_000, 1), patterned(20_000, 2));
        engine.put(Table::Records, b"k", &old).unwrap();
        let live = engine.live();
        // As far as a put gets before its head: the chunks of the next generation, and those of a key never seen.
        for (number, chunk) in value::chunks(&new).enumerate() {
            engine.chunks[1].insert(value::chunk_key(b"k", 1, number as u16), chunk).unwrap();
            engine.chunks[1].insert(value::chunk_key(b"new", 0, number as u16), chunk).unwrap();
        }
        assert_eq!(engine.get(Table::Records, b"k").unwrap().unwrap(), old);
        engine.sync().unwrap();
        drop(engine);
        let engine = Engine::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(engine.get(Table::Records, b"k").unwrap().unwrap(), old);
        assert_eq!(engine.chunks[1].len(), 2);
        assert_eq!(engine.live(), live);
    }

    #[test]
    fn a_panic_of_the_database_is_damage() {
        let result: Result<(), _> = guarded(|| panic!("as {} does", "sled"));
        assert!(matches!(result, Err(StoreError::Damaged(text)) if text.ends_with("as sled does")));
    }
}
