//! How a store knows at opening that nothing was lost.
//!
//! `sled` checks the pages that it reads, but its recovery takes a damaged piece of its log for the traces of a crash and
//! goes on without what was there. So each commit writes down a sum over all heads of the store, which does not depend on
//! their order and is kept up to date by adding and taking away. As a crash may leave the beginning of a commit, the sums
//! after each of its steps are written down before the first. At opening the sum of what is found must be one of these.

use sha2::{Digest as _, Sha256};

use super::super::Table;
use super::value::PIECE;

/// The most steps of one plan: its sums must fit into one value.
pub(super) const MAX_STEPS: usize = 400;

const _: () = assert!(8 + 8 * (MAX_STEPS + 1) <= PIECE, "a plan is one value of `sled`");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum(u64);

impl Sum {
    pub(super) fn with(self, table: Table, key: &[u8], header: &[u8]) -> Self {
        Self(self.0.wrapping_add(fingerprint(table, key, header)))
    }

    pub(super) fn without(self, table: Table, key: &[u8], header: &[u8]) -> Self {
        Self(self.0.wrapping_sub(fingerprint(table, key, header)))
    }
}

fn fingerprint(table: Table, key: &[u8], header: &[u8]) -> u64 {
    let digest = Sha256::new().chain_update([table as u8]).chain_update(key).chain_update(header).finalize();
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// What the last whole commit left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Committed {
    pub(super) number: u64,
    pub(super) sum: Sum,
}

impl Committed {
    pub(super) fn encode(self) -> [u8; 16] {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&self.number.to_be_bytes());
        raw[8..].copy_from_slice(&self.sum.0.to_be_bytes());
        raw
    }

    pub(super) fn decode(raw: &[u8]) -> Option<Self> {
        match numbers(raw)?.as_slice() {
            [number, sum] => Some(Self { number: *number, sum: Sum(*sum) }),
            _ => None,
        }
    }

    /// Whether a store that holds `found` has all that this commit left, and nothing but a beginning of the next.
    pub(super) fn allows(self, found: Sum, plan: Option<&Plan>) -> bool {
        let next = |plan: &Plan| self.number.checked_add(1) == Some(plan.number) && plan.sums.contains(&found);
        found == self.sum || plan.is_some_and(next)
    }
}

/// The sums that a part of a commit leads through: before it, and after each of its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) sums: Vec<Sum>,
}

impl Plan {
    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = std::iter::once(self.number).chain(self.sums.iter().map(|sum| sum.0));
        numbers.flat_map(u64::to_be_bytes).collect()
    }

    pub(super) fn decode(raw: &[u8]) -> Option<Self> {
        let numbers = numbers(raw)?;
        let (number, sums) = numbers.split_first()?;
        Some(Self { number: *number, sums: sums.iter().copied().map(Sum).collect() })
    }
}

fn numbers(raw: &[u8]) -> Option<Vec<u64>> {
    let (numbers, rest) = raw.as_chunks::<8>();
    rest.is_empty().then(|| numbers.iter().copied().map(u64::from_be_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_knows_what_is_there_and_not_in_which_order() {
        let (a, b) = ((Table::Inbox, b"a", b"head".as_slice()), (Table::Inbox, b"b", b"head".as_slice()));
        let both = Sum::default().with(a.0, a.1, a.2).with(b.0, b.1, b.2);
        assert_eq!(both, Sum::default().with(b.0, b.1, b.2).with(a.0, a.1, a.2));
        assert_eq!(both.without(a.0, a.1, a.2), Sum::default().with(b.0, b.1, b.2));
        assert_ne!(both, Sum::default().with(a.0, a.1, a.2));
        assert_ne!(Sum::default().with(a.0, a.1, a.2), Sum::default().with(Table::Push, a.1, a.2));
    }

    #[test]
    fn only_a_beginning_of_the_next_commit_is_allowed() {
        let committed = Committed { number: 7, sum: Sum(70) };
        let plan = |number| Plan { number, sums: vec![Sum(70), Sum(71), Sum(72)] };
        assert!(committed.allows(Sum(70), None));
        assert!(!committed.allows(Sum(71), None));
        assert!(committed.allows(Sum(71), Some(&plan(8))) && committed.allows(Sum(72), Some(&plan(8))));
        assert!(!committed.allows(Sum(73), Some(&plan(8))), "no state that it leads through");
        assert!(!committed.allows(Sum(71), Some(&plan(7))), "done with: its effects must all be there");
    }

    #[test]
    fn what_is_written_can_be_read() {
        let committed = Committed { number: 7, sum: Sum(u64::MAX) };
        assert_eq!(Committed::decode(&committed.encode()), Some(committed));
        let plan = Plan { number: 8, sums: vec![Sum(1); MAX_STEPS + 1] };
        assert_eq!(Plan::decode(&plan.encode()), Some(plan));
        assert_eq!((Committed::decode(&[0; 15]), Committed::decode(&[0; 24])), (None, None));
        assert_eq!((Plan::decode(&[]), Plan::decode(&[0; 9])), (None, None));
    }
}
