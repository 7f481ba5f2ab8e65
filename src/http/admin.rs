//! For operators: the figures, and going away.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};

use super::authenticate::{Demand, authenticate};
use super::{Answer, Shared};
use crate::metrics;
use crate::node::Drain;

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
