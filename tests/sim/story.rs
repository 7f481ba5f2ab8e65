//! What happens in a world: envelopes, devices that come and go, faults; then everything heals, and all comes to rest.

use std::rc::Rc;

use crate::device::{Leave, NEVER};
use crate::disk::Health;
use crate::history::{Class, Dest, Envelope};
use crate::plan::Profile;
use crate::server::Death;
use crate::time::sleep;
use crate::world::{Trouble, World};

/// How long after a fault something may still be on its way that it has put off, in milliseconds: held mail is tried again
/// after seconds, and an edge that does not answer is given up after ten.
const AFTERMATH: u64 = 15_000;
/// Without a stir for so long, nothing comes any more.
const REST: u64 = 12_000;
const MOST: u64 = 240_000;

/// Everything, to the end.
pub(crate) async fn play(world: &Rc<World>) {
    let end = world.now() + world.plan.duration;
    let mut look_at = 0;
    while world.now() < end {
        let pause = world.plan.pause;
        sleep(world.chance(|random| random.within(1, pause))).await;
        let (faults, moves) = (world.plan.faults, world.plan.moves);
        match world.chance(|random| random.within(0, 99)) {
            lot if lot < faults => fault(world),
            lot if lot < faults + moves => device(world),
            _ => say(world),
        }
        if world.now() >= look_at {
            look_at = world.now() + 200;
            look_at_bounds(world);
        }
    }
    heal(world).await;
    rest(world, REST).await;
    // Whatever is still in an inbox comes to a device that connects once more.
    world.tell("all devices connect once more");
    world.devices.iter().for_each(|device| device.leaves(Leave::Torn));
    rest(world, REST / 2).await;
}

fn say(world: &World) {
    let from = world.chance(|random| random.pick(world.devices.len()));
    let dest = world.chance(|random| match random.pick(10) {
        0 | 1 => Dest::Client(random.pick(world.plan.clients)),
        2..=4 => Dest::Session(random.pick(world.plan.sessions.len())),
        5 => Dest::Member(random.pick(world.plan.sessions.len()), 0),
        _ => Dest::Device(random.pick(world.devices.len())),
    });
    let is_member = |session: usize| world.plan.sessions[session].iter().any(|(member, _)| *member == from);
    let dest = match dest {
        Dest::Session(session) | Dest::Member(session, _) if !is_member(session) => Dest::Device(from),
        Dest::Member(session, _) => {
            let members = &world.plan.sessions[session];
            let (member, _) = members[world.chance(|random| random.pick(members.len()))];
            Dest::Member(session, member)
        }
        other => other,
    };
    if world.devices[from].keeps() > KEPT {
        return;
    }
    let burst = world.chance(|random| if random.percent(80) { 1 } else { random.within(2, 12) });
    for _ in 0..burst {
        let (fast, fill) = (world.plan.fast, world.plan.fill);
        let (class, fill, named) = world.chance(|random| {
            let class = if random.percent(fast) { Class::Fast } else { Class::Reliable };
            (class, random.within(0, fill) as usize, random.percent(70))
        });
        let number = world.add(Envelope { from, dest, class, id: None, fill });
        if named {
            world.name(number);
        }
        world.devices[from].say(number);
        // As an app does that has not heard of it yet. To a session it is another message.
        let is_direct = matches!(dest, Dest::Device(_) | Dest::Client(_)) && class == Class::Reliable;
        if named && is_direct && world.chance(|random| random.percent(5)) {
            world.devices[from].say(number);
        }
    }
}

/// The largest frame, and the control frames that an edge may have.
const LARGEST: usize = 16_000;

/// What a device keeps to be said later, at most: nobody writes a thousand messages at once.
const KEPT: usize = 20;

fn device(world: &Rc<World>) {
    let device = world.devices[world.chance(|random| random.pick(world.devices.len()))].clone();
    let (what, at) = world.chance(|random| (random.pick(8), random.pick(world.size())));
    match what {
        0 | 1 => {
            device.wanted.set(Some(at));
            device.leaves(Leave::Torn);
        }
        2 => {
            device.wanted.set(Some(at));
            device.leaves(Leave::Silent);
        }
        3 => device.leaves(Leave::Torn),
        4 | 5 => {
            let time = world.chance(|random| random.within(100, 8_000));
            device.is_away.set(true);
            let how = if what == 4 { Leave::Torn } else { Leave::Silent };
            device.leaves(how);
            tokio::task::spawn_local(async move {
                sleep(time).await;
                device.is_away.set(false);
            });
        }
        _ => {
            let (pace, time) = world.chance(|random| ([5, 60, 400, NEVER][random.pick(4)], random.within(500, 14_000)));
            device.pace.set(pace);
            tokio::task::spawn_local(async move {
                sleep(time).await;
                device.pace.set(0);
            });
        }
    }
}

/// How long a fault lasts.
fn span(world: &World) -> u64 {
    world.chance(|random| if random.percent(70) { random.within(50, 2_500) } else { random.within(2_500, 11_000) })
}

fn fault(world: &Rc<World>) {
    let at = world.chance(|random| random.pick(world.size()));
    let how = if world.chance(|random| random.percent(65)) { Death::Loud } else { Death::Silent };
    let (what, time) = (world.chance(|random| random.pick(12)), span(world));
    if what >= 10 {
        return disk(world, at, time);
    }
    if world.plan.profile == Profile::One && !world.is_calm() {
        return;
    }
    let links = world.plan.links.clone();
    let of_server = |way: &&(usize, usize)| way.0 == at || way.1 == at;
    match what {
        0..=3 => {
            if !world.is_well(at) {
                return;
            }
            world.kill(at, how);
            let world = world.clone();
            tokio::task::spawn_local(async move {
                let begun = world.now();
                sleep(time).await;
                if world.life(at).is_none() {
                    world.start(at).await;
                }
                world.in_trouble([at], begun).await;
            });
        }
        4 | 5 => {
            if !world.is_well(at) {
                return;
            }
            world.freeze(at);
            let world = world.clone();
            tokio::task::spawn_local(async move {
                let begun = world.now();
                sleep(time).await;
                world.thaw(at);
                world.in_trouble([at], begun).await;
            });
        }
        6 | 7 => cut(world, vec![links[world.chance(|random| random.pick(links.len()))]], how, time),
        8 => cut(world, links.iter().filter(of_server).copied().collect(), how, time),
        _ => {
            let half = at;
            let between = |way: &&(usize, usize)| (way.0 <= half) != (way.1 <= half);
            cut(world, links.iter().filter(between).copied().collect(), how, time);
        }
    }
}

fn cut(world: &Rc<World>, ways: Vec<(usize, usize)>, how: Death, time: u64) {
    ways.iter().for_each(|way| world.cut(*way, how));
    let world = world.clone();
    tokio::task::spawn_local(async move {
        let begun = world.now();
        sleep(time).await;
        ways.iter().for_each(|way| world.mend(*way));
        // Who is behind the cut cannot be reached either.
        world.in_trouble(0..world.size(), begun).await;
    });
}

fn disk(world: &Rc<World>, at: usize, time: u64) {
    let (health, latency) = world
        .chance(|random| if random.percent(40) { (Health::Full, 3) } else { (Health::Good, random.within(20, 1_500)) });
    world.tell(format!("the disk of s{at} is {health:?}, up to {latency} ms"));
    let disk = &world.servers[at].disk;
    disk.set(health, latency);
    let world = world.clone();
    tokio::task::spawn_local(async move {
        let begun = world.now();
        sleep(time).await;
        world.servers[at].disk.set(Health::Good, 3);
        world.in_trouble([at], begun).await;
    });
}

impl World {
    /// Whether no fault is at work, nor was a moment ago.
    fn is_calm(&self) -> bool {
        let now = self.now();
        self.is_whole() && !self.troubles.borrow().iter().any(|trouble| trouble.to > now + AFTERMATH - 2_000)
    }

    /// Notes, when the mesh is whole again, for how long these servers had something to get over.
    async fn in_trouble(&self, servers: impl IntoIterator<Item = usize>, from: u64) {
        while !self.is_whole() {
            sleep(100).await;
        }
        let to = self.now() + AFTERMATH;
        let troubles = servers.into_iter().map(|server| Trouble { server, from, to });
        self.troubles.borrow_mut().extend(troubles);
    }

    /// The sender gives it an id.
    fn name(&self, number: usize) {
        let from = self.envelope(number).from;
        self.rename(number, format!("m{from}-{number}"));
    }
}

/// Everything is as it should be again.
async fn heal(world: &Rc<World>) {
    world.tell("everything heals");
    for at in 0..world.size() {
        world.servers[at].disk.set(Health::Good, 3);
        world.thaw(at);
        if world.life(at).is_none() {
            world.start(at).await;
        }
    }
    world.plan.links.iter().for_each(|way| world.mend(*way));
    for device in &world.devices {
        device.pace.set(0);
        device.is_away.set(false);
    }
}

/// Until nothing moves any more.
async fn rest(world: &World, patience: u64) {
    let begun = world.now();
    loop {
        sleep(500).await;
        look_at_bounds(world);
        let now = world.now();
        let is_there = world.devices.iter().all(|device| device.is_connected() && device.has_said_all());
        let since = now - world.history.last_stir().max(begun);
        let is_quiet = since > patience && (world.disks_are_empty() || since > 4 * REST);
        if is_quiet && is_there && world.is_whole() {
            return;
        }
        if now - begun > MOST {
            world
                .offends(&format!("it does not come to rest (devices there: {is_there}, whole: {})", world.is_whole()));
            return;
        }
    }
}

/// Every queue is within its bound.
fn look_at_bounds(world: &World) {
    for at in 0..world.size() {
        let Some(life) = world.life(at) else { continue };
        let view = life.view();
        view.devices.for_each(|device| {
            let (bytes, edges) = view.on(device, |lane, _, _| (lane.bytes(), lane.connections().count()));
            // For each edge what its outbox may hold, one message of any size beside, and its control frames; and what is
            // under way to another server.
            let most = (edges + 1) * (2 * view.outbox_limit() + LARGEST);
            if bytes > most {
                world.offends(&format!(
                    "BOUND: the lane of {} at s{at} has {bytes} bytes in {edges} edges",
                    device.id()
                ));
            }
        });
    }
}
