//! The way over another server, where the device has its newest edge.
//!
//! What has been sent there stays open here until that server's lane answers for it. Invariants:
//! - while the way abroad serves, local edges stand by and hold nothing of our own;
//! - open items are in the order in which they were sent; when the way ends they all are taken back and go on together, in
//!   that order, before anything newer;
//! - while an append is unanswered, nothing reliable goes abroad: it would overtake;
//! - what was stored while the way abroad served, the edges here have not been sent: it comes first when they serve again.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::super::custody::Outcome;
use super::super::frames::{Carried, Fate};
use super::super::ids::{ConnectionId, Millis, NodeId, Seq};
use super::super::outbox::{Class, Custody, Item, Wanted};
use super::super::seen::Key;
use super::catch_up::Mode;
use super::effect::Effects;
use super::{Effect, Lane, Replay, Why};

/// How long after an append another server is told of it with each envelope, in milliseconds: the home tells it too, and
/// that has arrived by then.
const HINT_MS: u64 = 2_000;
/// How long a place that has said it is none is not asked again, in milliseconds: all lists say so by then.
const DENIED_MS: u64 = 2_000;
/// Open items may take this many times what an edge's outbox may: the lane abroad holds as much, and as much again is on
/// its way there and back.
const ROOM: usize = 4;

/// Where a device is attached, other than here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub server: NodeId,
    /// Of the attachment; 0 where no edge moves.
    pub number: u64,
}

#[derive(Debug)]
pub(super) struct Abroad<T> {
    pub(super) place: Place,
    /// The number of the first that was sent there, since all was last taken back.
    begun: Option<u32>,
    open: VecDeque<(u32, Item<T>)>,
    bytes: usize,
}

/// What a lane knows of other servers.
#[derive(Debug)]
pub(super) struct Elsewhere<T> {
    way: Option<Abroad<T>>,
    /// They have said, at that time, that the device is not there.
    denied: Vec<(Place, Millis)>,
    /// Of what is sent abroad: the last number.
    counter: u32,
    /// When the inbox has last answered an append of this lane, and with which place.
    stored: Option<(Seq, Millis)>,
    /// The lowest place in the inbox that edges here have not been sent because the way abroad served.
    missed: Option<Seq>,
}

impl<T> Default for Elsewhere<T> {
    fn default() -> Self {
        Self { way: None, denied: Vec::new(), counter: 0, stored: None, missed: None }
    }
}

impl<T> Elsewhere<T> {
    /// Nothing would be lost by forgetting it.
    pub(super) fn is_idle(&self) -> bool {
        self.way.as_ref().is_none_or(|way| way.open.is_empty())
    }

    pub(super) fn serves(&self) -> bool {
        self.way.is_some()
    }

    pub(super) fn bytes(&self) -> usize {
        self.way.as_ref().map_or(0, |way| way.bytes)
    }

    pub(super) fn stored(&mut self, seq: Seq, now: Millis) {
        self.stored = Some((seq, now));
    }

    pub(super) fn miss(&mut self, seq: Seq) {
        self.missed = Some(self.missed.map_or(seq, |missed| missed.min(seq)));
    }

    pub(super) fn forget_missed(&mut self) {
        self.missed = None;
    }

    /// The same envelope, open abroad.
    pub(super) fn find(&mut self, key: Key) -> Option<&mut Item<T>> {
        let way = self.way.as_mut()?;
        way.open.iter_mut().map(|(_, item)| item).find(|item| item.key == Some(key) && item.class == Class::Reliable)
    }

    /// Where it was sent, if it was and is not answered for.
    pub(super) fn has_sent(&self, wanted: Wanted<'_>) -> Option<&Place> {
        let way = self.way.as_ref()?;
        way.open.iter().any(|(_, item)| wanted.is(item)).then_some(&way.place)
    }

    /// The server that serves, and how many envelopes of how many bytes are open there.
    pub(super) fn level(&self) -> Option<(NodeId, usize, usize)> {
        self.way.as_ref().map(|way| (way.place.server.clone(), way.open.len(), way.bytes))
    }

    fn denies(&self, place: &Place, now: Millis) -> bool {
        self.denied.iter().any(|(denied, at)| denied == place && now.since(*at) < DENIED_MS)
    }

    fn hint(&self, now: Millis) -> Seq {
        self.stored.filter(|(_, at)| now.since(*at) < HINT_MS).map_or(Seq(0), |(seq, _)| seq)
    }
}

impl<T> Abroad<T> {
    fn new(place: Place) -> Self {
        Self { place, begun: None, open: VecDeque::new(), bytes: 0 }
    }

    /// Numbers wrap; those that are open lie close together.
    fn at(&self, number: u32) -> Option<usize> {
        let (first, _) = self.open.front()?;
        let wanted = number.wrapping_sub(*first);
        let at = self.open.partition_point(|(of, _)| of.wrapping_sub(*first) < wanted);
        self.open.get(at).filter(|(of, _)| *of == number).map(|_| at)
    }

    fn remove(&mut self, number: u32) -> Option<Item<T>> {
        let (_, item) = self.open.remove(self.at(number)?)?;
        self.bytes -= item.cost();
        Some(item)
    }
}

impl<T> Lane<T> {
    /// Where the device has its newest edge other than here, among the servers that can be reached; `own` is this server.
    /// To be said before each offer, and whenever it has changed.
    pub fn place(&mut self, newest: Option<&Place>, own: &NodeId, now: Millis, out: &mut Effects<T>) {
        let serves = newest.filter(|place| self.may_serve(place, own, now));
        if let (Some(way), Some(place)) = (&mut self.elsewhere.way, serves) {
            // A lane there that stops, or moves again, has what it was sent.
            if way.place.server == place.server && (way.place.number == 0 || place.number == 0) {
                way.place.number = place.number;
            }
        }
        if self.way_abroad() == serves {
            return;
        }
        let open = self.take_back_abroad();
        match serves {
            Some(place) => self.go_abroad(place.clone(), open, now, out),
            None => self.come_back(open, now, out),
        }
    }

    /// What is known of the device's places has changed. A place that has said it is none, and is listed no more, may be one
    /// again when it is.
    pub fn recall(&mut self, is_listed: impl Fn(&Place) -> bool) {
        self.elsewhere.denied.retain(|(denied, _)| is_listed(denied));
    }

    /// Whether it is newer than what moves here, and has not said that it is none.
    pub fn may_serve(&self, place: &Place, own: &NodeId, now: Millis) -> bool {
        let newer = match self.number() {
            None => true,
            // Where nothing moves either, each keeps its own.
            Some(0) => place.number > 0,
            Some(local) => (place.number, &place.server) > (local, own),
        };
        newer && !self.elsewhere.denies(place, now)
    }

    /// As [`Self::detach`]: what the edge has not acknowledged goes to the newest `place` of the device elsewhere, where there
    /// is one and no edge is left here.
    pub fn detach_for(
        &mut self,
        connection: ConnectionId,
        place: Option<&Place>,
        own: &NodeId,
        now: Millis,
        out: &mut Effects<T>,
    ) {
        let last = self.at(connection).filter(|_| self.edges.len() == 1);
        let (Some(at), Some(place)) = (last, place.filter(|place| !self.elsewhere.denies(place, now))) else {
            self.detach(connection, now, out);
            return self.place(place, own, now, out);
        };
        let held = self.take_back(at, out);
        self.edges.remove(at);
        self.forget_inbox();
        if self.way_abroad() != Some(place) {
            let open = self.take_back_abroad();
            self.go_abroad(place.clone(), open, now, out);
        }
        for item in held {
            self.send_abroad(item, now, out);
        }
    }

    pub fn is_abroad(&self) -> bool {
        self.elsewhere.serves()
    }

    /// Where this lane sends to, if another server serves the device.
    pub fn way_abroad(&self) -> Option<&Place> {
        self.elsewhere.way.as_ref().map(|way| &way.place)
    }

    /// What edges here hold goes to `place`, which serves from now on.
    pub(super) fn hand_over(&mut self, place: Place, now: Millis, out: &mut Effects<T>) {
        let open = self.take_back_abroad();
        self.go_abroad(place, open, now, out);
    }

    fn go_abroad(&mut self, place: Place, open: Vec<Item<T>>, now: Millis, out: &mut Effects<T>) {
        let held = self.take_back_all(out);
        if !self.edges.is_empty() {
            // The lane abroad reads the inbox now.
            if let Mode::CatchUp { next: Some(next), .. } = self.mode {
                self.elsewhere.miss(next);
            }
            self.mode = Mode::Live;
            self.generation += 1;
        }
        self.elsewhere.way = Some(Abroad::new(place));
        for item in open.into_iter().chain(held) {
            self.send_abroad(item, now, out);
        }
    }

    /// The way abroad has ended. What was open there goes to this server's edges, else to the inbox.
    fn come_back(&mut self, open: Vec<Item<T>>, now: Millis, out: &mut Effects<T>) {
        self.elsewhere.way = None;
        if self.edges.is_empty() {
            return self.append_all(open, Why::Absent, now, out);
        }
        let missed = self.elsewhere.missed.take();
        if self.edges.last().is_some_and(|edge| edge.options.replay == Replay::Auto) {
            self.catch_up_from(Seq(1));
        } else if let Some(missed) = missed {
            self.catch_up_from(missed);
        }
        self.send_again(open, now, out);
        self.pump(out);
    }

    fn take_back_abroad(&mut self) -> Vec<Item<T>> {
        let Some(way) = &mut self.elsewhere.way else { return Vec::new() };
        (way.bytes, way.begun) = (0, None);
        way.open.drain(..).map(|(_, item)| item).collect()
    }

    /// One item by the way abroad, which there must be.
    pub(super) fn send_abroad(&mut self, item: Item<T>, now: Millis, out: &mut Effects<T>) {
        let expired = item.expires.is_some_and(|at| at <= now);
        let limit = self.limit_abroad();
        let Some(way) = self.elsewhere.way.as_mut().filter(|_| !expired) else {
            return self.settle(item, Outcome::Dropped, out);
        };
        if item.custody != Custody::Own {
            return self.send_home(item, now, out);
        }
        if item.class == Class::Reliable {
            if self.appending > 0 {
                return self.append_behind(item, Why::Behind, out);
            }
            if way.bytes > 0 && way.bytes + item.cost() > limit {
                // Whatever is open is older.
                let mut older = self.take_back_abroad();
                older.push(item);
                return self.append_all(older, Why::Overflow, now, out);
            }
        }
        let known = self.elsewhere.hint(now);
        let Some(way) = &mut self.elsewhere.way else { return };
        let tracked = item.class != Class::Fast;
        if tracked {
            // 0 says that nobody waits.
            self.elsewhere.counter = self.elsewhere.counter.checked_add(1).unwrap_or(1);
        }
        let number = if tracked { self.elsewhere.counter } else { 0 };
        let begun = if tracked { *way.begun.get_or_insert(number) } else { 0 };
        out.push(Effect::Forward {
            server: way.place.server.clone(),
            number,
            way: begun,
            known,
            shown: item.shown.clone(),
            envelope: item.carried(now),
        });
        if tracked {
            way.bytes += item.cost();
            way.open.push_back((number, item));
        } else {
            out.push(Effect::Count { class: item.class, outcome: Outcome::Delivered });
        }
    }

    fn limit_abroad(&self) -> usize {
        self.limit.saturating_mul(ROOM)
    }

    /// Whether an edge here takes what a custodian has sent here for it, while this server knows of a newer one elsewhere: the
    /// custodian may know better, and if not, it will before long and then sends all that is open to the newer one. What was
    /// stored meanwhile may be older, and cannot be read before the way is known to have ended.
    pub(super) fn stands_in(&self, cost: usize) -> bool {
        let moving = self.newest_moving().map(|at| &self.edges[at].outbox);
        let reads_first = self.appending > 0 || self.elsewhere.missed.is_some();
        matches!(self.mode, Mode::Live) && !reads_first && moving.is_some_and(|outbox| outbox.has_room(cost))
    }

    /// The server abroad answers for what was sent there as `number`. What has been taken back since is not waited for.
    /// `next`: another place than that, which may serve, and is asked for where the device has left that one.
    pub fn fated(
        &mut self,
        number: u32,
        fate: Fate,
        next: impl FnOnce(&Self) -> Option<Place>,
        now: Millis,
        out: &mut Effects<T>,
    ) {
        let Some(way) = &mut self.elsewhere.way else { return };
        match fate {
            Fate::Settled(Outcome::Failed) => {
                // It can store nothing; perhaps this server can. What is open beside it would overtake it, or is older.
                if way.at(number).is_some() {
                    let open = self.take_back_abroad();
                    self.append_all(open, Why::Behind, now, out);
                }
            }
            Fate::Settled(outcome) => {
                let Some(item) = way.remove(number) else { return };
                self.settle(item, outcome, out);
            }
            Fate::Elsewhere => {
                if way.at(number).is_none() {
                    return;
                }
                self.elsewhere.denied.retain(|(_, at)| now.since(*at) < DENIED_MS);
                self.elsewhere.denied.push((way.place.clone(), now));
                let open = self.take_back_abroad();
                match next(self) {
                    Some(place) => self.go_abroad(place, open, now, out),
                    None => self.come_back(open, now, out),
                }
            }
        }
    }

    /// Who waits for what was sent abroad as `number`, and as whom it knows the recipient.
    pub fn waits_abroad(&self, number: u32) -> Option<(&T, Option<&NodeId>)> {
        let way = self.elsewhere.way.as_ref()?;
        let (_, item) = way.open.get(way.at(number)?)?;
        item.ticket.as_ref().map(|ticket| (ticket, item.shown.as_ref()))
    }

    /// A custodian has stored something up to `known` before what it sends now: that is read first.
    pub fn hinted(&mut self, known: Seq, out: &mut Effects<T>) {
        let auto = self.edges.last().is_some_and(|edge| edge.options.replay == Replay::Auto);
        if auto && known > self.highest {
            // The home says so too, but of each one by itself, and perhaps later.
            self.stored_elsewhere(self.highest.next(), out);
            self.highest = known;
        }
    }

    /// The home of the inbox is back, and what lies there has not been read by whoever replays it.
    pub fn home_is_back(&mut self, out: &mut Effects<T>) {
        let auto = self.edges.last().is_some_and(|edge| edge.options.replay == Replay::Auto);
        if auto && !self.is_abroad() {
            self.catch_up_from(Seq(1));
            self.pump(out);
        }
    }
}

impl<T> Item<T> {
    /// The item as it goes to another server.
    pub fn carried(&self, now: Millis) -> Carried {
        Carried {
            encoded: self.encoded.clone(),
            key: self.key,
            seq: self.seq,
            class: self.class,
            ttl: self.expires.map(|at| at.since(now)),
            keep: self.keep.clone(),
        }
    }
}
