//! What kind of world a seed makes: which faults it knows, and how harsh they are.

use sparkmesh::model::inbox::Limits;

use crate::random::Random;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Things that happen before the world calms down.
    pub(crate) steps: u64,
    /// Longest pause between two of them, in milliseconds.
    pub(crate) pause: u64,
    /// Percent of edges that are `Replay::Manual`.
    pub(crate) manual: u64,
    /// Percent of edges that acknowledge by ACK frames.
    pub(crate) app: u64,
    /// Percent of envelopes that are FAST, of those with an `id`, of those sent again, of those that expire.
    pub(crate) fast: u64,
    pub(crate) keyed: u64,
    pub(crate) repeated: u64,
    pub(crate) expiring: u64,
    /// Bound of each outbox.
    pub(crate) limit: u64,
    /// Largest envelope.
    pub(crate) largest: u64,
    /// Most edges at a time.
    pub(crate) edges: u64,
    /// Percent of steps that are frames of the server's own.
    pub(crate) notices: u64,
    pub(crate) disk_fills: bool,
    /// Longest time the inbox takes for one thing, in milliseconds.
    pub(crate) disk_ms: u64,
    pub(crate) limits: Limits,
    /// Reads do not wait for the appends and removals before them.
    pub(crate) overtakes: bool,
    /// Before the healthy edge comes, those that are there are healed, and must catch up by themselves.
    pub(crate) heals: bool,
}

pub(crate) const WIDE: Limits = Limits { bytes: 100_000_000, count: 1_000_000, age_ms: 7 * 24 * 3600 * 1000 };

impl Plan {
    pub(crate) fn any(random: &mut Random) -> Self {
        let chance = |random: &mut Random, of: u64, yes: u64| if random.percent(of) { yes } else { 0 };
        Self {
            steps: random.within(5, 80),
            pause: [30, 300, 3_000][random.pick(3)],
            manual: chance(random, 20, 50),
            app: chance(random, 50, 60),
            fast: chance(random, 50, 30),
            keyed: chance(random, 70, 60),
            repeated: chance(random, 50, 25),
            expiring: chance(random, 30, 20),
            limit: [600, 3_000, 20_000, 1_000_000][random.pick(4)],
            largest: [40, 400, 3_000][random.pick(3)],
            edges: random.within(1, 3),
            notices: chance(random, 30, 15),
            disk_fills: random.percent(20),
            disk_ms: [0, 5, 100, 4_000][random.pick(4)],
            limits: if random.percent(15) { Limits { bytes: 20_000, count: 12, ..WIDE } } else { WIDE },
            overtakes: random.percent(40),
            heals: random.percent(50),
        }
    }

    pub(crate) fn is_auto(&self) -> bool {
        self.manual == 0
    }
}
