//! The send queue of one edge: what waits for the socket, and what was written and is not yet acknowledged.
//!
//! Owns order, bytes and acknowledgement. Invariants:
//! - items leave in the order in which they came; control frames go before all of them;
//! - the bytes of items that wait or are written and not acknowledged stay under the limit, but an empty outbox takes one
//!   item of any size, and half of it one replayed item; notices may fill it to twice the limit, and control frames have
//!   as much again for themselves. What a hand-over brings was bounded where it came from;
//! - of FAST items with one sender and collapse key at most one waits: [`newest`];
//! - after tracked items a ping with a fresh counter is written; its pong acknowledges all that was written before it
//!   (DESIGN 5, promise 5). When it is sent is said in [`asking`].
//!
//! What becomes of items that are taken back is the lane's decision.

use std::collections::VecDeque;

use bytes::Bytes;

use super::ids::{EnvelopeId, Millis, NodeId, Seq};
use super::seen::Key;

mod asking;
mod ghost;
mod item;
mod newest;
mod stage;

use self::asking::Asking;
pub use self::asking::Prompt;
pub use self::ghost::Ghost;
pub use self::item::{Class, Custody, Item, Keep, Loan};
use self::newest::Newest;
pub use self::newest::Refreshed;
pub use self::stage::{Stage, Wanted};

#[derive(Debug)]
enum Waiting<T> {
    Item(Item<T>),
    /// The place of an item that a newer one of its key may replace: it lies in [`Newest`].
    Newest(Key),
    /// A frame of the server's own, forgotten once written.
    Notice(Bytes),
}

impl<T> Waiting<T> {
    fn item(&self) -> Option<&Item<T>> {
        match self {
            Self::Item(item) => Some(item),
            Self::Newest(_) | Self::Notice(_) => None,
        }
    }
}

/// See the module's header.
#[derive(Debug)]
pub struct Outbox<T> {
    control: VecDeque<Bytes>,
    queue: VecDeque<Waiting<T>>,
    newest: Newest<T>,
    /// With their numbers among all tracked items ever written.
    unacked: VecDeque<(u64, Item<T>)>,
    ghosts: VecDeque<Ghost>,
    asking: Asking,
    /// Tracked items ever written.
    written: u64,
    bytes: usize,
    limit: usize,
    /// Of `bytes`, those of items that came from the inbox.
    replayed: usize,
    /// How many reliable items here are not in the inbox.
    unstored: usize,
    /// Since when something tracked has waited without progress.
    waiting_since: Option<Millis>,
    ending: Ending,
}

#[derive(Debug)]
enum Ending {
    Open,
    /// The close frame that goes out after all else.
    Asked(Bytes),
    /// It has gone out: nothing may follow it.
    Closed,
}

/// What an acknowledgement has settled.
#[derive(Debug)]
pub struct Acked<T> {
    pub items: Vec<Item<T>>,
    /// Items that are in the inbox by now and need not be.
    pub ghosts: Vec<Ghost>,
}

/// The share of the limit at which a peer is asked to acknowledge at once, lest the outbox fill.
const MUCH: usize = 8;
/// Most control frames that wait for a socket: a peer that reads nothing cannot make us queue more answers.
const MAX_CONTROL: usize = 64;

impl<T> Outbox<T> {
    /// `limit` in bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            control: VecDeque::new(),
            queue: VecDeque::new(),
            newest: Newest::default(),
            unacked: VecDeque::new(),
            ghosts: VecDeque::new(),
            asking: Asking::new(),
            written: 0,
            bytes: 0,
            limit,
            replayed: 0,
            unstored: 0,
            waiting_since: None,
            ending: Ending::Open,
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn has_room(&self, cost: usize) -> bool {
        self.bytes == 0 || self.bytes + cost <= self.limit
    }

    /// Room for replayed items: they fill at most half, and the lane leaves them that half while it catches up.
    pub fn replay_room(&self) -> usize {
        (self.limit / 2).saturating_sub(self.replayed)
    }

    pub fn has_room_for_replay(&self, cost: usize) -> bool {
        cost <= self.replay_room()
    }

    /// Whether a reliable item is here and nowhere else.
    pub fn holds_unstored(&self) -> bool {
        self.unstored > 0
    }

    /// Puts `item` behind all others. The caller has asked [`Self::has_room`], or moves what was bounded elsewhere.
    pub fn push(&mut self, item: Item<T>, now: Millis) {
        self.bytes += item.cost();
        self.unstored += usize::from(item.is_unstored());
        self.replayed += item.replayed();
        if item.class != Class::Fast {
            self.waiting_since.get_or_insert(now);
        }
        let waiting = self.newest.keep(item);
        self.queue.push_back(waiting);
    }

    /// Puts a frame of the server's own behind all items. False when too much waits: the frame is not taken. Notices may
    /// fill the outbox to twice its limit, room for replay included, so that one who reads slowly still learns what
    /// became of what it sent; an empty outbox takes one of any size.
    #[must_use]
    pub fn push_notice(&mut self, frame: Bytes) -> bool {
        if self.bytes > 0 && self.bytes + self.replay_room() + frame.len() > 2 * self.limit {
            return false;
        }
        self.bytes += frame.len();
        self.queue.push_back(Waiting::Notice(frame));
        true
    }

    /// `frame` closes the connection once all that waits is written.
    pub fn end(&mut self, frame: Bytes) {
        if matches!(self.ending, Ending::Open) {
            self.ending = Ending::Asked(frame);
        }
    }

    /// The close frame has been taken.
    pub fn has_ended(&self) -> bool {
        matches!(self.ending, Ending::Closed)
    }

    /// Puts a frame before all items. False when too many wait, or when those that wait would exceed the limit by
    /// themselves: the frame is not taken.
    #[must_use]
    pub fn push_control(&mut self, frame: Bytes) -> bool {
        let waiting: usize = self.control.iter().map(Bytes::len).sum();
        let room = self.control.is_empty() || waiting + frame.len() <= self.limit;
        if self.control.len() >= MAX_CONTROL || !room || self.has_ended() {
            return false;
        }
        self.bytes += frame.len();
        self.control.push_back(frame);
        true
    }

    /// A ping that asks for a sign of life, and acknowledges whatever was written before it.
    pub fn ping(&mut self, encode: impl FnOnce(u64) -> Bytes) {
        let counter = self.asking.ask(self.written);
        // Control goes before waiting items, so this ping covers exactly what is written by now.
        let frame = encode(counter);
        self.bytes += frame.len();
        self.control.push_back(frame);
    }

    /// Moves what may be written next into `batch`, about `budget` bytes, dropping what has expired into `expired`.
    /// `encode` makes the frame of a ping. How many untracked items were among them.
    pub fn take(
        &mut self,
        budget: usize,
        now: Millis,
        batch: &mut VecDeque<Bytes>,
        expired: &mut Vec<Item<T>>,
        acks: Acks,
        encode: impl FnOnce(u64) -> Bytes,
    ) -> u64 {
        if self.has_ended() {
            return 0;
        }
        let mut taken = 0;
        let mut untracked = 0;
        while let Some(frame) = self.control.pop_front() {
            self.bytes -= frame.len();
            taken += frame.len();
            batch.push_back(frame);
        }
        while taken < budget {
            let item = match self.queue.pop_front() {
                Some(Waiting::Item(item)) => item,
                Some(Waiting::Newest(key)) => match self.newest.take(key) {
                    Some(item) => item,
                    None => continue,
                },
                Some(Waiting::Notice(frame)) => {
                    self.bytes -= frame.len();
                    taken += frame.len();
                    batch.push_back(frame);
                    continue;
                }
                None => break,
            };
            if item.expires.is_some_and(|at| at <= now) {
                self.left(&item);
                expired.push(item);
                continue;
            }
            taken += item.encoded.frame().len();
            batch.push_back(item.encoded.frame().clone());
            if item.class == Class::Fast {
                self.left(&item);
                untracked += 1;
            } else {
                self.written += 1;
                self.asking.wrote(self.written, item.prompt());
                self.unacked.push_back((self.written, item));
            }
        }
        if !expired.is_empty() {
            self.calm();
        }
        if self.wants_ping(acks) {
            batch.push_back(encode(self.asking.ask(self.written)));
        }
        if self.queue.is_empty()
            && let Ending::Asked(frame) = &mut self.ending
        {
            batch.push_back(std::mem::take(frame));
            self.ending = Ending::Closed;
        }
        untracked
    }

    /// Whether something written waits for a ping to be sent after it now.
    pub fn wants_ping(&self, acks: Acks) -> bool {
        let much = self.bytes >= self.limit / MUCH;
        let open = || self.unacked.front().is_some_and(|(oldest, _)| much || self.asking.is_pressing(*oldest));
        acks == Acks::Transport && !self.asking.is_under_way() && (!self.ghosts.is_empty() || open())
    }

    /// Whether something written is to be asked about a little later: true once, until [`Self::fall_due`].
    #[must_use]
    pub fn promise_ping(&mut self, acks: Acks) -> bool {
        let open = acks == Acks::Transport && !self.asking.is_under_way() && !self.unacked.is_empty();
        open && self.asking.promise()
    }

    /// Later is now.
    pub fn fall_due(&mut self) {
        self.asking.fall_due();
    }

    /// A pong came back. `None`: the counter was never sent, or is behind us; it is only a sign of life. Settles nothing
    /// where the application acknowledges.
    pub fn pong(&mut self, counter: u64, acks: Acks, now: Millis) -> Option<Acked<T>> {
        let covers = self.asking.answered(counter)?;
        if acks == Acks::Application {
            return Some(Acked { items: Vec::new(), ghosts: Vec::new() });
        }
        let count = self.unacked.partition_point(|(written, _)| *written <= covers);
        let items = self.unacked.drain(..count).map(|(_, item)| item).collect();
        let ghosts = self.lay_ghosts(|ghost| ghost.written <= covers);
        Some(self.progress(items, ghosts, now))
    }

    /// The application acknowledges one envelope.
    pub fn ack(&mut self, sender: &NodeId, id: &EnvelopeId, now: Millis) -> Acked<T> {
        let at = self.unacked.iter().position(|(_, item)| item.keep.is(sender, id));
        let items = at.and_then(|at| self.unacked.remove(at)).into_iter().map(|(_, item)| item).collect();
        let ghosts = self.lay_ghosts(|ghost| ghost.keep.is(sender, id));
        self.progress(items, ghosts, now)
    }

    /// The application acknowledges its inbox up to `seq`.
    pub fn ack_to(&mut self, seq: Seq, now: Millis) -> Acked<T> {
        let upto = |of: Option<Seq>| of.is_some_and(|s| s <= seq);
        let (items, rest): (VecDeque<_>, _) =
            std::mem::take(&mut self.unacked).into_iter().partition(|(_, item)| upto(item.seq));
        self.unacked = rest;
        let mut items: Vec<_> = items.into_iter().map(|(_, item)| item).collect();
        // The device may have fetched what still waits here.
        for waiting in std::mem::take(&mut self.queue) {
            match waiting {
                Waiting::Item(item) if upto(item.seq) => items.push(item),
                other => self.queue.push_back(other),
            }
        }
        let ghosts = self.lay_ghosts(|ghost| upto(ghost.seq));
        self.progress(items, ghosts, now)
    }

    fn progress(&mut self, items: Vec<Item<T>>, ghosts: Vec<Ghost>, now: Millis) -> Acked<T> {
        for item in &items {
            self.left(item);
        }
        if !items.is_empty() || !ghosts.is_empty() {
            self.waiting_since = self.is_waiting().then_some(now);
        }
        Acked { items, ghosts }
    }

    /// `item` is not here any more.
    fn left(&mut self, item: &Item<T>) {
        self.bytes -= item.cost();
        self.unstored -= usize::from(item.is_unstored());
        self.replayed -= item.replayed();
    }

    fn is_waiting(&self) -> bool {
        !self.unacked.is_empty()
            || !self.ghosts.is_empty()
            || self.queue.iter().filter_map(Waiting::item).any(|item| item.class != Class::Fast)
            || self.newest.holds_tracked()
    }

    /// Nobody waits any more when nothing is left to wait for; an edge that is idle must not count as stalled.
    fn calm(&mut self) {
        if !self.is_waiting() {
            self.waiting_since = None;
        }
    }

    /// How long something tracked has waited without progress.
    pub fn waited(&self, now: Millis) -> u64 {
        self.waiting_since.map_or(0, |since| now.since(since))
    }

    /// Takes every item back (notices stay), in the order in which they were to be received.
    pub fn take_back(&mut self) -> Vec<Item<T>> {
        let mut items: Vec<_> = self.unacked.drain(..).map(|(_, item)| item).collect();
        for waiting in std::mem::take(&mut self.queue) {
            match waiting {
                Waiting::Item(item) => items.push(item),
                Waiting::Newest(key) => items.extend(self.newest.take(key)),
                notice @ Waiting::Notice(_) => self.queue.push_back(notice),
            }
        }
        for item in &items {
            self.left(item);
        }
        self.calm();
        items
    }

    /// The lowest place in the inbox of what waits to be written.
    pub fn lowest_waiting(&self) -> Option<Seq> {
        self.queue.iter().filter_map(Waiting::item).filter_map(|item| item.seq).min()
    }

    /// The lowest place in the inbox of what is not acknowledged.
    pub fn lowest_open(&self) -> Option<Seq> {
        self.open().min()
    }

    fn open(&self) -> impl Iterator<Item = Seq> {
        let unacked = self.unacked.iter().filter_map(|(_, item)| item.seq);
        unacked.chain(self.queue.iter().filter_map(Waiting::item).filter_map(|item| item.seq))
    }

    /// The highest place in the inbox of what waits here or is not acknowledged.
    pub fn highest_open(&self) -> Option<Seq> {
        self.open().max()
    }

    /// What is at this place in the inbox waits here, or is not acknowledged.
    pub fn holds_place(&self, seq: Seq) -> bool {
        self.open().any(|open| open == seq)
    }

    /// A ping is under way.
    pub fn is_pinged(&self) -> bool {
        self.asking.is_under_way()
    }

    /// Whether something that must be acknowledged is here.
    pub fn holds_tracked(&self) -> bool {
        self.waiting_since.is_some()
    }

    /// The reliable item with this key, if it waits here or is unacknowledged.
    pub fn find(&mut self, key: Key) -> Option<&mut Item<T>> {
        let unacked = self.unacked.iter_mut().map(|(_, item)| item);
        let waiting = self.queue.iter_mut().filter_map(|waiting| match waiting {
            Waiting::Item(item) => Some(item),
            Waiting::Newest(_) | Waiting::Notice(_) => None,
        });
        unacked.chain(waiting).find(|item| item.key == Some(key) && item.class == Class::Reliable)
    }
}

/// How an edge acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// By WebSocket pongs, which any client sends.
    Transport,
    /// By ACK frames (`ack=app`).
    Application,
}
