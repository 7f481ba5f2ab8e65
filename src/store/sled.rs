//! The embedded store: tables in `sled` databases, in a directory that one process owns.
//!
//! Owns what becomes of failures. A commit that failed leaves the engine in an unknown state, so the engine is opened
//! again at once, for the readers; on a full disk, room that was reserved for this is given up. Commits are taken again
//! when that room can be had back. A store that cannot be opened is moved aside, and one that lost something it had
//! acknowledged gets a new epoch, so that clients know. Files that outgrew what they hold are rebuilt, in steps.
//!
//! `engine` is one database, `value` how values lie in it, `ledger` how it knows that nothing is missing, `directory`
//! which database counts, `slot` how readers and the writer share it, `trouble` what a failure leaves in doubt,
//! `rebuild` the copying.

mod directory;
mod engine;
mod ledger;
mod rebuild;
mod slot;
mod trouble;
mod value;

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::directory::{Acknowledged, Directory, Generation};
use self::engine::{Engine, Found};
use self::rebuild::Rebuild;
use self::slot::Slot;
use self::trouble::{Condition, Trouble, is_refusal};
use super::{Order, Store, StoreError, Table, Usage, Write, check_sizes};
use crate::metrics;
use crate::model::ids::Epoch;

/// After a rebuild failed, the next is not tried for so long.
const REBUILD_PAUSE: Duration = Duration::from_secs(600);
/// To open a database takes room: for the rest of a segment, and for a list of its pages, which is less than this part
/// of its size.
const RESERVE_SHARE: u64 = 256;

/// The limits of a store; sizes are in bytes.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// `sled` takes somewhat more memory than this; its own default is 1 GiB.
    pub cache: u64,
    /// Rebuild when the files are larger than `rebuild_factor` times what lives, plus `rebuild_slack`.
    pub rebuild_factor: u64,
    pub rebuild_slack: u64,
    /// How much one step of a rebuild copies: commits wait for it.
    pub rebuild_step: u64,
    /// Room on the disk that is kept for opening the store again when the disk is full; somewhat more for a large store.
    pub reserve: u64,
    /// How long after a failed commit, or a failed attempt to go on after one, the next attempt is made.
    pub retry_after: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            cache: 64 << 20,
            rebuild_factor: 4,
            rebuild_slack: 256 << 20,
            rebuild_step: 1 << 20,
            reserve: 8 << 20,
            retry_after: Duration::from_secs(1),
        }
    }
}

/// A store, and where the one went that was found damaged in its place.
#[derive(Debug)]
pub struct Opened {
    pub store: SledStore,
    pub moved_aside: Option<PathBuf>,
}

#[derive(Debug)]
pub struct SledStore {
    epoch: Epoch,
    tuning: Tuning,
    writer: Mutex<Writer>,
    slot: Slot,
    // Last, so that the directory is unlocked when all else is closed.
    directory: Directory,
}

/// What only the committing thread touches.
#[derive(Debug)]
struct Writer {
    generation: Generation,
    /// Acknowledged so far.
    commits: u64,
    acknowledged: Acknowledged,
    trouble: Option<Trouble>,
    rebuild: Option<Rebuild>,
    /// Size of the files after the last rebuild: none is worth while until they doubled.
    rebuilt: u64,
    rebuild_not_before: Option<Instant>,
}

impl SledStore {
    /// Opens the store in `dir`, or makes one there with `new_epoch`.
    ///
    /// One that is damaged is renamed to `<dir>.damaged-N`, and a new one takes its place. `new_epoch` must be one that
    /// no store in this place had before.
    pub fn open(dir: &Path, new_epoch: Epoch) -> Result<Opened, StoreError> {
        Self::open_with(dir, new_epoch, Tuning::default())
    }

    pub fn open_with(dir: &Path, new_epoch: Epoch, tuning: Tuning) -> Result<Opened, StoreError> {
        let directory = Directory::claim(dir)?;
        match start(&directory, new_epoch, &tuning) {
            Ok(started) => Ok(Opened { store: started.into_store(directory, tuning), moved_aside: None }),
            Err(StoreError::Damaged(why)) => {
                let (directory, aside) = directory.move_aside()?;
                metrics::STORE_MOVED_ASIDE.inc();
                log::error!(
                    "the store in {} is damaged ({why}): moved to {}, and started anew without what it held",
                    dir.display(),
                    aside.display()
                );
                let started = start(&directory, new_epoch, &tuning)?;
                Ok(Opened { store: started.into_store(directory, tuning), moved_aside: Some(aside) })
            }
            Err(error) => Err(error),
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the store fit for commits again after one failed.
    fn mend(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let Some(trouble) = &mut writer.trouble else { return Ok(()) };
        if trouble.since.elapsed() < self.tuning.retry_after {
            return Err(StoreError::Unwritable(io::Error::new(trouble.kind, "it failed a moment ago")));
        }
        trouble.since = Instant::now();
        let files = trouble.files;
        if trouble.engine == Condition::Doubtful {
            self.reopen(writer)?;
        }
        self.directory.reserve(reserve_for(&self.directory, &self.tuning)).map_err(StoreError::Unwritable)?;
        if files == Condition::Doubtful {
            let engine = self.slot.engine()?;
            let mut rebuild = Rebuild::begin(&self.directory, writer.generation.next(), self.tuning.cache)?;
            rebuild.step(&engine, u64::MAX)?;
            drop(engine);
            self.complete(writer, rebuild)?;
        }
        writer.trouble = None;
        log::warn!("the store in {} takes writes again", self.directory.root().display());
        Ok(())
    }

    /// Gives the readers an engine that knows what is on the disk: the one that failed only knows what it meant to write,
    /// and cannot forget it, so that it fails reads too as soon as its cache is full.
    fn reopen(&self, writer: &mut Writer) -> Result<(), StoreError> {
        self.directory.release().map_err(StoreError::Unwritable)?;
        let path = self.directory.path(writer.generation);
        self.slot.reopen(|| Engine::open(&path, self.tuning.cache))?;
        let engine = self.slot.engine()?;
        let commits = engine.commits()?;
        if engine.epoch()? != Some(self.epoch) || commits < writer.commits || engine.found() == Found::Holes {
            let why = "it lost what it had acknowledged: restart the server, which gives it a new epoch";
            return Err(StoreError::Damaged(why.to_owned()));
        }
        // The commit that failed may be there after all.
        writer.commits = commits;
        if let Some(trouble) = &mut writer.trouble {
            trouble.engine = Condition::Sound;
        }
        Ok(())
    }

    /// What follows a commit that failed.
    fn fall_back(&self, writer: &mut Writer, error: &StoreError) {
        log::error!("the store in {} takes no writes: {error}", self.directory.root().display());
        self.give_up_rebuild(writer);
        writer.trouble = Some(Trouble::of(error));
        if let Err(error) = self.reopen(writer) {
            log::error!("the store in {} could not be opened again: {error}", self.directory.root().display());
        }
    }

    /// Makes the copy the generation that counts.
    fn complete(&self, writer: &mut Writer, rebuild: Rebuild) -> Result<(), StoreError> {
        let (old, new) = (writer.generation, rebuild.generation);
        let engine = rebuild.finish(&self.directory, self.epoch, writer.commits)?;
        self.directory.make_current(new).map_err(StoreError::Unwritable)?;
        self.slot.exchange(engine);
        writer.generation = new;
        // Readers that still use the old files keep them open; what cannot be removed now is swept at the next opening.
        if let Err(error) = self.directory.remove(old) {
            log::warn!("{} could not be removed: {error}", self.directory.path(old).display());
        }
        writer.rebuilt = self.directory.disk();
        Ok(())
    }

    /// Leaves the copy; the store itself is not concerned.
    fn give_up_rebuild(&self, writer: &mut Writer) {
        if let Some(Rebuild { generation, .. }) = writer.rebuild.take() {
            // Left alone it is swept at the next opening.
            let _ = self.directory.remove(generation);
            writer.rebuild_not_before = Some(Instant::now() + REBUILD_PAUSE);
        }
    }

    fn wants_rebuild(&self, writer: &Writer) -> bool {
        let Usage { live, disk } = self.usage();
        disk > self.tuning.rebuild_factor.saturating_mul(live).saturating_add(self.tuning.rebuild_slack)
            && disk / 2 >= writer.rebuilt
            && writer.rebuild_not_before.is_none_or(|when| Instant::now() >= when)
    }

    /// One step of a rebuild, or its beginning or end.
    fn rebuild(&self, writer: &mut Writer) -> Result<bool, StoreError> {
        let Some(mut rebuild) = writer.rebuild.take() else {
            if !self.wants_rebuild(writer) {
                return Ok(false);
            }
            let next = writer.generation.next();
            writer.rebuild = Some(Rebuild::begin(&self.directory, next, self.tuning.cache)?);
            return Ok(true);
        };
        if rebuild.is_complete() {
            self.complete(writer, rebuild)?;
        } else {
            let engine = self.slot.engine()?;
            let stepped = rebuild.step(&engine, self.tuning.rebuild_step);
            writer.rebuild = Some(rebuild);
            stepped?;
        }
        Ok(true)
    }
}

impl Store for SledStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        check_sizes(writes)?;
        let mut writer = self.writer();
        let writer = &mut *writer;
        self.mend(writer)?;
        let number = writer.commits + 1;
        let committed = self.slot.engine().and_then(|engine| engine.commit(writes, number));
        if let Err(error) = committed {
            self.fall_back(writer, &error);
            return Err(error);
        }
        writer.commits = number;
        if let Err(error) = writer.acknowledged.set(number) {
            // Only makes the check at the next opening less sharp.
            log::debug!("the count of commits was not written: {error}");
        }
        if let Some(Err(error)) = writer.rebuild.as_ref().map(|rebuild| rebuild.follow(writes)) {
            log::warn!("the store's files are not made smaller: {error}");
            self.give_up_rebuild(writer);
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.slot.engine()?.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.slot.engine()?.scan(table, from, Some(to), order, visit)
    }

    fn usage(&self) -> Usage {
        Usage { live: self.slot.engine().map_or(0, |engine| engine.live()), disk: self.directory.disk() }
    }

    /// Each call copies at most one step of a rebuild. An error means that the files stay as large as they are.
    fn maintain(&self) -> Result<bool, StoreError> {
        let mut writer = self.writer();
        if writer.trouble.is_some() {
            return Ok(false);
        }
        self.rebuild(&mut writer).inspect_err(|_| {
            writer.rebuild_not_before = Some(Instant::now() + REBUILD_PAUSE);
            self.give_up_rebuild(&mut writer);
        })
    }
}

/// What opening found.
struct Started {
    engine: Engine,
    epoch: Epoch,
    writer: Writer,
}

impl Started {
    fn into_store(self, directory: Directory, tuning: Tuning) -> SledStore {
        let Self { engine, epoch, writer } = self;
        SledStore { epoch, tuning, writer: Mutex::new(writer), slot: Slot::new(engine), directory }
    }
}

fn start(directory: &Directory, new_epoch: Epoch, tuning: &Tuning) -> Result<Started, StoreError> {
    let current = directory.current()?;
    let generation = current.unwrap_or(Generation(1));
    if current.is_none() {
        // Before there is anything to lose: a directory with generations but without this is a damaged one.
        directory.make_current(generation).map_err(StoreError::Unwritable)?;
    }
    directory.sweep(generation).map_err(StoreError::Unwritable)?;
    let path = directory.path(generation);
    let engine = Engine::open(&path, tuning.cache).or_else(|error| match error {
        StoreError::Unwritable(error) if is_refusal(error.kind()) => {
            directory.release().map_err(StoreError::Unwritable)?;
            Engine::open(&path, tuning.cache)
        }
        error => Err(error),
    })?;
    let acknowledged = Acknowledged::open(directory).map_err(StoreError::Unwritable)?;
    let (commits, promised) = (engine.commits()?, acknowledged.commits());
    let lost = commits < promised || engine.found() == Found::Holes;
    let epoch = match engine.epoch()? {
        Some(epoch) if !lost => epoch,
        None if !engine.is_empty() => return Err(StoreError::Damaged("it has no epoch".to_owned())),
        _ => {
            if lost {
                let root = directory.root().display();
                metrics::STORE_MOVED_ASIDE.inc();
                log::error!("the store in {root} lost some of what it held: what is left is kept, under a new epoch");
            }
            engine.set_about(new_epoch, commits)?;
            directory.sync(generation).map_err(StoreError::Unwritable)?;
            acknowledged.set(commits).map_err(StoreError::Unwritable)?;
            new_epoch
        }
    };
    let trouble = directory.reserve(reserve_for(directory, tuning)).err();
    if let Some(error) = &trouble {
        log::error!("the store in {} takes no writes: {error}", directory.root().display());
    }
    let writer = Writer {
        generation,
        commits,
        acknowledged,
        trouble: trouble.as_ref().map(Trouble::from_the_start),
        rebuild: None,
        rebuilt: 0,
        rebuild_not_before: None,
    };
    Ok(Started { engine, epoch, writer })
}

fn reserve_for(directory: &Directory, tuning: &Tuning) -> u64 {
    tuning.reserve + directory.disk() / RESERVE_SHARE
}

#[cfg(test)]
mod tests;
