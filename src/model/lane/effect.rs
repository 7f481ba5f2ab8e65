//! What a lane asks of the shell, and why.

use super::super::codes::Close;
use super::super::custody::Outcome;
use super::super::frames::Carried;
use super::super::ids::{ConnectionId, NodeId, Seq};
use super::super::outbox::{Class, Item};

/// Why an envelope goes to the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The device has no edge.
    Absent,
    /// It was in the outbox of an edge that makes no progress.
    Stalled,
    /// Its edges make no progress, and this one came since.
    Silent,
    /// Its outbox was full, and this was in it.
    Overflow,
    /// Older ones are in the inbox already.
    Behind,
}

impl Why {
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Stalled => "stalled",
            Self::Silent => "silent",
            Self::Overflow => "overflow",
            Self::Behind => "behind",
        }
    }

    /// Whether the device is to be woken, and the sender told that it is away.
    pub fn is_away(self) -> bool {
        matches!(self, Self::Absent | Self::Stalled | Self::Silent)
    }
}

/// What the shell does next.
#[derive(Debug)]
pub enum Effect<T> {
    /// The edge has something to write.
    Wake(ConnectionId),
    /// The edge has written what it is to be asked about a little later: with [`super::Lane::ask_now`].
    AskLater(ConnectionId),
    /// Into the inbox; answered by [`super::Lane::appended`].
    Append(Item<T>, Why),
    /// To the lane of this device at another server; answered by [`super::Lane::fated`] where `number` is not 0.
    Forward {
        server: NodeId,
        number: u32,
        /// The number of the first that was sent by this way.
        way: u32,
        known: Seq,
        shown: Option<NodeId>,
        envelope: Carried,
    },
    /// Tell the custodian that the device is not here.
    Elsewhere(T),
    /// Tell the sender.
    Settle {
        ticket: T,
        shown: Option<NodeId>,
        outcome: Outcome,
    },
    /// An envelope has expired or was dropped, known by class, for the metrics.
    Count {
        class: Class,
        outcome: Outcome,
    },
    /// [`super::Lane::number`] is another one: the other servers are to be told.
    Renumbered,
    /// The same envelope came again.
    Duplicate,
    /// A FAST envelope was not sent: a newer one has taken its place.
    Replaced,
    /// Read the inbox from `from` on, about `room` bytes; answered by [`super::Lane::page`].
    Read {
        from: Seq,
        room: usize,
        generation: u64,
    },
    /// This place of the inbox is acknowledged.
    Remove(Seq),
    Close(ConnectionId, Close),
}

pub(super) type Effects<T> = Vec<Effect<T>>;
