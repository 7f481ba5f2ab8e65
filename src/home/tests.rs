//! Two servers in one process: their homes, views and stores, and a wire between them that can be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker as TaskWaker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::oneshot;

use super::committer::Content;
use super::{Home, Homes, Threads};
use crate::model::custody::Verdict;
use crate::model::envelope::{Encoded, Status};
use crate::model::frames::Denial;
use crate::model::ids::{ConnectionId, Epoch, Incarnation, NodeId};
use crate::model::inbox::Limits;
use crate::model::keyed::HashMap;
use crate::model::lane::{Options, Replay};
use crate::model::outbox::{Acks, Class, Custody, Item, Keep, Prompt};
use crate::model::placement::Placement;
use crate::model::topology::{About, Address, LinkState, Load, Standing, Topology};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::view::{LINK_QUEUE_LIMIT, LinkQueue, Mesh, Parcel, Receiver, Taken, Ticket, View, Whom, now};
use crate::wire::carrier::Masking;
use crate::wire::config_request::{Fetch, First};
use crate::wire::{frame, link};

mod inboxes;
mod moving;
mod records;

const CLUSTER: [u8; 32] = [7; 32];
const LIMITS: Limits = Limits { bytes: 10 << 20, count: 10_000, age_ms: 3_600_000 };

pub(super) fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

/// Waits until `what` holds.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) struct Server {
    pub view: Arc<View>,
    pub homes: Homes,
    pub store: Arc<MemoryStore>,
    name: NodeId,
    incarnation: Incarnation,
    queue: Arc<LinkQueue>,
    threads: Option<Threads>,
}

fn about(standing: Standing) -> About {
    About { address: Address::default(), load: Load::default(), standing, epoch: 0 }
}

fn placement(members: &[&str]) -> Placement {
    Placement::new(CLUSTER, members.iter().map(|name| id(name)), Vec::new()).unwrap()
}

impl Server {
    fn start(name: &str, members: &[&str], incarnation: u64, store: Arc<MemoryStore>) -> Self {
        let desk = Home::open(store.clone());
        let homes = desk.homes();
        let incarnation = Incarnation(incarnation);
        let topology = Topology::new(id(name), incarnation, about(Standing::Serving));
        let mesh = Mesh::new(id(name), incarnation, topology.routes(), placement(members));
        let view = Arc::new(View::new(mesh, Box::new(homes.clone()), 1 << 20, incarnation.0));
        let threads = desk.start(view.clone(), LIMITS, Arc::new(|_| {}), Content::Hidden).unwrap();
        let queue = Arc::new(LinkQueue::new(id("peer"), LINK_QUEUE_LIMIT));
        Self { view, homes, store, name: id(name), incarnation, queue, threads: Some(threads) }
    }

    /// An envelope for `device`; its verdict.
    pub(super) fn send(&self, device: &str, text: &str) -> oneshot::Receiver<Result<Verdict, Denial>> {
        self.send_long(device, text, "")
    }

    fn send_long(&self, device: &str, text: &str, payload: &str) -> oneshot::Receiver<Result<Verdict, Denial>> {
        let (waiter, verdict) = oneshot::channel();
        let sender = Whom::Sender(id("sender"));
        let ticket = Ticket::open(sender, text.parse().unwrap(), None, None, Some(waiter));
        let encoded: Encoded = frame::text(format!("{{\"id\":\"{text}\",\"payload\":\"{payload}\"}}"));
        let keep = Keep {
            sender: id("sender"),
            id: text.parse().unwrap(),
            collapse: None,
            kind: 1,
            timestamp: now(),
            session: None,
            prompt: Prompt::Soon,
        };
        let item: Parcel = Item {
            encoded,
            key: Some(crate::model::seen::Key::of(&id("sender"), &text.parse().unwrap())),
            seq: None,
            class: Class::Reliable,
            ticket: Some(ticket.clone()),
            repeats: Vec::new(),
            expires: None,
            keep: Arc::new(keep),
            shown: None,
            custody: Custody::Own,
        };
        self.view.offer(&id(device), item);
        self.view.release(&ticket);
        verdict
    }

    /// The ids of what lies in the inbox of `device`, as this server is told.
    pub(super) fn inbox(&self, device: &str) -> Vec<String> {
        let fetch =
            Fetch { from_seq: None, to_seq: None, after: None, before: None, first: First::Oldest, limit: 1000 };
        let page = block_on(self.homes.fetch(id(device), fetch)).unwrap();
        page.messages.iter().map(|(_, text)| name_of(text)).collect()
    }

    /// As a device that reads all it is sent, and acknowledges it; the ids of what came.
    pub(super) fn read(&self, device: &str, connection: ConnectionId) -> Vec<String> {
        let device = self.view.devices.get(device).unwrap();
        let mut batch = std::collections::VecDeque::new();
        let mut ids = Vec::new();
        while self.view.take(&device, connection, 1 << 20, TaskWaker::noop(), &mut batch) == Taken::Frames {
            for frame in batch.drain(..) {
                match frame[0] & 0x0f {
                    9 => {
                        let counter = frame::ping_counter(&frame[2..]);
                        self.view.on(&device, |lane, now, out| {
                            lane.pong(connection, counter.unwrap_or_default(), now, out);
                        });
                    }
                    _ => ids.push(name_of(&frame[usize::from(frame::header_of(&frame).unwrap())..])),
                }
            }
        }
        ids
    }

    pub(super) fn attach(&self, device: &str, connection: u64) -> ConnectionId {
        let device = self.view.devices.get_or_add(&id(device));
        let options = Options { acks: Acks::Transport, replay: Replay::Auto, limit: 1 << 20, number: connection };
        self.view.attach(&device, ConnectionId(connection), options);
        ConnectionId(connection)
    }

    fn stop(&mut self) {
        self.homes.close();
        if let Some(threads) = self.threads.take() {
            threads.join();
        }
    }
}

fn name_of(text: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(text).unwrap();
    value["id"].as_str().unwrap().to_owned()
}

pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.expect("an answer in time") })
}

/// What was stored or delivered, or nothing of the kind.
pub(super) fn status(verdict: oneshot::Receiver<Result<Verdict, Denial>>) -> Option<Status> {
    match block_on(verdict).unwrap().unwrap() {
        Verdict::Confirmed { status, .. } => Some(status),
        Verdict::Unavailable(_) => None,
    }
}

/// Two servers, `a` and `b`, and the wire between them.
pub(super) struct World {
    pub a: Arc<Server>,
    pub b: Arc<Server>,
    wire: Wire,
}

struct Wire {
    stop: Arc<AtomicBool>,
    pump: Option<JoinHandle<()>>,
}

impl Wire {
    fn between(a: Arc<Server>, b: Arc<Server>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let pump = std::thread::spawn(move || {
            let ends = [(a.clone(), b.clone()), (b, a)];
            while !ended.load(Ordering::Relaxed) {
                for (from, to) in &ends {
                    let mut bytes = BytesMut::new();
                    from.queue.take(1 << 20, Masking::Server, TaskWaker::noop(), &mut bytes);
                    carry(&from.name, bytes.freeze(), &to.view);
                    from.view.tick();
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        Self { stop, pump: Some(pump) }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.pump.take().map(JoinHandle::join);
    }
}

/// One WebSocket message of whole frames.
fn carry(from: &NodeId, mut bytes: Bytes, to: &View) {
    if bytes.is_empty() {
        return;
    }
    let head = match bytes[1] & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    bytes.advance(head);
    while let Some(hop) = link::decode(&mut bytes).unwrap() {
        to.receive(from, hop);
    }
    to.flush();
}

impl World {
    pub(super) fn new() -> Self {
        let store = || Arc::new(MemoryStore::new(Epoch(5)));
        let members = ["a", "b"];
        let a = Arc::new(Server::start("a", &members, 1, store()));
        let b = Arc::new(Server::start("b", &members, 1, store()));
        let wire = Wire::between(a.clone(), b.clone());
        Self { a, b, wire }
    }

    /// As [`Self::new`], linked.
    pub(super) fn linked() -> Self {
        let world = Self::new();
        world.link();
        world
    }

    /// A device whose home is `server`.
    pub(super) fn device_of(server: &Server) -> String {
        let placement = server.view.mesh.placement();
        (0..1000).map(|n| format!("d{n}")).find(|device| *placement.home(device) == server.name).unwrap()
    }

    pub(super) fn link(&self) {
        Self::publish(&[(&self.a, &self.b), (&self.b, &self.a)], true);
    }

    pub(super) fn cut(&self) {
        Self::publish(&[(&self.a, &self.b), (&self.b, &self.a)], false);
    }

    fn publish(pairs: &[(&Arc<Server>, &Arc<Server>)], linked: bool) {
        for (own, other) in pairs {
            let mut topology = Topology::new(own.name.clone(), own.incarnation, about(Standing::Serving));
            let mut far = Topology::new(other.name.clone(), other.incarnation, about(Standing::Serving));
            let mut links = HashMap::default();
            if linked {
                let _ = topology.set_links(vec![LinkState { peer: other.name.clone(), cost: 1 }]);
                let _ = far.set_links(vec![LinkState { peer: own.name.clone(), cost: 1 }]);
                let _ = topology.accept(far.own().clone(), now());
                links.insert(other.name.clone(), own.queue.clone());
            }
            let lost = own.view.mesh.publish(topology.routes(), links);
            own.view.devices.for_each(|device| own.view.look_again(device.id()));
            own.view.post_again(&lost);
            own.homes.lost(&lost);
            if linked {
                own.homes.reachable(std::slice::from_ref(&other.name));
            }
        }
    }

    /// `b` ends and comes back with what its store has.
    pub(super) fn restart_b(self) -> Self {
        self.cut();
        let Self { a, b, wire } = self;
        drop(wire);
        let store = b.store.clone();
        let incarnation = b.incarnation.0 + 1;
        let mut b = Arc::into_inner(b).expect("nobody else has it");
        b.stop();
        let b = Arc::new(Server::start("b", &["a", "b"], incarnation, store));
        let wire = Wire::between(a.clone(), b.clone());
        Self { a, b, wire }
    }
}
