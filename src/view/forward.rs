//! What lanes send to other servers: numbered so that the answer finds its lane, and put together where one envelope goes to
//! many.
//!
//! A number is the device's handle and the lane's own counter, so that no table of open envelopes is needed.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::mesh::Weight;
use super::{Device, Ticket, View};
use crate::model::custody::Outcome;
use crate::model::frames::{Carried, Dispatch, Fate, Recipient};
use crate::model::ids::NodeId;
use crate::model::keyed::HashMap;
use crate::model::lane::{Lane, Place};
use crate::wire::link;

/// Devices by the handle in the numbers of what their lanes have sent.
#[derive(Default)]
pub(super) struct Handles {
    last: AtomicU32,
    devices: RwLock<HashMap<u32, Weak<Device>>>,
}

impl Handles {
    /// A handle for a device that sends something abroad for the first time.
    pub(super) fn give(&self, device: &Arc<Device>) -> u32 {
        // A device lives for a while; four thousand million others do not come in that time.
        let handle = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        devices.insert(handle, Arc::downgrade(device));
        handle
    }

    fn device(&self, handle: u32) -> Option<Arc<Device>> {
        self.devices.read().unwrap_or_else(PoisonError::into_inner).get(&handle)?.upgrade()
    }

    /// Devices that are forgotten need no handle.
    pub(super) fn forget_gone(&self) {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|_, device| device.strong_count() > 0);
        let len = devices.len();
        devices.shrink_to(len * 2);
    }
}

/// One lane's wish to send an envelope to another server.
pub(super) struct Forward {
    pub(super) server: NodeId,
    pub(super) recipient: Recipient,
    pub(super) envelope: Carried,
}

thread_local! {
    /// While one envelope goes to many: what is to go to other servers, to be sent as one for each; with the generation of
    /// the stream when the lane has sent it.
    static GATHERED: RefCell<Option<Vec<(Forward, u64)>>> = const { RefCell::new(None) };
}

/// A number for the wire; 0 stays 0: nobody waits.
pub(super) fn number(handle: u32, counter: u32) -> u64 {
    if counter == 0 { 0 } else { u64::from(handle) << 32 | u64::from(counter) }
}

impl View {
    /// Under the lock of the lane, so that it keeps the lane's order.
    pub(super) fn forward(&self, forward: Forward) {
        let forward = GATHERED.with_borrow_mut(|gathered| match gathered {
            Some(gathered) => {
                let generation = self.mesh.generation(&forward.server);
                gathered.push((forward, generation));
                None
            }
            None => Some(forward),
        });
        let Some(Forward { server, recipient, envelope }) = forward else { return };
        let number = recipient.number;
        if self.mesh.send(&server, &Dispatch::Deliver { recipients: vec![recipient], envelope }).is_err() {
            self.unsent(number);
        }
    }

    /// What `act` sends of one envelope to other servers goes to each of them at once.
    pub(super) fn gather(&self, act: impl FnOnce()) {
        GATHERED.set(Some(Vec::new()));
        act();
        let Some(gathered) = GATHERED.take() else { return };
        let mut by_server: HashMap<NodeId, (u64, Vec<Recipient>, Carried)> = HashMap::default();
        for (Forward { server, recipient, envelope }, generation) in gathered {
            let share = by_server.entry(server).or_insert_with(|| (generation, Vec::new(), envelope));
            if share.0 == generation {
                share.1.push(recipient);
            } else {
                self.unsent(recipient.number);
            }
        }
        let mut numbers = HashMap::default();
        let mut heads = Vec::with_capacity(by_server.len());
        let mut shared = None;
        for (server, (generation, recipients, envelope)) in by_server {
            numbers.insert(server.clone(), recipients.iter().map(|recipient| recipient.number).collect::<Vec<_>>());
            let (head, body) = link::head_of(&Dispatch::Deliver { recipients, envelope });
            heads.push((server, head, Some(generation)));
            shared = Some(body);
        }
        let Some(body) = shared else { return };
        for (server, _) in self.mesh.send_to_all(heads, &body, Weight::Work) {
            numbers.remove(&server).into_iter().flatten().for_each(|number| self.unsent(number));
        }
    }

    /// It could not be sent: the lane finds another way, once its lock is free.
    fn unsent(&self, number: u64) {
        if number > 0 {
            self.unsent.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        }
    }

    /// Gives back to their lanes what could not be sent. Not to be called under a lane's lock.
    pub(super) fn give_back(&self) {
        loop {
            let numbers = std::mem::take(&mut *self.unsent.lock().unwrap_or_else(PoisonError::into_inner));
            if numbers.is_empty() {
                return;
            }
            for number in numbers {
                self.fated(number, Fate::Settled(Outcome::Failed));
            }
        }
    }

    /// Another server answers for what a lane here has sent it.
    pub(super) fn fated(&self, number: u64, fate: Fate) {
        let Some(device) = self.handles.device((number >> 32) as u32) else { return };
        self.on(&device, |lane, now, out| {
            let next = |lane: &Lane<Ticket>| {
                let may = |place: &Place| lane.may_serve(place, self.mesh.own(), now);
                self.places.newest(device.id().as_str(), |place| self.mesh.is_reachable(&place.server) && may(place))
            };
            lane.fated(number as u32, fate, next, now, out);
        });
    }

    /// Who waits for what a lane here has sent, and as whom it knows the recipient.
    pub(super) fn waits_abroad(&self, number: u64) -> Option<Ticket> {
        let device = self.handles.device((number >> 32) as u32)?;
        self.on(&device, |lane, _, _| lane.waits_abroad(number as u32).map(|(ticket, _)| ticket.clone()))
    }
}
