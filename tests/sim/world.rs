//! A mesh of simulated servers with its devices, and what can be done to it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use sparkmesh::config::identity::ClusterId;
use sparkmesh::home::sessions::{Ask, Operation};
use sparkmesh::model::ids::{ClientId, NodeId, SessionId};
use sparkmesh::model::members::Members;
use sparkmesh::model::session::{Draft, Mask, Naming, Requester, Role, SessionType};
use sparkmesh::store::Table;

use crate::device::Device;
use crate::disk::Disk;
use crate::history::{Envelope, Event, History, Number};
use crate::link::{self, Line};
use crate::plan::Plan;
use crate::random::Random;
use crate::server::{Death, Life};
use crate::time::{Virtual, sleep};

pub(crate) struct Server {
    pub(crate) id: NodeId,
    pub(crate) disk: Arc<Disk>,
    life: RefCell<Option<Rc<Life>>>,
    is_frozen: Cell<bool>,
    /// How often it has died.
    pub(crate) deaths: Cell<u32>,
}

/// What is between two servers.
#[derive(Default)]
struct Way {
    line: Option<Line>,
    is_cut: bool,
}

/// When a server could not be reached, or may have been busy with what that left behind.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) server: usize,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// See the module's header.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) servers: Vec<Server>,
    pub(crate) devices: Vec<Rc<Device>>,
    pub(crate) history: History,
    time: Rc<Virtual>,
    envelopes: RefCell<Vec<Envelope>>,
    ways: RefCell<BTreeMap<(usize, usize), Way>>,
    pub(crate) troubles: RefCell<Vec<Trouble>>,
    /// What was against a law while it happened.
    pub(crate) offences: RefCell<Vec<String>>,
    pub(crate) random: RefCell<Random>,
    connections: Cell<u64>,
}

impl World {
    /// Everything is there, everybody knows everybody, and nothing has been said.
    pub(crate) async fn begin(plan: Plan, time: Rc<Virtual>, mut random: Random) -> Rc<Self> {
        let ids: Vec<NodeId> = (0..plan.servers).map(|at| format!("s{at}").parse().unwrap()).collect();
        let cluster = ClusterId::from([7; 32]);
        let mut members = Members::first(ids[0].clone());
        for id in &ids {
            let _ = members.admit(id);
        }
        let servers = ids.iter().map(|id| Server {
            id: id.clone(),
            disk: Arc::new(Disk::new(id.clone(), cluster, members.clone(), random.fork())),
            life: RefCell::default(),
            is_frozen: Cell::new(false),
            deaths: Cell::new(0),
        });
        let servers: Vec<_> = servers.collect();
        let devices = plan.devices.iter().enumerate();
        let devices = devices.map(|(at, (manner, client))| Device::new(at, *client, *manner, random.fork()).into());
        let world = Rc::new(Self {
            devices: devices.collect(),
            servers,
            history: History::default(),
            time,
            envelopes: RefCell::default(),
            ways: RefCell::new(plan.links.iter().map(|way| (*way, Way::default())).collect()),
            troubles: RefCell::default(),
            offences: RefCell::default(),
            connections: Cell::new(0),
            random: RefCell::new(random),
            plan,
        });
        for at in 0..world.size() {
            world.start(at).await;
        }
        for way in world.plan.links.clone() {
            tokio::task::spawn_local(world.clone().keep_linked(way));
        }
        world.until("all servers know each other", Self::is_whole).await;
        for device in &world.devices {
            tokio::task::spawn_local(device.clone().live(world.clone()));
        }
        world.until("all devices are there", |world| world.devices.iter().all(|device| device.is_connected())).await;
        world.create_sessions().await;
        sleep(500).await;
        world
    }

    pub(crate) fn size(&self) -> usize {
        self.plan.servers
    }

    pub(crate) fn now(&self) -> u64 {
        self.time.elapsed()
    }

    pub(crate) fn note(&self, event: Event) {
        self.history.note(self.now(), event);
    }

    pub(crate) fn tell(&self, what: impl Into<String>) {
        self.note(Event::World(what.into()));
    }

    pub(crate) fn offends(&self, what: &str) {
        self.offences.borrow_mut().push(format!("{what}, at {} ms", self.now()));
    }

    /// A number that two runs have in common only if they were the same.
    pub(crate) fn hash(&self) -> (u64, u64) {
        (self.history.hash(), self.time.drawn())
    }

    pub(crate) fn chance<T>(&self, ask: impl FnOnce(&mut Random) -> T) -> T {
        ask(&mut self.random.borrow_mut())
    }

    pub(crate) fn delay(&self) -> u64 {
        self.plan.delay
    }

    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.set(self.connections.get() + 1);
        self.connections.get()
    }

    pub(crate) fn client(client: usize) -> ClientId {
        format!("c{client}").parse().unwrap()
    }

    pub(crate) fn session(session: usize) -> SessionId {
        format!("room{session}").parse().unwrap()
    }

    /// As a member of a session is known in it.
    pub(crate) fn shown(&self, session: usize, device: usize) -> String {
        let mask = self.plan.sessions[session].iter().any(|(member, masked)| *member == device && *masked);
        if mask { format!("mask{session}-{device}") } else { format!("d{device}") }
    }

    pub(crate) fn envelope(&self, number: Number) -> Envelope {
        self.envelopes.borrow()[number].clone()
    }

    pub(crate) fn envelopes(&self) -> Vec<Envelope> {
        self.envelopes.borrow().clone()
    }

    pub(crate) fn add(&self, envelope: Envelope) -> Number {
        let mut envelopes = self.envelopes.borrow_mut();
        envelopes.push(envelope);
        envelopes.len() - 1
    }

    pub(crate) fn rename(&self, number: Number, id: String) {
        self.envelopes.borrow_mut()[number].id = Some(id);
    }

    /// The server, if it lives; it may stand still.
    pub(crate) fn life(&self, at: usize) -> Option<Rc<Life>> {
        self.servers[at].life.borrow().clone()
    }

    pub(crate) fn is_well(&self, at: usize) -> bool {
        self.life(at).is_some() && !self.servers[at].is_frozen.get()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.now() + 60_000;
        while !holds(self) {
            assert!(self.now() < end, "not within a minute: {what}\n{}", self.history);
            sleep(50).await;
        }
    }

    /// Every server lives, and reaches all others over links that are whole.
    pub(crate) fn is_whole(&self) -> bool {
        let reaches_all = |at: usize| {
            let Some(life) = self.life(at).filter(|_| self.is_well(at)) else { return false };
            life.view().mesh.routes().servers().len() + 1 == self.size()
        };
        let linked = |way: &Way| !way.is_cut && way.line.as_ref().is_some_and(Line::is_whole);
        self.ways.borrow().values().all(linked) && (0..self.size()).all(reaches_all)
    }

    pub(crate) async fn start(&self, at: usize) {
        let (disk, random) = (&self.servers[at].disk, self.chance(Random::fork));
        let life = Life::begin(disk, self.plan.outbox, random).await;
        *self.servers[at].life.borrow_mut() = Some(life);
        self.tell(format!("s{at} starts"));
    }

    pub(crate) fn kill(&self, at: usize, how: Death) {
        let Some(life) = self.servers[at].life.take() else { return };
        self.servers[at].is_frozen.set(false);
        self.servers[at].deaths.set(self.servers[at].deaths.get() + 1);
        life.kill(how);
        self.servers[at].disk.crash();
        self.tell(format!("s{at} dies ({how:?})"));
        self.note(Event::Died { server: at });
    }

    pub(crate) fn freeze(&self, at: usize) {
        if let Some(life) = self.life(at) {
            self.servers[at].is_frozen.set(true);
            life.freeze();
            self.tell(format!("s{at} stands still"));
        }
    }

    pub(crate) fn thaw(&self, at: usize) {
        if let Some(life) = self.life(at).filter(|_| self.servers[at].is_frozen.replace(false)) {
            life.thaw();
            self.tell(format!("s{at} goes on"));
        }
    }

    /// `Loud`: both ends hear of it.
    pub(crate) fn cut(&self, way: (usize, usize), how: Death) {
        let mut ways = self.ways.borrow_mut();
        let Some(cut) = ways.get_mut(&way) else { return };
        cut.is_cut = true;
        for pipe in cut.line.iter().flat_map(|line| &line.pipes) {
            match how {
                Death::Loud => pipe.tear(),
                Death::Silent => pipe.hold(),
            }
        }
        drop(ways);
        self.tell(format!("the link of s{} and s{} is cut ({how:?})", way.0, way.1));
    }

    pub(crate) fn mend(&self, way: (usize, usize)) {
        let mut ways = self.ways.borrow_mut();
        let Some(cut) = ways.get_mut(&way).filter(|way| way.is_cut) else { return };
        cut.is_cut = false;
        cut.line.iter().flat_map(|line| &line.pipes).for_each(crate::pipe::Pipe::release);
        drop(ways);
        self.tell(format!("the link of s{} and s{} may be made again", way.0, way.1));
    }

    /// Dials whenever there is no link, from either end, as two diallers would.
    async fn keep_linked(self: Rc<Self>, way: (usize, usize)) {
        loop {
            sleep(self.chance(|random| random.within(50, 400))).await;
            let is_due = |way: &Way| !way.is_cut && !way.line.as_ref().is_some_and(Line::is_whole);
            if !self.ways.borrow().get(&way).is_some_and(is_due) {
                continue;
            }
            let (from, to) = if self.chance(|random| random.percent(50)) { way } else { (way.1, way.0) };
            if !self.is_well(from) || !self.is_well(to) {
                continue;
            }
            let (Some(from), Some(to)) = (self.life(from), self.life(to)) else { continue };
            let (random, world) = (self.chance(Random::fork), self.clone());
            link::dial(from, to, self.delay(), random, move |line| {
                let mut ways = world.ways.borrow_mut();
                let Some(kept) = ways.get_mut(&way) else { return };
                if kept.is_cut {
                    line.pipes.iter().for_each(crate::pipe::Pipe::tear);
                }
                kept.line = Some(line);
            })
            .await;
            // The nodes have a moment to say whether they will.
            sleep(100).await;
        }
    }

    async fn create_sessions(&self) {
        for (at, members) in self.plan.sessions.iter().enumerate() {
            let mask = |(device, masked): &(usize, bool)| {
                let mask =
                    if *masked { Mask::Anonymous(self.shown(at, *device).parse().unwrap()) } else { Mask::Named };
                (self.devices[*device].id.clone(), mask)
            };
            let draft = Draft {
                id: Naming::Chosen(Self::session(at)),
                owner: None,
                mask: Mask::Named,
                members: members.iter().map(mask).collect(),
                session_type: SessionType::Normal,
                anyone_can_join: false,
                presence: false,
                notify_only_last_few_users: None,
            };
            let by = Requester { node: "backend".parse().unwrap(), role: Role::App };
            let ask = Ask { by, operation: Operation::Create(draft) };
            let life = self.life(0).unwrap();
            life.site.sessions.send(ask).await.unwrap().unwrap();
        }
    }

    /// Whether nothing waits on any disk.
    pub(crate) fn disks_are_empty(&self) -> bool {
        let empty = |disk: &Disk| disk.count(Table::Inbox) == 0 && disk.count(Table::Held) == 0;
        self.servers.iter().all(|server| empty(&server.disk))
    }

    pub(crate) fn home_of(&self, device: usize) -> usize {
        let life = self.life(0).unwrap();
        let home = life.view().mesh.home(self.devices[device].id.as_str());
        self.servers.iter().position(|server| server.id == home).unwrap()
    }
}
