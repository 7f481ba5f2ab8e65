//! Finds what is overdue in inboxes that nobody asks for: a walk through the store, some steps at a time.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::keys;
use super::record::Record;
use crate::model::ids::{Millis, NodeId};
use crate::model::inbox::Limits;
use crate::store::{Order, Store, Table};

/// Envelopes looked at in one step.
const STEP: usize = 2000;

#[derive(Default)]
pub(super) struct Sweep {
    from: Bytes,
}

impl Sweep {
    /// The devices with something overdue among the next [`STEP`] envelopes.
    pub(super) fn step(&mut self, store: &dyn Store, limits: Limits, now: Millis) -> Vec<NodeId> {
        let mut overdue: Vec<NodeId> = Vec::new();
        let mut looked = 0;
        let mut next = Bytes::new();
        let from = std::mem::take(&mut self.from);
        let scanned = store.scan(Table::Inbox, &from, &[0xff], Order::Ascending, &mut |key, value| {
            if looked == STEP {
                next = Bytes::copy_from_slice(key);
                return ControlFlow::Break(());
            }
            looked += 1;
            if let (Some((device, _)), Some(record)) = (keys::place_of(key), Record::decode(value)) {
                let expired = record.expires.is_some_and(|at| at <= now);
                let aged = now.since(record.stored) >= limits.age_ms;
                if (expired || aged) && overdue.last() != Some(&device) {
                    overdue.push(device);
                }
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = scanned {
            log::error!("the inboxes cannot be looked through: {error}");
        }
        self.from = next;
        overdue
    }
}
