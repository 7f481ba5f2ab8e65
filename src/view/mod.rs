//! What the data path reads: the devices with their lanes, and the sessions, as published snapshots.
//!
//! Owns the execution of what the model decides: [`View::send`] is the way of one message, [`View::on`] carries out what a
//! lane says. No await, no actor's mailbox and no disk on the way: the inbox is reached through [`Inboxes`], whose
//! methods only queue.
//!
//! Locks: a lane's effects on the inbox are queued under the lane's lock, so that they keep the lane's order; everything
//! that touches another lane (telling a sender) happens after it is released. Two lanes are never locked at once.

mod account;
mod device;
mod devices;
mod edges;
mod forward;
mod gate;
mod gathering;
mod handle;
mod link_queue;
mod mesh;
mod places;
mod posted;
mod returning;
mod send;
mod sessions;
mod trace;

use std::sync::{Arc, Mutex, PoisonError};

pub use crate::model::custody::Acquaintance;
pub use account::{Account, Share, Ticket, Waiter, Whom};
pub use device::{Device, EdgeStop, Taken};
pub use devices::Devices;
pub use gathering::Gathering;
pub use handle::parcel;
pub use link_queue::{LINK_QUEUE_LIMIT, LinkQueue, Urgency};
pub use mesh::{Acting, Mesh, NoWay};
pub use places::Places;
pub use returning::{Kept, Returning};
pub use send::{Message, Payer};
pub use sessions::{Published, SessionTable};
pub use trace::OnTheWay;

pub use crate::outside::{now, steady};

use crate::model::custody::Verdict;
use crate::model::frames::{Dispatch, Hop};
use crate::model::ids::{ClientId, ConnectionId, EnvelopeId, NodeId, Seq};
use crate::model::keyed::Keyed;
use crate::model::lane::Why;
use crate::model::outbox::Item;
use crate::model::seen::Key;
use crate::outside::chance;

/// An envelope on its way to one device of this mesh.
pub type Parcel = Item<Ticket>;

/// What the data path asks of the home of a device. Nothing here blocks: everything queues.
pub trait Inboxes: Send + Sync {
    /// Stores `item`; answers with [`View::appended`].
    fn append(&self, device: &Arc<Device>, item: Parcel, why: Why);
    /// Whether a reliable envelope is to go through the inbox wherever the device is, because older ones are held on the way
    /// there. Called under the lock of the device's lane.
    fn goes_behind(&self, device: &NodeId, item: &Parcel) -> bool;
    /// A device has come within reach; what is held for it may go on.
    fn present(&self, device: &NodeId);
    /// These are acknowledged.
    fn remove(&self, device: &NodeId, seq: Seq);
    /// Everything up to `to` is acknowledged.
    fn trim(&self, device: &NodeId, to: Seq);
    /// The envelope that the device knows by this key, if it is there.
    fn acknowledge(&self, device: &NodeId, key: Key);
    /// Reads from `from` on, about `room` bytes; answers with [`View::page`].
    fn read(&self, device: &Arc<Device>, from: Seq, room: usize, generation: u64);
    /// The devices of `client`, of which this server is the home; answers with [`View::devices_are`].
    fn devices_of(&self, client: ClientId, number: u64);
    /// For the devices of `client` other than `except`, each through its lane; on a server that is alone.
    fn to_client(&self, client: ClientId, except: Vec<NodeId>, item: Parcel);
    /// Another server asks this home for something, or answers what was asked of another home.
    fn dispatched(&self, from: &NodeId, dispatch: Dispatch);
    /// What was held as `number` has gone on, or has not.
    fn forwarded(&self, number: u64, verdict: Verdict);
}

/// What takes the frames of the data path from links: [`Hop::Carry`] and [`Hop::Acked`].
pub trait Receiver: Send + Sync {
    /// A frame that came from a neighbour. Called on the link's thread; neither blocks nor awaits.
    fn receive(&self, from: &NodeId, hop: Hop);
    /// All that had come at once has been given.
    fn flush(&self);
}

/// See the module's header.
pub struct View {
    pub devices: Devices,
    pub places: Places,
    pub sessions: SessionTable,
    pub mesh: Mesh,
    edges: edges::Asked<u64>,
    gatherings: edges::Asked<Vec<(NodeId, u64)>>,
    handles: forward::Handles,
    post: posted::Posts,
    gates: gate::Gates,
    /// Of custodians' ways to this server.
    loans: Keyed,
    /// What could not be sent to other servers: to be given back to its lanes.
    unsent: Mutex<Vec<u64>>,
    inboxes: Box<dyn Inboxes>,
    outbox_limit: usize,
    /// Edges that are to be asked for acknowledgement soon; each stands here once.
    unasked: Mutex<Vec<(Arc<Device>, ConnectionId)>>,
    /// Devices that are to be listed under another number soon.
    renumbered: Mutex<Vec<Arc<Device>>>,
}

impl View {
    /// `outbox_limit` in bytes, for each edge; `epoch` is that of the sessions' order on this server.
    pub fn new(mesh: Mesh, inboxes: Box<dyn Inboxes>, outbox_limit: usize, epoch: u64) -> Self {
        Self {
            mesh,
            edges: edges::Asked::default(),
            gatherings: edges::Asked::default(),
            places: Places::default(),
            handles: forward::Handles::default(),
            post: posted::Posts::default(),
            gates: gate::Gates::default(),
            loans: Keyed,
            unsent: Mutex::default(),
            devices: Devices::new(outbox_limit),
            sessions: SessionTable::new(epoch),
            inboxes,
            outbox_limit,
            unasked: Mutex::default(),
            renumbered: Mutex::default(),
        }
    }

    /// To be called every few milliseconds.
    pub fn tick(&self) {
        self.ask_all();
        self.mesh.tick();
        self.give_back();
    }

    /// To be called every second or so.
    pub fn tidy(&self) {
        self.devices.for_each(|device| {
            self.on(device, |lane, now, out| lane.tick(|lane| self.place_for(device.id(), lane, now), now, out));
        });
        self.give_back();
        self.devices.forget_idle();
        self.handles.forget_gone();
        self.post_again(&[]);
    }

    /// The devices whose number is another one since the last time; some may stand there twice.
    pub fn take_renumbered(&self) -> Vec<Arc<Device>> {
        std::mem::take(&mut *self.renumbered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn outbox_limit(&self) -> usize {
        self.outbox_limit
    }

    pub fn inboxes(&self) -> &dyn Inboxes {
        &*self.inboxes
    }
}

/// An id for an envelope whose sender gave none.
pub fn fresh_id() -> EnvelopeId {
    let id = format!("{:032x}", chance());
    id.parse().expect("32 hexadecimal digits are an envelope id")
}
