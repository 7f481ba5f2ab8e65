//! Custody: who still has to answer before an envelope's sender may be told what became of it.
//!
//! Owns the count of recipients and of their outcomes. Invariants: every recipient expected settles once; the verdict is
//! given once, when the last has settled and nobody more is expected. Who the sender is, and how it is told, is left to
//! the shell.

use super::envelope::Status;

/// What became of an envelope for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The recipient has acknowledged it.
    Delivered,
    /// It is durable in the recipient's inbox.
    Stored,
    /// Nobody has it, as its class or its time to live allows.
    Dropped,
    /// It could be neither delivered nor stored.
    Failed,
}

/// Whether a device has ever been here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquaintance {
    Known,
    Unknown,
}

/// What the sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Confirmed {
        status: Status,
        counts: Counts,
    },
    /// At least one recipient has it nowhere: no confirmation; sending the same id again is safe.
    Unavailable(Counts),
}

impl Verdict {
    pub fn counts(self) -> Counts {
        match self {
            Self::Confirmed { counts, .. } | Self::Unavailable(counts) => counts,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub delivered: u32,
    pub stored: u32,
    pub dropped: u32,
    pub failed: u32,
}

/// The open account of one envelope.
#[derive(Debug)]
pub struct Tally {
    open: u32,
    counts: Counts,
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// Opened with a hold, so that recipients found one after the other cannot settle it too early; see [`Self::release`].
    pub fn new() -> Self {
        Self { open: 1, counts: Counts::default() }
    }

    /// `recipients` more will settle.
    pub fn expect(&mut self, recipients: u32) {
        self.open += recipients;
    }

    /// Ends the hold: all recipients are known.
    pub fn release(&mut self) -> Option<Verdict> {
        self.close_one()
    }

    pub fn settle(&mut self, outcome: Outcome) -> Option<Verdict> {
        match outcome {
            Outcome::Delivered => self.counts.delivered += 1,
            Outcome::Stored => self.counts.stored += 1,
            Outcome::Dropped => self.counts.dropped += 1,
            Outcome::Failed => self.counts.failed += 1,
        }
        self.close_one()
    }

    /// A share of several recipients has settled.
    pub fn settle_all(&mut self, counts: Counts) -> Option<Verdict> {
        self.counts.delivered += counts.delivered;
        self.counts.stored += counts.stored;
        self.counts.dropped += counts.dropped;
        self.counts.failed += counts.failed;
        self.close_one()
    }

    fn close_one(&mut self) -> Option<Verdict> {
        self.open = self.open.checked_sub(1)?;
        (self.open == 0).then(|| self.verdict())
    }

    fn verdict(&self) -> Verdict {
        let counts = self.counts;
        if counts.failed > 0 {
            return Verdict::Unavailable(counts);
        }
        let status = if counts.dropped > 0 {
            Status::Dropped
        } else if counts.stored > 0 {
            Status::Stored
        } else if counts.delivered > 0 {
            Status::Delivered
        } else {
            Status::Dropped
        };
        Verdict::Confirmed { status, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict_of(outcomes: &[Outcome]) -> Verdict {
        let mut tally = Tally::new();
        tally.expect(outcomes.len() as u32);
        assert_eq!(tally.release().is_some(), outcomes.is_empty());
        let mut verdict = None;
        for (at, outcome) in outcomes.iter().enumerate() {
            verdict = tally.settle(*outcome);
            assert_eq!(verdict.is_some(), at + 1 == outcomes.len());
        }
        verdict.unwrap()
    }

    fn status_of(outcomes: &[Outcome]) -> Status {
        match verdict_of(outcomes) {
            Verdict::Confirmed { status, .. } => status,
            Verdict::Unavailable(_) => panic!("unavailable"),
        }
    }

    #[test]
    fn the_weakest_outcome_names_the_whole() {
        use Outcome::{Delivered, Dropped, Failed, Stored};
        assert_eq!(status_of(&[Delivered, Delivered]), Status::Delivered);
        assert_eq!(status_of(&[Delivered, Stored]), Status::Stored);
        assert_eq!(status_of(&[Dropped, Stored]), Status::Dropped);
        let counts = Counts { failed: 1, delivered: 1, ..Counts::default() };
        assert_eq!(verdict_of(&[Failed, Delivered]), Verdict::Unavailable(counts));
    }

    #[test]
    fn a_hold_keeps_an_early_settlement_from_closing() {
        let mut tally = Tally::new();
        tally.expect(1);
        assert_eq!(tally.settle(Outcome::Delivered), None);
        tally.expect(1);
        assert_eq!(tally.release(), None);
        assert!(tally.settle(Outcome::Stored).is_some());
        assert_eq!(tally.settle(Outcome::Stored), None, "a verdict is given once");
    }

    #[test]
    fn a_share_of_several_counts_as_all_of_them() {
        let mut tally = Tally::new();
        tally.expect(2);
        tally.release();
        assert_eq!(tally.settle(Outcome::Delivered), None);
        let share = Counts { delivered: 2, stored: 1, ..Counts::default() };
        let counts = Counts { delivered: 3, stored: 1, ..Counts::default() };
        assert_eq!(tally.settle_all(share), Some(Verdict::Confirmed { status: Status::Stored, counts }));
    }

    #[test]
    fn nobody_there_is_dropped() {
        let mut tally = Tally::new();
        assert_eq!(tally.release(), Some(Verdict::Confirmed { status: Status::Dropped, counts: Counts::default() }));
    }
}
