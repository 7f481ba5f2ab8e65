//! What a server has cost and done in the last ten minutes, for people who look at it.
//!
//! Invariants: at most [`SPAN`] readings, whatever comes; each is later than the one before, also where the clock has gone
//! back: then what lies ahead of it is forgotten. When a reading is taken, and of what, is the shell's.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::ids::Millis;

/// Time between two readings, in milliseconds.
pub const STEP_MS: u64 = 2_000;
/// Readings that are kept: ten minutes, about 40 KB.
pub const SPAN: usize = 300;

/// One list of the figures for a row of them and for their columns.
macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What is read at one time. Counters count from the start of the process; all else is a level.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Reading {
            pub at: Millis,
            $($(#[$doc])* pub $name: u64,)+
        }

        /// Readings, figure by figure; all columns are equally long. A server that does not know a figure leaves it out.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Columns {
            pub at: Vec<Millis>,
            $(pub $name: Vec<u64>,)+
        }

        impl<'a> FromIterator<&'a Reading> for Columns {
            fn from_iter<I: IntoIterator<Item = &'a Reading>>(readings: I) -> Self {
                let mut columns = Self::default();
                for reading in readings {
                    columns.at.push(reading.at);
                    $(columns.$name.push(reading.$name);)+
                }
                columns
            }
        }
    };
}

figures! {
    /// Edges of devices.
    connections,
    /// Counter: envelopes taken from senders.
    received,
    /// Counter: of shares of envelopes that settled here, those delivered.
    delivered,
    /// Counter: ... stored.
    stored,
    /// Counter: ... dropped.
    dropped,
    /// Counter: frames passed on from one server to another.
    relayed,
    /// In all outboxes, unacknowledged ones included.
    queue_bytes,
    /// In the inboxes that are in memory.
    inbox_envelopes,
    inbox_bytes,
    held_envelopes,
    /// Counter: durable group commits.
    commits,
    /// Counter: the time they took, in microseconds.
    commit_us,
    /// Counter: processor time of the process, in microseconds.
    cpu_us,
    /// Resident.
    memory_bytes,
}

/// See the module's header.
#[derive(Debug, Default)]
pub struct History(VecDeque<Reading>);

impl History {
    pub fn push(&mut self, reading: Reading) {
        while self.0.back().is_some_and(|last| last.at >= reading.at) {
            self.0.pop_back();
        }
        if self.0.len() == SPAN {
            self.0.pop_front();
        }
        self.0.push_back(reading);
    }

    /// The last `points` readings, oldest first.
    pub fn last(&self, points: usize) -> Columns {
        self.0.iter().skip(self.0.len().saturating_sub(points)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(at: u64) -> Reading {
        Reading { at: Millis(at), connections: at, ..Reading::default() }
    }

    #[test]
    fn the_last_ones_are_told_oldest_first() {
        let mut history = History::default();
        (1..=5).for_each(|time| history.push(at(time)));
        let columns = history.last(2);
        assert_eq!((columns.at, columns.connections), (vec![Millis(4), Millis(5)], vec![4, 5]));
        assert_eq!(history.last(99).at.len(), 5);
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_goes_forward(times in proptest::collection::vec(0u64..500, 1..900)) {
            let mut history = History::default();
            for time in &times {
                history.push(at(*time));
            }
            let columns = history.last(usize::MAX);
            prop_assert!(columns.at.len() <= SPAN);
            prop_assert!(columns.at.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(columns.at.last().copied(), times.last().copied().map(Millis));
        }
    }
}
