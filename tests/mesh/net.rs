//! Several servers' data paths in one process, joined by the real queues and the real codec: nothing here waits, and every
//! frame moves when the test says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use sparkmesh::model::attachments::{Attachment, Change};
use sparkmesh::model::custody::{Outcome, Verdict};
use sparkmesh::model::frames::Dispatch;
use sparkmesh::model::ids::{ClientId, ConnectionId, Incarnation, Millis, NodeId, Seq};
use sparkmesh::model::keyed::HashMap;
use sparkmesh::model::lane::{End, Kept, Options, Replay, Why};
use sparkmesh::model::outbox::Acks;
use sparkmesh::model::placement::Placement;
use sparkmesh::model::seen::Key;
use sparkmesh::model::topology::{About, Address, LinkState, Load, Standing, Topology};
use sparkmesh::view::{Device, Inboxes, LinkQueue, Mesh, Parcel, Receiver, Taken, View};
use sparkmesh::wire::carrier::{Deframer, Masking, Message};
use sparkmesh::wire::{frame, link};

pub(crate) fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

/// What the inboxes of the whole net were asked: one memory, as if every server were everybody's home.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) appended: Mutex<Vec<(String, String)>>,
    /// Done once, while something for this device is at hand.
    pub(crate) meanwhile: Mutex<Option<(NodeId, Meanwhile)>>,
    asked: Mutex<VecDeque<Ask>>,
}

type Meanwhile = Box<dyn FnOnce() + Send>;

enum Ask {
    Append(usize, Arc<Device>, Parcel),
    Read(usize, Arc<Device>, u64),
}

struct Home {
    server: usize,
    disk: Arc<Disk>,
}

impl Inboxes for Home {
    fn append(&self, device: &Arc<Device>, item: Parcel, _: Why) {
        self.disk.asked.lock().unwrap().push_back(Ask::Append(self.server, device.clone(), item));
    }
    fn goes_behind(&self, device: &NodeId, _: &Parcel) -> bool {
        let due = self.disk.meanwhile.lock().unwrap().take_if(|(of, _)| of == device);
        if let Some((_, act)) = due {
            act();
        }
        false
    }
    fn present(&self, _: &NodeId) {}
    fn remove(&self, _: &NodeId, _: Seq) {}
    fn trim(&self, _: &NodeId, _: Seq) {}
    fn acknowledge(&self, _: &NodeId, _: Key) {}
    fn read(&self, device: &Arc<Device>, _: Seq, _: usize, generation: u64) {
        self.disk.asked.lock().unwrap().push_back(Ask::Read(self.server, device.clone(), generation));
    }
    fn to_client(&self, _: ClientId, _: Vec<NodeId>, item: Parcel) {
        panic!("no client in this net: {item:?}");
    }
    fn devices_of(&self, client: ClientId, _: u64) {
        panic!("no client in this net: {client}");
    }
    fn dispatched(&self, from: &NodeId, dispatch: Dispatch) {
        panic!("{from} asks the home: {dispatch:?}");
    }
    fn forwarded(&self, _: u64, _: Verdict) {}
}

pub(crate) struct Server {
    pub(crate) id: NodeId,
    pub(crate) view: Arc<View>,
    incarnation: u64,
}

/// Edges of devices, with what they were sent.
struct Edge {
    server: usize,
    device: Arc<Device>,
    connection: ConnectionId,
    frames: Vec<String>,
}

pub(crate) struct Net {
    pub(crate) servers: Vec<Server>,
    pub(crate) disk: Arc<Disk>,
    queues: BTreeMap<(usize, usize), (Arc<LinkQueue>, Deframer)>,
    edges: HashMap<String, Edge>,
    attached: HashMap<String, (usize, Attachment)>,
    next: u64,
    /// How many more frames each direction may carry; `None`: all.
    pub(crate) budget: Option<usize>,
}

impl Net {
    pub(crate) fn new(count: usize, links: &[(usize, usize)]) -> Self {
        let disk = Arc::new(Disk::default());
        let ids: Vec<NodeId> = (0..count).map(|at| id(&format!("s{at}"))).collect();
        let servers = ids.iter().enumerate().map(|(at, own)| server(at, own, &ids, 1, &disk)).collect();
        let mut net = Self {
            servers,
            disk,
            queues: BTreeMap::new(),
            edges: HashMap::default(),
            attached: HashMap::default(),
            next: 1,
            budget: None,
        };
        for (a, b) in links {
            net.link(*a, *b);
        }
        net.publish();
        net
    }

    pub(crate) fn line(count: usize) -> Self {
        let links: Vec<_> = (1..count).map(|at| (at - 1, at)).collect();
        Self::new(count, &links)
    }

    pub(crate) fn link(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let queue = Arc::new(LinkQueue::new(self.servers[to].id.clone(), 1 << 20));
            self.queues.insert((from, to), (queue, Deframer::new(Masking::Server, 64 << 20)));
        }
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.queues.remove(&(a, b));
        self.queues.remove(&(b, a));
    }

    pub(crate) fn links_of(&self, at: usize) -> HashMap<NodeId, Arc<LinkQueue>> {
        let links = self.queues.iter().filter(|((from, _), _)| *from == at);
        links.map(|((_, to), (queue, _))| (self.servers[*to].id.clone(), queue.clone())).collect()
    }

    /// Every server learns of the graph as it is now.
    pub(crate) fn publish(&mut self) {
        let all: Vec<usize> = (0..self.servers.len()).collect();
        self.publish_at(&all);
    }

    /// Only these learn of it: the others come to know it when it is another one again.
    pub(crate) fn publish_at(&mut self, whom: &[usize]) {
        let mut everywhere = Vec::new();
        for (at, server) in self.servers.iter().enumerate() {
            let mut topology = Topology::new(server.id.clone(), Incarnation(server.incarnation), about());
            let links = self.queues.keys().filter(|(from, _)| *from == at);
            topology
                .set_links(links.map(|(_, to)| LinkState { peer: self.servers[*to].id.clone(), cost: 10 }).collect());
            everywhere.push(topology);
        }
        let records: Vec<_> = everywhere.iter().map(|topology| topology.own().clone()).collect();
        for (at, mut topology) in everywhere.into_iter().enumerate().filter(|(at, _)| whom.contains(at)) {
            for record in &records {
                // Our own comes back to us, too.
                let _ = topology.accept(record.clone(), Millis(0));
            }
            let view = self.servers[at].view.clone();
            let lost = view.mesh.publish(topology.routes(), self.links_of(at));
            view.devices.for_each(|device| view.look_again(device.id()));
            view.post_again(&lost);
        }
    }

    /// The process of a server is killed and started anew, with nothing.
    pub(crate) fn restart(&mut self, at: usize) {
        let ids: Vec<NodeId> = self.servers.iter().map(|server| server.id.clone()).collect();
        let incarnation = self.servers[at].incarnation + 1;
        let gone: Vec<String> =
            self.edges.iter().filter(|(_, edge)| edge.server == at).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.edges.remove(&name);
            self.attached.remove(&name);
            self.tell(at, &Change::Detached(id(&name)));
        }
        self.servers[at] = server(at, &ids[at], &ids, incarnation, &self.disk);
        for (of, attachment) in self.attached.values() {
            self.servers[at].view.places.apply(&ids[*of], [&Change::Attached(attachment.clone())]);
        }
        let links: Vec<_> = self.queues.keys().filter(|(from, _)| *from == at).copied().collect();
        for (a, b) in links {
            self.link(a, b);
        }
    }

    fn tell(&self, at: usize, change: &Change) {
        for (_, server) in self.servers.iter().enumerate().filter(|(other, _)| *other != at) {
            server.view.places.apply(&self.servers[at].id, [change]);
            let device = match change {
                Change::Attached(attachment) => &attachment.device,
                Change::Detached(device) => device,
            };
            server.view.look_again(device);
        }
    }

    /// Of one edge at a time for each device of the test.
    pub(crate) fn attach(&mut self, name: &str, at: usize) {
        let number = self.next;
        self.next += 1;
        let view = &self.servers[at].view;
        let device = view.devices.get_or_add(&id(name));
        let options = Options { acks: Acks::Transport, replay: Replay::Manual, limit: 1 << 20, number };
        let connection = ConnectionId(number);
        view.attach(&device, connection, options);
        // An edge before it is half open for good.
        self.edges.insert(name.into(), Edge { server: at, device, connection, frames: Vec::new() });
        let attachment = Attachment { device: id(name), client: None, number };
        self.attached.insert(name.into(), (at, attachment.clone()));
        self.tell(at, &Change::Attached(attachment));
    }

    pub(crate) fn detach(&mut self, name: &str) {
        let Some(edge) = self.edges.remove(name) else { return };
        self.servers[edge.server].view.detach(&edge.device, edge.connection);
        self.attached.remove(name);
        self.tell(edge.server, &Change::Detached(id(name)));
    }

    /// Moves frames over all links until nothing moves.
    pub(crate) fn run(&mut self) {
        loop {
            let mut moved = false;
            let ways: Vec<_> = self.queues.keys().copied().collect();
            for (from, to) in ways {
                if self.budget == Some(0) {
                    return;
                }
                let Some((queue, deframer)) = self.queues.get_mut(&(from, to)) else { continue };
                let mut out = BytesMut::new();
                if queue.take(1 << 16, Masking::Server, Waker::noop(), &mut out) != Taken::Frames {
                    continue;
                }
                if let Some(budget) = &mut self.budget {
                    *budget -= 1;
                }
                moved = true;
                deframer.feed(out.freeze());
                let (from, view) = (self.servers[from].id.clone(), self.servers[to].view.clone());
                while let Ok(Some(Message::Binary(mut bytes))) = deframer.next() {
                    while let Some(hop) = link::decode(&mut bytes).unwrap() {
                        view.receive(&from, hop);
                    }
                }
                view.flush();
            }
            moved |= self.disk_step();
            self.servers.iter().for_each(|server| server.view.tick());
            for at in 0..self.servers.len() {
                moved |= self.start_over(at);
            }
            let waits = self.queues.values().any(|(queue, _)| queue.bytes() > 0);
            if !moved && !waits {
                return;
            }
        }
    }

    /// As the node does it.
    fn start_over(&mut self, at: usize) -> bool {
        let view = &self.servers[at].view;
        let lost = view.mesh.take_behind();
        if lost.is_empty() {
            return false;
        }
        let routes = view.mesh.routes();
        view.mesh.hide(&lost);
        view.devices.for_each(|device| view.look_again(device.id()));
        view.post_again(&lost);
        view.mesh.publish(routes.as_ref().clone(), self.links_of(at));
        view.devices.for_each(|device| view.look_again(device.id()));
        true
    }

    fn disk_step(&mut self) -> bool {
        let asked = std::mem::take(&mut *self.disk.asked.lock().unwrap());
        let any = !asked.is_empty();
        for ask in asked {
            match ask {
                Ask::Append(server, device, item) => {
                    let text = String::from_utf8(item.encoded.text().to_vec()).unwrap();
                    let seq = {
                        let mut appended = self.disk.appended.lock().unwrap();
                        appended.push((device.id().to_string(), text));
                        Seq(appended.len() as u64)
                    };
                    let view = &self.servers[server].view;
                    view.appended(&device, item.key, &item.keep, Kept::InInbox(seq));
                    for ticket in item.ticket.iter().chain(&item.repeats) {
                        view.settle(ticket, Outcome::Stored);
                    }
                }
                Ask::Read(server, device, generation) => {
                    self.servers[server].view.page(&device, generation, Vec::new(), End::Reached);
                }
            }
        }
        any
    }

    /// The socket of a device takes what there is, and its client answers every ping.
    pub(crate) fn read(&mut self, name: &str) -> Vec<String> {
        let edge = self.edges.get_mut(name).unwrap();
        let view = &self.servers[edge.server].view;
        let mut batch = VecDeque::new();
        while view.take(&edge.device, edge.connection, 1 << 20, Waker::noop(), &mut batch) == Taken::Frames {
            for bytes in batch.drain(..) {
                if let Some(counter) = ping(&bytes) {
                    view.on(&edge.device, |lane, now, out| lane.pong(edge.connection, counter, now, out));
                } else {
                    edge.frames.push(text(&bytes));
                }
            }
        }
        std::mem::take(&mut edge.frames)
    }

    /// Frames move and devices read until nothing more comes; what each device was sent.
    pub(crate) fn settle(&mut self) -> BTreeMap<String, Vec<String>> {
        let mut received: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for _ in 0..6 {
            self.run();
            self.servers.iter().for_each(|server| server.view.ask_all());
            for name in self.edges.keys().cloned().collect::<Vec<_>>() {
                let frames = self.read(&name);
                received.entry(name).or_default().extend(frames);
            }
        }
        received
    }
}

fn ping(frame: &Bytes) -> Option<u64> {
    (frame.first() == Some(&0x89)).then(|| frame::ping_counter(&frame.slice(2..)))?
}

fn text(frame: &Bytes) -> String {
    let header = match frame[1] & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    String::from_utf8(frame[header..].to_vec()).unwrap()
}

fn about() -> About {
    let load = Load { connections: 0, max_connections: 100, per_second: 1000 };
    About { address: Address::default(), load, standing: Standing::Serving, epoch: 1 }
}

fn server(at: usize, own: &NodeId, all: &[NodeId], incarnation: u64, disk: &Arc<Disk>) -> Server {
    let topology = Topology::new(own.clone(), Incarnation(incarnation), about());
    let placement = Placement::new([7; 32], all.to_vec(), Vec::new()).unwrap();
    let mesh = Mesh::new(own.clone(), Incarnation(incarnation), topology.routes(), placement);
    let home = Home { server: at, disk: disk.clone() };
    let view = Arc::new(View::new(mesh, Box::new(home), 1 << 20, incarnation));
    Server { id: own.clone(), view, incarnation }
}
