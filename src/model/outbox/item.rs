//! What lies in an outbox: one envelope on its way to one device, and what is kept of it.

use std::sync::Arc;

use super::super::envelope::Encoded;
use super::super::ids::{EnvelopeId, Millis, NodeId, Seq, SessionId};
use super::super::seen::Key;
use super::asking::Prompt;

/// An item without bytes still costs memory.
const ITEM_OVERHEAD: usize = 128;

/// One envelope on its way to one device. `T` is how its sender is told of the outcome.
#[derive(Debug, Clone)]
pub struct Item<T> {
    pub encoded: Encoded,
    /// How duplicates are recognised; `None` where the sender gave no `id`.
    pub key: Option<Key>,
    /// Place in the inbox, when it came from there.
    pub seq: Option<Seq>,
    pub class: Class,
    pub ticket: Option<T>,
    /// Those who sent the same envelope again while it was under way.
    pub repeats: Vec<T>,
    /// When to forget it.
    pub expires: Option<Millis>,
    /// What is the same for all recipients of the envelope.
    pub keep: Arc<Keep>,
    /// The recipient as the sender may know it, where that is not its real id.
    pub shown: Option<NodeId>,
    pub custody: Custody,
}

impl<T> Item<T> {
    pub fn cost(&self) -> usize {
        self.encoded.frame().len() + ITEM_OVERHEAD
    }

    /// Replay is paced by acknowledgements, and leaves the inbox by them.
    pub(super) fn prompt(&self) -> Prompt {
        if self.seq.is_some() { Prompt::Soon } else { self.keep.prompt }
    }

    /// Its cost, if it came from the inbox.
    pub(super) fn replayed(&self) -> usize {
        self.seq.map_or(0, |_| self.cost())
    }

    /// Nobody but its outbox has it.
    pub(super) fn is_unstored(&self) -> bool {
        self.class == Class::Reliable && self.seq.is_none()
    }
}

/// What an envelope's inbox record holds besides its bytes, what an ACK names, and what a push may say.
#[derive(Debug)]
pub struct Keep {
    /// The sender as recipients may know it.
    pub sender: NodeId,
    pub id: EnvelopeId,
    pub collapse: Option<Key>,
    pub kind: i64,
    /// When this server took it.
    pub timestamp: Millis,
    pub session: Option<SessionId>,
    pub prompt: Prompt,
}

impl Keep {
    pub(super) fn is(&self, sender: &NodeId, id: &EnvelopeId) -> bool {
        self.id == *id && self.sender == *sender
    }
}

/// Which server must see to it that an item arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Custody {
    /// This one.
    Own,
    /// Another one, which has lent it to this one and finds another way where this one cannot.
    Lent(Loan),
}

/// One custodian's way to one lane here, from when it begins to lend until it takes back all that is open. What comes by
/// one way is in its custodian's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loan(pub u64);

/// What is done for an item after it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Kept until acknowledged; goes to the inbox when that fails.
    Reliable,
    /// Kept until acknowledged only because its sender asked for a confirmation; never stored.
    FastTracked,
    /// Forgotten once written.
    Fast,
}
