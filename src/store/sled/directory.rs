//! The directory of a store: who owns it, and which of the databases in it counts.
//!
//! ```text
//! lock         held by the process that has the store open
//! current      the number of the generation that counts; replaced by one rename, so it is always the old or the new
//! gen-N/       a sled database; one that `current` does not name is a rebuild that was not finished, or is done with
//! commits      how many commits were acknowledged: written after each, not fsynced, so never more than is true
//! ```
//!
//! Knows nothing of what a database holds.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::super::StoreError;

/// The number of a database within a store's directory, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(pub(super) u64);

impl Generation {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    // Unlocked when dropped, also by kill -9.
    _lock: File,
}

impl Directory {
    /// Makes the directory if need be and takes it for this process, or fails at once with [`StoreError::InUse`].
    pub(super) fn claim(root: &Path) -> Result<Self, StoreError> {
        create_private(root).map_err(StoreError::Unwritable)?;
        let lock = OpenOptions::new().create(true).write(true).truncate(false).open(root.join("lock"));
        let lock = lock.map_err(StoreError::Unwritable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(root.to_owned())),
            Err(TryLockError::Error(error)) => Err(StoreError::Unwritable(error)),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, generation: Generation) -> PathBuf {
        self.root.join(format!("gen-{}", generation.0))
    }

    /// The generation that counts; `None` in a directory that never held a store.
    pub(super) fn current(&self) -> Result<Option<Generation>, StoreError> {
        match fs::read_to_string(self.root.join("current")) {
            Ok(text) => match text.trim_end().parse() {
                Ok(number) => Ok(Some(Generation(number))),
                Err(_) => Err(StoreError::Damaged("the file `current` names no generation".to_owned())),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => match self.generations() {
                Ok(found) if found.is_empty() => Ok(None),
                // Which of them counted is not known, and a wrong guess would bring back what was deleted.
                Ok(_) => Err(StoreError::Damaged("the file `current` is missing".to_owned())),
                Err(error) => Err(StoreError::Unwritable(error)),
            },
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                Err(StoreError::Damaged("the file `current` is not text".to_owned()))
            }
            Err(error) => Err(StoreError::Unwritable(error)),
        }
    }

    /// From the moment this returns, and after any crash, `generation` is the one that counts.
    pub(super) fn make_current(&self, generation: Generation) -> io::Result<()> {
        let (path, next) = (self.root.join("current"), self.root.join("current.next"));
        let mut file = File::create(&next)?;
        writeln!(file, "{}", generation.0)?;
        file.sync_all()?;
        fs::rename(next, path)?;
        sync_directory(&self.root)?;
        self.root.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_directory)
    }

    /// Makes every file of a generation durable, with its name.
    pub(super) fn sync(&self, generation: Generation) -> io::Result<()> {
        let path = self.path(generation);
        for entry in fs::read_dir(&path)? {
            File::open(entry?.path())?.sync_all()?;
        }
        sync_directory(&path)?;
        sync_directory(&self.root)
    }

    /// Removes all generations but the one that counts.
    pub(super) fn sweep(&self, current: Generation) -> io::Result<()> {
        for generation in self.generations()? {
            if generation != current {
                self.remove(generation)?;
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self, generation: Generation) -> io::Result<()> {
        match fs::remove_dir_all(self.path(generation)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Renames the whole directory to the first free `<root>.damaged-N`, and claims a new one in its place.
    pub(super) fn move_aside(self) -> Result<(Self, PathBuf), StoreError> {
        let name = self.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let aside = (1..)
            .map(|n| self.root.with_file_name(format!("{name}.damaged-{n}")))
            .find(|path| !path.exists())
            .expect("the numbers do not end");
        fs::rename(&self.root, &aside).map_err(StoreError::Unwritable)?;
        Ok((Self::claim(&self.root)?, aside))
    }

    /// Bytes of all files.
    pub(super) fn disk(&self) -> u64 {
        disk(&self.root)
    }

    /// Proves that `bytes` more can be written, and leaves nothing behind.
    pub(super) fn probe(&self, bytes: u64) -> io::Result<()> {
        let path = self.root.join("probe");
        let block = [0xa5; 64 << 10];
        let written = File::create(&path).and_then(|mut file| {
            (0..bytes.div_ceil(block.len() as u64)).try_for_each(|_| file.write_all(&block))?;
            file.sync_all()
        });
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => written.and(Err(error)),
            _ => written,
        }
    }

    fn generations(&self) -> io::Result<Vec<Generation>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("gen-")?.parse().ok());
            found.extend(number.map(Generation));
        }
        Ok(found)
    }
}

/// A lower bound of what was acknowledged. A store that holds less has lost something that somebody was promised, which
/// `sled` itself does not notice: it takes a damaged end of its log for the traces of a crash.
#[derive(Debug)]
pub(super) struct Acknowledged {
    file: File,
}

impl Acknowledged {
    pub(super) fn open(directory: &Directory) -> io::Result<Self> {
        let path = directory.root.join("commits");
        Ok(Self { file: OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path)? })
    }

    /// Zero, which is always a lower bound, when the file is new or torn.
    pub(super) fn commits(&self) -> u64 {
        let mut raw = [0; 12];
        if read_at_start(&self.file, &mut raw).is_err() {
            return 0;
        }
        match raw.split_first_chunk::<8>() {
            Some((number, crc)) if crc32fast::hash(number).to_be_bytes() == *crc => u64::from_be_bytes(*number),
            _ => 0,
        }
    }

    /// Not fsynced: it need only survive the process, and is merely less sharp after a power cut.
    pub(super) fn set(&self, commits: u64) -> io::Result<()> {
        let number = commits.to_be_bytes();
        let mut raw = [0; 12];
        raw[..8].copy_from_slice(&number);
        raw[8..].copy_from_slice(&crc32fast::hash(&number).to_be_bytes());
        write_at_start(&self.file, &raw)
    }
}

fn read_at_start(mut file: &File, raw: &mut [u8]) -> io::Result<()> {
    use std::io::{Read as _, Seek as _};
    file.rewind()?;
    file.read_exact(raw)
}

fn write_at_start(mut file: &File, raw: &[u8]) -> io::Result<()> {
    use std::io::Seek as _;
    file.rewind()?;
    file.write_all(raw)
}

/// Messages lie in it: nobody else on the machine has to look.
fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A file that goes away while we look counts nothing.
fn disk(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let first = Directory::claim(&root).unwrap();
        assert!(matches!(Directory::claim(&root), Err(StoreError::InUse(path)) if path == root));
        drop(first);
        Directory::claim(&root).unwrap();
    }

    #[test]
    fn only_what_current_names_survives_a_sweep() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::claim(&dir.path().join("store")).unwrap();
        assert_eq!(directory.current().unwrap(), None);
        for n in [1, 2, 3] {
            fs::create_dir(directory.path(Generation(n))).unwrap();
        }
        assert!(matches!(directory.current(), Err(StoreError::Damaged(_))), "no guess which of them counts");
        directory.make_current(Generation(2)).unwrap();
        assert_eq!(directory.current().unwrap(), Some(Generation(2)));
        directory.sweep(Generation(2)).unwrap();
        assert_eq!(directory.generations().unwrap(), [Generation(2)]);
        fs::write(directory.root.join("current"), "x").unwrap();
        assert!(matches!(directory.current(), Err(StoreError::Damaged(_))));
    }

    #[test]
    fn each_damaged_directory_gets_a_name_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let (directory, first) = Directory::claim(&root).unwrap().move_aside().unwrap();
        let (_directory, second) = directory.move_aside().unwrap();
        assert_eq!(first, dir.path().join("store.damaged-1"));
        assert_eq!(second, dir.path().join("store.damaged-2"));
    }

    #[test]
    fn the_count_of_commits_is_kept_or_zero() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::claim(dir.path()).unwrap();
        let count = Acknowledged::open(&directory).unwrap();
        assert_eq!(count.commits(), 0);
        count.set(0x0102_0304_0506_0708).unwrap();
        assert_eq!(Acknowledged::open(&directory).unwrap().commits(), 0x0102_0304_0506_0708);
        fs::write(dir.path().join("commits"), [1; 12]).unwrap();
        assert_eq!(count.commits(), 0);
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::claim(dir.path()).unwrap();
        let before = directory.disk();
        directory.probe(1 << 20).unwrap();
        assert_eq!(directory.disk(), before);
    }
}
