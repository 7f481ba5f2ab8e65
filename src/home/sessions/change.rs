//! Changes that are under way: decided, then on disk here, then at the other keeper, then published and answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::words::{Request, Response};
use super::{Done, Operation, SessionHome};
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{NodeId, SessionId};
use crate::model::keyed::HashSet;
use crate::model::session::{Change, Delta, Horizon, Presence, Record, Requester, Session};
use crate::store::{Journal, Unavailable};
use crate::view::{fresh_id, now};

/// How long the other keeper has to write a change; then it is answered without.
const KEEPER_PATIENCE: Duration = Duration::from_secs(2);

/// Told what the session is when the change is durable.
pub(super) type Settlement = Result<Arc<Session>, Unavailable>;

/// The changes of one session that are under way, in order; never empty.
pub(super) struct Line {
    pending: VecDeque<Pending>,
    newest: Session,
}

impl Line {
    pub(super) fn newest(&self) -> &Session {
        &self.newest
    }
}

struct Pending {
    number: u64,
    session: Session,
    change: Change,
    origin: Origin,
    /// Whose records it puts right besides.
    undone: HashSet<NodeId>,
    stage: Stage,
    answers: Vec<oneshot::Sender<Settlement>>,
}

/// Who has decided a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// This server, on a copy with this horizon: the other keeper and the members hear of it.
    Here(Horizon),
    Elsewhere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Writing,
    /// On disk here.
    Keeping,
    Ready,
}

impl SessionHome {
    /// Carries out an operation on a session that is served here.
    pub(super) fn operate(
        &mut self,
        by: &Requester,
        operation: &Operation,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Result<Done, Refusal>> {
        let id = operation.session();
        let whole = matches!(operation, Operation::Create(_) | Operation::Look(_));
        if let Operation::Look(_) = operation {
            let found = self.durable(&id).ok_or_else(|| missing(&id)).map(|session| Done {
                id,
                answer: None,
                shown: None,
                members: session.len(),
                session: Some(session),
            });
            return Box::pin(std::future::ready(found));
        }
        let (decided, before) = (self.decide(by, operation), self.newest(&id));
        let (session, change) = match decided {
            Ok(decided) => decided,
            Err(refusal) => return Box::pin(std::future::ready(Err(refusal))),
        };
        let shown = shown(by, operation, before.as_ref(), &session);
        let answer = change.answer.clone();
        let told = move |session: Arc<Session>| Done {
            id,
            answer,
            shown,
            members: session.len(),
            session: whole.then_some(session),
        };
        if change.is_unchanged() {
            return Box::pin(std::future::ready(Ok(told(Arc::new(session)))));
        }
        let origin = Origin::Here(before.map(|before| before.horizon().clone()).unwrap_or_default());
        let settled = self.begin(session, change, origin, ctx);
        Box::pin(async move {
            match settled.await {
                Ok(Ok(session)) => Ok(told(session)),
                Ok(Err(Unavailable)) => {
                    Err(Refusal::new(Code::Unavailable, "the change could not be stored; try again later"))
                }
                Err(_) => Err(Refusal::new(Code::Draining, "the server is going away")),
            }
        })
    }

    fn decide(&self, by: &Requester, operation: &Operation) -> Result<(Session, Change), Refusal> {
        let id = operation.session();
        let session = || self.newest(&id).ok_or_else(|| missing(&id));
        match operation.clone() {
            Operation::Create(draft) => match self.newest(&id) {
                Some(_) => Err(Refusal::new(Code::Conflict, format!("session {id} exists already"))),
                None => Session::create(by, draft, now(), self.scribe.clone()),
            },
            Operation::Join(_, join) => session()?.join(by, join),
            Operation::Leave(_, whom) => session()?.leave(by, whom.as_ref()),
            Operation::Reveal(_) => session()?.reveal(by),
            Operation::Look(_) => Err(Refusal::new(Code::BadRequest, "to look changes nothing")),
        }
    }

    /// Has a change written; what it is told is when it is durable.
    pub(super) fn begin(
        &mut self,
        session: Session,
        change: Change,
        origin: Origin,
        ctx: &mut Context<Self>,
    ) -> oneshot::Receiver<Settlement> {
        let id = session.id().clone();
        let undone = self.doubtful.remove(&id).unwrap_or_default();
        let mut writes = self.undo(&id, &undone);
        writes.extend(change.records.iter().map(|record| super::records::write(&id, record)));
        let (answer, settled) = oneshot::channel();
        self.last += 1;
        let (number, stage) = (self.last, Stage::Writing);
        let pending =
            Pending { number, session: session.clone(), change, origin, undone, stage, answers: vec![answer] };
        let line = self
            .lines
            .entry(id.clone())
            .or_insert_with(|| Line { pending: VecDeque::with_capacity(1), newest: session.clone() });
        line.newest = session;
        line.pending.push_back(pending);
        let to = ctx.address();
        // One message for each change that is pending, which is what bounds them.
        self.home.submit(writes, Box::new(move |result| to.do_send(Settled { id, number, result })));
        settled
    }

    pub(super) fn is_changing(&self, id: &SessionId) -> bool {
        self.lines.contains_key(id)
    }

    /// When all that is under way for the session is durable; `None` when nothing is.
    pub(super) fn when_settled(&mut self, id: &SessionId) -> Option<oneshot::Receiver<Settlement>> {
        let last = self.lines.get_mut(id)?.pending.back_mut()?;
        let (answer, settled) = oneshot::channel();
        last.answers.push(answer);
        Some(settled)
    }

    /// A change could not be stored: neither it nor what was decided on top of it has happened.
    fn fail(&mut self, id: &SessionId, number: u64) {
        let Some(line) = self.lines.get_mut(id) else { return };
        let Some(at) = line.pending.iter().position(|pending| pending.number == number) else { return };
        let fallen = line.pending.split_off(at);
        match line.pending.back() {
            Some(pending) => line.newest = pending.session.clone(),
            None => {
                self.lines.remove(id);
            }
        }
        let doubtful = self.doubtful.entry(id.clone()).or_default();
        for pending in fallen {
            // What may be on disk has a version, which is not given again.
            self.scribe.floor = self.scribe.floor.max(pending.session.version().next());
            doubtful.extend(pending.undone);
            doubtful.extend(pending.change.records.iter().filter_map(super::records::node_of).cloned());
            // Whoever asked may be gone; then nobody needs the answer.
            pending.answers.into_iter().for_each(|answer| drop(answer.send(Err(Unavailable))));
        }
    }

    /// It is on disk here. Whoever else keeps the session writes it, too, if it can be reached.
    fn written(&mut self, id: SessionId, number: u64, ctx: &mut Context<Self>) {
        let partner = self.partner(&id);
        if let Some(away) = partner.as_ref().filter(|partner| !self.view.mesh.is_reachable(partner)) {
            self.missed.entry(away.clone()).or_default().insert(id.clone());
        }
        let partner = partner.filter(|partner| self.view.mesh.is_reachable(partner));
        let Some(line) = self.lines.get_mut(&id) else { return };
        let Some(pending) = line.pending.iter_mut().find(|pending| pending.number == number) else { return };
        let (Origin::Here(before), Some(partner)) = (&pending.origin, partner) else {
            pending.stage = Stage::Ready;
            return self.advance(&id);
        };
        pending.stage = Stage::Keeping;
        let delta = Delta::new(before.clone(), &pending.session, &pending.change);
        let kept = timeout(KEEPER_PATIENCE, self.peers.ask(&partner, Request::Keep(Box::new(delta))));
        ctx.spawn(kept.into_actor(self).map(move |response, home, _| {
            if !matches!(response, Ok(Response::Kept)) {
                home.unsure.insert(id.clone());
            }
            if let Some(line) = home.lines.get_mut(&id) {
                let ready = line.pending.iter_mut().find(|pending| pending.number == number);
                ready.into_iter().for_each(|pending| pending.stage = Stage::Ready);
            }
            home.advance(&id);
        }));
    }

    /// Publishes what is ready, in order.
    fn advance(&mut self, id: &SessionId) {
        while let Some(line) = self.lines.get_mut(id)
            && line.pending.front().is_some_and(|pending| pending.stage == Stage::Ready)
        {
            let Some(pending) = line.pending.pop_front() else { return };
            if line.pending.is_empty() {
                self.lines.remove(id);
            }
            self.finish(pending);
        }
    }

    fn finish(&mut self, done: Pending) {
        let Pending { session, change, origin, answers, .. } = done;
        let published = Arc::new(session.clone());
        if self.is_keeper(session.id()) {
            self.view.sessions.publish(session);
        } else {
            self.shipping.leaving.insert(session.id().clone(), published.clone());
        }
        if let Origin::Here(_) = origin {
            self.tell(&published, &change);
        }
        // Whoever asked may be gone; then nobody needs the answer.
        answers.into_iter().for_each(|answer| drop(answer.send(Ok(published.clone()))));
    }

    fn tell(&self, session: &Session, change: &Change) {
        if let Some(notice) = &change.notice {
            self.view.announce(session.id(), notice, &fresh_id());
        }
        if let Some(newcomer) = newcomer(change, session).filter(|_| session.options().presence) {
            self.view.show_present(session.id(), &newcomer);
            if self.view.is_present(&newcomer)
                && let Some(online) = session.presence_notice(&newcomer, Presence::Online)
            {
                self.view.announce(session.id(), &online, &fresh_id());
            }
        }
    }

    /// Tells the other keepers what they may have missed.
    pub(super) fn remind(&mut self, ctx: &mut Context<Self>) {
        /// Sessions of which one reminder speaks; the others have their turn later.
        const AT_ONCE: usize = 500;
        let mesh = &self.view.mesh;
        for (_, sessions) in self.missed.extract_if(|server, _| mesh.is_reachable(server)) {
            self.unsure.extend(sessions);
        }
        let some: Vec<SessionId> = self.unsure.iter().take(AT_ONCE).cloned().collect();
        for id in some {
            self.unsure.remove(&id);
            let (Some(partner), Some(session)) = (self.partner(&id), self.durable(&id)) else { continue };
            if !self.view.mesh.is_reachable(&partner) {
                self.missed.entry(partner).or_default().insert(id);
                continue;
            }
            let kept = self.peers.ask(&partner, Request::Keep(Box::new(Delta::nothing(&session))));
            ctx.spawn(kept.into_actor(self).map(move |response, home, _| {
                if !matches!(response, Response::Kept) {
                    home.unsure.insert(id);
                }
            }));
        }
    }
}

/// The committer answers for a change.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Settled {
    id: SessionId,
    number: u64,
    result: Result<(), Unavailable>,
}

impl Handler<Settled> for SessionHome {
    type Result = ();

    fn handle(&mut self, Settled { id, number, result }: Settled, ctx: &mut Self::Context) {
        // One that fell with an earlier one is not found; it may be on disk all the same: `doubtful` knows.
        match result {
            Ok(()) => self.written(id, number, ctx),
            Err(Unavailable) => self.fail(&id, number),
        }
    }
}

pub(super) fn missing(id: &SessionId) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no session {id}"))
}

/// Whom an operation is about, as the session shows it.
fn shown(by: &Requester, operation: &Operation, before: Option<&Session>, after: &Session) -> Option<NodeId> {
    match operation {
        Operation::Create(_) => after.shown(&by.node).cloned(),
        Operation::Join(_, join) => after.shown(join.node.as_ref().unwrap_or(&by.node)).cloned(),
        Operation::Leave(_, whom) => {
            let node = whom.as_ref().unwrap_or(&by.node);
            // It is a shown id already, unless an app gave the real one.
            Some(before.and_then(|before| before.shown(node)).unwrap_or(node).clone())
        }
        Operation::Reveal(_) => before?.shown(&by.node).cloned(),
        Operation::Look(_) => None,
    }
}

/// Who has just become a member, if somebody has.
fn newcomer(change: &Change, session: &Session) -> Option<NodeId> {
    change.records.iter().find_map(|record| match record {
        Record::Member(member) if member.joined() == session.version() => Some(member.node().clone()),
        _ => None,
    })
}
