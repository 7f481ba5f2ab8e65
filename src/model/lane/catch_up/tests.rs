//! Each rule of the way through the inbox by itself, where the inbox can take nothing.

use super::super::super::custody::Outcome;
use super::super::super::ids::Seq;
use super::super::tests::{Bench, OLD, auto, item};

impl Bench {
    /// The inbox gives back the first append that it has not answered.
    fn give_back(&mut self) {
        let item = self.appended.remove(0);
        self.act(|lane, now, out| lane.unstored(item, now, out));
    }
}

#[test]
fn what_a_lost_home_gives_back_reaches_the_edge_in_order_while_more_comes() {
    let mut bench = Bench::new();
    bench.attach(OLD, auto());
    bench.offer(1);
    bench.offer(2);
    assert_eq!(bench.waiting(), [1, 2], "behind what the inbox has");
    bench.act(|lane, _, _| lane.home_is_away());
    bench.give_back();
    bench.offer(3);
    assert_eq!(bench.waiting(), [2, 3], "1 is the edge's now");
    bench.give_back();
    bench.give_back();
    assert_eq!(bench.take(OLD), ["1", "2", "3", "ping 1"]);
    bench.offer(4);
    assert_eq!(bench.take(OLD), ["4"], "there is nothing to wait for");
    assert!(bench.settled.is_empty());
    // The home is back, and has something.
    bench.act(|lane, _, out| lane.stored_elsewhere(Seq(9), out));
    bench.offer(5);
    assert_eq!(bench.waiting(), [1, 2, 3, 4, 5]);
}

#[test]
fn what_an_inbox_gives_back_that_can_be_read_fails_while_there_is_something_to_read() {
    let mut bench = Bench::new();
    bench.attach(OLD, auto());
    bench.offer(1);
    bench.give_back();
    assert_eq!(bench.settled, [(1, Outcome::Failed)]);
    bench.read();
    bench.offer(2);
    assert_eq!(bench.take(OLD), ["2", "ping 1"]);
}

/// Puts into the inbox what others have sent, without a word to the lane.
fn stored_by_others(bench: &mut Bench, numbers: std::ops::RangeInclusive<u32>) {
    for number in numbers {
        let mut item = item(number);
        item.ticket = None;
        item.seq = Some(Seq(u64::from(number)));
        bench.inbox.push(item);
    }
}

#[test]
fn what_is_heard_of_late_and_was_read_before_is_not_sent_twice() {
    let mut bench = Bench::new();
    bench.attach(OLD, auto());
    stored_by_others(&mut bench, 1..=3);
    bench.read();
    assert_eq!(bench.take(OLD), ["1", "2", "3", "ping 1"]);
    bench.act(|lane, _, out| lane.stored_elsewhere(Seq(2), out));
    bench.read();
    bench.offer(4);
    assert_eq!(bench.take(OLD), ["4"]);
}

#[test]
fn a_hint_is_about_all_that_was_not_heard_of() {
    let mut bench = Bench::new();
    bench.attach(OLD, auto());
    stored_by_others(&mut bench, 1..=1);
    bench.read();
    stored_by_others(&mut bench, 2..=4);
    bench.act(|lane, _, out| lane.hinted(Seq(4), out));
    bench.offer(5);
    bench.store();
    assert_eq!(bench.take(OLD), ["1", "2", "3", "4", "5", "ping 1"]);
}
