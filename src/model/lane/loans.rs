//! What other servers lend to this lane: for an edge that is here, and nowhere else.
//!
//! Invariants:
//! - what is lent is never sent on: an edge here takes it, its inbox does, or it is refused, and its custodian finds another way;
//! - once one of a [`Loan`] was refused, all reliable ones that follow by it are: their custodian takes back all that it has lent,
//!   and lends it anew in its order. Were they taken, they would overtake.

use super::super::custody::Outcome;
use super::super::ids::Millis;
use super::super::outbox::{Class, Custody, Item, Loan};
use super::effect::Effects;
use super::{Effect, Lane};

/// How long a refused loan is remembered, in milliseconds. Its custodian has heard of it by then, or has lost this server, and
/// with it the loan.
const REFUSED_MS: u64 = 60_000;

/// The loans that were refused lately; a custodian has few within that time.
#[derive(Debug, Default)]
pub(super) struct Loans(Vec<(Loan, Millis)>);

impl Loans {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn expire(&mut self, now: Millis) {
        self.0.retain(|(_, at)| now.since(*at) < REFUSED_MS);
    }

    fn has(&self, loan: Loan) -> bool {
        self.0.iter().any(|(refused, _)| *refused == loan)
    }

    fn add(&mut self, loan: Loan, now: Millis) {
        if !self.has(loan) {
            self.0.push((loan, now));
        }
    }
}

impl<T> Lane<T> {
    /// The item, unless it is lent and goes back.
    pub(super) fn borrow(&mut self, item: Item<T>, now: Millis, out: &mut Effects<T>) -> Option<Item<T>> {
        let Custody::Lent(loan) = item.custody else { return Some(item) };
        let is_late = item.class == Class::Reliable && self.loans.has(loan);
        let has_room = !self.is_abroad() || self.stands_in(item.cost());
        if !is_late && self.is_attached() && has_room {
            return Some(item);
        }
        self.send_home(item, now, out);
        None
    }

    /// What was lent goes back to its custodian, who finds another way.
    pub(super) fn send_home(&mut self, item: Item<T>, now: Millis, out: &mut Effects<T>) {
        self.refuse(&item, now);
        for ticket in item.ticket.into_iter().chain(item.repeats) {
            out.push(Effect::Elsewhere(ticket));
        }
    }

    /// It can be stored nowhere from here. Whose own it is does not hear of it.
    pub(super) fn fail(&mut self, item: Item<T>, now: Millis, out: &mut Effects<T>) {
        self.refuse(&item, now);
        self.settle(item, Outcome::Failed, out);
    }

    fn refuse(&mut self, item: &Item<T>, now: Millis) {
        if let (Custody::Lent(loan), Class::Reliable) = (item.custody, item.class) {
            self.loans.add(loan, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, NEW, OLD, auto, item};
    use super::*;

    fn lent(number: u32, loan: u64) -> Item<u32> {
        Item { custody: Custody::Lent(Loan(loan)), ..item(number) }
    }

    #[test]
    fn once_one_was_refused_all_that_follow_by_that_way_are() {
        let mut bench = Bench::new();
        bench.offer_item(lent(11, 1));
        bench.attach(OLD, auto());
        bench.read();
        (12..14).for_each(|number| bench.offer_item(lent(number, 1)));
        assert_eq!(bench.returned, [11, 12, 13]);
        bench.offer_item(lent(14, 2));
        bench.offer_item(Item { class: Class::FastTracked, ..lent(15, 1) });
        (11..14).for_each(|number| bench.offer_item(lent(number, 3)));
        assert_eq!((bench.take(OLD).concat(), bench.returned.len()), ("1415111213ping 1".to_owned(), 3));
    }

    #[test]
    fn so_are_those_that_follow_one_that_could_not_be_stored() {
        let mut bench = Bench::live();
        bench.offer_item(lent(11, 1));
        bench.detach(OLD);
        let kept = bench.appended.pop().unwrap();
        bench.act(|lane, now, out| lane.unstored(kept, now, out));
        assert_eq!(bench.settled, [(11, Outcome::Failed)]);
        bench.attach(NEW, auto());
        bench.read();
        bench.offer_item(lent(12, 1));
        assert_eq!(bench.returned, [12]);
    }

    #[test]
    fn a_refusal_is_remembered_for_a_while() {
        let mut bench = Bench::new();
        bench.offer_item(lent(11, 1));
        bench.pass(REFUSED_MS - 1);
        assert!(!bench.lane.is_forgettable());
        bench.pass(1);
        assert!(bench.lane.is_forgettable());
    }
}
