//! A session is kept by two servers, and while they cannot reach each other both may change it. What tells their copies
//! apart, and how a change gets from one to the other.
//!
//! Every change is made by one server, its *scribe*, in one version of its copy; the two together name the change. A copy
//! knows from each scribe all changes up to a version, which is its *horizon*. So a member that one copy has and another has
//! not was either never heard of there, or has left: the horizon tells which, and nothing need be kept of those who left.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Change, Member, Record, Session, Stored, Version};
use crate::model::ids::{Incarnation, NodeId};

/// The server that makes the changes of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scribe {
    pub server: NodeId,
    /// No change has a lower version: what the server has written in an earlier life, and lost, may be known elsewhere.
    pub floor: Version,
}

impl Scribe {
    /// Four thousand million changes fit into one life of a server.
    pub fn new(server: NodeId, incarnation: Incarnation) -> Self {
        Self { server, floor: Version(incarnation.0.saturating_mul(1 << 32)) }
    }
}

/// Which changes a copy contains: of each scribe all up to a version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Horizon(BTreeMap<NodeId, Version>);

impl Horizon {
    pub(super) fn holds(&self, scribe: &NodeId, version: Version) -> bool {
        self.0.get(scribe).is_some_and(|known| version <= *known)
    }

    pub(super) fn note(&mut self, scribe: &NodeId, version: Version) {
        match self.0.get_mut(scribe) {
            Some(known) => *known = version.max(*known),
            None => {
                self.0.insert(scribe.clone(), version);
            }
        }
    }

    /// The change of `version`, and what has come after it, is not known after all.
    pub(super) fn forget(&mut self, scribe: &NodeId, version: Version) {
        if let Some(known) = self.0.get_mut(scribe) {
            *known = Version(version.0.saturating_sub(1)).min(*known);
        }
    }

    pub(super) fn join(&mut self, other: &Self) {
        other.0.iter().for_each(|(scribe, version)| self.note(scribe, *version));
    }

    /// Whether a copy with this horizon knows all that one with the other knows.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(scribe, version)| self.holds(scribe, *version))
    }
}

/// One change on its way to the other server that keeps the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The horizon of the copy that was changed.
    before: Horizon,
    /// As it is after the change.
    stored: Stored,
    put: Vec<Member>,
    /// Real ids of those who have left.
    gone: Vec<NodeId>,
}

impl Delta {
    /// `before` is the horizon of the copy that the change was decided on: empty for a session that is new.
    pub fn new(before: Horizon, after: &Session, change: &Change) -> Self {
        let (mut put, mut gone) = (Vec::new(), Vec::new());
        for record in &change.records {
            match record {
                Record::Session(_) => {}
                Record::Member(member) => put.push(member.clone()),
                Record::Gone(member) => gone.push(member.node.clone()),
            }
        }
        Self { before, stored: after.stored(), put, gone }
    }

    /// Says only how far `session` is.
    pub fn nothing(session: &Session) -> Self {
        let stored = session.stored();
        Self { before: stored.horizon.clone(), stored, put: Vec::new(), gone: Vec::new() }
    }

    pub fn stored(&self) -> &Stored {
        &self.stored
    }
}

/// What a change that was made elsewhere does to a copy.
#[derive(Debug, Clone)]
pub enum Absorbed {
    /// The copy after the change, and what is to be written.
    Changed(Box<Session>, Vec<Record>),
    /// The copy contains it already.
    Known,
    /// The copies have parted, or this one has missed something: it takes the other as a whole, by [`Session::merge`].
    Behind,
}

/// Takes a change that another server has made into the copy that is here, if there is one.
pub fn absorb(copy: Option<&Session>, delta: Delta, scribe: &Scribe) -> Absorbed {
    let nothing = Horizon::default();
    let horizon = copy.map_or(&nothing, Session::horizon);
    if copy.is_some() && horizon.covers(&delta.stored.horizon) {
        return Absorbed::Known;
    }
    if *horizon != delta.before {
        return Absorbed::Behind;
    }
    let mut records: Vec<Record> = Vec::with_capacity(delta.put.len() + 2);
    let mut session = match copy {
        Some(copy) => copy.clone(),
        None => Session::empty(delta.stored.clone(), scribe.clone()),
    };
    session.version = delta.stored.version;
    session.horizon = delta.stored.horizon.clone();
    for node in &delta.gone {
        let Some(member) = session.member(node).cloned() else { return Absorbed::Behind };
        session.take_out(&member);
        records.push(Record::Gone(member));
    }
    for member in delta.put {
        if let Some(former) = session.member(&member.node).cloned() {
            session.take_out(&former);
        }
        if !session.put(member.clone()) {
            return Absorbed::Behind;
        }
        records.push(Record::Member(member));
    }
    records.push(Record::Session(delta.stored));
    Absorbed::Changed(Box::new(session), records)
}
