//! What becomes of an envelope that an edge or an app has sent: the one place that says so.
//!
//! Looks only at the envelope, its sender, and the sessions as they are published. Where the recipient is, and whether
//! it is there, is for the lane of each recipient.

use std::sync::Arc;

use super::codes::{Code, Refusal, kind};
use super::envelope::{Dest, Envelope};
use super::ids::{ClientId, EnvelopeId, NodeId, SessionId};
use super::inbox::Upto;
use super::session::{Requester, Role, Session, Unreachable};

/// Who sends, as its key says.
#[derive(Debug, Clone)]
pub struct Sender {
    pub node: NodeId,
    pub client: Option<ClientId>,
    pub role: Role,
}

impl Sender {
    pub fn requester(&self) -> Requester {
        Requester { node: self.node.clone(), role: self.role }
    }

    /// App back ends and operators speak for others, and to sessions that they are no members of.
    pub fn is_trusted(&self) -> bool {
        matches!(self.role, Role::App | Role::Admin)
    }
}

/// What is known here of a session.
pub enum Known {
    Here(Arc<Session>),
    /// Another server is its home, and decides.
    Elsewhere,
    Nowhere,
}

/// The sessions as they are published.
pub trait Sessions {
    fn session(&self, id: &SessionId) -> Known;
}

/// Whom it goes to.
#[derive(Debug)]
pub enum Route {
    Device(NodeId),
    /// A member by its real id, for the server's eyes only; the sender knows it as `shown`.
    Member {
        real: NodeId,
        shown: NodeId,
        session: SessionId,
    },
    Client(ClientId),
    Session(SessionId, Voice),
}

/// By what right somebody speaks in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    Member,
    /// An app, which need not be one.
    App,
}

/// A change of membership asked for over the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    Join,
    Leave,
    Reveal,
}

#[derive(Debug)]
pub enum Decision {
    /// A sign of life and nothing else.
    KeepAlive,
    /// A request for configuration or for the inbox.
    Config,
    AckOne {
        src_id: NodeId,
        id: EnvelopeId,
    },
    AckTo(Upto),
    Membership {
        session: SessionId,
        what: Membership,
    },
    Send {
        route: Route,
        /// Who speaks, by its real id.
        from: NodeId,
        /// How the recipients see the sender.
        src_id: NodeId,
        /// Not told of an anonymous sender.
        src_client_id: Option<ClientId>,
    },
    /// The home of the session decides.
    Elsewhere(SessionId),
    /// The session shows the sender no such member; nothing tells an anonymous member's real id from no id at all.
    NoMember {
        session: SessionId,
        member: NodeId,
    },
    /// Told that it may not speak there; an unknown session looks the same as a foreign one.
    Unauthorized(SessionId),
    Refuse(Refusal),
}

/// See the module's header.
pub fn decide(sender: &Sender, envelope: &Envelope, sessions: &impl Sessions) -> Decision {
    match (&envelope.dest, envelope.kind) {
        (None, kind::ACK) => ack(envelope),
        (None, kind::CONFIG_REQUEST) => Decision::Config,
        (None, _) => Decision::KeepAlive,
        (Some(dest), kind) => to(sender, envelope, dest, kind, sessions),
    }
}

fn ack(envelope: &Envelope) -> Decision {
    match (&envelope.src_id, &envelope.id, envelope.seq) {
        (_, _, Some(seq)) => Decision::AckTo(Upto { seq, epoch: envelope.epoch }),
        (Some(src_id), Some(id), None) => Decision::AckOne { src_id: src_id.clone(), id: id.clone() },
        _ => Decision::Refuse(Refusal::new(Code::BadEnvelope, "an ACK names a seq, or a src_id and an id")),
    }
}

fn to(sender: &Sender, envelope: &Envelope, dest: &Dest, kind: i64, sessions: &impl Sessions) -> Decision {
    let membership = match kind {
        kind::JOINED => Some(Membership::Join),
        kind::LEFT => Some(Membership::Leave),
        kind::REVEALED => Some(Membership::Reveal),
        _ => None,
    };
    let named = |route| {
        let src_id = envelope.src_id.clone().filter(|_| sender.is_trusted());
        let own = src_id.as_ref().is_none_or(|id| *id == sender.node);
        let src_id = src_id.unwrap_or_else(|| sender.node.clone());
        Decision::Send { route, from: src_id.clone(), src_id, src_client_id: sender.client.clone().filter(|_| own) }
    };
    match (dest, membership) {
        (Dest::Session(session), Some(what)) => Decision::Membership { session: session.clone(), what },
        (_, Some(_)) => {
            let message = format!("type {kind} changes a session: it goes with dest_session_id alone");
            Decision::Refuse(Refusal::new(Code::BadEnvelope, message))
        }
        (Dest::Device(node), None) => named(Route::Device(node.clone())),
        (Dest::Client(client), None) => named(Route::Client(client.clone())),
        (Dest::Session(id), None) => match sessions.session(id) {
            Known::Nowhere => Decision::Unauthorized(id.clone()),
            Known::Elsewhere => Decision::Elsewhere(id.clone()),
            Known::Here(session) => match session.sender(speaker(sender, envelope)) {
                Ok(shown) => {
                    masked(sender, Route::Session(id.clone(), Voice::Member), speaker(sender, envelope), shown.id())
                }
                Err(_) if sender.is_trusted() => named(Route::Session(id.clone(), Voice::App)),
                Err(_) => Decision::Unauthorized(id.clone()),
            },
        },
        (Dest::Member { session: id, member }, None) => {
            let session = match sessions.session(id) {
                Known::Here(session) => session,
                Known::Elsewhere => return Decision::Elsewhere(id.clone()),
                Known::Nowhere => return Decision::Unauthorized(id.clone()),
            };
            let from = speaker(sender, envelope);
            match (session.private(from, member), session.shown(from)) {
                (Ok(real), Some(shown)) => {
                    let route = Route::Member { real: real.clone(), shown: member.clone(), session: id.clone() };
                    masked(sender, route, from, shown)
                }
                (Err(Unreachable::Unknown), _) => Decision::NoMember { session: id.clone(), member: member.clone() },
                _ => Decision::Unauthorized(id.clone()),
            }
        }
    }
}

/// In whose name it is said: an app may speak for a device.
fn speaker<'a>(sender: &'a Sender, envelope: &'a Envelope) -> &'a NodeId {
    envelope.src_id.as_ref().filter(|_| sender.is_trusted()).unwrap_or(&sender.node)
}

fn masked(sender: &Sender, route: Route, from: &NodeId, shown: &NodeId) -> Decision {
    let is_named = shown == from && *from == sender.node;
    let src_client_id = sender.client.clone().filter(|_| is_named);
    Decision::Send { route, from: from.clone(), src_id: shown.clone(), src_client_id }
}
