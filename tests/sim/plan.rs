//! What kind of world a seed makes: how many servers and devices, how they are linked, and what may happen to them.

use sparkmesh::model::lane::Replay;
use sparkmesh::model::outbox::Acks;

use crate::device::Manner;
use crate::random::Random;

/// Which faults there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// None.
    Calm,
    /// What the promise covers in full: one server at a time dies, stands still or is cut off, links break, disks fail, devices
    /// come and go.
    One,
    /// Several servers at a time. Whatever is confirmed is on a disk, and comes all the same.
    Many,
}

impl Profile {
    pub(crate) const ALL: [Self; 3] = [Self::Calm, Self::One, Self::Many];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::One => "one",
            Self::Many => "many",
        }
    }
}

/// See the module's header.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) profile: Profile,
    pub(crate) servers: usize,
    pub(crate) links: Vec<(usize, usize)>,
    /// With the client that each belongs to, if it does.
    pub(crate) devices: Vec<(Manner, Option<usize>)>,
    pub(crate) clients: usize,
    /// Of each session the members, and which of them are anonymous.
    pub(crate) sessions: Vec<Vec<(usize, bool)>>,
    /// Milliseconds in which things happen.
    pub(crate) duration: u64,
    /// Most milliseconds between two things that happen.
    pub(crate) pause: u64,
    /// Of a server's outboxes, in bytes.
    pub(crate) outbox: usize,
    /// Most milliseconds that a chunk is under way.
    pub(crate) delay: u64,
    /// Of a hundred things that happen, how many are faults, and how many concern devices; the others are envelopes.
    pub(crate) faults: u64,
    pub(crate) moves: u64,
    /// Of a hundred envelopes.
    pub(crate) fast: u64,
    /// Most bytes of filling.
    pub(crate) fill: u64,
}

impl Plan {
    pub(crate) fn of(profile: Profile, random: &mut Random) -> Self {
        let servers = random.within(2, 4) as usize;
        let count = random.within(3, 8) as usize;
        let clients = random.within(1, 2) as usize;
        let devices: Vec<_> = (0..count).map(|_| device(profile, clients, random)).collect();
        let sessions = (0..random.within(1, 2)).map(|_| members(count, random)).collect();
        let (faults, moves) = match profile {
            Profile::Calm => (0, 0),
            Profile::One => (random.within(3, 12), random.within(0, 15)),
            Profile::Many => (random.within(5, 20), random.within(0, 15)),
        };
        Self {
            profile,
            servers,
            links: links(servers, random),
            devices,
            clients,
            sessions,
            duration: random.within(3_000, 15_000),
            pause: [30, 120, 400][random.pick(3)],
            outbox: [4_000, 60_000][random.pick(2)],
            delay: [0, 3, 20, 80][random.pick(4)],
            faults,
            moves,
            fast: random.within(0, 25),
            fill: [10, 200, 3_000][random.pick(3)],
        }
    }
}

/// All with all, a ring, or a line.
fn links(servers: usize, random: &mut Random) -> Vec<(usize, usize)> {
    let row = (1..servers).map(|at| (at - 1, at));
    match random.pick(4) {
        0 => row.collect(),
        1 if servers > 2 => row.chain([(0, servers - 1)]).collect(),
        _ => (0..servers).flat_map(|a| (a + 1..servers).map(move |b| (a, b))).collect(),
    }
}

fn device(profile: Profile, clients: usize, random: &mut Random) -> (Manner, Option<usize>) {
    let acks = if random.percent(35) { Acks::Application } else { Acks::Transport };
    let manual = profile != Profile::Calm && random.percent(20);
    let replay = if manual { Replay::Manual } else { Replay::Auto };
    let client = random.percent(50).then(|| random.pick(clients));
    (Manner { acks, replay }, client)
}

fn members(devices: usize, random: &mut Random) -> Vec<(usize, bool)> {
    let mut members = Vec::new();
    for device in 0..devices {
        if random.percent(65) {
            members.push((device, random.percent(30)));
        }
    }
    members
}
