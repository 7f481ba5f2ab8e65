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

    /// Whether the sums and lists say what the slots say.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let bytes: usize = self.slots.iter().map(|(device, slot)| slot.bytes(device)).sum();
        let waiting = self.slots.values().filter(|slot| slot.waits()).count();
        let legs = self.slots.values().flat_map(|slot| &slot.legs);
        let listed = legs.filter(|leg| !matches!(leg.stage, Stage::Flying { .. })).count();
        let ready: usize = self.ready.values().map(BTreeSet::len).sum();
        (bytes, waiting, listed) == (self.bytes, self.waiting, self.agenda.len() + ready)
            && self.by_birth.len() == self.slots.len()
    }
}
