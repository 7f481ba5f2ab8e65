//! How long a client waits before it tries again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// The wait before the attempt after `failures` failures in a row; `chance` is a random number in `0.0..1.0`.
///
/// Between half and all of an exponential step: a mesh that lost a server must not meet all its clients again in the
/// same second, and a person must not wait for nothing at all.
pub(super) fn wait(failures: u32, chance: f64) -> Duration {
    let step = FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST);
    step.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_is_bounded_and_spreads() {
        assert_eq!(wait(0, 0.0), Duration::from_millis(250));
        assert_eq!(wait(0, 1.0), Duration::from_millis(500));
        assert_eq!(wait(3, 1.0), Duration::from_secs(4));
        assert_eq!(wait(40, 1.0), LONGEST);
        assert_eq!(wait(u32::MAX, 0.0), LONGEST / 2);
    }
}
