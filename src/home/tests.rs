//! Two servers in one process: their homes, views and stores, and a wire between them that can be cut.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker as TaskWaker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::oneshot;

use super::committer::Content;
use super::{Home, Homes, Threads, TokenChange};
use crate::model::custody::Verdict;
use crate::model::envelope::{Encoded, Status};
use crate::model::frames::Denial;
use crate::model::ids::{ConnectionId, Epoch, Incarnation, NodeId, Seq};
use crate::model::inbox::Limits;
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
            let mut links = HashMap::new();
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

#[test]
fn an_inbox_is_used_from_any_server() {
    let world = World::linked();
    let device = World::device_of(&world.a);
    assert_eq!(block_on(world.b.homes.register(id(&device), None)), Ok(0));
    for n in 0..3 {
        assert_eq!(status(world.b.send(&device, &format!("m{n}"))), Some(Status::Stored));
    }
    assert_eq!(world.a.inbox(&device), ["m0", "m1", "m2"]);
    assert_eq!(world.b.inbox(&device), ["m0", "m1", "m2"]);
    assert_eq!(block_on(world.b.homes.register(id(&device), None)), Ok(3));
    assert_eq!(block_on(world.b.homes.trim(id(&device), Seq(2))).unwrap().pending, 1);
    assert_eq!(world.a.inbox(&device), ["m2"]);
    let profile = block_on(world.b.homes.profile(id(&device))).unwrap().unwrap();
    assert_eq!(profile.pending, 1);
    assert!(world.b.store.get(crate::store::Table::Records, &super::keys::head(&id(&device))).unwrap().is_none());
}

#[test]
fn a_device_reads_its_inbox_at_any_server_and_empties_it() {
    let world = World::linked();
    let device = World::device_of(&world.a);
    for n in 0..40 {
        assert_eq!(status(world.a.send(&device, &format!("m{n}"))), Some(Status::Stored));
    }
    let edge = world.b.attach(&device, 1);
    let mut came = Vec::new();
    until("all has come", || {
        came.extend(world.b.read(&device, edge));
        came.len() == 40
    });
    assert_eq!(came, (0..40).map(|n| format!("m{n}")).collect::<Vec<_>>());
    until("the inbox is empty", || world.a.inbox(&device).is_empty());
}

#[test]
fn what_is_stored_before_the_home_hears_of_an_attachment_comes_all_the_same() {
    let world = World::linked();
    let device = world.device_of(&world.a);
    assert_eq!(status(world.a.send(&device, "before")), Some(Status::Stored));
    // As a handshake does, and nobody tells `a` where the device is.
    assert_eq!(block_on(world.b.homes.register(id(&device), None)), Ok(1));
    let edge = world.b.attach(&device, 1);
    until("what waits has come", || world.b.read(&device, edge) == ["before"]);
    until("the inbox is empty", || world.a.inbox(&device).is_empty());
    assert_eq!(status(world.a.send(&device, "after")), Some(Status::Stored));
    until("what was stored since has come", || world.b.read(&device, edge) == ["after"]);
}

#[test]
fn what_is_for_a_home_that_is_away_is_held_and_goes_on_in_order() {
    let world = World::linked();
    let device = World::device_of(&world.a);
    // Of somebody who was never there less is kept.
    block_on(world.a.homes.register(id(&device), None)).unwrap();
    assert_eq!(status(world.b.send(&device, "m0")), Some(Status::Stored));
    world.cut();
    for n in 1..200 {
        assert_eq!(status(world.b.send(&device, &format!("m{n}"))), Some(Status::Stored));
    }
    assert_eq!(world.a.inbox(&device), ["m0"]);
    world.link();
    // Behind what is held.
    assert_eq!(status(world.b.send(&device, "m200")), Some(Status::Stored));
    until("all has gone on", || world.a.inbox(&device).len() == 201);
    assert_eq!(world.a.inbox(&device), (0..201).map(|n| format!("m{n}")).collect::<Vec<_>>());
    until("nothing is held", || !world.b.homes.abroad().holds(&id(&device)));
    assert_eq!(status(world.b.send(&device, "last")), Some(Status::Stored));
    assert_eq!(world.a.inbox(&device).len(), 202);
}

#[test]
fn held_mail_outlives_its_server() {
    let world = World::new();
    let device = World::device_of(&world.a);
    for n in 0..5 {
        assert_eq!(status(world.b.send(&device, &format!("m{n}"))), Some(Status::Stored));
    }
    let world = world.restart_b();
    assert!(world.b.homes.abroad().holds(&id(&device)));
    assert_eq!(status(world.b.send(&device, "m5")), Some(Status::Stored));
    world.link();
    until("all has gone on", || world.a.inbox(&device).len() == 6);
    assert_eq!(world.a.inbox(&device), (0..6).map(|n| format!("m{n}")).collect::<Vec<_>>());
    until("nothing is held", || {
        world.b.store.get(crate::store::Table::Held, &super::keys::held(&id(&device), 6)).unwrap().is_none()
    });
}

#[test]
fn held_mail_goes_to_a_device_that_comes_while_its_home_is_away() {
    let world = World::new();
    let device = World::device_of(&world.a);
    assert_eq!(status(world.b.send(&device, "m0")), Some(Status::Stored));
    let edge = world.b.attach(&device, 1);
    let mut came = Vec::new();
    until("it has come", || {
        came.extend(world.b.read(&device, edge));
        !came.is_empty()
    });
    assert_eq!(came, ["m0"]);
    until("it is held no more", || !world.b.homes.abroad().holds(&id(&device)));
}

#[test]
fn what_was_under_way_when_the_home_was_lost_is_held() {
    let world = World::linked();
    let device = World::device_of(&world.a);
    let verdicts: Vec<_> = (0..50).map(|n| world.b.send(&device, &format!("m{n}"))).collect();
    world.cut();
    for verdict in verdicts {
        assert_eq!(status(verdict), Some(Status::Stored));
    }
    world.link();
    until("all is there", || world.a.inbox(&device).len() == 50);
    assert_eq!(world.a.inbox(&device), (0..50).map(|n| format!("m{n}")).collect::<Vec<_>>());
}

#[test]
fn a_token_is_changed_from_any_server() {
    let world = World::linked();
    let device = World::device_of(&world.a);
    let change = TokenChange::add("fcm", "token".to_owned()).unwrap();
    assert_eq!(block_on(world.b.homes.change_tokens(id(&device), change)), Ok(()));
    let profile = block_on(world.a.homes.profile(id(&device))).unwrap().unwrap();
    assert_eq!(profile.providers.len(), 1);
}

fn providers(server: &Server, device: &str) -> usize {
    let record: Option<super::boxes::DeviceRecord> =
        super::boxes::read_json(&*server.store, &super::keys::device(&id(device))).unwrap();
    record.map_or(0, |record| record.tokens.len())
}

fn owed(server: &Server, to: &str) -> usize {
    let (from, to) = super::keys::all_owed(&id(to));
    let mut count = 0;
    let mut visit = |_: &[u8], _| {
        count += 1;
        std::ops::ControlFlow::Continue(())
    };
    server.store.scan(crate::store::Table::Records, &from, &to, crate::store::Order::Ascending, &mut visit).unwrap();
    count
}

fn token(text: &str) -> TokenChange {
    TokenChange::add("fcm", text.to_owned()).unwrap()
}

#[test]
fn a_change_is_at_home_and_deputy_before_it_is_answered() {
    let world = World::linked();
    for server in [&world.a, &world.b] {
        let device = World::device_of(server);
        assert_eq!(block_on(world.b.homes.change_tokens(id(&device), token("t"))), Ok(()));
        assert_eq!((providers(&world.a, &device), providers(&world.b, &device)), (1, 1));
    }
    until("nothing is owed", || owed(&world.a, "b") + owed(&world.b, "a") == 0);
}

#[test]
fn a_deputy_serves_while_the_home_is_away_and_hands_back() {
    let world = World::linked();
    let device = World::device_of(&world.b);
    block_on(world.a.homes.change_tokens(id(&device), token("t1"))).unwrap();
    world.cut();
    block_on(world.a.homes.change_tokens(id(&device), token("t2"))).unwrap();
    assert_eq!((providers(&world.a, &device), providers(&world.b, &device)), (2, 1));
    let world = world.restart_b();
    assert!(!world.b.view.mesh.returning().is_over());
    world.link();
    until("it has returned", || world.b.view.mesh.returning().is_over());
    assert_eq!(providers(&world.b, &device), 2, "before it serves it has what was changed");
    until("nothing is owed", || owed(&world.a, "b") == 0);
}

#[test]
fn a_server_that_nobody_reaches_serves_after_a_while() {
    let world = World::new();
    assert!(!world.b.view.mesh.returning().is_over());
    until("it has returned", || world.b.view.mesh.returning().is_over());
}

#[test]
fn the_devices_of_a_client_are_known_at_the_clients_home() {
    let world = World::linked();
    let clients: Vec<crate::model::ids::ClientId> = (0..8).map(|n| format!("c{n}").parse().unwrap()).collect();
    for (n, client) in clients.iter().enumerate() {
        block_on(world.a.homes.register(id(&format!("e{n}")), Some(client.clone()))).unwrap();
    }
    let known = |server: &Server, n: usize, client: &crate::model::ids::ClientId| {
        let value =
            server.store.get(crate::store::Table::Records, &super::keys::device_of(client, &id(&format!("e{n}"))));
        value.unwrap().is_some_and(|value| super::copies::Belonging::decode(&value).is_one())
    };
    for (n, client) in clients.iter().enumerate() {
        assert!(known(&world.a, n, client) && known(&world.b, n, client));
    }
    // It changes hands.
    block_on(world.b.homes.register(id("e0"), Some(clients[1].clone()))).unwrap();
    for server in [&world.a, &world.b] {
        assert!(!known(server, 0, &clients[0]) && known(server, 0, &clients[1]));
    }
}

/// `a` has been alone, and has an inbox and a token for each of these; then `b` joins.
fn joined(devices: &[String]) -> World {
    let store = |epoch| Arc::new(MemoryStore::new(Epoch(epoch)));
    let a = Arc::new(Server::start("a", &["a"], 1, store(5)));
    for device in devices {
        block_on(a.homes.register(id(device), Some("client".parse().unwrap()))).unwrap();
        for n in 0..3 {
            assert_eq!(status(a.send(device, &format!("{device}-{n}"))), Some(Status::Stored));
        }
        block_on(a.homes.trim(id(device), Seq(1))).unwrap();
    }
    let b = Arc::new(Server::start("b", &["b"], 1, store(6)));
    let wire = Wire::between(a.clone(), b.clone());
    World { a, b, wire }
}

fn members() -> crate::model::members::Members {
    let mut members = crate::model::members::Members::first(id("a"));
    let _ = members.admit(&id("b"));
    members
}

impl World {
    fn place(&self) {
        for server in [&self.b, &self.a] {
            server.view.mesh.publish_placement(placement(&["a", "b"]));
            server.homes.members_changed(&members());
        }
    }
}

fn page(server: &Server, device: &str) -> (Vec<u64>, Epoch) {
    let fetch = Fetch { from_seq: None, to_seq: None, after: None, before: None, first: First::Oldest, limit: 1000 };
    let page = block_on(server.homes.fetch(id(device), fetch)).unwrap();
    (page.messages.iter().map(|(seq, _)| seq.0).collect(), page.epoch)
}

fn has_inbox(server: &Server, device: &str) -> bool {
    server.store.get(crate::store::Table::Inbox, &super::keys::envelope(&id(device), Seq(2))).unwrap().is_some()
}

#[test]
fn what_belongs_to_a_newcomer_moves_there_with_its_numbers() {
    let devices: Vec<String> = (0..40).map(|n| format!("d{n}")).collect();
    let world = joined(&devices);
    world.link();
    world.place();
    // At once, while they are on their way.
    for device in devices.iter().rev() {
        assert_eq!(page(&world.b, device), (vec![2, 3], Epoch(5)), "{device}");
        assert_eq!(status(world.b.send(device, &format!("{device}-new"))), Some(Status::Stored));
        assert_eq!(page(&world.a, device), (vec![2, 3, 4], Epoch(5)), "{device}");
    }
    let home = |device: &String| world.b.view.mesh.is_home(device);
    until("all is where it belongs", || {
        devices
            .iter()
            .all(|device| has_inbox(&world.b, device) == home(device) && has_inbox(&world.a, device) != home(device))
    });
    assert!(devices.iter().any(&home) && !devices.iter().all(home));
    until("nothing is asked for any more", || world.b.homes.arrivals().unsettled().is_empty());
    for device in &devices {
        assert_eq!(
            block_on(world.b.homes.profile(id(device))).unwrap().unwrap().client,
            Some("client".parse().unwrap())
        );
        assert_eq!(page(&world.b, device), (vec![2, 3, 4], Epoch(5)), "{device}");
    }
    until("both keep the client's devices", || {
        let client = "client".parse().unwrap();
        let of = |server: &Server| super::moving::devices_of(&*server.store, &client).unwrap().len();
        of(&world.a) == 40 && of(&world.b) == 40
    });
}

#[test]
fn what_moves_later_goes_behind_what_is_there_already() {
    let devices: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
    let world = joined(&devices);
    world.place();
    let device = World::device_of(&world.b);
    assert_eq!(status(world.b.send(&device, "new")), Some(Status::Stored), "its former home cannot be asked");
    world.link();
    until("it has come", || page(&world.b, &device).0.len() == 3);
    let (seqs, epoch) = page(&world.b, &device);
    assert_eq!(seqs, [1, 2, 3]);
    assert!(epoch != Epoch(5) && epoch != Epoch(6), "numbers mean something else now");
    assert_eq!(world.a.inbox(&device), ["new".to_owned(), format!("{device}-1"), format!("{device}-2")]);
}

#[test]
fn a_long_inbox_moves_in_parts() {
    let world = joined(&["d0".to_owned()]);
    let device = World::device_of(&world.b);
    block_on(world.a.homes.register(id(&device), None)).unwrap();
    for n in 0..500 {
        drop(world.a.send_long(&device, &format!("m{n}"), &"x".repeat(2000)));
    }
    block_on(world.a.homes.flush());
    let before = world.a.inbox(&device);
    world.link();
    world.place();
    until("it is there", || world.b.view.mesh.is_home(&device) && world.b.inbox(&device).len() == before.len());
    assert_eq!(world.b.inbox(&device), before);
}
