//! How long to wait after failures: more after each one, up to a limit, and less again with time.
//!
//! Owns the arithmetic only. Who waits, and what for, is the business of whoever asks.

use super::ids::Millis;

/// Doubles from `first_ms` up to `limit_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first_ms: u64,
    pub limit_ms: u64,
}

impl Backoff {
    /// The wait after so many failures in a row, in milliseconds; none without a failure.
    pub fn delay_ms(self, failures: u32) -> u64 {
        let Some(doublings) = failures.checked_sub(1) else { return 0 };
        let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        self.first_ms.saturating_mul(factor).min(self.limit_ms)
    }

    /// The number of failures after which more of them make no difference.
    fn enough(self) -> u32 {
        (1..u64::BITS).find(|failures| self.delay_ms(*failures) >= self.limit_ms).unwrap_or(u64::BITS)
    }
}

/// How somebody's failures are counted against them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leniency {
    pub backoff: Backoff,
    /// One failure is forgiven each time this passes without another.
    pub forgive_ms: u64,
}

/// The failures somebody still has to answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    failures: u32,
    last: Millis,
}

impl Record {
    /// Counts one more failure and says how long its answer waits, in milliseconds. Failures past the one that reaches
    /// the backoff's limit are not held against anybody, so that forgiveness never takes longer than from there.
    pub fn failed(&mut self, now: Millis, leniency: &Leniency) -> u64 {
        let forgiven = now.since(self.last) / leniency.forgive_ms.max(1);
        let left = u64::from(self.failures).saturating_sub(forgiven) as u32;
        self.failures = (left + 1).min(leniency.backoff.enough());
        self.last = now;
        leniency.backoff.delay_ms(self.failures)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { first_ms: 100, limit_ms: 10_000 };
    const LENIENCY: Leniency = Leniency { backoff: BACKOFF, forgive_ms: 10_000 };

    #[test]
    fn the_wait_doubles_up_to_the_limit() {
        let waits: Vec<u64> = (0..10).map(|failures| BACKOFF.delay_ms(failures)).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(BACKOFF.delay_ms(u32::MAX), 10_000);
    }

    #[test]
    fn failures_are_forgiven_with_time() {
        let mut record = Record::default();
        let start = Millis(1_000_000);
        let waits: Vec<u64> = (0..4).map(|_| record.failed(start, &LENIENCY)).collect();
        assert_eq!(waits, [100, 200, 400, 800]);
        assert_eq!(record.failed(start.plus(20_000), &LENIENCY), 400, "two of four forgiven, one more made");
        assert_eq!(record.failed(start.plus(200_000), &LENIENCY), 100, "all forgiven");
    }

    #[test]
    fn a_thousand_failures_are_forgiven_as_soon_as_enough_of_them() {
        let mut record = Record::default();
        for _ in 0..1000 {
            record.failed(Millis(5), &LENIENCY);
        }
        assert_eq!(record.failed(Millis(5).plus(80_000), &LENIENCY), 100);
    }

    proptest! {
        #[test]
        fn no_wait_is_over_the_limit(first in 0_u64.., limit in 0_u64.., failures: u32) {
            let backoff = Backoff { first_ms: first, limit_ms: limit };
            prop_assert!(backoff.delay_ms(failures) <= limit);
            prop_assert!(backoff.delay_ms(failures) <= backoff.delay_ms(failures.saturating_add(1)));
        }

        #[test]
        fn a_clock_that_jumps_is_no_trouble(times in proptest::collection::vec(any::<u64>(), 1..50)) {
            let mut record = Record::default();
            for time in times {
                let wait = record.failed(Millis(time), &LENIENCY);
                prop_assert!((100..=10_000).contains(&wait));
            }
        }
    }
}
