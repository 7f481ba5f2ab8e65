//! Places at servers that somebody was offered a moment ago: who was offered one is on the way there, and the server has not
//! said yet that it is fuller.
//!
//! Owns how many, by server, for as long as they count. Invariant: bounded by the servers and the seconds that somebody may
//! take, however many ask. A guess, for choosing well: whether a server is full is what that server says.

use std::collections::BTreeMap;

use super::ids::{Millis, NodeId};
use crate::model::keyed::HashMap;

/// How long somebody takes to come to where they were sent, and their coming to be known at the other servers.
pub const HELD_MS: u64 = 5_000;

/// See the module's header.
#[derive(Debug, Default)]
pub struct Reservations {
    /// By the second in which they end.
    servers: HashMap<NodeId, BTreeMap<u64, u64>>,
}

impl Reservations {
    /// Somebody was offered `server`, and sets out in `after_ms`.
    pub fn reserve(&mut self, server: &NodeId, after_ms: u64, now: Millis) {
        let end = (now.0 + after_ms + HELD_MS).div_ceil(1000);
        *self.servers.entry(server.clone()).or_default().entry(end).or_default() += 1;
    }

    /// Forgets those that count no more at `now`.
    pub fn expire(&mut self, now: Millis) {
        self.servers.retain(|_, ends| {
            ends.retain(|end, _| end * 1000 > now.0);
            !ends.is_empty()
        });
    }

    /// How many are on their way to `server`.
    pub fn at(&self, server: &NodeId) -> u64 {
        self.servers.get(server).map_or(0, |ends| ends.values().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_held_until_somebody_has_had_the_time_to_come() {
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut reservations = Reservations::default();
        for now in [100, 999, 1000] {
            reservations.reserve(&a, 0, Millis(now));
        }
        reservations.reserve(&a, 20_000, Millis(1000));
        assert_eq!((reservations.at(&a), reservations.at(&b)), (4, 0));
        for (now, left) in [(1001 + HELD_MS, 1), (20_999 + HELD_MS, 1), (21_000 + HELD_MS, 0)] {
            reservations.expire(Millis(now));
            assert_eq!(reservations.at(&a), left, "at {now}");
        }
        assert!(reservations.servers.is_empty());
    }

    #[test]
    fn a_rush_takes_no_room() {
        let a: NodeId = "a".parse().unwrap();
        let mut reservations = Reservations::default();
        for number in 0..100_000 {
            reservations.reserve(&a, number % 30_000, Millis(number / 100));
            reservations.expire(Millis(number / 100));
        }
        assert_eq!(reservations.at(&a), 100_000);
        assert!(reservations.servers[&a].len() <= 37);
    }
}
