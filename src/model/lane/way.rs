//! Which edge serves: the newest that moves; and how what another holds comes to it.
//!
//! Invariant: when an envelope is pushed, only the edge that receives it holds reliable ones.

use super::super::codes::Close;
use super::super::custody::Outcome;
use super::super::heartbeat::{Beat, Heartbeat};
use super::super::ids::{ConnectionId, Millis};
use super::super::outbox::{Acks, Class, Item, Outbox};
use super::catch_up::Mode;
use super::effect::Effects;
use super::{Effect, Lane, Options, Place, STALL_MS, Why};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Moving,
    /// No progress; nothing new until there is some.
    Stalled,
    /// Told to go; nothing new.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Edge<T> {
    pub(super) connection: ConnectionId,
    pub(super) outbox: Outbox<T>,
    pub(super) options: Options,
    pub(super) pace: Pace,
    pub(super) heartbeat: Heartbeat,
}

impl<T> Lane<T> {
    /// Once a second or so: heartbeats, stalls, forgetting. `next`: the newest place elsewhere that may serve, which is asked
    /// for when an edge stalls.
    pub fn tick(&mut self, next: impl Fn(&Self) -> Option<Place>, now: Millis, out: &mut Effects<T>) {
        self.seen.expire(now);
        self.loans.expire(now);
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
                self.stall(at, &next, now, out);
            }
            self.probe(at, out);
        }
        self.read_again();
        self.pump(out);
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

    fn stall(&mut self, at: usize, next: impl Fn(&Self) -> Option<Place>, now: Millis, out: &mut Effects<T>) {
        if self.edges[at].pace == Pace::Moving {
            self.set_pace(at, Pace::Stalled, out);
        }
        if let Some(place) = next(self) {
            self.hand_over(place, now, out);
        } else if self.newest_moving().is_some() {
            let items = self.take_back(at, out);
            self.send_again(items, now, out);
        } else {
            self.divert(at, Why::Stalled, now, out);
        }
        self.pump(out);
    }

    /// A stalled edge moves again. If it is the newest that does, it takes over what older ones have not acknowledged.
    pub(super) fn resume(&mut self, at: usize, now: Millis, out: &mut Effects<T>) {
        if self.edges[at].pace != Pace::Stalled {
            return;
        }
        self.set_pace(at, Pace::Moving, out);
        if self.newest_moving() == Some(at) {
            self.take_over(at, now, out);
        }
        self.pump(out);
    }

    fn set_pace(&mut self, at: usize, pace: Pace, out: &mut Effects<T>) {
        let before = self.number();
        self.edges[at].pace = pace;
        if self.number() != before {
            out.push(Effect::Renumbered);
        }
    }

    /// Only the newest moving edge may hold reliable items, or what it is sent could overtake what the others hold.
    pub(super) fn take_over(&mut self, by: usize, now: Millis, out: &mut Effects<T>) {
        let mut older = Vec::new();
        for at in (0..self.edges.len()).filter(|at| *at != by) {
            if self.edges[at].outbox.holds_tracked() {
                older.extend(self.take_back(at, out));
            }
        }
        self.send_again(older, now, out);
    }

    /// What edge `at` has not acknowledged and the inbox does not have, in order.
    pub(super) fn take_back(&mut self, at: usize, out: &mut Effects<T>) -> Vec<Item<T>> {
        self.rewind(at);
        let items = self.edges[at].outbox.take_back();
        self.leave_stored(items, out)
    }

    pub(super) fn take_back_all(&mut self, out: &mut Effects<T>) -> Vec<Item<T>> {
        (0..self.edges.len()).flat_map(|at| self.take_back(at, out)).collect()
    }

    /// Items that are in the inbox already stay there alone, and those who wait for them are told so. Returns the others.
    fn leave_stored(&mut self, items: Vec<Item<T>>, out: &mut Effects<T>) -> Vec<Item<T>> {
        let (stored, others): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.seq.is_some());
        for item in stored {
            if let Some(key) = item.key {
                self.seen.settle(key, Outcome::Stored);
            }
            Self::settle_repeat(item, Outcome::Stored, out);
        }
        others
    }

    /// What another edge has not acknowledged, on the edge that is now the newest, before anything newer. While that one
    /// catches up, what the inbox has is older: then reliable ones follow there.
    pub(super) fn send_again(&mut self, items: Vec<Item<T>>, now: Millis, out: &mut Effects<T>) {
        let Some(at) = self.newest_moving() else { return self.append_all(items, Why::Stalled, now, out) };
        if items.is_empty() {
            return;
        }
        let behind = matches!(self.mode, Mode::CatchUp { .. });
        let (later, at_once): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| behind && item.class == Class::Reliable);
        let edge = &mut self.edges[at];
        for item in at_once {
            if let Some(older) = edge.outbox.push_again(item, now) {
                Self::replaced(older, out);
            }
        }
        out.push(Effect::Wake(edge.connection));
        self.append_all(later, Why::Behind, now, out);
    }

    /// Everything of an edge that lives on goes to the inbox, before anything newer does.
    pub(super) fn divert(&mut self, at: usize, why: Why, now: Millis, out: &mut Effects<T>) {
        let outbox = &mut self.edges[at].outbox;
        let lowest = outbox.lowest_waiting();
        let items = outbox.take_back_leaving_ghosts();
        self.rewind_to(lowest);
        let items = self.leave_stored(items, out);
        self.append_all(items, why, now, out);
    }

    pub(super) fn newest_moving(&self) -> Option<usize> {
        self.edges.iter().rposition(|edge| edge.pace == Pace::Moving)
    }
}
