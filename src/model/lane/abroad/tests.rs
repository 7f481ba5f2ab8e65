//! Each rule of the way abroad by itself.

use super::super::super::outbox::{Acks, Loan};
use super::super::tests::{Bench, LIMIT, NEW, OLD, auto, item};
use super::super::{End, Kept, Options, STALL_MS};
use super::*;

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn at(server: &str, number: u64) -> Place {
    Place { server: id(server), number }
}

impl Bench {
    fn place(&mut self, place: Option<Place>) {
        self.act(move |lane, now, out| lane.place(place.as_ref(), &id("own"), now, out));
    }

    fn fate(&mut self, number: u32, fate: Fate) {
        self.fate_or(number, fate, None);
    }

    fn fate_or(&mut self, number: u32, fate: Fate, next: Option<Place>) {
        self.act(|lane, now, out| {
            lane.fated(number, fate, |lane| next.filter(|next| lane.may_serve(next, &id("own"), now)), now, out);
        });
    }

    fn detach_for(&mut self, connection: ConnectionId, place: Place) {
        self.act(move |lane, now, out| lane.detach_for(connection, Some(&place), &id("own"), now, out));
    }

    /// Whom what was sent went to since the last time, by its numbers.
    fn sent(&mut self) -> Vec<(String, u32)> {
        std::mem::take(&mut self.forwarded).into_iter().map(|(server, number, _)| (server, number)).collect()
    }

    /// Each by a way of its own.
    fn lend(&mut self, number: u32) {
        self.offer_item(Item { custody: Custody::Lent(Loan(number.into())), ..item(number) });
    }
}

fn to(server: &str, numbers: impl IntoIterator<Item = u32>) -> Vec<(String, u32)> {
    numbers.into_iter().map(|number| (server.to_owned(), number)).collect()
}

const DELIVERED: Fate = Fate::Settled(Outcome::Delivered);

#[test]
fn who_is_attached_elsewhere_is_written_to_there_and_settled_by_the_answer() {
    let mut bench = Bench::new();
    bench.place(Some(at("t", 1)));
    bench.offer(11);
    bench.offer(12);
    assert_eq!(bench.sent(), to("t", [1, 2]));
    assert!(bench.settled.is_empty() && bench.appended.is_empty(), "no disk while the recipient is there");
    bench.fate(2, DELIVERED);
    bench.fate(1, Fate::Settled(Outcome::Stored));
    bench.fate(1, DELIVERED);
    assert_eq!(bench.settled, [(12, Outcome::Delivered), (11, Outcome::Stored)], "each once");
}

#[test]
fn what_is_open_goes_to_the_next_place_before_anything_newer() {
    let mut bench = Bench::new();
    bench.place(Some(at("t", 1)));
    (11..14).for_each(|number| bench.offer(number));
    bench.fate(1, DELIVERED);
    bench.sent();
    bench.place(Some(at("u", 2)));
    bench.offer(14);
    assert_eq!(bench.sent(), to("u", [4, 5, 6]), "two again, then the new one");
    bench.fate(2, DELIVERED);
    assert_eq!(bench.settled.len(), 1, "an answer of the former place settles nothing");
    (4..7).for_each(|number| bench.fate(number, DELIVERED));
    assert_eq!(bench.settled.len(), 4);
}

#[test]
fn what_is_open_is_appended_in_order_when_the_place_is_gone_and_newer_ones_follow_there() {
    let mut bench = Bench::new();
    bench.place(Some(at("t", 1)));
    (11..13).for_each(|number| bench.offer(number));
    bench.sent();
    bench.place(None);
    bench.place(Some(at("t", 2)));
    bench.offer(13);
    assert_eq!(bench.waiting(), [11, 12, 13], "not before the inbox has answered");
    assert!(bench.sent().is_empty());
    bench.store();
    bench.offer(14);
    assert_eq!(bench.forwarded, [("t".to_owned(), 3, 3)], "with the hint that the inbox has three");
    bench.pass(3_000);
    bench.forwarded.clear();
    bench.offer(15);
    assert_eq!(bench.forwarded, [("t".to_owned(), 4, 0)], "the home has told it by now");
}

#[test]
fn a_place_that_has_nobody_is_not_asked_again() {
    let mut bench = Bench::new();
    bench.place(Some(at("t", 1)));
    bench.offer(11);
    bench.fate(1, Fate::Elsewhere);
    assert_eq!(bench.waiting(), [11]);
    bench.store();
    bench.sent();
    bench.place(Some(at("t", 1)));
    bench.offer(12);
    assert_eq!((bench.sent(), bench.waiting()), (vec![], vec![12]));
    bench.store();
    bench.place(Some(at("t", 3)));
    bench.offer(13);
    assert_eq!(bench.sent(), to("t", [2]), "a new attachment is another place");
    bench.fate(2, Fate::Elsewhere);
    bench.store();
    for (listed, expected) in [(at("t", 3), vec![]), (at("t", 0), to("t", [3]))] {
        bench.act(|lane, _, _| lane.recall(|place| *place == listed));
        bench.place(Some(at("t", 3)));
        bench.offer(14 + listed.number as u32);
        assert_eq!(bench.sent(), expected, "it was listed as {listed:?} meanwhile");
        bench.store();
    }
}

#[test]
fn a_newer_place_takes_over_what_edges_here_hold() {
    let mut bench = Bench::live();
    bench.offer(11);
    bench.take(OLD);
    bench.offer(12);
    bench.place(Some(at("t", 4)));
    assert!(bench.sent().is_empty(), "our edge is newer");
    bench.place(Some(at("t", 6)));
    assert_eq!(bench.sent(), to("t", [1, 2]));
    bench.offer(13);
    assert_eq!((bench.sent(), bench.take(OLD).len()), (to("t", [3]), 0));
    bench.place(None);
    bench.store();
    bench.pong(OLD, 1);
    assert_eq!(bench.take(OLD), ["11", "12", "13", "ping 2"], "the older edge serves again");
}

#[test]
fn of_equal_numbers_the_higher_server_is_the_newer() {
    for (server, expected) in [("zz", to("zz", [1])), ("aa", vec![])] {
        let mut bench = Bench::live();
        bench.place(Some(at(server, 5)));
        bench.offer(11);
        assert_eq!(bench.sent(), expected);
    }
}

#[test]
fn a_new_edge_here_receives_what_is_open_abroad() {
    let mut bench = Bench::new();
    bench.place(Some(at("t", 1)));
    bench.offer(11);
    bench.attach(NEW, auto());
    bench.place(Some(at("t", 1)));
    bench.offer(12);
    assert_eq!(bench.waiting(), [11, 12], "behind what may lie in the inbox");
    bench.store();
    assert_eq!(bench.take(NEW).concat(), "1112ping 1");
}

#[test]
fn what_is_lent_is_served_or_given_back_and_never_sent_on() {
    let mut bench = Bench::new();
    bench.lend(11);
    assert_eq!(bench.returned, [11], "nobody is here");
    bench.attach(OLD, auto());
    bench.read();
    bench.lend(12);
    bench.take(OLD);
    bench.lend(13);
    bench.place(Some(at("t", 6)));
    assert_eq!(bench.returned, [11, 12, 13], "its newest edge is elsewhere");
    bench.lend(14);
    assert_eq!((bench.sent(), bench.returned.len()), (vec![], 3));
    assert!(bench.take(OLD).contains(&"14".to_owned()), "whoever lends it here may know better");
    bench.place(Some(at("u", 7)));
    assert_eq!((bench.sent(), bench.returned.last()), (vec![], Some(&14)), "and takes it back when it does not");
}

#[test]
fn what_an_edge_held_goes_to_the_other_place_when_it_breaks() {
    let mut bench = Bench::live();
    bench.offer(11);
    bench.lend(12);
    bench.offer(13);
    bench.detach_for(OLD, at("t", 1));
    assert_eq!((bench.sent(), bench.returned.as_slice()), (to("t", [1, 2]), &[12][..]), "each custodian sends its own");
    bench.offer(14);
    assert_eq!((bench.sent(), bench.waiting()), (to("t", [3]), vec![]));
}

#[test]
fn what_a_place_gives_back_goes_to_the_next_one_in_order() {
    let mut bench = Bench::new();
    bench.place(Some(at("t", 5)));
    (11..13).for_each(|number| bench.offer(number));
    bench.sent();
    bench.fate_or(2, Fate::Elsewhere, Some(at("u", 3)));
    assert_eq!((bench.sent(), bench.waiting()), (to("u", [3, 4]), vec![]));
    bench.fate_or(3, Fate::Elsewhere, Some(at("t", 5)));
    assert_eq!((bench.sent(), bench.waiting()), (vec![], vec![11, 12]), "none is asked twice");
    bench.store();
    bench.pass(DENIED_MS);
    bench.place(Some(at("t", 5)));
    bench.offer(13);
    assert_eq!(bench.sent(), to("t", [5]), "unless it is still listed a while later");
}

#[test]
fn what_is_lent_goes_to_the_inbox_when_the_edge_breaks() {
    let mut bench = Bench::live();
    bench.lend(11);
    bench.detach(OLD);
    assert_eq!(bench.waiting(), [11]);
}

#[test]
fn too_much_abroad_goes_to_the_inbox_all_of_it() {
    let mut bench = Bench::new();
    bench.place(Some(at("t", 1)));
    let cost = item(100).cost();
    let fit = LIMIT * ROOM / cost;
    (0..=fit as u32).for_each(|number| bench.offer(100 + number));
    assert_eq!(bench.forwarded.len(), fit);
    assert_eq!(bench.waiting(), (100..=100 + fit as u32).collect::<Vec<_>>(), "in order");
}

#[test]
fn what_cannot_be_stored_there_is_stored_from_here_with_all_that_is_open() {
    let mut bench = Bench::new();
    bench.place(Some(at("t", 1)));
    (11..14).for_each(|number| bench.offer(number));
    bench.fate(2, Fate::Settled(Outcome::Failed));
    bench.fate(3, Fate::Settled(Outcome::Failed));
    assert_eq!((bench.waiting(), bench.settled.len()), (vec![11, 12, 13], 0));
}

#[test]
fn fast_ones_are_sent_and_forgotten_or_tracked_and_dropped() {
    let mut bench = Bench::new();
    bench.place(Some(at("t", 1)));
    bench.offer_item(Item { class: Class::Fast, ticket: None, ..item(11) });
    assert_eq!(bench.sent(), to("t", [0]));
    bench.offer_item(Item { class: Class::FastTracked, ..item(12) });
    bench.place(None);
    assert_eq!((bench.settled.as_slice(), bench.waiting()), (&[(12, Outcome::Dropped)][..], vec![]));
}

#[test]
fn numbers_wrap() {
    let mut bench = Bench::new();
    bench.place(Some(at("t", 1)));
    bench.lane.elsewhere.counter = u32::MAX - 1;
    (11..14).for_each(|number| bench.offer(number));
    assert_eq!(bench.sent(), to("t", [u32::MAX, 1, 2]), "0 is nobody's");
    bench.fate(2, DELIVERED);
    bench.fate(u32::MAX, DELIVERED);
    bench.fate(1, DELIVERED);
    assert_eq!(bench.settled.len(), 3);
}

#[test]
fn a_home_that_is_away_does_not_hold_up_the_lane_and_is_read_when_it_is_back() {
    let mut bench = Bench::new();
    bench.attach(OLD, auto());
    let (_, generation) = bench.reads.pop().unwrap();
    bench.act(|lane, now, out| lane.page(generation, Vec::new(), End::Away, now, out));
    bench.offer(11);
    assert_eq!(bench.take(OLD), ["11", "ping 1"], "live");
    bench.pong(OLD, 1);
    let mut waiting = item(9);
    waiting.seq = Some(Seq(1));
    bench.inbox.push(waiting);
    bench.act(|lane, _, out| lane.home_is_back(out));
    bench.read();
    assert_eq!(bench.take(OLD)[0], "9");
}

#[test]
fn what_is_held_is_stored_and_is_not_read_from_the_inbox() {
    let mut bench = Bench::live();
    let manual = Options { acks: Acks::Transport, ..auto() };
    bench.attach(NEW, manual);
    bench.read();
    bench.pass(1);
    (11..100).for_each(|number| bench.offer(number));
    let held: Vec<_> = std::mem::take(&mut bench.appended);
    assert!(!held.is_empty(), "overflow");
    for item in held {
        bench.act(|lane, now, out| lane.appended(item.key, &item.keep, Kept::Held, now, out));
    }
    assert!(bench.reads.is_empty());
    bench.take(NEW);
    bench.pong(NEW, 1);
    bench.settled.clear();
    bench.offer(100);
    assert!(bench.appended.is_empty(), "live again");
}

fn manual(number: u64) -> Options {
    Options { replay: Replay::Manual, number, ..auto() }
}

#[test]
fn an_edge_that_stalls_gives_way_to_an_older_one_elsewhere() {
    let mut bench = Bench::live();
    bench.offer(11);
    bench.lend(12);
    bench.take(OLD);
    bench.offer(13);
    bench.pass_with(STALL_MS, Some(&at("t", 4)));
    assert_eq!((bench.sent(), bench.returned.as_slice()), (to("t", [1, 2]), &[12][..]), "each custodian sends its own");
    assert!(bench.waiting().is_empty(), "no disk while an edge moves");
    assert_eq!(bench.numbers, [Some(0)], "everybody else finds the other place, too");
    bench.place(Some(at("t", 4)));
    bench.offer(14);
    bench.lend(15);
    assert_eq!((bench.sent(), bench.returned.as_slice()), (to("t", [3]), &[12, 15][..]));
    bench.pong(OLD, 1);
    bench.place(Some(at("t", 4)));
    assert_eq!(bench.numbers, [Some(0), Some(5)], "the newest that moves, again");
    assert_eq!(bench.waiting(), [11, 13, 14], "behind what may lie in the inbox");
    bench.store();
    assert_eq!(bench.take(OLD).concat(), "111314ping 2");
}

#[test]
fn an_edge_that_stalls_does_not_give_way_to_what_does_not_move_either() {
    for place in [None, Some(at("t", 0)), Some(at("zz", 0))] {
        let mut bench = Bench::live();
        bench.offer(11);
        bench.take(OLD);
        bench.pass_with(STALL_MS, place.as_ref());
        assert_eq!(bench.waiting(), [11], "{place:?}");
        bench.place(place);
        bench.lend(12);
        assert_eq!((bench.sent(), bench.returned.len(), bench.waiting()), (vec![], 0, vec![11, 12]));
    }
}

#[test]
fn an_edge_that_has_stalled_gives_way_as_soon_as_one_elsewhere_is_known() {
    let mut bench = Bench::live();
    bench.offer(11);
    bench.take(OLD);
    bench.pass(STALL_MS);
    bench.store();
    bench.place(Some(at("t", 4)));
    bench.offer(12);
    assert_eq!(bench.forwarded, [("t".to_owned(), 1, 1)], "with the hint that there is something to be read");
}

#[test]
fn an_older_edge_here_serves_unless_there_is_a_newer_one_elsewhere() {
    for (number, here) in [(4, true), (7, false)] {
        let mut bench = Bench::live();
        bench.attach(NEW, Options { number: 8, ..auto() });
        bench.offer(11);
        bench.take(NEW);
        bench.pass_with(STALL_MS, Some(&at("t", number)));
        assert_eq!(bench.numbers, [Some(5)]);
        assert_eq!((bench.sent().is_empty(), bench.take(OLD).is_empty()), (here, !here));
    }
}

#[test]
fn a_place_that_stops_or_moves_again_has_what_it_was_sent() {
    let mut bench = Bench::new();
    bench.place(Some(at("t", 3)));
    bench.offer(11);
    bench.place(Some(at("t", 0)));
    bench.place(Some(at("t", 3)));
    assert_eq!(bench.sent(), to("t", [1]));
    bench.place(Some(at("t", 4)));
    assert_eq!(bench.sent(), to("t", [2]), "another edge may not have it");
    bench.place(Some(at("t", 0)));
    bench.fate_or(2, Fate::Elsewhere, Some(at("u", 2)));
    assert_eq!(bench.sent(), to("u", [3]));
    bench.place(Some(at("t", 0)));
    assert_eq!((bench.sent(), bench.waiting()), (vec![], vec![11]), "it was denied just now");
}

#[test]
fn what_was_stored_meanwhile_comes_first_when_the_way_abroad_has_ended() {
    let mut bench = Bench::new();
    bench.attach(OLD, manual(2));
    for (number, seq) in [(7, 3), (8, 4), (9, 5)] {
        bench.inbox.push(Item { seq: Some(Seq(seq)), ticket: None, ..item(number) });
    }
    bench.place(Some(at("t", 4)));
    (4..6).for_each(|seq| bench.act(|lane, _, out| lane.stored_elsewhere(Seq(seq), out)));
    assert!(bench.reads.is_empty(), "the other place reads it");
    bench.lend(11);
    assert_eq!(bench.returned, [11], "it would overtake");
    bench.place(None);
    bench.lend(12);
    assert_eq!(bench.reads.iter().map(|(from, _)| *from).collect::<Vec<_>>(), [4], "not what lay there before");
    bench.store();
    assert_eq!(bench.take(OLD).concat(), "8912ping 1");
}

#[test]
fn what_an_edge_has_not_read_is_read_when_it_serves_again() {
    let mut bench = Bench::new();
    bench.attach(OLD, manual(5));
    bench.inbox.push(Item { seq: Some(Seq(3)), ticket: None, ..item(7) });
    bench.act(|lane, _, out| lane.stored_elsewhere(Seq(3), out));
    bench.read();
    assert_eq!(bench.take(OLD), ["7", "ping 1"]);
    bench.place(Some(at("t", 6)));
    bench.place(None);
    bench.read();
    assert_eq!(bench.take(OLD), ["7"], "it was not acknowledged");
    bench.detach(OLD);
    bench.attach(NEW, manual(7));
    bench.place(Some(at("t", 8)));
    bench.place(None);
    assert!(bench.reads.is_empty(), "what was stored before it attached is fetched");
}
