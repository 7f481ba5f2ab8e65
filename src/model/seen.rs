//! What a device has been given lately, so that the same envelope is not given twice.
//!
//! Owns the window of DESIGN 5, promise 1: the last 1024 envelopes of a device, none older than five minutes. Duplicates
//! are known by their sender and `id`; only envelopes to which the sender gave an `id` can be repeated, so only those are
//! remembered.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

use super::custody::Outcome;
use super::ids::{EnvelopeId, Millis, NodeId, SessionId};
use crate::model::keyed::HashMap;

/// Most envelopes remembered for one device.
pub const WINDOW: usize = 1024;
/// How long one is remembered, in milliseconds.
pub const WINDOW_MS: u64 = 5 * 60 * 1000;

/// Sender and `id` in 128 bits of SHA-256: too wide to meet by chance or on purpose, and half the size of the ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub u128);

impl Key {
    pub fn of(sender: &NodeId, id: &EnvelopeId) -> Self {
        Self::hash(sender, 0, id.as_str())
    }

    /// For a sender behind a mask: what it says under its own name, or under another mask, is something else, or one could
    /// tell from what counts as repeated who wears it.
    pub fn masked(session: &SessionId, shown: &NodeId, id: &EnvelopeId) -> Self {
        let wearer = format!("{session}\u{0}{shown}");
        Self::digest(&wearer, 3, id.as_str())
    }

    /// For a `collapse_key` of a sender; never equal to the key of an envelope.
    pub fn collapse(sender: &NodeId, key: &str) -> Self {
        Self::hash(sender, 1, key)
    }

    /// As the recipient names it in an ACK, by the sender that it was shown.
    pub fn shown(sender: &NodeId, id: &EnvelopeId) -> Self {
        Self::hash(sender, 2, id.as_str())
    }

    /// The separator is outside the alphabet of ids, so no two pairs give the same bytes.
    fn hash(sender: &NodeId, separator: u8, rest: &str) -> Self {
        Self::digest(sender.as_str(), separator, rest)
    }

    fn digest(sender: &str, separator: u8, rest: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(sender.as_bytes());
        hasher.update([separator]);
        hasher.update(rest.as_bytes());
        let digest = hasher.finalize();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self(u128::from_be_bytes(half))
    }
}

/// What is known of an envelope that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// In a queue of the device, or on its way into the inbox.
    Pending,
    Settled(Outcome),
}

/// The window of one device.
#[derive(Debug, Default)]
pub struct Seen {
    /// With the time since when each is remembered.
    fates: HashMap<Key, (Fate, Millis)>,
    order: VecDeque<(Key, Millis)>,
}

impl Seen {
    pub fn fate(&self, key: Key) -> Option<Fate> {
        self.fates.get(&key).map(|(fate, _)| *fate)
    }

    /// Remembers `key` as pending; as long as before, if it is known.
    pub fn insert(&mut self, key: Key, now: Millis) {
        self.expire(now);
        if let Some((fate, _)) = self.fates.get_mut(&key) {
            *fate = Fate::Pending;
            return;
        }
        if self.order.len() == WINDOW {
            self.forget_oldest();
        }
        self.fates.insert(key, (Fate::Pending, now));
        self.order.push_back((key, now));
    }

    /// Notes the outcome, if `key` is still remembered. A failure is forgotten at once: sending again must work. What is
    /// delivered stays so, whatever becomes of the same envelope sent again.
    pub fn settle(&mut self, key: Key, outcome: Outcome) {
        let Some((fate, _)) = self.fates.get_mut(&key) else { return };
        match outcome {
            _ if *fate == Fate::Settled(Outcome::Delivered) => {}
            Outcome::Failed => {
                self.fates.remove(&key);
            }
            _ => *fate = Fate::Settled(outcome),
        }
    }

    pub fn expire(&mut self, now: Millis) {
        while self.order.front().is_some_and(|(_, since)| now.since(*since) > WINDOW_MS) {
            self.forget_oldest();
        }
        if self.order.is_empty() && self.fates.capacity() > 0 {
            *self = Self::default();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn forget_oldest(&mut self) {
        if let Some((key, since)) = self.order.pop_front() {
            // After a failure the key may have come again; then its place is further back.
            if self.fates.get(&key).is_some_and(|(_, of)| *of == since) {
                self.fates.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u128) -> Key {
        Key(n)
    }

    #[test]
    fn the_window_forgets_by_count_and_by_time() {
        let mut seen = Seen::default();
        for n in 0..=WINDOW as u128 {
            seen.insert(key(n), Millis(n as u64));
        }
        assert_eq!(seen.fate(key(0)), None);
        assert_eq!(seen.fate(key(1)), Some(Fate::Pending));
        seen.expire(Millis(WINDOW_MS + 3));
        assert_eq!(seen.fate(key(2)), None);
        assert_eq!(seen.fate(key(3)), Some(Fate::Pending));
        seen.expire(Millis(WINDOW_MS * 3));
        assert!(seen.is_empty());
    }

    #[test]
    fn a_failure_may_be_sent_again() {
        let mut seen = Seen::default();
        seen.insert(key(1), Millis(0));
        seen.settle(key(1), Outcome::Failed);
        assert_eq!(seen.fate(key(1)), None);
        seen.insert(key(1), Millis(0));
        seen.settle(key(1), Outcome::Delivered);
        assert_eq!(seen.fate(key(1)), Some(Fate::Settled(Outcome::Delivered)));
        seen.settle(key(1), Outcome::Stored);
        seen.settle(key(1), Outcome::Failed);
        assert_eq!(seen.fate(key(1)), Some(Fate::Settled(Outcome::Delivered)), "delivered is for good");
    }

    #[test]
    fn the_time_of_a_failure_does_not_shorten_the_next() {
        let mut seen = Seen::default();
        seen.insert(key(1), Millis(0));
        seen.settle(key(1), Outcome::Failed);
        seen.insert(key(1), Millis(1000));
        seen.expire(Millis(WINDOW_MS + 1));
        assert_eq!(seen.fate(key(1)), Some(Fate::Pending));
        seen.expire(Millis(WINDOW_MS + 1001));
        assert!(seen.is_empty());
    }

    #[test]
    fn pairs_do_not_run_together() {
        let of = |sender: &str, id: &str| Key::of(&sender.parse().unwrap(), &id.parse().unwrap());
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_ne!(of("a", "b"), of("b", "a"));
    }
}
