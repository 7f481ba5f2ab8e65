//! The order of a session: which envelope has which number within an epoch.
//!
//! Invariants: numbers only grow; what comes to be numbered once more in the same epoch, because whoever had sent it did not
//! hear of it or was told to try again, has the number that it had, as long as it is among the last [`GIVEN`] of those that
//! may come again.

use std::collections::VecDeque;

use super::keyed::HashMap;
use super::seen::Key;

/// How many numbers are remembered (DESIGN 5: the last 1024 ids).
const GIVEN: usize = 1024;

/// See the module's header.
#[derive(Debug, Default)]
pub struct Numbering {
    last: u64,
    epoch: u64,
    given: HashMap<Key, u64>,
    /// The keys of these, the oldest first.
    order: VecDeque<Key>,
}

impl Numbering {
    /// That of the last envelope.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The number of an envelope that comes once.
    pub fn once(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The number, within `epoch`, of an envelope that may come again.
    pub fn of(&mut self, key: Key, epoch: u64) -> u64 {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.given.clear();
            self.order.clear();
        }
        if let Some(number) = self.given.get(&key) {
            return *number;
        }
        if self.order.len() == GIVEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.given.remove(&oldest);
        }
        let number = self.once();
        self.given.insert(key, number);
        self.order.push_back(key);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        Key::of(&"alice".parse().unwrap(), &id.parse().unwrap())
    }

    #[test]
    fn what_comes_again_keeps_its_number_within_the_epoch() {
        let mut order = Numbering::default();
        assert_eq!((order.of(key("a"), 1), order.once(), order.of(key("b"), 1)), (1, 2, 3));
        assert_eq!((order.of(key("a"), 1), order.last()), (1, 3));
        assert_eq!(order.of(key("a"), 2), 4, "another epoch is another order");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut order = Numbering::default();
        for n in 0..=GIVEN {
            order.of(key(&n.to_string()), 1);
        }
        assert_eq!((order.given.len(), order.order.len()), (GIVEN, GIVEN));
        assert_eq!(order.of(key("0"), 1), GIVEN as u64 + 2, "forgotten");
    }
}
