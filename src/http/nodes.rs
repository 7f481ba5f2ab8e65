//! Devices as app back ends see them.

use actix_web::{HttpRequest, HttpResponse};

use super::authenticate::{Demand, authenticate};
use super::params::id_in_path;
use super::{Answer, Shared};
use crate::model::codes::Close;
use crate::model::ids::NodeId;

/// `POST /v1/nodes/{id}/disconnect`.
pub(super) async fn disconnect(state: Shared, request: HttpRequest) -> Answer {
    let identity = authenticate(&state, &request, Demand::App).await?;
    let node: NodeId = id_in_path(&request)?;
    let device = state.site.view.devices.get(node.as_str());
    let disconnected = device.map_or(0, |device| device.stop_all(Close::DISCONNECTED));
    log::info!("{} disconnects {node}: {disconnected} edges", identity.node);
    Ok(HttpResponse::Ok().json(serde_json::json!({"disconnected": disconnected})))
}
