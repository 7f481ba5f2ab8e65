//! The delivery promise in a simulated mesh: real servers on one thread, in a time and with a chance of their own, over disks
//! that lose what was not durable and connections that are late, are cut and fall silent. A seed is a world; a failure names
//! its seed, and `SPARKMESH_SEED=n SPARKMESH_PROFILE=one cargo test --test sim one_seed` plays it again
//! (`SPARKMESH_TRACE=1` tells what happens). `scripts/simulate` plays thousands of them.

mod device;
mod disk;
mod frames;
mod history;
mod judge;
mod link;
mod pipe;
mod plan;
mod random;
mod server;
mod story;
mod time;
mod world;

use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;

use judge::{Counts, Judge};
use plan::{Plan, Profile};
use random::Random;
use sparkmesh::model::keyed;
use sparkmesh::outside;
use time::Virtual;
use tokio::task::LocalSet;
use world::World;

/// What has come of a world.
struct Outcome {
    counts: Counts,
    /// Equal for two runs only if they were the same.
    hash: (u64, u64),
    against: Vec<String>,
    history: String,
}

fn play(seed: u64, profile: Profile) -> Outcome {
    keyed::set_key(0x5EED);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let set = LocalSet::new();
    let outcome = set.block_on(&runtime, async move {
        let mut random = Random::new(seed);
        let time = Virtual::begin(random.fork());
        outside::give(Some(time.clone()));
        let plan = Plan::of(profile, &mut random);
        let world: Rc<World> = World::begin(plan, time, random).await;
        story::play(&world).await;
        let (counts, against) = Judge::of(&world);
        let history = format!("{:?}\n{}", world.plan, world.history);
        Outcome { counts, hash: world.hash(), against, history }
    });
    drop(set);
    outside::give(None);
    outcome
}

/// Plays it, and says what is wrong with it and how to see that again.
fn try_out(seed: u64, profile: Profile) -> Result<Outcome, String> {
    let name = profile.name();
    let again = format!("SPARKMESH_SEED={seed} SPARKMESH_PROFILE={name} cargo test --test sim one_seed -- --nocapture");
    let played = panic::catch_unwind(AssertUnwindSafe(|| play(seed, profile)));
    match played {
        Ok(outcome) if outcome.against.is_empty() => Ok(outcome),
        Ok(outcome) => {
            let against = outcome.against.join("\n  ");
            Err(format!(
                "{}\nseed {seed} ({name}) is against the promise:\n  {against}\nagain: {again}",
                outcome.history
            ))
        }
        Err(why) => {
            let why = why.downcast_ref::<String>().cloned();
            let why = why.unwrap_or_else(|| "it panicked".into());
            Err(format!("seed {seed} ({name}) has a fault: {why}\nagain: {again}"))
        }
    }
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

fn profile() -> Profile {
    let name = std::env::var("SPARKMESH_PROFILE").unwrap_or_else(|_| "one".into());
    let found = Profile::ALL.into_iter().find(|profile| profile.name() == name);
    found.unwrap_or_else(|| panic!("SPARKMESH_PROFILE is calm, one or many, not {name:?}"))
}

fn all(seeds: impl Iterator<Item = u64>, profile: Profile) {
    let mut counts = Counts::default();
    let mut worlds = 0;
    for seed in seeds {
        match try_out(seed, profile) {
            Ok(outcome) => counts += outcome.counts,
            Err(why) => panic!("{why}"),
        }
        worlds += 1;
    }
    println!("{worlds} worlds ({}): {counts}", profile.name());
}

#[test]
fn without_faults_everything_comes_once_and_in_order() {
    all(1..=6, Profile::Calm);
}

#[test]
fn with_one_server_in_trouble_at_a_time_the_promise_holds() {
    all(1..=24, Profile::One);
}

#[test]
fn with_several_servers_in_trouble_nothing_confirmed_is_lost() {
    all(1..=8, Profile::Many);
}

/// A server that died twice before it met another one began both lives in the same epoch of its sessions' order.
#[test]
fn seeds_that_have_found_something() {
    all([31].into_iter(), Profile::Many);
    all([32].into_iter(), Profile::One);
}

#[test]
fn a_seed_makes_the_same_world_again_here_and_in_another_process() {
    for seed in [3, 17] {
        let (one, other) = (play(seed, Profile::One), play(seed, Profile::One));
        assert_eq!(one.hash, other.hash, "seed {seed}");
        let program = std::env::current_exe().unwrap();
        let played = std::process::Command::new(program)
            .args(["one_seed", "--exact", "--nocapture"])
            .env("SPARKMESH_SEED", seed.to_string())
            .env("SPARKMESH_PROFILE", Profile::One.name())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&played.stdout).into_owned();
        assert!(told.contains(&mark(one.hash)), "{} is not in {told}", mark(one.hash));
    }
}

fn mark(hash: (u64, u64)) -> String {
    format!("hash {:016x}, {} of chance", hash.0, hash.1)
}

/// The one that `SPARKMESH_SEED` names, or all of `SPARKMESH_SEEDS=A..B`, whatever becomes of the others: for people, and for
/// `scripts/simulate`.
#[test]
fn one_seed() {
    let (first, last) = match (setting::<u64>("SPARKMESH_SEED"), setting::<String>("SPARKMESH_SEEDS")) {
        (Some(seed), _) => (seed, seed),
        (None, Some(seeds)) => {
            let (first, last) = seeds.split_once("..").expect("SPARKMESH_SEEDS is A..B, both included");
            (first.parse().unwrap(), last.parse().unwrap())
        }
        (None, None) => return,
    };
    let profile = profile();
    let mut counts = Counts::default();
    let mut failed = Vec::new();
    for seed in first..=last {
        match try_out(seed, profile) {
            Ok(outcome) if first == last => {
                println!(
                    "seed {seed}: {} (hash {:016x}, {} of chance)",
                    outcome.counts, outcome.hash.0, outcome.hash.1
                );
            }
            Ok(outcome) => counts += outcome.counts,
            Err(why) => {
                println!("{why}");
                failed.push(seed);
            }
        }
    }
    println!("{} worlds ({}): {counts}; failed: {failed:?}", last - first + 1, profile.name());
    assert!(failed.is_empty(), "{} of {} seeds failed: {failed:?}", failed.len(), last - first + 1);
}
