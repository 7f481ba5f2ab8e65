//! When a device is woken, and how often it is tried: throttle, collapse, retry, giving up.
//!
//! Owns what waits to be pushed. A device has one piece of *news*, the latest; it goes out once to each of the device's
//! *targets* (where it can be woken). Invariants: a target gets at most one notification per throttle window, save that
//! the device was connected in between; news never waits twice for a target; what is held never costs more than
//! [`Limits::bytes`]. Leaves clocks, chance, sending and the disk to `push`.

use serde::{Deserialize, Serialize};

use super::ids::{Millis, NodeId};

mod schedule;

pub use schedule::Schedule;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Least time between two notifications of one target.
    pub throttle_ms: u64,
    /// The first wait after a failure; each further one is twice as long.
    pub first_wait_ms: u64,
    /// The longest wait that is our own choice; a provider may ask for more.
    pub longest_wait_ms: u64,
    /// News older than this is not tried again.
    pub give_up_ms: u64,
    /// News that failed this often is not tried again.
    pub most_tries: u32,
    /// What all that is held may cost; beyond, the device that has waited longest is dropped.
    pub bytes: usize,
}

impl Limits {
    /// How long to wait after failure number `tries` (from 1): what the provider asked for plus up to a tenth, else
    /// between half and the whole of an exponentially growing step. `chance` is in 0..=1. In milliseconds.
    pub fn wait(&self, tries: u32, asked: Option<u64>, chance: f64) -> u64 {
        let part = |whole: u64| (whole as f64 * chance.clamp(0.0, 1.0)) as u64;
        if let Some(asked) = asked {
            let asked = asked.min(self.give_up_ms);
            return asked + part(asked / 10);
        }
        let doublings = tries.saturating_sub(1).min(30);
        let step = self.first_wait_ms.saturating_mul(1 << doublings).min(self.longest_wait_ms);
        step / 2 + part(step - step / 2)
    }
}

/// Where a device can be woken.
pub trait Target: Clone + Eq {
    /// Targets of one lane share a bound on how many are tried at a time.
    type Lane: Copy + Ord;
    fn lane(&self) -> Self::Lane;
    /// What it costs to hold, in bytes.
    fn bytes(&self) -> usize;
}

/// News on its way to one target, since `since`, not to be tried before `due`, having failed `tries` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    pub since: Millis,
    pub due: Millis,
    pub tries: u32,
}

/// One attempt to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight<N, T> {
    pub device: NodeId,
    pub ticket: u64,
    pub target: T,
    pub news: N,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Sent,
    /// Try again, not before so many milliseconds if the provider said so.
    Retry(Option<u64>),
    /// The target will never work again.
    Dead,
    /// This news cannot go there; later news may.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    Settled,
    Retried(Wait),
    GaveUp,
    /// The device was connected, or dropped, since the attempt began.
    Stale,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Notified<L> {
    /// A target waits now that did not before: worth keeping at once.
    pub fresh: bool,
    /// The lanes of targets whose window or retry the news must await, or whose waiting news it replaced.
    pub held: Vec<L>,
    pub dropped: Vec<Dropped<L>>,
}

/// News that was dropped to make room: whose, and the lanes it waited in.
#[derive(Debug, PartialEq, Eq)]
pub struct Dropped<L> {
    pub device: NodeId,
    pub lanes: Vec<L>,
}
