//! An inbox and a device's record on their way from a former home to the new one.
//!
//! The former home packs what is durable, the new home makes it durable part by part, and then the former home removes exactly
//! that. A crash at any point leaves it at one of the two, or at both: sent again it is known by its keys and numbers. What
//! has been added at the former home meanwhile stays there, and goes the same way later. What is of one device goes one time
//! after the other: whoever asks for it while it is on its way waits until that is there.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Homes;
use super::boxes::{DeviceRecord, read_json};
use super::committer::Committer;
use super::copies::{Belonging, Copy};
use super::keys;
use super::question::{Answer, Question};
use super::queue::{Command, Then};
use super::reader::Request;
use super::record::Record;
use crate::model::ids::{ClientId, Epoch, Millis, NodeId, Seq};
use crate::model::inbox::Head;
use crate::model::keyed::HashMap;
use crate::store::{Order, Store, StoreError, Table, Unavailable, Write};

/// Bytes of envelopes in one part; a single envelope is always taken.
const PART_BYTES: usize = 384 << 10;

/// A part of what a former home has of a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    device: NodeId,
    /// Of the inbox at its former home.
    epoch: Epoch,
    /// `None`: it has never had an inbox there, only a record.
    head: Option<Head>,
    record: Option<DeviceRecord>,
    /// Each as it is stored, in base64.
    entries: Vec<(Seq, String)>,
}

impl Part {
    pub(super) fn bytes(&self) -> usize {
        self.entries.iter().map(|(_, entry)| entry.len()).sum()
    }

    pub(super) fn device(&self) -> &NodeId {
        &self.device
    }
}

/// What the new home has.
#[derive(Debug)]
pub(super) struct Gone {
    device: NodeId,
    seqs: Vec<Seq>,
    /// Of the device's record.
    stamp: Option<Millis>,
}

/// All there is of a device. Without parts: nothing.
#[derive(Debug)]
pub(super) struct Parts {
    parts: Vec<Part>,
    gone: Gone,
}

/// The devices that are on their way from here, and what is to be done when they are there.
#[derive(Default)]
pub(super) struct Shipments(Mutex<HashMap<NodeId, VecDeque<Shipment>>>);

/// What there is of a device goes to a server.
struct Shipment {
    to: NodeId,
    done: Then<bool>,
}

impl Shipments {
    fn with<R>(&self, act: impl FnOnce(&mut HashMap<NodeId, VecDeque<Shipment>>) -> R) -> R {
        // Nothing panics while it is held.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `None`: another one of that device is on its way, and this one waits.
    fn begin(&self, device: &NodeId, shipment: Shipment) -> Option<Shipment> {
        self.with(|under_way| match under_way.get_mut(device.as_str()) {
            Some(waiting) => {
                waiting.push_back(shipment);
                None
            }
            None => {
                under_way.insert(device.clone(), VecDeque::new());
                Some(shipment)
            }
        })
    }

    /// The one under way has ended; the next.
    fn next(&self, device: &NodeId) -> Option<Shipment> {
        self.with(|under_way| {
            let next = under_way.get_mut(device.as_str()).and_then(VecDeque::pop_front);
            if next.is_none() {
                under_way.remove(device.as_str());
            }
            next
        })
    }
}

/// What the store has of `device`.
pub(super) fn pack(store: &dyn Store, device: &NodeId) -> Result<Parts, StoreError> {
    let found: Option<Head> = read_json(store, &keys::head(device))?;
    let record: Option<DeviceRecord> = read_json(store, &keys::device(device))?;
    let mut head = found.unwrap_or_default();
    let mut gone = Gone { device: device.clone(), seqs: Vec::new(), stamp: record.as_ref().map(|record| record.stamp) };
    let mut chunks: Vec<Vec<(Seq, String)>> = vec![Vec::new()];
    let mut bytes = 0;
    let (from, to) = keys::envelopes_from(device, Seq(0));
    store.scan(Table::Inbox, &from, &to, Order::Ascending, &mut |key, value| {
        let Some((_, seq)) = keys::place_of(key) else { return ControlFlow::Continue(()) };
        head.next = head.next.max(seq.next());
        gone.seqs.push(seq);
        if bytes > 0 && bytes + value.len() > PART_BYTES {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += value.len();
        if let Some(chunk) = chunks.last_mut() {
            chunk.push((seq, BASE64.encode(&value)));
        }
        ControlFlow::Continue(())
    })?;
    let epoch = head.epoch(store.epoch());
    let head = (found.is_some() || !gone.seqs.is_empty()).then_some(head);
    let is_nothing = head.is_none() && record.is_none();
    let part = |entries| Part { device: device.clone(), epoch, head, record: record.clone(), entries };
    let parts = if is_nothing { Vec::new() } else { chunks.into_iter().map(part).collect() };
    Ok(Parts { parts, gone })
}

/// Which devices the store says are `client`'s, and were.
pub(super) fn devices_of(store: &dyn Store, client: &ClientId) -> Result<Vec<Copy>, StoreError> {
    let (from, to) = keys::devices_of(client);
    let mut copies = Vec::new();
    store.scan(Table::Records, &from, &to, Order::Ascending, &mut |key, value| {
        if let Some(device) = keys::last_id(key).and_then(|id| id.parse().ok()) {
            copies.push(Copy::client(client.clone(), device, &value));
        }
        ControlFlow::Continue(())
    })?;
    Ok(copies)
}

/// Which devices the store says are `client`'s now.
pub(super) fn devices_now(store: &dyn Store, client: &ClientId) -> Result<Vec<NodeId>, StoreError> {
    let (from, to) = keys::devices_of(client);
    let mut devices = Vec::new();
    store.scan(Table::Records, &from, &to, Order::Ascending, &mut |key, value| {
        let is_one = Belonging::decode(&value).is_one();
        devices.extend(keys::last_id(key).and_then(|id| id.parse().ok()).filter(|_: &NodeId| is_one));
        ControlFlow::Continue(())
    })?;
    Ok(devices)
}

impl Committer {
    /// At the new home. The first place that something was put at.
    pub(super) fn adopt(
        &mut self,
        part: Part,
        now: Millis,
        writes: &mut Vec<Write>,
    ) -> Result<Option<Seq>, StoreError> {
        let Part { device, epoch, head, record, entries } = part;
        let raw = entries.into_iter().filter_map(|(seq, entry)| {
            let value = Bytes::from(BASE64.decode(entry).ok()?);
            Some((seq, Record::decode(value.clone())?.entry(value.len()), value))
        });
        let here = self.store.epoch();
        let mut first = None;
        self.boxes.change(&*self.store, &device, now, |mailbox| {
            let Some(head) = head else { return };
            let numbers = mailbox.inbox.come(head, epoch, here, Epoch(now.0));
            for (seq, entry, value) in raw {
                let Some(at) = mailbox.inbox.adopt(seq, entry, numbers) else { continue };
                first = Some(first.map_or(at, |first: Seq| first.min(at)));
                writes.push(Write::Put { table: Table::Inbox, key: keys::envelope(&device, at), value });
            }
        })?;
        self.boxes.comes(&device);
        if let Some(record) = record {
            self.take_copy(Copy::Device { device, record }, now, writes)?;
        }
        Ok(first)
    }

    /// At the former home: what is at the new one is here no more, unless this server is the home again.
    pub(super) fn moved(&mut self, gone: &Gone, now: Millis, writes: &mut Vec<Write>) -> Result<(), StoreError> {
        let Gone { device, seqs, stamp } = gone;
        if self.view.mesh.is_home(device.as_str()) {
            return Ok(());
        }
        let (is_empty, record) = self.boxes.change(&*self.store, device, now, |mailbox| {
            for seq in seqs {
                mailbox.inbox.remove(*seq);
            }
            (mailbox.inbox.is_empty(), mailbox.device.clone())
        })?;
        let delete = |table, key| Write::Delete { table, key };
        writes.extend(seqs.iter().map(|seq| delete(Table::Inbox, keys::envelope(device, *seq))));
        if is_empty {
            writes.push(delete(Table::Records, keys::head(device)));
            self.boxes.remove(device);
        }
        if record.is_some_and(|record| Some(record.stamp) == *stamp) && !self.keepers(device.as_str()).1 {
            writes.push(delete(Table::Records, keys::device(device)));
            self.boxes.remove(device);
        }
        Ok(())
    }
}

impl Homes {
    /// Gives all there is of `device` to `to`, and removes it here when it is durable there. Whether there was anything.
    pub(super) fn ship(&self, device: &NodeId, to: NodeId, done: Then<bool>) {
        if let Some(shipment) = self.shipments().begin(device, Shipment { to, done }) {
            self.send_shipment(device, shipment);
        }
    }

    fn send_shipment(&self, device: &NodeId, Shipment { to, done }: Shipment) {
        let (homes, of_done) = (self.clone(), device.clone());
        let done: Then<bool> = Box::new(move |result| {
            done(result);
            if let Some(next) = homes.shipments().next(&of_done) {
                homes.send_shipment(&of_done, next);
            }
        });
        let homes = self.clone();
        let then: Then<Parts> = Box::new(move |packed| match packed {
            Ok(Parts { parts, .. }) if parts.is_empty() => done(Ok(false)),
            Ok(Parts { parts, gone }) => homes.send_parts(&to, parts.into_iter(), gone, done),
            Err(Unavailable) => done(Err(Unavailable)),
        });
        // Behind all that was to be written before.
        self.here().push(Command::Read(Request::Pack { device: device.clone(), then }));
    }

    fn send_parts(&self, to: &NodeId, mut parts: std::vec::IntoIter<Part>, gone: Gone, done: Then<bool>) {
        let Some(part) = parts.next() else {
            let done = Box::new(move |result: Result<(), Unavailable>| done(result.map(|()| true)));
            return self.here().push(Command::Moved { part: Box::new(gone), done });
        };
        let (homes, server) = (self.clone(), to.clone());
        let then = move |result| match result {
            Ok(Answer::Done) => homes.send_parts(&server, parts, gone, done),
            _ => done(Err(Unavailable)),
        };
        self.remote().ask_then(to, &Question::Part(Box::new(part)), Box::new(then));
    }
}
