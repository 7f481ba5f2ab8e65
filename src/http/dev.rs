//! What `--dev` adds: the demo pages, and keys for them. Elsewhere none of this exists.
//!
//! Keys are made for whoever asks, so the server is on loopback (the configuration sees to that), and only pages that it has
//! served itself may ask: a page of another origin is refused like everywhere, and one that has had its own name point here
//! is told apart by the name it asks for.

use actix_web::http::header;
use actix_web::web::{Bytes, ServiceConfig, get, post};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;

use super::page::{File, HTML, SCRIPT, STYLE, WITH_SOCKETS};
use super::{Answer, Shared, nowhere};
use crate::auth::key::Claims;
use crate::config::Mode;
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{ClientId, NodeId};
use crate::view::now;

/// How long a demo's key is good, in milliseconds.
const KEY_TTL_MS: u64 = 24 * 3600 * 1000;
const FILES: [File; 8] = [
    File { path: "/", sort: HTML, text: include_str!("../../web/chat/index.html") },
    File { path: "/chat.js", sort: SCRIPT, text: include_str!("../../web/chat/chat.js") },
    File { path: "/chat.css", sort: STYLE, text: include_str!("../../web/chat/chat.css") },
    // The client library, for both pages.
    File { path: "/sparkmesh.js", sort: SCRIPT, text: include_str!("../../web/chat/sparkmesh.js") },
    File { path: "/room", sort: HTML, text: include_str!("../../web/room/index.html") },
    File { path: "/room/room.js", sort: SCRIPT, text: include_str!("../../web/room/room.js") },
    File { path: "/room/walk.js", sort: SCRIPT, text: include_str!("../../web/room/walk.js") },
    File { path: "/room/room.css", sort: STYLE, text: include_str!("../../web/room/room.css") },
];

pub(super) fn configure(config: &mut ServiceConfig) {
    for file in &FILES {
        config.route(file.path, get().to(move |state: Shared, request: HttpRequest| show(file, state, request)));
    }
    config.route("/dev/key", post().to(key));
}

async fn show(file: &'static File, state: Shared, request: HttpRequest) -> Answer {
    if state.config.mode != Mode::Dev {
        return nowhere(request).await;
    }
    Ok(file.answer(WITH_SOCKETS))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    node_id: NodeId,
    client_id: Option<ClientId>,
}

async fn key(state: Shared, request: HttpRequest, body: Bytes) -> Answer {
    if state.config.mode != Mode::Dev {
        return nowhere(request).await;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_loopback(host) {
        let message = format!("keys for the demo are made for pages of this machine, not of {host:?}");
        return Err(Refusal::new(Code::Forbidden, message).into());
    }
    let wanted: Wanted = serde_json::from_slice(&body)
        .map_err(|error| Refusal::new(Code::BadRequest, format!("the body names node_id and client_id: {error}")))?;
    if wanted.node_id == state.site.server {
        return Err(Refusal::new(Code::Forbidden, "that is the server's own id").into());
    }
    let claims = Claims::new(wanted.node_id, now().plus(KEY_TTL_MS)).of_client(wanted.client_id);
    Ok(HttpResponse::Ok().json(json!({ "key": state.keyring.mint(&claims) })))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine() {
        for own in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "127.3.2.1"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["", "example.org", "127.0.0.1.example.org:80", "10.0.0.1", "localhost.example.org"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
