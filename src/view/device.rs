//! One device as the data path sees it: its lane behind a lock, and how its edges are woken and stopped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use actix::prelude::*;
use bytes::Bytes;

use super::forward::{self, Forward};
use super::{Ticket, View, steady};
use crate::metrics;
use crate::model::codes::Close;
use crate::model::custody::Outcome;
use crate::model::envelope::Encoded;
use crate::model::frames::{self, Dispatch};
use crate::model::ids::{ConnectionId, Millis, NodeId};
use crate::model::lane::{Delivery, Effect, End, Kept, Lane, LaneState, Options, Place, Sighting};
use crate::model::outbox::{Class, Keep, Wanted};
use crate::model::seen::Key;
use crate::wire::frame;

/// Tells an edge to end.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct EdgeStop(pub Close);

/// See the module's header.
pub struct Device {
    id: NodeId,
    inner: Mutex<Inner>,
}

struct Inner {
    lane: Lane<Ticket>,
    edges: Vec<EdgeHandle>,
    /// By which answers of other servers find this device; given when it is first needed.
    handle: Option<u32>,
}

struct EdgeHandle {
    connection: ConnectionId,
    /// Of the task that writes to the socket, while it has nothing to write.
    waker: Option<Waker>,
    stop: Option<Recipient<EdgeStop>>,
}

/// What a socket is to do after it has taken what there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Write, and ask again.
    Frames,
    /// Nothing now; the waker has been kept.
    Nothing,
    /// The close frame is written, or the edge is gone: end.
    End,
}

thread_local! {
    /// Effects of the lane at hand; kept to spare an allocation for each message.
    static EFFECTS: RefCell<Vec<Effect<Ticket>>> = const { RefCell::new(Vec::new()) };
}

impl Device {
    /// `limit` in bytes, for what is under way to the device at another server.
    pub(super) fn new(id: NodeId, limit: usize) -> Self {
        let inner = Inner { lane: Lane::new(frame::ping, limit), edges: Vec::new(), handle: None };
        Self { id, inner: Mutex::new(inner) }
    }

    pub fn id(&self) -> &NodeId {
        &self.id
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic while a lane is held would be a fault of the model; its other devices go on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_attached(&self) -> bool {
        self.lock().lane.is_attached()
    }

    /// Under which it is to be listed here; [`Lane::number`].
    pub fn number(&self) -> Option<u64> {
        self.lock().lane.number()
    }

    /// The highest of its edges' attachments here.
    pub fn highest_number(&self) -> Option<u64> {
        self.lock().lane.highest_number()
    }

    /// Whether another server serves the device, as far as its lane has been told.
    pub(super) fn is_abroad(&self) -> bool {
        self.lock().lane.is_abroad()
    }

    pub fn is_forgettable(&self) -> bool {
        self.lock().lane.is_forgettable()
    }

    pub fn connections(&self) -> Vec<ConnectionId> {
        self.lock().lane.connections().collect()
    }

    pub(super) fn trace(&self, wanted: Wanted<'_>) -> Vec<Sighting> {
        self.lock().lane.trace(wanted)
    }

    pub(super) fn state(&self) -> LaneState {
        self.lock().lane.state()
    }

    /// How the edge is told to end, from its actor's start on.
    pub fn stop_by(&self, connection: ConnectionId, stop: Recipient<EdgeStop>) {
        if let Some(edge) = self.lock().edges.iter_mut().find(|edge| edge.connection == connection) {
            edge.stop = Some(stop);
        }
    }

    /// Tells all edges to end; how many were told.
    pub fn stop_all(&self, close: Close) -> usize {
        let stops: Vec<_> = self.lock().edges.iter().filter_map(|edge| edge.stop.clone()).collect();
        stops.iter().for_each(|stop| stop.do_send(EdgeStop(close)));
        stops.len()
    }
}

impl View {
    /// Asks the lane of `device`, and carries out what it says.
    pub fn on<R>(
        &self,
        device: &Arc<Device>,
        act: impl FnOnce(&mut Lane<Ticket>, Millis, &mut Vec<Effect<Ticket>>) -> R,
    ) -> R {
        self.with(device, |inner, now, out| act(&mut inner.lane, now, out))
    }

    fn with<R>(&self, device: &Arc<Device>, act: impl FnOnce(&mut Inner, Millis, &mut Vec<Effect<Ticket>>) -> R) -> R {
        let mut effects = EFFECTS.take();
        let mut later = Later::default();
        let answer = {
            let mut inner = device.lock();
            let bytes = inner.lane.bytes() as i64;
            let answer = act(&mut inner, steady(), &mut effects);
            metrics::QUEUE_BYTES.add(inner.lane.bytes() as i64 - bytes);
            for effect in effects.drain(..) {
                self.queue(device, &mut inner, effect, &mut later);
            }
            answer
        };
        EFFECTS.replace(effects);
        later.wakers.wake();
        for effect in later.effects {
            self.finish(device, effect);
        }
        answer
    }

    /// The effects that must keep the lane's order, under its lock; the others go into `later`.
    fn queue(&self, device: &Arc<Device>, inner: &mut Inner, effect: Effect<Ticket>, later: &mut Later) {
        match effect {
            Effect::Wake(connection) => {
                let edge = inner.edges.iter_mut().find(|edge| edge.connection == connection);
                if let Some(waker) = edge.and_then(|edge| edge.waker.take()) {
                    later.wakers.push(waker);
                }
            }
            Effect::Forward { server, number, way, known, shown, envelope } => {
                let handle = *inner.handle.get_or_insert_with(|| self.handles.give(device));
                let (number, way) = (forward::number(handle, number), forward::number(handle, way));
                let recipient = frames::Recipient { device: device.id.clone(), number, shown, known, way };
                self.forward(Forward { server, recipient, envelope });
            }
            Effect::Append(item, why) => self.inboxes.append(device, item, why),
            Effect::Remove(seq) => self.inboxes.remove(&device.id, seq),
            Effect::Read { from, room, generation } => self.inboxes.read(device, from, room, generation),
            other => later.effects.push(other),
        }
    }

    fn finish(&self, device: &Arc<Device>, effect: Effect<Ticket>) {
        match effect {
            Effect::Settle { ticket, shown: _, outcome } => self.settle(&ticket, outcome),
            Effect::Elsewhere(ticket) => self.elsewhere(&ticket),
            Effect::Count { class, outcome } => count(class, outcome),
            Effect::AskLater(connection) => {
                self.unasked.lock().unwrap_or_else(PoisonError::into_inner).push((device.clone(), connection));
            }
            Effect::Renumbered => {
                self.renumbered.lock().unwrap_or_else(PoisonError::into_inner).push(device.clone());
            }
            Effect::Duplicate => metrics::RELIABLE.duplicate.inc(),
            Effect::Replaced => metrics::FAST_REPLACED.inc(),
            Effect::Close(connection, close) => {
                let stop =
                    device.lock().edges.iter().find(|edge| edge.connection == connection).map(|e| e.stop.clone());
                match stop.flatten() {
                    Some(stop) => stop.do_send(EdgeStop(close)),
                    None => self.detach(device, connection),
                }
            }
            Effect::Forward { .. } | Effect::Wake(_) | Effect::Append(..) | Effect::Remove(_) | Effect::Read { .. } => {
            }
        }
    }

    /// Asks the edges that have written something lately to acknowledge it. To be called every few milliseconds.
    pub fn ask_all(&self) {
        let unasked = std::mem::take(&mut *self.unasked.lock().unwrap_or_else(PoisonError::into_inner));
        for (device, connection) in unasked {
            self.on(&device, |lane, _, out| lane.ask_now(connection, out));
        }
    }

    pub fn attach(&self, device: &Arc<Device>, connection: ConnectionId, options: Options) {
        {
            let mut inner = device.lock();
            // One edge is the rule, and an idle device is to be small.
            inner.edges.reserve_exact(1);
            inner.edges.push(EdgeHandle { connection, waker: None, stop: None });
        }
        self.on(device, |lane, now, out| {
            lane.attach(connection, options, now, out);
            lane.place(self.place_for(&device.id, lane, now).as_ref(), self.mesh.own(), now, out);
        });
        self.give_back();
        self.inboxes.present(&device.id);
    }

    pub fn detach(&self, device: &Arc<Device>, connection: ConnectionId) {
        self.on(device, |lane, now, out| {
            lane.detach_for(connection, self.place_of(&device.id).as_ref(), self.mesh.own(), now, out);
        });
        self.give_back();
        let gone = {
            let mut inner = device.lock();
            let at = inner.edges.iter().position(|edge| edge.connection == connection);
            at.map(|at| inner.edges.swap_remove(at))
        };
        // The socket's task learns that its edge is gone.
        if let Some(waker) = gone.and_then(|edge| edge.waker) {
            waker.wake();
        }
    }

    /// A frame of the server's own for any edge of `device`, at whatever server; lost when there is none.
    pub fn notify(&self, device: &NodeId, frame: &Encoded) {
        let place = self.place_of(device);
        let lane = self.devices.get(device.as_str());
        if let Some(device) = lane.filter(|device| place.is_none() || !device.is_abroad()) {
            let taken = self.on(&device, |lane, _, out| lane.notify(frame, out)) == Delivery::Queued;
            if taken || place.is_none() {
                metrics::NOTICES_DROPPED.inc_by(u64::from(!taken));
                return;
            }
        }
        let Some(Place { server, .. }) = place else { return };
        let notify = Dispatch::Notify { device: device.clone(), frame: frame.frame().clone() };
        if self.mesh.send(&server, &notify).is_err() {
            metrics::NOTICES_DROPPED.inc();
        }
    }

    /// What became of an envelope of `sender`, which is said once and waited for: to all its edges here, where it was said, and
    /// to the newest elsewhere. A connection that was given up while it opened is the newest for a moment, and nobody reads it.
    pub(super) fn tell_sender(&self, sender: &NodeId, frame: &Encoded) {
        let lane = self.devices.get(sender.as_str());
        let taken =
            lane.is_some_and(|lane| self.on(&lane, |lane, _, out| lane.notify_all(frame, out)) == Delivery::Queued);
        let sent = self.place_of(sender).is_some_and(|Place { server, .. }| {
            let notify = Dispatch::Notify { device: sender.clone(), frame: frame.frame().clone() };
            self.mesh.send(&server, &notify).is_ok()
        });
        if !taken && !sent {
            metrics::NOTICES_DROPPED.inc();
        }
    }

    /// A frame that another server's own has for a device here.
    pub(super) fn notify_lane(&self, device: &Arc<Device>, frame: Bytes) {
        // A notice is sent as it is, and nobody looks into it.
        let frame = Encoded::new(frame, 0);
        if self.on(device, |lane, _, out| lane.notify(&frame, out)) == Delivery::Refused {
            metrics::NOTICES_DROPPED.inc();
        }
    }

    /// A frame of the server's own for this edge.
    pub fn control(&self, device: &Arc<Device>, connection: ConnectionId, frame: Bytes) {
        if self.on(device, |lane, _, out| lane.control(connection, frame, out)) == Delivery::Refused {
            metrics::NOTICES_DROPPED.inc();
        }
    }

    /// The answer to something this edge has asked, behind what waits there.
    pub fn answer(&self, device: &Arc<Device>, connection: ConnectionId, frame: &Encoded) {
        if self.on(device, |lane, _, out| lane.answer(connection, frame, out)) == Delivery::Refused {
            metrics::NOTICES_DROPPED.inc();
        }
    }

    /// Something came from this edge: it lives.
    pub fn received(&self, device: &Arc<Device>, connection: ConnectionId, now: Millis) {
        device.lock().lane.received(connection, now);
    }

    /// Closes the edge once all that waits there is written.
    pub fn end(&self, device: &Arc<Device>, connection: ConnectionId, close: Close) {
        self.on(device, |lane, _, out| lane.end(connection, frame::close(close), out));
    }

    /// What the socket of this edge may write now.
    pub fn take(
        &self,
        device: &Arc<Device>,
        connection: ConnectionId,
        budget: usize,
        waker: &Waker,
        batch: &mut VecDeque<Bytes>,
    ) -> Taken {
        self.with(device, |inner, now, out| {
            let fast = inner.lane.take(connection, budget, now, batch, out);
            metrics::FAST.delivered.inc_by(fast);
            if !batch.is_empty() {
                return Taken::Frames;
            }
            let edge = inner.edges.iter_mut().find(|edge| edge.connection == connection);
            match edge.filter(|_| !inner.lane.has_ended(connection)) {
                Some(edge) => {
                    edge.waker = Some(waker.clone());
                    Taken::Nothing
                }
                None => Taken::End,
            }
        })
    }

    /// The inbox answers an append of `origin`.
    pub fn appended(&self, origin: &Arc<Device>, key: Option<Key>, keep: &Arc<Keep>, kept: Kept) {
        self.on(origin, |lane, now, out| lane.appended(key, keep, kept, now, out));
        let Kept::InInbox(seq) = kept else { return };
        // The device may have been forgotten and have come back since.
        if let Some(current) = self.devices.get(origin.id.as_str()).filter(|current| !Arc::ptr_eq(current, origin)) {
            self.on(&current, |lane, _, out| lane.stored_elsewhere(seq, out));
        }
    }

    /// The inbox can take an append of `origin` nowhere now.
    pub fn unstored(&self, origin: &Arc<Device>, item: super::Parcel) {
        let home = self.mesh.home(origin.id.as_str());
        let is_away = home != *self.mesh.own() && !self.mesh.takes_mail(&home);
        self.on(origin, |lane, now, out| {
            if is_away {
                lane.home_is_away();
            }
            lane.unstored(item, now, out);
        });
    }

    /// The inbox answers a read.
    pub fn page(&self, device: &Arc<Device>, generation: u64, items: Vec<super::Parcel>, end: End) {
        self.on(device, |lane, now, out| lane.page(generation, items, end, now, out));
    }
}

/// What waits until the lane is released.
#[derive(Default)]
struct Later {
    wakers: Wakers,
    effects: Vec<Effect<Ticket>>,
}

/// One waker is the rule: no allocation for it.
#[derive(Default)]
struct Wakers {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakers {
    fn push(&mut self, waker: Waker) {
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.more.push(waker);
        }
    }

    fn wake(self) {
        self.first.into_iter().chain(self.more).for_each(Waker::wake);
    }
}

fn count(class: Class, outcome: Outcome) {
    let feature = match class {
        Class::Reliable => &metrics::RELIABLE,
        Class::FastTracked | Class::Fast => &metrics::FAST,
    };
    match outcome {
        Outcome::Delivered => feature.delivered.inc(),
        Outcome::Stored => feature.stored.inc(),
        Outcome::Dropped => feature.dropped.inc(),
        Outcome::Failed => feature.failed.inc(),
    }
}
