//! What became of the last notification of a device: for people who ask why a phone was not woken.
//!
//! Invariant: of at most [`MOST`] devices, those that were pushed to last. Memory only: it begins with the server.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Provider;
use crate::model::ids::{Millis, NodeId};

/// Devices that are remembered, about 200 bytes each.
const MOST: usize = 4096;

/// One attempt to wake a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPush {
    pub at: Millis,
    pub provider: Provider,
    /// As in the metrics: `sent`, `retried`, `dead_token`, `refused`, `gave_up`, `broken`.
    pub outcome: String,
}

#[derive(Default)]
struct Known {
    by_device: HashMap<NodeId, LastPush>,
    order: VecDeque<NodeId>,
}

/// See the module's header.
#[derive(Default)]
pub(super) struct LastPushes(Mutex<Known>);

impl LastPushes {
    pub(super) fn note(&self, device: &NodeId, push: LastPush) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.by_device.insert(device.clone(), push).is_some() {
            // One that is pushed to often must not be forgotten for being known long; it is rarely far from the end.
            if let Some(at) = known.order.iter().rposition(|of| of == device) {
                known.order.remove(at);
            }
        } else if known.order.len() == MOST
            && let Some(oldest) = known.order.pop_front()
        {
            known.by_device.remove(&oldest);
        }
        known.order.push_back(device.clone());
    }

    pub(super) fn of(&self, device: &NodeId) -> Option<LastPush> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_device.get(device).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_is_known_and_the_oldest_device_forgotten() {
        let last = LastPushes::default();
        let device = |number: usize| -> NodeId { format!("d{number}").parse().unwrap() };
        let push = |at| LastPush { at: Millis(at), provider: Provider::Fcm, outcome: "sent".to_owned() };
        for number in 0..MOST {
            last.note(&device(number), push(1));
        }
        last.note(&device(0), push(2));
        last.note(&device(MOST), push(3));
        assert_eq!(last.of(&device(0)), Some(push(2)));
        assert_eq!(last.of(&device(1)), None);
        assert_eq!(last.of(&device(MOST)), Some(push(3)));
        assert_eq!(last.0.lock().unwrap().order.len(), MOST);
    }
}
