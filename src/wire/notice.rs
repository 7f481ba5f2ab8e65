//! What the server says of its own accord, as frames: confirmations, errors, absences, comings and goings.
//!
//! Owns the fields of each, `type` always first. A notice knows only what its reader may know: whoever makes one about
//! an anonymous member puts the anonymous id in. The answer to a config request is in [`super::config_request`].

use serde::Serialize;
use serde_json::value::RawValue;

use super::frame::TextFrame;
use crate::model::codes::{Code, Refusal, kind};
use crate::model::envelope::{Encoded, Envelope, Status};
use crate::model::ids::{ClientId, EnvelopeId, Millis, NodeId, SessionId};
use crate::model::session::Pair;

/// A notice, ready to be encoded.
pub trait Notice: Serialize {
    /// The `type` on the wire.
    fn kind(&self) -> i64;

    fn encode(&self) -> Encoded
    where
        Self: Sized,
    {
        // Longer ones only cost another allocation.
        let mut frame = TextFrame::with_capacity(256);
        frame.json(&Typed { kind: self.kind(), notice: self });
        frame.finish()
    }
}

#[derive(Serialize)]
struct Typed<'a, T> {
    #[serde(rename = "type")]
    kind: i64,
    #[serde(flatten)]
    notice: &'a T,
}

macro_rules! kind_of {
    ($($notice:ident => $kind:path),* $(,)?) => {
        $(impl Notice for $notice<'_> {
            fn kind(&self) -> i64 {
                $kind
            }
        })*
    };
}

kind_of! {
    Confirmation => kind::CONFIRMATION,
    ErrorNotice => kind::ERROR,
    UserOffline => kind::USER_OFFLINE,
    NodeUnknown => kind::NODE_UNKNOWN,
    SessionUnauthorized => kind::SESSION_UNAUTHORIZED,
    GoingAway => kind::GOING_AWAY,
    OnlineSnapshot => kind::ONLINE,
}

/// What became of an envelope that asked with a `reference`.
#[derive(Debug, Clone, Serialize)]
pub struct Confirmation<'a> {
    pub reference: &'a str,
    pub id: &'a EnvelopeId,
    pub status: Status,
    /// Recipients by what became of their copy.
    pub delivered: u32,
    pub stored: u32,
    pub dropped: u32,
    /// Of a change of membership: who the member is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Membered<'a>>,
}

/// Who somebody is in a session, for the eyes of whoever made it a member.
#[derive(Debug, Clone, Serialize)]
pub struct Membered<'a> {
    pub session_id: &'a SessionId,
    pub node_id: &'a NodeId,
    pub anonymous_id: Option<&'a NodeId>,
}

impl<'a> Membered<'a> {
    pub fn of(session_id: &'a SessionId, pair: &'a Pair) -> Self {
        Self { session_id, node_id: &pair.node, anonymous_id: pair.anonymous.as_ref() }
    }
}

/// A frame was refused.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorNotice<'a> {
    pub code: Code,
    /// For a person.
    pub message: &'a str,
    #[serde(flatten)]
    pub about: About<'a>,
}

/// Which frame of the sender's a notice is about, as far as that could be read.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct About<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a EnvelopeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<&'a str>,
}

impl<'a> About<'a> {
    /// `id` is the one that the server gave where the sender gave none.
    pub fn envelope(envelope: &'a Envelope, id: Option<&'a EnvelopeId>) -> Self {
        Self { id: envelope.id.as_ref().or(id), reference: envelope.reference.as_deref() }
    }
}

impl<'a> ErrorNotice<'a> {
    pub fn of(refusal: &'a Refusal, about: About<'a>) -> Self {
        Self { code: refusal.code, message: &refusal.message, about }
    }
}

/// A recipient is not there; a RELIABLE envelope waits in its inbox.
#[derive(Debug, Clone, Serialize)]
pub struct UserOffline<'a> {
    /// The recipient, as the sender may know it.
    pub src_id: &'a NodeId,
    /// Of the envelope.
    pub id: &'a EnvelopeId,
    pub timestamp: Millis,
    /// Where the envelope was for a session, or for a member of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_session_id: Option<&'a SessionId>,
}

/// No device of this name was ever here, the client has none, or the session shows no such member.
#[derive(Debug, Clone, Serialize)]
pub struct NodeUnknown<'a> {
    /// The sender, to whom this goes.
    pub dest_id: &'a NodeId,
    #[serde(flatten)]
    pub who: Nobody<'a>,
    /// Of the envelope.
    pub id: &'a EnvelopeId,
    pub timestamp: Millis,
}

/// The name that nobody has.
#[derive(Debug, Clone, Serialize)]
pub enum Nobody<'a> {
    #[serde(rename = "src_id")]
    Node(&'a NodeId),
    #[serde(rename = "src_client_id")]
    Client(&'a ClientId),
}

/// The sender is no member of the session.
#[derive(Debug, Clone, Serialize)]
pub struct SessionUnauthorized<'a> {
    /// The sender, to whom this goes.
    pub dest_id: &'a NodeId,
    pub dest_session_id: &'a SessionId,
    #[serde(flatten)]
    pub about: About<'a>,
    pub timestamp: Millis,
}

/// The server drains.
#[derive(Debug, Clone, Serialize)]
pub struct GoingAway<'a> {
    pub reconnect_after_ms: u64,
    /// Another server, as pre-connection info gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<&'a RawValue>,
}

/// What a member did. JOINED, LEFT and REVEALED are envelopes with a place in the session's order; ONLINE and OFFLINE
/// are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    Joined,
    Left,
    Revealed,
    Online,
    Offline,
}

/// A member of a session came, went, or showed itself.
#[derive(Debug, Clone, Serialize)]
pub struct MemberNotice<'a> {
    #[serde(skip)]
    pub what: Membership,
    /// The member as the session shows it.
    pub src_id: &'a NodeId,
    pub dest_session_id: &'a SessionId,
    pub timestamp: Millis,
    /// What duplicates are recognised by; none for ONLINE and OFFLINE, which are not repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a EnvelopeId>,
    /// Place in the session's order.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub order: Option<SessionOrder>,
    /// REVEALED: the real id.
    #[serde(rename = "payload", skip_serializing_if = "Option::is_none")]
    pub real_id: Option<&'a NodeId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SessionOrder {
    pub session_epoch: u64,
    pub session_seq: u64,
}

impl Membership {
    /// By the `type` on the wire.
    pub fn of(kind: i64) -> Option<Self> {
        match kind {
            kind::JOINED => Some(Self::Joined),
            kind::LEFT => Some(Self::Left),
            kind::REVEALED => Some(Self::Revealed),
            kind::ONLINE => Some(Self::Online),
            kind::OFFLINE => Some(Self::Offline),
            _ => None,
        }
    }
}

impl Notice for MemberNotice<'_> {
    fn kind(&self) -> i64 {
        match self.what {
            Membership::Joined => kind::JOINED,
            Membership::Left => kind::LEFT,
            Membership::Revealed => kind::REVEALED,
            Membership::Online => kind::ONLINE,
            Membership::Offline => kind::OFFLINE,
        }
    }
}

/// Who is there, for a newcomer to a session with presence: an ONLINE that names all at once.
#[derive(Debug, Clone, Serialize)]
pub struct OnlineSnapshot<'a> {
    pub dest_session_id: &'a SessionId,
    pub timestamp: Millis,
    pub payload: OnlineList<'a>,
}

#[derive(Debug, Clone, Serialize)]
pub struct OnlineList<'a> {
    /// Members as the session shows them.
    pub online: &'a [NodeId],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(notice: &impl Notice) -> String {
        String::from_utf8(notice.encode().text().to_vec()).unwrap()
    }

    #[test]
    fn every_notice_as_it_stands_on_the_wire() {
        let (alice, bob): (NodeId, NodeId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let session: SessionId = "s1".parse().unwrap();
        let id: EnvelopeId = "m\"1".parse().unwrap();
        let timestamp = Millis(17);
        let confirmation = Confirmation {
            reference: "r\n",
            id: &id,
            status: Status::Stored,
            delivered: 2,
            stored: 1,
            dropped: 0,
            payload: None,
        };
        assert_eq!(
            said(&confirmation),
            r#"{"type":-7,"reference":"r\n","id":"m\"1","status":"stored","delivered":2,"stored":1,"dropped":0}"#
        );
        let refusal = Refusal::new(Code::TooLarge, "too much");
        assert_eq!(
            said(&ErrorNotice::of(&refusal, About::default())),
            r#"{"type":-8,"code":"too_large","message":"too much"}"#
        );
        assert_eq!(
            said(&ErrorNotice::of(&refusal, About { id: Some(&id), reference: None })),
            r#"{"type":-8,"code":"too_large","message":"too much","id":"m\"1"}"#
        );
        let mut offline = UserOffline { src_id: &bob, id: &id, timestamp, dest_session_id: None };
        assert_eq!(said(&offline), r#"{"type":-4,"src_id":"bob","id":"m\"1","timestamp":17}"#);
        offline.dest_session_id = Some(&session);
        assert_eq!(said(&offline), r#"{"type":-4,"src_id":"bob","id":"m\"1","timestamp":17,"dest_session_id":"s1"}"#);
        assert_eq!(
            said(&NodeUnknown { dest_id: &alice, who: Nobody::Node(&bob), id: &id, timestamp }),
            r#"{"type":-3,"dest_id":"alice","src_id":"bob","id":"m\"1","timestamp":17}"#
        );
        assert_eq!(
            said(&SessionUnauthorized {
                dest_id: &alice,
                dest_session_id: &session,
                about: About::default(),
                timestamp
            }),
            r#"{"type":-5,"dest_id":"alice","dest_session_id":"s1","timestamp":17}"#
        );
        let offer = RawValue::from_string(r#"{"node_id":"n2"}"#.to_owned()).unwrap();
        assert_eq!(
            said(&GoingAway { reconnect_after_ms: 5, offer: Some(&offer) }),
            r#"{"type":-9,"reconnect_after_ms":5,"offer":{"node_id":"n2"}}"#
        );
        assert_eq!(said(&GoingAway { reconnect_after_ms: 5, offer: None }), r#"{"type":-9,"reconnect_after_ms":5}"#);
        let online = OnlineList { online: &[alice.clone(), bob.clone()] };
        assert_eq!(
            said(&OnlineSnapshot { dest_session_id: &session, timestamp, payload: online }),
            r#"{"type":105,"dest_session_id":"s1","timestamp":17,"payload":{"online":["alice","bob"]}}"#
        );
    }

    #[test]
    fn a_members_notices() {
        let (shown, real): (NodeId, NodeId) = ("anonymous_7".parse().unwrap(), "alice".parse().unwrap());
        let session: SessionId = "s1".parse().unwrap();
        let id: EnvelopeId = "m1".parse().unwrap();
        let plain = MemberNotice {
            what: Membership::Joined,
            src_id: &shown,
            dest_session_id: &session,
            timestamp: Millis(17),
            id: None,
            order: None,
            real_id: None,
        };
        for (what, kind) in [
            (Membership::Joined, 100),
            (Membership::Left, 103),
            (Membership::Revealed, 104),
            (Membership::Online, 105),
            (Membership::Offline, 106),
        ] {
            assert_eq!(
                said(&MemberNotice { what, ..plain.clone() }),
                format!(r#"{{"type":{kind},"src_id":"anonymous_7","dest_session_id":"s1","timestamp":17}}"#)
            );
        }
        let order = Some(SessionOrder { session_epoch: 3, session_seq: 9 });
        let revealed = MemberNotice { what: Membership::Revealed, id: Some(&id), order, real_id: Some(&real), ..plain };
        assert_eq!(
            said(&revealed),
            r#"{"type":104,"src_id":"anonymous_7","dest_session_id":"s1","timestamp":17,"id":"m1","session_epoch":3,"session_seq":9,"payload":"alice"}"#
        );
    }
}
