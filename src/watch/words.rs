//! What operators ask of a server, and what it tells: between servers as JSON, as words of `Question::Watch`.
//!
//! Fields are only ever added: servers of two versions speak to each other while a mesh is renewed. One that does not know a
//! question does not answer it, and is shown as silent.

use serde::{Deserialize, Serialize};

use crate::model::history::Columns;
use crate::model::ids::{EnvelopeId, Millis, NodeId, Seq};
use crate::push::LastPush;

/// What is asked of one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Asked {
    /// The last `points` readings of its figures.
    Vitals { points: usize },
    /// How the edges of this device are.
    Device { device: NodeId },
    /// What is known of this envelope; `device`: in whose inbox it is looked for, if not in all.
    Envelope { sender: NodeId, id: EnvelopeId, device: Option<NodeId> },
    /// It is to go away; `by` whom, for its log.
    Drain { by: NodeId },
}

/// What is told. Another kind than was asked for counts as no answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Told {
    Vitals(Box<Vitals>),
    Device(DeviceHere),
    Envelope(Sightings),
    Draining,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Vitals {
    pub version: String,
    /// The server's clock.
    pub now: Millis,
    pub links: Vec<LinkLevel>,
    pub history: Columns,
}

/// One of the server's own links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkLevel {
    pub peer: NodeId,
    pub queue_bytes: usize,
    pub unacknowledged_bytes: usize,
}

/// A device at one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceHere {
    pub edges: Vec<EdgeHere>,
    /// Its inbox is being read to it before anything newer goes out.
    pub catches_up: bool,
    /// What this server has sent on to the one where the device is, and that is not answered for.
    pub sent_on: Option<SentOn>,
    /// Since this server started, and for the devices that were pushed to last.
    pub last_push: Option<LastPush>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeHere {
    pub connection: u64,
    /// Of several edges of a device that with the highest number serves.
    pub attachment: u64,
    /// `moving`, `stalled` or `leaving`.
    pub state: String,
    pub waiting: usize,
    pub unacknowledged: usize,
    pub queue_bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentOn {
    pub to: NodeId,
    pub envelopes: usize,
    pub bytes: usize,
}

/// What one server knows of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sightings {
    pub found: Vec<Sighted>,
    /// Its inboxes and held mail were too much to be looked through in the time that there is.
    pub searched_all: bool,
}

/// One place where an envelope is, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighted {
    /// For which recipient; absent where that is not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<NodeId>,
    pub state: State,
    /// Whether this server answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custodian: Option<bool>,
    /// The server, session or client that it is on its way to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Its place in the inbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Millis>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In the outbox of an edge: waits for the socket.
    Waits,
    /// Written to the socket, and not acknowledged yet.
    Written,
    /// Sent to the server where the device is, which has not said what became of it.
    SentOn,
    /// Waits until it is known which devices its client has.
    AsksForDevices,
    /// With the server that acts for its session or client, or waiting for one.
    Posted,
    /// On its way into the inbox.
    Storing,
    /// Durable in the inbox.
    Inbox,
    /// Durable here, because the home of the inbox cannot be reached.
    Held,
    /// Acknowledged by the device. This and the following are remembered for minutes.
    Delivered,
    /// It went into the inbox.
    Stored,
    /// Nobody has it, as its class or its time to live allows.
    Dropped,
    /// It could be neither delivered nor stored.
    Failed,
}
