//! Which device is attached at which server: numbered lists, one for each server, kept in step by deltas.

use super::ids::{ClientId, Incarnation, NodeId};

/// One device that has an edge at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub device: NodeId,
    pub client: Option<ClientId>,
    /// Of several attachments of a device the highest number is the newest; ties go by the server's id.
    pub number: u64,
}

/// One change of a server's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Attached(Attachment),
    Detached(NodeId),
}

/// Changes of one server's list, which was at `from` and is at `from + changes.len()` after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    pub server: NodeId,
    pub incarnation: Incarnation,
    pub from: u64,
    pub changes: Vec<Change>,
}

/// A part of a server's whole list as it was at `number`; the parts of one list come in order over one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub server: NodeId,
    pub incarnation: Incarnation,
    pub number: u64,
    pub part: u32,
    /// How many parts the list has.
    pub parts: u32,
    pub attachments: Vec<Attachment>,
}

/// Which list somebody has, and how far: for finding out what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    pub server: NodeId,
    pub incarnation: Incarnation,
    pub number: u64,
}
