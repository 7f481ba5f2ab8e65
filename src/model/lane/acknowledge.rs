//! Acknowledgements: what they settle, and what they take out of the inbox again.

use super::super::custody::Outcome;
use super::super::ids::{ConnectionId, EnvelopeId, Millis, NodeId, Seq};
use super::super::outbox::{Acked, Acks, Class, Item};
use super::catch_up::Mode;
use super::effect::Effects;
use super::{Effect, Lane};

impl<T> Lane<T> {
    /// A pong with a counter.
    pub fn pong(&mut self, connection: ConnectionId, counter: u64, now: Millis, out: &mut Effects<T>) {
        let Some(at) = self.at(connection) else { return };
        let edge = &mut self.edges[at];
        let acks = edge.options.acks;
        let Some(acked) = edge.outbox.pong(counter, acks, now) else { return };
        if edge.outbox.wants_ping(acks) {
            out.push(Effect::Wake(connection));
        } else if edge.outbox.promise_ping(acks) {
            out.push(Effect::AskLater(connection));
        }
        let moves = acks == Acks::Transport || !edge.outbox.has_ghosts();
        self.acknowledged(at, acked, now, out);
        if moves {
            self.resume(at, now, out);
        }
    }

    /// A little after [`Effect::AskLater`].
    pub fn ask_now(&mut self, connection: ConnectionId, out: &mut Effects<T>) {
        if let Some(at) = self.at(connection) {
            self.edges[at].outbox.fall_due();
            out.push(Effect::Wake(connection));
        }
    }

    /// An ACK frame for one envelope. False when no such envelope is open here: it may be one that was fetched.
    pub fn ack(
        &mut self,
        connection: ConnectionId,
        sender: &NodeId,
        id: &EnvelopeId,
        now: Millis,
        out: &mut Effects<T>,
    ) -> bool {
        let Some(at) = self.at(connection) else { return false };
        let acked = self.edges[at].outbox.ack(sender, id, now);
        let known = !acked.items.is_empty() || !acked.ghosts.is_empty();
        self.acknowledged(at, acked, now, out);
        known
    }

    /// An ACK for the inbox up to `seq`; the caller trims the inbox itself.
    pub fn ack_to(&mut self, seq: Seq, now: Millis, out: &mut Effects<T>) {
        // A number that the inbox has not given out yet says nothing of what will have it.
        let seq = seq.min(self.highest);
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

    pub(super) fn settle(&mut self, item: Item<T>, outcome: Outcome, out: &mut Effects<T>) {
        out.push(Effect::Count { class: item.class, outcome });
        if let Some(key) = item.key.filter(|_| item.class == Class::Reliable) {
            self.seen.settle(key, outcome);
        }
        Self::settle_repeat(item, outcome, out);
    }

    /// A newer one of the same sender and collapse key has taken its place.
    pub(super) fn replaced(item: Item<T>, out: &mut Effects<T>) {
        out.push(Effect::Replaced);
        Self::settle_repeat(item, Outcome::Dropped, out);
    }

    pub(super) fn settle_repeat(item: Item<T>, outcome: Outcome, out: &mut Effects<T>) {
        for ticket in item.ticket.into_iter().chain(item.repeats) {
            out.push(Effect::Settle { ticket, shown: item.shown.clone(), outcome });
        }
    }
}
