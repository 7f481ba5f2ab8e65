//! Spreads those who ask for an offer all at once, as after the loss of a server: each is told when to open its socket.

use std::sync::atomic::{AtomicU64, Ordering};

/// Handshakes per second that are asked for.
const PER_SECOND: u64 = 1000;
/// That many may come at once before anybody is told to wait.
const BURST: u64 = 2000;
/// Longest wait told, in milliseconds: the validation key must still be good afterwards.
const LONGEST_MS: u64 = 30_000;

/// When the next socket is due, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    /// How many milliseconds the one who asks now is to wait; 0 but in a rush.
    pub(super) fn start_after_ms(&self, now_ms: u64) -> u64 {
        let (now, step) = (now_ms.saturating_mul(1000), 1_000_000 / PER_SECOND);
        let latest = now + (LONGEST_MS + BURST * step / 1000) * 1000;
        // Beyond the longest wait the queue does not grow: those share its end.
        let next = |due: u64| Some((due.max(now) + step).min(latest));
        let due = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(now).max(now);
        (due - now).saturating_sub(BURST * step) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_but_in_a_rush() {
        let pace = Pace::default();
        for ms in 1000..4000 {
            assert_eq!(pace.start_after_ms(ms), 0);
        }
        assert!((0..BURST).all(|_| pace.start_after_ms(5000) == 0));
        let waits: Vec<u64> = (0..100_000).map(|_| pace.start_after_ms(5000)).collect();
        assert!(waits.is_sorted() && waits[1] > 0, "each is after the one before");
        assert_eq!((waits[3000], waits[99_999]), (3000, LONGEST_MS));
        assert_eq!(pace.start_after_ms(5000 + 2 * LONGEST_MS), 0, "and then it is over");
    }
}
