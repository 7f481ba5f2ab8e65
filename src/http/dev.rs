//! What `--dev` adds: the demo pages, and keys for them. Elsewhere none of this exists.
//!
//! Keys are made for whoever asks, so the server is on loopback (the configuration sees to that), and only pages that it has
//! served itself may ask: a page of another origin is refused like everywhere, and one that has had its own name point here
//! is told apart by the name it asks for.

use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{Bytes, ServiceConfig, get, post};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Shared, nowhere};
use crate::auth::key::Claims;
use crate::config::Mode;
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{ClientId, NodeId};
use crate::view::now;

/// How long a demo's key is good, in milliseconds.
const KEY_TTL_MS: u64 = 24 * 3600 * 1000;
/// Nothing from elsewhere, nothing inline.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

struct File {
    path: &'static str,
    sort: &'static str,
    text: &'static str,
}

const FILES: [File; 4] = [
    File { path: "/", sort: "text/html; charset=utf-8", text: include_str!("../../web/chat/index.html") },
    File { path: "/chat.js", sort: "text/javascript; charset=utf-8", text: include_str!("../../web/chat/chat.js") },
    File { path: "/chat.css", sort: "text/css; charset=utf-8", text: include_str!("../../web/chat/chat.css") },
    File {
        path: "/sparkmesh.js",
        sort: "text/javascript; charset=utf-8",
        text: include_str!("../../web/chat/sparkmesh.js"),
    },
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
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, file.sort))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(file.text))
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
