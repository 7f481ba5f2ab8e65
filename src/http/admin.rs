//! For operators: the servers of the mesh, the figures, and going away.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::authenticate::{Demand, authenticate};
use super::{Answer, Shared};
use crate::metrics;
use crate::model::ids::NodeId;
use crate::node::Drain;

#[derive(Serialize)]
struct Mesh<'a> {
    servers: [Server<'a>; 1],
}

#[derive(Serialize)]
struct Server<'a> {
    node_id: &'a NodeId,
    addr: &'a str,
    port: u16,
    proxy_80_port: Option<&'a str>,
    connections: u64,
    max_connections: u64,
    draining: bool,
    /// To other servers; this one is alone.
    links: [(); 0],
}

/// `GET /v1/mesh`.
pub(super) async fn mesh(state: Shared, request: HttpRequest) -> Answer {
    authenticate(&state, &request, Demand::Admin).await?;
    let (config, standing) = (&state.config, &state.site.standing);
    let server = Server {
        node_id: &state.site.server,
        addr: &config.host_address,
        port: state.port(),
        proxy_80_port: config.proxy_80_port.as_deref(),
        connections: standing.connections(),
        max_connections: standing.max(),
        draining: standing.is_draining(),
        links: [],
    };
    Ok(HttpResponse::Ok().json(Mesh { servers: [server] }))
}

/// `POST /v1/drain`.
pub(super) async fn drain(state: Shared, request: HttpRequest) -> Answer {
    let identity = authenticate(&state, &request, Demand::Admin).await?;
    log::info!("{} asks this server to go away", identity.node);
    // Answered when it has begun: whoever asks next is refused already.
    state.site.node.send(Drain { deadline: state.config.drain_deadline }).await?;
    Ok(HttpResponse::Accepted().json(serde_json::json!({"status": "draining"})))
}

/// `GET /metrics` at the main address.
pub(super) async fn metrics(state: Shared, request: HttpRequest) -> Answer {
    authenticate(&state, &request, Demand::Admin).await?;
    Ok(page().await)
}

/// `GET /metrics` at the operators' own address.
pub(super) async fn page() -> HttpResponse {
    let (page, content_type) = metrics::page();
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, content_type)).body(page)
}
