//! For operators: the figures.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};

use super::authenticate::{Demand, authenticate};
use super::{Answer, Shared};
use crate::metrics;

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
