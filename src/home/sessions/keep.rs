//! What other servers ask about sessions.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::SessionHome;
use super::change::{Origin, Settlement};
use super::words::{Part, Request, Response, Told};
use crate::model::ids::{NodeId, SessionId};
use crate::model::session::{Absorbed, Change, Delta, Horizon, Member, Session, Version, absorb};
use crate::outside;
use crate::view::Acting;

/// Sessions in one answer.
const LISTED: usize = 500;
/// Members in one answer.
const PART: usize = 1000;

/// Another server asks.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Asked {
    pub(super) from: NodeId,
    pub(super) request: Request,
    pub(super) reply: Box<dyn FnOnce(Response) + Send>,
}

impl Handler<Asked> for SessionHome {
    type Result = ();

    fn handle(&mut self, Asked { from, request, reply }: Asked, ctx: &mut Self::Context) {
        match request {
            Request::Operate { by, operation } => {
                if self.view.serves(&operation.session()) != Acting::Here {
                    return reply(Response::Elsewhere);
                }
                let done = self.operate(&by, &operation, ctx);
                ctx.spawn(done.into_actor(self).map(|result, _, _| {
                    reply(match result {
                        Ok(done) => Response::Done(Box::new(Told::of(done))),
                        Err(refusal) => Response::Refused(refusal),
                    });
                }));
            }
            Request::Keep(delta) => self.keep(&from, *delta, reply, ctx),
            Request::List { after } => reply(self.list(&from, after.as_ref())),
            Request::Fetch { session, after } => reply(Response::Part(self.part(&from, &session, after).map(Box::new))),
            Request::Holds(copies) => {
                let mut held = Vec::new();
                for (id, horizon) in copies {
                    if self.durable(&id).is_some_and(|session| session.horizon().covers(&horizon)) {
                        held.push(id);
                    } else {
                        self.fetch_soon(&from, id, ctx);
                    }
                }
                reply(Response::Holds(held));
            }
        }
    }
}

impl SessionHome {
    /// The other keeper of a session has changed it.
    fn keep(&mut self, from: &NodeId, delta: Delta, reply: Box<dyn FnOnce(Response) + Send>, ctx: &mut Context<Self>) {
        let id = delta.stored().id.clone();
        let settled = match absorb(self.newest(&id).as_ref(), delta, &self.scribe) {
            Absorbed::Known => match self.when_settled(&id) {
                Some(settled) => settled,
                None => return reply(Response::Kept),
            },
            Absorbed::Changed(session, records) => {
                let change = Change { answer: None, notice: None, records };
                self.begin(*session, change, Origin::Elsewhere, ctx)
            }
            Absorbed::Behind => {
                self.fetch_soon(from, id, ctx);
                return reply(Response::Behind);
            }
        };
        ctx.spawn(settled.into_actor(self).map(|settled, _, _| {
            reply(if matches!(settled, Ok(Ok(_))) { Response::Kept } else { Response::Unavailable });
        }));
    }

    /// The sessions that are on disk here and `asker` is to keep.
    fn list(&mut self, asker: &NodeId, after: Option<&SessionId>) -> Response {
        let placement = self.view.mesh.placement();
        let lists = &mut self.taking.lists;
        // Whose place is asked of all of them, which costs more than to remember it.
        if after.is_none() {
            let is_for = |session: &Session| {
                let (home, deputy) = placement.ranked(session.id().as_str());
                home == *asker || deputy.as_ref() == Some(asker)
            };
            let published = self.view.sessions.all().into_iter().map(|published| published.current());
            let all = published.chain(self.shipping.leaving.values().cloned());
            let mut ids: Vec<SessionId> = all.filter(|one| is_for(one)).map(|session| session.id().clone()).collect();
            ids.sort_unstable();
            lists.insert(asker.clone(), ids);
        }
        let ids = lists.get(asker).map(Vec::as_slice).unwrap_or_default();
        let from = after.map_or(0, |after| ids.partition_point(|id| id <= after));
        let some: Vec<SessionId> = ids[from..].iter().take(LISTED).cloned().collect();
        let more = from + some.len() < ids.len();
        if !more {
            lists.remove(asker);
        }
        let horizon = |id: SessionId| self.durable(&id).map(|session| (id, session.horizon().clone()));
        Response::Listed { sessions: some.into_iter().filter_map(horizon).collect(), more }
    }

    /// The members after a place. All parts are of the copy of which the first part was.
    fn part(&mut self, asker: &NodeId, id: &SessionId, after: Option<Version>) -> Option<Part> {
        let key = (asker.clone(), id.clone());
        let session: Arc<Session> = match after {
            None => self.durable(id)?,
            Some(_) => self.taking.fetched.get(&key)?.clone(),
        };
        let rest = session.members().skip_while(|member| after.is_some_and(|after| member.joined() <= after));
        let mut members: Vec<Member> = rest.take(PART + 1).cloned().collect();
        let more = members.len() > PART;
        members.truncate(PART);
        if more {
            self.taking.fetched.insert(key, session.clone());
        } else {
            self.taking.fetched.remove(&key);
        }
        Some(Part { stored: session.stored(), members, more })
    }

    /// Makes another server's copy part of ours. What comes of it is told when it is durable; `None`: it is already.
    pub(super) fn take(&mut self, theirs: Session, ctx: &mut Context<Self>) -> Option<oneshot::Receiver<Settlement>> {
        let id = theirs.id().clone();
        let horizon: Horizon = theirs.horizon().clone();
        let theirs = theirs.written_by(self.scribe.clone());
        let merged = match self.newest(&id) {
            Some(ours) => ours.merge(&theirs, outside::chance),
            None => theirs.adopted(),
        };
        if *merged.session.horizon() != horizon {
            // We know more; so shall the other keeper.
            self.unsure.insert(id.clone());
        }
        if merged.records.is_empty() {
            return self.when_settled(&id);
        }
        let change = Change { answer: None, notice: None, records: merged.records };
        Some(self.begin(merged.session, change, Origin::Elsewhere, ctx))
    }
}
