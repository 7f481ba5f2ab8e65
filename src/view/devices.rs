//! Which devices there are: those with an edge, and those for which something was lately under way.
//!
//! Published in shards, each an immutable snapshot: a reader takes no lock; a writer copies its shard. Devices of a client
//! that have an edge are listed apart.

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;

use super::Device;
use crate::model::ids::{ClientId, NodeId};
use crate::model::keyed::{HashMap, Keyed};

/// With a million devices a shard has about a thousand, which is what a change copies.
const SHARDS: usize = 1024;

type Snapshot = HashMap<NodeId, Arc<Device>>;

#[derive(Default)]
struct Shard {
    published: ArcSwap<Snapshot>,
    writing: Mutex<()>,
}

/// See the module's header.
pub struct Devices {
    shards: Box<[Shard]>,
    hasher: Keyed,
    limit: usize,
    clients: RwLock<HashMap<ClientId, Vec<Arc<Device>>>>,
}

impl Devices {
    /// `limit` in bytes, for what is under way to one device at another server.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect(),
            hasher: Keyed,
            clients: RwLock::default(),
        }
    }

    fn shard(&self, id: &str) -> &Shard {
        &self.shards[self.hasher.hash_one(id) as usize % SHARDS]
    }

    pub fn get(&self, id: &str) -> Option<Arc<Device>> {
        self.shard(id).published.load().get(id).cloned()
    }

    /// The device, made known if it was not.
    pub fn get_or_add(&self, id: &NodeId) -> Arc<Device> {
        if let Some(device) = self.get(id.as_str()) {
            return device;
        }
        let shard = self.shard(id.as_str());
        let _writing = shard.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&shard.published.load());
        let device = next.entry(id.clone()).or_insert_with(|| Arc::new(Device::new(id.clone(), self.limit))).clone();
        shard.published.store(Arc::new(next));
        device
    }

    /// Visits all devices, shard by shard.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<Device>)) {
        for shard in &self.shards {
            shard.published.load().values().for_each(&mut visit);
        }
    }

    /// Forgets the devices that have no edge and nothing under way.
    pub fn forget_idle(&self) {
        for shard in &self.shards {
            if !shard.published.load().values().any(|device| device.is_forgettable()) {
                continue;
            }
            let _writing = shard.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut next = Snapshot::clone(&shard.published.load());
            next.retain(|_, device| !device.is_forgettable());
            shard.published.store(Arc::new(next));
        }
    }

    /// The device has an edge and belongs to `client`.
    pub fn enlist(&self, client: &ClientId, device: &Arc<Device>) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        let devices = clients.entry(client.clone()).or_default();
        if !devices.iter().any(|known| Arc::ptr_eq(known, device)) {
            devices.push(device.clone());
        }
    }

    pub fn delist(&self, client: &ClientId, device: &Arc<Device>) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(devices) = clients.get_mut(client) {
            devices.retain(|known| !Arc::ptr_eq(known, device));
            if devices.is_empty() {
                clients.remove(client);
            }
        }
    }

    /// Devices of `client` that have an edge.
    pub fn of_client(&self, client: &ClientId) -> Vec<Arc<Device>> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).get(client).cloned().unwrap_or_default()
    }
}
