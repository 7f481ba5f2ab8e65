//! Inboxes whose home is another server, as the lanes of this server use them.
//!
//! Owns what was sent to other homes and is not answered (appends with their envelopes, reads with what has come of their
//! page), and the list of [held mail](super::held). Invariants:
//! - appends go to a home in the order in which a lane asks for them; when the home is lost they go on, in that order, to its
//!   new life, or into the held mail;
//! - what is behind held mail is held too, except what is lent: its custodian holds it;
//! - its lock is taken under a lane's, never the other way round, so lanes are answered after it is released, or by the
//!   committer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::held::Held;
use super::queue::{Asker, Command, Queue};
use super::reader::Whom as Reads;
use crate::metrics;
use crate::model::custody::{Acquaintance, Outcome, Verdict};
use crate::model::frames::{Carried, Dispatch};
use crate::model::ids::{Incarnation, Millis, NodeId, Seq};
use crate::model::keyed::HashMap;
use crate::model::lane::{End, Kept, Why};
use crate::model::outbox::{Custody, Wanted};
use crate::view::{Device, Mesh, Parcel, Ticket, View, Whom, now, parcel, steady};

/// Bytes that may be on their way to other homes.
const MAX_BYTES: usize = 64 << 20;
/// How long a page may take, in milliseconds; what has come by then is what there is.
const PATIENCE_MS: u64 = 5_000;

struct Pending {
    asker: Asker,
    item: Parcel,
    why: Why,
}

/// What one home has not answered.
#[derive(Default)]
struct Home {
    /// The life of it that everything here was sent to.
    incarnation: Option<Incarnation>,
    appends: BTreeMap<u64, Pending>,
}

struct Reading {
    server: NodeId,
    whom: Reads,
    items: Vec<Parcel>,
    since: Millis,
}

#[derive(Default)]
struct Open {
    last: u64,
    homes: HashMap<NodeId, Home>,
    bytes: usize,
    reads: HashMap<u64, Reading>,
    held: Held,
}

/// See the module's header.
pub(super) struct Abroad {
    queue: Arc<Queue>,
    open: Mutex<Open>,
    /// Spares everybody the lock while nothing is held.
    holds: AtomicBool,
}

impl Abroad {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue, open: Mutex::default(), holds: AtomicBool::new(false) }
    }

    fn open<R>(&self, act: impl FnOnce(&mut Open) -> R) -> R {
        // Nothing panics while it is held.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = act(&mut open);
        self.holds.store(!open.held.is_empty(), Ordering::Release);
        metrics::HOME_APPENDING_BYTES.set(open.bytes as i64);
        answer
    }

    /// Something for this device is held, and newer ones queue behind.
    pub(super) fn holds(&self, device: &NodeId) -> bool {
        self.holds.load(Ordering::Acquire) && self.open(|open| open.held.holds(device))
    }

    /// The devices for which this envelope is on its way to their home, and that.
    pub(super) fn trace(&self, wanted: Wanted<'_>) -> Vec<(NodeId, NodeId)> {
        self.open(|open| {
            let mut found = Vec::new();
            for (server, home) in &open.homes {
                let pending = home.appends.values().filter(|pending| wanted.is(&pending.item));
                found.extend(pending.map(|pending| (pending.asker.device().clone(), server.clone())));
            }
            found
        })
    }

    /// To the inbox of a device whose home is `home`, or behind what is held for it.
    pub(super) fn append(&self, mesh: &Mesh, home: &NodeId, asker: Asker, item: Parcel, why: Why) {
        self.open(|open| {
            let pending = Pending { asker, item, why };
            if pending.may_be_held() && open.held.holds(pending.asker.device()) {
                return self.give_up(open, pending);
            }
            self.follow(open, mesh, home);
            let was_bounded_before = matches!(pending.why, Why::Stalled | Why::Overflow);
            if !was_bounded_before && open.bytes > 0 && open.bytes + pending.item.cost() > MAX_BYTES {
                return self.refuse(open, pending);
            }
            self.send(open, mesh, home, pending);
        });
    }

    /// Under the lock, so that nothing overtakes.
    fn send(&self, open: &mut Open, mesh: &Mesh, home: &NodeId, pending: Pending) {
        let incarnation = mesh.routes().incarnation(home).filter(|_| mesh.takes_mail(home));
        let Some(incarnation) = incarnation else { return self.give_up(open, pending) };
        open.last += 1;
        let number = open.last;
        let append = Dispatch::Append {
            number,
            device: pending.asker.device().clone(),
            shown: pending.item.shown.clone(),
            why: pending.why,
            envelope: pending.item.carried(now()),
        };
        if mesh.send(home, &append).is_err() {
            return self.give_up(open, pending);
        }
        open.bytes += pending.item.cost();
        let home = open.homes.entry(home.clone()).or_default();
        home.incarnation = Some(incarnation);
        home.appends.insert(number, pending);
    }

    /// Where the home has been lost since something was sent to it, that goes on first.
    fn follow(&self, open: &mut Open, mesh: &Mesh, server: &NodeId) {
        let now = mesh.routes().incarnation(server);
        let Some(home) = open.homes.get_mut(server).filter(|home| home.incarnation != now) else { return };
        let appends = std::mem::take(&mut home.appends);
        home.incarnation = now;
        for pending in appends.into_values() {
            open.bytes -= pending.item.cost();
            if pending.may_be_held() && open.held.holds(pending.asker.device()) {
                self.give_up(open, pending);
            } else {
                self.send(open, mesh, server, pending);
            }
        }
    }

    /// It cannot go to its home: it is held, if it may be and there is room.
    fn give_up(&self, open: &mut Open, pending: Pending) {
        let Pending { asker: Asker::Lane(device), item, why } = pending else { return self.refuse(open, pending) };
        let number = if item.may_be_held() { open.held.take(device.id(), item.cost() as u64) } else { None };
        match number {
            Some(number) => self.queue.push(Command::Hold { number, device, item, why }),
            None => self.refuse(open, Pending { asker: Asker::Lane(device), item, why }),
        }
    }

    fn refuse(&self, open: &mut Open, Pending { asker, item, .. }: Pending) {
        if let Some(Whom::Held(number)) = item.ticket.as_ref().map(Ticket::whom) {
            // What follows it must not overtake it: this is known before the next one is tried.
            open.held.pause(*number, steady());
        }
        self.queue.push(Command::Refuse { asker, item });
    }

    /// As [`Self::append`], for a device whose home is here and for which something is held.
    pub(super) fn hold(&self, device: &Arc<Device>, item: Parcel, why: Why) {
        self.open(|open| self.give_up(open, Pending { asker: Asker::Lane(device.clone()), item, why }));
    }

    /// A home answers an append.
    pub(super) fn appended(
        &self,
        view: &View,
        from: &NodeId,
        number: u64,
        seq: Option<Seq>,
        acquaintance: Acquaintance,
    ) {
        let pending = self.open(|open| {
            let pending = open.homes.get_mut(from)?.appends.remove(&number)?;
            open.bytes -= pending.item.cost();
            Some(pending)
        });
        let Some(Pending { asker, item, why }) = pending else { return };
        match asker {
            Asker::Lane(device) => {
                tell(view, &device, item, why, seq.map(Kept::InInbox), acquaintance);
            }
            Asker::Server { server, number, .. } => {
                // Who cannot be reached finds another way.
                let _ = view.mesh.send(&server, &Dispatch::Appended { number, seq, acquaintance });
            }
        }
    }

    /// Reads an inbox whose home is `home`. May be called under a lane's lock.
    pub(super) fn read(&self, mesh: &Mesh, home: &NodeId, whom: Reads, from: Seq, room: usize) {
        let device = whom.device().clone();
        let unsent = self.open(|open| {
            open.last += 1;
            let number = open.last;
            let read = Dispatch::Read { number, device, from, room: room as u64 };
            if mesh.send(home, &read).is_err() {
                return Some(whom);
            }
            open.reads.insert(number, Reading { server: home.clone(), whom, items: Vec::new(), since: steady() });
            None
        });
        match unsent {
            Some(Reads::Lane(device, generation)) => self.queue.push(Command::Away { device, generation }),
            Some(Reads::Server { server, number, .. }) => {
                // Who cannot be reached asks again.
                let _ = mesh.send(&server, &Dispatch::Page { number, end: End::Away });
            }
            None => {}
        }
    }

    /// A home sends one item of a page.
    pub(super) fn page_item(&self, mesh: &Mesh, from: &NodeId, number: u64, envelope: Carried) {
        self.open(|open| {
            let Some(reading) = open.reads.get_mut(&number).filter(|reading| reading.server == *from) else { return };
            match &reading.whom {
                Reads::Lane(..) => reading.items.push(parcel(envelope)),
                Reads::Server { server, number, .. } => {
                    // Who cannot be reached asks again.
                    let _ = mesh.send(server, &Dispatch::PageItem { number: *number, envelope });
                }
            }
        });
    }

    /// The page of a home is whole.
    pub(super) fn page(&self, view: &View, from: &NodeId, number: u64, end: End) {
        let reading = self.open(|open| {
            open.reads.get(&number).filter(|reading| reading.server == *from)?;
            open.reads.remove(&number)
        });
        if let Some(reading) = reading {
            answer(view, reading, end);
        }
    }

    /// These can be reached no more, or only in a new life. Not to be called under a lane's lock.
    pub(super) fn lost(&self, view: &View, servers: &[NodeId]) {
        let lost = |reading: &Reading| servers.contains(&reading.server);
        let reads: Vec<Reading> =
            self.open(|open| open.reads.extract_if(|_, reading| lost(reading)).map(|(_, reading)| reading).collect());
        // Lanes know that there is nothing to read before they get back what they have appended.
        for reading in reads {
            // One that is there in a new life is asked again.
            let end = if view.mesh.is_reachable(&reading.server) { End::More } else { End::Away };
            answer(view, reading, end);
        }
        self.open(|open| {
            servers.iter().for_each(|server| self.follow(open, &view.mesh, server));
            open.homes.retain(|_, home| !home.appends.is_empty());
        });
    }

    /// Ends reads that take too long. Not to be called under a lane's lock.
    pub(super) fn tick(&self, view: &View) {
        let now = steady();
        let late: Vec<Reading> = self.open(|open| {
            let late = open.reads.extract_if(|_, reading| now.since(reading.since) > PATIENCE_MS);
            late.map(|(_, reading)| reading).collect()
        });
        late.into_iter().for_each(|reading| answer(view, reading, End::More));
    }

    /// What the store has of held mail.
    pub(super) fn restore(&self, device: NodeId, number: u64, bytes: u64) {
        self.open(|open| open.held.restore(device, number, bytes));
    }

    /// What was held as `number` has gone on, or could not.
    pub(super) fn forwarded(&self, number: u64, verdict: Verdict) {
        self.open(|open| match verdict {
            Verdict::Confirmed { .. } => {
                if let Some(device) = open.held.remove(number) {
                    self.queue.push(Command::Unhold { number, device });
                }
            }
            Verdict::Unavailable(_) => open.held.pause(number, steady()),
        });
    }

    /// What is held as `number` is durable.
    pub(super) fn held(&self, number: u64) {
        self.open(|open| open.held.written(number));
    }

    /// It could not be held after all.
    pub(super) fn not_held(&self, number: u64) {
        self.open(|open| drop(open.held.remove(number)));
    }

    /// The devices with held mail that has not been sent on.
    pub(super) fn due(&self) -> Vec<NodeId> {
        if !self.holds.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.open(|open| open.held.due(steady()))
    }

    /// What is held for `device` need not wait until another try: whether there is anything.
    pub(super) fn resume(&self, device: &NodeId) -> bool {
        self.holds.load(Ordering::Acquire) && self.open(|open| open.held.resume(device))
    }

    /// Whether what is held as `number` may go on: all that came before it is on its way.
    pub(super) fn may_go_on(&self, number: u64) -> bool {
        self.open(|open| open.held.may_go_on(number))
    }

    /// What of the mail held for `device` goes on next.
    pub(super) fn next(&self, device: &NodeId) -> Vec<u64> {
        self.open(|open| open.held.send(device))
    }
}

impl Pending {
    fn may_be_held(&self) -> bool {
        matches!(self.asker, Asker::Lane(_)) && self.item.may_be_held()
    }
}

trait MayBeHeld {
    fn may_be_held(&self) -> bool;
}

impl MayBeHeld for Parcel {
    /// What is lent is its custodian's to hold; what comes from the held mail is there already.
    fn may_be_held(&self) -> bool {
        self.custody == Custody::Own && !is_held(self)
    }
}

/// Whether it is held mail on its way again.
pub(super) fn is_held(item: &Parcel) -> bool {
    item.ticket.as_ref().is_some_and(|ticket| matches!(ticket.whom(), Whom::Held(_)))
}

fn answer(view: &View, reading: Reading, end: End) {
    match reading.whom {
        Reads::Lane(device, generation) => view.page(&device, generation, reading.items, end),
        Reads::Server { server, number, .. } => {
            // Who cannot be reached asks again.
            let _ = view.mesh.send(&server, &Dispatch::Page { number, end });
        }
    }
}

/// Tells the lane and the sender where an envelope for an inbox is now; `None`: nowhere. Not to be called under a lane's lock.
pub(super) fn tell(
    view: &View,
    device: &Arc<Device>,
    item: Parcel,
    why: Why,
    kept: Option<Kept>,
    acquaintance: Acquaintance,
) {
    // An edge may be there for it; else the lane tells the sender.
    let Some(kept) = kept else { return view.unstored(device, item) };
    view.appended(device, item.key, &item.keep, kept);
    if matches!(kept, Kept::InInbox(_)) {
        // What is held is counted when it arrives.
        metrics::RELIABLE.stored.inc();
    }
    if why.is_away()
        && let Some(ticket) = &item.ticket
    {
        view.tell_offline(ticket, item.shown.as_ref().unwrap_or(device.id()), acquaintance);
    }
    for ticket in item.ticket.iter().chain(&item.repeats) {
        view.settle(ticket, Outcome::Stored);
    }
}
