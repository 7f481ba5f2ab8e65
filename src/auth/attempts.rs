//! What failed attempts cost the address they come from: each answer that says no comes later than the one before.
//!
//! Nothing here is ever asked about a key that is good: valid keys are neither refused nor delayed, whatever else comes
//! from their address. Memory is bounded: at most [`MAX_ADDRESSES`] are remembered (an IPv6 customer's /64 counts as one),
//! in two generations, of which the older is dropped when the younger has filled up; at most [`MAX_HELD`] answers are
//! held back at once, and those beyond are given at once, since holding them would spend more of ours than of theirs.

use std::collections::HashMap;
use std::mem;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::model::backoff::{Backoff, Leniency, Record};
use crate::model::ids::Millis;

/// Most addresses remembered; 24 bytes or so each.
pub const MAX_ADDRESSES: usize = 10_000;
/// Most answers held back at the same time.
pub const MAX_HELD: usize = 512;

const LENIENCY: Leniency = Leniency { backoff: Backoff { first_ms: 100, limit_ms: 5_000 }, forgive_ms: 10_000 };

/// The failed attempts of all addresses.
#[derive(Debug)]
pub struct Attempts {
    table: Mutex<Table>,
    held: Semaphore,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { table: Mutex::new(Table::new(MAX_ADDRESSES)), held: Semaphore::new(MAX_HELD) }
    }
}

impl Attempts {
    /// Counts a failure of `address` and says how long its answer is to wait: 100 ms for the first, twice as long for
    /// each further one, at most 10 s; one is forgiven every 10 s.
    pub fn failed(&self, address: IpAddr, now: Millis) -> Duration {
        // The lock guards nothing that a panic could leave half done.
        Duration::from_millis(self.table.lock().unwrap_or_else(PoisonError::into_inner).failed(address, now))
    }

    /// Counts a failure and waits as long as [`Attempts::failed`] says, unless too many wait already. To be awaited
    /// before the answer that refuses somebody.
    pub async fn slow_down(&self, address: IpAddr, now: Millis) {
        let wait = self.failed(address, now);
        if let Ok(_held) = self.held.try_acquire() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[derive(Debug)]
struct Table {
    young: HashMap<IpAddr, Record>,
    old: HashMap<IpAddr, Record>,
    /// Of one generation.
    capacity: usize,
}

impl Table {
    fn new(addresses: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), capacity: (addresses / 2).max(1) }
    }

    fn failed(&mut self, address: IpAddr, now: Millis) -> u64 {
        let address = household(address);
        let mut record = self.young.remove(&address).or_else(|| self.old.remove(&address)).unwrap_or_default();
        let wait = record.failed(now, &LENIENCY);
        if self.young.len() >= self.capacity {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(address, record);
        wait
    }
}

/// The address that stands for all those that one customer has.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_failure_of_an_address_waits_longer_and_others_do_not() {
        let attempts = Attempts::default();
        let waits: Vec<u128> = (0..9).map(|_| attempts.failed(ip("192.0.2.1"), NOW).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5_000, 5_000, 5_000]);
        assert_eq!(attempts.failed(ip("192.0.2.2"), NOW), Duration::from_millis(100));
        assert_eq!(attempts.failed(ip("192.0.2.1"), NOW.plus(80_000)), Duration::from_millis(100));
    }

    #[test]
    fn a_64_is_one_address_and_a_mapped_one_is_its_v4() {
        let attempts = Attempts::default();
        attempts.failed(ip("2001:db8:0:1::1"), NOW);
        assert_eq!(attempts.failed(ip("2001:db8:0:1:ffff::2"), NOW).as_millis(), 200);
        assert_eq!(attempts.failed(ip("2001:db8:0:2::1"), NOW).as_millis(), 100);
        attempts.failed(ip("192.0.2.1"), NOW);
        assert_eq!(attempts.failed(ip("::ffff:192.0.2.1"), NOW).as_millis(), 200);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_those_who_keep_failing() {
        let mut table = Table::new(100);
        let busy = ip("10.0.0.1");
        let mut wait = 0;
        for n in 0..2000_u32 {
            table.failed(IpAddr::from((0xc000_0000 + n).to_be_bytes()), NOW);
            if n % 20 == 0 {
                wait = table.failed(busy, NOW);
            }
            assert!(table.young.len() + table.old.len() <= 100);
        }
        assert_eq!(wait, 5_000);
    }

    #[tokio::test]
    async fn an_answer_is_held_back_unless_too_many_are() {
        let attempts = Attempts::default();
        let start = std::time::Instant::now();
        attempts.slow_down(ip("192.0.2.1"), NOW).await;
        assert!(start.elapsed() >= Duration::from_millis(100));
        for _ in 0..7 {
            attempts.failed(ip("192.0.2.1"), NOW);
        }
        let _all = attempts.held.acquire_many(MAX_HELD as u32).await.unwrap();
        attempts.slow_down(ip("192.0.2.1"), NOW).await;
        assert!(start.elapsed() < Duration::from_secs(10), "the wait would have been 10 s");
    }
}
