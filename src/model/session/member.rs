//! A member of a session and the face it wears there.
//!
//! Owns the rule that a real id stays in here: a member is shown to others by [`Member::shown`] and nothing else, and
//! its `Debug` says no more than that, so that a log line cannot undo its anonymity.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::chunked::Keyed;
use crate::model::ids::NodeId;

/// Counts the changes of a session, from 1. At one server, two sessions with the same id and version are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// How a session shows a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Face {
    Named,
    Anonymous(NodeId),
    /// Was anonymous under this id and has revealed itself, for good. The id stays taken while the member stays, lest
    /// somebody else speaks under a name that all now know to be this member's.
    Revealed(NodeId),
}

/// One device in a session, as it is kept in the store: one record each, so that a join is one small write.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub(super) node: NodeId,
    pub(super) face: Face,
    /// The version of the session in which it joined: its place in the order of joining.
    pub(super) joined: Version,
    /// The version of the session in which this record was last changed.
    pub(super) changed: Version,
    /// The server that changed it.
    pub(super) scribe: NodeId,
    /// Whether the owner of the session brought it in, and so knows its mask.
    pub(super) by_owner: bool,
}

impl Member {
    /// The real id: for delivery and for the key in the store, never for other members.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    pub fn anonymous(&self) -> Option<&NodeId> {
        match &self.face {
            Face::Anonymous(id) => Some(id),
            Face::Named | Face::Revealed(_) => None,
        }
    }

    pub fn joined(&self) -> Version {
        self.joined
    }

    pub fn shown(&self) -> Shown<'_> {
        self.anonymous().map_or(Shown::Named(&self.node), Shown::Anonymous)
    }

    pub(super) fn pair(&self) -> Pair {
        Pair { node: self.node.clone(), anonymous: self.anonymous().cloned() }
    }

    /// The ids by which this member is known, besides the real one.
    pub(super) fn mask(&self) -> Option<&NodeId> {
        match &self.face {
            Face::Named => None,
            Face::Anonymous(id) | Face::Revealed(id) => Some(id),
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({})", self.shown().id())
    }
}

impl Keyed for Member {
    type Key = Version;
    fn key(&self) -> &Version {
        &self.joined
    }
}

/// A member as the others of its session may know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    /// By its real id.
    Named(&'a NodeId),
    /// By its anonymous id; nothing else that would betray it (client id, address) may go along.
    Anonymous(&'a NodeId),
}

impl<'a> Shown<'a> {
    pub fn id(self) -> &'a NodeId {
        match self {
            Self::Named(id) | Self::Anonymous(id) => id,
        }
    }
}

/// A device's real id and its anonymous one, for itself and for those who may know both.
/// Serialised as row A41 has it: `["alice", "anonymous_5f"]` or `["alice", null]`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "(NodeId, Option<NodeId>)")]
pub struct Pair {
    pub node: NodeId,
    pub anonymous: Option<NodeId>,
}

impl From<(NodeId, Option<NodeId>)> for Pair {
    fn from((node, anonymous): (NodeId, Option<NodeId>)) -> Self {
        Self { node, anonymous }
    }
}

impl Serialize for Pair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.node, &self.anonymous).serialize(serializer)
    }
}

/// Without the real id: the pair given to an inviter has it and lacks the mask that the others see.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pair({})", self.anonymous.as_ref().map_or("named", NodeId::as_str))
    }
}
