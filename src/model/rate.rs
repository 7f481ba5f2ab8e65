//! How much an edge may send: a token bucket for frames and one for bytes, both asked at once.
//!
//! Invariant: over any stretch of time no more is admitted than rate x time + [`BURST`] of rate, in frames and in
//! bytes, whatever the clock does. Leaves to the edge what becomes of one who exceeds it.

use std::time::Duration;

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

    /// Takes a frame of so many bytes, or nothing. A frame larger than [`BURST`] of the byte rate is never admitted.
    pub fn take(&mut self, bytes: usize, now: Duration) -> Result<(), Exceeded> {
        let passed = u64::try_from(now.saturating_sub(self.seen).as_nanos()).unwrap_or(u64::MAX);
        self.seen = self.seen.max(now);
        self.frames.fill(passed);
        self.bytes.fill(passed);
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
