//! Which server somebody is offered, of those that this one knows: the model chooses, here is what it chooses from.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::Rejection;
use super::state::State;
use crate::model::choice::{Candidate, choose as best};
use crate::model::ids::{Incarnation, NodeId, SessionId};
use crate::model::keyed::HashMap;
use crate::model::reservations::Reservations;
use crate::model::topology::{Address, Load, Standing};
use crate::node::Distances;
use crate::view::{Gathering, steady};

/// How long somebody who asks where to connect waits for a hint about a session.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a client reaches no port but 80.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port80 {
    Needed,
    /// It came to the proxy there over TLS, and goes on so.
    Tls,
    Other,
}

/// What a client asks for.
pub(super) struct Wish {
    pub(super) session: Option<SessionId>,
    pub(super) region: Option<String>,
    pub(super) port_80: Port80,
    /// When they will be told to set out, in milliseconds from now.
    pub(super) start_after_ms: u64,
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
}

/// Who has been sent where by this server. What other servers offer is not known here until somebody has come.
#[derive(Debug, Default)]
pub(super) struct Offered(Mutex<Reservations>);

impl Offered {
    fn lock(&self) -> MutexGuard<'_, Reservations> {
        // Nothing panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The servers that live, do not drain, are not full, are members, and have an address. This one may be among them.
fn open(state: &State) -> Vec<Open> {
    let (view, standing) = (&state.site.view, &state.site.standing);
    let (routes, placement) = (view.mesh.routes(), view.mesh.placement());
    let mut open = Vec::with_capacity(routes.servers().len() + 1);
    // One that has been forgotten is to be left, unless there is no other.
    let is_forgotten = !placement.members().contains(&state.site.server) && !routes.servers().is_empty();
    if standing.refusal().is_none() && !is_forgotten {
        let chosen = Chosen {
            server: state.site.server.clone(),
            incarnation: view.mesh.incarnation(),
            address: state.address(),
        };
        let load = Load { connections: standing.connections(), max_connections: standing.max() };
        open.push(Open { chosen, load });
    }
    for server in routes.servers() {
        let Some(record) = routes.record(server) else { continue };
        let about = &record.about;
        let takes = about.standing != Standing::Draining
            && !about.load.is_full()
            && !about.address.host.is_empty()
            && placement.members().contains(server);
        if takes {
            let (server, address) = (server.clone(), about.address.clone());
            let chosen = Chosen { server, incarnation: record.incarnation, address };
            open.push(Open { chosen, load: about.load });
        }
    }
    open
}

/// The server to offer; `None` while none takes connections.
pub(super) async fn choose(state: &State, wish: &Wish) -> Result<Option<Chosen>, Rejection> {
    let mut open = open(state);
    if wish.port_80 != Port80::Other && open.iter().any(|open| open.chosen.address.proxy_80_port.is_some()) {
        open.retain(|open| open.chosen.address.proxy_80_port.is_some());
    }
    let mut distances = HashMap::default();
    if let Some(region) = &wish.region {
        let is_there = |open: &Open| open.chosen.address.region.as_ref() == Some(region);
        if open.iter().any(is_there) {
            open.retain(is_there);
        } else {
            distances = state.site.node.send(Distances { region: region.clone() }).await?;
        }
    }
    let members = match &wish.session {
        Some(session) => members(state, session).await,
        None => Gathering::default(),
    };
    Ok(pick(state, open, &distances, &members, wish.start_after_ms))
}

/// As [`choose`], for somebody who wishes nothing.
pub(super) fn least_loaded(state: &State) -> Option<Chosen> {
    pick(state, open(state), &HashMap::default(), &Gathering::default(), 0)
}

/// Chooses, and keeps a place there for somebody who sets out in `after_ms`.
fn pick(
    state: &State,
    open: Vec<Open>,
    distances: &HashMap<NodeId, u64>,
    members: &Gathering,
    after_ms: u64,
) -> Option<Chosen> {
    // Held from the look to the choice: of many who ask at once each sees the one before.
    let mut offered = state.offered.lock();
    let now = steady();
    offered.expire(now);
    let far = if distances.is_empty() { 0 } else { u64::MAX };
    let candidates = open.iter().map(|open| Candidate {
        server: &open.chosen.server,
        load: open.load,
        reserved: offered.at(&open.chosen.server),
        distance: distances.get(&open.chosen.server).copied().unwrap_or(far),
        members: members.get(&open.chosen.server).copied().unwrap_or_default(),
    });
    let server = best(candidates)?.clone();
    let open = open.into_iter().find(|open| open.chosen.server == server)?;
    offered.reserve(&server, after_ms, now);
    Some(open.chosen)
}

/// Where the members of a session are: whoever acts for it knows best.
async fn members(state: &State, session: &SessionId) -> Gathering {
    let view = &state.site.view;
    let Some(answer) = view.ask_gathering(session) else { return view.gathering(session) };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(servers)) => servers.into_iter().collect(),
        // It is a hint.
        _ => view.gathering(session),
    }
}
