//! The lane of one device: every envelope for the device goes through it, and it says what becomes of each.
//!
//! Owns the device's edges with their outboxes, the way to its inbox, and the memory of what it has been given. The rules
//! are those of the delivery promise (DESIGN 5, 2-7). Invariants:
//! - newest edge first: envelopes go to the newest edge that is moving; the older ones stand by;
//! - while the lane catches up, everything new goes to the inbox and is read back from there, so that nothing overtakes;
//!   no outbox then holds a reliable envelope that is not in the inbox;
//! - every item that is offered is settled once, by the lane or by the inbox it was appended to.
//!
//! It has no clock and does nothing itself: it returns [`Effect`]s in the order in which they must happen.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::codes::Close;
use super::custody::Outcome;
use super::envelope::Encoded;
use super::heartbeat::{Beat, Heartbeat};
use super::ids::{ConnectionId, EnvelopeId, Millis, NodeId, Seq};
use super::outbox::{Acked, Acks, Class, Item, Keep, Outbox};
use super::seen::{Fate, Key, Seen};

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
}

/// Why an envelope goes to the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The device has no edge.
    Absent,
    /// Its edges make no progress.
    Stalled,
    /// Its outbox is full.
    Overflow,
    /// Older ones are in the inbox already.
    Behind,
}

impl Why {
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Stalled => "stalled",
            Self::Overflow => "overflow",
            Self::Behind => "behind",
        }
    }

    /// Whether the device is to be woken, and the sender told that it is away.
    pub fn is_away(self) -> bool {
        matches!(self, Self::Absent | Self::Stalled)
    }
}

/// What the shell does next.
#[derive(Debug)]
pub enum Effect<T> {
    /// The edge has something to write.
    Wake(ConnectionId),
    /// Into the inbox; answered by [`Lane::appended`].
    Append(Item<T>, Why),
    /// Tell the sender.
    Settle {
        ticket: T,
        shown: Option<NodeId>,
        outcome: Outcome,
    },
    /// An envelope has expired or was dropped, known by class, for the metrics.
    Count {
        class: Class,
        outcome: Outcome,
    },
    /// The same envelope came again.
    Duplicate,
    /// Read the inbox from `from` on, about `room` bytes; answered by [`Lane::page`].
    Read {
        from: Seq,
        room: usize,
        generation: u64,
    },
    /// This place of the inbox is acknowledged.
    Remove(Seq),
    Close(ConnectionId, Close),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Moving,
    /// No progress; nothing new until there is some.
    Stalled,
    /// Told to go; nothing new.
    Leaving,
}

#[derive(Debug)]
struct Edge<T> {
    connection: ConnectionId,
    outbox: Outbox<T>,
    options: Options,
    pace: Pace,
    heartbeat: Heartbeat,
}

#[derive(Debug)]
enum Mode {
    Live,
    /// `next`: what to read next, unknown until the inbox has answered the first append.
    CatchUp {
        next: Option<Seq>,
        reading: Reading,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Reading {
    No,
    Yes,
    /// More was stored since the reading began.
    Outdated,
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
    seen: Seen,
    /// Acknowledged late, while the inbox had not answered yet.
    laid: Vec<Arc<Keep>>,
    /// Grows when a page that is being read is no longer wanted.
    generation: u64,
    ping: EncodePing,
}

type Effects<T> = Vec<Effect<T>>;

impl<T> Lane<T> {
    pub fn new(ping: EncodePing) -> Self {
        Self {
            edges: Vec::new(),
            mode: Mode::Live,
            appending: 0,
            seen: Seen::default(),
            laid: Vec::new(),
            generation: 0,
            ping,
        }
    }

    pub fn is_attached(&self) -> bool {
        !self.edges.is_empty()
    }

    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.edges.iter().map(|edge| edge.connection)
    }

    /// Nothing would be lost by forgetting this lane.
    pub fn is_forgettable(&self) -> bool {
        self.edges.is_empty() && self.appending == 0 && self.seen.is_empty()
    }

    /// Bytes in all outboxes.
    pub fn bytes(&self) -> usize {
        self.edges.iter().map(|edge| edge.outbox.bytes()).sum()
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
            self.mode = Mode::Live;
            self.generation += 1;
        } else {
            self.send_again(items, now, out);
            self.pump(out);
        }
    }

    /// One envelope for this device.
    pub fn offer(&mut self, mut item: Item<T>, now: Millis, out: &mut Effects<T>) {
        if item.expires.is_some_and(|at| at <= now) {
            // Nothing is learnt about its like, which may have come in time.
            item.key = None;
            return self.settle(item, Outcome::Dropped, out);
        }
        if let Some(key) = item.key.filter(|_| item.class == Class::Reliable) {
            match self.seen.fate(key) {
                Some(Fate::Settled(outcome)) => {
                    out.push(Effect::Duplicate);
                    item.key = None;
                    return self.settle_repeat(item, outcome, out);
                }
                Some(Fate::Pending) => {
                    let waiting = self.edges.iter_mut().find_map(|edge| edge.outbox.find(key));
                    if let Some(first) = waiting {
                        out.push(Effect::Duplicate);
                        if first.repeats.len() >= MAX_REPEATS {
                            return self.settle_repeat(item, Outcome::Failed, out);
                        }
                        first.repeats.extend(item.ticket);
                        return;
                    }
                    // On its way into the inbox, which knows it: follow it there, to be answered after it.
                    return self.append(item, Why::Behind, now, out);
                }
                None if self.is_attached() => self.seen.insert(key, now),
                None => {}
            }
        }
        match item.class {
            Class::Reliable => self.offer_reliable(item, now, out),
            Class::Fast | Class::FastTracked => self.offer_fast(item, now, out),
        }
    }

    fn offer_reliable(&mut self, item: Item<T>, now: Millis, out: &mut Effects<T>) {
        if let Some(at) = self.newest_moving() {
            self.take_over(at, now, out);
        }
        let why = match self.newest_moving() {
            None if self.edges.is_empty() => Why::Absent,
            None => Why::Stalled,
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

    fn offer_fast(&mut self, item: Item<T>, now: Millis, out: &mut Effects<T>) {
        let catches_up = matches!(self.mode, Mode::CatchUp { .. });
        let newest = self.newest_moving().or_else(|| self.edges.iter().rposition(|edge| edge.pace == Pace::Stalled));
        if let Some(edge) = newest.map(|at| &mut self.edges[at]) {
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

    /// A pong with a counter.
    pub fn pong(&mut self, connection: ConnectionId, counter: u64, now: Millis, out: &mut Effects<T>) {
        let Some(at) = self.at(connection) else { return };
        let edge = &mut self.edges[at];
        let acks = edge.options.acks;
        let Some(acked) = edge.outbox.pong(counter, acks, now) else { return };
        if edge.outbox.wants_ping(acks) {
            out.push(Effect::Wake(connection));
        }
        let moves = acks == Acks::Transport || !edge.outbox.has_ghosts();
        self.acknowledged(at, acked, now, out);
        if moves {
            self.resume(at, now, out);
        }
    }

    /// An ACK frame for one envelope.
    pub fn ack(
        &mut self,
        connection: ConnectionId,
        sender: &NodeId,
        id: &EnvelopeId,
        now: Millis,
        out: &mut Effects<T>,
    ) {
        if let Some(at) = self.at(connection) {
            let acked = self.edges[at].outbox.ack(sender, id, now);
            self.acknowledged(at, acked, now, out);
        }
    }

    /// An ACK for the inbox up to `seq`; the caller trims the inbox itself.
    pub fn ack_to(&mut self, seq: Seq, now: Millis, out: &mut Effects<T>) {
        if let Mode::CatchUp { next: Some(next), .. } = &mut self.mode {
            *next = seq.next().max(*next);
        }
        for at in 0..self.edges.len() {
            let acked = self.edges[at].outbox.ack_to(seq, now);
            self.acknowledged(at, acked, now, out);
        }
    }

    fn acknowledged(&mut self, at: usize, acked: Acked<T>, now: Millis, out: &mut Effects<T>) {
        if acked.items.is_empty() && acked.ghosts.is_empty() {
            return;
        }
        for ghost in acked.ghosts {
            if let Some(key) = ghost.key() {
                self.seen.settle(key, Outcome::Delivered);
            }
            match ghost.seq {
                Some(seq) => out.push(Effect::Remove(seq)),
                None => self.laid.push(ghost.keep().clone()),
            }
        }
        for item in acked.items {
            if let Some(seq) = item.seq {
                out.push(Effect::Remove(seq));
            }
            self.settle(item, Outcome::Delivered, out);
        }
        self.resume(at, now, out);
        self.pump(out);
    }

    /// A stalled edge moves again. If it is the newest that does, it takes over what older ones have not acknowledged.
    fn resume(&mut self, at: usize, now: Millis, out: &mut Effects<T>) {
        if self.edges[at].pace != Pace::Stalled {
            return;
        }
        self.edges[at].pace = Pace::Moving;
        if self.newest_moving() == Some(at) {
            self.take_over(at, now, out);
        }
        self.pump(out);
    }

    /// Only the newest moving edge may hold reliable items, or what it is sent could overtake what the others hold.
    fn take_over(&mut self, by: usize, now: Millis, out: &mut Effects<T>) {
        let mut older = Vec::new();
        for at in (0..self.edges.len()).filter(|at| *at != by) {
            if self.edges[at].outbox.holds_tracked() {
                older.extend(self.take_back(at, out));
            }
        }
        self.send_again(older, now, out);
    }

    /// The inbox answers one [`Effect::Append`]: its place, or `None` when it could not be stored. The inbox has told the
    /// sender itself.
    pub fn appended(&mut self, key: Option<Key>, keep: &Arc<Keep>, seq: Option<Seq>, out: &mut Effects<T>) {
        self.appending = self.appending.saturating_sub(1);
        if let Some(key) = key {
            self.seen.settle(key, if seq.is_some() { Outcome::Stored } else { Outcome::Failed });
        }
        let laid = self.laid.iter().position(|of| Arc::ptr_eq(of, keep)).map(|at| self.laid.swap_remove(at)).is_some();
        match seq {
            Some(seq) => {
                if self.is_attached() {
                    self.edges.iter_mut().any(|edge| edge.outbox.name_ghost(keep, seq));
                    self.stored(seq);
                }
                if laid {
                    out.push(Effect::Remove(seq));
                }
            }
            None => self.edges.iter_mut().for_each(|edge| edge.outbox.drop_ghost(keep)),
        }
        if self.appending == 0 && matches!(self.mode, Mode::CatchUp { next: None, .. }) {
            self.mode = Mode::Live;
        }
        self.pump(out);
    }

    /// The inbox has stored something that did not come from this lane.
    pub fn stored_elsewhere(&mut self, seq: Seq, out: &mut Effects<T>) {
        if self.is_attached() {
            self.stored(seq);
            self.pump(out);
        }
    }

    /// Something is in the inbox that the newest edge has not been sent.
    fn stored(&mut self, seq: Seq) {
        match &mut self.mode {
            Mode::Live => self.catch_up_from(seq),
            Mode::CatchUp { next, reading } => {
                next.get_or_insert(seq);
                if *reading == Reading::Yes {
                    *reading = Reading::Outdated;
                }
            }
        }
    }

    /// The inbox answers one [`Effect::Read`] with what it has from there on, in order.
    pub fn page(&mut self, generation: u64, items: Vec<Item<T>>, end: End, now: Millis, out: &mut Effects<T>) {
        if generation != self.generation {
            return;
        }
        let Mode::CatchUp { next, reading } = &mut self.mode else { return };
        let outdated = std::mem::replace(reading, Reading::No) == Reading::Outdated;
        let Some(at) = self.newest_moving() else { return };
        self.take_over(at, now, out);
        let Mode::CatchUp { next, .. } = &mut self.mode else { return };
        if generation != self.generation {
            return self.pump(out);
        }
        let edge = &mut self.edges[at];
        let mut whole = true;
        let mut pushed = false;
        for item in items {
            let Some(seq) = item.seq.filter(|seq| next.is_some_and(|next| *seq >= next)) else { continue };
            // The first was asked for when there was room, and not to take it would be to ask for it again at once.
            if pushed && !edge.outbox.has_room_for_replay(item.cost()) {
                whole = false;
                break;
            }
            *next = Some(seq.next());
            if item.key.is_some_and(|key| self.seen.fate(key) == Some(Fate::Settled(Outcome::Delivered))) {
                // The device has it from another time it was sent.
                out.push(Effect::Remove(seq));
                continue;
            }
            if let Some(key) = item.key {
                self.seen.insert(key, now);
            }
            edge.outbox.push(item, now);
            pushed = true;
        }
        out.push(Effect::Wake(edge.connection));
        match end {
            End::Reached if whole && !outdated && self.appending == 0 => self.mode = Mode::Live,
            // The answer of the append will tell where to read on.
            End::Reached if whole && !outdated => {}
            _ => self.pump(out),
        }
    }

    /// Once a second or so: heartbeats, stalls, forgetting.
    pub fn tick(&mut self, now: Millis, out: &mut Effects<T>) {
        self.seen.expire(now);
        for at in (0..self.edges.len()).rev() {
            let edge = &mut self.edges[at];
            match edge.heartbeat.beat(now) {
                Beat::Ping => {
                    edge.outbox.ping(self.ping);
                    out.push(Effect::Wake(edge.connection));
                }
                Beat::Dead => out.push(Effect::Close(edge.connection, Close::SILENT)),
                Beat::Wait => {}
            }
            if edge.pace != Pace::Stalled && edge.outbox.waited(now) >= STALL_MS {
                self.stall(at, now, out);
            }
            self.probe(at, out);
        }
    }

    /// A stalled edge that has nothing left to acknowledge is asked for a sign of life, or it would never move again.
    fn probe(&mut self, at: usize, out: &mut Effects<T>) {
        let edge = &mut self.edges[at];
        let open = edge.options.acks == Acks::Application && edge.outbox.has_ghosts();
        if edge.pace == Pace::Stalled && !open && !edge.outbox.is_pinged() {
            edge.outbox.ping(self.ping);
            out.push(Effect::Wake(edge.connection));
        }
    }

    fn stall(&mut self, at: usize, now: Millis, out: &mut Effects<T>) {
        if self.edges[at].pace == Pace::Moving {
            self.edges[at].pace = Pace::Stalled;
        }
        if self.newest_moving().is_some() {
            let items = self.take_back(at, out);
            self.send_again(items, now, out);
        } else {
            self.divert(at, Why::Stalled, now, out);
        }
        self.pump(out);
    }

    /// Everything of an edge that lives on goes to the inbox, before anything newer does.
    fn divert(&mut self, at: usize, why: Why, now: Millis, out: &mut Effects<T>) {
        let outbox = &mut self.edges[at].outbox;
        let lowest = outbox.lowest_waiting();
        let items = outbox.take_back_leaving_ghosts();
        self.rewind_to(lowest);
        let items = self.leave_stored(items, out);
        self.append_all(items, why, now, out);
    }

    /// The edge is to go: it gets nothing new, but may still acknowledge what it has.
    pub fn leave(&mut self, connection: ConnectionId) {
        if let Some(at) = self.at(connection) {
            self.edges[at].pace = Pace::Leaving;
        }
    }

    /// Whether nothing waits for this edge or for its acknowledgement.
    pub fn is_idle(&self, connection: ConnectionId) -> bool {
        self.at(connection).is_none_or(|at| self.edges[at].outbox.is_idle())
    }

    fn at(&self, connection: ConnectionId) -> Option<usize> {
        self.edges.iter().position(|edge| edge.connection == connection)
    }

    fn newest_moving(&self) -> Option<usize> {
        newest_moving(&self.edges)
    }

    /// What is on its way into the inbox must be read back from there before anything newer is sent.
    fn fall_behind(&mut self) {
        self.mode = Mode::CatchUp { next: None, reading: Reading::No };
        self.generation += 1;
    }

    fn catch_up_from(&mut self, seq: Seq) {
        self.mode = Mode::CatchUp { next: Some(seq), reading: Reading::No };
        self.generation += 1;
    }

    /// Nothing of edge `at` is acknowledged any more: what it has from the inbox is read again.
    fn rewind(&mut self, at: usize) {
        let outbox = &mut self.edges[at].outbox;
        let lowest = outbox.exorcise().into_iter().chain(outbox.lowest_open()).min();
        self.rewind_to(lowest);
    }

    /// What edges other than `at` were written and never acknowledged is read again for this one; their acknowledgement
    /// would come too late to spare that.
    fn exorcise_others(&mut self, at: usize) {
        for other in (0..self.edges.len()).filter(|other| *other != at) {
            let lowest = self.edges[other].outbox.exorcise();
            self.rewind_to(lowest);
        }
    }

    fn rewind_to(&mut self, lowest: Option<Seq>) {
        let Some(lowest) = lowest else { return };
        let next = match &self.mode {
            Mode::CatchUp { next: Some(next), .. } => lowest.min(*next),
            _ => lowest,
        };
        self.catch_up_from(next);
    }

    /// What edge `at` has not acknowledged and the inbox does not have, in order.
    fn take_back(&mut self, at: usize, out: &mut Effects<T>) -> Vec<Item<T>> {
        self.rewind(at);
        let items = self.edges[at].outbox.take_back();
        self.leave_stored(items, out)
    }

    fn take_back_all(&mut self, out: &mut Effects<T>) -> Vec<Item<T>> {
        (0..self.edges.len()).flat_map(|at| self.take_back(at, out)).collect()
    }

    /// Items that are in the inbox already stay there alone, and those who wait for them are told so. Returns the others.
    fn leave_stored(&mut self, items: Vec<Item<T>>, out: &mut Effects<T>) -> Vec<Item<T>> {
        let (stored, others): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.seq.is_some());
        for item in stored {
            if let Some(key) = item.key {
                self.seen.settle(key, Outcome::Stored);
            }
            self.settle_repeat(item, Outcome::Stored, out);
        }
        others
    }

    /// What another edge has not acknowledged, on the edge that is now the newest, before anything newer. While that one
    /// catches up, what the inbox has is older: then reliable ones follow there.
    fn send_again(&mut self, items: Vec<Item<T>>, now: Millis, out: &mut Effects<T>) {
        let Some(at) = self.newest_moving() else { return self.append_all(items, Why::Stalled, now, out) };
        if items.is_empty() {
            return;
        }
        let behind = matches!(self.mode, Mode::CatchUp { .. });
        let (later, at_once): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| behind && item.class == Class::Reliable);
        let edge = &mut self.edges[at];
        for item in at_once {
            edge.outbox.push(item, now);
        }
        out.push(Effect::Wake(edge.connection));
        self.append_all(later, Why::Behind, now, out);
    }

    /// Fast ones are dropped.
    fn append_all(&mut self, items: Vec<Item<T>>, why: Why, now: Millis, out: &mut Effects<T>) {
        for item in items {
            let expired = item.expires.is_some_and(|at| at <= now);
            match item.class {
                Class::Reliable if !expired => self.append_behind(item, why, out),
                _ => {
                    self.edges.iter_mut().for_each(|edge| edge.outbox.drop_ghost(&item.keep));
                    self.settle(item, Outcome::Dropped, out);
                }
            }
        }
    }

    /// Into the inbox, and before it whatever edges have under way that is not there: it is older.
    fn append(&mut self, item: Item<T>, why: Why, now: Millis, out: &mut Effects<T>) {
        for at in 0..self.edges.len() {
            if self.edges[at].outbox.holds_unstored() {
                self.divert(at, why, now, out);
            }
        }
        self.append_behind(item, why, out);
    }

    fn append_behind(&mut self, item: Item<T>, why: Why, out: &mut Effects<T>) {
        if matches!(self.mode, Mode::Live) && !self.edges.is_empty() {
            self.fall_behind();
        }
        self.appending += 1;
        out.push(Effect::Append(item, why));
    }

    /// Reads on, if the lane catches up and the newest edge has room and has acknowledged what went astray.
    fn pump(&mut self, out: &mut Effects<T>) {
        let Mode::CatchUp { next: Some(_), .. } = self.mode else { return };
        let Some(at) = self.newest_moving() else { return };
        self.exorcise_others(at);
        let Mode::CatchUp { next: Some(next), reading } = &mut self.mode else { return };
        let outbox = &self.edges[at].outbox;
        let room = outbox.replay_room();
        let settled = self.laid.is_empty() && !outbox.has_ghosts();
        if *reading != Reading::No || room == 0 || !settled {
            return;
        }
        *reading = Reading::Yes;
        out.push(Effect::Read { from: *next, room, generation: self.generation });
    }

    fn settle(&mut self, item: Item<T>, outcome: Outcome, out: &mut Effects<T>) {
        out.push(Effect::Count { class: item.class, outcome });
        if let Some(key) = item.key.filter(|_| item.class == Class::Reliable) {
            self.seen.settle(key, outcome);
        }
        self.settle_repeat(item, outcome, out);
    }

    fn settle_repeat(&mut self, item: Item<T>, outcome: Outcome, out: &mut Effects<T>) {
        for ticket in item.ticket.into_iter().chain(item.repeats) {
            out.push(Effect::Settle { ticket, shown: item.shown.clone(), outcome });
        }
    }
}

fn newest_moving<T>(edges: &[Edge<T>]) -> Option<usize> {
    edges.iter().rposition(|edge| edge.pace == Pace::Moving)
}

/// Whether a page reaches the inbox's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Reached,
    More,
}

/// Whether a frame of the server's own found room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Queued,
    Refused,
}

#[cfg(test)]
mod tests;
