//! The door for other servers.

use actix_web::{HttpRequest, web};

use super::Answer;
use crate::link::{Links, accept};

/// `GET /v1/link`. The greeting, not a key, shows who is there.
pub(super) async fn open(links: web::Data<Links>, request: HttpRequest, payload: web::Payload) -> Answer {
    Ok(accept::open(&links.into_inner(), &request, payload)?)
}
