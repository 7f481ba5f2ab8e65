//! The home of the sessions: changes them one after the other, durably, and publishes what they have become.
//!
//! Invariants: a change is decided on the newest value, also one that is not durable yet; it is published, announced and
//! answered only when it is. When a write fails, everything decided on top of it fails too.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::boxes::put_json;
use super::{Home, keys};
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{NodeId, SessionId};
use crate::model::session::{Change, Draft, Join, Member, Notice, Pair, Presence, Record, Requester, Session, Stored};
use crate::store::{Journal, Order, Store, StoreError, Table, Write};
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
    home: Home,
    view: Arc<View>,
    /// Sessions with changes that are not durable yet: the newest value, and how many.
    open: HashMap<SessionId, (Session, usize)>,
}

impl Actor for SessionHome {
    type Context = Context<Self>;
}

impl SessionHome {
    pub fn new(home: Home, view: Arc<View>) -> Self {
        Self { home, view, open: HashMap::new() }
    }

    fn newest(&self, id: &SessionId) -> Result<Session, Refusal> {
        if let Some((session, _)) = self.open.get(id) {
            return Ok(session.clone());
        }
        let published = self.view.sessions.get(id).map(|published| Session::clone(&published.current()));
        published.ok_or_else(|| Refusal::new(Code::NotFound, format!("there is no session {id}")))
    }

    fn decide(&self, by: &Requester, operation: Operation) -> Result<(Session, Change), Refusal> {
        match operation {
            Operation::Create(draft) => {
                let (session, change) = Session::create(by, draft, now())?;
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

    fn settle(&mut self, session: &Session, outcome: Outcome) {
        let Some((_, open)) = self.open.get_mut(session.id()) else { return };
        *open -= 1;
        // After a failure the value in memory is not what is on disk; the next change starts from what is published.
        if *open == 0 || outcome == Outcome::Failed {
            self.open.remove(session.id());
        }
    }

    fn publish(&mut self, session: &Session, notice: Option<&Notice>, newcomer: Option<&NodeId>) {
        self.view.sessions.publish(session.clone());
        if let Some(notice) = notice {
            self.view.announce(session.id(), notice, &fresh_id());
        }
        let Some(newcomer) = newcomer.filter(|_| session.options().presence) else { return };
        self.view.show_present(session.id(), newcomer);
        if self.view.is_present(newcomer)
            && let Some(online) = session.presence_notice(newcomer, Presence::Online)
        {
            self.view.announce(session.id(), &online, &fresh_id());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Durable,
    Failed,
}

impl Handler<Ask> for SessionHome {
    type Result = ResponseActFuture<Self, Result<Done, Refusal>>;

    fn handle(&mut self, ask: Ask, _: &mut Self::Context) -> Self::Result {
        let (session, change) = match self.decide(&ask.by, ask.operation) {
            Ok(decided) => decided,
            Err(refusal) => return Box::pin(fut::ready(Err(refusal))),
        };
        if change.is_unchanged() {
            return Box::pin(fut::ready(Ok(Done { session: Arc::new(session), answer: change.answer })));
        }
        let open = self.open.remove(session.id()).map_or(0, |(_, open)| open);
        self.open.insert(session.id().clone(), (session.clone(), open + 1));
        let (sender, answer) = oneshot::channel();
        let newcomer = newcomer(&change, &session);
        let writes = change.records.iter().map(|record| write(session.id(), record)).collect();
        // The actor may be gone at the end; then nobody needs the answer.
        self.home.submit(writes, Box::new(move |result| sender.send(result).unwrap_or(())));
        let durable = async move { answer.await.unwrap_or(Err(crate::store::Unavailable)) };
        Box::pin(durable.into_actor(self).map(move |result, home, _| {
            if result.is_err() {
                home.settle(&session, Outcome::Failed);
                let message = "the change could not be stored; try again later";
                return Err(Refusal::new(Code::Unavailable, message));
            }
            home.settle(&session, Outcome::Durable);
            home.publish(&session, change.notice.as_ref(), newcomer.as_ref());
            Ok(Done { session: Arc::new(session), answer: change.answer })
        }))
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
pub fn load_all(store: &dyn Store) -> Result<Vec<Session>, StoreError> {
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
                match Session::load(stored, members) {
                    Ok(session) => sessions.push(session),
                    Err(damaged) => log::error!("{damaged}; the session is not served"),
                }
            }
            Err(error) => log::error!("a session's record cannot be read: {error}"),
        }
        ControlFlow::Continue(())
    })?;
    Ok(sessions)
}
