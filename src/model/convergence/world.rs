//! A small mesh of the pure parts. Its links are in order and lose what is on them when they end; its servers die, and come
//! back. What a server does here with each frame is what the node does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::attachments::{Applied, Attachment, Delta, Digest, Directory, Own, Snapshot, Took};
use super::super::frames::Hop;
use super::super::ids::{Incarnation, Millis, NodeId};
use super::super::members::{Members, Merged};
use super::super::topology::{About, Accepted, Address, LinkState, Load, Record, Standing, Topology};

pub(super) const SERVERS: usize = 5;
pub(super) const DEVICES: usize = 4;
/// What a small mesh never needs, unless two talk for ever.
pub(super) const MANY: usize = 100_000;

pub(super) fn name(server: usize) -> NodeId {
    format!("s{server}").parse().unwrap()
}

pub(super) fn device(n: usize) -> NodeId {
    format!("d{n}").parse().unwrap()
}

pub(super) fn about(connections: u64) -> About {
    let load = Load { connections, max_connections: 1000, per_second: 1000 };
    About { address: Address::default(), load, standing: Standing::Serving, epoch: 0 }
}

pub(super) struct Server {
    pub(super) topology: Topology,
    pub(super) own: Own,
    pub(super) directory: Directory,
    /// At this end.
    links: BTreeMap<usize, u32>,
}

impl Server {
    pub(super) fn new(server: usize, incarnation: u64) -> Self {
        let life = Incarnation(incarnation);
        Self {
            topology: Topology::new(name(server), life, about(0)),
            own: Own::new(name(server), life),
            directory: Directory::new(name(server)),
            links: BTreeMap::new(),
        }
    }

    pub(super) fn digests(&self) -> Vec<Digest> {
        let mut digests = self.directory.digests();
        digests.push(self.own.digest());
        digests
    }

    /// What is known of the devices at `server`.
    pub(super) fn list(&self, server: usize) -> BTreeMap<NodeId, u64> {
        let server = name(server);
        let of = |device: &NodeId| {
            let places = self.directory.places(device);
            let place = places.iter().find(|place| *place.server == server).expect("what is listed is found");
            (device.clone(), place.number)
        };
        self.directory.devices_at(&server).map(of).collect()
    }
}

pub(super) struct World {
    /// `None`: dead.
    pub(super) servers: Vec<Option<Server>>,
    /// The highest so far.
    lives: Vec<u64>,
    old_copies: u64,
    /// On disk.
    pub(super) members: Vec<Members>,
    wires: BTreeMap<(usize, usize), VecDeque<Hop>>,
    now: Millis,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Begin(usize, usize, u32),
    /// Only the first end has noticed.
    End(usize, usize),
    Cost(usize, usize, u32),
    About(usize, u64),
    Attach(usize, usize),
    Detach(usize, usize),
    Deliver(usize),
    Publish(usize),
    Kill(usize),
    /// `true`: from an old copy of its directory.
    Start(usize, bool),
    Forget(usize, usize),
    Pass(u64),
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            servers: (0..SERVERS).map(|server| Some(Server::new(server, 1000))).collect(),
            lives: vec![1000; SERVERS],
            old_copies: 0,
            members: (0..SERVERS).map(|server| Members::first(name(server))).collect(),
            wires: BTreeMap::new(),
            now: Millis(1_000_000),
        }
    }

    pub(super) fn alive(&self) -> Vec<usize> {
        (0..SERVERS).filter(|server| self.servers[*server].is_some()).collect()
    }

    fn server(&mut self, server: usize) -> Option<&mut Server> {
        self.servers[server].as_mut()
    }

    pub(super) fn is_up(&self, at: usize, peer: usize) -> bool {
        self.servers[at].as_ref().is_some_and(|server| server.links.contains_key(&peer))
    }

    /// Lost, unless both ends are up.
    fn send(&mut self, from: usize, to: usize, hop: Hop) {
        if self.is_up(from, to) && self.is_up(to, from) {
            self.wires.entry((from, to)).or_default().push_back(hop);
        }
    }

    fn flood(&mut self, from: usize, but: Option<usize>, hop: &Hop) {
        let peers: Vec<usize> = self.servers[from].iter().flat_map(|server| server.links.keys().copied()).collect();
        for peer in peers.into_iter().filter(|peer| Some(*peer) != but) {
            self.send(from, peer, hop.clone());
        }
    }

    fn links_changed(&mut self, at: usize) {
        let Some(server) = self.server(at) else { return };
        let links = server.links.iter().map(|(peer, cost)| LinkState { peer: name(*peer), cost: *cost }).collect();
        if let Some(record) = server.topology.set_links(links) {
            self.flood(at, None, &Hop::Record(record));
        }
    }

    fn end(&mut self, at: usize, peer: usize) {
        let Some(server) = self.server(at) else { return };
        if server.links.remove(&peer).is_some() {
            server.directory.abandon(&name(peer));
            self.wires.remove(&(at, peer));
            self.wires.remove(&(peer, at));
            self.links_changed(at);
        }
    }

    pub(super) fn begin(&mut self, a: usize, b: usize, cost: u32) {
        if self.servers[a].is_none() || self.servers[b].is_none() || (self.is_up(a, b) && self.is_up(b, a)) {
            return;
        }
        self.end(a, b);
        self.end(b, a);
        for (at, peer) in [(a, b), (b, a)] {
            self.server(at).unwrap().links.insert(peer, cost);
        }
        for (at, peer) in [(a, b), (b, a)] {
            self.links_changed(at);
            let server = self.servers[at].as_ref().unwrap();
            let mut hops: Vec<Hop> = server.topology.records().cloned().map(Hop::Record).collect();
            hops.push(Hop::Digests(server.digests()));
            if self.members[at].admit(&name(peer)) == Merged::Changed {
                self.flood_members(at, None);
            }
            hops.push(Hop::Members(Arc::new(self.members[at].clone())));
            hops.into_iter().for_each(|hop| self.send(at, peer, hop));
        }
    }

    fn flood_members(&mut self, at: usize, but: Option<usize>) {
        let members = Hop::Members(Arc::new(self.members[at].clone()));
        self.flood(at, but, &members);
    }

    fn flood_delta(&mut self, at: usize, delta: Option<Delta>) {
        if let Some(delta) = delta {
            self.flood(at, None, &Hop::Delta(Arc::new(delta)));
        }
    }

    /// The own server has had another life that others know of.
    fn begin_again(&mut self, at: usize, record: Arc<Record>) {
        self.lives[at] = record.incarnation.0.max(self.lives[at]);
        let delta = self.server(at).map(|server| server.own.begin(record.incarnation));
        self.flood(at, None, &Hop::Record(record));
        self.flood_delta(at, delta);
    }

    fn handle(&mut self, at: usize, from: usize, hop: Hop) {
        let now = self.now;
        let Some(server) = self.servers[at].as_mut() else { return };
        match hop {
            Hop::Record(record) => match server.topology.accept(Arc::clone(&record), now) {
                Accepted::New => self.flood(at, Some(from), &Hop::Record(record)),
                Accepted::Known => {}
                Accepted::Older(ours) => self.send(at, from, Hop::Record(ours)),
                Accepted::Ghost(ours) => self.begin_again(at, ours),
            },
            Hop::Delta(delta) if server.topology.is_current(&delta.server, delta.incarnation) => {
                match server.directory.apply(&delta) {
                    Applied::Changed(_) => self.flood(at, Some(from), &Hop::Delta(delta)),
                    Applied::Gap => {
                        let digests = server.digests();
                        self.send(at, from, Hop::Digests(digests));
                    }
                    Applied::Old => {}
                }
            }
            Hop::Digests(theirs) => {
                let behind = server.directory.behind(&theirs);
                let mut lists: Vec<Vec<Snapshot>> =
                    behind.iter().map(|list| server.directory.snapshot_of(list)).collect();
                if server.own.is_news(&theirs) {
                    lists.push(server.own.snapshot());
                }
                let asks = server.directory.is_behind(&theirs, &server.topology).then(|| server.digests());
                for part in lists.iter().flat_map(|list| small(list)) {
                    self.send(at, from, Hop::Snapshot(Arc::new(part)));
                }
                if let Some(digests) = asks {
                    self.send(at, from, Hop::Digests(digests));
                }
            }
            Hop::Snapshot(part) if server.topology.is_current(&part.server, part.incarnation) => {
                if let Took::Changed(_) = server.directory.apply_snapshot(&name(from), (*part).clone()) {
                    let digests = Hop::Digests(server.digests());
                    self.flood(at, Some(from), &digests);
                }
            }
            Hop::Members(members) if self.members[at].merge(&members) == Merged::Changed => {
                self.flood_members(at, Some(from));
            }
            _ => {}
        }
    }

    pub(super) fn deliver(&mut self, which: usize) -> bool {
        let full: Vec<(usize, usize)> =
            self.wires.iter().filter(|(_, wire)| !wire.is_empty()).map(|(ends, _)| *ends).collect();
        let Some(&(from, to)) = full.get(which % full.len().max(1)) else { return false };
        let hop = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front).unwrap();
        self.handle(to, from, hop);
        true
    }

    pub(super) fn publish(&mut self, at: usize) {
        let Some(server) = self.server(at) else { return };
        let revived = server.topology.revive();
        let routes = server.topology.routes();
        let digests = server.directory.lacks(&routes).then(|| server.digests());
        revived.into_iter().for_each(|record| self.flood(at, None, &Hop::Record(record)));
        if let Some(digests) = digests {
            self.flood(at, None, &Hop::Digests(digests));
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        let now = self.now;
        for server in self.servers.iter_mut().flatten() {
            for gone in server.topology.expire(now) {
                let devices = server.directory.forget(&gone);
                let still = |device: &NodeId| server.directory.places(device).iter().any(|place| *place.server == gone);
                assert!(!devices.iter().any(still));
            }
        }
    }

    pub(super) fn take(&mut self, step: &Step) {
        match *step {
            Step::Begin(a, b, cost) => self.begin(a, b, cost),
            Step::End(a, b) => self.end(a, b),
            Step::Cost(a, b, cost) => {
                if let Some(known) = self.server(a).and_then(|server| server.links.get_mut(&b)) {
                    *known = cost;
                    self.links_changed(a);
                }
            }
            Step::About(a, load) => {
                if let Some(record) = self.server(a).and_then(|server| server.topology.set_about(about(load))) {
                    self.flood(a, None, &Hop::Record(record));
                }
            }
            Step::Attach(a, n) => {
                let delta = self.server(a).map(|server| {
                    let device = device(n);
                    let here = server.own.get(&device).map_or(0, |attachment| attachment.number);
                    let there = server.directory.places(&device).first().map_or(0, |place| place.number);
                    server.own.attach(Attachment { device, client: None, number: here.max(there) + 1 })
                });
                self.flood_delta(a, delta);
            }
            Step::Detach(a, n) => {
                let delta = self.server(a).and_then(|server| server.own.detach(&device(n)));
                self.flood_delta(a, delta);
            }
            Step::Deliver(which) => {
                self.deliver(which);
            }
            Step::Publish(a) => self.publish(a),
            Step::Kill(a) => {
                self.servers[a] = None;
                self.wires.retain(|(from, to), _| *from != a && *to != a);
            }
            Step::Start(a, from_old_copy) => {
                if self.servers[a].is_none() {
                    // No two lives have the same number; but a later one may have a lower.
                    let life = if from_old_copy {
                        self.old_copies += 1;
                        self.lives[a] - 5 * self.old_copies
                    } else {
                        self.lives[a] += 1000;
                        self.lives[a]
                    };
                    self.servers[a] = Some(Server::new(a, life));
                }
            }
            Step::Forget(a, b) => {
                if self.members[a].forget(&name(b)) == Merged::Changed {
                    self.flood_members(a, None);
                }
            }
            Step::Pass(ms) => self.pass(ms),
        }
    }

    /// All ends notice, and all is said.
    pub(super) fn settle(&mut self) {
        for (a, b) in pairs().flat_map(|(a, b)| [(a, b), (b, a)]) {
            if self.is_up(a, b) && !self.is_up(b, a) {
                self.end(a, b);
            }
        }
        for round in 0..MANY {
            if self.deliver(round * 7) {
                continue;
            }
            (0..SERVERS).for_each(|server| self.publish(server));
            if self.wires.values().all(VecDeque::is_empty) {
                return;
            }
        }
        panic!("they talk for ever");
    }
}

pub(super) fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..SERVERS).flat_map(|a| (a + 1..SERVERS).map(move |b| (a, b)))
}

/// The same list in parts of two, for want of thousands of devices.
pub(super) fn small(list: &[Snapshot]) -> Vec<Snapshot> {
    let [whole] = list else { panic!("a small list is one part") };
    let chunks: Vec<Vec<Attachment>> = match &whole.attachments[..] {
        [] => vec![Vec::new()],
        some => some.chunks(2).map(<[Attachment]>::to_vec).collect(),
    };
    let parts = chunks.len() as u32;
    let part = |(part, attachments)| Snapshot { part: part as u32, parts, attachments, ..whole.clone() };
    chunks.into_iter().enumerate().map(part).collect()
}
