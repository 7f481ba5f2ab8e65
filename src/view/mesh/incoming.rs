//! The streams from other servers.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::model::ids::{Incarnation, NodeId};
use crate::model::keyed::HashMap;
use crate::model::stream::{Incoming, Received};

/// The stream from one server.
#[derive(Default)]
pub(super) struct Origin {
    incoming: Incoming,
    /// Frames that came since the last acknowledgement, repeated ones too: their acknowledgement was lost.
    since: u64,
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ack {
    pub incarnation: Incarnation,
    pub generation: u64,
    pub number: u64,
}

impl Origin {
    /// Whether it is the first that comes of its generation.
    pub(super) fn is_new(&self, incarnation: Incarnation, generation: u64) -> bool {
        self.incoming.is_new(incarnation, generation)
    }

    /// Whether the frame is the next one.
    pub(super) fn receive(&mut self, incarnation: Incarnation, generation: u64, number: u64) -> bool {
        self.since += 1;
        self.incoming.receive(incarnation, generation, number) == Received::Take
    }
}

/// One stream from each server that anything ever came from.
#[derive(Default)]
pub(super) struct Origins(RwLock<HashMap<NodeId, Arc<Mutex<Origin>>>>);

impl Origins {
    pub(super) fn of(&self, server: &NodeId) -> Arc<Mutex<Origin>> {
        if let Some(origin) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(server) {
            return origin.clone();
        }
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(server.clone()).or_default().clone()
    }

    /// What is to be acknowledged: streams with at least `count` frames since the last time.
    pub(super) fn due(&self, count: u64) -> Vec<(NodeId, Ack)> {
        let origins = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for (server, origin) in origins.iter() {
            // One that is being handled is acknowledged next time.
            let Ok(mut origin) = origin.try_lock() else { continue };
            if origin.since < count {
                continue;
            }
            origin.since = 0;
            if let Some((incarnation, generation, number)) = origin.incoming.ack() {
                due.push((server.clone(), Ack { incarnation, generation, number }));
            }
        }
        due
    }
}
