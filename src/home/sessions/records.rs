//! Sessions in the store: what is written, and what is found there at the start.

use std::ops::ControlFlow;

use super::SessionHome;
use crate::home::boxes::put_json;
use crate::home::keys;
use crate::model::ids::{NodeId, SessionId};
use crate::model::keyed::{HashMap, HashSet};
use crate::model::session::{Member, Record, Scribe, Session, Stored};
use crate::store::{Order, Store, StoreError, Table, Write};
use crate::view::Kept;
use crate::view::View;

/// Records that a failed change, or one that a crash has cut short, may have left on disk: put right by the next change of
/// the session.
pub type Doubtful = HashMap<SessionId, HashSet<NodeId>>;

impl SessionHome {
    /// What makes the disk say again what is so, where a failed change may have said otherwise.
    pub(super) fn undo(&self, id: &SessionId, nodes: &HashSet<NodeId>) -> Vec<Write> {
        if nodes.is_empty() {
            return Vec::new();
        }
        let durable = self.durable(id);
        let session = match &durable {
            Some(session) => write(id, &Record::Session(session.stored())),
            None => Write::Delete { table: Table::Records, key: keys::session(id) },
        };
        let member = |node: &NodeId| match durable.as_ref().and_then(|session| session.member(node)) {
            Some(member) => put_json(keys::member(id, node), member),
            None => Write::Delete { table: Table::Records, key: keys::member(id, node) },
        };
        nodes.iter().map(member).chain([session]).collect()
    }
}

/// Whose record it is; none for that of the session itself.
pub(super) fn node_of(record: &Record) -> Option<&NodeId> {
    match record {
        Record::Session(_) => None,
        Record::Member(member) | Record::Gone(member) => Some(member.node()),
    }
}

pub(super) fn write(session: &SessionId, record: &Record) -> Write {
    match record {
        Record::Session(stored) => put_json(keys::session(session), stored),
        Record::Member(member) => put_json(keys::member(session, member.node()), member),
        Record::Gone(member) => Write::Delete { table: Table::Records, key: keys::member(session, member.node()) },
    }
}

/// What removes a copy. Its own record goes first: without it the others are nothing, should a crash cut this short.
pub(super) fn delete(session: &Session) -> Vec<Write> {
    let delete = |key| Write::Delete { table: Table::Records, key };
    let members = session.members().map(|member| keys::member(session.id(), member.node()));
    std::iter::once(keys::session(session.id())).chain(members).map(delete).collect()
}

/// Publishes all sessions of the store; to be done before the first connection.
///
/// # Errors
/// When the store cannot be read.
pub fn load(store: &dyn Store, view: &View) -> Result<Doubtful, StoreError> {
    if view.mesh.placement().members().len() > 1 {
        // Its deputies may have changed them: see `take`.
        view.mesh.returning().begin(Kept::Sessions);
    } else {
        view.sessions.all_here(view.mesh.placement());
    }
    let scribe = Scribe::new(view.mesh.own().clone(), view.mesh.incarnation());
    let mut members: HashMap<SessionId, Vec<Member>> = HashMap::default();
    let (from, to) = keys::all(b'm');
    store.scan(Table::Records, &from, &to, Order::Ascending, &mut |key, value| {
        let session = keys::first_id(key).and_then(|id| id.parse().ok());
        if let (Some(session), Ok(member)) = (session, serde_json::from_slice(&value)) {
            members.entry(session).or_default().push(member);
        }
        ControlFlow::Continue(())
    })?;
    let (from, to) = keys::all(b's');
    store.scan(Table::Records, &from, &to, Order::Ascending, &mut |_, value| {
        match serde_json::from_slice::<Stored>(&value) {
            Ok(stored) => {
                let members = members.remove(&stored.id).unwrap_or_default();
                match Session::load(stored, members, scribe.clone()) {
                    Ok(session) => view.sessions.publish(session),
                    Err(damaged) => log::error!("{damaged}; the session is not served"),
                }
            }
            Err(error) => log::error!("a session's record cannot be read: {error}"),
        }
        ControlFlow::Continue(())
    })?;
    // Of sessions whose creation a crash has cut short: they were never answered for.
    let nodes = |members: Vec<Member>| members.iter().map(|member| member.node().clone()).collect();
    Ok(members.into_iter().map(|(session, members)| (session, nodes(members))).collect())
}
