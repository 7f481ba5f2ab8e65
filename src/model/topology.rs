//! The link-state database: what each server says of itself and of its links.
//!
//! Owns one record for each server: ours, which we alone change and number, and the newest heard of each other. A server
//! is reachable when a path leads to it of links that both their ends announce. Whoever holds a record has told all its
//! neighbours, or tells them when a link begins; so neighbours that have nothing more to say to each other hold the same.
//!
//! A server that stays unreachable departs: it is no longer among the records. What it said last is kept apart. So what
//! still goes about does not bring it back; and where a partition heals, and the same record counts again for those who
//! have not dropped it yet, it counts again here too ([`Topology::revive`]).
//!
//! Who floods, and when routes are computed anew and published, is the node's affair.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::ids::{Incarnation, Millis, NodeId};
use super::routes::Routes;

mod graph;
#[cfg(test)]
mod laws;
use graph::Graph;
pub use graph::Step;

/// How long a server stays unreachable before it departs, in milliseconds.
pub const DEPART_MS: u64 = 10_000;
/// Most departed servers whose last record is kept; the one that departed first goes first.
pub const MAX_DEPARTED: usize = 1024;
/// A cost is announced anew when it has changed by at least this, in microseconds, and by a fifth.
pub const COST_STEP_US: u32 = 200;

/// What one server says of itself. A record with a higher incarnation, or the same and a higher number, replaces it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub server: NodeId,
    pub incarnation: Incarnation,
    pub number: u64,
    pub about: About,
    pub links: Vec<LinkState>,
}

/// What a server says of itself beside its links.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    pub address: Address,
    pub load: Load,
    pub standing: Standing,
    /// The highest epoch of sessions that this server has given out or heard of.
    pub epoch: u64,
}

/// Where clients and servers reach a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Address {
    /// Empty: it cannot be dialled, and is never offered.
    pub host: String,
    pub port: u16,
    pub scheme: Scheme,
    pub proxy_80_port: Option<String>,
    /// As clients name it in `region`.
    pub region: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Scheme {
    #[default]
    Plain,
    Tls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Load {
    pub connections: u64,
    pub max_connections: u64,
    /// Handshakes a second that it takes; 0 of one that has not said anything yet.
    pub per_second: u64,
}

impl Load {
    /// Takes nobody.
    pub fn is_full(self) -> bool {
        self.connections >= self.max_connections
    }

    /// Whether others are to hear of it who were told `told`: the busier and the emptier, the coarser; and always where one
    /// of the two is full and the other is not.
    pub fn is_news_to(self, told: Self) -> bool {
        let room = told.max_connections.saturating_sub(told.connections);
        self.max_connections != told.max_connections
            || self.per_second != told.per_second
            || self.is_full() != told.is_full()
            || self.connections.abs_diff(told.connections) > told.connections.min(room) / 16
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Back from a crash, and not yet told what its deputies have changed meanwhile: serves no small records.
    Returning,
    Serving,
    Draining,
    /// Forgotten: home to nothing any more, and still giving away what it keeps.
    Leaving,
    /// Forgotten, and keeps nothing any more: it may be stopped.
    Empty,
}

/// One link as one of its ends announces it. It counts when both do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkState {
    pub peer: NodeId,
    /// Smoothed round trip in microseconds, at least 1.
    pub cost: u32,
}

impl Record {
    /// The higher is the newer.
    pub fn version(&self) -> (Incarnation, u64) {
        (self.incarnation, self.number)
    }
}

/// What a record that was heard is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Accepted {
    /// Newer than what was known: to be passed on to all neighbours but the one that it came from.
    New,
    Known,
    /// We know a newer one: this, for the neighbour that it came from.
    Older(Arc<Record>),
    /// It is about ourselves, and newer than ours: another life of this server has lost its counter, or had ours. Ours has
    /// now the next incarnation, in which all that we number begins anew; it is to be sent to all neighbours.
    Ghost(Arc<Record>),
}

/// See the module's header.
#[derive(Debug, Clone)]
pub struct Topology {
    own: Arc<Record>,
    /// The others.
    held: BTreeMap<NodeId, Held>,
    /// The first is the one that departed first. None of them is reachable.
    departed: VecDeque<Arc<Record>>,
}

#[derive(Debug, Clone)]
struct Held {
    record: Arc<Record>,
    /// As far as we have looked.
    unreachable_since: Option<Millis>,
}

impl Topology {
    /// A server that knows no other.
    pub fn new(own: NodeId, incarnation: Incarnation, about: About) -> Self {
        let own = Arc::new(Record { server: own, incarnation, number: 1, about, links: Vec::new() });
        Self { own, held: BTreeMap::new(), departed: VecDeque::new() }
    }

    pub fn own(&self) -> &Arc<Record> {
        &self.own
    }

    /// Our record, to be flooded, if that is a change.
    pub fn set_about(&mut self, about: About) -> Option<Arc<Record>> {
        if self.own.about == about {
            return None;
        }
        let own = Arc::make_mut(&mut self.own);
        own.number += 1;
        own.about = about;
        Some(Arc::clone(&self.own))
    }

    /// Takes the links as they are and were measured. Our record, to be flooded, if a link began or ended or a cost
    /// changed by enough ([`COST_STEP_US`]): routes do not swing with every measurement.
    pub fn set_links(&mut self, links: Vec<LinkState>) -> Option<Arc<Record>> {
        let announced: BTreeMap<&NodeId, u32> = self.own.links.iter().map(|link| (&link.peer, link.cost)).collect();
        let mut measured = BTreeMap::new();
        for LinkState { peer, cost } in links {
            if peer != self.own.server {
                let cost = settled(announced.get(&peer).copied(), cost.max(1));
                measured.insert(peer, cost);
            }
        }
        let links: Vec<LinkState> = measured.into_iter().map(|(peer, cost)| LinkState { peer, cost }).collect();
        if links == self.own.links {
            return None;
        }
        let own = Arc::make_mut(&mut self.own);
        own.number += 1;
        own.links = links;
        Some(Arc::clone(&self.own))
    }

    /// Takes a record that was heard.
    pub fn accept(&mut self, record: impl Into<Arc<Record>>, now: Millis) -> Accepted {
        let record = record.into();
        if record.server == self.own.server {
            return self.accept_own(&record);
        }
        if let Some(known) = self.newest(&record.server) {
            // Two records of one version are of two lives that took themselves for the same. All servers keep the same of
            // them; so it gets to its server, which finds its ghost in it.
            match record.version().cmp(&known.version()).then_with(|| record.cmp(known)) {
                Ordering::Less => return Accepted::Older(Arc::clone(known)),
                Ordering::Equal => return Accepted::Known,
                Ordering::Greater => {}
            }
        }
        self.departed.retain(|departed| departed.server != record.server);
        let server = record.server.clone();
        // What is newer has come from the server itself a short while ago: its time begins anew.
        self.held.insert(server, Held { record, unreachable_since: Some(now) });
        Accepted::New
    }

    fn accept_own(&mut self, record: &Record) -> Accepted {
        match record.version().cmp(&self.own.version()) {
            Ordering::Less => return Accepted::Older(Arc::clone(&self.own)),
            Ordering::Equal if *record == *self.own => return Accepted::Known,
            _ => {}
        }
        Accepted::Ghost(self.begin_after(record.incarnation))
    }

    /// Goes into an incarnation after `other`, of which somebody has heard although it was not ours. Our record, for all
    /// neighbours.
    pub fn begin_after(&mut self, other: Incarnation) -> Arc<Record> {
        let own = Arc::make_mut(&mut self.own);
        own.incarnation = Incarnation(other.max(own.incarnation).0.saturating_add(1));
        own.number = own.number.saturating_add(1);
        Arc::clone(&self.own)
    }

    /// What we know last of another server, be it departed.
    fn newest(&self, server: &NodeId) -> Option<&Arc<Record>> {
        let held = self.held.get(server).map(|held| &held.record);
        held.or_else(|| self.departed.iter().find(|departed| departed.server == *server))
    }

    /// Holds those of the departed again to which a path leads again: for all neighbours, for they may not have known them
    /// at all. To be called before [`Topology::routes`].
    pub fn revive(&mut self) -> Vec<Arc<Record>> {
        if self.departed.is_empty() {
            return Vec::new();
        }
        let graph = Graph::new(self.records().chain(&self.departed), &[]);
        let reached = graph.reached(&self.own.server);
        let (back, departed): (VecDeque<_>, _) =
            self.departed.drain(..).partition(|record| reached.contains(&record.server));
        self.departed = departed;
        for record in &back {
            let held = Held { record: Arc::clone(record), unreachable_since: None };
            self.held.insert(record.server.clone(), held);
        }
        back.into()
    }

    /// Lets those servers depart that have been unreachable for [`DEPART_MS`], and names them: all else that is known of
    /// them is to be forgotten. To be called about every second.
    pub fn expire(&mut self, now: Millis) -> Vec<NodeId> {
        let graph = Graph::new(self.records(), &[]);
        let reached = graph.reached(&self.own.server);
        let mut gone = Vec::new();
        for (server, held) in &mut self.held {
            if reached.contains(server) {
                held.unreachable_since = None;
            } else if now.since(*held.unreachable_since.get_or_insert(now)) >= DEPART_MS {
                gone.push(server.clone());
            }
        }
        for server in &gone {
            if let Some(held) = self.held.remove(server) {
                self.departed.push_back(held.record);
            }
        }
        let surplus = self.departed.len().saturating_sub(MAX_DEPARTED);
        self.departed.drain(..surplus);
        gone
    }

    /// Ours, and those of the servers that have not departed.
    pub fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        std::iter::once(&self.own).chain(self.held.values().map(|held| &held.record))
    }

    /// `None` for a server that has departed or was never heard of.
    pub fn get(&self, server: &NodeId) -> Option<&Arc<Record>> {
        if *server == self.own.server {
            return Some(&self.own);
        }
        self.held.get(server).map(|held| &held.record)
    }

    /// Whether that is the present life of a server, as far as we know: only what it says of this one is taken.
    pub fn is_current(&self, server: &NodeId, incarnation: Incarnation) -> bool {
        self.get(server).is_some_and(|record| record.incarnation == incarnation)
    }

    /// The way to each server as things stand.
    pub fn routes(&self) -> Routes {
        let graph = Graph::new(self.records(), &[]);
        Routes::new(Arc::clone(&self.own), graph.ways(&self.own.server))
    }

    /// The way that an envelope would take from one server to another if the links `without`, each by its ends, were not;
    /// with the first and the last server.
    pub fn path(&self, from: &NodeId, to: &NodeId, without: &[(NodeId, NodeId)]) -> Option<Vec<Step>> {
        Graph::new(self.records(), without).path(from, to)
    }
}

/// The cost to announce: the one announced before, unless the measured one is off by enough.
fn settled(announced: Option<u32>, measured: u32) -> u32 {
    let Some(announced) = announced else { return measured };
    let change = announced.abs_diff(measured);
    if change >= COST_STEP_US && change >= announced / 5 { measured } else { announced }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_hear_of_a_load_the_more_exactly_the_nearer_it_is_to_either_end() {
        let load = |connections| Load { connections, max_connections: 1600, per_second: 100 };
        for (told, now, is_news) in [
            (0, 1, true),
            (20, 21, false),
            (20, 22, true),
            (800, 850, false),
            (800, 851, true),
            (800, 749, true),
            (1590, 1591, true),
            (1599, 1600, true),
            (1600, 1599, true),
            (1600, 1600, false),
            (1000, 1600, true),
        ] {
            assert_eq!(load(now).is_news_to(load(told)), is_news, "{told} -> {now}");
        }
        // As an admin sets it anew.
        assert!(Load { max_connections: 20, ..load(20) }.is_news_to(load(20)));
        // With a few places only, each counts.
        for told in 0..3 {
            assert!(
                Load { max_connections: 3, ..load(told + 1) }.is_news_to(Load { max_connections: 3, ..load(told) })
            );
        }
    }
}
