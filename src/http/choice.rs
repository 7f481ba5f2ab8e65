//! Which server somebody is offered, of those that this one knows, and when they are to set out: the model chooses, here is
//! what it chooses from.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::seq::SliceRandom;

use super::error::Rejection;
use super::state::State;
use crate::model::admission::{LEAST, LONGEST, Slots};
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
}

/// A server that somebody is offered.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) server: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) address: Address,
    /// When they are to set out, in milliseconds from now.
    pub(super) start_after_ms: u64,
}

/// One that takes connections.
struct Open {
    chosen: Chosen,
    load: Load,
}

/// Who has been sent where by this server, and when they come. What other servers offer is not known here until somebody has
/// come; but each of them gives only its share of what a server takes.
#[derive(Debug, Default)]
pub(super) struct Offered(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    reserved: Reservations,
    slots: Slots,
}

impl Offered {
    fn lock(&self) -> MutexGuard<'_, Given> {
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
            start_after_ms: 0,
        };
        open.push(Open { chosen, load: standing.load() });
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
            let chosen = Chosen { server, incarnation: record.incarnation, address, start_after_ms: 0 };
            open.push(Open { chosen, load: about.load });
        }
    }
    open
}

/// How many addresses somebody is told to ask at.
const MOST_TOLD: usize = 8;

/// The servers that may be asked for an offer, this one too: those that live, are members and do not drain. Of many
/// some, other ones each time, so that not all clients of a server that dies turn to the same ones.
pub(super) fn askable(state: &State) -> Vec<Address> {
    let (view, standing) = (&state.site.view, &state.site.standing);
    let (routes, placement) = (view.mesh.routes(), view.mesh.placement());
    let others = routes.servers().iter().filter(|server| placement.members().contains(*server)).filter_map(|server| {
        let about = &routes.record(server)?.about;
        (about.standing != Standing::Draining).then(|| about.address.clone())
    });
    let own = (!standing.is_draining()).then(|| state.address());
    let mut all: Vec<Address> = others.chain(own).filter(|address| !address.host.is_empty()).collect();
    let (told, _) = all.partial_shuffle(&mut rand::rng(), MOST_TOLD);
    told.to_vec()
}

/// The server to offer; `None` while none takes connections, or so many are told to come that nobody can be told when.
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
    Ok(pick(state, open, &distances, &members))
}

/// As [`choose`], for somebody who wishes nothing.
pub(super) fn least_loaded(state: &State) -> Option<Chosen> {
    pick(state, open(state), &HashMap::default(), &Gathering::default())
}

/// Chooses, and keeps a place there, and a time to come.
fn pick(state: &State, mut open: Vec<Open>, distances: &HashMap<NodeId, u64>, members: &Gathering) -> Option<Chosen> {
    // All that live give offers, those too that take nobody themselves.
    let offering = state.site.view.mesh.routes().servers().len() as u64 + 1;
    // Held from the look to the choice: of many who ask at once each sees the one before.
    let mut given = state.offered.lock();
    let now = steady();
    let moment = Duration::from_millis(now.0);
    given.reserved.expire(now);
    given.slots.expire(moment);
    open.retain(|open| given.slots.wait(&open.chosen.server, rate(open.load), offering, moment) <= LONGEST);
    let far = if distances.is_empty() { 0 } else { u64::MAX };
    let candidates = open.iter().map(|open| Candidate {
        server: &open.chosen.server,
        load: open.load,
        reserved: given.reserved.at(&open.chosen.server),
        distance: distances.get(&open.chosen.server).copied().unwrap_or(far),
        members: members.get(&open.chosen.server).copied().unwrap_or_default(),
    });
    let server = best(candidates)?.clone();
    let open = open.into_iter().find(|open| open.chosen.server == server)?;
    let wait = given.slots.book(&server, rate(open.load), offering, moment);
    // Not a moment too early.
    let start_after_ms = wait.as_nanos().div_ceil(1_000_000) as u64;
    given.reserved.reserve(&server, start_after_ms, now);
    Some(Chosen { start_after_ms, ..open.chosen })
}

/// One that has not said how many it takes takes few.
fn rate(load: Load) -> u64 {
    load.per_second.max(LEAST)
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
