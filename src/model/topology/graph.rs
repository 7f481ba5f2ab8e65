//! The graph of servers and links, and the shortest paths over it.
//!
//! The same records give the same graph at every server, and of several paths of the same cost every server takes the
//! same: the one of fewest links, and of those the one by the neighbour with the lowest id. So the next hops of all servers
//! together are the path that each of them would foretell, and since every link costs something, none goes round.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use petgraph::graph::{NodeIndex, UnGraph};
use petgraph::visit::{Dfs, EdgeRef};

use super::super::ids::NodeId;
use super::super::routes::Way;
use super::Record;
use crate::model::keyed::{HashMap, HashSet, Keyed};

/// One server on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub server: NodeId,
    /// From the start up to here, in microseconds.
    pub cost: u64,
}

/// How far a server is; ordered by what is preferred. Indices are in the order of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Distance {
    cost: u64,
    links: u32,
    /// The neighbour of the start that the path goes by; the start itself for the start.
    first: NodeIndex,
}

pub(super) struct Graph<'a> {
    servers: UnGraph<&'a Arc<Record>, u32>,
    index: HashMap<&'a NodeId, NodeIndex>,
}

impl<'a> Graph<'a> {
    /// Of records, one for each server. A link counts when both ends announce it, and costs the larger of what they say.
    pub(super) fn new(records: impl Iterator<Item = &'a Arc<Record>>, without: &[(NodeId, NodeId)]) -> Self {
        let records: BTreeMap<&NodeId, &Arc<Record>> = records.map(|record| (&record.server, record)).collect();
        let mut servers = UnGraph::with_capacity(records.len(), 0);
        let index: HashMap<_, _> =
            records.iter().map(|(server, record)| (*server, servers.add_node(*record))).collect();
        let mut announced: HashMap<(NodeIndex, NodeIndex), u32> = HashMap::default();
        for (server, record) in &records {
            for link in &record.links {
                let cut = |(x, y): &(NodeId, NodeId)| {
                    (*x == **server && *y == link.peer) || (*y == **server && *x == link.peer)
                };
                let Some(&peer) = index.get(&link.peer) else { continue };
                if link.peer != **server && !without.iter().any(cut) {
                    let cost = announced.entry((index[server], peer)).or_default();
                    *cost = link.cost.max(*cost);
                }
            }
        }
        for (&(from, to), &there) in &announced {
            if from < to
                && let Some(&back) = announced.get(&(to, from))
            {
                servers.add_edge(from, to, there.max(back).max(1));
            }
        }
        Self { servers, index }
    }

    /// The servers to which a path leads from `start`, itself included.
    pub(super) fn reached(&self, start: &NodeId) -> HashSet<NodeId> {
        let mut reached = HashSet::default();
        if let Some(&start) = self.index.get(start) {
            let mut search = Dfs::new(&self.servers, start);
            while let Some(server) = search.next(&self.servers) {
                reached.insert(self.servers[server].server.clone());
            }
        }
        reached
    }

    /// The way to each server that a path leads to, but `start` itself.
    pub(super) fn ways(&self, start: &NodeId) -> Vec<Way> {
        let Some(&start) = self.index.get(start) else { return Vec::new() };
        let distances = self.distances(start);
        let others = distances.iter().filter(|(server, _)| **server != start);
        let way = |(&server, distance): (&NodeIndex, &Distance)| Way {
            record: Arc::clone(self.servers[server]),
            next: self.servers[distance.first].server.clone(),
            cost: distance.cost,
            links: distance.links,
        };
        others.map(way).collect()
    }

    /// From each server by its own next hop, with both ends.
    pub(super) fn path(&self, from: &NodeId, to: &NodeId) -> Option<Vec<Step>> {
        let (mut here, to) = (*self.index.get(from)?, *self.index.get(to)?);
        let total = self.distances(here).get(&to)?.cost;
        // The links cost the same both ways, so what is left from each server is its distance from the end.
        let left = self.distances(to);
        let step = |server: NodeIndex| {
            Some(Step { server: self.servers[server].server.clone(), cost: total - left.get(&server)?.cost })
        };
        let mut path = vec![step(here)?];
        while here != to {
            let nearer = self.servers.edges(here).filter_map(|link| {
                let beyond = left.get(&link.target())?;
                Some((u64::from(*link.weight()) + beyond.cost, beyond.links, link.target()))
            });
            here = nearer.min()?.2;
            path.push(step(here)?);
        }
        Some(path)
    }

    /// Dijkstra, carrying the first hop.
    fn distances(&self, start: NodeIndex) -> HashMap<NodeIndex, Distance> {
        let mut distances = HashMap::with_capacity_and_hasher(self.servers.node_count(), Keyed);
        let mut nearest = BinaryHeap::from([Reverse((Distance { cost: 0, links: 0, first: start }, start))]);
        while let Some(Reverse((distance, server))) = nearest.pop() {
            if distances.contains_key(&server) {
                continue;
            }
            distances.insert(server, distance);
            for link in self.servers.edges(server) {
                let peer = link.target();
                if !distances.contains_key(&peer) {
                    let first = if server == start { peer } else { distance.first };
                    let cost = distance.cost + u64::from(*link.weight());
                    nearest.push(Reverse((Distance { cost, links: distance.links + 1, first }, peer)));
                }
            }
        }
        distances
    }
}
