//! The next hop to every server, as an immutable snapshot.
//!
//! Made by `topology`, read by the data path: each question is one look into a table. A server counts as reachable when a
//! frame gets there within [`MAX_HOPS`].

use std::sync::Arc;

use super::frames::MAX_HOPS;
use super::ids::{Incarnation, NodeId};
use super::topology::{About, Record};
use crate::model::keyed::HashMap;

/// How to reach one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub record: Arc<Record>,
    /// The neighbour that frames for it go to first: itself, if it is one.
    pub next: NodeId,
    /// In microseconds.
    pub cost: u64,
    /// How many links lie between.
    pub links: u32,
}

/// See the module's header.
#[derive(Debug, Clone)]
pub struct Routes {
    own: Arc<Record>,
    ways: HashMap<NodeId, Way>,
    /// Sorted.
    servers: Vec<NodeId>,
}

impl Routes {
    pub(super) fn new(own: Arc<Record>, ways: Vec<Way>) -> Self {
        let near = ways.into_iter().filter(|way| way.links <= u32::from(MAX_HOPS));
        let ways: HashMap<NodeId, Way> = near.map(|way| (way.record.server.clone(), way)).collect();
        let mut servers: Vec<NodeId> = ways.keys().cloned().collect();
        servers.sort_unstable();
        Self { own, ways, servers }
    }

    pub fn own(&self) -> &NodeId {
        &self.own.server
    }

    /// The same, but for `servers`, which count as unreachable; those behind them are still reached through them.
    #[must_use]
    pub fn without(&self, servers: &[NodeId]) -> Self {
        let mut less = self.clone();
        less.ways.retain(|server, _| !servers.contains(server));
        less.servers.retain(|server| !servers.contains(server));
        less
    }

    /// The neighbour by which frames for `server` go; none for ourselves.
    pub fn next(&self, server: &NodeId) -> Option<&NodeId> {
        self.ways.get(server).map(|way| &way.next)
    }

    /// In microseconds; nothing to ourselves.
    pub fn cost(&self, server: &NodeId) -> Option<u64> {
        if *server == self.own.server {
            return Some(0);
        }
        self.ways.get(server).map(|way| way.cost)
    }

    /// Of ourselves, or of a reachable server.
    pub fn incarnation(&self, server: &NodeId) -> Option<Incarnation> {
        self.record(server).map(|record| record.incarnation)
    }

    /// Of ourselves, or of a reachable server.
    pub fn about(&self, server: &NodeId) -> Option<&About> {
        self.record(server).map(|record| &record.about)
    }

    /// Of ourselves, or of a reachable server.
    pub fn record(&self, server: &NodeId) -> Option<&Arc<Record>> {
        if *server == self.own.server {
            return Some(&self.own);
        }
        self.ways.get(server).map(|way| &way.record)
    }

    pub fn way(&self, server: &NodeId) -> Option<&Way> {
        self.ways.get(server)
    }

    /// We always reach ourselves.
    pub fn is_reachable(&self, server: &NodeId) -> bool {
        *server == self.own.server || self.ways.contains_key(server)
    }

    /// The reachable servers, by id, without ourselves.
    pub fn servers(&self) -> &[NodeId] {
        &self.servers
    }
}
