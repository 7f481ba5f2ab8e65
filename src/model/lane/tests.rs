//! Each rule of the promise by itself. What they do together is played in `tests/lane`.

use super::super::outbox::Prompt;
use super::super::seen::{Key, WINDOW_MS};
use super::*;

pub(super) const LIMIT: usize = 2_000;
pub(super) const OLD: ConnectionId = ConnectionId(1);
pub(super) const NEW: ConnectionId = ConnectionId(2);

/// A lane with its inbox: appends are kept until [`Bench::store`] answers them.
pub(super) struct Bench {
    pub(super) lane: Lane<u32>,
    pub(super) now: Millis,
    pub(super) out: Vec<Effect<u32>>,
    pub(super) appended: Vec<Item<u32>>,
    pub(super) settled: Vec<(u32, Outcome)>,
    /// To which server, under which number, with which hint.
    pub(super) forwarded: Vec<(String, u32, u64)>,
    pub(super) returned: Vec<u32>,
    /// Under which the device was to be listed, each time that it changed.
    pub(super) numbers: Vec<Option<u64>>,
    pub(super) removed: Vec<u64>,
    pub(super) reads: Vec<(u64, u64)>,
    pub(super) inbox: Vec<Item<u32>>,
}

fn ping(counter: u64) -> Bytes {
    format!("ping {counter}").into()
}

pub(super) fn item(number: u32) -> Item<u32> {
    Item {
        encoded: Encoded::new(format!("{number}").into(), 0),
        key: Some(Key(number.into())),
        seq: None,
        class: Class::Reliable,
        ticket: Some(number),
        repeats: Vec::new(),
        expires: None,
        keep: Arc::new(Keep {
            sender: "a".parse().unwrap(),
            id: number.to_string().parse().unwrap(),
            collapse: None,
            kind: 1,
            timestamp: Millis(0),
            session: None,
            prompt: Prompt::Soon,
        }),
        shown: None,
        custody: Custody::Own,
    }
}

pub(super) fn auto() -> Options {
    Options { acks: Acks::Transport, replay: Replay::Auto, limit: LIMIT, number: 5 }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self {
            lane: Lane::new(ping, LIMIT),
            now: Millis(1_000),
            out: Vec::new(),
            appended: Vec::new(),
            settled: Vec::new(),
            forwarded: Vec::new(),
            returned: Vec::new(),
            numbers: Vec::new(),
            removed: Vec::new(),
            reads: Vec::new(),
            inbox: Vec::new(),
        }
    }

    /// With one edge that has found the inbox empty.
    pub(super) fn live() -> Self {
        let mut bench = Self::new();
        bench.attach(OLD, auto());
        bench.read();
        bench
    }

    pub(super) fn act(&mut self, act: impl FnOnce(&mut Lane<u32>, Millis, &mut Vec<Effect<u32>>)) {
        act(&mut self.lane, self.now, &mut self.out);
        for effect in std::mem::take(&mut self.out) {
            match effect {
                Effect::Append(item, _) => self.appended.push(item),
                Effect::Settle { ticket, outcome, .. } => self.settled.push((ticket, outcome)),
                Effect::Remove(seq) => {
                    self.removed.push(seq.0);
                    self.inbox.retain(|item| item.seq != Some(seq));
                }
                Effect::Read { from, generation, .. } => self.reads.push((from.0, generation)),
                Effect::Forward { server, number, known, .. } => {
                    self.forwarded.push((server.to_string(), number, known.0));
                }
                Effect::Elsewhere(ticket) => self.returned.push(ticket),
                Effect::Renumbered => self.numbers.push(self.lane.number()),
                Effect::Wake(_)
                | Effect::AskLater(_)
                | Effect::Count { .. }
                | Effect::Duplicate
                | Effect::Replaced
                | Effect::Close(..) => {}
            }
        }
    }

    pub(super) fn attach(&mut self, connection: ConnectionId, options: Options) {
        self.act(|lane, now, out| lane.attach(connection, options, now, out));
    }

    pub(super) fn detach(&mut self, connection: ConnectionId) {
        self.act(|lane, now, out| lane.detach(connection, now, out));
    }

    pub(super) fn offer(&mut self, number: u32) {
        self.offer_item(item(number));
    }

    pub(super) fn offer_item(&mut self, item: Item<u32>) {
        self.act(|lane, now, out| lane.offer(item, now, out));
    }

    pub(super) fn take(&mut self, connection: ConnectionId) -> Vec<String> {
        let mut batch = VecDeque::new();
        self.act(|lane, now, out| {
            lane.take(connection, 100_000, now, &mut batch, out);
        });
        batch.into_iter().map(|frame| String::from_utf8(frame.to_vec()).unwrap()).collect()
    }

    pub(super) fn pong(&mut self, connection: ConnectionId, counter: u64) {
        self.act(|lane, now, out| lane.pong(connection, counter, now, out));
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.pass_with(ms, None);
    }

    /// With another place that may serve when an edge stalls.
    pub(super) fn pass_with(&mut self, ms: u64, place: Option<&Place>) {
        self.now = self.now.plus(ms);
        let own = "own".parse().unwrap();
        self.act(|lane, now, out| {
            let next = |lane: &Lane<u32>| place.filter(|place| lane.may_serve(place, &own, now)).cloned();
            lane.tick(next, now, out);
        });
    }

    /// The inbox answers all appends, then all reads.
    pub(super) fn store(&mut self) {
        for mut item in std::mem::take(&mut self.appended) {
            let (key, keep) = (item.key, item.keep.clone());
            let seq = Seq(self.inbox.last().and_then(|last| last.seq).map_or(1, |last| last.0 + 1));
            item.seq = Some(seq);
            item.ticket = None;
            self.inbox.push(item);
            self.act(|lane, now, out| lane.appended(key, &keep, Kept::InInbox(seq), now, out));
        }
        self.read();
    }

    pub(super) fn read(&mut self) {
        while let Some((from, generation)) = self.reads.pop() {
            let items: Vec<_> = self.inbox.iter().filter(|item| item.seq >= Some(Seq(from))).cloned().collect();
            self.act(|lane, now, out| lane.page(generation, items, End::Reached, now, out));
        }
    }

    pub(super) fn waiting(&self) -> Vec<u32> {
        self.appended.iter().filter_map(|item| item.ticket).collect()
    }
}

#[test]
fn a_pong_delivers_what_was_written_before_its_ping_and_no_other_counter_does() {
    let mut bench = Bench::live();
    bench.offer(1);
    assert_eq!(bench.take(OLD), ["1", "ping 1"]);
    bench.offer(2);
    assert_eq!(bench.take(OLD), ["2"], "one ping at a time");
    bench.pong(OLD, 7);
    assert_eq!(bench.settled, []);
    bench.pong(OLD, 1);
    assert_eq!(bench.settled, [(1, Outcome::Delivered)]);
    assert_eq!(bench.take(OLD), ["ping 2"]);
    assert!(bench.appended.is_empty(), "who is there costs no disk write");
}

#[test]
fn the_newest_edge_receives_what_the_older_one_has_not_acknowledged_first() {
    let mut bench = Bench::live();
    bench.offer(1);
    bench.offer(2);
    bench.take(OLD);
    bench.attach(NEW, auto());
    bench.offer(3);
    assert_eq!(bench.take(NEW), ["1", "2", "3", "ping 1"]);
    bench.offer(4);
    assert!(bench.take(OLD).is_empty());
}

#[test]
fn a_break_hands_over_in_order_even_when_some_came_from_the_inbox() {
    let mut bench = Bench::new();
    bench.offer(1);
    bench.store();
    bench.attach(OLD, auto());
    bench.attach(NEW, auto());
    bench.read();
    bench.offer(2);
    assert_eq!(bench.take(NEW), ["1", "2", "ping 1"]);
    bench.detach(NEW);
    assert!(bench.take(OLD).is_empty(), "2 would overtake 1");
    bench.store();
    assert_eq!(bench.take(OLD), ["1", "2", "ping 1"]);
}

#[test]
fn a_break_of_the_last_edge_goes_to_the_inbox_in_order() {
    let mut bench = Bench::live();
    bench.offer(1);
    bench.take(OLD);
    bench.offer(2);
    bench.detach(OLD);
    assert_eq!(bench.waiting(), [1, 2]);
    assert_eq!(bench.settled, [], "the inbox tells the senders");
}

#[test]
fn a_stalled_edge_yields_to_the_inbox_and_its_late_pong_removes_the_copies() {
    let mut bench = Bench::live();
    bench.offer(1);
    bench.take(OLD);
    bench.offer(2);
    bench.pass(STALL_MS - 1);
    assert!(bench.appended.is_empty());
    bench.pass(1);
    bench.offer(3);
    assert_eq!(bench.waiting(), [1, 2, 3]);
    bench.store();
    bench.pong(OLD, 1);
    assert_eq!(bench.removed, [1]);
    bench.read();
    assert_eq!(bench.take(OLD), ["2", "3", "ping 2"]);
    bench.offer(4);
    assert_eq!(bench.take(OLD), ["4"], "live again");
}

#[test]
fn a_pong_that_comes_before_the_append_is_answered_still_removes_the_copy() {
    let mut bench = Bench::live();
    bench.offer(1);
    bench.take(OLD);
    bench.pass(STALL_MS);
    bench.pong(OLD, 1);
    bench.detach(OLD);
    bench.store();
    assert_eq!(bench.removed, [1]);
    assert!(bench.inbox.is_empty());
}

#[test]
fn an_edge_that_stalled_with_nothing_written_finds_its_way_back() {
    let mut bench = Bench::live();
    bench.offer(1);
    bench.pass(STALL_MS);
    bench.store();
    assert_eq!(bench.take(OLD), ["ping 1"]);
    bench.pong(OLD, 1);
    bench.read();
    assert_eq!(bench.take(OLD), ["1", "ping 2"]);
}

#[test]
fn what_expired_unwritten_stalls_nobody() {
    let mut bench = Bench::live();
    bench.offer_item(Item { expires: Some(Millis(1_500)), ..item(1) });
    bench.now = Millis(1_500);
    assert!(bench.take(OLD).is_empty());
    assert_eq!(bench.settled, [(1, Outcome::Dropped)]);
    bench.pass(STALL_MS * 2);
    bench.offer(2);
    assert_eq!(bench.take(OLD), ["2", "ping 1"]);
}

#[test]
fn what_came_too_late_is_dropped_at_once() {
    let mut bench = Bench::live();
    bench.offer_item(Item { expires: Some(Millis(1_000)), ..item(1) });
    assert_eq!(bench.settled, [(1, Outcome::Dropped)]);
}

#[test]
fn overflow_goes_to_the_inbox_and_drops_fast() {
    let mut bench = Bench::live();
    let fit = LIMIT / item(100).cost();
    for number in 0..=fit as u32 {
        bench.offer(100 + number);
    }
    assert_eq!(bench.appended.len(), fit + 1, "all of them, in order");
    assert!(bench.lane.bytes() <= LIMIT);
    bench.store();
    for number in 0..50 {
        bench.offer_item(Item { class: Class::FastTracked, ..item(number) });
    }
    assert!(bench.lane.bytes() <= LIMIT);
    assert!(bench.settled.contains(&(49, Outcome::Dropped)));
    assert!(bench.appended.is_empty(), "FAST is never stored");
}

#[test]
fn the_inbox_is_replayed_before_anything_newer() {
    let mut bench = Bench::new();
    bench.offer(1);
    bench.offer(2);
    bench.store();
    bench.attach(OLD, auto());
    bench.offer(3);
    bench.store();
    bench.read();
    assert_eq!(bench.take(OLD), ["1", "2", "3", "ping 1"]);
    bench.pong(OLD, 1);
    assert_eq!(bench.removed, [1, 2, 3]);
    bench.offer(4);
    assert!(bench.appended.is_empty(), "caught up");
}

#[test]
fn a_device_that_fetches_is_sent_what_is_stored_while_it_is_attached() {
    let mut bench = Bench::new();
    bench.offer(1);
    bench.store();
    bench.attach(OLD, Options { replay: Replay::Manual, ..auto() });
    bench.offer(2);
    bench.take(OLD);
    bench.pass(STALL_MS);
    bench.store();
    bench.pong(OLD, 1);
    bench.read();
    assert_eq!(bench.removed, [2]);
    bench.act(|lane, _, out| lane.stored_elsewhere(Seq(3), out));
    assert_eq!(bench.reads.last().map(|(from, _)| *from), Some(3), "nothing from before");
}

#[test]
fn duplicates_are_answered_as_the_first_was() {
    let mut bench = Bench::live();
    bench.offer(1);
    bench.offer_item(Item { ticket: Some(11), ..item(1) });
    assert_eq!(bench.take(OLD), ["1", "ping 1"]);
    bench.pong(OLD, 1);
    bench.offer_item(Item { ticket: Some(12), ..item(1) });
    assert_eq!(bench.settled, [1, 11, 12].map(|ticket| (ticket, Outcome::Delivered)));
    assert!(bench.take(OLD).is_empty());
}

#[test]
fn who_repeats_a_replayed_envelope_is_answered_when_the_edge_breaks() {
    let mut bench = Bench::new();
    bench.offer(1);
    bench.store();
    bench.attach(OLD, auto());
    bench.read();
    bench.offer_item(Item { ticket: Some(11), ..item(1) });
    bench.detach(OLD);
    assert_eq!(bench.settled, [(11, Outcome::Stored)]);
    assert!(bench.appended.is_empty());
}

#[test]
fn repetitions_are_bounded() {
    let mut bench = Bench::live();
    for _ in 0..=MAX_REPEATS {
        bench.offer(1);
    }
    assert_eq!(bench.settled, []);
    bench.offer(1);
    assert_eq!(bench.settled, [(1, Outcome::Failed)]);
}

#[test]
fn notices_and_control_frames_are_bounded() {
    let mut bench = Bench::live();
    let frame = Encoded::new(vec![b'n'; 100].into(), 0);
    let mut refused = [0, 0];
    for _ in 0..100 {
        bench.act(|lane, _, out| refused[0] += u32::from(lane.notify(&frame, out) == Delivery::Refused));
        bench.act(|lane, _, out| {
            refused[1] += u32::from(lane.control(OLD, frame.frame().clone(), out) == Delivery::Refused);
        });
    }
    assert!(refused[0] > 0 && refused[1] > 0, "{refused:?}");
    assert!(bench.lane.bytes() <= 3 * LIMIT);
}

#[test]
fn an_edge_that_ends_closes_after_all_is_written_and_takes_nothing_new() {
    let mut bench = Bench::live();
    bench.offer(1);
    bench.act(|lane, _, out| lane.end(OLD, Bytes::from_static(b"close"), out));
    assert!(!bench.lane.has_ended(OLD));
    assert_eq!(bench.take(OLD), ["1", "ping 1", "close"]);
    assert!(bench.lane.has_ended(OLD));
    bench.offer(2);
    assert_eq!(bench.waiting(), [1, 2], "in order");
    bench.pong(OLD, 1);
    bench.store();
    assert_eq!(bench.removed, [1]);
}

#[test]
fn an_edge_that_moves_again_takes_over_before_it_is_sent_newer_ones() {
    let mut bench = Bench::live();
    bench.attach(NEW, auto());
    bench.offer(1);
    bench.take(NEW);
    bench.pass(STALL_MS);
    bench.offer(2);
    assert_eq!(bench.take(OLD), ["1", "2", "ping 1"]);
    bench.pong(NEW, 1);
    bench.offer(3);
    assert_eq!(bench.take(NEW), ["1", "2", "3", "ping 2"]);
}

#[test]
fn a_lane_is_forgotten_when_its_window_has_passed() {
    let mut bench = Bench::live();
    bench.offer(1);
    bench.detach(OLD);
    assert!(!bench.lane.is_forgettable(), "an append is open");
    bench.store();
    assert!(!bench.lane.is_forgettable(), "duplicates are still known");
    bench.pass(WINDOW_MS + 1);
    assert!(bench.lane.is_forgettable());
}
