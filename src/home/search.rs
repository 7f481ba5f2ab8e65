//! Looking for one envelope in what is durable here: the inboxes at home at this server, and the mail that it holds.
//!
//! There is no index of envelopes, and none is kept for this: the tables are read from one end to the other. Invariant: a
//! search ends after [`Search::PATIENCE`], or [`MAX_BYTES`], and says whether it has seen everything. With the device at hand
//! only its inbox is read, which is quick. Blocks: not for an actor's thread.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::keys;
use super::record::Record;
use crate::model::ids::{EnvelopeId, Millis, NodeId, Seq};
use crate::model::seen::Key;
use crate::store::{Order, Store, StoreError, Table};

/// Bytes that one search reads.
const MAX_BYTES: usize = 256 << 20;
/// Most places that are told of one envelope: to a session it may lie in many inboxes.
const MAX_FOUND: usize = 100;

/// Where an envelope lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lying {
    pub device: NodeId,
    /// Of the two tables with envelopes.
    pub table: Table,
    /// Its place in the inbox, or its number among the held mail.
    pub seq: Seq,
    pub stored: Millis,
}

/// Whether everything was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    Yes,
    No,
}

/// See the module's header.
pub struct Search {
    store: Arc<dyn Store>,
}

impl Search {
    const PATIENCE: Duration = Duration::from_millis(1500);

    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// `sender` by its real id, or as recipients see it; `device`: whose inbox is looked at, if not all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(
        &self,
        sender: &NodeId,
        id: &EnvelopeId,
        device: Option<&NodeId>,
    ) -> Result<(Vec<Lying>, Whole), StoreError> {
        let until = Instant::now() + Self::PATIENCE;
        let key = Key::of(sender, id);
        let (from, to) = match device {
            Some(device) => keys::envelopes_from(device, Seq(0)),
            None => (bytes::Bytes::new(), bytes::Bytes::from_static(&[0xff])),
        };
        let (mut found, mut whole, mut bytes) = (Vec::new(), Whole::Yes, 0);
        for table in [Table::Held, Table::Inbox] {
            self.store.scan(table, &from, &to, Order::Ascending, &mut |name, value| {
                bytes += value.len();
                if bytes > MAX_BYTES || found.len() == MAX_FOUND || Instant::now() > until {
                    whole = Whole::No;
                    return ControlFlow::Break(());
                }
                let (Some((device, seq)), Some(record)) = (keys::place_of(name), Record::decode(value)) else {
                    return ControlFlow::Continue(());
                };
                if record.key == Some(key) || (record.keep.id == *id && record.keep.sender == *sender) {
                    found.push(Lying { device, table, seq, stored: record.stored });
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok((found, whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Epoch;
    use crate::model::outbox::{Keep, Prompt};
    use crate::store::Write;
    use crate::store::memory::MemoryStore;

    fn put(table: Table, device: &str, seq: u64, sender: &str, id: &str, key: Option<Key>) -> Write {
        let keep = Keep {
            sender: sender.parse().unwrap(),
            id: id.parse().unwrap(),
            collapse: None,
            kind: 1,
            timestamp: Millis(1),
            session: None,
            prompt: Prompt::Later,
        };
        let record = Record {
            key,
            stored: Millis(9),
            expires: None,
            keep: Arc::new(keep),
            text: bytes::Bytes::from_static(b"{}"),
        };
        Write::Put { table, key: keys::envelope(&device.parse().unwrap(), Seq(seq)), value: record.encode() }
    }

    #[test]
    fn it_is_found_in_all_inboxes_and_in_held_mail_and_by_either_name_of_its_sender() {
        let store = MemoryStore::new(Epoch(1));
        let of = |sender: &str, id: &str| Key::of(&sender.parse().unwrap(), &id.parse().unwrap());
        store
            .commit(&[
                put(Table::Inbox, "bob", 1, "alice", "x", None),
                put(Table::Inbox, "bob", 2, "alice", "y", Some(of("alice", "y"))),
                put(Table::Inbox, "zoe", 7, "mask", "x", Some(of("alice", "x"))),
                put(Table::Held, "eve", 3, "alice", "x", Some(of("alice", "x"))),
            ])
            .unwrap();
        let search = Search::new(Arc::new(store));
        let find = |sender: &str, id: &str, device: Option<&str>| {
            let device: Option<NodeId> = device.map(|device| device.parse().unwrap());
            let (found, whole) = search.find(&sender.parse().unwrap(), &id.parse().unwrap(), device.as_ref()).unwrap();
            assert_eq!(whole, Whole::Yes);
            found.iter().map(|lying| format!("{:?} {} {}", lying.table, lying.device, lying.seq.0)).collect::<Vec<_>>()
        };
        assert_eq!(find("alice", "x", None), ["Held eve 3", "Inbox bob 1", "Inbox zoe 7"]);
        assert_eq!(find("alice", "x", Some("zoe")), ["Inbox zoe 7"]);
        assert_eq!(find("mask", "x", None), ["Inbox zoe 7"]);
        assert!(find("alice", "z", None).is_empty());
    }
}
