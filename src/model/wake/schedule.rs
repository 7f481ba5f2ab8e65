//! What waits for whom, and when it is due: the state behind the decisions of [`super`].

use std::collections::{BTreeMap, BTreeSet};

use super::{Dropped, Finished, Flight, Limits, Notified, Target, Verdict, Wait};
use crate::model::ids::{Millis, NodeId};

/// What a device costs beside its news and targets: map entries and bookkeeping, in bytes.
const SLOT_BYTES: usize = 256;

#[derive(Debug, Clone, Copy)]
enum Stage {
    Idle,
    Waiting(Wait),
    Ready(Wait),
    /// `again` is when news came that this attempt does not carry.
    Flying {
        wait: Wait,
        ticket: u64,
        again: Option<Millis>,
    },
}

#[derive(Debug)]
struct Leg<T> {
    target: T,
    number: u64,
    tried_at: Option<Millis>,
    stage: Stage,
}

impl<T> Leg<T> {
    fn wait(&self) -> Option<Wait> {
        match self.stage {
            Stage::Idle => None,
            Stage::Waiting(wait) | Stage::Ready(wait) | Stage::Flying { wait, .. } => Some(wait),
        }
    }

    fn window_end(&self, limits: &Limits) -> Option<Millis> {
        self.tried_at.map(|at| at.plus(limits.throttle_ms))
    }
}

#[derive(Debug)]
struct Slot<N, T> {
    /// Present while a leg is not idle.
    news: Option<(N, usize)>,
    /// Grows with each success, so that the smallest is the device that has waited longest.
    born: u64,
    legs: Vec<Leg<T>>,
}

impl<N, T: Target> Slot<N, T> {
    fn waits(&self) -> bool {
        self.legs.iter().any(|leg| leg.wait().is_some())
    }

    fn bytes(&self, device: &NodeId) -> usize {
        let news = self.news.as_ref().map_or(0, |(_, bytes)| *bytes);
        SLOT_BYTES + device.as_str().len() + news + self.legs.iter().map(|leg| leg.target.bytes()).sum::<usize>()
    }
}

/// All that waits. See the header of [`super`].
#[derive(Debug)]
pub struct Schedule<N, T: Target> {
    limits: Limits,
    slots: BTreeMap<NodeId, Slot<N, T>>,
    /// Legs that wait for a time: an attempt, or the end of their window.
    agenda: BTreeSet<(Millis, NodeId, u64)>,
    /// Legs that wait for a place among those tried, the longest due first.
    ready: BTreeMap<T::Lane, BTreeSet<(Millis, NodeId, u64)>>,
    by_birth: BTreeMap<u64, NodeId>,
    bytes: usize,
    waiting: usize,
    counter: u64,
}

impl<N: Clone, T: Target> Schedule<N, T> {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: BTreeMap::new(),
            agenda: BTreeSet::new(),
            ready: BTreeMap::new(),
            by_birth: BTreeMap::new(),
            bytes: 0,
            waiting: 0,
            counter: 0,
        }
    }

    /// Devices that something waits for.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When [`Schedule::ripen`] has something to do next.
    pub fn next(&self) -> Option<Millis> {
        self.agenda.first().map(|(due, ..)| *due)
    }

    /// `news` of `bytes` shall reach the device by `targets`, which are all it has now; duplicates are ignored.
    pub fn notify(&mut self, now: Millis, device: &NodeId, news: N, bytes: usize, targets: &[T]) -> Notified<T::Lane> {
        let mut slot = self.take_or_new(device);
        slot.news = Some((news, bytes));
        let mut notified = Notified { fresh: false, held: Vec::new(), dropped: Vec::new() };
        for leg in &mut slot.legs {
            if !targets.contains(&leg.target) && !matches!(leg.stage, Stage::Flying { .. }) {
                leg.stage = Stage::Idle;
            }
        }
        for (index, target) in targets.iter().enumerate() {
            if targets[..index].contains(target) {
                continue;
            }
            let known = slot.legs.iter().position(|leg| leg.target == *target).unwrap_or_else(|| {
                let number = self.count();
                slot.legs.push(Leg { target: target.clone(), number, tried_at: None, stage: Stage::Idle });
                slot.legs.len() - 1
            });
            let leg = &mut slot.legs[known];
            match &mut leg.stage {
                Stage::Idle => {
                    // A clock set back must not stretch the window.
                    let end = leg.window_end(&self.limits).unwrap_or(now).min(now.plus(self.limits.throttle_ms));
                    let due = end.max(now);
                    if due > now {
                        notified.held.push(target.lane());
                    }
                    notified.fresh = true;
                    leg.stage = Stage::Waiting(Wait { since: now, due, tries: 0 });
                }
                Stage::Waiting(_) | Stage::Ready(_) => notified.held.push(target.lane()),
                Stage::Flying { again, .. } => {
                    notified.held.push(target.lane());
                    *again = Some(now);
                }
            }
        }
        self.put(device, slot);
        notified.dropped = self.make_room(device);
        notified
    }

    /// Takes up what was kept by an earlier life of the server.
    pub fn restore(
        &mut self,
        now: Millis,
        device: &NodeId,
        news: N,
        bytes: usize,
        kept: Vec<(T, Wait)>,
    ) -> Vec<Dropped<T::Lane>> {
        let mut slot = self.take_or_new(device);
        slot.news = Some((news, bytes));
        let latest = now.plus(self.limits.give_up_ms);
        for (target, wait) in kept {
            let wait = Wait { due: wait.due.min(latest), since: wait.since.min(now), ..wait };
            slot.legs.push(Leg { target, number: self.count(), tried_at: None, stage: Stage::Waiting(wait) });
        }
        self.put(device, slot);
        self.make_room(device)
    }

    /// The device is there: nothing waits for it any more, and its next notification goes out at once.
    /// True when something waited.
    pub fn connected(&mut self, device: &NodeId) -> bool {
        self.take(device).is_some_and(|slot| slot.waits())
    }

    /// The device has fetched all it had: what waits is cancelled, but its throttle holds. True when something waited.
    pub fn emptied(&mut self, device: &NodeId) -> bool {
        let Some(mut slot) = self.take(device) else { return false };
        let waited = slot.waits();
        for leg in &mut slot.legs {
            match &mut leg.stage {
                Stage::Flying { again, .. } => *again = None,
                stage => *stage = Stage::Idle,
            }
        }
        self.put(device, slot);
        waited
    }

    /// Moves what is due by `now` to its lane, and forgets windows that are over.
    pub fn ripen(&mut self, now: Millis) {
        while let Some((_, device, _)) = self.agenda.first().filter(|(due, ..)| *due <= now).cloned() {
            let Some(mut slot) = self.take(&device) else { continue };
            for leg in &mut slot.legs {
                match leg.stage {
                    Stage::Waiting(wait) if wait.due <= now => leg.stage = Stage::Ready(wait),
                    Stage::Idle if leg.window_end(&self.limits).is_some_and(|end| end <= now) => leg.tried_at = None,
                    _ => {}
                }
            }
            self.put(&device, slot);
        }
    }

    /// The next attempt to make in `lane`; the caller says by [`Schedule::finish`] what became of it.
    pub fn start(&mut self, lane: T::Lane) -> Option<Flight<N, T>> {
        let (_, device, number) = self.ready.get(&lane)?.first()?.clone();
        let mut slot = self.take(&device)?;
        let ticket = self.count();
        let flight = slot.legs.iter_mut().find(|leg| leg.number == number).and_then(|leg| {
            let (wait, (news, _)) = (leg.wait()?, slot.news.as_ref()?);
            leg.stage = Stage::Flying { wait, ticket, again: None };
            Some(Flight { device: device.clone(), ticket, target: leg.target.clone(), news: news.clone() })
        });
        self.put(&device, slot);
        flight
    }

    /// `chance` in 0..=1 spreads retries.
    pub fn finish(&mut self, now: Millis, device: &NodeId, ticket: u64, verdict: Verdict, chance: f64) -> Finished {
        let Some(mut slot) = self.take(device) else { return Finished::Stale };
        let born = self.count();
        let limits = self.limits;
        let flown = slot.legs.iter_mut().find_map(|leg| match leg.stage {
            Stage::Flying { wait, ticket: own, again } if own == ticket => Some((leg, wait, again)),
            _ => None,
        });
        let finished = match flown {
            None => Finished::Stale,
            Some((leg, wait, again)) => {
                let pause = limits.throttle_ms;
                let then = |pause: u64| match again {
                    Some(since) => Stage::Waiting(Wait { since, due: now.plus(pause), tries: 0 }),
                    None => Stage::Idle,
                };
                match verdict {
                    Verdict::Sent | Verdict::Refused => {
                        leg.tried_at = Some(now);
                        leg.stage = then(pause);
                        slot.born = born;
                        Finished::Settled
                    }
                    Verdict::Dead => {
                        let number = leg.number;
                        slot.legs.retain(|leg| leg.number != number);
                        Finished::Settled
                    }
                    Verdict::Retry(asked) => {
                        let tries = wait.tries + 1;
                        let delay = limits.wait(tries, asked, chance);
                        if tries >= limits.most_tries || now.plus(delay).since(wait.since) > limits.give_up_ms {
                            leg.tried_at = Some(now);
                            leg.stage = then(delay.max(pause));
                            Finished::GaveUp
                        } else {
                            let wait = Wait { since: wait.since, due: now.plus(delay), tries };
                            leg.stage = Stage::Waiting(wait);
                            Finished::Retried(wait)
                        }
                    }
                }
            }
        };
        self.put(device, slot);
        finished
    }

    /// What must outlive this process: the news, and what still waits for it.
    pub fn kept(&self, device: &NodeId) -> Option<(&N, Vec<(T, Wait)>)> {
        let slot = self.slots.get(device)?;
        let (news, _) = slot.news.as_ref()?;
        let waits = slot.legs.iter().filter_map(|leg| Some((leg.target.clone(), leg.wait()?)));
        Some((news, waits.collect()))
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn take_or_new(&mut self, device: &NodeId) -> Slot<N, T> {
        self.take(device).unwrap_or_else(|| Slot { news: None, born: self.count(), legs: Vec::new() })
    }

    /// Takes a slot out with all that lists it, so that it can be changed freely before [`Schedule::put`].
    fn take(&mut self, device: &NodeId) -> Option<Slot<N, T>> {
        let slot = self.slots.remove(device)?;
        for leg in &slot.legs {
            match leg.stage {
                Stage::Waiting(wait) => drop(self.agenda.remove(&(wait.due, device.clone(), leg.number))),
                Stage::Ready(wait) => {
                    if let Some(lane) = self.ready.get_mut(&leg.target.lane()) {
                        lane.remove(&(wait.due, device.clone(), leg.number));
                    }
                }
                Stage::Idle => {
                    if let Some(end) = leg.window_end(&self.limits) {
                        self.agenda.remove(&(end, device.clone(), leg.number));
                    }
                }
                Stage::Flying { .. } => {}
            }
        }
        self.by_birth.remove(&slot.born);
        self.bytes -= slot.bytes(device);
        self.waiting -= usize::from(slot.waits());
        Some(slot)
    }

    fn put(&mut self, device: &NodeId, mut slot: Slot<N, T>) {
        slot.legs.retain(|leg| leg.wait().is_some() || leg.tried_at.is_some());
        if slot.legs.is_empty() {
            return;
        }
        if !slot.waits() {
            slot.news = None;
        }
        for leg in &slot.legs {
            match leg.stage {
                Stage::Waiting(wait) => drop(self.agenda.insert((wait.due, device.clone(), leg.number))),
                Stage::Ready(wait) => {
                    let lane = self.ready.entry(leg.target.lane()).or_default();
                    lane.insert((wait.due, device.clone(), leg.number));
                }
                Stage::Idle => {
                    if let Some(end) = leg.window_end(&self.limits) {
                        self.agenda.insert((end, device.clone(), leg.number));
                    }
                }
                Stage::Flying { .. } => {}
            }
        }
        self.by_birth.insert(slot.born, device.clone());
        self.bytes += slot.bytes(device);
        self.waiting += usize::from(slot.waits());
        self.slots.insert(device.clone(), slot);
    }

    fn make_room(&mut self, but: &NodeId) -> Vec<Dropped<T::Lane>> {
        let mut dropped = Vec::new();
        while self.bytes > self.limits.bytes {
            let Some(device) = self.by_birth.values().find(|device| *device != but).cloned() else { break };
            let Some(slot) = self.take(&device) else { break };
            if slot.waits() {
                let lanes = slot.legs.iter().filter(|leg| leg.wait().is_some()).map(|leg| leg.target.lane()).collect();
                dropped.push(Dropped { device, lanes });
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
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
                    let bytes: usize = wakes.slots.iter().map(|(device, slot)| slot.bytes(device)).sum();
                    prop_assert_eq!(bytes, wakes.bytes());
                    prop_assert_eq!(wakes.slots.values().filter(|slot| slot.waits()).count(), wakes.waiting());
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
                prop_assert_eq!((wakes.slots.len(), wakes.bytes(), wakes.waiting()), (0, 0, 0));
                prop_assert!(wakes.by_birth.is_empty() && wakes.ready.values().all(BTreeSet::is_empty));
            }
        }
    }
}
