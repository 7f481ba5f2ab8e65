//! What a person is shown of the mesh: as this server knows it.

use actix::prelude::*;

use super::Node;
use crate::model::ids::{Incarnation, NodeId};
use crate::model::topology::{About, Load, Record, Step};

/// Asks what this server knows of the mesh.
#[derive(Debug, Default, Message)]
#[rtype(result = "Surveyed")]
pub struct Survey {
    /// The way of an envelope from the first to the second is asked for too, if these links were not.
    pub path: Option<(NodeId, NodeId)>,
    pub without: Vec<(NodeId, NodeId)>,
}

#[derive(Debug, Clone)]
pub struct Surveyed {
    /// This one first, the others by id.
    pub servers: Vec<ServerSeen>,
    pub members: Vec<NodeId>,
    pub forgotten: Vec<NodeId>,
    /// Servers that this one has met and that have other pins.
    pub other_pins: Vec<NodeId>,
    /// With both ends; `None` where no way leads, or none was asked for.
    pub path: Option<Vec<Step>>,
}

/// One server that is known, or that is a member.
#[derive(Debug, Clone)]
pub struct ServerSeen {
    pub server: NodeId,
    /// What it says of itself; `None` of a member that has departed.
    pub said: Option<Said>,
    /// Of the way there in microseconds; `None` where none leads.
    pub cost: Option<u64>,
    /// The neighbour that the way there begins with.
    pub via: Option<NodeId>,
    /// Devices in its list of attachments, and how far the list is known.
    pub attachments: usize,
    pub attachment_number: u64,
}

#[derive(Debug, Clone)]
pub struct Said {
    pub incarnation: Incarnation,
    pub about: About,
    pub links: Vec<LinkSeen>,
}

/// A link as one end announces it.
#[derive(Debug, Clone)]
pub struct LinkSeen {
    pub peer: NodeId,
    /// In microseconds.
    pub cost: u32,
    /// The other end announces it too, so that it counts.
    pub mutual: bool,
    /// Of our own links: bytes that wait in the queue.
    pub queue_bytes: Option<usize>,
    /// Of our own links: how far the other clock is ahead of ours.
    pub clock_offset_ms: Option<i64>,
    /// Of our own links: bytes on their way to that server, over whatever link, that it has not acknowledged.
    pub unacknowledged_bytes: Option<usize>,
}

impl Handler<Survey> for Node {
    type Result = MessageResult<Survey>;

    fn handle(&mut self, survey: Survey, _: &mut Self::Context) -> Self::Result {
        let path = survey.path.as_ref().and_then(|(from, to)| self.topology.path(from, to, &survey.without));
        let known = self.topology.records().map(|record| self.seen(record));
        let departed = self.members.current().filter(|member| self.topology.get(member).is_none());
        let departed = departed.map(|member| ServerSeen {
            server: member.clone(),
            said: None,
            cost: None,
            via: None,
            attachments: 0,
            attachment_number: 0,
        });
        MessageResult(Surveyed {
            servers: known.chain(departed).collect(),
            members: self.members.current().cloned().collect(),
            forgotten: self.members.forgotten().cloned().collect(),
            other_pins: self.other_pins.iter().cloned().collect(),
            path,
        })
    }
}

impl Node {
    fn seen(&self, record: &Record) -> ServerSeen {
        let (server, routes) = (&record.server, self.view.mesh.routes());
        let is_own = *server == self.server;
        let link = |link: &crate::model::topology::LinkState| {
            let back = self.topology.get(&link.peer).map(|record| &record.links);
            let own = self.neighbours.get(&link.peer).filter(|_| is_own);
            LinkSeen {
                peer: link.peer.clone(),
                cost: link.cost,
                mutual: back.is_some_and(|links| links.iter().any(|link| link.peer == *server)),
                queue_bytes: own.map(|neighbour| neighbour.queue.bytes()),
                clock_offset_ms: own.map(|neighbour| neighbour.clock_offset_ms),
                unacknowledged_bytes: own.map(|_| self.view.mesh.unacknowledged(&link.peer)),
            }
        };
        let mut about = record.about.clone();
        if let Some(published) = routes.record(server) {
            // As those know it who make offers.
            about.load = published.about.load;
        }
        let (number, attachments) = if is_own {
            about.load.connections = self.standing.connections();
            about.load = Load { connections: about.load.connections, ..self.standing.load() };
            (self.own.digest().number, self.own.len())
        } else {
            let known = self.directory.known_of(server).filter(|(digest, _)| digest.incarnation == record.incarnation);
            known.map_or((0, 0), |(digest, len)| (digest.number, len))
        };
        ServerSeen {
            server: server.clone(),
            said: Some(Said { incarnation: record.incarnation, about, links: record.links.iter().map(link).collect() }),
            cost: routes.cost(server),
            via: routes.next(server).cloned(),
            attachments,
            attachment_number: number,
        }
    }
}
