//! When a peer is asked to acknowledge what was written.
//!
//! One question is under way at a time. It is asked at once where somebody waits for the answer, where much is open, or
//! where something went astray; otherwise a little later, so that under load one question covers many envelopes.

use std::collections::VecDeque;

/// Whether somebody waits to hear that an envelope was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// Its sender asked for a confirmation.
    Soon,
    /// Nobody does: its acknowledgement only frees memory.
    Later,
}

#[derive(Debug)]
struct Ping {
    counter: u64,
    /// Items written before this ping.
    covers: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Later {
    No,
    /// The shell will say when.
    Promised,
    Due,
}

#[derive(Debug)]
pub(super) struct Asking {
    pings: VecDeque<Ping>,
    next: u64,
    /// The last item written for whose acknowledgement somebody waits.
    hasty: u64,
    later: Later,
}

impl Asking {
    pub(super) fn new() -> Self {
        Self { pings: VecDeque::new(), next: 1, hasty: 0, later: Later::No }
    }

    pub(super) fn wrote(&mut self, number: u64, prompt: Prompt) {
        if prompt == Prompt::Soon {
            self.hasty = number;
        }
    }

    /// A question about everything up to `covers`; its counter.
    pub(super) fn ask(&mut self, covers: u64) -> u64 {
        let counter = self.next;
        self.next += 1;
        self.later = Later::No;
        self.pings.push_back(Ping { counter, covers });
        counter
    }

    /// What the answer covers; `None` where it was never asked, or is behind us.
    pub(super) fn answered(&mut self, counter: u64) -> Option<u64> {
        let at = self.pings.iter().position(|ping| ping.counter == counter)?;
        self.pings.drain(..=at).next_back().map(|ping| ping.covers)
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.pings.is_empty()
    }

    /// Whether the item open for longest is to be asked about now.
    pub(super) fn is_pressing(&self, oldest: u64) -> bool {
        oldest <= self.hasty || self.later == Later::Due
    }

    /// True once, until [`Self::fall_due`] or the next question.
    pub(super) fn promise(&mut self) -> bool {
        let first = self.later == Later::No;
        if first {
            self.later = Later::Promised;
        }
        first
    }

    pub(super) fn fall_due(&mut self) {
        if self.later == Later::Promised {
            self.later = Later::Due;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_waits_for_is_pressing_and_all_before_it() {
        let mut asking = Asking::new();
        asking.wrote(1, Prompt::Later);
        assert!(!asking.is_pressing(1));
        asking.wrote(2, Prompt::Soon);
        asking.wrote(3, Prompt::Later);
        assert!(asking.is_pressing(1) && asking.is_pressing(2) && !asking.is_pressing(3));
    }

    #[test]
    fn later_is_promised_once_and_forgotten_when_asked() {
        let mut asking = Asking::new();
        asking.wrote(1, Prompt::Later);
        assert!(asking.promise() && !asking.promise());
        asking.fall_due();
        assert!(asking.is_pressing(1));
        let counter = asking.ask(1);
        asking.wrote(2, Prompt::Later);
        asking.fall_due();
        assert!(!asking.is_pressing(2), "a promise is kept by the next question");
        assert_eq!(asking.answered(counter + 1), None);
        assert_eq!(asking.answered(counter), Some(1));
        assert_eq!(asking.answered(counter), None);
    }
}
