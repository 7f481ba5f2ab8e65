//! Devices as app back ends see them.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::authenticate::{Demand, authenticate};
use super::error::Rejection;
use super::params::id_in_path;
use super::{Answer, Shared, State};
use crate::home::Profile;
use crate::model::codes::{Code, Refusal};
use crate::model::frames::EdgeWish;
use crate::model::ids::{ClientId, NodeId};
use crate::push::Provider;

/// How long another server may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Serialize)]
struct Known<'a> {
    node_id: &'a NodeId,
    client_id: Option<&'a ClientId>,
    online: bool,
    /// At all servers.
    connections: u64,
    pending: u64,
    push_providers: Vec<Provider>,
}

/// `GET /v1/nodes/{id}`.
pub(super) async fn show(state: Shared, request: HttpRequest) -> Answer {
    authenticate(&state, &request, Demand::App).await?;
    let node = id_in_path(&request)?;
    let profile = profile(&state, &node).await?;
    // Who does not answer has at least one.
    let connections =
        edges(&state, &node, EdgeWish::Count).await.into_iter().map(|(_, edges)| edges.unwrap_or(1)).sum();
    let known = Known {
        node_id: &node,
        client_id: profile.client.as_ref(),
        online: connections > 0,
        connections,
        pending: profile.pending,
        push_providers: profile.providers,
    };
    Ok(HttpResponse::Ok().json(known))
}

/// `POST /v1/nodes/{id}/disconnect`.
pub(super) async fn disconnect(state: Shared, request: HttpRequest) -> Answer {
    let identity = authenticate(&state, &request, Demand::App).await?;
    let node = id_in_path(&request)?;
    profile(&state, &node).await?;
    let closed = edges(&state, &node, EdgeWish::Close).await;
    if let Some((silent, _)) = closed.iter().find(|(_, edges)| edges.is_none()) {
        let message = format!("{node} may still be connected at {silent}, which does not answer; try again");
        return Err(Refusal::new(Code::Unavailable, message).into());
    }
    let disconnected: u64 = closed.into_iter().filter_map(|(_, edges)| edges).sum();
    log::info!("{} disconnects {node}: {disconnected} edges", identity.node);
    Ok(HttpResponse::Ok().json(serde_json::json!({"disconnected": disconnected})))
}

/// Of each server where the device is attached, how many edges there are or were; `None` of one that does not answer.
async fn edges(state: &State, node: &NodeId, wish: EdgeWish) -> Vec<(NodeId, Option<u64>)> {
    let view = &state.site.view;
    let servers = view.places.servers_of(node.as_str());
    let reachable = servers.into_iter().filter(|server| view.mesh.is_reachable(server));
    let asked: Vec<_> = reachable.map(|server| (view.ask_edges(&server, node, wish), server)).collect();
    let mut edges = vec![(state.site.server.clone(), Some(view.edges_here(node, wish)))];
    let until = tokio::time::Instant::now() + PATIENCE;
    for (answer, server) in asked {
        let answer = match answer {
            Some(answer) => tokio::time::timeout_at(until, answer).await.ok().and_then(Result::ok),
            None => None,
        };
        edges.push((server, answer));
    }
    edges
}

async fn profile(state: &State, node: &NodeId) -> Result<Profile, Rejection> {
    let profile = state.site.home.profile(node.clone()).await?;
    profile.ok_or_else(|| Refusal::new(Code::NotFound, format!("nobody has ever been here as {node}")).into())
}
