//! Watching: what an operator is told of a server, and through it of all others.
//!
//! Owns the history of the server's figures, and the answers to what is asked in [`words`]: of this server here, of others
//! over the links, so that whoever reaches one server sees them all. Invariants: nothing is noted on the data path for this;
//! what takes as long as there are devices or mail is done on a thread that may block, one at a time.
//!
//! What is durable is searched by [`crate::home`], lanes are asked through [`crate::view`].

mod vitals;
pub mod words;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Addr;
use futures_util::future::join_all;
use serde_json::value::{RawValue, to_raw_value};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::words::{Asked, DeviceHere, EdgeHere, LinkLevel, SentOn, Sighted, Sightings, State, Told, Vitals};
use crate::home::remote::{Reply, Watched};
use crate::home::{Homes, Search, Whole};
use crate::model::custody::Outcome;
use crate::model::history::{History, STEP_MS};
use crate::model::ids::{EnvelopeId, NodeId};
use crate::model::lane::Sighting;
use crate::model::outbox::{Custody, Stage, Wanted};
use crate::model::seen::Key;
use crate::node::{Drain, Node};
use crate::push::PushHandle;
use crate::store::Table;
use crate::view::{OnTheWay, View, now};

/// How long a server may take to answer. A search takes less.
const PATIENCE: Duration = Duration::from_secs(4);
/// Most places of one envelope that one server tells of.
const MOST: usize = 200;

/// Whom the service asks for what it tells.
pub struct Setup {
    pub own: NodeId,
    pub view: Arc<View>,
    pub homes: Homes,
    pub node: Addr<Node>,
    pub push: PushHandle,
    pub search: Search,
    pub drain_deadline: Duration,
}

/// See the module's header.
pub struct Watch {
    of: Setup,
    history: Mutex<History>,
    /// Whoever searches has it.
    searching: Semaphore,
    runtime: Handle,
}

impl Watch {
    /// Begins to take readings, and to answer other servers. To be called on a thread with a runtime.
    pub fn begin(of: Setup) -> Arc<Self> {
        let watch =
            Arc::new(Self { of, history: Mutex::default(), searching: Semaphore::new(1), runtime: Handle::current() });
        watch.of.homes.remote().serve_watch(Arc::new(FromMesh(watch.clone())));
        let reads = watch.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(STEP_MS));
            loop {
                ticks.tick().await;
                // Files are read.
                if let Ok(reading) = tokio::task::spawn_blocking(|| vitals::read(now())).await {
                    reads.history(|history| history.push(reading));
                }
            }
        });
        watch
    }

    fn history<R>(&self, act: impl FnOnce(&mut History) -> R) -> R {
        // Nothing panics while it is held.
        act(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All servers that can be reached, this one included.
    pub fn servers(&self) -> Vec<NodeId> {
        let mut servers = self.of.view.mesh.routes().servers().to_vec();
        servers.push(self.of.own.clone());
        servers
    }

    /// Asks one server, which may be this one; `None` where it does not answer, or not in time.
    pub async fn ask(self: &Arc<Self>, server: &NodeId, asked: Asked) -> Option<Told> {
        let answer = async {
            if *server == self.of.own {
                return self.answer(asked).await;
            }
            // Our own words are plain enums of numbers and strings, which always serialise.
            let question = to_raw_value(&asked).ok()?;
            let answer = self.of.homes.remote().ask_watch(server, question).await;
            let answer: Box<RawValue> = answer.ok()?;
            serde_json::from_str(answer.get())
                .map_err(|error| log::error!("server {server} answers what cannot be read: {error}"))
                .ok()
        };
        tokio::time::timeout(PATIENCE, answer).await.ok().flatten()
    }

    /// Asks all these at once.
    pub async fn ask_all(self: &Arc<Self>, servers: Vec<NodeId>, asked: &Asked) -> Vec<(NodeId, Option<Told>)> {
        let each = servers.into_iter().map(|server| async {
            let told = self.ask(&server, asked.clone()).await;
            (server, told)
        });
        join_all(each).await
    }

    /// Of this server.
    async fn answer(self: &Arc<Self>, asked: Asked) -> Option<Told> {
        match asked {
            Asked::Vitals { points } => Some(Told::Vitals(Box::new(self.vitals(points)))),
            Asked::Device { device } => Some(Told::Device(self.device(&device))),
            Asked::Envelope { sender, id, device } => {
                let permit = self.searching.acquire().await.ok()?;
                let search = self.clone();
                let work = move || search.trace(&sender, &id, device.as_ref());
                let found = tokio::task::spawn_blocking(work).await.ok()?;
                drop(permit);
                Some(Told::Envelope(found))
            }
            Asked::Drain { by } => {
                log::info!("{by} asks this server to go away");
                self.of.node.send(Drain { deadline: self.of.drain_deadline }).await.ok()?;
                Some(Told::Draining)
            }
        }
    }

    fn vitals(&self, points: usize) -> Vitals {
        let mesh = &self.of.view.mesh;
        let level =
            |(peer, queue_bytes)| LinkLevel { unacknowledged_bytes: mesh.unacknowledged(&peer), peer, queue_bytes };
        Vitals {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now: now(),
            links: mesh.link_levels().into_iter().map(level).collect(),
            history: self.history(|history| history.last(points)),
        }
    }

    fn device(&self, device: &NodeId) -> DeviceHere {
        let last_push = self.of.push.last(device);
        let Some(state) = self.of.view.lane_state(device) else {
            return DeviceHere { edges: Vec::new(), catches_up: false, sent_on: None, last_push };
        };
        let edge = |edge: crate::model::lane::EdgeState| EdgeHere {
            connection: edge.connection.0,
            attachment: edge.number,
            state: edge.pace.to_owned(),
            waiting: edge.waiting,
            unacknowledged: edge.unacknowledged,
            queue_bytes: edge.bytes,
        };
        DeviceHere {
            edges: state.edges.into_iter().map(edge).collect(),
            catches_up: state.catches_up,
            sent_on: state.abroad.map(|(to, envelopes, bytes)| SentOn { to, envelopes, bytes }),
            last_push,
        }
    }

    /// Blocks.
    fn trace(&self, sender: &NodeId, id: &EnvelopeId, device: Option<&NodeId>) -> Sightings {
        let plain = |state| Sighted { device: None, state, custodian: None, to: None, seq: None, since: None };
        let mut found = Vec::new();
        for on_the_way in self.of.view.trace_on_the_way(sender, id) {
            found.push(match on_the_way {
                OnTheWay::Posted(to) => Sighted { to: Some(to), custodian: Some(true), ..plain(State::Posted) },
                OnTheWay::Gated => Sighted { custodian: Some(true), ..plain(State::AsksForDevices) },
            });
        }
        self.of.view.trace(sender, id, |device, sighting| {
            found.push(Sighted { device: Some(device.clone()), ..of_lane(sighting, plain) });
        });
        let wanted = Wanted { key: Key::of(sender, id), sender, id };
        for (device, home) in self.of.homes.trace(wanted) {
            found.push(Sighted { device: Some(device), to: Some(home.to_string()), ..plain(State::Storing) });
        }
        let (lying, whole) = self.of.search.find(sender, id, device).unwrap_or_else(|error| {
            log::error!("an envelope cannot be looked for: {error}");
            (Vec::new(), Whole::No)
        });
        for lying in lying {
            let (state, seq) = match lying.table {
                Table::Held => (State::Held, None),
                _ => (State::Inbox, Some(lying.seq)),
            };
            let custodian = (state == State::Held).then_some(true);
            found.push(Sighted {
                device: Some(lying.device),
                seq,
                custodian,
                since: Some(lying.stored),
                ..plain(state)
            });
        }
        let searched_all = whole == Whole::Yes && found.len() <= MOST;
        found.truncate(MOST);
        Sightings { found, searched_all }
    }
}

fn of_lane(sighting: Sighting, plain: impl Fn(State) -> Sighted) -> Sighted {
    match sighting {
        Sighting::Outbox { stage, custody, connection: _ } => {
            let state = match stage {
                Stage::Waits => State::Waits,
                Stage::Written => State::Written,
            };
            Sighted { custodian: Some(custody == Custody::Own), ..plain(state) }
        }
        Sighting::Abroad { server } => {
            Sighted { custodian: Some(true), to: Some(server.to_string()), ..plain(State::SentOn) }
        }
        Sighting::Pending => plain(State::Storing),
        Sighting::Settled(outcome) => plain(match outcome {
            Outcome::Delivered => State::Delivered,
            Outcome::Stored => State::Stored,
            Outcome::Dropped => State::Dropped,
            Outcome::Failed => State::Failed,
        }),
    }
}

/// Where other servers' questions come in.
struct FromMesh(Arc<Watch>);

impl Watched for FromMesh {
    fn asked(&self, from: &NodeId, question: Box<RawValue>, reply: Reply) {
        let asked: Asked = match serde_json::from_str(question.get()) {
            Ok(asked) => asked,
            Err(error) => return log::error!("server {from} asks what cannot be read: {error}"),
        };
        let watch = self.0.clone();
        let answer = async move {
            // Dropped without an answer, it says that there is none.
            if let Some(told) = watch.answer(asked).await
                && let Ok(words) = to_raw_value(&told)
            {
                reply.watch(words);
            }
        };
        // Whoever asks has a bounded number of questions open, which is what bounds these.
        drop(self.0.runtime.spawn(answer));
    }
}
