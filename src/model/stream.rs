//! The stream from one server to another: numbered, sent again until acknowledged, taken once and in order.
//!
//! Owns the numbers, what is open, and when to send it again. Invariants:
//! - within a generation messages are numbered from 1, and what a receiver takes is each number once, in order;
//! - a message is open until it is acknowledged, or given back by [`Outgoing::reset`], never both;
//! - a number means something only with the sender's incarnation and the generation: a newer one is another stream, which
//!   begins at 1, and an older one is over;
//! - what is open stays under the limit, but an empty stream takes one message of any size;
//! - the two streams of a pair follow each other: who begins a generation has lost the other, and with it its own answers to
//!   what came in an older one, so that the other begins that generation too ([`Outgoing::follow`]).
//!
//! An [`Outgoing`] lives as long as its server's incarnation, also while the other server is away: were it made anew, its
//! generation would be one that the receiver has seen. Where messages go, and when a server counts as away, is left to the
//! shell.

use std::collections::VecDeque;

use super::ids::{Incarnation, Millis};

#[cfg(test)]
mod tests;

/// Without an acknowledgement for this long, what is open is sent again, in milliseconds. Doubles with each time in vain,
/// so that a way which is slow is not filled with copies, up to [`MAX_RESEND_MS`].
pub const RESEND_MS: u64 = 500;
pub const MAX_RESEND_MS: u64 = 8_000;

/// There is no room: the message is given back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<M>(pub M);

/// What one server sends to another.
#[derive(Debug)]
pub struct Outgoing<M> {
    generation: u64,
    /// The number of the first one open, or of the next where none is.
    first: u64,
    /// With the bytes that each counts for.
    open: VecDeque<(M, usize)>,
    bytes: usize,
    limit: usize,
    /// When the wait for an acknowledgement began.
    since: Millis,
    wait: u64,
}

impl<M> Outgoing<M> {
    /// At most `limit` bytes are open.
    pub fn new(limit: usize) -> Self {
        Self { generation: 1, first: 1, open: VecDeque::new(), bytes: 0, limit, since: Millis(0), wait: RESEND_MS }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Bytes open.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The next message, of `cost` bytes: its number. It is sent by the caller, now.
    pub fn push(&mut self, message: M, cost: usize, now: Millis) -> Result<u64, Full<M>> {
        if self.open.is_empty() {
            self.since = now;
        } else if cost > self.limit.saturating_sub(self.bytes) {
            return Err(Full(message));
        }
        self.bytes = self.bytes.saturating_add(cost);
        self.open.push_back((message, cost));
        Ok(self.first + (self.open.len() as u64 - 1))
    }

    /// All up to `number` has arrived. Returns how many messages that closes: none where it was known, is of another
    /// generation, or was never sent.
    pub fn acked(&mut self, generation: u64, number: u64, now: Millis) -> usize {
        let closed = number.saturating_add(1).saturating_sub(self.first);
        let Some(closed) = usize::try_from(closed).ok().filter(|closed| *closed <= self.open.len()) else { return 0 };
        if generation != self.generation || closed == 0 {
            return 0;
        }
        let freed: usize = self.open.drain(..closed).map(|(_, cost)| cost).sum();
        self.bytes -= freed;
        self.first += closed as u64;
        self.since = now;
        self.wait = RESEND_MS;
        closed
    }

    /// Whether too long nothing was acknowledged.
    pub fn overdue(&self, now: Millis) -> bool {
        !self.open.is_empty() && now.since(self.since) >= self.wait
    }

    /// All that is open, with its numbers, to be sent again: because it is overdue, or the way has changed.
    pub fn resend(&mut self, now: Millis) -> impl Iterator<Item = (u64, &M)> {
        if self.overdue(now) {
            self.wait = (self.wait * 2).min(MAX_RESEND_MS);
        }
        self.since = now;
        (self.first..).zip(self.open.iter().map(|(message, _)| message))
    }

    /// The other side has begun `generation`. Where that is ahead, what is open is numbered anew within it; whether something
    /// was sent before, whose answers may be lost.
    pub fn follow(&mut self, generation: u64) -> bool {
        if generation <= self.generation {
            return false;
        }
        let was_used = self.first > 1 || !self.open.is_empty();
        self.generation = generation;
        self.first = 1;
        self.wait = RESEND_MS;
        // Overdue at once.
        self.since = Millis(0);
        was_used
    }

    /// Begins the next generation and gives back what is open, in order: the other server is away, or is another one.
    pub fn reset(&mut self) -> Vec<M> {
        self.generation += 1;
        self.first = 1;
        self.bytes = 0;
        self.wait = RESEND_MS;
        self.open.drain(..).map(|(message, _)| message).collect()
    }
}

/// What to do with a message that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    Take,
    /// It was taken before, or its stream is over.
    Duplicate,
    /// One before it is missing: it will come again, after that.
    Gap,
}

/// What one server gets from another.
#[derive(Debug, Default)]
pub struct Incoming {
    incarnation: Incarnation,
    generation: u64,
    /// The last number taken.
    taken: u64,
    /// Whether the sender is to hear of it.
    due: bool,
}

impl Incoming {
    /// Whether a message of this generation would be the first of its stream.
    pub fn is_new(&self, incarnation: Incarnation, generation: u64) -> bool {
        (incarnation, generation) > (self.incarnation, self.generation)
    }

    /// The message with these numbers has come.
    pub fn receive(&mut self, incarnation: Incarnation, generation: u64, number: u64) -> Received {
        if self.is_new(incarnation, generation) {
            *self = Self { incarnation, generation, ..Self::default() };
        } else if (incarnation, generation) != (self.incarnation, self.generation) {
            return Received::Duplicate;
        }
        if number <= self.taken {
            self.due = true;
            return Received::Duplicate;
        }
        if number - 1 > self.taken {
            return Received::Gap;
        }
        self.taken = number;
        self.due = true;
        Received::Take
    }

    /// What the sender is to be told now, cumulatively: incarnation, generation and the last number taken. Once: until
    /// something has been taken, or has come again since its acknowledgement may be lost.
    pub fn ack(&mut self) -> Option<(Incarnation, u64, u64)> {
        std::mem::take(&mut self.due).then_some((self.incarnation, self.generation, self.taken))
    }
}
