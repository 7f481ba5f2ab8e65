//! The arithmetic of one device's inbox: sequence, duplicates, collapse, limits, expiry. The bytes are elsewhere.
//!
//! Invariants: sequence numbers only grow, also across an inbox that was emptied; an envelope that is pushed out by a
//! limit, replaced or expired is counted as such, never just gone; what an inbox holds stays within its [`Limits`],
//! except that a single envelope is always taken.

use std::collections::{BTreeMap, HashMap};

use super::ids::{Epoch, Millis, Seq};
use super::seen::Key;

/// Bounds of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub bytes: u64,
    pub count: u64,
    /// Longest stay, in milliseconds.
    pub age_ms: u64,
}

impl Limits {
    /// For an id that has never connected (DESIGN 5): 100 envelopes and 1 MB for seven days.
    pub const UNKNOWN: Self = Self { bytes: 1_000_000, count: 100, age_ms: 7 * 24 * 3600 * 1000 };

    #[must_use]
    pub fn at_most(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.min(other.bytes),
            count: self.count.min(other.count),
            age_ms: self.age_ms.min(other.age_ms),
        }
    }
}

/// What the inbox needs to know of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub key: Option<Key>,
    /// What an ACK names; see [`Key::shown`].
    pub shown: Key,
    pub collapse: Option<Key>,
    pub bytes: u32,
    pub stored: Millis,
    pub expires: Option<Millis>,
}

impl Entry {
    fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        self.key.into_iter().chain([self.shown])
    }
}

/// Why an envelope left unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Limit,
    Expired,
    Collapsed,
}

impl Loss {
    pub fn word(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Expired => "expired",
            Self::Collapsed => "collapsed",
        }
    }
}

/// What outlives the envelopes of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// The next sequence number.
    pub next: Seq,
    /// Envelopes that a limit has pushed out so far.
    pub dropped: u64,
    /// Of those, how many the device has been told of.
    pub told: u64,
    /// Where it comes from, if another server has had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
}

/// An inbox that has come from another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Moved {
    /// Within which its numbers mean something.
    pub epoch: Epoch,
    /// That of the store when it came: a store that has lost something since has another one, and this says nothing more.
    pub under: Epoch,
    /// Numbers below are those of its former home.
    pub upto: Seq,
    /// Of these, those up to here have come for certain: what of them is not here has been taken out since.
    #[serde(default)]
    pub come: Seq,
}

/// Whether what comes from a former home has its place by the number it had there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Numbers {
    /// It has.
    Same,
    /// It is put behind all that is here.
    Other,
}

impl Default for Head {
    fn default() -> Self {
        Self { next: Seq(1), dropped: 0, told: 0, moved: None }
    }
}

impl Head {
    /// The epoch of the inbox in a store of epoch `store`.
    pub fn epoch(&self, store: Epoch) -> Epoch {
        self.moved.filter(|moved| moved.under == store).map_or(store, |moved| moved.epoch)
    }
}

/// What became of an append.
#[derive(Debug, PartialEq, Eq)]
pub enum Appended {
    New {
        seq: Seq,
        lost: Vec<(Seq, Loss)>,
    },
    /// The same envelope is here already.
    Duplicate {
        seq: Seq,
        lost: Vec<(Seq, Loss)>,
    },
}

/// See the module's header.
#[derive(Debug, Default)]
pub struct Inbox {
    head: Head,
    entries: BTreeMap<Seq, Entry>,
    by_key: HashMap<Key, Seq>,
    by_collapse: HashMap<Key, Seq>,
    bytes: u64,
    /// The last that has come from the former home; nobody knows yet whether it is durable.
    coming: Seq,
    /// Nothing expires before this; spares looking through a full inbox at each append.
    calm_until: Millis,
}

impl Inbox {
    /// As it was left: its head, and the entries that the store has.
    pub fn restore(head: Head, entries: impl IntoIterator<Item = (Seq, Entry)>) -> Self {
        let mut inbox = Self { head, ..Self::default() };
        for (seq, entry) in entries {
            inbox.insert(seq, entry);
            inbox.head.next = inbox.head.next.max(seq.next());
        }
        inbox
    }

    pub fn head(&self) -> Head {
        self.head
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The highest place that is taken.
    pub fn last(&self) -> Option<Seq> {
        self.entries.last_key_value().map(|(seq, _)| *seq)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn append(&mut self, entry: Entry, limits: Limits, now: Millis) -> Appended {
        let mut lost = self.expire(limits, now);
        if let Some(seq) = entry.key.and_then(|key| self.by_key.get(&key)).copied() {
            return Appended::Duplicate { seq, lost };
        }
        if let Some(older) = entry.collapse.and_then(|key| self.by_collapse.get(&key).copied()) {
            self.remove(older);
            lost.push((older, Loss::Collapsed));
        }
        let room = |inbox: &Self| {
            inbox.bytes + u64::from(entry.bytes) <= limits.bytes && (inbox.entries.len() as u64) < limits.count
        };
        while !room(self) {
            let Some(oldest) = self.entries.first_key_value().map(|(seq, _)| *seq) else { break };
            self.remove(oldest);
            self.head.dropped += 1;
            lost.push((oldest, Loss::Limit));
        }
        let seq = self.head.next;
        self.head.next = seq.next();
        self.calm_until = self.calm_until.min(end_of(&entry, limits));
        self.insert(seq, entry);
        Appended::New { seq, lost }
    }

    fn insert(&mut self, seq: Seq, entry: Entry) {
        for key in entry.keys() {
            self.by_key.insert(key, seq);
        }
        if let Some(key) = entry.collapse {
            self.by_collapse.insert(key, seq);
        }
        self.bytes += u64::from(entry.bytes);
        self.entries.insert(seq, entry);
    }

    /// An inbox comes from its former home, `epoch` there and with `head`; this one lies in a store of epoch `store`. One that
    /// nobody has used goes on as that one. One that has been used begins a new epoch, `fresh`, in which what comes is put
    /// behind what is here.
    pub fn come(&mut self, head: Head, epoch: Epoch, store: Epoch, fresh: Epoch) -> Numbers {
        let known = self.head.moved.filter(|moved| moved.under == store);
        if let Some(moved) = known.filter(|moved| moved.epoch == epoch || moved.upto == Seq(0)) {
            // A former home that has given all, and has been given something since, has begun to number anew.
            let goes_on = moved.epoch == epoch && head.next >= moved.upto;
            return if goes_on { Numbers::Same } else { Numbers::Other };
        }
        self.head.dropped += head.dropped;
        self.head.told += head.told;
        let is_unused = self.head.next == Seq(1) && self.entries.is_empty();
        self.head.moved = Some(if is_unused {
            self.head.next = head.next;
            Moved { epoch, under: store, upto: head.next, come: Seq(0) }
        } else {
            Moved { epoch: fresh, under: store, upto: Seq(0), come: Seq(0) }
        });
        if is_unused { Numbers::Same } else { Numbers::Other }
    }

    /// One envelope of the former home, which was at `seq` there; where it is now. What is here stays where it is. Those of
    /// one home come in the order of their numbers. `None`: it has come before, and has been taken out since.
    pub fn adopt(&mut self, seq: Seq, entry: Entry, numbers: Numbers) -> Option<Seq> {
        let here = entry.keys().find_map(|key| self.by_key.get(&key).copied());
        if here.is_some() {
            return here;
        }
        let at = match &self.head.moved {
            Some(moved) if numbers == Numbers::Same && seq < moved.upto => {
                if seq <= moved.come {
                    return None;
                }
                self.coming = seq;
                seq
            }
            _ => self.head.next,
        };
        self.head.next = self.head.next.max(at.next());
        self.calm_until = Millis(0);
        self.insert(at, entry);
        Some(at)
    }

    /// All that was adopted is durable. What is taken out from now on is written together with this, or after it.
    pub fn adopted(&mut self) {
        if let Some(moved) = &mut self.head.moved {
            moved.come = moved.come.max(self.coming);
        }
    }

    /// The envelope at `seq` is acknowledged. False when there is none.
    pub fn remove(&mut self, seq: Seq) -> bool {
        let Some(entry) = self.entries.remove(&seq) else { return false };
        self.bytes -= u64::from(entry.bytes);
        for key in entry.keys() {
            if self.by_key.get(&key) == Some(&seq) {
                self.by_key.remove(&key);
            }
        }
        if let Some(key) = entry.collapse
            && self.by_collapse.get(&key) == Some(&seq)
        {
            self.by_collapse.remove(&key);
        }
        true
    }

    /// The envelope that the device knows by this key is acknowledged; where it was.
    pub fn acknowledge(&mut self, shown: Key) -> Option<Seq> {
        let seq = self.by_key.get(&shown).copied()?;
        self.remove(seq).then_some(seq)
    }

    /// Everything up to `seq` is acknowledged; which places that were.
    pub fn trim(&mut self, to: Seq) -> Vec<Seq> {
        let gone: Vec<Seq> = self.entries.range(..=to).map(|(seq, _)| *seq).collect();
        for seq in &gone {
            self.remove(*seq);
        }
        gone
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, limits: Limits, now: Millis) -> Vec<(Seq, Loss)> {
        if now < self.calm_until {
            return Vec::new();
        }
        let over = self.entries.iter().filter(|(_, entry)| end_of(entry, limits) <= now);
        let gone: Vec<_> = over.map(|(seq, _)| (*seq, Loss::Expired)).collect();
        for (seq, _) in &gone {
            self.remove(*seq);
        }
        self.calm_until = self.entries.values().map(|entry| end_of(entry, limits)).min().unwrap_or(Millis(u64::MAX));
        gone
    }

    /// How many envelopes a limit has pushed out since the device was told; it is being told now.
    pub fn tell(&mut self) -> u64 {
        let news = self.head.dropped - self.head.told;
        self.head.told = self.head.dropped;
        news
    }
}

/// When an envelope's stay ends.
fn end_of(entry: &Entry, limits: Limits) -> Millis {
    let aged = entry.stored.plus(limits.age_ms);
    entry.expires.map_or(aged, |at| at.min(aged))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            inbox.append(entry(1, None, 10), WIDE, Millis(0)),
            Appended::Duplicate { seq: Seq(1), lost: vec![] }
        );
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
}
