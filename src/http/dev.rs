//! What `--dev` adds: the demo pages, and keys for them. Elsewhere none of this exists.
//!
//! Keys are made for whoever asks, so the server is on loopback (the configuration sees to that), and only pages of this
//! machine may ask: a page of another origin is refused like everywhere, and one that has had its own name point here is told
//! apart by the name it asks for.
//!
//! The pages may load nothing but what their own server has, and talk to nobody but the servers of this machine.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use actix_web::http::header;
use actix_web::web::{Bytes, ServiceConfig, get, post};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;

use super::page::{CLOSED, File, HTML, SCRIPT, STYLE};
use super::{Answer, Shared, State, nowhere};
use crate::auth::key::Claims;
use crate::config::Mode;
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{ClientId, NodeId};
use crate::view::now;

/// How long a demo's key is good, in milliseconds.
const KEY_TTL_MS: u64 = 24 * 3600 * 1000;
const FILES: [File; 10] = [
    File { path: "/", sort: HTML, text: include_str!("../../web/chat/index.html") },
    File { path: "/chat.js", sort: SCRIPT, text: include_str!("../../web/chat/chat.js") },
    File { path: "/memory.js", sort: SCRIPT, text: include_str!("../../web/chat/memory.js") },
    File { path: "/view.js", sort: SCRIPT, text: include_str!("../../web/chat/view.js") },
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
    Ok(file.answer(&policy(&state)))
}

fn policy(state: &State) -> String {
    let routes = state.site.view.mesh.routes();
    let of_others =
        routes.servers().iter().filter_map(|server| Some(routes.record(server)?.about.address.host.clone()));
    policy_for(of_others.chain([state.address().host]))
}

/// With all ports: the servers that a page will hear of are not known when it is loaded.
fn policy_for(hosts: impl Iterator<Item = String>) -> String {
    // The grammar of policies has no place for the colons of `::1`; a page that came from there has its own server.
    let ours = hosts.filter(|host| is_loopback(host) && !host.contains(':'));
    let hosts: BTreeSet<String> = ours.chain(["127.0.0.1", "localhost"].map(str::to_owned)).collect();
    let mut policy = CLOSED.to_owned();
    for host in hosts {
        let _ = write!(policy, " http://{host}:* ws://{host}:*");
    }
    policy
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

/// Of a host with or without a port.
pub(super) fn is_loopback(host: &str) -> bool {
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

    #[test]
    fn pages_talk_to_this_machine_alone() {
        let hosts = ["10.0.0.1", "127.0.0.2", "localhost", "::1", "evil.example"].map(str::to_owned);
        let policy = policy_for(hosts.into_iter());
        assert!(
            policy.ends_with(
                "connect-src 'self' http://127.0.0.1:* ws://127.0.0.1:* http://127.0.0.2:* ws://127.0.0.2:* \
                 http://localhost:* ws://localhost:*"
            ),
            "{policy}"
        );
    }
}
