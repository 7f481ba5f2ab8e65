use proptest::prelude::*;

use super::*;

const NOW: Millis = Millis(1000);

fn open(stream: &mut Outgoing<u64>) -> Vec<(u64, u64)> {
    stream.resend(NOW).map(|(number, message)| (number, *message)).collect()
}

#[test]
fn what_is_acknowledged_is_open_no_more() {
    let mut stream = Outgoing::new(100);
    for message in 10..14 {
        assert_eq!(stream.push(message, 5, NOW), Ok(message - 9));
    }
    assert_eq!(stream.acked(1, 2, NOW), 2);
    assert_eq!((stream.bytes(), open(&mut stream)), (10, vec![(3, 12), (4, 13)]));
    for (generation, number) in [(1, 2), (1, 0), (1, 5), (1, u64::MAX), (0, 3), (2, 3)] {
        assert_eq!(stream.acked(generation, number, NOW), 0, "{generation} {number}");
    }
    assert_eq!(stream.acked(1, 4, NOW), 2);
    assert!(stream.is_empty() && stream.bytes() == 0);
    assert_eq!(stream.push(14, 5, NOW), Ok(5));
}

#[test]
fn a_reset_gives_back_what_is_open_and_begins_anew() {
    let mut stream = Outgoing::new(100);
    for message in 0..3 {
        stream.push(message, 5, NOW).unwrap();
    }
    stream.acked(1, 1, NOW);
    assert_eq!(stream.reset(), [1, 2]);
    assert_eq!((stream.generation(), stream.bytes(), stream.len()), (2, 0, 0));
    assert_eq!(stream.push(7, 5, NOW), Ok(1));
    assert_eq!(stream.acked(1, 1, NOW), 0, "of the generation before");
    assert_eq!(stream.acked(2, 1, NOW), 1);
}

#[test]
fn who_is_behind_follows_and_sends_again_what_is_open() {
    let mut stream = Outgoing::new(100);
    assert!(!stream.follow(3), "nothing was sent whose answer could be lost");
    for message in 0..3 {
        stream.push(message, 5, NOW).unwrap();
    }
    stream.acked(3, 1, NOW);
    assert!(!stream.follow(3) && !stream.follow(2));
    assert!(stream.follow(4) && stream.overdue(NOW));
    assert_eq!((stream.generation(), stream.bytes(), open(&mut stream)), (4, 10, vec![(1, 1), (2, 2)]));
    assert_eq!(stream.acked(3, 2, NOW), 0, "of the generation before");
    stream.acked(4, 2, NOW);
    assert!(stream.is_empty() && stream.follow(5), "all was taken, and not all answered");
}

#[test]
fn an_empty_stream_takes_one_message_of_any_size() {
    let mut stream = Outgoing::new(10);
    assert_eq!(stream.push(1, usize::MAX, NOW), Ok(1));
    assert_eq!(stream.push(2, 1, NOW), Err(Full(2)));
    stream.acked(1, 1, NOW);
    assert_eq!(stream.push(3, 6, NOW), Ok(2));
    assert_eq!(stream.push(4, 5, NOW), Err(Full(4)));
    assert_eq!(stream.push(5, 4, NOW), Ok(3));
}

#[test]
fn the_wait_doubles_in_vain_and_progress_ends_that() {
    let mut stream = Outgoing::new(100);
    let mut now = NOW;
    assert!(!stream.overdue(now.plus(100_000)), "nothing is open");
    stream.push(1, 1, now).unwrap();
    stream.push(2, 1, now.plus(400)).unwrap();
    for wait in [500, 1000, 2000, 4000, 8000, 8000] {
        assert!(!stream.overdue(now.plus(wait - 1)), "{wait}");
        now = now.plus(wait);
        assert!(stream.overdue(now));
        assert_eq!(stream.resend(now).count(), 2);
    }
    stream.acked(1, 1, now);
    assert!(stream.overdue(now.plus(RESEND_MS)) && !stream.overdue(now.plus(RESEND_MS - 1)));
    // The way has changed: it begins anew, and nothing was in vain.
    assert_eq!(stream.resend(now.plus(400)).count(), 1);
    assert!(stream.overdue(now.plus(900)) && !stream.overdue(now.plus(899)));
}

#[test]
fn a_receiver_that_has_missed_the_beginning_waits_for_another() {
    let mut incoming = Incoming::default();
    let at = |incoming: &mut Incoming, incarnation, generation, number| {
        incoming.receive(Incarnation(incarnation), generation, number)
    };
    assert_eq!(at(&mut incoming, 1, 1, 3), Received::Gap);
    assert_eq!(incoming.ack(), None);
    assert_eq!(at(&mut incoming, 1, 2, 1), Received::Take);
    assert_eq!(at(&mut incoming, 1, 1, 1), Received::Duplicate, "that generation is over");
    assert_eq!(incoming.ack(), Some((Incarnation(1), 2, 1)));
    assert_eq!(incoming.ack(), None);
    assert_eq!(at(&mut incoming, 1, 2, 1), Received::Duplicate);
    assert_eq!(incoming.ack(), Some((Incarnation(1), 2, 1)), "its acknowledgement may be lost");
    assert_eq!(at(&mut incoming, 2, 1, 1), Received::Take, "another life, whatever its generation");
    assert_eq!(at(&mut incoming, 2, 1, 0), Received::Duplicate);
    assert_eq!(at(&mut incoming, 2, 1, u64::MAX), Received::Gap);
    assert_eq!(at(&mut incoming, 1, 9, 1), Received::Duplicate, "that life is over");
}

/// One thing that happens between two servers. Places are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    /// All that is open goes again.
    Resend,
    /// A message on the way arrives; it may arrive again.
    Arrive(usize),
    Lose(usize),
    Ack,
    AckArrives(usize),
    LoseAck(usize),
    Reset,
    /// The sender begins another life.
    Restart,
    /// The receiver forgets everything; the sender hears of it at once, or only later.
    Forget,
    ForgetUnheard,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..40).prop_map(Step::Push),
        2 => Just(Step::Resend),
        16 => any::<usize>().prop_map(Step::Arrive),
        3 => any::<usize>().prop_map(Step::Lose),
        4 => Just(Step::Ack),
        4 => any::<usize>().prop_map(Step::AckArrives),
        2 => any::<usize>().prop_map(Step::LoseAck),
        1 => Just(Step::Reset),
        1 => Just(Step::Restart),
        1 => Just(Step::Forget),
        1 => Just(Step::ForgetUnheard),
    ]
}

/// Two servers and what is on the way between them. A message is its own count, from 0.
struct Pair {
    outgoing: Outgoing<u64>,
    incarnation: Incarnation,
    incoming: Incoming,
    /// The receiver's life.
    life: u64,
    way: Vec<(Incarnation, u64, u64, u64)>,
    back: Vec<(Incarnation, u64, u64)>,
    pushed: u64,
    given_back: Vec<u64>,
    acknowledged: Vec<u64>,
    /// What was taken, by (receiver's life, incarnation, generation).
    taken: Vec<((u64, Incarnation, u64), u64)>,
    cost: std::collections::HashMap<u64, usize>,
}

const LIMIT: usize = 100;

impl Pair {
    fn new() -> Self {
        Self {
            outgoing: Outgoing::new(LIMIT),
            incarnation: Incarnation(1),
            incoming: Incoming::default(),
            life: 0,
            way: Vec::new(),
            back: Vec::new(),
            pushed: 0,
            given_back: Vec::new(),
            acknowledged: Vec::new(),
            taken: Vec::new(),
            cost: std::collections::HashMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Push(cost) => {
                let message = self.pushed;
                if let Ok(number) = self.outgoing.push(message, cost, NOW) {
                    self.pushed += 1;
                    self.cost.insert(message, cost);
                    self.way.push((self.incarnation, self.outgoing.generation(), number, message));
                }
            }
            Step::Resend => {
                let (incarnation, generation) = (self.incarnation, self.outgoing.generation());
                let again = self.outgoing.resend(NOW);
                self.way.extend(again.map(|(number, message)| (incarnation, generation, number, *message)));
            }
            Step::Arrive(at) if !self.way.is_empty() => {
                let (incarnation, generation, number, message) = self.way[at % self.way.len()];
                if self.incoming.receive(incarnation, generation, number) == Received::Take {
                    self.taken.push(((self.life, incarnation, generation), message));
                }
            }
            Step::Lose(at) if !self.way.is_empty() => {
                self.way.swap_remove(at % self.way.len());
            }
            Step::Ack => self.back.extend(self.incoming.ack()),
            Step::AckArrives(at) if !self.back.is_empty() => {
                let (incarnation, generation, number) = self.back[at % self.back.len()];
                if incarnation == self.incarnation {
                    let before: Vec<u64> = self.outgoing.resend(NOW).map(|(_, message)| *message).collect();
                    let closed = self.outgoing.acked(generation, number, NOW);
                    self.acknowledged.extend(&before[..closed]);
                }
            }
            Step::LoseAck(at) if !self.back.is_empty() => {
                self.back.swap_remove(at % self.back.len());
            }
            Step::Reset => self.reset(),
            Step::Restart => {
                self.reset();
                self.incarnation.0 += 1;
                self.outgoing = Outgoing::new(LIMIT);
            }
            Step::Forget => {
                self.forget();
                self.reset();
            }
            Step::ForgetUnheard => self.forget(),
            Step::Arrive(_) | Step::Lose(_) | Step::AckArrives(_) | Step::LoseAck(_) => {}
        }
    }

    fn reset(&mut self) {
        self.given_back.extend(self.outgoing.reset());
    }

    fn forget(&mut self) {
        self.life += 1;
        self.incoming = Incoming::default();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is lost, repeated, overtaken or begun anew: within a stream each message is taken once and in order,
    /// nothing is acknowledged that was not taken, and no message is lost sight of.
    #[test]
    fn what_is_taken_is_each_once_and_in_order(steps in proptest::collection::vec(step(), 0..200)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.step(step);
            let open: Vec<u64> = pair.outgoing.resend(NOW).map(|(_, message)| *message).collect();
            let bytes: usize = open.iter().map(|message| pair.cost[message]).sum();
            prop_assert_eq!(bytes, pair.outgoing.bytes());
            prop_assert!(bytes <= LIMIT || open.len() == 1);
            let mut all: Vec<u64> =
                open.iter().chain(&pair.given_back).chain(&pair.acknowledged).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..pair.pushed).collect::<Vec<_>>(), "open, given back or acknowledged, and one only");
            for message in &pair.acknowledged {
                prop_assert!(pair.taken.iter().any(|(_, taken)| taken == message), "{message} was never taken");
            }
        }
        let mut streams: Vec<_> = pair.taken.iter().map(|(stream, _)| *stream).collect();
        let per_life = streams.clone();
        prop_assert!(per_life.is_sorted(), "a stream that is over stays so");
        streams.dedup();
        for stream in streams {
            let taken: Vec<u64> =
                pair.taken.iter().filter(|(of, _)| *of == stream).map(|(_, message)| *message).collect();
            prop_assert!(taken.windows(2).all(|two| two[0] + 1 == two[1]), "{taken:?}");
        }

        // Once nothing is lost any more, and the sender knows the receiver's life, all that is open arrives.
        pair.step(&Step::Reset);
        pair.way.clear();
        let begun = pair.taken.len();
        for cost in [1, 2, 3] {
            pair.step(&Step::Push(cost));
        }
        for at in 0..pair.way.len() {
            pair.step(&Step::Arrive(at));
        }
        prop_assert_eq!(pair.taken.len() - begun, 3);
        pair.back.clear();
        pair.step(&Step::Ack);
        pair.step(&Step::AckArrives(0));
        prop_assert!(pair.outgoing.is_empty());
    }
}
