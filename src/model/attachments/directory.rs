//! The lists of the other servers, and where each device is by them.
//!
//! A device is in the list of each server that it is attached at, and in an index of those servers: lists are asked for when
//! a server is told of or goes, the index when somebody looks for a device.

use std::collections::BTreeMap;

use super::super::ids::{ClientId, Incarnation, NodeId};
use super::super::routes::Routes;
use super::super::topology::Topology;
use super::partial::{Assembled, Partial};
use super::{Attachment, Change, Delta, Digest, Entry, Snapshot, snapshots};
use crate::model::keyed::HashMap;

/// What became of a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// To be passed on. The devices that it named, each once.
    Changed(Vec<NodeId>),
    /// Changes before it are missing.
    Gap,
    /// All of it is known.
    Old,
}

/// What became of a part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Took {
    /// It was the last one. The devices whose entry is another now, each once.
    Changed(Vec<NodeId>),
    /// Kept until the others have come.
    Partial,
    /// It tells nothing new, or follows on nothing.
    Old,
}

/// One attachment of a device at another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub server: &'a NodeId,
    /// Of the server.
    pub incarnation: Incarnation,
    pub client: Option<&'a ClientId>,
    pub number: u64,
}

#[derive(Debug, Clone)]
struct List {
    server: NodeId,
    incarnation: Incarnation,
    number: u64,
    entries: HashMap<NodeId, Entry>,
}

/// The number of a list, in the index. Given again when the list is forgotten.
type Slot = u32;

/// The lists that a device is in. Almost always one.
#[derive(Debug, Clone)]
enum Slots {
    One(Slot),
    Several(Box<[Slot]>),
}

/// See the module's header.
#[derive(Debug, Clone)]
pub struct Directory {
    own: NodeId,
    slots: BTreeMap<NodeId, Slot>,
    lists: Vec<Option<List>>,
    index: HashMap<NodeId, Slots>,
    /// By the neighbour that sends them; each sends a list at a time.
    partials: HashMap<NodeId, Partial>,
}

impl Directory {
    /// Knows of no other server. Nothing that others say of `own` is taken.
    pub fn new(own: NodeId) -> Self {
        Self { own, slots: BTreeMap::new(), lists: Vec::new(), index: HashMap::default(), partials: HashMap::default() }
    }

    /// Takes changes of a list, in what follows on what is known of it.
    pub fn apply(&mut self, delta: &Delta) -> Applied {
        let Some(end) = delta.end() else { return Applied::Old };
        let (incarnation, number) = match self.list(&delta.server) {
            _ if delta.server == self.own => return Applied::Old,
            Some(list) if list.incarnation > delta.incarnation => return Applied::Old,
            Some(list) if list.incarnation == delta.incarnation => (list.incarnation, list.number),
            // The list of a new incarnation begins empty, and so does ours, once we have its beginning.
            _ => (delta.incarnation, 0),
        };
        let begins = self.list(&delta.server).is_none_or(|list| list.incarnation < incarnation);
        if delta.from > number {
            return Applied::Gap;
        }
        if end <= number && !begins {
            return Applied::Old;
        }
        let mut devices = if begins { self.begin(&delta.server, incarnation) } else { Vec::new() };
        let slot = self.slots[&delta.server];
        for change in delta.changes.iter().skip((number - delta.from) as usize) {
            devices.push(self.change(slot, change));
        }
        if let Some(list) = &mut self.lists[slot as usize] {
            list.number = end;
        }
        devices.sort_unstable();
        devices.dedup();
        Applied::Changed(devices)
    }

    /// Takes a part of a list from the neighbour `from`. The parts of one list come one after the other; those of another
    /// list from the same neighbour end what it has begun.
    pub fn apply_snapshot(&mut self, from: &NodeId, part: Snapshot) -> Took {
        let digest = Digest { server: part.server.clone(), incarnation: part.incarnation, number: part.number };
        let known = self.list(&part.server).map(List::version);
        if part.server == self.own || known >= Some(digest.version()) {
            self.partials.remove(from);
            return Took::Old;
        }
        let before = self.partials.remove(from).filter(|partial| partial.is_of(&part.server));
        match Partial::add(before, part) {
            None => Took::Old,
            Some(Assembled::Part(partial)) => {
                self.partials.insert(from.clone(), partial);
                Took::Partial
            }
            Some(Assembled::Whole(attachments)) => {
                let entries = attachments.into_iter().map(|attachment| {
                    let entry = Entry { client: attachment.client, number: attachment.number };
                    (attachment.device, entry)
                });
                Took::Changed(self.replace(&digest, entries.collect()))
            }
        }
    }

    /// The link to that neighbour has ended: what it has begun to tell is not told to the end.
    pub fn abandon(&mut self, neighbour: &NodeId) {
        self.partials.remove(neighbour);
    }

    /// Of all lists but our own.
    pub fn digests(&self) -> Vec<Digest> {
        self.known().map(List::digest).collect()
    }

    /// The servers of whose lists somebody with these digests lacks something.
    pub fn behind(&self, theirs: &[Digest]) -> Vec<NodeId> {
        let theirs: HashMap<&NodeId, &Digest> = theirs.iter().map(|digest| (&digest.server, digest)).collect();
        let lacks = |list: &&List| theirs.get(&list.server).is_none_or(|digest| digest.version() < list.version());
        self.known().filter(lacks).map(|list| list.server.clone()).collect()
    }

    /// Whether somebody with these digests knows something that we lack and would take. Without the second, two servers that
    /// hold different servers for departed would never stop asking each other.
    pub fn is_behind(&self, theirs: &[Digest], topology: &Topology) -> bool {
        let more = |digest: &Digest| self.list(&digest.server).map(List::version) < Some(digest.version());
        let wanted = |digest: &Digest| topology.is_current(&digest.server, digest.incarnation);
        theirs.iter().any(|digest| digest.server != self.own && wanted(digest) && more(digest))
    }

    /// Whether a server can be reached whose list, of its present incarnation, we have not.
    pub fn lacks(&self, routes: &Routes) -> bool {
        let current = |server| self.list(server).map(|list| list.incarnation) >= routes.incarnation(server);
        !routes.servers().iter().all(current)
    }

    /// The whole list of a server in parts; none of a server that is not known.
    pub fn snapshot_of(&self, server: &NodeId) -> Vec<Snapshot> {
        let Some(list) = self.list(server) else { return Vec::new() };
        snapshots(&list.digest(), list.entries.iter().map(|(device, entry)| entry.attachment(device)))
    }

    /// Drops the list of a server that has departed. The devices that were in it.
    pub fn forget(&mut self, server: &NodeId) -> Vec<NodeId> {
        self.partials.retain(|_, partial| !partial.is_of(server));
        let Some(slot) = self.slots.remove(server) else { return Vec::new() };
        let Some(list) = self.lists[slot as usize].take() else { return Vec::new() };
        let devices: Vec<NodeId> = list.entries.into_keys().collect();
        for device in &devices {
            self.unlist(device, slot);
        }
        devices
    }

    /// Where a device is attached by the lists, the newest first, be the servers reachable or not.
    pub fn places(&self, device: &NodeId) -> Vec<Place<'_>> {
        let slots = self.index.get(device).map_or(&[][..], Slots::all);
        let mut places: Vec<Place<'_>> = slots.iter().filter_map(|slot| self.place(*slot, device)).collect();
        places.sort_unstable_by(|one, other| (other.number, other.server).cmp(&(one.number, one.server)));
        places
    }

    /// The newest attachment at a server that can be reached, in the incarnation that the list is of.
    pub fn newest(&self, device: &NodeId, routes: &Routes) -> Option<Place<'_>> {
        let slots = self.index.get(device).map_or(&[][..], Slots::all);
        let places = slots.iter().filter_map(|slot| self.place(*slot, device));
        let live = places.filter(|place| routes.incarnation(place.server) == Some(place.incarnation));
        live.max_by_key(|place| (place.number, place.server))
    }

    /// The servers whose lists are known.
    pub fn servers(&self) -> impl Iterator<Item = &NodeId> {
        self.slots.keys()
    }

    /// A device's entry in the list of a server.
    pub fn at(&self, server: &NodeId, device: &NodeId) -> Option<Attachment> {
        self.list(server)?.entries.get(device).map(|entry| entry.attachment(device))
    }

    /// How far the list of a server is known, and how many devices are in it.
    pub fn known_of(&self, server: &NodeId) -> Option<(Digest, usize)> {
        self.list(server).map(|list| (list.digest(), list.entries.len()))
    }

    /// The devices in the list of a server, in no order.
    pub fn devices_at(&self, server: &NodeId) -> impl Iterator<Item = &NodeId> {
        self.list(server).into_iter().flat_map(|list| list.entries.keys())
    }

    /// How many devices are attached at other servers.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn list(&self, server: &NodeId) -> Option<&List> {
        let slot = *self.slots.get(server)?;
        self.lists[slot as usize].as_ref()
    }

    fn known(&self) -> impl Iterator<Item = &List> {
        self.lists.iter().flatten()
    }

    fn place<'a>(&'a self, slot: Slot, device: &NodeId) -> Option<Place<'a>> {
        let list = self.lists[slot as usize].as_ref()?;
        let entry = list.entries.get(device)?;
        let (server, incarnation) = (&list.server, list.incarnation);
        Some(Place { server, incarnation, client: entry.client.as_ref(), number: entry.number })
    }

    /// An empty list at 0 in place of what was known. The devices that were in that.
    fn begin(&mut self, server: &NodeId, incarnation: Incarnation) -> Vec<NodeId> {
        let devices = self.forget(server);
        let list = List { server: server.clone(), incarnation, number: 0, entries: HashMap::default() };
        let slot = self.lists.iter().position(Option::is_none).unwrap_or(self.lists.len());
        if slot == self.lists.len() {
            self.lists.push(Some(list));
        } else {
            self.lists[slot] = Some(list);
        }
        self.slots.insert(server.clone(), slot as Slot);
        devices
    }

    /// A whole list in place of what was known. The devices whose entry is another now.
    fn replace(&mut self, digest: &Digest, entries: HashMap<NodeId, Entry>) -> Vec<NodeId> {
        if self.list(&digest.server).is_none() {
            let _ = self.begin(&digest.server, digest.incarnation);
        }
        let slot = self.slots[&digest.server];
        let Some(list) = &mut self.lists[slot as usize] else { return Vec::new() };
        let before = std::mem::replace(&mut list.entries, entries);
        let same_life = list.incarnation == digest.incarnation;
        (list.incarnation, list.number) = digest.version();
        let entries = &list.entries;
        let gone: Vec<NodeId> = before.keys().filter(|device| !entries.contains_key(*device)).cloned().collect();
        let other = entries.iter().filter(|(device, entry)| !same_life || before.get(*device) != Some(entry));
        let mut devices: Vec<NodeId> = other.map(|(device, _)| device.clone()).collect();
        for device in &gone {
            self.unlist(device, slot);
        }
        for device in devices.iter().filter(|device| !before.contains_key(*device)) {
            enlist(&mut self.index, device, slot);
        }
        devices.extend(gone);
        devices
    }

    fn change(&mut self, slot: Slot, change: &Change) -> NodeId {
        if let Some(list) = &mut self.lists[slot as usize] {
            match change {
                Change::Attached(attachment) => {
                    let entry = Entry { client: attachment.client.clone(), number: attachment.number };
                    if list.entries.insert(attachment.device.clone(), entry).is_none() {
                        enlist(&mut self.index, &attachment.device, slot);
                    }
                }
                Change::Detached(device) => {
                    if list.entries.remove(device).is_some() {
                        self.unlist(device, slot);
                    }
                }
            }
        }
        change.device().clone()
    }

    fn unlist(&mut self, device: &NodeId, slot: Slot) {
        let Some(slots) = self.index.get_mut(device) else { return };
        let rest: Vec<Slot> = slots.all().iter().copied().filter(|one| *one != slot).collect();
        match rest[..] {
            [] => drop(self.index.remove(device)),
            [one] => *slots = Slots::One(one),
            _ => *slots = Slots::Several(rest.into()),
        }
    }
}

/// Notes that `device` is in one more list.
fn enlist(index: &mut HashMap<NodeId, Slots>, device: &NodeId, slot: Slot) {
    match index.get_mut(device) {
        None => drop(index.insert(device.clone(), Slots::One(slot))),
        Some(slots) => *slots = Slots::Several(slots.all().iter().copied().chain([slot]).collect()),
    }
}

impl Slots {
    fn all(&self) -> &[Slot] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Several(slots) => slots,
        }
    }
}

impl List {
    fn version(&self) -> (Incarnation, u64) {
        (self.incarnation, self.number)
    }

    fn digest(&self) -> Digest {
        Digest { server: self.server.clone(), incarnation: self.incarnation, number: self.number }
    }
}
