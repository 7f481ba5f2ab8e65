//! The arithmetic of one device's inbox: sequence, duplicates, collapse, limits, expiry. The bytes are elsewhere.
//!
//! Invariants: sequence numbers only grow, also across an inbox that was emptied; an envelope that is pushed out by a
//! limit, replaced or expired is counted as such, never just gone; what an inbox holds stays within its [`Limits`],
//! except that a single envelope is always taken.

use std::collections::BTreeMap;

use super::ids::{Epoch, Millis, Seq};
use super::seen::Key;
use crate::model::keyed::HashMap;

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
mod tests;
