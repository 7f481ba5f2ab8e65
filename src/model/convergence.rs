//! The law of what servers keep in step: a small mesh of the pure parts, over links that lose what is on them when they end,
//! holds the same everywhere once it is quiet.
//!
//! What a server does here with each frame is what the node does.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};
    use std::sync::Arc;

    use proptest::prelude::*;

    use crate::model::attachments::{Applied, Attachment, Delta, Digest, Directory, Own, Snapshot, Took};
    use crate::model::frames::Hop;
    use crate::model::ids::{Incarnation, Millis, NodeId};
    use crate::model::members::{Members, Merged};
    use crate::model::topology::{About, Accepted, Address, LinkState, Load, Record, Standing, Topology};

    const SERVERS: usize = 5;
    const DEVICES: usize = 4;
    /// What a small mesh never needs, unless two talk for ever.
    const MANY: usize = 100_000;

    fn name(server: usize) -> NodeId {
        format!("s{server}").parse().unwrap()
    }

    fn number(server: &NodeId) -> usize {
        server.as_str()[1..].parse().unwrap()
    }

    fn device(n: usize) -> NodeId {
        format!("d{n}").parse().unwrap()
    }

    fn about(connections: u64) -> About {
        let load = Load { connections, max_connections: 1000 };
        About { address: Address::default(), load, standing: Standing::Serving, epoch: 0 }
    }

    struct Server {
        topology: Topology,
        own: Own,
        directory: Directory,
        /// At this end.
        links: BTreeMap<usize, u32>,
    }

    impl Server {
        fn new(server: usize, incarnation: u64) -> Self {
            let life = Incarnation(incarnation);
            Self {
                topology: Topology::new(name(server), life, about(0)),
                own: Own::new(name(server), life),
                directory: Directory::new(name(server)),
                links: BTreeMap::new(),
            }
        }

        fn digests(&self) -> Vec<Digest> {
            let mut digests = self.directory.digests();
            digests.push(self.own.digest());
            digests
        }

        /// What is known of the devices at `server`.
        fn list(&self, server: usize) -> BTreeMap<NodeId, u64> {
            let server = name(server);
            let of = |device: &NodeId| {
                let places = self.directory.places(device);
                let place = places.iter().find(|place| *place.server == server).expect("what is listed is found");
                (device.clone(), place.number)
            };
            self.directory.devices_at(&server).map(of).collect()
        }
    }

    struct World {
        /// `None`: dead.
        servers: Vec<Option<Server>>,
        /// The highest so far.
        lives: Vec<u64>,
        old_copies: u64,
        /// On disk.
        members: Vec<Members>,
        wires: BTreeMap<(usize, usize), VecDeque<Hop>>,
        now: Millis,
    }

    #[derive(Debug, Clone)]
    enum Step {
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

    fn step() -> impl Strategy<Value = Step> {
        let server = 0..SERVERS;
        let pair = (0..SERVERS, 1..SERVERS).prop_map(|(a, d)| (a, (a + d) % SERVERS));
        prop_oneof![
            8 => (pair.clone(), 1..2000u32).prop_map(|((a, b), cost)| Step::Begin(a, b, cost)),
            4 => pair.clone().prop_map(|(a, b)| Step::End(a, b)),
            2 => (pair.clone(), 1..2000u32).prop_map(|((a, b), cost)| Step::Cost(a, b, cost)),
            2 => (server.clone(), 0..9u64).prop_map(|(a, load)| Step::About(a, load)),
            6 => (server.clone(), 0..DEVICES).prop_map(|(a, d)| Step::Attach(a, d)),
            3 => (server.clone(), 0..DEVICES).prop_map(|(a, d)| Step::Detach(a, d)),
            30 => (0..64usize).prop_map(Step::Deliver),
            4 => server.clone().prop_map(Step::Publish),
            2 => server.clone().prop_map(Step::Kill),
            3 => (server.clone(), any::<bool>()).prop_map(|(a, old)| Step::Start(a, old)),
            1 => pair.prop_map(|(a, b)| Step::Forget(a, b)),
            3 => prop_oneof![Just(900u64), Just(4000), Just(11_000)].prop_map(Step::Pass),
        ]
    }

    impl World {
        fn new() -> Self {
            Self {
                servers: (0..SERVERS).map(|server| Some(Server::new(server, 1000))).collect(),
                lives: vec![1000; SERVERS],
                old_copies: 0,
                members: (0..SERVERS).map(|server| Members::first(name(server))).collect(),
                wires: BTreeMap::new(),
                now: Millis(1_000_000),
            }
        }

        fn alive(&self) -> Vec<usize> {
            (0..SERVERS).filter(|server| self.servers[*server].is_some()).collect()
        }

        fn server(&mut self, server: usize) -> Option<&mut Server> {
            self.servers[server].as_mut()
        }

        fn is_up(&self, at: usize, peer: usize) -> bool {
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

        fn begin(&mut self, a: usize, b: usize, cost: u32) {
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

        fn deliver(&mut self, which: usize) -> bool {
            let full: Vec<(usize, usize)> =
                self.wires.iter().filter(|(_, wire)| !wire.is_empty()).map(|(ends, _)| *ends).collect();
            let Some(&(from, to)) = full.get(which % full.len().max(1)) else { return false };
            let hop = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front).unwrap();
            self.handle(to, from, hop);
            true
        }

        fn publish(&mut self, at: usize) {
            let Some(server) = self.server(at) else { return };
            let revived = server.topology.revive();
            let routes = server.topology.routes();
            let digests = server.directory.lacks(&routes).then(|| server.digests());
            revived.into_iter().for_each(|record| self.flood(at, None, &Hop::Record(record)));
            if let Some(digests) = digests {
                self.flood(at, None, &Hop::Digests(digests));
            }
        }

        fn pass(&mut self, ms: u64) {
            self.now = self.now.plus(ms);
            let now = self.now;
            for server in self.servers.iter_mut().flatten() {
                for gone in server.topology.expire(now) {
                    let devices = server.directory.forget(&gone);
                    let still =
                        |device: &NodeId| server.directory.places(device).iter().any(|place| *place.server == gone);
                    assert!(!devices.iter().any(still));
                }
            }
        }

        fn take(&mut self, step: &Step) {
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
        fn settle(&mut self) {
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

        fn check(&self) -> Result<(), TestCaseError> {
            let costs = self.costs();
            for &a in &self.alive() {
                let here = self.servers[a].as_ref().unwrap();
                let routes = here.topology.routes();
                for &b in &self.alive() {
                    let (from, to) = (name(a), name(b));
                    let cost = costs.get(&(a, b)).copied();
                    prop_assert_eq!(routes.cost(&to), cost, "{} to {}", a, b);
                    prop_assert_eq!(routes.is_reachable(&to), cost.is_some());
                    let foretold = here.topology.path(&from, &to, &[]);
                    prop_assert_eq!(foretold.is_some(), cost.is_some());
                    let Some(foretold) = foretold else { continue };
                    let there = self.servers[b].as_ref().unwrap();
                    prop_assert_eq!(here.topology.get(&to), Some(there.topology.own()));
                    prop_assert_eq!(self.walk(a, b)?, foretold.iter().map(|s| number(&s.server)).collect::<Vec<_>>());
                    prop_assert_eq!(foretold.last().map(|step| step.cost), cost);
                    prop_assert_eq!(there.topology.path(&from, &to, &[]), Some(foretold));
                    prop_assert_eq!(&self.members[a], &self.members[b]);
                    if a != b {
                        let listed = there.own.attachments().map(|at| (at.device, at.number)).collect();
                        prop_assert_eq!(here.list(b), listed, "the list of {} at {}", b, a);
                        prop_assert!(here.digests().contains(&there.own.digest()));
                    }
                }
            }
            Ok(())
        }

        /// By the servers' own next hops.
        fn walk(&self, from: usize, to: usize) -> Result<Vec<usize>, TestCaseError> {
            let mut passed = vec![from];
            while *passed.last().unwrap() != to {
                let here = self.servers[*passed.last().unwrap()].as_ref().unwrap();
                let next = here.topology.routes().next(&name(to)).map(number);
                let next = next.ok_or_else(|| TestCaseError::fail("a relay has no way"))?;
                prop_assert!(!passed.contains(&next), "round and round: {:?}, {}", passed, next);
                passed.push(next);
            }
            Ok(passed)
        }

        /// What is cheapest between any two, counted out over the links as they are.
        fn costs(&self) -> BTreeMap<(usize, usize), u64> {
            let announced = |a: usize, b: usize| {
                let links = &self.servers[a].as_ref()?.topology.own().links;
                links.iter().find(|link| link.peer == name(b)).map(|link| link.cost)
            };
            let mut costs: BTreeMap<(usize, usize), u64> = self.alive().iter().map(|a| ((*a, *a), 0)).collect();
            for (a, b) in pairs().filter(|(a, b)| self.is_up(*a, *b) && self.is_up(*b, *a)) {
                let cost = u64::from(announced(a, b).max(announced(b, a)).unwrap());
                costs.extend([((a, b), cost), ((b, a), cost)]);
            }
            for by in 0..SERVERS {
                for (a, b) in pairs().flat_map(|(a, b)| [(a, b), (b, a)]) {
                    if let (Some(there), Some(on)) = (costs.get(&(a, by)), costs.get(&(by, b))) {
                        let cost = there + on;
                        let known = costs.entry((a, b)).or_insert(cost);
                        *known = cost.min(*known);
                    }
                }
            }
            costs
        }

        /// Nothing is left of who cannot be reached.
        fn check_no_ghosts(&self) -> Result<(), TestCaseError> {
            let costs = self.costs();
            for a in self.alive() {
                let here = self.servers[a].as_ref().unwrap();
                let near: BTreeSet<NodeId> = (0..SERVERS).filter(|b| costs.contains_key(&(a, *b))).map(name).collect();
                let known: BTreeSet<NodeId> = here.topology.records().map(|record| record.server.clone()).collect();
                prop_assert_eq!(&known, &near);
                let mut listed: BTreeSet<NodeId> = here.directory.servers().cloned().collect();
                listed.insert(name(a));
                prop_assert_eq!(&listed, &near);
                for place in (0..DEVICES).flat_map(|n| {
                    here.directory.places(&device(n)).into_iter().map(|p| p.server.clone()).collect::<Vec<_>>()
                }) {
                    prop_assert!(near.contains(&place));
                }
            }
            Ok(())
        }
    }

    fn pairs() -> impl Iterator<Item = (usize, usize)> {
        (0..SERVERS).flat_map(|a| (a + 1..SERVERS).map(move |b| (a, b)))
    }

    /// The same list in parts of two, for want of thousands of devices.
    fn small(list: &[Snapshot]) -> Vec<Snapshot> {
        let [whole] = list else { panic!("a small list is one part") };
        let chunks: Vec<Vec<Attachment>> = match &whole.attachments[..] {
            [] => vec![Vec::new()],
            some => some.chunks(2).map(<[Attachment]>::to_vec).collect(),
        };
        let parts = chunks.len() as u32;
        let part = |(part, attachments)| Snapshot { part: part as u32, parts, attachments, ..whole.clone() };
        chunks.into_iter().enumerate().map(part).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 150 } else { 20_000 }))]

        #[test]
        fn once_quiet_all_hold_the_same(steps in prop::collection::vec(step(), 0..160)) {
            let mut world = World::new();
            steps.iter().for_each(|step| world.take(step));
            world.settle();
            world.check()?;
            for _ in 0..12 {
                world.pass(1000);
                world.settle();
            }
            world.check()?;
            world.check_no_ghosts()?;
            // Whoever is dead comes back, and a line is drawn through all.
            for server in 0..SERVERS {
                world.take(&Step::Start(server, false));
            }
            for server in 1..SERVERS {
                world.begin(server - 1, server, 100);
            }
            world.settle();
            world.check()?;
            world.check_no_ghosts()?;
            prop_assert_eq!(world.costs().len(), SERVERS * SERVERS, "all are one mesh");
        }
    }
}
