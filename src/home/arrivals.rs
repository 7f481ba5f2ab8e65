//! What has not come to this server yet, of which it is the home now: asked for when it is first needed.
//!
//! A server that joins a mesh is home to ids that others have kept so far, and move here in the background. Until such a former
//! home has said that all has come, whatever is asked of an id that was its own waits until it has given that one.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Homes;
use super::boxes::put_json;
use super::question::{Answer, Question};
use super::queue::Command;
use crate::model::ids::NodeId;
use crate::model::members::Members;
use crate::store::Journal;

/// Bytes that may wait for ids on their way here.
const MAX_BYTES: usize = 64 << 20;

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

#[derive(Default)]
struct State {
    /// The members that were there before this server.
    before: Vec<NodeId>,
    /// Those of them that may still have something of ours.
    unsettled: HashSet<NodeId>,
    settled: HashSet<NodeId>,
    waiting: HashMap<Subject, Vec<Command>>,
    bytes: usize,
    /// What has come, or cannot.
    come: HashSet<Subject>,
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

    /// What the store says: these have given all they had.
    pub(super) fn restore(&self, settled: impl IntoIterator<Item = NodeId>) {
        self.with(|state| state.settled.extend(settled));
    }

    /// The former homes that may still have something of ours.
    pub(super) fn unsettled(&self) -> Vec<NodeId> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.with(|state| state.unsettled.iter().cloned().collect())
    }
}

impl Homes {
    /// Who the members are, in the order in which they came. To be called at the start, and when the list has changed and the
    /// placement that follows from it is published.
    pub fn members_changed(&self, members: &Members) {
        let Some(view) = self.view() else { return };
        self.arrivals().with(|state| {
            state.before = members.before(view.mesh.own()).cloned().collect();
            state.unsettled = state.before.iter().filter(|server| !state.settled.contains(*server)).cloned().collect();
        });
        self.bell().ring(&[]);
    }

    /// `server` has nothing more that belongs here; durably known.
    pub(super) fn has_all_of(&self, server: &NodeId) {
        let (homes, of_done) = (self.clone(), server.clone());
        let done = move |result: Result<(), _>| {
            if result.is_ok() {
                homes.arrivals().with(|state| {
                    state.settled.insert(of_done.clone());
                    state.unsettled.remove(&of_done);
                    if state.unsettled.is_empty() {
                        state.come = HashSet::new();
                    }
                });
            }
        };
        self.submit(vec![put_json(super::keys::has_all(server), &true)], Box::new(done));
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
            let former = placement
                .formerly(subject.id(), &state.before)
                .filter(|former| is_ours && state.unsettled.contains(*former) && !state.come.contains(&subject));
            let Some(former) = former.filter(|former| view.mesh.is_reachable(former)).cloned() else {
                self.here().push(command);
                return None;
            };
            state.bytes += command.cost();
            state.waiting.insert(subject.clone(), vec![command]);
            Some(former)
        });
        let Some(former) = ask else { return };
        let question = match &subject {
            Subject::Device(device) => Question::Give { device: device.clone() },
            Subject::Client(client) => Question::GiveClient { client: client.clone() },
        };
        let (homes, server) = (self.clone(), former.clone());
        let then = move |result| {
            if !matches!(result, Ok(Answer::Done)) {
                log::warn!("what {former} has of {} could not be had now: it comes later", subject.id());
            }
            homes.arrivals().with(|state| {
                let waiting = state.waiting.remove(&subject).unwrap_or_default();
                state.bytes -= waiting.iter().map(Command::cost).sum::<usize>();
                waiting.into_iter().for_each(|command| homes.here().push(command));
                state.come.insert(subject);
            });
        };
        self.remote().ask_then(&server, &question, Box::new(then));
    }
}
