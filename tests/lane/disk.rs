//! The inbox of the device: the real arithmetic over a map of items, with answers that come late and in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sparkmesh::model::ids::{Millis, Seq};
use sparkmesh::model::inbox::{Appended, Entry, Inbox, Loss};
use sparkmesh::model::lane::End;
use sparkmesh::model::outbox::{Item, Keep};
use sparkmesh::model::seen::Key;

use crate::frames;
use crate::plan::Plan;
use crate::random::Random;

pub(crate) type Ticket = usize;

pub(crate) enum Ask {
    Append(Item<Ticket>, From),
    Read { from: Seq, room: usize, generation: u64 },
    Remove(Seq),
    Trim(Seq),
}

/// Who asks for an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Lane,
    /// Another way to the same inbox.
    Elsewhere,
}

pub(crate) enum Answer {
    Appended { from: From, key: Option<Key>, keep: Arc<Keep>, seq: Seq, tickets: Vec<Ticket>, envelope: usize },
    Refused { from: From, item: Item<Ticket> },
    Page { items: Vec<Item<Ticket>>, end: End, generation: u64 },
    Nothing,
}

#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) inbox: Inbox,
    items: BTreeMap<Seq, Item<Ticket>>,
    asked: VecDeque<(u64, Ask)>,
    /// Reads, where they have a way of their own.
    reads: VecDeque<(u64, Ask)>,
    pub(crate) full_until: u64,
    /// Envelopes that left unread, and why.
    pub(crate) lost: Vec<(usize, Loss)>,
}

impl Disk {
    pub(crate) fn ask(&mut self, ask: Ask, now: u64, plan: &Plan, random: &mut Random) {
        let apart = plan.overtakes && matches!(ask, Ask::Read { .. });
        let queue = if apart { &mut self.reads } else { &mut self.asked };
        let earliest = queue.back().map_or(now, |(at, _)| *at).max(now);
        let at = earliest.max(now + random.within(0, plan.disk_ms));
        queue.push_back((at, ask));
    }

    pub(crate) fn next_at(&self) -> Option<u64> {
        [&self.asked, &self.reads].into_iter().filter_map(|queue| queue.front()).map(|(at, _)| *at).min()
    }

    /// Which envelope is at `seq`.
    pub(crate) fn envelope_at(&self, seq: Seq) -> Option<usize> {
        self.items.get(&seq).map(|item| frames::envelope_of(item.encoded.frame()))
    }

    pub(crate) fn answer(&mut self, now: u64, plan: &Plan) -> Answer {
        let due = |queue: &VecDeque<(u64, Ask)>| queue.front().is_some_and(|(at, _)| *at <= now);
        let queue = if due(&self.reads) { &mut self.reads } else { &mut self.asked };
        let (_, ask) = queue.pop_front().expect("the caller has looked at next_at");
        match ask {
            Ask::Append(item, from) => self.append(item, from, now, plan),
            Ask::Read { from, room, generation } => {
                let mut items = Vec::new();
                let mut bytes = 0;
                let mut rest = self.items.range(from..);
                let end = loop {
                    let Some((_, item)) = rest.next() else { break End::Reached };
                    if bytes > 0 && bytes + item.cost() > room {
                        break End::More;
                    }
                    bytes += item.cost();
                    items.push(item.clone());
                };
                Answer::Page { items, end, generation }
            }
            Ask::Remove(seq) => {
                self.inbox.remove(seq);
                self.items.remove(&seq);
                Answer::Nothing
            }
            Ask::Trim(to) => {
                for seq in self.inbox.trim(to) {
                    self.items.remove(&seq);
                }
                Answer::Nothing
            }
        }
    }

    fn append(&mut self, mut item: Item<Ticket>, from: From, now: u64, plan: &Plan) -> Answer {
        if now < self.full_until {
            return Answer::Refused { from, item };
        }
        let tickets: Vec<_> = item.ticket.take().into_iter().chain(std::mem::take(&mut item.repeats)).collect();
        let (key, keep) = (item.key, item.keep.clone());
        let envelope = frames::envelope_of(item.encoded.frame());
        let entry = Entry {
            shown: Key::shown(&item.keep.sender, &item.keep.id),
            key: item.key,
            collapse: None,
            bytes: item.encoded.frame().len() as u32,
            stored: Millis(now),
            expires: item.expires,
        };
        let seq = match self.inbox.append(entry, plan.limits, Millis(now)) {
            Appended::Duplicate { seq, lost } => {
                for (seq, why) in lost {
                    let gone = self.items.remove(&seq).expect("the inbox knows what it holds");
                    self.lost.push((frames::envelope_of(gone.encoded.frame()), why));
                }
                seq
            }
            Appended::New { seq, lost } => {
                for (seq, why) in lost {
                    let gone = self.items.remove(&seq).expect("the inbox knows what it holds");
                    self.lost.push((frames::envelope_of(gone.encoded.frame()), why));
                }
                item.seq = Some(seq);
                item.encoded = frames::with_seq(item.encoded.frame(), seq);
                self.items.insert(seq, item);
                seq
            }
        };
        Answer::Appended { from, key, keep, seq, tickets, envelope }
    }
}
