//! Who this server is, kept in its data directory.
//!
//! Owns the directory's lock and a few small files: `node-id`, `incarnation` (how often the server has started),
//! `cluster-id`, `members` (of the mesh, and of which cluster they are), and `epoch` (the highest of sessions). Each is
//! replaced as a whole and is on disk before it is used, so that a crash leaves the old value or the new one. A damaged
//! file stops the start: guessing would give two servers one name, or one server two.
//!
//! Where `members` and `cluster-id` name different clusters, the server crashed while it joined another one: it has
//! joined, as `members` is written first.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rand::distr::{Alphanumeric, SampleString};
use serde::{Deserialize, Serialize};

use crate::model::ids::NodeId;
use crate::model::members::Members;

const LOCK: &str = "lock";
const NODE_ID: &str = "node-id";
const INCARNATION: &str = "incarnation";
const CLUSTER_ID: &str = "cluster-id";
const MEMBERS: &str = "members";
const EPOCH: &str = "epoch";

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

    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok().map(|()| Self(bytes))
    }
}

/// One that another server has told under the proof of the secret.
impl From<[u8; 32]> for ClusterId {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
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
    /// As this server knew them last; itself alone at first.
    pub members: Members,
    /// Of the sessions' order: higher than all that this server has given out.
    pub epoch: u64,
}

/// The file of members.
#[derive(Serialize, Deserialize)]
struct Kept<M> {
    cluster_id: String,
    members: M,
}

/// The data directory, locked for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
    /// One file is written at a time.
    writing: Mutex<()>,
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
        Ok(Self { path: path.to_owned(), _lock: lock, writing: Mutex::default() })
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
        let (cluster, members) = self.membership(&node)?;
        let epoch = match self.read(EPOCH)? {
            None => incarnation,
            Some(text) => {
                let last: u64 = text.parse().map_err(|_| self.damaged(EPOCH))?;
                let epoch = last.saturating_add(1).max(incarnation);
                // This life numbers in it: the next one must not.
                self.write(EPOCH, &epoch.to_string())?;
                epoch
            }
        };
        Ok(ServerIdentity { node, incarnation, cluster, members, epoch })
    }

    fn membership(&self, node: &NodeId) -> Result<(ClusterId, Members), IdentityError> {
        let cluster = self.cluster()?;
        let Some(text) = self.read(MEMBERS)? else { return Ok((cluster, Members::first(node.clone()))) };
        let kept: Kept<Members> = serde_json::from_str(&text).map_err(|_| self.damaged(MEMBERS))?;
        let joined = ClusterId::parse(&kept.cluster_id).ok_or_else(|| self.damaged(MEMBERS))?;
        if joined != cluster {
            self.write(CLUSTER_ID, &kept.cluster_id)?;
        }
        Ok((joined, kept.members))
    }

    /// Keeps the list of members, and the cluster that they and this server are of. Blocks until it is on disk.
    pub fn keep_members(&self, cluster: ClusterId, members: &Members) -> Result<(), IdentityError> {
        let cluster_id = hex::encode(cluster.0);
        let kept = Kept { cluster_id: cluster_id.clone(), members };
        let text = serde_json::to_string(&kept)
            .map_err(|error| IdentityError::Io { path: self.path.join(MEMBERS), source: error.into() })?;
        self.write(MEMBERS, &text)?;
        if self.read(CLUSTER_ID)?.as_ref() != Some(&cluster_id) {
            self.write(CLUSTER_ID, &cluster_id)?;
        }
        Ok(())
    }

    /// Keeps the highest epoch of sessions that was given out. Blocks until it is on disk, it or a higher one.
    pub fn keep_epoch(&self, epoch: u64) -> Result<(), IdentityError> {
        self.raise(EPOCH, epoch)
    }

    /// Keeps the number of a life that began without a start. Blocks until it is on disk, it or a higher one.
    pub fn keep_incarnation(&self, incarnation: u64) -> Result<(), IdentityError> {
        self.raise(INCARNATION, incarnation)
    }

    /// Whoever has a higher number may be quicker.
    fn raise(&self, name: &str, number: u64) -> Result<(), IdentityError> {
        let writing = self.writing();
        let kept = self.read(name)?.and_then(|text| text.parse::<u64>().ok());
        if kept.is_some_and(|kept| kept >= number) {
            return Ok(());
        }
        self.write_alone(name, &number.to_string(), &writing)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        // A file is replaced as a whole, whoever panics.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
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
        if let Some(text) = self.read(CLUSTER_ID)? {
            return ClusterId::parse(&text).ok_or_else(|| self.damaged(CLUSTER_ID));
        }
        let cluster = ClusterId(rand::random());
        self.write(CLUSTER_ID, &hex::encode(cluster.0))?;
        Ok(cluster)
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
        self.write_alone(name, text, &self.writing())
    }

    fn write_alone(&self, name: &str, text: &str, _: &MutexGuard<'_, ()>) -> Result<(), IdentityError> {
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
        assert_eq!(second, ServerIdentity { incarnation: 2, epoch: 2, ..first.clone() });
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
    fn of_two_who_keep_a_number_at_a_time_the_higher_wins() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.begin(None).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let data = &data;
                scope.spawn(move || (0..25).for_each(|n| data.keep_epoch(10 + thread + 4 * n).unwrap()));
            }
        });
        assert_eq!(data.begin(None).unwrap().epoch, 10 + 3 + 4 * 24 + 1);
    }

    #[test]
    fn the_members_are_kept_with_their_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let own = data.begin(None).unwrap();
        let mut members = own.members.clone();
        assert_eq!(members.current().collect::<Vec<_>>(), [&own.node]);
        let other: NodeId = "other".parse().unwrap();
        assert_eq!(members.admit(&other), crate::model::members::Merged::Changed);
        let joined = ClusterId([7; 32]);
        data.keep_members(joined, &members).unwrap();
        data.keep_epoch(40).unwrap();
        let again = data.begin(None).unwrap();
        assert_eq!((again.cluster, &again.members, again.epoch), (joined, &members, 41));
        // As a crash between the two files leaves them.
        data.write(CLUSTER_ID, &hex::encode(own.cluster.0)).unwrap();
        assert_eq!(data.begin(None).unwrap().cluster, joined);
        assert_eq!(data.read(CLUSTER_ID).unwrap(), Some(hex::encode([7; 32])));
        for bad in ["{}", "", r#"{"cluster_id":"00","members":{"admitted":{},"forgotten":[]}}"#] {
            data.write(MEMBERS, bad).unwrap();
            assert!(matches!(data.begin(None), Err(IdentityError::Damaged { .. })), "{bad}");
        }
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
