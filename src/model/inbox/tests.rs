use super::*;
use proptest::prelude::*;

const WIDE: Limits = Limits { bytes: 1000, count: 10, age_ms: 1000 };

fn entry(key: u128, collapse: Option<u128>, bytes: u32) -> Entry {
    Entry {
        key: Some(Key(key)),
        shown: Key(1 << 100 | key),
        collapse: collapse.map(Key),
        bytes,
        stored: Millis(0),
        expires: None,
    }
}

fn seq_of(appended: &Appended) -> Seq {
    match appended {
        Appended::New { seq, .. } | Appended::Duplicate { seq, .. } => *seq,
    }
}

#[test]
fn the_same_envelope_is_kept_once() {
    let mut inbox = Inbox::default();
    assert_eq!(seq_of(&inbox.append(entry(1, None, 10), WIDE, Millis(0))), Seq(1));
    assert_eq!(inbox.append(entry(1, None, 10), WIDE, Millis(0)), Appended::Duplicate { seq: Seq(1), lost: vec![] });
    assert_eq!(seq_of(&inbox.append(entry(2, None, 10), WIDE, Millis(0))), Seq(2));
    assert!(inbox.remove(Seq(1)));
    assert_eq!(seq_of(&inbox.append(entry(1, None, 10), WIDE, Millis(0))), Seq(3));
}

#[test]
fn a_newer_one_replaces_its_like() {
    let mut inbox = Inbox::default();
    inbox.append(entry(1, Some(7), 10), WIDE, Millis(0));
    let appended = inbox.append(entry(2, Some(7), 10), WIDE, Millis(0));
    assert_eq!(appended, Appended::New { seq: Seq(2), lost: vec![(Seq(1), Loss::Collapsed)] });
    assert_eq!(inbox.head().dropped, 0, "a replaced envelope is not lost");
}

#[test]
fn numbers_go_on_after_all_is_acknowledged() {
    let mut inbox = Inbox::default();
    inbox.append(entry(1, None, 10), WIDE, Millis(0));
    assert_eq!(inbox.trim(Seq(9)), vec![Seq(1)]);
    let mut again = Inbox::restore(inbox.head(), []);
    assert_eq!(seq_of(&again.append(entry(2, None, 10), WIDE, Millis(0))), Seq(2));
}

#[test]
fn an_unused_inbox_goes_on_as_the_one_that_comes() {
    let (theirs, ours) = (Epoch(1), Epoch(2));
    let mut inbox = Inbox::default();
    let head = Head { next: Seq(9), dropped: 2, told: 1, moved: None };
    for _ in 0..2 {
        let numbers = inbox.come(head, theirs, ours, Epoch(99));
        assert_eq!(inbox.adopt(Seq(4), entry(4, None, 1), numbers), Some(Seq(4)));
        assert_eq!(inbox.adopt(Seq(7), entry(7, None, 1), numbers), Some(Seq(7)));
    }
    assert_eq!((inbox.len(), inbox.head().dropped, inbox.head().epoch(ours)), (2, 2, theirs));
    assert_eq!(seq_of(&inbox.append(entry(9, None, 1), WIDE, Millis(0))), Seq(9));
    assert_eq!(inbox.head().epoch(Epoch(3)), Epoch(3), "the store has lost something since");
}

#[test]
fn what_comes_once_more_after_it_was_taken_out_is_not_put_in_again() {
    let head = Head { next: Seq(4), ..Head::default() };
    let mut inbox = Inbox::default();
    let numbers = inbox.come(head, Epoch(1), Epoch(2), Epoch(99));
    assert_eq!(inbox.adopt(Seq(1), entry(1, None, 1), numbers), Some(Seq(1)));
    // A crash has left the head alone.
    let mut inbox = Inbox::restore(inbox.head(), []);
    let numbers = inbox.come(head, Epoch(1), Epoch(2), Epoch(99));
    assert_eq!(inbox.adopt(Seq(1), entry(1, None, 1), numbers), Some(Seq(1)));
    inbox.adopted();
    assert!(inbox.remove(Seq(1)));
    let mut inbox = Inbox::restore(inbox.head(), []);
    // The former home had a crash before it took them out, and begins from the start.
    let numbers = inbox.come(head, Epoch(1), Epoch(2), Epoch(99));
    assert_eq!(inbox.adopt(Seq(1), entry(1, None, 1), numbers), None);
    assert_eq!(inbox.adopt(Seq(3), entry(3, None, 1), numbers), Some(Seq(3)));
    // It was given something more after all had come here.
    let numbers = inbox.come(Head { next: Seq(2), ..Head::default() }, Epoch(1), Epoch(2), Epoch(99));
    assert_eq!(inbox.adopt(Seq(1), entry(9, None, 1), numbers), Some(Seq(4)));
}

#[test]
fn what_comes_to_an_inbox_in_use_goes_behind() {
    let mut inbox = Inbox::default();
    inbox.append(entry(1, None, 1), WIDE, Millis(0));
    for _ in 0..2 {
        let numbers = inbox.come(Head { next: Seq(3), ..Head::default() }, Epoch(1), Epoch(2), Epoch(99));
        assert_eq!(inbox.adopt(Seq(1), entry(10, None, 1), numbers), Some(Seq(2)));
        assert_eq!(inbox.adopt(Seq(2), entry(1, None, 1), numbers), Some(Seq(1)), "it is here already");
    }
    assert_eq!((inbox.len(), inbox.head().epoch(Epoch(2))), (2, Epoch(99)));
}

#[test]
fn age_and_ttl_end_a_stay() {
    let mut inbox = Inbox::default();
    inbox.append(Entry { expires: Some(Millis(500)), ..entry(1, None, 1) }, WIDE, Millis(0));
    inbox.append(entry(2, None, 1), WIDE, Millis(0));
    assert_eq!(inbox.expire(WIDE, Millis(499)), vec![]);
    assert_eq!(inbox.expire(WIDE, Millis(500)), vec![(Seq(1), Loss::Expired)]);
    assert_eq!(inbox.expire(WIDE, Millis(1000)), vec![(Seq(2), Loss::Expired)]);
}

#[test]
fn the_device_is_told_once() {
    let mut inbox = Inbox::default();
    for key in 0..13 {
        inbox.append(entry(key, None, 1), WIDE, Millis(0));
    }
    assert_eq!((inbox.tell(), inbox.tell()), (3, 0));
}

proptest! {
    #[test]
    fn bounds_hold_and_nothing_goes_uncounted(
        ops in proptest::collection::vec((0u128..40, proptest::option::of(0u128..4), 1u32..400, 0u64..3000), 1..200)
    ) {
        let mut inbox = Inbox::default();
        let mut appended = 0;
        let mut gone = 0;
        let mut last = Seq(0);
        let mut now = 0;
        for (key, collapse, bytes, passed) in ops {
            now += passed / 50;
            let entry = Entry { stored: Millis(now), ..entry(key, collapse, bytes) };
            match inbox.append(entry, WIDE, Millis(now)) {
                Appended::New { seq, lost } => {
                    prop_assert!(seq > last);
                    last = seq;
                    appended += 1;
                    gone += lost.len();
                }
                Appended::Duplicate { lost, .. } => gone += lost.len(),
            }
            prop_assert!(inbox.len() as u64 <= WIDE.count);
            prop_assert!(inbox.bytes() <= WIDE.bytes);
            prop_assert_eq!(inbox.bytes(), inbox.entries.values().map(|e| u64::from(e.bytes)).sum::<u64>());
            prop_assert_eq!(inbox.len(), appended - gone);
            prop_assert!(inbox.by_collapse.len() <= inbox.len() && inbox.by_key.len() == 2 * inbox.len());
        }
    }
}
