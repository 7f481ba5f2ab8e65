//! What servers say to each other: [`Hop`] over one link, [`Dispatch`] from one server to another, whatever lies between.
//!
//! Values only; the bytes are `wire::link`'s, and who does what with them is told by each module that handles them.

use std::sync::Arc;

use bytes::Bytes;

use super::attachments::{Delta, Digest, Snapshot};
use super::codes::Refusal;
use super::custody::{Acquaintance, Counts, Outcome};
use super::decide::Sender;
use super::envelope::Encoded;
use super::ids::{ClientId, EnvelopeId, Incarnation, Millis, NodeId, Seq, SessionId};
use super::lane::{End, Why};
use super::members::Members;
use super::outbox::{Class, Keep};
use super::seen::Key;
use super::topology::Record;

/// Most servers that a frame passes.
pub const MAX_HOPS: u8 = 10;

/// A frame between two servers that are linked.
#[derive(Debug, Clone)]
pub enum Hop {
    Ping {
        counter: u64,
    },
    Pong {
        counter: u64,
        /// The answering server's clock.
        clock: Millis,
    },
    /// Flooded.
    Record(Arc<Record>),
    /// Flooded.
    Delta(Arc<Delta>),
    /// What the sender knows of all attachment lists: when a link begins, and when a delta does not fit.
    Digests(Vec<Digest>),
    /// A list that the receiver's digest has shown to be behind.
    Snapshot(Arc<Snapshot>),
    /// Flooded.
    Members(Arc<Members>),
    /// On its way through the mesh.
    Carry(Carry),
    /// All up to `number` has arrived; on its way back.
    Acked {
        hops: u8,
        to: NodeId,
        /// Who acknowledges.
        by: NodeId,
        /// Of `to`, which numbered them.
        incarnation: Incarnation,
        generation: u64,
        number: u64,
    },
}

/// One body on its way to one or more servers; each link on the way carries it once.
#[derive(Debug, Clone)]
pub struct Carry {
    /// Servers passed.
    pub hops: u8,
    pub origin: NodeId,
    pub incarnation: Incarnation,
    pub stops: Vec<Stop>,
    /// Shared by all stops.
    pub body: Bytes,
}

/// One server that a body is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    pub server: NodeId,
    /// Of the stream from the origin to this server: `model::stream`.
    pub generation: u64,
    /// Place in that stream, from 1.
    pub number: u64,
    /// The [`Dispatch`] without its body.
    pub head: Bytes,
}

/// An envelope between servers: all of an item but who waits for it.
#[derive(Debug, Clone)]
pub struct Carried {
    pub encoded: Encoded,
    pub key: Option<Key>,
    pub seq: Option<Seq>,
    pub class: Class,
    /// Milliseconds left to live.
    pub ttl: Option<u64>,
    pub keep: Arc<Keep>,
}

/// One recipient of an envelope, attached at the receiving server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    pub device: NodeId,
    /// The custodian's number for this recipient's share; 0: nobody waits for the outcome.
    pub number: u64,
    /// How the sender knows it, where that is not its real id.
    pub shown: Option<NodeId>,
    /// The highest place in the recipient's inbox that the custodian has heard of: what is stored up to there goes first.
    pub known: Seq,
    /// Of the custodian's way here: the number of the first share that it lent by it. When one share is refused, all that
    /// were lent by that way are taken back and lent anew, in order.
    pub way: u64,
}

/// What became of one recipient's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Settled(Outcome),
    /// It is not here: the custodian finds another way.
    Elsewhere,
}

/// What is to be done with a device's inbox, without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    Remove(Seq),
    Trim(Seq),
    /// The envelope that the device knows by this key.
    Acknowledge(Key),
}

/// What is done with the edges of a device at a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeWish {
    Count,
    /// They are closed as disconnected by an app or an admin.
    Close,
}

/// From one server to another, in order, and once while both live and can reach each other.
#[derive(Debug, Clone)]
pub enum Dispatch {
    /// For devices attached at the receiver. Answered by [`Dispatch::Fates`].
    Deliver {
        recipients: Vec<Recipient>,
        envelope: Carried,
    },
    /// By the custodian's numbers.
    Fates(Vec<(u64, Fate)>),
    /// The recipient of that share is away and the envelope is in its inbox: the sender is told.
    Away {
        number: u64,
        shown: NodeId,
        acquaintance: Acquaintance,
    },
    /// Into the inbox of `device`, whose home the receiver is. Answered by [`Dispatch::Appended`].
    Append {
        number: u64,
        device: NodeId,
        shown: Option<NodeId>,
        why: Why,
        envelope: Carried,
    },
    /// `None`: it could not be stored.
    Appended {
        number: u64,
        seq: Option<Seq>,
        acquaintance: Acquaintance,
    },
    /// To the home of `device`.
    Errand {
        device: NodeId,
        errand: Errand,
    },
    /// To the home of `device`. Answered by [`Dispatch::Page`].
    Read {
        number: u64,
        device: NodeId,
        from: Seq,
        room: u64,
    },
    /// One more item of the page under way. Its body is the envelope.
    PageItem {
        number: u64,
        envelope: Carried,
    },
    /// The page is whole.
    Page {
        number: u64,
        end: End,
    },
    /// From the home to where `device` is attached: something lies in its inbox.
    Stored {
        device: NodeId,
        seq: Seq,
    },
    /// To who acts for the client: which devices does it have? Answered by [`Dispatch::DevicesAre`] or [`Dispatch::Refused`].
    Devices {
        number: u64,
        client: ClientId,
    },
    DevicesAre {
        number: u64,
        devices: Vec<NodeId>,
    },
    /// To the home of the session that `text` names, as the sender's frame was. Answered by [`Dispatch::Verdict`] or
    /// [`Dispatch::Refused`].
    ToSession {
        number: u64,
        sender: Sender,
        id: EnvelopeId,
        text: Bytes,
    },
    /// What became of an envelope to a session.
    Verdict {
        number: u64,
        counts: Counts,
    },
    Refused {
        number: u64,
        why: Denial,
    },
    /// A frame of the server's own for a device attached at the receiver; memory only.
    Notify {
        device: NodeId,
        frame: Bytes,
    },
    /// Answered by [`Dispatch::EdgesAre`].
    Edges {
        number: u64,
        device: NodeId,
        wish: EdgeWish,
    },
    /// How many edges there are, or were closed.
    EdgesAre {
        number: u64,
        edges: u64,
    },
    /// To who acts for the session: where are its members? Answered by [`Dispatch::GatheringIs`].
    Gathering {
        number: u64,
        session: SessionId,
    },
    /// How many have their newest edge at each server.
    GatheringIs {
        number: u64,
        servers: Vec<(NodeId, u64)>,
    },
    /// A question of one service to the same service of another server, in its own words. Answered by
    /// [`Dispatch::Reply`].
    Ask {
        number: u64,
        question: Bytes,
    },
    Reply {
        number: u64,
        answer: Bytes,
    },
}

/// Why an envelope to a session goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// `SESSION_UNAUTHORIZED`; there may be no such session.
    Unauthorized,
    NoSession,
    NoMember(NodeId),
    Refusal(Refusal),
}
