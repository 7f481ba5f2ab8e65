//! How much an edge may send: a token bucket for frames and one for bytes, both asked at once.
//!
//! Invariant: over any stretch of time no more is admitted than rate x time + [`BURST`] of rate, in frames and in
//! bytes, whatever the clock does. Who connects anew goes on with what the last edge had left ([`Spent`]): otherwise a flood
//! would have a full bucket with every connection. Leaves to the edge what becomes of one who exceeds it.

use std::collections::VecDeque;
use std::time::Duration;

use super::ids::NodeId;
use super::keyed::HashMap;

/// How long somebody may have been silent to send at once what was saved meanwhile.
pub const BURST: Duration = Duration::from_secs(2);

/// Rates above this are taken for this: [`BURST`] of it is as much as can be counted.
const MAX_RATE: u64 = 9_000_000_000;

/// Tokens are counted in billionths, so that a rate times nanoseconds is exact.
const NANO: u64 = 1_000_000_000;

/// Per second; 0 admits nothing, and above 9 000 000 000 is as good as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub frames: u64,
    pub bytes: u64,
}

/// Too much at once. Nothing was taken from the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    #[error("too many frames a second")]
    Frames,
    #[error("too many bytes a second")]
    Bytes,
}

/// What one edge may still send.
#[derive(Debug, Clone)]
pub struct Bucket {
    frames: Level,
    bytes: Level,
    /// The latest moment seen.
    seen: Duration,
}

impl Bucket {
    /// A full bucket. `now`, here and later, is the time since any fixed moment, on a clock that does not go back.
    pub fn new(limits: Limits, now: Duration) -> Self {
        Self { frames: Level::full(limits.frames), bytes: Level::full(limits.bytes), seen: now }
    }

    /// Whether at least half of what can be saved is there.
    fn is_half_full(&self, now: Duration) -> bool {
        let mut then = self.clone();
        then.pass(now);
        let half = |level: &Level| level.tokens >= level.rate * BURST.as_secs() * NANO / 2;
        half(&then.frames) && half(&then.bytes)
    }

    fn pass(&mut self, now: Duration) {
        let passed = u64::try_from(now.saturating_sub(self.seen).as_nanos()).unwrap_or(u64::MAX);
        self.seen = self.seen.max(now);
        self.frames.fill(passed);
        self.bytes.fill(passed);
    }

    /// Takes a frame of so many bytes, or nothing. A frame larger than [`BURST`] of the byte rate is never admitted.
    pub fn take(&mut self, bytes: usize, now: Duration) -> Result<(), Exceeded> {
        self.pass(now);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(NANO);
        if self.frames.tokens < NANO {
            return Err(Exceeded::Frames);
        }
        if self.bytes.tokens < bytes {
            return Err(Exceeded::Bytes);
        }
        self.frames.tokens -= NANO;
        self.bytes.tokens -= bytes;
        Ok(())
    }
}

/// What those had left whose edge has ended less than [`BURST`] ago: after that a bucket is full again. Bounded: those are
/// left out who have more than half, and beyond [`MOST_SPENT`] the oldest.
#[derive(Debug, Default)]
pub struct Spent {
    /// With the moment of the end.
    left: HashMap<NodeId, (Bucket, Duration)>,
    /// In the order in which they ended; a device may be there more than once.
    order: VecDeque<(Duration, NodeId)>,
}

/// How many are remembered: as many as can end a flood in two seconds and come in again.
pub const MOST_SPENT: usize = 4096;

impl Spent {
    /// An edge of `node` has ended, with this left.
    pub fn keep(&mut self, node: &NodeId, bucket: &Bucket, now: Duration) {
        self.forget(now);
        if bucket.is_half_full(now) {
            return;
        }
        if self.order.len() == MOST_SPENT {
            self.forget_first();
        }
        self.left.insert(node.clone(), (bucket.clone(), now));
        self.order.push_back((now, node.clone()));
    }

    /// The bucket of a new edge of `node`.
    pub fn resume(&mut self, node: &NodeId, limits: Limits, now: Duration) -> Bucket {
        self.forget(now);
        self.left.get(node).map_or_else(|| Bucket::new(limits, now), |(bucket, _)| bucket.clone())
    }

    fn forget(&mut self, now: Duration) {
        while self.order.front().is_some_and(|(ended, _)| ended.saturating_add(BURST) <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((ended, node)) = self.order.pop_front() else { return };
        // Kept again since, it stays.
        if self.left.get(&node).is_some_and(|(_, last)| *last == ended) {
            self.left.remove(&node);
        }
    }
}

#[derive(Debug, Clone)]
struct Level {
    /// Tokens per second, which is billionths of a token per nanosecond.
    rate: u64,
    /// In billionths; at most [`BURST`] of the rate.
    tokens: u64,
}

impl Level {
    fn full(rate: u64) -> Self {
        let mut level = Self { rate: rate.min(MAX_RATE), tokens: 0 };
        level.fill(u64::MAX);
        level
    }

    fn fill(&mut self, nanos: u64) {
        let most = self.rate * BURST.as_secs() * NANO;
        self.tokens = self.tokens.saturating_add(self.rate.saturating_mul(nanos)).min(most);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_seconds_at_once_then_the_rate() {
        let mut bucket = Bucket::new(Limits { frames: 10, bytes: 1000 }, Duration::ZERO);
        let mut taken = |now| (0..100).filter(|_| bucket.take(1, Duration::from_millis(now)).is_ok()).count();
        assert_eq!(taken(0), 20);
        assert_eq!(taken(99), 0);
        assert_eq!(taken(100), 1);
        assert_eq!(taken(600), 5);
        assert_eq!(taken(1_000_000), 20, "no more is saved");
    }

    #[test]
    fn what_is_refused_costs_nothing() {
        let mut bucket = Bucket::new(Limits { frames: 1, bytes: 100 }, Duration::ZERO);
        assert_eq!(bucket.take(201, Duration::ZERO), Err(Exceeded::Bytes));
        assert_eq!(bucket.take(200, Duration::ZERO), Ok(()));
        assert_eq!(bucket.take(1, Duration::ZERO), Err(Exceeded::Bytes));
        assert_eq!(bucket.take(0, Duration::ZERO), Ok(()));
        assert_eq!(bucket.take(0, Duration::ZERO), Err(Exceeded::Frames));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut bucket = Bucket::new(Limits { frames: u64::MAX, bytes: u64::MAX }, Duration::ZERO);
        assert_eq!(bucket.take(1 << 34, Duration::MAX), Ok(()));
        assert_eq!(bucket.take(usize::MAX, Duration::MAX), Err(Exceeded::Bytes));
        let mut none = Bucket::new(Limits { frames: 0, bytes: 0 }, Duration::ZERO);
        assert_eq!(none.take(0, Duration::MAX), Err(Exceeded::Frames));
    }

    #[test]
    fn who_connects_anew_goes_on_with_what_was_left() {
        let limits = Limits { frames: 10, bytes: 1000 };
        let (alice, bob): (NodeId, NodeId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let mut spent = Spent::default();
        let at = Duration::from_millis;
        let admitted = |bucket: &mut Bucket, now| (0..100).filter(|_| bucket.take(1, now).is_ok()).count();
        let mut taken = 0;
        // A connection each tenth of a second, each of them a flood.
        for again in 0..30 {
            let mut bucket = spent.resume(&alice, limits, at(again * 100));
            taken += admitted(&mut bucket, at(again * 100));
            spent.keep(&alice, &bucket, at(again * 100));
        }
        assert_eq!(taken, 20 + 29, "two seconds at once, then the rate: as over one connection");
        assert_eq!(admitted(&mut spent.resume(&bob, limits, at(2900)), at(2900)), 20, "nobody else pays for it");
        assert_eq!(admitted(&mut spent.resume(&alice, limits, at(4900)), at(4900)), 20, "and then it is over");
        assert!(spent.left.is_empty() && spent.order.is_empty());
    }

    #[test]
    fn what_is_remembered_of_those_who_left_is_bounded() {
        let limits = Limits { frames: 1, bytes: 1 };
        let mut spent = Spent::default();
        let full = Bucket::new(limits, Duration::ZERO);
        spent.keep(&"quiet".parse().unwrap(), &full, Duration::ZERO);
        assert!(spent.left.is_empty());
        let mut bucket = full;
        while bucket.take(0, Duration::ZERO).is_ok() {}
        for n in 0..=MOST_SPENT {
            spent.keep(&format!("d{n}").parse().unwrap(), &bucket, Duration::ZERO);
        }
        assert_eq!((spent.left.len(), spent.order.len()), (MOST_SPENT, MOST_SPENT));
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_admits_more_than_its_share(
            frames in 0..50u64,
            bytes in 0..5000u64,
            // Steps in nanoseconds, some of them back.
            steps in prop::collection::vec((-300_000_000i64..900_000_000, 0..3000usize), 1..200),
        ) {
            let mut bucket = Bucket::new(Limits { frames, bytes }, Duration::from_secs(1000));
            let mut now = 1_000_000_000_000i64;
            // Where the clock goes back, time is what the latest moment says.
            let mut latest = now;
            let mut admitted: Vec<(i64, usize)> = Vec::new();
            for (step, size) in steps {
                now += step;
                latest = latest.max(now);
                if bucket.take(size, Duration::from_nanos(now as u64)).is_ok() {
                    admitted.push((latest, size));
                }
            }
            for start in 0..admitted.len() {
                let mut sum = 0;
                for (n, (at, size)) in admitted[start..].iter().enumerate() {
                    sum += *size as u64;
                    let span = (at - admitted[start].0) as u64 + BURST.as_nanos() as u64;
                    prop_assert!((n as u64 + 1) * NANO <= frames * span);
                    prop_assert!(sum * NANO <= bytes * span);
                }
            }
        }

        #[test]
        fn who_keeps_to_the_rate_is_never_refused(frames in 1..2000u64, n in 1..3000u64) {
            let mut bucket = Bucket::new(Limits { frames, bytes: u64::MAX }, Duration::ZERO);
            for sent in 0..n {
                let at = Duration::from_nanos(sent * 1_000_000_000 / frames);
                prop_assert!(bucket.take(100, at).is_ok());
            }
        }
    }
}
