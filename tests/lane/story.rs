//! What happens in a world: a while of faults, then healing, then the end, at which nothing may be missing.

use sparkmesh::model::lane::{Options, Replay};
use sparkmesh::model::outbox::{Acks, Class};
use sparkmesh::model::seen::WINDOW_MS;

use crate::plan::Plan;
use crate::random::Random;
use crate::socket::State;
use crate::world::World;

/// Long enough for stalls, heartbeats and the slowest inbox.
const A_WHILE: u64 = 120_000;

pub(crate) fn play(plan: Plan, random: Random) {
    let mut world = World::new(plan, random);
    world.say_plan();
    for _ in 0..world.plan.steps {
        step(&mut world);
        let pause = world.random.within(0, world.plan.pause);
        world.run(world.now + pause);
    }
    calm_down(&mut world);
    if world.plan.heals {
        heal(&mut world);
    }
    world.attach_healthy();
    drain(&mut world);
    assert!(world.disk.inbox.is_empty(), "{} envelopes stay in the inbox", world.disk.inbox.len());
    world.judge.close(world.now);
    if world.plan.is_auto() {
        world.judge.order();
    }
    goes_straight(&mut world);
    is_forgotten(&mut world);
}

fn step(world: &mut World) {
    let open: Vec<usize> = (0..world.sockets.len()).filter(|at| world.sockets[*at].is_open()).collect();
    match world.random.within(0, 99) {
        0..50 => offers(world),
        50..65 if (open.len() as u64) < world.plan.edges => attach(world),
        50..72 if !open.is_empty() => {
            let at = open[world.random.pick(open.len())];
            let known = [0, 50, 2_000, 1_000_000][world.random.pick(4)];
            world.sockets[at].state = State::Broken(world.now + known);
        }
        72..82 if !open.is_empty() => {
            let at = open[world.random.pick(open.len())];
            let until = world.now + world.random.within(500, 25_000);
            world.sockets[at].stick(until);
        }
        82..86 if !open.is_empty() => {
            let at = open[world.random.pick(open.len())];
            world.sockets[at].silent_until = world.now + world.random.within(500, 25_000);
        }
        86..88 if !open.is_empty() => {
            let at = open[world.random.pick(open.len())];
            world.end(at);
        }
        88..90 if world.plan.disk_fills => world.disk.full_until = world.now + world.random.within(10, 5_000),
        93..95 => world.store_elsewhere(),
        90..93 => world.run(world.now + 12_000),
        _ if world.random.percent(world.plan.notices) => world.own_frame(),
        _ => offers(world),
    }
}

fn offers(world: &mut World) {
    for _ in 0..[1, 3, 20][world.random.pick(3)] {
        let again = !world.judge.sent.is_empty() && world.random.percent(world.plan.repeated);
        let envelope = if again {
            let recent = world.judge.sent.len().min(30);
            let at = world.judge.sent.len() - 1 - world.random.pick(recent);
            let sent = &world.judge.sent[at];
            if sent.key.is_none() || sent.class != Class::Reliable {
                continue;
            }
            at
        } else {
            world.new_envelope()
        };
        world.offer(envelope);
    }
}

fn attach(world: &mut World) {
    let replay = if world.random.percent(world.plan.manual) { Replay::Manual } else { Replay::Auto };
    let acks = if world.random.percent(world.plan.app) { Acks::Application } else { Acks::Transport };
    let slowness = [2, 40, 600][world.random.pick(3)];
    world.attach(Options { acks, replay, limit: world.plan.limit as usize, number: 1 }, slowness);
}

/// No more faults: the disk has room, who is broken is gone.
fn calm_down(world: &mut World) {
    world.disk.full_until = 0;
    world.plan.disk_ms = world.plan.disk_ms.min(100);
    for at in 0..world.sockets.len() {
        if let State::Broken(_) = world.sockets[at].state {
            world.detach(at);
        }
    }
}

/// Those that are there must catch up without a new connection's help.
fn heal(world: &mut World) {
    let now = world.now;
    for socket in &mut world.sockets {
        socket.heal(now);
    }
    drain(world);
    let serving = world.sockets.iter().any(|socket| socket.is_open() && !socket.told_to_go);
    if serving && world.plan.is_auto() {
        assert!(world.disk.inbox.is_empty(), "{} envelopes stay in the inbox of healed edges", world.disk.inbox.len());
        goes_straight(world);
    }
}

fn drain(world: &mut World) {
    let most = world.now + 10 * A_WHILE;
    while world.now < most {
        world.run(world.now + A_WHILE);
        if world.disk.next_at().is_none() && world.disk.inbox.is_empty() && !world.judge.is_unsettled() {
            return;
        }
    }
}

/// Whoever has caught up is served without the inbox.
fn goes_straight(world: &mut World) {
    world.plan.fast = 0;
    let envelope = world.new_envelope();
    world.appends = 0;
    world.offer(envelope);
    assert_eq!(world.appends, 0, "the lane does not find back to its live way");
    world.run(world.now + 2_000);
}

fn is_forgotten(world: &mut World) {
    for at in 0..world.sockets.len() {
        if world.sockets[at].is_attached() {
            world.detach(at);
        }
    }
    world.run(world.now + A_WHILE);
    world.run(world.now + WINDOW_MS);
    assert!(world.lane.is_forgettable(), "the lane of a device that is gone is kept");
    assert_eq!(world.lane.bytes(), 0);
}
