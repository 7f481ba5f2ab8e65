//! The streams to other servers.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use super::Weight;
use crate::model::frames::Stop;
use crate::model::ids::{Millis, NodeId};
use crate::model::keyed::HashMap;
use crate::model::lane::Delivery;
use crate::model::stream::Outgoing;

/// Bytes that may be on their way to one server; half of that for new work, so that answers always go. Much less than what
/// waits at most for a link: or whatever overflowed there would have to be sent again, and all behind it.
const LIMIT: usize = 16 << 20;
/// What a message costs beside its bytes.
const OVERHEAD: usize = 128;

/// A message without what names its server.
struct Letter {
    head: Bytes,
    body: Bytes,
}

/// The stream to one server.
pub(super) struct Stream(Outgoing<Letter>);

impl Stream {
    pub(super) fn generation(&self) -> u64 {
        self.0.generation()
    }

    /// Its generation and number; `None` where there is no room.
    pub(super) fn push(&mut self, head: Bytes, body: Bytes, weight: Weight, now: Millis) -> Option<(u64, u64)> {
        let cost = head.len() + body.len() + OVERHEAD;
        if weight == Weight::Work && self.0.bytes() > 0 && self.0.bytes() + cost > LIMIT / 2 {
            return None;
        }
        let number = self.0.push(Letter { head, body }, cost, now).ok()?;
        Some((self.0.generation(), number))
    }

    /// Each unacknowledged message once more, in order, as long as `send` takes them.
    pub(super) fn again(&mut self, server: &NodeId, now: Millis, mut send: impl FnMut(Stop, Bytes) -> Delivery) {
        let generation = self.0.generation();
        for (number, letter) in self.0.resend(now) {
            let stop = Stop { server: server.clone(), generation, number, head: letter.head.clone() };
            if send(stop, letter.body.clone()) == Delivery::Refused {
                break;
            }
        }
    }
}

/// One stream for each server that something was ever sent to.
#[derive(Default)]
pub(super) struct Streams(RwLock<HashMap<NodeId, Arc<Mutex<Stream>>>>);

impl Streams {
    pub(super) fn of(&self, server: &NodeId) -> Arc<Mutex<Stream>> {
        if let Some(stream) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(server) {
            return stream.clone();
        }
        let mut streams = self.0.write().unwrap_or_else(PoisonError::into_inner);
        streams.entry(server.clone()).or_insert_with(|| Arc::new(Mutex::new(Stream(Outgoing::new(LIMIT))))).clone()
    }

    pub(super) fn known(&self, server: &NodeId) -> Option<Arc<Mutex<Stream>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(server).cloned()
    }

    pub(super) fn servers(&self) -> Vec<NodeId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub(super) fn reset(&self, server: &NodeId) {
        if let Some(stream) = self.known(server) {
            stream.lock().unwrap_or_else(PoisonError::into_inner).0.reset();
        }
    }

    /// `server` has begun a generation; whether it has lost answers to what we had sent.
    pub(super) fn follow(&self, server: &NodeId, generation: u64) -> bool {
        self.of(server).lock().unwrap_or_else(PoisonError::into_inner).0.follow(generation)
    }

    /// An answer to `server` is lost, for no way leads there: it is to hear of that when one does.
    pub(super) fn owe(&self, server: &NodeId) {
        self.of(server).lock().unwrap_or_else(PoisonError::into_inner).0.reset();
    }

    pub(super) fn acked(&self, by: &NodeId, generation: u64, number: u64, now: Millis) {
        if let Some(stream) = self.known(by) {
            stream.lock().unwrap_or_else(PoisonError::into_inner).0.acked(generation, number, now);
        }
    }

    /// The servers that have not acknowledged in time.
    pub(super) fn overdue(&self, now: Millis) -> Vec<NodeId> {
        let streams = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_overdue = |stream: &Mutex<Stream>| stream.lock().unwrap_or_else(PoisonError::into_inner).0.overdue(now);
        streams.iter().filter(|(_, stream)| is_overdue(stream)).map(|(server, _)| server.clone()).collect()
    }

    pub(super) fn bytes(&self, server: &NodeId) -> usize {
        self.known(server).map_or(0, |stream| stream.lock().unwrap_or_else(PoisonError::into_inner).0.bytes())
    }
}
