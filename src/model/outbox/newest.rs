//! FAST items of which only the newest matters: those with a collapse key.
//!
//! A position that is told sixty times a second is worth nothing once the next one is there. So a newer item takes the place
//! of the one with the same sender and collapse key that still waits. Invariants: of each key at most one waits; it stands
//! where the first of them was put, so that whoever speaks all the time is not put off by that; what replaces is newer.

use std::collections::HashMap;

use super::super::ids::Millis;
use super::super::seen::Key;
use super::{Class, Item, Outbox, Waiting};

/// See the module's header.
#[expect(clippy::box_collection, reason = "most outboxes never have any, and an idle device is to be small")]
#[derive(Debug)]
pub(super) struct Newest<T>(Option<Box<HashMap<Key, Item<T>>>>);

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// The key by which a newer one may replace it.
fn key<T>(item: &Item<T>) -> Option<Key> {
    item.keep.collapse.filter(|_| item.class != Class::Reliable)
}

impl<T> Newest<T> {
    /// How the item waits in the queue.
    pub(super) fn keep(&mut self, item: Item<T>) -> Waiting<T> {
        match key(&item).filter(|key| self.get(*key).is_none()) {
            Some(key) => {
                self.0.get_or_insert_default().insert(key, item);
                Waiting::Newest(key)
            }
            None => Waiting::Item(item),
        }
    }

    fn get(&self, key: Key) -> Option<&Item<T>> {
        self.0.as_ref()?.get(&key)
    }

    pub(super) fn take(&mut self, key: Key) -> Option<Item<T>> {
        let kept = self.0.as_mut()?;
        let item = kept.remove(&key);
        if kept.is_empty() {
            self.0 = None;
        }
        item
    }

    pub(super) fn items(&self) -> impl Iterator<Item = &Item<T>> {
        self.0.iter().flat_map(|kept| kept.values())
    }

    pub(super) fn holds_tracked(&self) -> bool {
        self.items().any(|item| item.class != Class::Fast)
    }
}

/// What has become of an item that may make another one worthless.
#[derive(Debug)]
pub enum Refreshed<T> {
    /// It has taken the place of this one.
    Replaced(Item<T>),
    /// Nothing like it waits, or it is so much larger that it finds no room: it is given back.
    Not(Item<T>),
}

impl<T> Outbox<T> {
    /// Puts `item` in the place of the one that it makes worthless.
    pub fn refresh(&mut self, item: Item<T>, now: Millis) -> Refreshed<T> {
        let older = key(&item).and_then(|key| self.newest.get(key).map(|older| (key, older.cost())));
        let Some((key, cost)) = older else { return Refreshed::Not(item) };
        let others = self.bytes - cost;
        if others > 0 && others + item.cost() > self.limit {
            return Refreshed::Not(item);
        }
        Refreshed::Replaced(self.replace(key, item, now))
    }

    /// As [`Self::push`], for what comes from another edge of the device: where a newer one waits here already, that stays.
    /// Gives back the older one of two.
    #[must_use]
    pub fn push_again(&mut self, item: Item<T>, now: Millis) -> Option<Item<T>> {
        let waits = key(&item).and_then(|key| self.newest.get(key).map(|waiting| (key, waiting.keep.timestamp)));
        match waits {
            Some((_, since)) if since >= item.keep.timestamp => Some(item),
            Some((key, _)) => Some(self.replace(key, item, now)),
            None => {
                self.push(item, now);
                None
            }
        }
    }

    /// There is one with `key`.
    fn replace(&mut self, key: Key, item: Item<T>, now: Millis) -> Item<T> {
        self.bytes += item.cost();
        if item.class != Class::Fast {
            self.waiting_since.get_or_insert(now);
        }
        let kept = self.newest.0.get_or_insert_default();
        let older = kept.insert(key, item).expect("the caller has found it there");
        self.left(&older);
        self.calm();
        older
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::super::envelope::Encoded;
    use super::super::{Acks, Custody, Keep, Prompt};
    use super::*;

    fn item(number: u64, collapse: Option<u8>, class: Class, len: usize) -> Item<u64> {
        let text = format!("{number:>len$}");
        Item {
            encoded: Encoded::new(text.into(), 0),
            key: None,
            seq: None,
            class,
            ticket: Some(number),
            repeats: Vec::new(),
            expires: None,
            keep: Arc::new(Keep {
                sender: "a".parse().unwrap(),
                id: number.to_string().parse().unwrap(),
                collapse: collapse.map(|key| Key(key.into())),
                kind: 0,
                timestamp: Millis(number),
                session: None,
                prompt: Prompt::Later,
            }),
            shown: None,
            custody: Custody::Own,
        }
    }

    fn take(outbox: &mut Outbox<u64>, budget: usize) -> Vec<u64> {
        let (mut batch, mut expired) = (VecDeque::new(), Vec::new());
        outbox.take(budget, Millis(0), &mut batch, &mut expired, Acks::Application, |_| Bytes::new());
        assert!(expired.is_empty());
        batch.iter().map(|frame| std::str::from_utf8(frame).unwrap().trim().parse().unwrap()).collect()
    }

    fn offer(outbox: &mut Outbox<u64>, item: Item<u64>) -> Option<u64> {
        match outbox.refresh(item, Millis(0)) {
            Refreshed::Replaced(older) => older.ticket,
            Refreshed::Not(item) => {
                outbox.push(item, Millis(0));
                None
            }
        }
    }

    #[test]
    fn a_newer_one_takes_the_place_of_the_older_and_is_not_put_off() {
        let mut outbox = Outbox::new(10_000);
        offer(&mut outbox, item(1, Some(7), Class::Fast, 4));
        offer(&mut outbox, item(2, None, Class::Fast, 4));
        let bytes = outbox.bytes();
        assert_eq!(offer(&mut outbox, item(3, Some(7), Class::Fast, 4)), Some(1));
        assert_eq!(outbox.bytes(), bytes);
        assert_eq!(offer(&mut outbox, item(4, Some(8), Class::Fast, 4)), None);
        assert_eq!(offer(&mut outbox, item(5, Some(7), Class::Reliable, 4)), None, "reliable ones are all sent");
        assert_eq!(take(&mut outbox, 1000), [3, 2, 4, 5]);
        assert_eq!(offer(&mut outbox, item(6, Some(7), Class::Fast, 4)), None, "what was written is gone");
    }

    #[test]
    fn whoever_waits_to_hear_of_the_older_is_no_reason_to_count_as_stalled() {
        let mut outbox = Outbox::new(10_000);
        offer(&mut outbox, item(1, Some(7), Class::FastTracked, 4));
        assert!(outbox.holds_tracked());
        offer(&mut outbox, item(2, Some(7), Class::Fast, 4));
        assert!(!outbox.holds_tracked());
    }

    #[test]
    fn from_another_edge_the_newer_of_two_stays() {
        let mut outbox = Outbox::new(10_000);
        offer(&mut outbox, item(2, Some(7), Class::Fast, 4));
        let older = |item: Option<Item<u64>>| item.and_then(|item| item.ticket);
        assert_eq!(older(outbox.push_again(item(1, Some(7), Class::Fast, 4), Millis(0))), Some(1));
        assert_eq!(older(outbox.push_again(item(3, Some(7), Class::Fast, 4), Millis(0))), Some(2));
        assert_eq!(take(&mut outbox, 1000), [3]);
    }

    #[test]
    fn one_that_finds_no_room_does_not_replace() {
        let mut outbox = Outbox::new(1_000);
        offer(&mut outbox, item(1, Some(7), Class::Fast, 10));
        offer(&mut outbox, item(2, None, Class::Fast, 500));
        let refreshed = outbox.refresh(item(3, Some(7), Class::Fast, 900), Millis(0));
        assert!(matches!(refreshed, Refreshed::Not(_)));
        assert_eq!(take(&mut outbox, 10_000), [1, 2]);
    }

    #[derive(Debug, Clone)]
    enum Act {
        Offer(Option<u8>, Class, usize),
        Take(usize),
        TakeBack,
    }

    fn act() -> impl Strategy<Value = Act> {
        let class = prop_oneof![4 => Just(Class::Fast), 1 => Just(Class::FastTracked), 1 => Just(Class::Reliable)];
        prop_oneof![
            8 => (proptest::option::weighted(0.8, 0u8..4), class, 4usize..40).prop_map(|(k, c, l)| Act::Offer(k, c, l)),
            2 => (1usize..120).prop_map(Act::Take),
            1 => Just(Act::TakeBack),
        ]
    }

    proptest! {
        /// Against a plain list in which the newer one overwrites the older.
        #[test]
        fn it_is_as_a_list_in_which_the_newer_overwrites_the_older(acts in proptest::collection::vec(act(), 1..80)) {
            let mut outbox = Outbox::new(1 << 20);
            let mut list: Vec<(u64, Option<u8>)> = Vec::new();
            for (number, act) in acts.into_iter().enumerate() {
                let number = number as u64;
                match act {
                    Act::Offer(collapse, class, len) => {
                        let replaced = offer(&mut outbox, item(number, collapse, class, len));
                        let collapse = collapse.filter(|_| class != Class::Reliable);
                        let like = list.iter_mut().find(|(_, key)| key.is_some() && *key == collapse);
                        prop_assert_eq!(replaced, like.as_ref().map(|(older, _)| *older));
                        match like {
                            Some(place) => place.0 = number,
                            None => list.push((number, collapse)),
                        }
                    }
                    Act::Take(budget) => {
                        let taken = take(&mut outbox, budget);
                        let expected: Vec<u64> = list.drain(..taken.len()).map(|(number, _)| number).collect();
                        prop_assert_eq!(taken, expected);
                    }
                    Act::TakeBack => {
                        let mut back = outbox.take_back();
                        // What is written and not acknowledged comes back too, before what waits.
                        let back = back.split_off(back.len() - list.len());
                        let numbers: Vec<u64> = back.iter().filter_map(|item| item.ticket).collect();
                        prop_assert_eq!(numbers, list.drain(..).map(|(number, _)| number).collect::<Vec<_>>());
                        prop_assert_eq!(outbox.bytes(), 0);
                    }
                }
                prop_assert_eq!(outbox.newest.items().count(), list.iter().filter(|(_, key)| key.is_some()).count());
            }
            let rest = take(&mut outbox, 1 << 20);
            prop_assert_eq!(rest, list.into_iter().map(|(number, _)| number).collect::<Vec<_>>());
        }
    }
}
