//! Copies that come from other servers.
//!
//! A server that starts among others, or joins them, is *returning*: it serves nothing that its deputies may have changed
//! meanwhile, until it has taken that back.
//!
//! Whenever another member comes within reach, and whenever the members change, this server asks it for all that it has of
//! the sessions that are to be kept here, and merges that into its own. Until it has asked all, or [`ENOUGH_MS`] have
//! passed, it does not say of a session that there is none: it may be on its way.

use std::sync::Arc;

use actix::prelude::*;

use super::SessionHome;
use super::peers::Peers;
use super::words::{Request, Response};
use crate::model::ids::{Incarnation, Millis, NodeId, SessionId};
use crate::model::keyed::{HashMap, HashSet};
use crate::model::session::{Horizon, Scribe, Session};
use crate::view::{Kept, steady};

/// How long what may be on its way is waited for, in milliseconds.
const ENOUGH_MS: u64 = 3_000;
/// How long until a member is asked again that did not answer, in milliseconds.
const AGAIN_MS: u64 = 500;

/// What this server has asked others for, and they it.
#[derive(Default)]
pub(super) struct Taking {
    /// The members as they were when all were asked anew.
    members: Vec<NodeId>,
    /// When that was.
    since: Millis,
    /// Who was asked for everything since, and in which life it answered.
    asked: HashMap<NodeId, Incarnation>,
    asking: HashSet<NodeId>,
    /// Not before: who has not answered.
    again: HashMap<NodeId, Millis>,
    fetching: HashSet<(NodeId, SessionId)>,
    /// What others are being told: the ids of a list, and copies of which parts are still to be asked for.
    pub(super) lists: HashMap<NodeId, Vec<SessionId>>,
    pub(super) fetched: HashMap<(NodeId, SessionId), Arc<Session>>,
}

impl SessionHome {
    /// Looks who can be reached, and who is a member.
    pub(super) fn look(&mut self, ctx: &mut Context<Self>) {
        let (routes, placement) = (self.view.mesh.routes(), self.view.mesh.placement());
        let now = steady();
        if self.taking.members != placement.members() {
            let was_alone = self.taking.members.len() <= 1;
            if was_alone && placement.members().len() > 1 {
                self.view.mesh.returning().begin(Kept::Sessions);
            }
            self.missed.retain(|server, _| placement.members().contains(server));
            self.taking.members = placement.members().to_vec();
            self.taking.since = now;
            self.taking.asked.clear();
            self.taking.again.clear();
            self.sort_out();
        }
        let taking = &mut self.taking;
        taking.asked.retain(|server, life| routes.incarnation(server) == Some(*life));
        taking.lists.retain(|server, _| routes.is_reachable(server));
        taking.fetched.retain(|(server, _), _| routes.is_reachable(server));
        let own = self.view.mesh.own();
        let others: Vec<NodeId> = taking.members.iter().filter(|member| *member != own).cloned().collect();
        let reached = others.iter().filter_map(|server| Some((server, routes.incarnation(server)?)));
        let due = reached.filter(|(server, _)| {
            let waits = taking.again.get(*server).is_some_and(|again| now < *again);
            !waits && !taking.asked.contains_key(*server) && !taking.asking.contains(*server)
        });
        let due: Vec<(NodeId, Incarnation)> = due.map(|(server, life)| (server.clone(), life)).collect();
        if others.iter().all(|server| taking.asked.contains_key(server)) || now.since(taking.since) >= ENOUGH_MS {
            self.view.sessions.all_here(placement);
            self.view.mesh.returning().end(Kept::Sessions);
        }
        for (server, life) in due {
            self.ask_for_all(server, life, ctx);
        }
    }

    fn ask_for_all(&mut self, server: NodeId, life: Incarnation, ctx: &mut Context<Self>) {
        self.taking.asking.insert(server.clone());
        let (taker, members) = (self.taker(&server, ctx), self.taking.members.clone());
        ctx.spawn(taker.all().into_actor(self).map(move |outcome, home, _| {
            let taking = &mut home.taking;
            taking.asking.remove(&server);
            match outcome {
                Ok(()) if taking.members == members => {
                    taking.asked.insert(server, life);
                }
                // Others are to be kept here by now: it is asked anew.
                Ok(()) => {}
                Err(Silent) => {
                    taking.again.insert(server, steady().plus(AGAIN_MS));
                }
            }
        }));
    }

    fn taker(&self, server: &NodeId, ctx: &mut Context<Self>) -> Taker {
        let (peers, home, scribe) = (self.peers.clone(), ctx.address(), self.scribe.clone());
        Taker { peers, home, scribe, server: server.clone() }
    }

    /// Another server has more of this session than we.
    pub(super) fn fetch_soon(&mut self, server: &NodeId, id: SessionId, ctx: &mut Context<Self>) {
        if !self.taking.fetching.insert((server.clone(), id.clone())) {
            // It is reminded of later, if that is not enough.
            return;
        }
        let (taker, server) = (self.taker(server, ctx), server.clone());
        let fetched = async move {
            // Who does not answer now reminds us later.
            let _ = taker.one(&id).await;
            id
        };
        ctx.spawn(fetched.into_actor(self).map(move |id, home, _| {
            home.taking.fetching.remove(&(server, id));
        }));
    }
}

/// The other server does not answer, or what it has cannot be written here now.
#[derive(Debug)]
struct Silent;

/// One who fetches copies from one server.
struct Taker {
    peers: Arc<dyn Peers>,
    home: Addr<SessionHome>,
    scribe: Scribe,
    server: NodeId,
}

impl Taker {
    /// All that is to be kept here.
    async fn all(self) -> Result<(), Silent> {
        let mut after = None;
        loop {
            let listed = self.peers.ask(&self.server, Request::List { after: after.clone() }).await;
            let Response::Listed { sessions, more } = listed else { return Err(Silent) };
            let last = sessions.last().map(|(id, _)| id.clone());
            let lacking = self.home.send(Lacking(sessions)).await.map_err(|_| Silent)?;
            for id in lacking {
                self.one(&id).await?;
            }
            match last {
                Some(last) if more => after = Some(last),
                _ => return Ok(()),
            }
        }
    }

    async fn one(&self, id: &SessionId) -> Result<(), Silent> {
        let mut members = Vec::new();
        loop {
            let after = members.last().map(crate::model::session::Member::joined);
            let request = Request::Fetch { session: id.clone(), after };
            let part = match self.peers.ask(&self.server, request).await {
                Response::Part(Some(part)) => part,
                // It has gone meanwhile, and will be offered by who has it now.
                Response::Part(None) => return Ok(()),
                _ => return Err(Silent),
            };
            let begun = !part.members.is_empty();
            members.extend(part.members);
            if part.more && begun {
                continue;
            }
            return match Session::load(part.stored, members, self.scribe.clone()) {
                Ok(session) => self.home.send(Take(session)).await.unwrap_or(Err(Silent)),
                Err(damaged) => {
                    log::error!("server {} has a damaged copy: {damaged}", self.server);
                    Ok(())
                }
            };
        }
    }
}

/// Which of these are more than what is on disk here?
#[derive(Message)]
#[rtype(result = "Vec<SessionId>")]
struct Lacking(Vec<(SessionId, Horizon)>);

impl Handler<Lacking> for SessionHome {
    type Result = MessageResult<Lacking>;

    fn handle(&mut self, Lacking(offered): Lacking, _: &mut Self::Context) -> Self::Result {
        let lacks = |(id, horizon): &(SessionId, Horizon)| {
            !self.durable(id).is_some_and(|session| session.horizon().covers(horizon))
        };
        MessageResult(offered.into_iter().filter(lacks).map(|(id, _)| id).collect())
    }
}

/// A copy of another server, to be merged into ours. Answered when that is durable.
#[derive(Message)]
#[rtype(result = "Result<(), Silent>")]
struct Take(Session);

impl Handler<Take> for SessionHome {
    type Result = ResponseFuture<Result<(), Silent>>;

    fn handle(&mut self, Take(theirs): Take, ctx: &mut Self::Context) -> Self::Result {
        let settled = self.take(theirs, ctx);
        Box::pin(async move {
            match settled {
                Some(settled) => settled.await.ok().and_then(Result::ok).map(drop).ok_or(Silent),
                None => Ok(()),
            }
        })
    }
}
