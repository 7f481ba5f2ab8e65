//! Copies that this server is not to keep any more: they stay until those who are to keep the session have them.

use std::sync::Arc;

use actix::prelude::*;

use super::SessionHome;
use super::words::{Request, Response};
use crate::model::ids::{NodeId, SessionId};
use crate::model::keyed::{HashMap, HashSet};
use crate::model::session::{Horizon, Session};
use crate::store::{Journal, Unavailable};

/// Copies of which one question speaks; the others have their turn later.
const AT_ONCE: usize = 500;

/// Copies that leave.
#[derive(Default)]
pub(super) struct Shipping {
    pub(super) leaving: HashMap<SessionId, Arc<Session>>,
    /// Under way: what is asked, and what is being deleted.
    busy: HashSet<SessionId>,
}

impl SessionHome {
    /// The members have changed: this server may keep other sessions than before.
    pub(super) fn sort_out(&mut self) {
        let kept: Vec<_> = self.view.sessions.all().into_iter().map(|published| published.current()).collect();
        for session in kept {
            if !self.is_keeper(session.id()) {
                self.view.sessions.withdraw(session.id());
                self.shipping.leaving.insert(session.id().clone(), session);
            } else if self.partner(session.id()).is_some() {
                // It may be a new one.
                self.unsure.insert(session.id().clone());
            }
        }
        let back: Vec<SessionId> = self.shipping.leaving.keys().filter(|id| self.is_keeper(id)).cloned().collect();
        for id in back {
            if let Some(session) = self.shipping.leaving.remove(&id) {
                self.view.sessions.publish(Session::clone(&session));
            }
        }
    }

    /// Asks those who are to keep what leaves whether they have it; what they lack they fetch.
    pub(super) fn ship(&mut self, ctx: &mut Context<Self>) {
        let placement = self.view.mesh.placement();
        let some: Vec<Arc<Session>> = self
            .shipping
            .leaving
            .values()
            .filter(|one| !self.shipping.busy.contains(one.id()))
            .take(AT_ONCE)
            .cloned()
            .collect();
        let mut by_server: HashMap<NodeId, Vec<(SessionId, Horizon)>> = HashMap::default();
        let mut keepers: Vec<(Arc<Session>, Vec<NodeId>)> = Vec::new();
        for session in some {
            let (home, deputy) = placement.ranked(session.id().as_str());
            // A deputy that is away gets its copy from the home.
            let deputy = deputy.filter(|deputy| self.view.mesh.is_reachable(deputy));
            let both: Vec<NodeId> = std::iter::once(home).chain(deputy).collect();
            for keeper in &both {
                let copies = by_server.entry(keeper.clone()).or_default();
                copies.push((session.id().clone(), session.horizon().clone()));
            }
            self.shipping.busy.insert(session.id().clone());
            keepers.push((session, both));
        }
        if keepers.is_empty() {
            return;
        }
        let peers = self.peers.clone();
        let asked = async move {
            let mut held: HashSet<(NodeId, SessionId)> = HashSet::default();
            for (server, copies) in by_server {
                if let Response::Holds(ids) = peers.ask(&server, Request::Holds(copies)).await {
                    held.extend(ids.into_iter().map(|id| (server.clone(), id)));
                }
            }
            let is_held = |session: &Session, keeper: &NodeId| held.contains(&(keeper.clone(), session.id().clone()));
            let (safe, others): (Vec<_>, Vec<_>) =
                keepers.into_iter().partition(|(session, both)| both.iter().all(|keeper| is_held(session, keeper)));
            (safe, others)
        };
        ctx.spawn(asked.into_actor(self).map(|(safe, others), home, ctx| {
            for (session, _) in others {
                home.shipping.busy.remove(session.id());
            }
            for (session, _) in safe {
                home.delete(&session, ctx);
            }
        }));
    }

    /// Its keepers have this copy on disk.
    fn delete(&mut self, session: &Arc<Session>, ctx: &mut Context<Self>) {
        let id = session.id().clone();
        let is_same = self.shipping.leaving.get(&id).is_some_and(|leaving| Arc::ptr_eq(leaving, session));
        if !is_same || self.is_changing(&id) || self.is_keeper(&id) {
            self.shipping.busy.remove(&id);
            return;
        }
        self.shipping.leaving.remove(&id);
        let (to, session) = (ctx.address(), session.clone());
        let writes = super::records::delete(&session);
        self.home.submit(writes, Box::new(move |result| to.do_send(Deleted { session, result })));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Deleted {
    session: Arc<Session>,
    result: Result<(), Unavailable>,
}

impl Handler<Deleted> for SessionHome {
    type Result = ();

    fn handle(&mut self, Deleted { session, result }: Deleted, _: &mut Self::Context) {
        let id = session.id().clone();
        self.shipping.busy.remove(&id);
        if result.is_err() && self.newest(&id).is_none() {
            self.shipping.leaving.insert(id, session);
        }
    }
}
