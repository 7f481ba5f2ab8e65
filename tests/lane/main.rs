//! The delivery promise under every fault at once: one device, its lane and its inbox in a simulated world of slow, stuck
//! and broken connections, full disks and repeated envelopes. Each seed is a world; a failure names its seed, and
//! `SPARKMESH_SEED=n cargo test --test lane` plays it again (`SPARKMESH_TRACE=1` tells what happened).

mod disk;
mod frames;
mod judge;
mod plan;
mod random;
mod socket;
mod story;
mod world;

use std::panic::{self, AssertUnwindSafe};

use plan::Plan;
use random::Random;

fn play(seed: u64, narrow: impl Fn(&mut Plan)) {
    let mut random = Random::new(seed);
    let mut plan = Plan::any(&mut random);
    narrow(&mut plan);
    story::play(plan, random);
}

/// Plays `count` worlds, or the one that `SPARKMESH_SEED` names.
fn play_all(count: u64, narrow: impl Fn(&mut Plan)) {
    if let Some(seed) = std::env::var("SPARKMESH_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return play(seed, narrow);
    }
    for seed in 1..=count {
        let played = panic::catch_unwind(AssertUnwindSafe(|| play(seed, &narrow)));
        if let Err(why) = played {
            eprintln!("SPARKMESH_SEED={seed} plays this again");
            panic::resume_unwind(why);
        }
    }
}

#[test]
fn the_promise_holds_whatever_happens() {
    play_all(1_500, |_| ());
}

#[test]
fn one_connection_at_a_time() {
    play_all(700, |plan| (plan.edges, plan.manual) = (1, 0));
}

#[test]
fn connections_that_take_over_from_each_other() {
    play_all(700, |plan| (plan.edges, plan.manual, plan.pause) = (3, 0, 3_000));
}

#[test]
fn acknowledged_by_the_application() {
    play_all(500, |plan| (plan.app, plan.manual) = (100, 0));
}

#[test]
fn a_device_that_fetches_its_inbox_itself() {
    play_all(500, |plan| (plan.manual, plan.repeated, plan.heals) = (100, 0, false));
}
