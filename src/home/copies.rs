//! Small records at two servers: the home of an id and its deputy.
//!
//! A device's record is at the home of the device, and which devices a client has is at the home of the client; each is
//! copied to the deputy. Who acts changes it, and with the change, in one commit, writes down whom it owes a copy; the change
//! is answered when they have it, or cannot be reached. What is owed is handed over when they can be, also back to a home by its
//! deputy. Of two copies that with the higher stamp counts, so it does not matter how often and in what order they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Homes;
use super::boxes::{DeviceRecord, MAX_TOKENS, put_json};
use super::committer::Committer;
use super::keys;
use super::question::{Answer, Question};
use super::queue::TokenChange;
use crate::model::ids::{ClientId, Millis, NodeId};
use crate::store::{Done, Journal, StoreError, Table, Write};

/// Whether a device is one of a client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Belonging {
    stamp: Millis,
    /// It was one, until then.
    gone: bool,
}

impl Belonging {
    /// Written before there were stamps: nothing.
    pub(super) fn decode(value: &[u8]) -> Self {
        serde_json::from_slice(value).unwrap_or(Self { stamp: Millis(0), gone: false })
    }

    pub(super) fn is_one(self) -> bool {
        !self.gone
    }
}

/// A record as it is at one of its two servers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Copy {
    Device { device: NodeId, record: DeviceRecord },
    Client { client: ClientId, device: NodeId, belonging: Belonging },
}

impl Copy {
    pub(super) fn client(client: ClientId, device: NodeId, value: &[u8]) -> Self {
        Self::Client { client, device, belonging: Belonging::decode(value) }
    }

    /// Whose home keeps it.
    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Device { device, .. } => device.as_str(),
            Self::Client { client, .. } => client.as_str(),
        }
    }

    fn owed_key(&self, server: &NodeId) -> Bytes {
        match self {
            Self::Device { device, record } => keys::owed(server, b'd', &[device.as_str()], record.stamp),
            Self::Client { client, device, belonging } => {
                keys::owed(server, b'c', &[client.as_str(), device.as_str()], belonging.stamp)
            }
        }
    }
}

/// A copy that a server is to have.
pub(super) struct Owed {
    pub(super) server: NodeId,
    pub(super) copy: Copy,
}

impl Owed {
    /// That it is owed, until it is there.
    pub(super) fn note(&self) -> Write {
        put_json(self.copy.owed_key(&self.server), &self.copy)
    }

    fn settled(&self) -> Write {
        Write::Delete { table: Table::Records, key: self.copy.owed_key(&self.server) }
    }
}

impl Committer {
    /// The servers other than this one that keep the small records of `id`; and whether this one does.
    pub(super) fn keepers(&self, id: &str) -> (Vec<NodeId>, bool) {
        let mesh = &self.view.mesh;
        if mesh.is_alone() {
            return (Vec::new(), true);
        }
        let (home, deputy) = mesh.placement().ranked(id);
        let mut keepers: Vec<NodeId> = std::iter::once(home).chain(deputy).collect();
        let here = keepers.contains(mesh.own());
        keepers.retain(|keeper| keeper != mesh.own());
        (keepers, here)
    }

    /// Notes that all other keepers of `copy` are owed it.
    fn owe(&self, copy: &Copy, owed: &mut Vec<Owed>, writes: &mut Vec<Write>) {
        for server in self.keepers(copy.subject()).0 {
            let debt = Owed { server, copy: copy.clone() };
            writes.push(debt.note());
            owed.push(debt);
        }
    }

    fn change(
        &mut self,
        device: &NodeId,
        record: DeviceRecord,
        former: Option<ClientId>,
        writes: &mut Vec<Write>,
    ) -> Result<Vec<Owed>, StoreError> {
        let mut owed = Vec::new();
        let stamp = record.stamp;
        let new = record.client.clone().filter(|client| former.as_ref() != Some(client));
        let old = former.filter(|former| record.client.as_ref() != Some(former));
        for (client, gone) in old.map(|client| (client, true)).into_iter().chain(new.map(|client| (client, false))) {
            let copy = Copy::Client { client, device: device.clone(), belonging: Belonging { stamp, gone } };
            if self.keepers(copy.subject()).1 {
                self.take_copy(copy.clone(), stamp, writes)?;
            }
            self.owe(&copy, &mut owed, writes);
        }
        writes.push(put_json(keys::device(device), &record));
        self.owe(&Copy::Device { device: device.clone(), record }, &mut owed, writes);
        Ok(owed)
    }

    pub(super) fn register(
        &mut self,
        id: &NodeId,
        client: Option<ClientId>,
        now: Millis,
        writes: &mut Vec<Write>,
    ) -> Result<(u64, Vec<Owed>), StoreError> {
        let mailbox = self.boxes.get(&*self.store, id, now)?;
        let pending = mailbox.inbox.len() as u64;
        let before = mailbox.device.clone();
        if before.as_ref().is_some_and(|device| device.client == client || client.is_none()) {
            return Ok((pending, Vec::new()));
        }
        let record = DeviceRecord {
            client,
            tokens: before.as_ref().map(|device| device.tokens.clone()).unwrap_or_default(),
            since: before.as_ref().map_or(now, |device| device.since),
            stamp: stamp(before.as_deref(), now),
        };
        mailbox.device = Some(Arc::new(record.clone()));
        let former = before.and_then(|device| device.client.clone());
        Ok((pending, self.change(id, record, former, writes)?))
    }

    pub(super) fn tokens(
        &mut self,
        id: &NodeId,
        change: TokenChange,
        now: Millis,
        writes: &mut Vec<Write>,
    ) -> Result<Vec<Owed>, StoreError> {
        let mailbox = self.boxes.get(&*self.store, id, now)?;
        let before = mailbox.device.clone();
        let mut record = match before.as_deref() {
            Some(device) => device.clone(),
            None => DeviceRecord { client: None, tokens: Vec::new(), since: now, stamp: now },
        };
        match change {
            TokenChange::Add(token) => {
                record.tokens.retain(|known| *known != token);
                record.tokens.push(token);
                let over = record.tokens.len().saturating_sub(MAX_TOKENS);
                record.tokens.drain(..over);
            }
            TokenChange::Remove(token) => record.tokens.retain(|known| *known != token),
        }
        if before.as_ref().is_some_and(|before| before.tokens == record.tokens) {
            return Ok(Vec::new());
        }
        record.stamp = stamp(before.as_deref(), now);
        mailbox.device = Some(Arc::new(record.clone()));
        let former = record.client.clone();
        self.change(id, record, former, writes)
    }

    /// What another server says of a record; taken where it is newer.
    pub(super) fn take_copy(&mut self, copy: Copy, now: Millis, writes: &mut Vec<Write>) -> Result<(), StoreError> {
        match copy {
            Copy::Device { device, record } => {
                let mailbox = self.boxes.get(&*self.store, &device, now)?;
                if mailbox.device.as_ref().is_some_and(|known| version(known) >= version(&record)) {
                    return Ok(());
                }
                writes.push(put_json(keys::device(&device), &record));
                mailbox.device = Some(Arc::new(record));
            }
            Copy::Client { client, device, belonging } => {
                let key = keys::device_of(&client, &device);
                let of_group = writes.iter().rev().find_map(|write| match write {
                    Write::Put { key: of, value, .. } if *of == key => Some(value.clone()),
                    _ => None,
                });
                let known = of_group.map_or_else(|| self.store.get(Table::Records, &key), |value| Ok(Some(value)))?;
                if known.is_none_or(|known| Belonging::decode(&known) < belonging) {
                    writes.push(put_json(key, &belonging));
                }
            }
        }
        Ok(())
    }
}

/// Later than that of the record before.
fn stamp(before: Option<&DeviceRecord>, now: Millis) -> Millis {
    before.map_or(now, |before| now.max(before.stamp.plus(1)))
}

/// The higher counts; where two servers have changed a record in the same millisecond, both come to the same end.
fn version(record: &DeviceRecord) -> (Millis, Vec<u8>) {
    (record.stamp, serde_json::to_vec(record).unwrap_or_default())
}

impl Homes {
    /// Gives those who can be reached what they are owed; then calls `done`. What somebody does not get now stays noted.
    pub(super) fn hand_out(&self, owed: Vec<Owed>, done: Done) {
        let reachable = |debt: &Owed| self.view().is_some_and(|view| view.mesh.is_reachable(&debt.server));
        let owed: Vec<Owed> = owed.into_iter().filter(reachable).collect();
        if owed.is_empty() {
            return done(Ok(()));
        }
        let latch = Arc::new(Latch { open: AtomicUsize::new(owed.len()), done: std::sync::Mutex::new(Some(done)) });
        for debt in owed {
            let (homes, latch) = (self.clone(), latch.clone());
            let server = debt.server.clone();
            let question = Question::Copies(vec![debt.copy.clone()]);
            let then = move |result| {
                match result {
                    Ok(Answer::Done) => homes.submit(vec![debt.settled()], Box::new(|_| {})),
                    _ => homes.debts().owe(&debt.server),
                }
                latch.one();
            };
            self.remote().ask_then(&server, &question, Box::new(then));
        }
    }
}

/// Calls `done` when all have answered.
struct Latch {
    open: AtomicUsize,
    done: std::sync::Mutex<Option<Done>>,
}

impl Latch {
    fn one(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            let done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(done) = done {
                done(Ok(()));
            }
        }
    }
}
