//! The envelope: one message with its addressing, as a dialect has decoded it.
//!
//! Owns what the routing needs in typed form and keeps all else as bytes that nobody here looks at. An envelope never
//! changes: what the server adds is a [`Stamp`], and both together are encoded once into bytes that every queue shares.

use bytes::Bytes;
use serde::Serialize;

use super::codes::kind;
use super::ids::{ClientId, EnvelopeId, Epoch, Millis, NodeId, Seq, SessionId};

/// Whom an envelope is for. `dest_id` goes before `dest_client_id`, that before `dest_session_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dest {
    /// One device, also oneself.
    Device(NodeId),
    /// One member of a session, by the id under which the session shows it.
    Member { session: SessionId, member: NodeId },
    /// All devices of a client but the sending one.
    Client(ClientId),
    /// All members of a session but the sending device.
    Session(SessionId),
}

/// How much is promised for an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Delivered, stored, or its sender is told.
    Reliable,
    /// Memory only, never stored.
    Fast,
}

impl Feature {
    /// The class of a type where the sender names none (row A22).
    pub fn default_for(kind: i64) -> Self {
        if kind >= 1 { Self::Reliable } else { Self::Fast }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Reliable => "reliable",
            Self::Fast => "fast",
        }
    }
}

/// What became of an envelope, as a CONFIRMATION says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All recipients have it.
    Delivered,
    /// All recipients have it or will find it in their inbox.
    Stored,
    /// FAST, and nobody was there.
    Dropped,
}

/// What an edge received, decoded. Identity fields that a device may not set are already gone from `members`.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// `None`: a control frame or a keep-alive.
    pub dest: Option<Dest>,
    /// `type`; [`kind::EPHEMERAL`] when absent.
    pub kind: i64,
    /// As the sender gave it; the server gives one where it is absent.
    pub id: Option<EnvelopeId>,
    pub feature: Feature,
    /// Asks for a CONFIRMATION.
    pub reference: Option<String>,
    pub ttl_ms: Option<u64>,
    pub collapse_key: Option<String>,
    /// The `src_id` claimed. Only in an ACK (whose envelope is acknowledged) and from an app key; else it is not read.
    pub src_id: Option<NodeId>,
    /// `seq`, only in an ACK.
    pub seq: Option<Seq>,
    /// `epoch`, only in an ACK: that of `seq`.
    pub epoch: Option<Epoch>,
    /// The JSON of `payload`, byte for byte; for control frames and push titles.
    pub payload: Option<Bytes>,
    /// The members of the object to pass on, byte for byte as they came (without the braces, comma-separated):
    /// everything but the fields that only a server sets.
    pub members: Bytes,
}

impl Envelope {
    /// The session that it is for, as a whole or for one member.
    pub fn session(&self) -> Option<&SessionId> {
        match &self.dest {
            Some(Dest::Session(session) | Dest::Member { session, .. }) => Some(session),
            Some(Dest::Device(_) | Dest::Client(_)) | None => None,
        }
    }

    pub fn is_keep_alive(&self) -> bool {
        self.dest.is_none() && !matches!(self.kind, kind::CONFIG_REQUEST | kind::ACK)
    }
}

/// What the server says about an envelope, and only the server.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The sender as the recipients may know it: the anonymous id where it has one.
    pub src_id: NodeId,
    /// Absent for an anonymous sender.
    pub src_client_id: Option<ClientId>,
    pub timestamp: Millis,
    /// Set where the sender gave no `id`.
    pub id: Option<EnvelopeId>,
    /// Place in a session's order: epoch and number.
    pub session: Option<(u64, u64)>,
}

/// An envelope as bytes: one WebSocket text frame, as a server sends it, of which `text` is the JSON. Shared by all
/// queues it enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    frame: Bytes,
    header: u8,
}

impl Encoded {
    /// `frame` is a whole unmasked text frame whose first `header` bytes come before the JSON.
    pub fn new(frame: Bytes, header: u8) -> Self {
        debug_assert!(usize::from(header) <= frame.len());
        Self { frame, header }
    }

    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    pub fn text(&self) -> Bytes {
        self.frame.slice(usize::from(self.header)..)
    }
}
