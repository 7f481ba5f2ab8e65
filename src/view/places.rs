//! Where devices are attached at other servers, as the data path reads it.
//!
//! Published in shards, each an immutable snapshot: a reader takes no lock. Written by the node actor alone, which applies
//! the changes of other servers' lists here. A place counts only while its server can be reached, which is the reader's
//! question to the routes.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;

use crate::model::attachments::Change;
use crate::model::ids::{ClientId, NodeId};
use crate::model::keyed::{HashMap, HashSet, Keyed};
use crate::model::lane::Place;

/// With a million devices a shard has about a thousand, which is what a change copies.
const SHARDS: usize = 1024;

/// One attachment elsewhere.
#[derive(Debug, Clone)]
struct Placed {
    place: Place,
    client: Option<ClientId>,
}

type Snapshot = HashMap<NodeId, Arc<[Placed]>>;

#[derive(Default)]
struct Shard {
    published: ArcSwap<Snapshot>,
    writing: Mutex<()>,
}

/// See the module's header.
pub struct Places {
    shards: Box<[Shard]>,
    hasher: Keyed,
    devices: AtomicUsize,
    clients: RwLock<HashMap<ClientId, HashSet<NodeId>>>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect(),
            hasher: Keyed,
            devices: AtomicUsize::new(0),
            clients: RwLock::default(),
        }
    }
}

impl Places {
    fn shard(&self, device: &str) -> usize {
        self.hasher.hash_one(device) as usize % SHARDS
    }

    /// Devices that have an edge at another server.
    pub fn len(&self) -> usize {
        self.devices.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest place of `device` among those that `counts` takes.
    pub fn newest(&self, device: &str, counts: impl Fn(&Place) -> bool) -> Option<Place> {
        if self.is_empty() {
            return None;
        }
        let snapshot = self.shards[self.shard(device)].published.load();
        let places = snapshot.get(device)?.iter().map(|placed| &placed.place);
        places.filter(|place| counts(place)).max_by_key(|place| (place.number, &place.server)).cloned()
    }

    /// Whether `device` is attached there, under that number.
    pub fn lists(&self, device: &str, place: &Place) -> bool {
        self.newest(device, |listed| listed == place).is_some()
    }

    /// The highest number of an attachment of `device` at another server, whether it can be reached or not; 0 for none.
    pub fn highest(&self, device: &str) -> u64 {
        self.newest(device, |_| true).map_or(0, |place| place.number)
    }

    /// The servers other than this one where `device` is attached.
    pub fn servers_of(&self, device: &str) -> Vec<NodeId> {
        let snapshot = self.shards[self.shard(device)].published.load();
        snapshot.get(device).into_iter().flat_map(|all| all.iter()).map(|placed| placed.place.server.clone()).collect()
    }

    /// Devices of `client` that are attached elsewhere.
    pub fn of_client(&self, client: &ClientId) -> Vec<NodeId> {
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        clients.get(client).into_iter().flatten().cloned().collect()
    }

    /// What has changed in the list of `server`, in order.
    pub fn apply<'a>(&self, server: &NodeId, changes: impl IntoIterator<Item = &'a Change>) {
        let mut by_shard: HashMap<usize, Vec<&Change>> = HashMap::default();
        for change in changes {
            by_shard.entry(self.shard(device_of(change).as_str())).or_default().push(change);
        }
        for (shard, changes) in by_shard {
            let shard = &self.shards[shard];
            let _writing = shard.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut next = Snapshot::clone(&shard.published.load());
            for change in changes {
                self.change(&mut next, server, change);
            }
            shard.published.store(Arc::new(next));
        }
    }

    fn change(&self, snapshot: &mut Snapshot, server: &NodeId, change: &Change) {
        let device = device_of(change);
        let before = snapshot.get(device.as_str());
        let mut placed: Vec<Placed> = before.map(|all| all.to_vec()).unwrap_or_default();
        let former: Vec<ClientId> = placed.iter().filter_map(|placed| placed.client.clone()).collect();
        placed.retain(|placed| placed.place.server != *server);
        if let Change::Attached(attachment) = change {
            let place = Place { server: server.clone(), number: attachment.number };
            placed.push(Placed { place, client: attachment.client.clone() });
        }
        self.index(device, &former, &placed);
        match (before.is_some(), placed.is_empty()) {
            (false, false) => drop(self.devices.fetch_add(1, Ordering::Relaxed)),
            (true, true) => drop(self.devices.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        if placed.is_empty() {
            snapshot.remove(device.as_str());
        } else {
            snapshot.insert(device.clone(), placed.into());
        }
    }

    fn index(&self, device: &NodeId, former: &[ClientId], placed: &[Placed]) {
        let is_now = |client: &ClientId| placed.iter().any(|placed| placed.client.as_ref() == Some(client));
        let gone: Vec<_> = former.iter().filter(|client| !is_now(client)).collect();
        let new: Vec<_> = placed.iter().filter_map(|placed| placed.client.as_ref()).collect();
        if gone.is_empty() && new.is_empty() {
            return;
        }
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        for client in gone {
            if let Some(devices) = clients.get_mut(client) {
                devices.remove(device.as_str());
                if devices.is_empty() {
                    clients.remove(client);
                }
            }
        }
        for client in new {
            clients.entry(client.clone()).or_default().insert(device.clone());
        }
    }
}

fn device_of(change: &Change) -> &NodeId {
    match change {
        Change::Attached(attachment) => &attachment.device,
        Change::Detached(device) => device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attachments::Attachment;

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn attached(device: &str, client: Option<&str>, number: u64) -> Change {
        let client = client.map(|client| client.parse().unwrap());
        Change::Attached(Attachment { device: id(device), client, number })
    }

    #[test]
    fn the_highest_number_at_a_server_that_counts_is_the_newest() {
        let places = Places::default();
        assert_eq!(places.newest("d", |_| true), None);
        places.apply(&id("s1"), &[attached("d", None, 4)]);
        places.apply(&id("s2"), &[attached("d", None, 5), attached("e", None, 1)]);
        assert_eq!(places.newest("d", |_| true).unwrap().server, id("s2"));
        assert_eq!(places.newest("d", |place| place.server == id("s1")).unwrap().number, 4);
        assert_eq!((places.len(), places.highest("d")), (2, 5));
        let listed = |server, number| places.lists("d", &Place { server: id(server), number });
        assert!(listed("s1", 4) && !listed("s1", 5) && !listed("s3", 4));
        places.apply(&id("s2"), &[Change::Detached(id("d")), Change::Detached(id("e"))]);
        assert_eq!(places.servers_of("d"), [id("s1")]);
        assert_eq!((places.len(), places.highest("e")), (1, 0));
    }

    #[test]
    fn a_client_is_where_its_devices_are() {
        let places = Places::default();
        let client = "c".parse().unwrap();
        places.apply(&id("s1"), &[attached("d", Some("c"), 1), attached("e", Some("c"), 1)]);
        places.apply(&id("s2"), &[attached("d", Some("c"), 2)]);
        places.apply(&id("s1"), &[Change::Detached(id("d"))]);
        let mut devices = places.of_client(&client);
        devices.sort();
        assert_eq!(devices, [id("d"), id("e")]);
        places.apply(&id("s2"), &[attached("d", Some("other"), 3)]);
        places.apply(&id("s1"), &[Change::Detached(id("e"))]);
        assert!(places.of_client(&client).is_empty());
    }
}
