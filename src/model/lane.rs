//! The lane of one device: every envelope for the device goes through it, and it says what becomes of each.
//!
//! Owns the device's edges with their outboxes, the way to its inbox, and the memory of what it has been given. The rules
//! are those of the delivery promise (DESIGN 5, 2-7). Invariants:
//! - newest edge first: envelopes go to the newest edge that is moving; the older ones stand by;
//! - while the lane catches up, everything new goes to the inbox and is read back from there, so that nothing overtakes;
//!   before anything is appended, what outboxes hold and the inbox does not is appended;
//! - of all edges only the newest moving one is sent reliable envelopes, and it has taken over what the others held;
//! - every item that is offered is settled once, by the lane or by the inbox it was appended to.
//!
//! It has no clock and does nothing itself: it returns [`Effect`]s in the order in which they must happen.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::custody::Outcome;
use super::envelope::Encoded;
use super::heartbeat::Heartbeat;
use super::ids::{ConnectionId, Millis, Seq};
use super::outbox::{Acks, Class, Custody, Item, Keep, Outbox, Refreshed};
use super::seen::{Fate, Seen};

mod abroad;
mod acknowledge;
mod catch_up;
mod effect;
mod loans;
#[cfg(test)]
mod tests;
mod trace;
mod way;

use self::abroad::Elsewhere;
use self::catch_up::Mode;
use self::effect::Effects;
use self::loans::Loans;
use self::way::{Edge, Pace};

pub use self::abroad::Place;
pub use self::catch_up::{End, Kept};
pub use self::effect::{Effect, Why};
pub use self::trace::{EdgeState, LaneState, Sighting};

/// Without progress for this long, what an edge has not acknowledged goes another way, in milliseconds.
pub const STALL_MS: u64 = 10_000;

/// Most repetitions of one envelope that wait for its outcome; who repeats it more often is told that it failed.
pub const MAX_REPEATS: usize = 16;

/// What an edge is told to do with the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// `inbox=auto`: replayed before anything newer.
    Auto,
    /// Fetched by the device; only what is stored while it is attached is sent.
    Manual,
}

/// How an edge wants to be served.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub acks: Acks,
    pub replay: Replay,
    /// Bound of its outbox in bytes.
    pub limit: usize,
    /// Of its attachment, not 0: of a device's moving edges at several servers that with the highest serves.
    pub number: u64,
}

/// Whether a frame of the server's own found room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Queued,
    Refused,
}

/// How frames of the wire are made; the model does not know the wire.
pub type EncodePing = fn(u64) -> Bytes;

/// See the module's header.
#[derive(Debug)]
pub struct Lane<T> {
    edges: Vec<Edge<T>>,
    mode: Mode,
    /// Appends that the inbox has not answered.
    appending: usize,
    /// The inbox has given back what was appended, and is expected to do so with the rest.
    gives_back: bool,
    seen: Seen,
    /// Acknowledged late, while the inbox had not answered yet.
    laid: Vec<Arc<Keep>>,
    /// The highest place in the inbox that this lane has heard of.
    highest: Seq,
    /// Grows when a page that is being read is no longer wanted.
    generation: u64,
    elsewhere: Elsewhere<T>,
    loans: Loans,
    /// Bound in bytes of what is open abroad, before [`abroad`]'s factor.
    limit: usize,
    ping: EncodePing,
}

impl<T> Lane<T> {
    /// `limit` bounds, in bytes, what may be under way to an edge of this device at another server.
    pub fn new(ping: EncodePing, limit: usize) -> Self {
        Self {
            edges: Vec::new(),
            mode: Mode::Live,
            appending: 0,
            gives_back: false,
            seen: Seen::default(),
            laid: Vec::new(),
            highest: Seq(0),
            generation: 0,
            elsewhere: Elsewhere::default(),
            loans: Loans::default(),
            limit,
            ping,
        }
    }

    pub fn is_attached(&self) -> bool {
        !self.edges.is_empty()
    }

    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.edges.iter().map(|edge| edge.connection)
    }

    /// The highest of all its edges' attachments.
    pub fn highest_number(&self) -> Option<u64> {
        self.edges.last().map(|edge| edge.options.number)
    }

    /// Under which the device is listed here: that of the newest moving edge's attachment, or 0 while none moves, so that
    /// whatever moves elsewhere serves. It goes by nothing but the edges here, or two servers could keep changing each
    /// other's mind.
    pub fn number(&self) -> Option<u64> {
        let moving = self.newest_moving().map_or(0, |at| self.edges[at].options.number);
        self.is_attached().then_some(moving)
    }

    /// Nothing would be lost by forgetting this lane.
    pub fn is_forgettable(&self) -> bool {
        self.edges.is_empty()
            && self.appending == 0
            && self.seen.is_empty()
            && self.elsewhere.is_idle()
            && self.loans.is_empty()
    }

    /// Bytes in all outboxes, and open at other servers.
    pub fn bytes(&self) -> usize {
        self.edges.iter().map(|edge| edge.outbox.bytes()).sum::<usize>() + self.elsewhere.bytes()
    }

    /// A new edge, the newest from now on. What the edge before it has not acknowledged is sent again on this one.
    pub fn attach(&mut self, connection: ConnectionId, options: Options, now: Millis, out: &mut Effects<T>) {
        let replayed = self.edges.last().is_some_and(|edge| edge.options.replay == Replay::Auto);
        let edge = Edge {
            connection,
            outbox: Outbox::new(options.limit),
            options,
            pace: Pace::Moving,
            heartbeat: Heartbeat::new(now),
        };
        let older = self.take_back_all(out);
        // One edge is the rule, and an idle device is to be small.
        self.edges.reserve_exact(1);
        self.edges.push(edge);
        if options.replay == Replay::Auto && !replayed {
            self.catch_up_from(Seq(1));
        } else if self.appending > 0 && matches!(self.mode, Mode::Live) {
            self.fall_behind();
        }
        self.send_again(older, now, out);
        self.pump(out);
    }

    /// The edge is gone: what it has not acknowledged goes to another edge, else to the inbox.
    pub fn detach(&mut self, connection: ConnectionId, now: Millis, out: &mut Effects<T>) {
        let Some(at) = self.at(connection) else { return };
        let items = self.take_back(at, out);
        self.edges.remove(at);
        if self.edges.is_empty() {
            self.append_all(items, Why::Absent, now, out);
            self.forget_inbox();
        } else {
            self.send_again(items, now, out);
            self.pump(out);
        }
    }

    /// One envelope for this device.
    pub fn offer(&mut self, item: Item<T>, now: Millis, out: &mut Effects<T>) {
        let Some(item) = self.admit(item, now, out) else { return };
        // What is lent and was admitted is for an edge here.
        if self.is_abroad() && item.custody == Custody::Own {
            return self.send_abroad(item, now, out);
        }
        match item.class {
            Class::Reliable => self.offer_reliable(item, now, out),
            Class::Fast | Class::FastTracked => self.offer_fast(item, now, out),
        }
    }

    /// One envelope that is to go through the inbox wherever the device is: others that lie on the way there are older.
    pub fn offer_behind(&mut self, item: Item<T>, now: Millis, out: &mut Effects<T>) {
        if let Some(item) = self.admit(item, now, out) {
            self.append(item, Why::Behind, now, out);
        }
    }

    /// The item, unless it is settled or waits for another one of its like.
    fn admit(&mut self, item: Item<T>, now: Millis, out: &mut Effects<T>) -> Option<Item<T>> {
        let mut item = self.borrow(item, now, out)?;
        if item.expires.is_some_and(|at| at <= now) {
            // Nothing is learnt about its like, which may have come in time.
            item.key = None;
            self.settle(item, Outcome::Dropped, out);
            return None;
        }
        let Some(key) = item.key.filter(|_| item.class == Class::Reliable) else { return Some(item) };
        match self.seen.fate(key) {
            Some(Fate::Settled(outcome)) => {
                out.push(Effect::Duplicate);
                item.key = None;
                Self::settle_repeat(item, outcome, out);
                return None;
            }
            Some(Fate::Pending) => {
                let here = self.edges.iter_mut().find_map(|edge| edge.outbox.find(key));
                let waiting = if here.is_some() { here } else { self.elsewhere.find(key) };
                if let Some(first) = waiting {
                    out.push(Effect::Duplicate);
                    if first.repeats.len() >= MAX_REPEATS {
                        Self::settle_repeat(item, Outcome::Failed, out);
                    } else {
                        first.repeats.extend(item.ticket);
                    }
                } else if item.custody != Custody::Own && self.is_abroad() {
                    self.send_home(item, now, out);
                } else {
                    // On its way into the inbox, which knows it: follow it there, to be answered after it.
                    self.append(item, Why::Behind, now, out);
                }
                return None;
            }
            None if self.is_attached() || self.is_abroad() => self.seen.insert(key, now),
            None => {}
        }
        Some(item)
    }

    fn offer_reliable(&mut self, item: Item<T>, now: Millis, out: &mut Effects<T>) {
        if let Some(at) = self.newest_moving() {
            self.take_over(at, now, out);
        }
        let why = match self.newest_moving() {
            None if self.edges.is_empty() => Why::Absent,
            None => Why::Silent,
            Some(_) if matches!(self.mode, Mode::CatchUp { .. }) => Why::Behind,
            Some(at) if !self.edges[at].outbox.has_room(item.cost()) => Why::Overflow,
            Some(at) => {
                let edge = &mut self.edges[at];
                edge.outbox.push(item, now);
                out.push(Effect::Wake(edge.connection));
                return;
            }
        };
        self.append(item, why, now, out);
    }

    fn offer_fast(&mut self, mut item: Item<T>, now: Millis, out: &mut Effects<T>) {
        let catches_up = matches!(self.mode, Mode::CatchUp { .. });
        let newest = self.newest_moving().or_else(|| self.edges.iter().rposition(|edge| edge.pace == Pace::Stalled));
        if let Some(edge) = newest.map(|at| &mut self.edges[at]) {
            item = match edge.outbox.refresh(item, now) {
                // Its writer knows already that something waits.
                Refreshed::Replaced(older) => return Self::replaced(older, out),
                Refreshed::Not(item) => item,
            };
            // While the lane catches up, a flood of fast ones must leave room for what is replayed.
            let reserve = if catches_up { edge.outbox.replay_room() } else { 0 };
            if edge.outbox.has_room(item.cost() + reserve) {
                edge.outbox.push(item, now);
                return out.push(Effect::Wake(edge.connection));
            }
        }
        self.settle(item, Outcome::Dropped, out);
    }

    /// A frame of the server's own for this device: to the newest edge, memory only.
    pub fn notify(&mut self, frame: &Encoded, out: &mut Effects<T>) -> Delivery {
        let newest = self.newest_moving().or_else(|| self.edges.iter().rposition(|edge| !edge.outbox.has_ended()));
        let Some(edge) = newest.map(|at| &mut self.edges[at]) else { return Delivery::Refused };
        if !edge.outbox.push_notice(frame.frame().clone()) {
            return Delivery::Refused;
        }
        out.push(Effect::Wake(edge.connection));
        Delivery::Queued
    }

    /// As [`Self::notify`], to every edge: nobody knows which of them the device still reads, and one that nobody reads may be
    /// the newest. Refused when none takes it.
    pub fn notify_all(&mut self, frame: &Encoded, out: &mut Effects<T>) -> Delivery {
        let mut delivery = Delivery::Refused;
        for edge in self.edges.iter_mut().filter(|edge| !edge.outbox.has_ended()) {
            if edge.outbox.push_notice(frame.frame().clone()) {
                out.push(Effect::Wake(edge.connection));
                delivery = Delivery::Queued;
            }
        }
        delivery
    }

    /// The answer to something this edge has asked, behind what waits there. However large, it is taken by an edge that has
    /// read what came before.
    pub fn answer(&mut self, connection: ConnectionId, frame: &Encoded, out: &mut Effects<T>) -> Delivery {
        let Some(edge) = self.at(connection).map(|at| &mut self.edges[at]) else { return Delivery::Refused };
        let frame = frame.frame();
        if !edge.outbox.push_notice(frame.clone()) {
            return Delivery::Refused;
        }
        out.push(Effect::Wake(connection));
        Delivery::Queued
    }

    /// A frame of the server's own for this edge, before all else that waits there: an answer or an error.
    pub fn control(&mut self, connection: ConnectionId, frame: Bytes, out: &mut Effects<T>) -> Delivery {
        let Some(at) = self.at(connection) else { return Delivery::Refused };
        if !self.edges[at].outbox.push_control(frame) {
            return Delivery::Refused;
        }
        out.push(Effect::Wake(connection));
        Delivery::Queued
    }

    /// Nothing new for this edge; `frame` closes it once all that waits there is written.
    pub fn end(&mut self, connection: ConnectionId, frame: Bytes, out: &mut Effects<T>) {
        if let Some(at) = self.at(connection) {
            self.edges[at].pace = Pace::Leaving;
            self.edges[at].outbox.end(frame);
            out.push(Effect::Wake(connection));
        }
    }

    /// Whether the edge's close frame has been taken, or the edge is gone.
    pub fn has_ended(&self, connection: ConnectionId) -> bool {
        self.at(connection).is_none_or(|at| self.edges[at].outbox.has_ended())
    }

    /// What the edge may write next: whole frames, about `budget` bytes. How many untracked envelopes are among them.
    pub fn take(
        &mut self,
        connection: ConnectionId,
        budget: usize,
        now: Millis,
        batch: &mut VecDeque<Bytes>,
        out: &mut Effects<T>,
    ) -> u64 {
        let Some(at) = self.at(connection) else { return 0 };
        let mut expired = Vec::new();
        let edge = &mut self.edges[at];
        let untracked = edge.outbox.take(budget, now, batch, &mut expired, edge.options.acks, self.ping);
        if edge.outbox.promise_ping(edge.options.acks) {
            out.push(Effect::AskLater(connection));
        }
        for item in expired {
            if let Some(seq) = item.seq {
                out.push(Effect::Remove(seq));
            }
            self.settle(item, Outcome::Dropped, out);
        }
        self.pump(out);
        untracked
    }

    /// Something came from this edge: it lives.
    pub fn received(&mut self, connection: ConnectionId, now: Millis) {
        if let Some(at) = self.at(connection) {
            self.edges[at].heartbeat.received(now);
        }
    }

    /// The edge is to go: it gets nothing new, but may still acknowledge what it has.
    pub fn leave(&mut self, connection: ConnectionId) {
        if let Some(at) = self.at(connection) {
            self.edges[at].pace = Pace::Leaving;
        }
    }

    fn at(&self, connection: ConnectionId) -> Option<usize> {
        self.edges.iter().position(|edge| edge.connection == connection)
    }
}
