//! Pre-connection info: which server to connect to, and the key that opens it once (rows A7, A8, A10, A11, A52).

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::authenticate::{Demand, failed, find, verify};
use super::params::Params;
use super::{Answer, Shared, State, farewell};
use crate::auth::error::AuthError;
use crate::auth::key::Identity;
use crate::auth::validation::Nonce;
use crate::edge::handshake::is_websocket;
use crate::model::codes::Close;
use crate::model::ids::{NodeId, SessionId};
use crate::view::now;

/// By which family of paths somebody comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// `/v1/...`
    Native,
    /// `/connectV3`
    Third,
    /// `/connectV2`: no validation keys.
    Second,
}

impl Door {
    /// Where a socket is opened that was offered through this door.
    fn path(self) -> &'static str {
        match self {
            Self::Native => "/v1/connect",
            Self::Third => "/connectV3",
            Self::Second => "/connectV2",
        }
    }
}

#[derive(Serialize)]
struct Offer<'a> {
    node_id: &'a NodeId,
    addr: &'a str,
    port: Port,
    proxy_80_port: Option<&'a str>,
    ws_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_key: Option<String>,
    pending: u64,
    start_after_ms: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Port {
    Number(u16),
    /// As the original gives it.
    Text(String),
}

/// `GET /v1/connect-info`, by HTTP or by WebSocket.
pub(super) async fn give(state: Shared, request: HttpRequest, payload: web::Payload) -> Answer {
    let params = Params::parse(request.query_string())?;
    through(Door::Native, &state, &request, Some(payload), &params).await
}

/// `payload` is that of a request that may become a WebSocket.
pub(super) async fn through(
    door: Door,
    state: &State,
    request: &HttpRequest,
    payload: Option<web::Payload>,
    params: &Params,
) -> Answer {
    let socket = payload.filter(|_| is_websocket(request));
    if let Some(refusal) = state.site.standing.refusal() {
        return Err(refusal.into());
    }
    // One server is the busiest for every session; the hint is looked at for its form only.
    params.id::<SessionId>("session_id")?;
    let key = find(request, params).ok_or(AuthError::Missing);
    let identity = match key.and_then(|key| verify(state, key, Demand::Key)) {
        Ok(identity) => identity,
        Err(error) => {
            failed(state, request, &error).await;
            return match socket {
                Some(payload) => farewell::refuse(request, payload, &error.refusal()),
                None => Err(error.into()),
            };
        }
    };
    let pending = state.site.home.register(identity.node.clone(), identity.client.clone()).await?;
    log::debug!("{} asks where to connect; {pending} wait for it", identity.node);
    let offer = offer(door, state, &identity, pending, params.flag("need_80_port"));
    match socket {
        Some(payload) => farewell::say(request, payload, &offer, Close::NORMAL),
        None => Ok(HttpResponse::Ok().json(&offer)),
    }
}

fn offer<'a>(door: Door, state: &'a State, identity: &Identity, pending: u64, need_80_port: bool) -> Offer<'a> {
    let (config, port, now) = (&state.config, state.port(), now());
    let scheme = if config.tls.is_some() { "wss" } else { "ws" };
    let ws_url = match config.proxy_80_port.as_ref().filter(|_| need_80_port) {
        // Port 80 is that of plain HTTP.
        Some(proxy) => format!("ws://{proxy}{}", door.path()),
        None => format!("{scheme}://{}{}", config.authority(port), door.path()),
    };
    let issue = || state.validation.issue(&identity.node, now, rand::random::<Nonce>());
    Offer {
        node_id: &state.site.server,
        addr: &config.host_address,
        port: if door == Door::Native { Port::Number(port) } else { Port::Text(port.to_string()) },
        proxy_80_port: config.proxy_80_port.as_deref(),
        ws_url,
        validation_key: (door != Door::Second).then(issue),
        pending,
        start_after_ms: state.pace.start_after_ms(now.0),
    }
}
