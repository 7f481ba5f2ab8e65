//! The home of the sessions: changes them one after the other, durably, and publishes what they have become.
//!
//! Invariants: a change is decided on the newest value, also one that is not durable yet; it is published, announced and
//! answered only when it is. When a write fails, everything decided on top of it fails too.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::boxes::put_json;
use super::{Home, keys};
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{NodeId, SessionId};
use crate::model::session::{Change, Draft, Join, Member, Pair, Presence, Record, Requester, Scribe, Session, Stored};
use crate::store::{Journal, Order, Store, StoreError, Table, Unavailable, Write};
use crate::view::{View, fresh_id, now};

/// What is asked of a session.
#[derive(Debug)]
pub enum Operation {
    Create(Draft),
    Join(SessionId, Join),
    /// `None`: the requester itself.
    Leave(SessionId, Option<NodeId>),
    Reveal(SessionId),
}

/// Asks for an operation; the one way in for HTTP and socket alike.
#[derive(Debug, Message)]
#[rtype(result = "Result<Done, Refusal>")]
pub struct Ask {
    pub by: Requester,
    pub operation: Operation,
}

/// A session as it is after the operation, durably.
#[derive(Clone)]
pub struct Done {
    pub session: Arc<Session>,
    /// Whom it was about, as far as the requester may know it.
    pub answer: Option<Pair>,
}

/// See the module's header.
pub struct SessionHome {
    scribe: Scribe,
    home: Home,
    view: Arc<View>,
    /// What has been handed over to the committer, in order; it answers in the same order.
    pending: VecDeque<Pending>,
    /// The newest value of each session that has something pending.
    newest: HashMap<SessionId, Session>,
    /// Records that a failed change may have left on disk: put right by the next change.
    doubtful: HashMap<SessionId, HashSet<NodeId>>,
}

struct Pending {
    session: Session,
    change: Change,
    /// Whose records it puts right besides.
    undone: HashSet<NodeId>,
    /// `None`: failed already, with a change that it was decided on.
    answer: Option<oneshot::Sender<Result<Done, Refusal>>>,
}

impl Actor for SessionHome {
    type Context = Context<Self>;
}

impl SessionHome {
    pub fn new(home: Home, view: Arc<View>) -> Self {
        let scribe = Scribe::new(view.mesh.own().clone(), view.mesh.incarnation());
        Self { scribe, home, view, pending: VecDeque::new(), newest: HashMap::new(), doubtful: HashMap::new() }
    }

    fn newest(&self, id: &SessionId) -> Result<Session, Refusal> {
        if let Some(session) = self.newest.get(id) {
            return Ok(session.clone());
        }
        self.published(id).ok_or_else(|| Refusal::new(Code::NotFound, format!("there is no session {id}")))
    }

    fn published(&self, id: &SessionId) -> Option<Session> {
        self.view.sessions.get(id).map(|published| Session::clone(&published.current()))
    }

    fn decide(&self, by: &Requester, operation: Operation) -> Result<(Session, Change), Refusal> {
        match operation {
            Operation::Create(draft) => {
                let (session, change) = Session::create(by, draft, now(), self.scribe.clone())?;
                match self.newest(session.id()) {
                    Ok(_) => Err(Refusal::new(Code::Conflict, format!("session {} exists already", session.id()))),
                    Err(_) => Ok((session, change)),
                }
            }
            Operation::Join(id, join) => self.newest(&id)?.join(by, join),
            Operation::Leave(id, whom) => self.newest(&id)?.leave(by, whom.as_ref()),
            Operation::Reveal(id) => self.newest(&id)?.reveal(by),
        }
    }

    /// What makes the disk say again what is published, where a failed change may have said otherwise.
    fn undo(&self, id: &SessionId, nodes: &HashSet<NodeId>) -> Vec<Write> {
        if nodes.is_empty() {
            return Vec::new();
        }
        let published = self.published(id);
        let session = match &published {
            Some(session) => write(id, &Record::Session(session.stored())),
            None => Write::Delete { table: Table::Records, key: keys::session(id) },
        };
        let member = |node: &NodeId| match published.as_ref().and_then(|session| session.member(node)) {
            Some(member) => put_json(keys::member(id, node), member),
            None => Write::Delete { table: Table::Records, key: keys::member(id, node) },
        };
        nodes.iter().map(member).chain([session]).collect()
    }

    /// A change could not be stored: neither it nor what was decided on top of it has happened.
    fn fail(&mut self, mut failed: Pending) {
        let id = failed.session.id().clone();
        self.newest.remove(&id);
        let mut doubtful = self.doubtful.remove(&id).unwrap_or_default();
        let mut fall = |pending: &mut Pending| {
            doubtful.extend(pending.undone.drain());
            doubtful.extend(pending.change.records.iter().filter_map(node_of).cloned());
            if let Some(answer) = pending.answer.take() {
                let message = "the change could not be stored; try again later";
                // Whoever asked may be gone; then nobody needs the answer.
                let _ = answer.send(Err(Refusal::new(Code::Unavailable, message)));
            }
        };
        fall(&mut failed);
        // The committer still answers for the others: they keep their places.
        self.pending.iter_mut().filter(|pending| *pending.session.id() == id).for_each(fall);
        self.doubtful.insert(id, doubtful);
    }

    fn publish(&mut self, done: Pending) {
        let Pending { session, change, answer, .. } = done;
        if self.newest.get(session.id()).is_some_and(|newest| newest.version() == session.version()) {
            self.newest.remove(session.id());
        }
        self.view.sessions.publish(session.clone());
        if let Some(notice) = &change.notice {
            self.view.announce(session.id(), notice, &fresh_id());
        }
        if let Some(newcomer) = newcomer(&change, &session).filter(|_| session.options().presence) {
            self.view.show_present(session.id(), &newcomer);
            if self.view.is_present(&newcomer)
                && let Some(online) = session.presence_notice(&newcomer, Presence::Online)
            {
                self.view.announce(session.id(), &online, &fresh_id());
            }
        }
        if let Some(answer) = answer {
            // Whoever asked may be gone; then nobody needs the answer.
            let _ = answer.send(Ok(Done { session: Arc::new(session), answer: change.answer }));
        }
    }
}

impl Handler<Ask> for SessionHome {
    type Result = ResponseFuture<Result<Done, Refusal>>;

    fn handle(&mut self, ask: Ask, ctx: &mut Self::Context) -> Self::Result {
        let (session, change) = match self.decide(&ask.by, ask.operation) {
            Ok(decided) => decided,
            Err(refusal) => return Box::pin(std::future::ready(Err(refusal))),
        };
        if change.is_unchanged() {
            let done = Done { session: Arc::new(session), answer: change.answer };
            return Box::pin(std::future::ready(Ok(done)));
        }
        let id = session.id().clone();
        let undone = self.doubtful.remove(&id).unwrap_or_default();
        let mut writes = self.undo(&id, &undone);
        writes.extend(change.records.iter().map(|record| write(&id, record)));
        let (answer, answered) = oneshot::channel();
        self.newest.insert(id, session.clone());
        self.pending.push_back(Pending { session, change, undone, answer: Some(answer) });
        let to = ctx.address();
        // One message for each change that is pending, which is what bounds them.
        self.home.submit(writes, Box::new(move |result| to.do_send(Settled(result))));
        let gone = || Err(Refusal::new(Code::Draining, "the server is going away"));
        Box::pin(async move { answered.await.unwrap_or_else(|_| gone()) })
    }
}

/// The committer answers for the change that has been pending for longest.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Settled(Result<(), Unavailable>);

impl Handler<Settled> for SessionHome {
    type Result = ();

    fn handle(&mut self, Settled(result): Settled, _: &mut Self::Context) {
        let Some(pending) = self.pending.pop_front() else { return };
        if pending.answer.is_none() {
            // It fell with an earlier one, and may be on disk all the same: `doubtful` knows.
            return;
        }
        match result {
            Ok(()) => self.publish(pending),
            Err(Unavailable) => self.fail(pending),
        }
    }
}

/// Whose record it is; none for that of the session itself.
fn node_of(record: &Record) -> Option<&NodeId> {
    match record {
        Record::Session(_) => None,
        Record::Member(member) | Record::Gone(member) => Some(member.node()),
    }
}

/// Who has just become a member, if somebody has.
fn newcomer(change: &Change, session: &Session) -> Option<NodeId> {
    change.records.iter().find_map(|record| match record {
        Record::Member(member) if member.joined() == session.version() => Some(member.node().clone()),
        _ => None,
    })
}

fn write(session: &SessionId, record: &Record) -> Write {
    match record {
        Record::Session(stored) => put_json(keys::session(session), stored),
        Record::Member(member) => put_json(keys::member(session, member.node()), member),
        Record::Gone(member) => Write::Delete { table: Table::Records, key: keys::member(session, member.node()) },
    }
}

/// All sessions of the store; to be published before the first connection.
pub fn load(store: &dyn Store, view: &View) -> Result<Vec<Session>, StoreError> {
    let scribe = &Scribe::new(view.mesh.own().clone(), view.mesh.incarnation());
    let mut members: HashMap<String, Vec<Member>> = HashMap::new();
    let (from, to) = keys::all(b'm');
    store.scan(Table::Records, &from, &to, Order::Ascending, &mut |key, value| {
        if let (Some(session), Ok(member)) = (keys::first_id(key), serde_json::from_slice(&value)) {
            members.entry(session.to_owned()).or_default().push(member);
        }
        ControlFlow::Continue(())
    })?;
    let mut sessions = Vec::new();
    let (from, to) = keys::all(b's');
    store.scan(Table::Records, &from, &to, Order::Ascending, &mut |_, value| {
        match serde_json::from_slice::<Stored>(&value) {
            Ok(stored) => {
                let members = members.remove(stored.id.as_str()).unwrap_or_default();
                match Session::load(stored, members, scribe.clone()) {
                    Ok(session) => view.sessions.publish(session),
                    Err(damaged) => log::error!("{damaged}; the session is not served"),
                }
            }
            Err(error) => log::error!("a session's record cannot be read: {error}"),
        }
        ControlFlow::Continue(())
    })?;
    Ok(sessions)
}
