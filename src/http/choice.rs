//! Which server somebody is offered, of those that this one knows: the model chooses, here is what it chooses from.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::error::Rejection;
use super::state::State;
use crate::model::choice::{Candidate, choose as best};
use crate::model::ids::{Incarnation, NodeId, SessionId};
use crate::model::topology::{Address, Load, Standing};
use crate::node::Distances;

/// Whether a client reaches no port but 80.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port80 {
    Needed,
    Other,
}

/// What a client asks for.
pub(super) struct Wish {
    pub(super) session: Option<SessionId>,
    pub(super) region: Option<String>,
    pub(super) port_80: Port80,
}

/// A server that somebody is offered.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) server: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) address: Address,
}

/// One that takes connections.
struct Open {
    chosen: Chosen,
    load: Load,
    /// Of what it says of itself.
    record: u64,
}

/// How often each server has been offered since it last said how full it is: those have not come yet, or it would have
/// said so.
#[derive(Debug, Default)]
pub(super) struct Offered(Mutex<HashMap<NodeId, (u64, u64)>>);

impl Offered {
    fn add_to(&self, open: &mut [Open]) {
        let offered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for open in open {
            let known = offered.get(&open.chosen.server).filter(|(record, _)| *record == open.record);
            open.load.connections += known.map_or(0, |(_, count)| *count);
        }
    }

    fn note(&self, open: &Open) {
        let mut offered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = offered.entry(open.chosen.server.clone()).or_default();
        *known = if known.0 == open.record { (known.0, known.1 + 1) } else { (open.record, 1) };
    }
}

/// The servers that live, do not drain, are not full, are members, and have an address. This one may be among them.
fn open(state: &State) -> Vec<Open> {
    let (view, standing) = (&state.site.view, &state.site.standing);
    let (routes, placement) = (view.mesh.routes(), view.mesh.placement());
    let mut open = Vec::with_capacity(routes.servers().len() + 1);
    if standing.refusal().is_none() {
        let chosen = Chosen {
            server: state.site.server.clone(),
            incarnation: view.mesh.incarnation(),
            address: state.address(),
        };
        let load = Load { connections: standing.connections(), max_connections: standing.max() };
        let record = routes.record(&state.site.server).map_or(0, |record| record.number);
        open.push(Open { chosen, load, record });
    }
    for server in routes.servers() {
        let Some(record) = routes.record(server) else { continue };
        let about = &record.about;
        let takes = about.standing != Standing::Draining
            && about.load.connections < about.load.max_connections
            && !about.address.host.is_empty()
            && placement.members().contains(server);
        if takes {
            let (server, address) = (server.clone(), about.address.clone());
            let chosen = Chosen { server, incarnation: record.incarnation, address };
            open.push(Open { chosen, load: about.load, record: record.number });
        }
    }
    state.offered.add_to(&mut open);
    open
}

/// The server to offer; `None` while none takes connections.
pub(super) async fn choose(state: &State, wish: &Wish) -> Result<Option<Chosen>, Rejection> {
    let mut open = open(state);
    if wish.port_80 == Port80::Needed && open.iter().any(|open| open.chosen.address.proxy_80_port.is_some()) {
        open.retain(|open| open.chosen.address.proxy_80_port.is_some());
    }
    let mut distances = HashMap::new();
    if let Some(region) = &wish.region {
        let is_there = |open: &Open| open.chosen.address.region.as_ref() == Some(region);
        if open.iter().any(is_there) {
            open.retain(is_there);
        } else {
            distances = state.site.node.send(Distances { region: region.clone() }).await?;
        }
    }
    let members = wish.session.as_ref().map(|session| members(state, session)).unwrap_or_default();
    Ok(pick(state, open, &distances, &members))
}

/// As [`choose`], for somebody who wishes nothing.
pub(super) fn least_loaded(state: &State) -> Option<Chosen> {
    pick(state, open(state), &HashMap::new(), &HashMap::new())
}

fn pick(
    state: &State,
    open: Vec<Open>,
    distances: &HashMap<NodeId, u64>,
    members: &HashMap<NodeId, usize>,
) -> Option<Chosen> {
    let far = if distances.is_empty() { 0 } else { u64::MAX };
    let candidates = open.iter().map(|open| Candidate {
        server: &open.chosen.server,
        load: open.load,
        distance: distances.get(&open.chosen.server).copied().unwrap_or(far),
        members: members.get(&open.chosen.server).copied().unwrap_or_default(),
    });
    let server = best(candidates)?.clone();
    let open = open.into_iter().find(|open| open.chosen.server == server)?;
    state.offered.note(&open);
    Some(open.chosen)
}

/// How many members of a session have their newest edge at each server, as far as this one knows the session.
fn members(state: &State, session: &SessionId) -> HashMap<NodeId, usize> {
    let view = &state.site.view;
    let mut members = HashMap::new();
    let Some(session) = view.sessions.get(session) else { return members };
    for member in session.current().members() {
        let here = || view.devices.get(member.node().as_str()).is_some_and(|device| device.is_attached());
        let elsewhere = view.place_of(member.node()).map(|place| place.server);
        if let Some(server) = elsewhere.or_else(|| here().then(|| state.site.server.clone())) {
            *members.entry(server).or_default() += 1;
        }
    }
    members
}
