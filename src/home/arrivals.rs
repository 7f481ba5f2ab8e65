//! What has not come to this server yet, of which it is the home now: asked for when it is first needed.
//!
//! A server that joins a mesh is home to ids that others have kept so far, and when a server is forgotten, the others are home
//! to its ids: what there is of them moves here in the background. Until such a former home has said that all has come,
//! whatever is asked of an id that may have been its own waits until it has given that one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Homes;
use super::boxes::put_json;
use super::question::{Answer, Question};
use super::queue::Command;
use crate::model::ids::{Millis, NodeId};
use crate::model::keyed::{HashMap, HashSet};
use crate::model::members::Members;
use crate::model::placement::Placement;
use crate::store::Journal;
use crate::view::steady;

/// Bytes that may wait for ids on their way here.
const MAX_BYTES: usize = 64 << 20;
/// A server that has just joined waits so long until it reaches the former homes, in milliseconds.
const FRESH_MS: u64 = 2_000;

/// What is asked for: a device, or the devices of a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Device(NodeId),
    Client(crate::model::ids::ClientId),
}

impl Subject {
    fn id(&self) -> &str {
        match self {
            Self::Device(device) => device.as_str(),
            Self::Client(client) => client.as_str(),
        }
    }
}

/// What a former home has given this server, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Given {
    /// What this server became home to when it joined.
    AtJoining,
    /// Everything: it has been forgotten, and has nothing left.
    AtLeaving,
}

#[derive(Default)]
struct State {
    /// The members that were there before this server, and the servers that have been forgotten.
    before: Vec<NodeId>,
    forgotten: Vec<NodeId>,
    settled: HashMap<NodeId, Given>,
    /// Those who may still have something of ours, and how far they are to come.
    unsettled: HashMap<NodeId, Given>,
    /// Grows when somebody becomes unsettled; since when it is what it is.
    round: u64,
    since: Millis,
    /// What is asked for when the next of its former homes can be reached.
    put_off: Vec<Wanted>,
    waiting: HashMap<Subject, Vec<Command>>,
    bytes: usize,
    /// What has come in this round, or cannot.
    come: HashSet<Subject>,
}

/// What is to be had of former homes, one after the other.
struct Wanted {
    subject: Subject,
    from: Vec<NodeId>,
    /// In which it was asked for.
    round: u64,
}

impl State {
    fn sort_out(&mut self) {
        let lacks = |server: &NodeId, all: Given| self.settled.get(server).is_none_or(|given| *given < all);
        let of = |servers: &[NodeId], all: Given| -> Vec<(NodeId, Given)> {
            servers.iter().filter(|server| lacks(server, all)).map(|server| (server.clone(), all)).collect()
        };
        let unsettled: HashMap<NodeId, Given> =
            of(&self.before, Given::AtJoining).into_iter().chain(of(&self.forgotten, Given::AtLeaving)).collect();
        if unsettled.iter().any(|(server, all)| self.unsettled.get(server) != Some(all)) {
            self.round += 1;
            self.since = steady();
            self.come = HashSet::default();
        }
        if unsettled.is_empty() {
            self.come = HashSet::default();
        }
        self.unsettled = unsettled;
    }

    /// Whether `server` is waited for when it cannot be reached: whoever has just come finds the others one by one.
    fn is_awaited(&self, server: &NodeId) -> bool {
        self.unsettled.get(server) == Some(&Given::AtJoining) && steady().since(self.since) < FRESH_MS
    }

    /// Who may have something of `subject`, which is at home here.
    fn former_homes(&self, placement: &Placement, subject: &Subject) -> Vec<NodeId> {
        let before = placement.formerly(subject.id(), &self.before);
        let joined = before.filter(|former| self.unsettled.contains_key(*former)).into_iter();
        // What a forgotten one had still to give before is not known here: it is asked for everything.
        let forgotten = self.forgotten.iter().filter(|server| self.unsettled.contains_key(*server));
        joined.chain(forgotten).cloned().collect()
    }
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Arrivals {
    /// Spares everybody the lock while nothing is unsettled.
    any: AtomicBool,
    state: Mutex<State>,
}

impl Arrivals {
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        // Nothing panics while it is held.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = act(&mut state);
        self.any.store(!state.unsettled.is_empty() || !state.waiting.is_empty(), Ordering::Release);
        answer
    }

    /// What the store says of former homes.
    pub(super) fn restore(&self, settled: impl IntoIterator<Item = (NodeId, Given)>) {
        self.with(|state| state.settled.extend(settled));
    }

    /// The former homes that may still have something of ours, and how far they are to come.
    pub(super) fn unsettled(&self) -> Vec<(NodeId, Given)> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.with(|state| state.unsettled.iter().map(|(server, all)| (server.clone(), *all)).collect())
    }
}

impl Homes {
    /// Who the members are, in the order in which they came. To be called at the start, and when the list has changed, before
    /// the placement that follows from it is published: from then on it is known who is to be asked first.
    pub fn members_changed(&self, members: &Members) {
        let Some(view) = self.view() else { return };
        let own = view.mesh.own();
        self.arrivals().with(|state| {
            // Who is forgotten itself is home to nothing.
            let is_member = members.is_member(own);
            state.before = members.before(own).filter(|_| is_member).cloned().collect();
            state.forgotten = members.forgotten().filter(|_| is_member).cloned().collect();
            state.sort_out();
        });
        self.bell().ring(&[]);
    }

    /// `server` has given all that is `given`; durably known.
    pub(super) fn has_all_of(&self, server: &NodeId, given: Given) {
        let (homes, of_done) = (self.clone(), server.clone());
        let done = move |result: Result<(), _>| {
            if result.is_ok() {
                homes.arrivals().with(|state| {
                    state.settled.insert(of_done, given);
                    state.sort_out();
                });
            }
        };
        self.submit(vec![put_json(super::keys::has_all(server), &given)], Box::new(done));
    }

    /// Hands `command` about `subject` to this server's home, when that has what its former home had of it.
    pub(super) fn push_about(&self, subject: impl FnOnce() -> Subject, command: Command) {
        let (true, Some(view)) = (self.arrivals().any.load(Ordering::Acquire), self.view()) else {
            return self.here().push(command);
        };
        let subject = subject();
        let placement = view.mesh.placement();
        let is_ours = view.mesh.is_home(subject.id());
        let ask = self.arrivals().with(|state| {
            if let Some(waiting) = state.waiting.get_mut(&subject) {
                let cost = command.cost();
                if state.bytes + cost <= MAX_BYTES {
                    state.bytes += cost;
                    waiting.push(command);
                } else if let Command::Append { asker, item, .. } = command {
                    self.here().push(Command::Refuse { asker, item });
                }
                // Dropped, the others say that there is no answer.
                return None;
            }
            let mut former = Vec::new();
            if is_ours && !state.come.contains(&subject) {
                former = state.former_homes(&placement, &subject);
                former.retain(|former| view.mesh.is_reachable(former) || state.is_awaited(former));
            }
            if former.is_empty() {
                self.here().push(command);
                return None;
            }
            state.bytes += command.cost();
            state.waiting.insert(subject.clone(), vec![command]);
            Some((former, state.round))
        });
        if let Some((from, round)) = ask {
            self.seek(Wanted { subject, from, round });
        }
    }

    /// Asks the former homes that could not be reached before. To be called several times a second.
    pub(super) fn seek_put_off(&self) {
        if self.arrivals().any.load(Ordering::Acquire) {
            let wanted = self.arrivals().with(|state| std::mem::take(&mut state.put_off));
            wanted.into_iter().for_each(|wanted| self.seek(wanted));
        }
    }

    /// Asks one former home after the other; then what waits for it goes on.
    fn seek(&self, wanted: Wanted) {
        let Wanted { subject, mut from, round } = wanted;
        let Some(server) = from.pop() else {
            return self.arrivals().with(|state| {
                let waiting = state.waiting.remove(&subject).unwrap_or_default();
                state.bytes -= waiting.iter().map(Command::cost).sum::<usize>();
                waiting.into_iter().for_each(|command| self.here().push(command));
                if round == state.round {
                    state.come.insert(subject);
                }
            });
        };
        if !self.view().is_some_and(|view| view.mesh.is_reachable(&server)) {
            let passed_over = self.arrivals().with(|state| {
                if state.is_awaited(&server) {
                    from.push(server);
                    state.put_off.push(Wanted { subject, from, round });
                    return None;
                }
                Some(Wanted { subject, from, round })
            });
            return passed_over.into_iter().for_each(|wanted| self.seek(wanted));
        }
        let question = match &subject {
            Subject::Device(device) => Question::Give { device: device.clone() },
            Subject::Client(client) => Question::GiveClient { client: client.clone() },
        };
        let (homes, to) = (self.clone(), server.clone());
        let then = move |result| {
            if !matches!(result, Ok(Answer::Done)) {
                log::warn!("what {server} has of {} could not be had now: it comes later", subject.id());
            }
            homes.seek(Wanted { subject, from, round });
        };
        self.remote().ask_then(&to, &question, Box::new(then));
    }
}
