//! How far an envelope has come in an outbox: for people who look for it.

use super::super::ids::{EnvelopeId, NodeId};
use super::super::seen::Key;
use super::{Custody, Item, Outbox, Waiting};

/// See the module's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waits for the socket.
    Waits,
    /// It is written, and not acknowledged.
    Written,
}

/// An envelope as people name it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Of sender and id.
    pub key: Key,
    pub sender: &'a NodeId,
    pub id: &'a EnvelopeId,
}

impl Wanted<'_> {
    /// One whose sender wears a mask is known by that, or by its real id where its key says so.
    pub fn is<T>(&self, item: &Item<T>) -> bool {
        item.key == Some(self.key) || item.keep.is(self.sender, self.id)
    }
}

impl<T> Outbox<T> {
    /// Takes as long as the outbox.
    pub fn stages(&self, wanted: Wanted<'_>) -> Vec<(Stage, Custody)> {
        let written = self.unacked.iter().map(|(_, item)| (Stage::Written, item));
        let waiting = self.queue.iter().filter_map(Waiting::item).chain(self.newest.items());
        let all = written.chain(waiting.map(|item| (Stage::Waits, item)));
        all.filter(|(_, item)| wanted.is(item)).map(|(stage, item)| (stage, item.custody)).collect()
    }

    /// How many envelopes wait, and how many are written and not acknowledged.
    pub fn counts(&self) -> (usize, usize) {
        let waiting = self.queue.iter().filter(|waiting| !matches!(waiting, Waiting::Notice(_))).count();
        (waiting, self.unacked.len())
    }
}
