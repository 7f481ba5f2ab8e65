//! What servers say to each other about sessions, as JSON: the words of [`super::peers::Peers`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Done, Operation};
use crate::model::codes::Refusal;
use crate::model::ids::{NodeId, SessionId};
use crate::model::session::{Delta, Horizon, Member, Pair, Requester, Scribe, Session, Stored, Version};

/// What one server asks of another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Request {
    /// To who acts for the session.
    Operate { by: Requester, operation: Operation },
    /// To the other server that keeps the session. Answered by [`Response::Kept`] when it is on disk.
    Keep(Box<Delta>),
    /// The sessions that the asker is to keep, as far as the server asked has them; those after `after`, by id.
    List { after: Option<SessionId> },
    /// A part of a copy: the members whose places are after `after`; `None` begins anew.
    Fetch { session: SessionId, after: Option<Version> },
    /// Which of these copies the server asked has on disk, as far as the asker's go.
    Holds(Vec<(SessionId, Horizon)>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Response {
    Done(Box<Told>),
    Refused(Refusal),
    /// Another one acts for the session, or what this server needs to know of it is still on its way here.
    Elsewhere,
    Kept,
    /// Its copy has missed something; it will fetch the whole.
    Behind,
    Listed {
        sessions: Vec<(SessionId, Horizon)>,
        more: bool,
    },
    /// `None`: there is no such session here.
    Part(Option<Box<Part>>),
    Holds(Vec<SessionId>),
    Unavailable,
}

/// [`Done`] between servers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    id: SessionId,
    answer: Option<Pair>,
    shown: Option<NodeId>,
    members: usize,
    session: Option<(Stored, Vec<Member>)>,
}

impl Told {
    pub(super) fn of(done: Done) -> Self {
        let Done { id, answer, shown, members, session } = done;
        let whole = |session: Arc<Session>| (session.stored(), session.members().cloned().collect());
        Self { id, answer, shown, members, session: session.map(whole) }
    }

    /// `None` for records that contradict each other, which another server's fault alone can bring about.
    pub(super) fn done(self, scribe: &Scribe) -> Option<Done> {
        let Self { id, answer, shown, members, session } = self;
        let session = match session {
            Some((stored, members)) => Some(Arc::new(Session::load(stored, members, scribe.clone()).ok()?)),
            None => None,
        };
        Some(Done { id, answer, shown, members, session })
    }
}

/// Some members of a copy, in the order of their places.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    pub stored: Stored,
    pub members: Vec<Member>,
    /// Further members follow.
    pub more: bool,
}
