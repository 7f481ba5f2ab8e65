//! The home of the sessions: changes them one after the other, durably, and publishes what they have become.
//!
//! A session is kept by two servers, its home and its deputy, and served by one of them, who *acts* for it. Whoever is
//! asked elsewhere asks that one.
//!
//! Invariants:
//! - a change is decided on the newest value, also one that is not durable yet; it is published, announced and answered
//!   only when it is: here, and at the other server that keeps the session, unless that cannot be reached or does not
//!   answer. When a write fails, everything decided on top of it fails too;
//! - a copy of a session is never replaced, only merged with another one;
//! - what is published are the sessions of which this server is home or deputy.

use crate::model::keyed::{HashMap, HashSet};

mod change;
mod keep;
mod peers;
mod records;
mod ship;
mod take;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use self::change::Line;
use self::peers::{FromMesh, OverMesh, Peers};
use self::ship::Shipping;
use self::take::Taking;
use self::words::{Request, Response};
use super::{Home, Homes};
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{NodeId, SessionId};
use crate::model::session::{Draft, Join, Naming, Pair, Requester, Scribe, Session};
use crate::view::{Acting, View};

pub use self::keep::Asked;
pub use self::records::{Doubtful, load};

/// How long whoever asks waits for the server that acts for the session.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long until somebody is asked again who could not answer yet.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked at who can be reached, and who keeps what.
const LOOK: Duration = Duration::from_millis(100);
/// How often the other keeper of a session is told what it may have missed, and copies that are others' are shipped.
const SEE_TO: Duration = Duration::from_secs(1);

/// What is asked of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Operation {
    Create(Draft),
    Join(SessionId, Join),
    /// `None`: the requester itself.
    Leave(SessionId, Option<NodeId>),
    Reveal(SessionId),
    /// Who may look is for the asker to say: [`Session::info`].
    Look(SessionId),
}

impl Operation {
    pub fn session(&self) -> SessionId {
        match self {
            Self::Create(draft) => draft.id.id(),
            Self::Join(id, _) | Self::Leave(id, _) | Self::Reveal(id) | Self::Look(id) => id.clone(),
        }
    }

    /// Chance is had once, by the server that is asked first: whoever acts for the session follows from its id.
    fn settled(self) -> Self {
        match self {
            Self::Create(draft) => Self::Create(Draft { id: Naming::Chosen(draft.id.id()), ..draft }),
            other => other,
        }
    }

    /// Whether it may be asked again when no answer has come: twice is like once.
    fn is_repeatable(&self) -> bool {
        match self {
            Self::Join(..) | Self::Look(_) => true,
            Self::Create(_) | Self::Leave(..) | Self::Reveal(_) => false,
        }
    }
}

/// Asks for an operation; the one way in for HTTP and socket alike, wherever the session is served.
#[derive(Debug, Message)]
#[rtype(result = "Result<Done, Refusal>")]
pub struct Ask {
    pub by: Requester,
    pub operation: Operation,
}

/// What has come of an operation, durably.
#[derive(Debug, Clone)]
pub struct Done {
    pub id: SessionId,
    /// Whom it was about, as far as the requester may know it.
    pub answer: Option<Pair>,
    /// As the session shows whom it was about, or showed before.
    pub shown: Option<NodeId>,
    /// How many it has now.
    pub members: usize,
    /// Of a session that was created or looked at.
    pub session: Option<Arc<Session>>,
}

/// See the module's header.
pub struct SessionHome {
    scribe: Scribe,
    home: Home,
    view: Arc<View>,
    peers: Arc<dyn Peers>,
    /// Of the sessions that have something pending.
    lines: HashMap<SessionId, Line>,
    /// Of the last change that became pending.
    last: u64,
    doubtful: Doubtful,
    /// Sessions whose other keeper may have missed something.
    unsure: HashSet<SessionId>,
    /// By a keeper that is away: what was changed meanwhile.
    missed: HashMap<NodeId, HashSet<SessionId>>,
    taking: Taking,
    shipping: Shipping,
}

impl Actor for SessionHome {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look(ctx);
        ctx.run_interval(LOOK, Self::look);
        ctx.run_interval(SEE_TO, |home, ctx| {
            home.remind(ctx);
            home.ship(ctx);
        });
    }
}

impl SessionHome {
    /// `doubtful` is what [`load`] has found.
    pub fn new(homes: &Homes, view: Arc<View>, doubtful: Doubtful) -> Self {
        let peers = Arc::new(OverMesh(homes.remote().clone()));
        Self::with(peers, homes.here().clone(), view, doubtful)
    }

    fn with(peers: Arc<dyn Peers>, home: Home, view: Arc<View>, doubtful: Doubtful) -> Self {
        let scribe = Scribe::new(view.mesh.own().clone(), view.mesh.incarnation());
        Self {
            scribe,
            home,
            view,
            peers,
            lines: HashMap::default(),
            last: 0,
            doubtful,
            unsure: HashSet::default(),
            missed: HashMap::default(),
            taking: Taking::default(),
            shipping: Shipping::default(),
        }
    }

    /// Other servers' questions come to `sessions`.
    pub fn open(sessions: Addr<Self>, homes: &Homes) {
        homes.serve_sessions(Arc::new(FromMesh(sessions)));
    }

    /// The other server that keeps the session, if this one does.
    fn partner(&self, id: &SessionId) -> Option<NodeId> {
        let own = self.view.mesh.own();
        let (home, deputy) = self.view.mesh.placement().ranked(id.as_str());
        if home == *own { deputy } else { deputy.filter(|deputy| deputy == own).map(|_| home) }
    }

    fn is_keeper(&self, id: &SessionId) -> bool {
        let own = self.view.mesh.own();
        let (home, deputy) = self.view.mesh.placement().ranked(id.as_str());
        home == *own || deputy.as_ref() == Some(own)
    }

    /// The copy that is on disk here, be this server its keeper or not.
    fn durable(&self, id: &SessionId) -> Option<Arc<Session>> {
        let published = self.view.sessions.get(id).map(|published| published.current());
        published.or_else(|| self.shipping.leaving.get(id).cloned())
    }

    /// The copy with all that was decided.
    fn newest(&self, id: &SessionId) -> Option<Session> {
        let newest = self.lines.get(id).map(|line| line.newest().clone());
        let newest = newest.or_else(|| self.durable(id).map(|session| Session::clone(&session)));
        newest.map(|session| session.written_by(self.scribe.clone()))
    }
}

impl Handler<Ask> for SessionHome {
    type Result = ResponseFuture<Result<Done, Refusal>>;

    fn handle(&mut self, Ask { by, operation }: Ask, ctx: &mut Self::Context) -> Self::Result {
        let operation = operation.settled();
        if self.view.serves(&operation.session()) == Acting::Here {
            return self.operate(&by, &operation, ctx);
        }
        let (view, peers) = (self.view.clone(), self.peers.clone());
        let asking = Asking { view, peers, home: ctx.address(), scribe: self.scribe.clone() };
        Box::pin(asking.ask(by, operation))
    }
}

/// One who asks the server that acts for a session.
struct Asking {
    view: Arc<View>,
    peers: Arc<dyn Peers>,
    home: Addr<SessionHome>,
    scribe: Scribe,
}

impl Asking {
    async fn ask(self, by: Requester, operation: Operation) -> Result<Done, Refusal> {
        let deadline = Instant::now() + PATIENCE;
        let id = operation.session();
        loop {
            match self.view.serves(&id) {
                Acting::Here => {
                    let gone = |_| Err(Refusal::new(Code::Draining, "the server is going away"));
                    return self.home.send(Operate { by, operation }).await.unwrap_or_else(gone);
                }
                Acting::There(server) => {
                    let request = Request::Operate { by: by.clone(), operation: operation.clone() };
                    let response = timeout_at(deadline, self.peers.ask(&server, request)).await;
                    match response.unwrap_or(Response::Unavailable) {
                        Response::Done(told) => return told.done(&self.scribe).ok_or_else(unavailable),
                        Response::Refused(refusal) => return Err(refusal),
                        // It knows better; so shall we.
                        Response::Elsewhere => {}
                        _ if operation.is_repeatable() => {}
                        _ => return Err(unavailable()),
                    }
                }
                Acting::Nobody if self.view.mesh.acting(id.as_str()) == Acting::Nobody => return Err(unavailable()),
                // It may be on its way here.
                Acting::Nobody => {}
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(unavailable());
            }
            sleep(PAUSE).await;
        }
    }
}

fn unavailable() -> Refusal {
    Refusal::new(Code::Unavailable, "the servers that keep this session cannot be reached now; try again later")
}

/// An operation on a session that has come to be served here while it was asked for.
#[derive(Debug, Message)]
#[rtype(result = "Result<Done, Refusal>")]
struct Operate {
    by: Requester,
    operation: Operation,
}

impl Handler<Operate> for SessionHome {
    type Result = ResponseFuture<Result<Done, Refusal>>;

    fn handle(&mut self, Operate { by, operation }: Operate, ctx: &mut Self::Context) -> Self::Result {
        self.operate(&by, &operation, ctx)
    }
}
