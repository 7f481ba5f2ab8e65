//! Who this server is, kept in its data directory.
//!
//! Owns the directory's lock and three small files: `node-id`, `incarnation` (how often the server has started) and
//! `cluster-id`. Each is replaced as a whole and is on disk before it is used, so that a crash leaves the old value or
//! the new one. A damaged file stops the start: guessing would give two servers one name, or one server two.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rand::distr::{Alphanumeric, SampleString};

use crate::model::ids::NodeId;

const LOCK: &str = "lock";
const NODE_ID: &str = "node-id";
const INCARNATION: &str = "incarnation";
const CLUSTER_ID: &str = "cluster-id";

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "the data directory {} is in use{}: stop that server, or give this one its own --data-dir",
        dir.display(), process.as_ref().map(|pid| format!(" by process {pid}")).unwrap_or_default()
    )]
    InUse { dir: PathBuf, process: Option<String> },
    #[error("{} cannot be used as data", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is damaged: put back what stood there, or, if this server may forget everything, move the whole \
         directory away", path.display()
    )]
    Damaged { path: PathBuf },
    #[error(
        "the data directory {} belongs to the server {recorded}, not to {given}: leave out --node-id, \
         or give {given} its own --data-dir", dir.display()
    )]
    AnotherNode { dir: PathBuf, recorded: NodeId, given: NodeId },
    #[error(
        "another server, {answered}, is live at {authority}, the address of this one ({own}): \
         give this one another --host-address or --port, or --force it"
    )]
    AddressTaken { authority: String, answered: NodeId, own: NodeId },
}

/// Makes the ids of a cluster hard to guess from outside; the same at all its servers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClusterId([u8; 32]);

impl ClusterId {
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Placement depends on its secrecy, so it shows in no log.
impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterId(hidden)")
    }
}

/// A server in one of its lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    pub node: NodeId,
    /// From 1, one more at each start. What was made for an earlier one means nothing any more.
    pub incarnation: u64,
    pub cluster: ClusterId,
}

/// The data directory, locked for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory where it is not there (for its owner only), and locks it.
    pub fn open(path: &Path) -> Result<Self, IdentityError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Io { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))?;
        let mode = fs::metadata(path).map_err(failed(path))?.permissions().mode();
        if mode & 0o077 != 0 {
            log::warn!("others may enter the data directory {}: chmod 700 it", path.display());
        }
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(failed(&file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                // Who holds it is a courtesy: not knowing changes nothing.
                let _ = lock.take(20).read_to_string(&mut process);
                let process = Some(process.trim().to_owned()).filter(|pid| !pid.is_empty());
                return Err(IdentityError::InUse { dir: path.to_owned(), process });
            }
            Err(TryLockError::Error(source)) => return Err(IdentityError::Io { path: file, source }),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed(&file))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a new life of the server this directory belongs to; at the first start it becomes `given`, or gets a
    /// random name (row A1). To be called once.
    pub fn begin(&self, given: Option<&NodeId>) -> Result<ServerIdentity, IdentityError> {
        let node = self.node(given)?;
        let incarnation = match self.read(INCARNATION)? {
            None => 1,
            Some(text) => {
                let last: Option<u64> = text.parse().ok();
                last.and_then(|last| last.checked_add(1)).ok_or_else(|| self.damaged(INCARNATION))?
            }
        };
        self.write(INCARNATION, &incarnation.to_string())?;
        Ok(ServerIdentity { node, incarnation, cluster: self.cluster()? })
    }

    fn node(&self, given: Option<&NodeId>) -> Result<NodeId, IdentityError> {
        let Some(text) = self.read(NODE_ID)? else {
            let node = given.cloned().unwrap_or_else(random_node_id);
            self.write(NODE_ID, node.as_str())?;
            return Ok(node);
        };
        let recorded: NodeId = text.parse().map_err(|_| self.damaged(NODE_ID))?;
        match given {
            Some(given) if *given != recorded => {
                Err(IdentityError::AnotherNode { dir: self.path.clone(), recorded, given: given.clone() })
            }
            _ => Ok(recorded),
        }
    }

    fn cluster(&self) -> Result<ClusterId, IdentityError> {
        let mut bytes = [0; 32];
        if let Some(text) = self.read(CLUSTER_ID)? {
            hex::decode_to_slice(text, &mut bytes).map_err(|_| self.damaged(CLUSTER_ID))?;
        } else {
            bytes = rand::random();
            self.write(CLUSTER_ID, &hex::encode(bytes))?;
        }
        Ok(ClusterId(bytes))
    }

    fn damaged(&self, name: &str) -> IdentityError {
        IdentityError::Damaged { path: self.path.join(name) }
    }

    fn read(&self, name: &str) -> Result<Option<String>, IdentityError> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(IdentityError::Damaged { path }),
            Err(source) => Err(IdentityError::Io { path, source }),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), IdentityError> {
        let path = self.path.join(name);
        self.replace(&path, text).map_err(|source| IdentityError::Io { path, source })
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // The name is durable only with its directory.
        File::open(&self.path)?.sync_all()
    }
}

/// Ten random characters and the time in seconds, as in row A1.
fn random_node_id() -> NodeId {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let random = Alphanumeric.sample_string(&mut rand::rng(), 10);
    format!("{random}{seconds}").parse().expect("letters and digits, fewer than 128")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_server_stays_itself_and_counts_its_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = DataDir::open(&path).unwrap().begin(None).unwrap();
        assert_eq!(first.incarnation, 1);
        assert!(first.node.as_str().len() >= 20 && first.node.as_str().chars().all(|c| c.is_ascii_alphanumeric()));
        let second = DataDir::open(&path).unwrap().begin(None).unwrap();
        assert_eq!(second, ServerIdentity { incarnation: 2, ..first.clone() });
        let other = DataDir::open(&dir.path().join("c")).unwrap().begin(None).unwrap();
        assert!(other.node != first.node && other.cluster != first.cluster);
    }

    #[test]
    fn only_the_owner_may_look() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        DataDir::open(&path).unwrap().begin(None).unwrap();
        assert_eq!(mode(&path), 0o700);
        for entry in fs::read_dir(&path).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }

    #[test]
    fn a_second_process_is_refused_with_the_first_ones_number() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let error = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        drop(first);
        assert!(DataDir::open(dir.path()).is_ok());
    }

    #[test]
    fn a_given_name_is_for_the_first_start() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let east: NodeId = "east-1".parse().unwrap();
        assert_eq!(data.begin(Some(&east)).unwrap().node, east);
        assert_eq!(data.begin(Some(&east)).unwrap().node, east);
        assert_eq!(data.begin(None).unwrap().node, east);
        let error = data.begin(Some(&"west".parse().unwrap())).unwrap_err().to_string();
        assert!(error.contains("belongs to the server east-1, not to west"), "{error}");
    }

    #[test]
    fn damage_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.begin(None).unwrap();
        for name in [NODE_ID, INCARNATION, CLUSTER_ID] {
            let path = dir.path().join(name);
            let good = fs::read(&path).unwrap();
            for bad in [&b""[..], b"\xff\xfe", b"not this!", b"18446744073709551615 "] {
                if name == NODE_ID && bad.is_ascii() && bad.ends_with(b" ") {
                    continue;
                }
                fs::write(&path, bad).unwrap();
                let error = data.begin(None).unwrap_err();
                assert!(matches!(&error, IdentityError::Damaged { path: named } if *named == path), "{name} {error}");
            }
            fs::write(&path, good).unwrap();
        }
        assert!(data.begin(None).is_ok());
    }
}
