//! Devices as app back ends see them.

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::authenticate::{Demand, authenticate};
use super::error::Rejection;
use super::params::id_in_path;
use super::{Answer, Shared, State};
use crate::home::Profile;
use crate::model::codes::{Close, Code, Refusal};
use crate::model::ids::{ClientId, NodeId};
use crate::push::Provider;

#[derive(Serialize)]
struct Known<'a> {
    node_id: &'a NodeId,
    client_id: Option<&'a ClientId>,
    online: bool,
    connections: usize,
    pending: u64,
    push_providers: Vec<Provider>,
}

/// `GET /v1/nodes/{id}`.
pub(super) async fn show(state: Shared, request: HttpRequest) -> Answer {
    authenticate(&state, &request, Demand::App).await?;
    let node = id_in_path(&request)?;
    let profile = profile(&state, &node).await?;
    let connections = state.site.view.devices.get(node.as_str()).map_or(0, |device| device.connections().len());
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
    let device = state.site.view.devices.get(node.as_str());
    let disconnected = device.map_or(0, |device| device.stop_all(Close::DISCONNECTED));
    log::info!("{} disconnects {node}: {disconnected} edges", identity.node);
    Ok(HttpResponse::Ok().json(serde_json::json!({"disconnected": disconnected})))
}

async fn profile(state: &State, node: &NodeId) -> Result<Profile, Rejection> {
    let profile = state.site.home.profile(node.clone()).await?;
    profile.ok_or_else(|| Refusal::new(Code::NotFound, format!("nobody has ever been here as {node}")).into())
}
