//! The pulse of a link: when to ping, when it is dead, how long a round trip takes and how far the other clock is off.
//!
//! Pure: time is an argument, counted from any beginning by a clock that only goes forward.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::ids::Millis;

/// How often [`Pulse::beat`] is to be asked.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// How often a ping is sent.
pub(super) const PING_EVERY: Duration = Duration::from_secs(2);
/// A link without a byte for so long is dead.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(6);
/// Nobody has asked for so long: this server slept, and what has come meanwhile lies unread.
const SLEPT: Duration = Duration::from_secs(2);
/// Round trips among which the quickest tells the clock's offset.
const SAMPLES: usize = 8;
/// Pings that may be unanswered.
const UNANSWERED: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    Wait,
    Ping { counter: u64 },
    Dead,
}

/// What a pong has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measure {
    /// Smoothed, in microseconds, at least 1.
    pub(super) rtt_us: u32,
    /// How far the other clock is ahead.
    pub(super) clock_offset_ms: i64,
}

/// See the module's header.
#[derive(Debug)]
pub(super) struct Pulse {
    heard: Duration,
    asked: Duration,
    pinged: Option<Duration>,
    counter: u64,
    unanswered: VecDeque<(u64, Duration)>,
    smoothed: Option<Duration>,
    samples: VecDeque<(Duration, i64)>,
}

impl Pulse {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            heard: now,
            asked: now,
            pinged: None,
            counter: 0,
            unanswered: VecDeque::new(),
            smoothed: None,
            samples: VecDeque::new(),
        }
    }

    /// A byte has come.
    pub(super) fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    /// What is due; a ping is expected to be sent.
    pub(super) fn beat(&mut self, now: Duration) -> Beat {
        if now.saturating_sub(self.asked) > TICK + SLEPT {
            self.heard = now;
        }
        self.asked = now;
        if now.saturating_sub(self.heard) >= DEAD_AFTER {
            return Beat::Dead;
        }
        // A tick that comes a little early is no reason to wait for the next.
        if self.pinged.is_some_and(|pinged| now.saturating_sub(pinged) + TICK / 2 < PING_EVERY) {
            return Beat::Wait;
        }
        self.pinged = Some(now);
        self.counter += 1;
        if self.unanswered.len() == UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((self.counter, now));
        Beat::Ping { counter: self.counter }
    }

    /// The answer to a ping: `theirs` is the other clock then, `ours` this one now. `None`: it answers no ping of ours.
    pub(super) fn pong(&mut self, counter: u64, theirs: Millis, ours: Millis, now: Duration) -> Option<Measure> {
        let at = self.unanswered.iter().position(|(sent, _)| *sent == counter)?;
        let (_, sent) = self.unanswered.drain(..=at).next_back()?;
        let rtt = now.saturating_sub(sent);
        let smoothed = self.smoothed.map_or(rtt, |smoothed| (smoothed * 3 + rtt) / 4);
        self.smoothed = Some(smoothed);
        let half = (rtt.as_millis() / 2) as i64;
        let offset = (theirs.0 as i64).saturating_sub(ours.0 as i64).saturating_add(half);
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((rtt, offset));
        let quickest = self.samples.iter().min_by_key(|(rtt, _)| *rtt);
        Some(Measure {
            rtt_us: u32::try_from(smoothed.as_micros()).unwrap_or(u32::MAX).max(1),
            clock_offset_ms: quickest.map_or(offset, |(_, offset)| *offset),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_pings_at_once_and_every_two_seconds() {
        let mut pulse = Pulse::new(at(0));
        let beats: Vec<u64> = (0..=16)
            .filter_map(|n| {
                pulse.heard(at(n * 500));
                matches!(pulse.beat(at(n * 500)), Beat::Ping { .. }).then_some(n * 500)
            })
            .collect();
        assert_eq!(beats, [0, 2000, 4000, 6000, 8000]);
    }

    #[test]
    fn six_seconds_without_a_byte_are_death() {
        let mut pulse = Pulse::new(at(0));
        for n in 1..12 {
            assert_ne!(pulse.beat(at(n * 500)), Beat::Dead);
        }
        assert_eq!(pulse.beat(at(6000)), Beat::Dead);
        pulse.heard(at(6100));
        assert_ne!(pulse.beat(at(6500)), Beat::Dead);
    }

    #[test]
    fn who_slept_listens_before_it_judges() {
        let mut pulse = Pulse::new(at(0));
        pulse.beat(at(500));
        assert!(matches!(pulse.beat(at(30_000)), Beat::Ping { .. }));
        for n in 1..12 {
            assert_ne!(pulse.beat(at(30_000 + n * 500)), Beat::Dead);
        }
        assert_eq!(pulse.beat(at(36_000)), Beat::Dead);
    }

    #[test]
    fn round_trips_are_smoothed_and_the_quickest_tells_the_time() {
        let mut pulse = Pulse::new(at(0));
        let ping = |pulse: &mut Pulse, ms| match pulse.beat(at(ms)) {
            Beat::Ping { counter } => counter,
            other => panic!("{other:?}"),
        };
        let first = ping(&mut pulse, 0);
        // The other clock is an hour ahead.
        let hour = 3_600_000;
        let measure = pulse.pong(first, Millis(1_000_005 + hour), Millis(1_000_010), at(10)).unwrap();
        assert_eq!(measure, Measure { rtt_us: 10_000, clock_offset_ms: hour as i64 });
        let second = ping(&mut pulse, 2000);
        let measure = pulse.pong(second, Millis(1_002_000 + hour), Millis(1_002_090), at(2090)).unwrap();
        assert_eq!(measure, Measure { rtt_us: 30_000, clock_offset_ms: hour as i64 });
        assert_eq!(pulse.pong(second, Millis(0), Millis(0), at(2100)), None, "the same again");
        assert_eq!(pulse.pong(99, Millis(0), Millis(0), at(2100)), None, "never sent");
    }

    #[test]
    fn any_clock_is_borne() {
        let mut pulse = Pulse::new(at(0));
        assert_eq!(pulse.beat(at(0)), Beat::Ping { counter: 1 });
        assert!(pulse.pong(1, Millis(u64::MAX), Millis(0), at(1)).is_some());
    }
}
