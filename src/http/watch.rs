//! For operators: all servers over time, one device, one envelope; asked of all servers through this one.

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::authenticate::{Demand, authenticate, with_params};
use super::params::{Params, id_in_path};
use super::{Answer, Shared, State};
use crate::home::Profile;
use crate::model::codes::{Code, Refusal};
use crate::model::history::SPAN;
use crate::model::ids::{ClientId, EnvelopeId, Millis, NodeId};
use crate::node::Survey;
use crate::push::{LastPush, Provider};
use crate::view::Acting;
use crate::watch::words::{Asked, DeviceHere, Sighted, State as Stage, Told, Vitals};

/// Readings that are told where nobody says how many.
const POINTS: usize = 30;

#[derive(Serialize)]
struct Histories {
    servers: Vec<OfServer<Vitals>>,
    /// Those that were asked and did not answer.
    silent: Vec<NodeId>,
}

#[derive(Serialize)]
struct OfServer<T> {
    node_id: NodeId,
    #[serde(flatten)]
    of: T,
}

/// `GET /v1/mesh/history`, of all servers, or with `server=ID`.
pub(super) async fn history(state: Shared, request: HttpRequest) -> Answer {
    let params = Params::parse(request.query_string())?;
    with_params(&state, &request, &params, Demand::Admin).await?;
    let points = params.number("points")?.unwrap_or(POINTS).min(SPAN);
    let servers = match params.id("server")? {
        Some(server) => vec![reachable(&state, server)?],
        None => state.watch.servers(),
    };
    let (mut told, mut silent) = (Vec::new(), Vec::new());
    for (node_id, answer) in state.watch.ask_all(servers, &Asked::Vitals { points }).await {
        match answer {
            Some(Told::Vitals(of)) => told.push(OfServer { node_id, of: *of }),
            _ => silent.push(node_id),
        }
    }
    Ok(HttpResponse::Ok().json(Histories { servers: told, silent }))
}

fn reachable(state: &State, server: NodeId) -> Result<NodeId, Refusal> {
    if server == state.site.server || state.site.view.mesh.is_reachable(&server) {
        return Ok(server);
    }
    if state.site.view.mesh.placement().members().contains(&server) {
        return Err(Refusal::new(Code::Unavailable, format!("server {server} cannot be reached now")));
    }
    Err(Refusal::new(Code::NotFound, format!("there is no server {server}")))
}

#[derive(Serialize)]
struct Where<'a> {
    sender: &'a NodeId,
    id: &'a EnvelopeId,
    found: Vec<Found>,
    silent: Vec<NodeId>,
    /// Those with more inboxes than were looked through.
    incomplete: Vec<NodeId>,
}

#[derive(Serialize)]
struct Found {
    node_id: NodeId,
    #[serde(flatten)]
    sighted: Sighted,
    /// The servers on the way that it takes by the routes of now, both ends included.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Vec<NodeId>>,
}

/// `GET /v1/mesh/where?sender=S&id=X`, with `device=D` to look in one inbox only.
pub(super) async fn envelope(state: Shared, request: HttpRequest) -> Answer {
    let params = Params::parse(request.query_string())?;
    with_params(&state, &request, &params, Demand::Admin).await?;
    let (sender, id): (NodeId, EnvelopeId) = (params.demand_id("sender")?, params.demand_id("id")?);
    let asked = Asked::Envelope { sender: sender.clone(), id: id.clone(), device: params.id("device")? };
    let mut answer = Where { sender: &sender, id: &id, found: Vec::new(), silent: Vec::new(), incomplete: Vec::new() };
    for (node_id, told) in state.watch.ask_all(state.watch.servers(), &asked).await {
        let Some(Told::Envelope(sightings)) = told else {
            answer.silent.push(node_id);
            continue;
        };
        if !sightings.searched_all {
            answer.incomplete.push(node_id.clone());
        }
        for sighted in sightings.found {
            let path = way(&state, &node_id, &sighted).await?;
            answer.found.push(Found { node_id: node_id.clone(), sighted, path });
        }
    }
    Ok(HttpResponse::Ok().json(answer))
}

/// Of what is on its way to another server.
async fn way(state: &State, from: &NodeId, sighted: &Sighted) -> Result<Option<Vec<NodeId>>, super::error::Rejection> {
    let is_between_servers = matches!(sighted.state, Stage::SentOn | Stage::Storing);
    let to = sighted.to.as_ref().filter(|_| is_between_servers).and_then(|to| to.parse().ok());
    let Some(to) = to else { return Ok(None) };
    let survey = Survey { path: Some((from.clone(), to)), without: Vec::new() };
    let steps = state.site.node.send(survey).await?.path;
    Ok(steps.map(|steps| steps.into_iter().map(|step| step.server).collect()))
}

#[derive(Serialize)]
struct DeviceSeen<'a> {
    node_id: &'a NodeId,
    client_id: Option<ClientId>,
    /// Whose inbox of it counts, and who serves its small records now.
    home: NodeId,
    acting: Option<NodeId>,
    pending: u64,
    push_providers: Vec<Provider>,
    last_push: Option<LastPush>,
    /// Those that know of it.
    servers: Vec<OfServer<DeviceHere>>,
    silent: Vec<NodeId>,
}

/// `GET /v1/nodes/{id}/edges`.
pub(super) async fn device(state: Shared, request: HttpRequest) -> Answer {
    authenticate(&state, &request, Demand::Admin).await?;
    let node: NodeId = id_in_path(&request)?;
    let profile = state.site.home.profile(node.clone()).await?;
    let never = || Refusal::new(Code::NotFound, format!("nobody has ever been here as {node}"));
    let Profile { client, pending, providers } = profile.ok_or_else(never)?;
    let mesh = &state.site.view.mesh;
    let acting = match mesh.acting(node.as_str()) {
        Acting::Here => Some(state.site.server.clone()),
        Acting::There(server) => Some(server),
        Acting::Nobody => None,
    };
    let mut seen = DeviceSeen {
        node_id: &node,
        client_id: client,
        home: mesh.home(node.as_str()),
        acting,
        pending,
        push_providers: providers,
        last_push: None,
        servers: Vec::new(),
        silent: Vec::new(),
    };
    for (node_id, told) in state.watch.ask_all(state.watch.servers(), &Asked::Device { device: node.clone() }).await {
        match told {
            Some(Told::Device(of)) => {
                let at = |push: &Option<LastPush>| push.as_ref().map_or(Millis(0), |push| push.at);
                if at(&of.last_push) > at(&seen.last_push) {
                    seen.last_push.clone_from(&of.last_push);
                }
                if !of.edges.is_empty() || of.sent_on.as_ref().is_some_and(|on| on.envelopes > 0) {
                    seen.servers.push(OfServer { node_id, of });
                }
            }
            _ => seen.silent.push(node_id),
        }
    }
    Ok(HttpResponse::Ok().json(seen))
}

/// `POST /v1/drain`, of this server, or with `server=ID`.
pub(super) async fn drain(state: Shared, request: HttpRequest) -> Answer {
    let params = Params::parse(request.query_string())?;
    let identity = with_params(&state, &request, &params, Demand::Admin).await?;
    let server = reachable(&state, params.id("server")?.unwrap_or_else(|| state.site.server.clone()))?;
    // Answered when it has begun: whoever asks next is refused already.
    match state.watch.ask(&server, Asked::Drain { by: identity.node }).await {
        Some(Told::Draining) => {
            Ok(HttpResponse::Accepted().json(serde_json::json!({"status": "draining", "node_id": server})))
        }
        _ => Err(Refusal::new(Code::Unavailable, format!("server {server} does not answer; try again")).into()),
    }
}
