//! When a device is woken, and how often it is tried: throttle, collapse, retry, giving up.
//!
//! Owns what waits to be pushed. A device has one piece of *news*, the latest; it goes out once to each of the device's
//! *targets* (where it can be woken). Invariants: a target gets at most one notification per throttle window, save that
//! the device was connected in between; news never waits twice for a target; what is held never costs more than
//! [`Limits::bytes`]. Leaves clocks, chance, sending and the disk to `push`.

use serde::{Deserialize, Serialize};

use super::ids::{Millis, NodeId};

mod schedule;

pub use self::schedule::Schedule;

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const LIMITS: Limits = Limits {
        throttle_ms: 120_000,
        first_wait_ms: 5_000,
        longest_wait_ms: 3_600_000,
        give_up_ms: 86_400_000,
        most_tries: 40,
        bytes: 1 << 20,
    };

    impl Target for &'static str {
        type Lane = u8;
        fn lane(&self) -> u8 {
            self.as_bytes()[0]
        }
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    type Wakes = Schedule<u64, &'static str>;

    fn wakes() -> Wakes {
        Schedule::new(LIMITS)
    }

    fn device(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn start(wakes: &mut Wakes, now: u64, lane: u8) -> Option<Flight<u64, &'static str>> {
        wakes.ripen(Millis(now));
        wakes.start(lane)
    }

    fn finish(wakes: &mut Wakes, now: u64, flight: &Flight<u64, &'static str>, verdict: Verdict) -> Finished {
        wakes.finish(Millis(now), &flight.device, flight.ticket, verdict, 0.5)
    }

    #[test]
    fn one_at_once_then_one_with_the_latest_when_the_window_ends() {
        let (mut wakes, bob) = (wakes(), device("bob"));
        assert!(wakes.notify(Millis(0), &bob, 1, 8, &["a"]).fresh);
        let flight = start(&mut wakes, 0, b'a').unwrap();
        assert_eq!(flight.news, 1);
        assert_eq!(finish(&mut wakes, 50, &flight, Verdict::Sent), Finished::Settled);
        for news in 2..100 {
            assert_eq!(wakes.notify(Millis(50 + news), &bob, news, 8, &["a"]).held, [b'a']);
        }
        assert_eq!(start(&mut wakes, 120_049, b'a'), None);
        assert_eq!(wakes.next(), Some(Millis(120_050)));
        assert_eq!(start(&mut wakes, 120_050, b'a').unwrap().news, 99);
        assert_eq!(start(&mut wakes, 120_050, b'a'), None);
    }

    #[test]
    fn connecting_cancels_what_waits_and_opens_the_window() {
        let (mut wakes, bob) = (wakes(), device("bob"));
        wakes.notify(Millis(0), &bob, 1, 8, &["a"]);
        let flight = start(&mut wakes, 0, b'a').unwrap();
        finish(&mut wakes, 1, &flight, Verdict::Sent);
        wakes.notify(Millis(2), &bob, 2, 8, &["a"]);
        assert!(wakes.connected(&bob));
        assert_eq!((start(&mut wakes, 500_000, b'a'), wakes.bytes(), wakes.waiting()), (None, 0, 0));
        wakes.notify(Millis(500_001), &bob, 3, 8, &["a"]);
        assert_eq!(start(&mut wakes, 500_001, b'a').unwrap().news, 3);
        assert!(wakes.connected(&bob));
        assert!(!wakes.connected(&bob), "nothing is left to cancel");
    }

    #[test]
    fn an_emptied_inbox_cancels_but_does_not_open_the_window() {
        let (mut wakes, bob) = (wakes(), device("bob"));
        wakes.notify(Millis(0), &bob, 1, 8, &["a"]);
        let flight = start(&mut wakes, 0, b'a').unwrap();
        finish(&mut wakes, 0, &flight, Verdict::Sent);
        wakes.notify(Millis(2), &bob, 2, 8, &["a"]);
        assert!(wakes.emptied(&bob));
        assert_eq!(wakes.kept(&bob).map(|(_, waits)| waits), None);
        assert_eq!(wakes.notify(Millis(3), &bob, 3, 8, &["a"]).held, [b'a']);
        assert_eq!(start(&mut wakes, 119_999, b'a'), None);
        assert_eq!(start(&mut wakes, 120_000, b'a').unwrap().news, 3);
    }

    #[test]
    fn a_failing_target_does_not_hold_up_another() {
        let (mut wakes, bob) = (wakes(), device("bob"));
        wakes.notify(Millis(0), &bob, 1, 8, &["a", "b"]);
        let (first, second) = (start(&mut wakes, 0, b'a').unwrap(), start(&mut wakes, 0, b'b').unwrap());
        finish(&mut wakes, 0, &first, Verdict::Sent);
        let Finished::Retried(wait) = finish(&mut wakes, 0, &second, Verdict::Retry(Some(600_000))) else { panic!() };
        assert_eq!(wait.due, Millis(630_000));
        wakes.notify(Millis(1), &bob, 2, 8, &["a", "b"]);
        assert_eq!(start(&mut wakes, 120_000, b'a').unwrap().news, 2);
        assert_eq!(start(&mut wakes, 120_000, b'b'), None);
        assert_eq!(start(&mut wakes, 630_000, b'b').unwrap().news, 2, "the retry carries the latest");
    }

    #[test]
    fn news_during_an_attempt_follows_it() {
        let (mut wakes, bob) = (wakes(), device("bob"));
        wakes.notify(Millis(0), &bob, 1, 8, &["a"]);
        let flight = start(&mut wakes, 0, b'a').unwrap();
        wakes.notify(Millis(5), &bob, 2, 8, &["a"]);
        assert_eq!(start(&mut wakes, 5, b'a'), None, "one attempt at a time");
        finish(&mut wakes, 10, &flight, Verdict::Sent);
        assert_eq!(start(&mut wakes, 120_010, b'a').unwrap().news, 2);
    }

    #[test]
    fn a_dead_target_is_forgotten_and_a_lost_token_too() {
        let (mut wakes, bob) = (wakes(), device("bob"));
        wakes.notify(Millis(0), &bob, 1, 8, &["a", "b"]);
        let flight = start(&mut wakes, 0, b'a').unwrap();
        wakes.notify(Millis(1), &bob, 2, 8, &["a", "b"]);
        finish(&mut wakes, 2, &flight, Verdict::Dead);
        assert_eq!(wakes.kept(&bob).unwrap().1.len(), 1);
        wakes.notify(Millis(3), &bob, 3, 8, &["c"]);
        assert_eq!(start(&mut wakes, 3, b'b'), None, "the device does not have it any more");
        assert_eq!(start(&mut wakes, 3, b'c').unwrap().news, 3);
    }

    #[test]
    fn it_gives_up_after_a_day_or_the_last_try() {
        for (limits, tries) in [(LIMITS, None), (Limits { most_tries: 3, ..LIMITS }, Some(3))] {
            let (mut wakes, bob) = (Wakes::new(limits), device("bob"));
            wakes.notify(Millis(0), &bob, 1, 8, &["a"]);
            let mut tried = 0;
            let ended = loop {
                let now = wakes.next().unwrap_or_default();
                let flight = start(&mut wakes, now.0, b'a').unwrap();
                tried += 1;
                if finish(&mut wakes, now.0, &flight, Verdict::Retry(None)) == Finished::GaveUp {
                    break now;
                }
            };
            assert!(ended.0 <= 86_400_000 && wakes.waiting() == 0);
            assert!(tries.is_none_or(|most| most == tried), "{tried}");
        }
    }

    #[test]
    fn waits_grow_are_spread_and_are_bounded() {
        assert_eq!((LIMITS.wait(1, None, 0.0), LIMITS.wait(1, None, 1.0)), (2_500, 5_000));
        assert_eq!((LIMITS.wait(4, None, 1.0), LIMITS.wait(99, None, 1.0)), (40_000, 3_600_000));
        assert_eq!((LIMITS.wait(1, Some(7_000), 0.0), LIMITS.wait(1, Some(7_000), 1.0)), (7_000, 7_700));
        assert_eq!(LIMITS.wait(1, Some(u64::MAX), 0.0), LIMITS.give_up_ms, "a provider cannot ask for ever");
    }

    #[test]
    fn what_was_kept_waits_again_even_if_the_clock_went_back() {
        let (mut wakes, bob) = (wakes(), device("bob"));
        let far = Wait { since: Millis(u64::MAX), due: Millis(u64::MAX), tries: 3 };
        wakes.restore(Millis(10), &bob, 7, 8, vec![("a", far)]);
        let (news, waits) = wakes.kept(&bob).unwrap();
        let bounded = Wait { since: Millis(10), due: Millis(86_400_010), tries: 3 };
        assert_eq!((*news, waits), (7, vec![("a", bounded)]));
    }

    #[test]
    fn a_full_queue_drops_the_device_that_has_waited_longest() {
        let mut wakes = Wakes::new(Limits { bytes: 1000, ..LIMITS });
        for name in ["x", "y", "z"] {
            wakes.notify(Millis(0), &device(name), 1, 40, &["a"]);
        }
        let flight = start(&mut wakes, 0, b'a').unwrap();
        assert_eq!(flight.device, device("x"));
        finish(&mut wakes, 1, &flight, Verdict::Sent);
        wakes.notify(Millis(2), &device("x"), 2, 40, &["a"]);
        let dropped = wakes.notify(Millis(3), &device("new"), 1, 40, &["a"]).dropped;
        assert_eq!(dropped, [Dropped { device: device("y"), lanes: vec![b'a'] }], "x had its success");
        assert_eq!((wakes.waiting(), wakes.is_consistent()), (3, true));
    }

    mod chance {
        use proptest::prelude::*;

        use super::*;

        #[derive(Debug, Clone)]
        enum Step {
            Notify(usize, Vec<&'static str>),
            Connected(usize),
            Pass(u64),
            Start(u8),
            Finish(usize, Verdict),
        }

        fn step() -> impl Strategy<Value = Step> {
            let targets = proptest::sample::subsequence(vec!["a1", "a2", "b1"], 1..=3);
            let verdict = prop_oneof![
                4 => Just(Verdict::Sent),
                2 => Just(Verdict::Retry(None)),
                1 => Just(Verdict::Retry(Some(70_000))),
                1 => Just(Verdict::Dead),
                1 => Just(Verdict::Refused),
            ];
            prop_oneof![
                (0..3_usize, targets).prop_map(|(who, targets)| Step::Notify(who, targets)),
                (0..3_usize).prop_map(Step::Connected),
                (1..100_000_u64).prop_map(Step::Pass),
                prop_oneof![Just(b'a'), Just(b'b')].prop_map(Step::Start),
                (0..4_usize, verdict).prop_map(|(which, verdict)| Step::Finish(which, verdict)),
            ]
        }

        proptest! {
            /// Whatever happens: no target is notified twice in a window, the sums are right, and once providers are
            /// well again everything that waits goes out and nothing is left behind.
            #[test]
            fn the_invariants_hold(steps in proptest::collection::vec(step(), 1..120)) {
                let devices = [device("x"), device("y"), device("z")];
                let mut wakes = Wakes::new(Limits { bytes: 900, ..LIMITS });
                let mut now = 1_000_000;
                let mut flying: Vec<Flight<u64, &'static str>> = Vec::new();
                let mut sent: BTreeMap<(NodeId, &'static str), u64> = BTreeMap::new();
                let mut news = 0;
                for step in steps {
                    match step {
                        Step::Notify(who, targets) => {
                            news += 1;
                            for gone in wakes.notify(Millis(now), &devices[who], news, 8, &targets).dropped {
                                sent.retain(|(device, _), _| *device != gone.device);
                            }
                            prop_assert!(wakes.bytes() <= 900);
                        }
                        Step::Connected(who) => {
                            wakes.connected(&devices[who]);
                            sent.retain(|(device, _), _| *device != devices[who]);
                        }
                        Step::Pass(ms) => now += ms,
                        Step::Start(lane) => flying.extend(start(&mut wakes, now, lane)),
                        Step::Finish(which, verdict) if which < flying.len() => {
                            let flight = flying.swap_remove(which);
                            let finished = finish(&mut wakes, now, &flight, verdict);
                            if finished == Finished::Settled && verdict == Verdict::Sent {
                                let key = (flight.device, flight.target);
                                let last = sent.insert(key, now);
                                prop_assert!(last.is_none_or(|last| now - last >= LIMITS.throttle_ms));
                            }
                        }
                        Step::Finish(..) => {}
                    }
                    prop_assert!(wakes.is_consistent());
                }
                for flight in flying.drain(..) {
                    finish(&mut wakes, now, &flight, Verdict::Sent);
                }
                loop {
                    wakes.ripen(Millis(now));
                    for lane in [b'a', b'b'] {
                        while let Some(flight) = wakes.start(lane) {
                            prop_assert!(flight.news <= news);
                            finish(&mut wakes, now, &flight, Verdict::Sent);
                        }
                    }
                    let Some(next) = wakes.next() else { break };
                    now = now.max(next.0);
                }
                prop_assert_eq!((wakes.bytes(), wakes.waiting(), wakes.next()), (0, 0, None));
                prop_assert!(wakes.is_consistent());
            }
        }
    }
}
