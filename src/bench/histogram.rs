//! Latencies, counted in buckets that grow with the value: 32 to each power of two, so no figure is off by more than 3 %.

/// Buckets to each power of two, as a power of two.
const FINE: u32 = 5;
const BUCKETS: usize = (64 - FINE as usize + 1) << FINE;

/// How often each latency was seen; values in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }

    pub(super) fn add(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// The value that `share` (of 0.0-1.0) of all do not exceed; zero when nothing was counted.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(index).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(value: u64) -> usize {
    // Below 2^FINE each value has its own bucket; above, the top FINE+1 bits choose it.
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(FINE + 1);
    ((shift as usize) << FINE) + (value >> shift) as usize
}

/// The greatest value of a bucket.
fn upper(index: usize) -> u64 {
    let shift = (index >> FINE).saturating_sub(1) as u32;
    let mantissa = (index - ((shift as usize) << FINE)) as u64;
    (u128::from(mantissa + 1) << shift).saturating_sub(1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_of_a_ramp_are_where_they_belong() {
        let mut seen = Histogram::new();
        (1..=100_000).for_each(|value| seen.add(value));
        for (share, exact) in [(0.5, 50_000.0), (0.9, 90_000.0), (0.99, 99_000.0)] {
            let off = seen.quantile(share) as f64 / exact;
            assert!((1.0..1.04).contains(&off), "{share}: {off}");
        }
        assert_eq!((seen.quantile(1.0), seen.max()), (100_000, 100_000));
        assert_eq!(Histogram::new().quantile(0.5), 0);
    }

    proptest! {
        #[test]
        fn a_value_is_in_its_bucket_and_close_to_its_end(value: u64) {
            let index = bucket(value);
            prop_assert!(index < BUCKETS);
            prop_assert!(upper(index) >= value);
            prop_assert!(upper(index) - value <= value / 32);
            prop_assert!(index == 0 || upper(index - 1) < value);
        }
    }
}
