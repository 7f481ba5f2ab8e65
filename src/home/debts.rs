//! What other servers are owed, handed over in the background; and the return of this server after it was away.
//!
//! Part of the postman's round. For each server one batch is under way at a time; what could not be handed over is tried again
//! after a pause. A server that has come back asks all others to hand back what they have changed in its stead, and
//! serves small records when they have, or after [`RETURN_MS`].

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::copies::Copy;
use super::postman::Postman;
use super::question::{Answer, Question};
use super::remote::Reply;
use super::{Homes, keys};
use crate::model::ids::{Millis, NodeId};
use crate::model::keyed::HashMap;
use crate::store::{Journal, Order, Table, Unavailable, Write};
use crate::view::{Kept, View, steady};

/// Copies in one batch.
const BATCH: usize = 200;
/// Before what could not be handed over is tried again, in milliseconds.
const PAUSE_MS: u64 = 1_000;
/// A server that has come back waits so long for what it is owed, in milliseconds.
const RETURN_MS: u64 = 3_000;

/// What is to be done for one server that may be owed something.
#[derive(Default)]
struct Debt {
    not_before: Millis,
    is_under_way: bool,
    /// It waits for all of it.
    replies: Vec<Reply>,
}

struct Return {
    since: Millis,
    /// Who has been asked, and whether it has answered.
    asked: HashMap<NodeId, bool>,
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Debts {
    by_server: Mutex<HashMap<NodeId, Debt>>,
    returning: Mutex<Option<Return>>,
}

impl Debts {
    fn with<R>(&self, server: &NodeId, act: impl FnOnce(&mut Debt) -> R) -> R {
        let mut by_server = self.by_server.lock().unwrap_or_else(PoisonError::into_inner);
        act(by_server.entry(server.clone()).or_default())
    }

    /// Something is owed to `server` that it could not be given.
    pub(super) fn owe(&self, server: &NodeId) {
        self.with(server, |debt| debt.not_before = debt.not_before.max(steady().plus(PAUSE_MS)));
    }

    /// `server` may be owed something, and can be reached.
    pub(super) fn look(&self, server: &NodeId) {
        self.with(server, |debt| debt.not_before = Millis(0));
    }

    /// As [`Self::look`]; it is answered when all of it is there.
    pub(super) fn hand_back(&self, server: &NodeId, reply: Reply) {
        self.with(server, |debt| {
            debt.not_before = Millis(0);
            debt.replies.push(reply);
        });
    }

    fn due(&self) -> Vec<NodeId> {
        let mut by_server = self.by_server.lock().unwrap_or_else(PoisonError::into_inner);
        let now = steady();
        let due = by_server.iter_mut().filter(|(_, debt)| !debt.is_under_way && debt.not_before <= now);
        due.map(|(server, debt)| {
            debt.is_under_way = true;
            server.clone()
        })
        .collect()
    }

    /// Nothing is owed to `server` any more; who waits for that.
    fn settled(&self, server: &NodeId) -> Vec<Reply> {
        let mut by_server = self.by_server.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(debt) = by_server.get_mut(server) else { return Vec::new() };
        let replies = std::mem::take(&mut debt.replies);
        if debt.not_before <= steady() {
            by_server.remove(server);
        } else {
            // Something could not be given since.
            debt.is_under_way = false;
        }
        replies
    }

    fn returning<R>(&self, act: impl FnOnce(&mut Option<Return>) -> R) -> R {
        act(&mut self.returning.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Homes {
    /// This server has come back to a mesh of several: it serves no small records before it has what it is owed.
    pub(super) fn return_home(&self, view: &View) {
        view.mesh.returning().begin(Kept::Records);
        self.debts().returning(|returning| *returning = Some(Return { since: steady(), asked: HashMap::default() }));
        self.bell().ring(&[]);
    }
}

impl Postman {
    /// Hands over what is owed to those who can be reached.
    pub(super) fn settle_debts(&self) {
        for server in self.homes.debts().due() {
            if !self.view.mesh.is_reachable(&server) {
                // It is looked at again when it can be; whoever waits there is gone.
                self.homes.debts().settled(&server);
                continue;
            }
            let (copies, keys) = self.owed(&server);
            if keys.is_empty() {
                for reply in self.homes.debts().settled(&server) {
                    let done: Box<dyn FnOnce() + Send> = Box::new(move || reply.answer(&Answer::Done));
                    match self.homes.remote().sessions() {
                        Some(sessions) => sessions.hand_back(&server, done),
                        None => done(),
                    }
                }
                continue;
            }
            let (homes, to) = (self.homes.clone(), server.clone());
            let then = move |result: Result<Answer, Unavailable>| {
                if !matches!(result, Ok(Answer::Done)) {
                    homes.debts().with(&to, |debt| {
                        debt.not_before = steady().plus(PAUSE_MS);
                        debt.is_under_way = false;
                    });
                    return;
                }
                let writes = keys.into_iter().map(|key| Write::Delete { table: Table::Records, key }).collect();
                let (of_done, server) = (homes.clone(), to);
                let done = move |_| {
                    of_done.debts().with(&server, |debt| debt.is_under_way = false);
                    of_done.bell().ring(&[]);
                };
                homes.submit(writes, Box::new(done));
            };
            self.homes.remote().ask_then(&server, &Question::Copies(copies), Box::new(then));
        }
    }

    fn owed(&self, server: &NodeId) -> (Vec<Copy>, Vec<Bytes>) {
        let (from, to) = keys::all_owed(server);
        let (mut copies, mut keys) = (Vec::new(), Vec::new());
        let scanned = self.store.scan(Table::Records, &from, &to, Order::Ascending, &mut |key, value| {
            keys.push(Bytes::copy_from_slice(key));
            match serde_json::from_slice(&value) {
                Ok(copy) => copies.push(copy),
                Err(error) => log::error!("a copy owed to {server} cannot be read: {error}"),
            }
            if keys.len() < BATCH { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if let Err(error) = scanned {
            log::error!("what {server} is owed cannot be read: {error}");
        }
        (copies, keys)
    }

    /// Asks those who can be reached to hand back, and ends the return when they have.
    pub(super) fn return_home(&self) {
        let (own, routes, placement) = (self.view.mesh.own(), self.view.mesh.routes(), self.view.mesh.placement());
        let others = || placement.members().iter().filter(|server| *server != own);
        let mut ask = Vec::new();
        self.homes.debts().returning(|returning| {
            let Some(back) = returning else { return };
            for server in others().filter(|server| routes.is_reachable(server)) {
                if !back.asked.contains_key(server) {
                    back.asked.insert(server.clone(), false);
                    ask.push(server.clone());
                }
            }
            let all = others().all(|server| back.asked.get(server) == Some(&true));
            let late = steady().since(back.since) > RETURN_MS;
            if all || late {
                *returning = None;
                self.view.mesh.returning().end(Kept::Records);
            }
        });
        for server in ask {
            let homes = self.homes.clone();
            let to = server.clone();
            let then = move |result: Result<_, Unavailable>| {
                homes.debts().returning(|returning| match (returning, result) {
                    (Some(back), Ok(_)) => {
                        back.asked.insert(server, true);
                    }
                    // It is asked again.
                    (Some(back), Err(Unavailable)) => {
                        back.asked.remove(&server);
                    }
                    (None, _) => {}
                });
                homes.bell().ring(&[]);
            };
            self.homes.remote().ask_then(&to, &Question::HandBack, Box::new(then));
        }
    }
}
