//! The disk of a server: what is on it outlives the server.
//!
//! A commit that has returned is durable. One that a crash cuts short, or that fails, leaves a beginning of itself. It can be
//! full, and slow.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use sparkmesh::config::identity::{ClusterId, IdentityError, ServerIdentity};
use sparkmesh::config::keeper::Keeper;
use sparkmesh::model::ids::{Epoch, NodeId};
use sparkmesh::model::members::Members;
use sparkmesh::store::{Order, Store, StoreError, Table, Usage, Write};

use crate::random::Random;

type Tables = [BTreeMap<Vec<u8>, Bytes>; Table::ALL.len()];

struct Files {
    incarnation: u64,
    epoch: u64,
    cluster: ClusterId,
    members: Members,
}

/// How a disk is just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Good,
    Full,
}

struct State {
    tables: Tables,
    /// Handed over, and not durable.
    writing: Vec<Write>,
    health: Health,
    /// Milliseconds that a commit takes, at most.
    latency: u64,
    random: Random,
}

/// See the module's header.
pub(crate) struct Disk {
    server: NodeId,
    state: Mutex<State>,
    files: Mutex<Files>,
}

impl Disk {
    pub(crate) fn new(server: NodeId, cluster: ClusterId, members: Members, random: Random) -> Self {
        let state = State { tables: Tables::default(), writing: Vec::new(), health: Health::Good, latency: 3, random };
        Self {
            server,
            state: Mutex::new(state),
            files: Mutex::new(Files { incarnation: 0, epoch: 0, cluster, members }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The next life of the server, as `DataDir::begin` begins it.
    pub(crate) fn begin(&self) -> ServerIdentity {
        let mut files = self.files.lock().unwrap();
        files.incarnation += 1;
        let epoch = if files.epoch == 0 {
            files.incarnation
        } else {
            files.epoch = (files.epoch + 1).max(files.incarnation);
            files.epoch
        };
        ServerIdentity {
            node: self.server.clone(),
            incarnation: files.incarnation,
            cluster: files.cluster,
            members: files.members.clone(),
            epoch,
        }
    }

    pub(crate) fn set(&self, health: Health, latency: u64) {
        let mut state = self.state();
        state.health = health;
        state.latency = latency;
    }

    /// How long the next commit takes.
    pub(crate) fn latency(&self) -> u64 {
        let mut state = self.state();
        let most = state.latency;
        state.random.within(0, most)
    }

    /// These are on their way to the disk.
    pub(crate) fn begin_commit(&self, writes: &[Write]) {
        self.state().writing = writes.to_vec();
    }

    /// The power goes: of what was on its way a beginning is there.
    pub(crate) fn crash(&self) {
        let mut state = self.state();
        let writing = std::mem::take(&mut state.writing);
        let kept = state.random.within(0, writing.len() as u64) as usize;
        writing[..kept].iter().for_each(|write| state.apply(write));
        state.health = Health::Good;
    }

    pub(crate) fn count(&self, table: Table) -> usize {
        self.state().tables[table as usize].len()
    }

    /// The keys of `table`, for people.
    pub(crate) fn keys(&self, table: Table) -> Vec<String> {
        let state = self.state();
        state.tables[table as usize].keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }
}

impl State {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Put { table, key, value } => {
                self.tables[*table as usize].insert(key.to_vec(), Bytes::copy_from_slice(value));
            }
            Write::Delete { table, key } => {
                self.tables[*table as usize].remove(&key[..]);
            }
        }
    }
}

impl Store for Disk {
    fn epoch(&self) -> Epoch {
        Epoch(1)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut state = self.state();
        state.writing.clear();
        if state.health == Health::Full {
            let kept = state.random.within(0, writes.len() as u64) as usize;
            // Seldom anything: a disk that is full takes nothing.
            if state.random.percent(20) {
                writes[..kept].iter().for_each(|write| state.apply(write));
            }
            return Err(StoreError::Unwritable(std::io::ErrorKind::StorageFull.into()));
        }
        writes.iter().for_each(|write| state.apply(write));
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state().tables[table as usize].get(key).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        // Copied, for `visit` may read the store itself.
        let mut pairs: Vec<(Vec<u8>, Bytes)> = {
            let state = self.state();
            let range = state.tables[table as usize].range(from.to_vec()..to.to_vec());
            range.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        if order == Order::Descending {
            pairs.reverse();
        }
        for (key, value) in pairs {
            if visit(&key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn maintain(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}

impl Keeper for Disk {
    fn keep_members(&self, cluster: ClusterId, members: &Members) -> Result<(), IdentityError> {
        let mut files = self.files.lock().unwrap();
        files.cluster = cluster;
        files.members = members.clone();
        Ok(())
    }

    fn keep_epoch(&self, epoch: u64) -> Result<(), IdentityError> {
        let mut files = self.files.lock().unwrap();
        files.epoch = files.epoch.max(epoch);
        Ok(())
    }

    fn keep_incarnation(&self, incarnation: u64) -> Result<(), IdentityError> {
        let mut files = self.files.lock().unwrap();
        files.incarnation = files.incarnation.max(incarnation);
        Ok(())
    }
}
