//! How far servers are from a region.

use actix::prelude::*;

use super::Node;
use crate::model::ids::NodeId;
use crate::model::keyed::HashMap;

/// Asks how far each server is from the nearest one of a region, in microseconds; empty where no server is of it.
#[derive(Debug, Message)]
#[rtype(result = "HashMap<NodeId, u64>")]
pub struct Distances {
    pub region: String,
}

impl Handler<Distances> for Node {
    type Result = MessageResult<Distances>;

    fn handle(&mut self, Distances { region }: Distances, _: &mut Self::Context) -> Self::Result {
        let is_there = |server: &NodeId| {
            let record = self.topology.get(server);
            record.is_some_and(|record| record.about.address.region.as_ref() == Some(&region))
        };
        let servers: Vec<&NodeId> = self.topology.records().map(|record| &record.server).collect();
        let mut distances: HashMap<NodeId, u64> = HashMap::default();
        for from in servers.iter().filter(|server| is_there(server)) {
            for to in &servers {
                let way = self.topology.path(from, to, &[]);
                if let Some(cost) = way.and_then(|way| way.last().map(|step| step.cost)) {
                    let known = distances.entry((*to).clone()).or_insert(u64::MAX);
                    *known = cost.min(*known);
                }
            }
        }
        MessageResult(distances)
    }
}
