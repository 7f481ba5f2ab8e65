//! The way through the inbox: what goes there, and how it is read back.
//!
//! Invariants: whatever is under way is appended before anything newer; one page is asked for at a time, and not before
//! the edge has room for it and the removals of what was acknowledged early have been asked for; the lane is live again
//! only when the end of the inbox was reached and no append is open.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::super::custody::Outcome;
use super::super::ids::{Millis, Seq};
use super::super::outbox::{Class, Item, Keep};
use super::super::seen::{Fate, Key};
use super::effect::Effects;
use super::{Effect, Lane, Why};

#[derive(Debug)]
pub(super) enum Mode {
    Live,
    /// `next`: what to read next, unknown until the inbox has answered the first append.
    CatchUp {
        next: Option<Seq>,
        reading: Reading,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    No,
    Yes,
    /// More was stored since the reading began.
    Outdated,
    /// There was nothing to read: not before an append is answered, or the next tick.
    Later,
}

/// Whether a page reaches the inbox's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Reached,
    More,
    /// The home of the inbox cannot be reached: there is nothing to read until it is back.
    Away,
}

/// Where an envelope that was to go into the inbox is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    InInbox(Seq),
    /// Durable at this server, on its way to the inbox or to the device, whichever is back first.
    Held,
}

impl<T> Lane<T> {
    /// The inbox answers one [`Effect::Append`]: where the envelope is now. The inbox tells the sender itself. Where it could
    /// do nothing it says so by [`Self::unstored`].
    pub fn appended(&mut self, key: Option<Key>, keep: &Arc<Keep>, kept: Kept, now: Millis, out: &mut Effects<T>) {
        self.appending = self.appending.saturating_sub(1);
        if let Some(key) = key {
            // What is held comes through this lane once more.
            let in_inbox = matches!(kept, Kept::InInbox(_));
            self.seen.settle(key, if in_inbox { Outcome::Stored } else { Outcome::Failed });
        }
        let laid = self.laid.iter().position(|of| Arc::ptr_eq(of, keep)).map(|at| self.laid.swap_remove(at)).is_some();
        match kept {
            Kept::InInbox(seq) => {
                self.gives_back = false;
                self.elsewhere.stored(seq, now);
                if self.is_attached() {
                    self.edges.iter_mut().any(|edge| edge.outbox.name_ghost(keep, seq));
                    if self.is_abroad() {
                        self.elsewhere.miss(seq);
                    } else {
                        self.stored(seq);
                    }
                }
                if laid {
                    out.push(Effect::Remove(seq));
                }
            }
            Kept::Held => self.edges.iter_mut().for_each(|edge| edge.outbox.drop_ghost(keep)),
        }
        self.go_live();
        self.pump(out);
    }

    /// The inbox can take one [`Effect::Append`] nowhere now, and gives it back: an edge that is there has it at once, unless
    /// older ones are to be read first.
    pub fn unstored(&mut self, item: Item<T>, now: Millis, out: &mut Effects<T>) {
        self.appending = self.appending.saturating_sub(1);
        let keep = item.keep.clone();
        self.edges.iter_mut().for_each(|edge| edge.outbox.drop_ghost(&keep));
        let laid = self.laid.iter().position(|of| Arc::ptr_eq(of, &keep)).map(|at| self.laid.swap_remove(at)).is_some();
        let reads_first = matches!(self.mode, Mode::CatchUp { next: Some(_), .. });
        let newest = self.newest_moving().filter(|_| !reads_first && !self.is_abroad());
        let edge = newest.map(|at| &mut self.edges[at]).filter(|edge| edge.outbox.has_room(item.cost()));
        match edge {
            // Acknowledged late.
            _ if laid => self.settle(item, Outcome::Delivered, out),
            Some(edge) => {
                edge.outbox.push(item, now);
                out.push(Effect::Wake(edge.connection));
                self.gives_back = self.appending > 0;
            }
            None => self.fail(item, now, out),
        }
        self.go_live();
        self.pump(out);
    }

    /// The home of the inbox takes nothing now: what it has is read when it is back, and nothing waits for that.
    pub fn home_is_away(&mut self) {
        if let Mode::CatchUp { next, reading } = &mut self.mode {
            (*next, *reading) = (None, Reading::No);
            self.generation += 1;
        }
    }

    /// Where every append is answered, and there is nothing to be read.
    fn go_live(&mut self) {
        self.gives_back &= self.appending > 0;
        self.read_again();
        if self.appending == 0 && matches!(self.mode, Mode::CatchUp { next: None, .. }) {
            self.mode = Mode::Live;
        }
    }

    /// The inbox has stored something that did not come from this lane.
    pub fn stored_elsewhere(&mut self, seq: Seq, out: &mut Effects<T>) {
        if !self.is_attached() {
            return;
        }
        if self.is_abroad() {
            return self.elsewhere.miss(seq);
        }
        self.stored(seq);
        self.pump(out);
    }

    /// Something is in the inbox that the newest edge has not been sent.
    fn stored(&mut self, seq: Seq) {
        self.highest = self.highest.max(seq);
        match &mut self.mode {
            Mode::Live => self.catch_up_from(seq),
            Mode::CatchUp { next, reading } => {
                next.get_or_insert(seq);
                if *reading == Reading::Yes {
                    *reading = Reading::Outdated;
                }
            }
        }
        self.read_again();
    }

    pub(super) fn read_again(&mut self) {
        if let Mode::CatchUp { reading: reading @ Reading::Later, .. } = &mut self.mode {
            *reading = Reading::No;
        }
    }

    /// The inbox answers one [`Effect::Read`] with what it has from there on, in order.
    pub fn page(&mut self, generation: u64, items: Vec<Item<T>>, end: End, now: Millis, out: &mut Effects<T>) {
        if generation != self.generation {
            return;
        }
        let Mode::CatchUp { reading, .. } = &mut self.mode else { return };
        let outdated = std::mem::replace(reading, Reading::No) == Reading::Outdated;
        let Some(at) = self.newest_moving() else { return };
        self.take_over(at, now, out);
        let Mode::CatchUp { next, reading } = &mut self.mode else { return };
        if generation != self.generation {
            return self.pump(out);
        }
        let edge = &mut self.edges[at];
        // Servers hear of what is stored in different orders: what was read before may be read once more.
        let open_to = edge.outbox.highest_open();
        let nothing = items.is_empty();
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
            self.highest = self.highest.max(seq);
            if open_to.is_some_and(|to| seq <= to) && edge.outbox.holds_place(seq) {
                continue;
            }
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
        if pushed {
            out.push(Effect::Wake(edge.connection));
        }
        match end {
            End::Away if self.appending == 0 => self.mode = Mode::Live,
            End::Away => *next = None,
            _ if !whole || outdated => {}
            End::Reached if self.appending == 0 => self.mode = Mode::Live,
            End::Reached => *reading = Reading::Later,
            // The inbox cannot be read now.
            End::More if nothing => *reading = Reading::Later,
            End::More => {}
        }
        self.pump(out);
    }

    /// Reads on, if the lane catches up and the newest edge has room and has acknowledged what went astray.
    pub(super) fn pump(&mut self, out: &mut Effects<T>) {
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

    /// Fast ones are dropped.
    pub(super) fn append_all(&mut self, items: Vec<Item<T>>, why: Why, now: Millis, out: &mut Effects<T>) {
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

    /// Into the inbox, and before it whatever edges have under way that is not there: it is older. But while the inbox gives
    /// back what was appended, the edge's has come from there already, and what is still to come is newer.
    pub(super) fn append(&mut self, item: Item<T>, why: Why, now: Millis, out: &mut Effects<T>) {
        for at in 0..self.edges.len() {
            if !self.gives_back && self.edges[at].outbox.holds_unstored() {
                self.divert(at, why, now, out);
            }
        }
        self.append_behind(item, why, out);
    }

    pub(super) fn append_behind(&mut self, item: Item<T>, why: Why, out: &mut Effects<T>) {
        if matches!(self.mode, Mode::Live) && !self.edges.is_empty() {
            self.fall_behind();
        }
        self.appending += 1;
        out.push(Effect::Append(item, why));
    }

    /// What is on its way into the inbox must be read back from there before anything newer is sent.
    pub(super) fn fall_behind(&mut self) {
        self.mode = Mode::CatchUp { next: None, reading: Reading::No };
        self.generation += 1;
    }

    pub(super) fn catch_up_from(&mut self, seq: Seq) {
        self.mode = Mode::CatchUp { next: Some(seq), reading: Reading::No };
        self.generation += 1;
    }

    /// No edge is left: whatever was stored while there was one is to be fetched.
    pub(super) fn forget_inbox(&mut self) {
        self.mode = Mode::Live;
        self.generation += 1;
        self.elsewhere.forget_missed();
    }

    /// Nothing of edge `at` is acknowledged any more: what it has from the inbox is read again.
    pub(super) fn rewind(&mut self, at: usize) {
        let outbox = &mut self.edges[at].outbox;
        let lowest = outbox.exorcise().into_iter().chain(outbox.lowest_open()).min();
        self.rewind_to(lowest);
    }

    pub(super) fn rewind_to(&mut self, lowest: Option<Seq>) {
        let Some(lowest) = lowest else { return };
        let next = match &self.mode {
            Mode::CatchUp { next: Some(next), .. } => lowest.min(*next),
            _ => lowest,
        };
        self.catch_up_from(next);
    }

    /// What edges other than `at` were written and never acknowledged is read again for this one; their acknowledgement
    /// would come too late to spare that.
    fn exorcise_others(&mut self, at: usize) {
        for other in (0..self.edges.len()).filter(|other| *other != at) {
            let lowest = self.edges[other].outbox.exorcise();
            self.rewind_to(lowest);
        }
    }
}
