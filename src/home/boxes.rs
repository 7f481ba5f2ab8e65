//! The inboxes and device records that are in memory: loaded when first asked for, forgotten when idle.
//!
//! Owned by the committer alone. Invariant: what is here equals what the store has, plus the writes of the group at hand;
//! after a failed commit everything the group touched is forgotten, and read again.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::keys;
use super::record::Record;
use crate::metrics;
use crate::model::ids::{ClientId, Millis, NodeId, Seq};
use crate::model::inbox::{Head, Inbox, Limits, Loss};
use crate::model::keyed::{HashMap, HashSet};
use crate::push::PushToken;
use crate::store::{Order, Store, StoreError, Table, Write};

/// Envelopes whose places are kept in memory, about 150 bytes each; more, and idle inboxes are forgotten.
const MAX_ENTRIES: usize = 1_000_000;
/// Inboxes in memory.
const MAX_BOXES: usize = 100_000;
/// An inbox that nobody has asked for so long may be forgotten, in milliseconds.
const IDLE_MS: u64 = 10_000;
/// Most push tokens of one device; a further one replaces the oldest.
pub const MAX_TOKENS: usize = 8;

/// What is kept of a device that has been here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeviceRecord {
    pub client: Option<ClientId>,
    pub tokens: Vec<PushToken>,
    pub since: Millis,
    /// Of the last change: of two records of a device the one with the higher stamp counts.
    #[serde(default)]
    pub stamp: Millis,
}

pub(super) struct Mailbox {
    pub(super) inbox: Inbox,
    persisted: Head,
    /// `None`: never here.
    pub(super) device: Option<Arc<DeviceRecord>>,
    touched: Millis,
}

impl Mailbox {
    pub(super) fn limits(&self, of_known: Limits) -> Limits {
        if self.device.is_some() { of_known } else { of_known.at_most(Limits::UNKNOWN) }
    }

    fn is_idle(&self, now: Millis) -> bool {
        now.since(self.touched) > IDLE_MS
    }

    /// The head must be written where the envelopes do not tell it.
    fn head_write(&mut self, id: &NodeId) -> Option<Write> {
        let head = self.inbox.head();
        let implied = self.inbox.last().map(Seq::next) == Some(head.next);
        let stale = (head.dropped, head.told, head.moved)
            != (self.persisted.dropped, self.persisted.told, self.persisted.moved)
            || (!implied && head.next != self.persisted.next);
        stale.then(|| {
            self.persisted = head;
            put_json(keys::head(id), &head)
        })
    }
}

pub(super) fn put_json(key: bytes::Bytes, value: &impl Serialize) -> Write {
    // Our own records are plain structs of numbers and strings, which always serialise.
    let value = serde_json::to_vec(value).unwrap_or_default().into();
    Write::Put { table: Table::Records, key, value }
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Boxes {
    by_device: HashMap<NodeId, Mailbox>,
    entries: usize,
    /// Of the group at hand.
    touched: HashSet<NodeId>,
    /// Those that the group at hand has removed.
    gone: Vec<NodeId>,
    /// Those to which something has come from their former home in the group at hand.
    coming: Vec<NodeId>,
}

impl Boxes {
    pub(super) fn get(&mut self, store: &dyn Store, id: &NodeId, now: Millis) -> Result<&mut Mailbox, StoreError> {
        if !self.by_device.contains_key(id.as_str()) {
            let mailbox = load(store, id, now)?;
            self.entries += mailbox.inbox.len();
            gauge(mailbox.inbox.len() as i64, mailbox.inbox.bytes() as i64);
            self.by_device.insert(id.clone(), mailbox);
        }
        if !self.touched.contains(id.as_str()) {
            self.touched.insert(id.clone());
        }
        let mailbox =
            self.by_device.get_mut(id.as_str()).ok_or_else(|| StoreError::Damaged("a box vanished".into()))?;
        mailbox.touched = now;
        Ok(mailbox)
    }

    /// Changes an inbox, keeping the figures.
    pub(super) fn change<R>(
        &mut self,
        store: &dyn Store,
        id: &NodeId,
        now: Millis,
        act: impl FnOnce(&mut Mailbox) -> R,
    ) -> Result<R, StoreError> {
        let mailbox = self.get(store, id, now)?;
        let before = (mailbox.inbox.len(), mailbox.inbox.bytes());
        let answer = act(mailbox);
        let after = (mailbox.inbox.len(), mailbox.inbox.bytes());
        self.entries = self.entries + after.0 - before.0;
        gauge(after.0 as i64 - before.0 as i64, after.1 as i64 - before.1 as i64);
        Ok(answer)
    }

    /// The heads that the group at hand has made necessary to write.
    pub(super) fn heads(&mut self, writes: &mut Vec<Write>) {
        for id in &self.touched {
            if let Some(mailbox) = self.by_device.get_mut(id.as_str()) {
                writes.extend(mailbox.head_write(id));
            }
        }
    }

    /// The group removes all there is of this one.
    pub(super) fn remove(&mut self, id: &NodeId) {
        self.gone.push(id.clone());
    }

    /// Something comes to this one from its former home.
    pub(super) fn comes(&mut self, id: &NodeId) {
        self.coming.push(id.clone());
    }

    /// The group is durable.
    pub(super) fn committed(&mut self, now: Millis) {
        self.touched.clear();
        for id in std::mem::take(&mut self.coming) {
            if let Some(mailbox) = self.by_device.get_mut(id.as_str()) {
                mailbox.inbox.adopted();
            }
        }
        let gone = std::mem::take(&mut self.gone);
        if !gone.is_empty() {
            self.forget(|id, _| gone.contains(id));
        }
        if self.entries > MAX_ENTRIES || self.by_device.len() > MAX_BOXES {
            if !self.by_device.values().any(|mailbox| mailbox.is_idle(now)) {
                return self.forget(|_, _| true);
            }
            self.forget(|_, mailbox| mailbox.is_idle(now));
        }
    }

    /// Most devices that are here have nothing waiting: they are read again when they are asked for.
    pub(super) fn forget_empty(&mut self, now: Millis) {
        self.forget(|_, mailbox| mailbox.inbox.is_empty() && mailbox.is_idle(now));
        self.by_device.shrink_to(self.by_device.len() * 2);
    }

    /// The group failed: what is in memory may not be what is on disk.
    pub(super) fn failed(&mut self) {
        self.gone.clear();
        self.coming.clear();
        let touched = std::mem::take(&mut self.touched);
        self.forget(|id, _| touched.contains(id.as_str()));
    }

    fn forget(&mut self, which: impl Fn(&NodeId, &Mailbox) -> bool) {
        let entries = &mut self.entries;
        self.by_device.retain(|id, mailbox| {
            let gone = which(id, mailbox);
            if gone {
                *entries -= mailbox.inbox.len();
                gauge(-(mailbox.inbox.len() as i64), -(mailbox.inbox.bytes() as i64));
            }
            !gone
        });
    }

    /// Removes what is too old from all inboxes in memory.
    pub(super) fn expire(&mut self, store: &dyn Store, limits: Limits, now: Millis, writes: &mut Vec<Write>) {
        let ids: Vec<NodeId> =
            self.by_device.iter().filter(|(_, b)| !b.inbox.is_empty()).map(|(id, _)| id.clone()).collect();
        for id in ids {
            let lost = self.change(store, &id, now, |mailbox| mailbox.inbox.expire(mailbox.limits(limits), now));
            lose(&id, &lost.unwrap_or_default(), writes);
        }
    }
}

fn gauge(envelopes: i64, bytes: i64) {
    metrics::INBOX_ENVELOPES.add(envelopes);
    metrics::INBOX_BYTES.add(bytes);
}

/// Envelopes that leave unread: counted, and deleted.
pub(super) fn lose(id: &NodeId, lost: &[(Seq, Loss)], writes: &mut Vec<Write>) {
    for (seq, loss) in lost {
        metrics::INBOX_DROPPED.with_label_values(&[loss.word()]).inc();
        writes.push(Write::Delete { table: Table::Inbox, key: keys::envelope(id, *seq) });
    }
}

fn load(store: &dyn Store, id: &NodeId, now: Millis) -> Result<Mailbox, StoreError> {
    let head: Option<Head> = read_json(store, &keys::head(id))?;
    let device: Option<DeviceRecord> = read_json(store, &keys::device(id))?;
    let mut entries = Vec::new();
    let (from, to) = keys::envelopes_from(id, Seq(0));
    store.scan(Table::Inbox, &from, &to, Order::Ascending, &mut |key, value| {
        let len = value.len();
        if let (Some((_, seq)), Some(record)) = (keys::place_of(key), Record::decode(value)) {
            entries.push((seq, record.entry(len)));
        }
        ControlFlow::Continue(())
    })?;
    let persisted = head.unwrap_or_default();
    Ok(Mailbox { inbox: Inbox::restore(persisted, entries), persisted, device: device.map(Arc::new), touched: now })
}

pub(super) fn read_json<T: for<'de> Deserialize<'de>>(store: &dyn Store, key: &[u8]) -> Result<Option<T>, StoreError> {
    let Some(bytes) = store.get(Table::Records, key)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| StoreError::Damaged(error.to_string()))
}
