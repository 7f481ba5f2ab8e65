//! Pre-connection info: which server to connect to, the key that opens it once, and where else to ask (rows A7, A8, A10, A11, A52).

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::value::RawValue;

use super::authenticate::{Demand, came_by_tls, failed, find, verify};
use super::choice::{self, Chosen, Port80, Wish};
use super::params::Params;
use super::{Answer, Shared, State, farewell};
use crate::auth::error::AuthError;
use crate::auth::validation::{Bearer, Nonce};
use crate::edge::handshake::is_websocket;
use crate::model::codes::{Close, Code, Refusal};
use crate::model::ids::NodeId;
use crate::model::topology::{Address, Scheme};
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
    /// Not known to a server that sends devices away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<u64>,
    start_after_ms: u64,
    /// Where to ask when this server is gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    servers: Vec<String>,
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
    // Only from here on: a place is kept for whoever is told of it.
    let wish = Wish {
        session: params.id("session_id")?,
        region: params.get("region").map(str::to_owned),
        port_80: match params.flag("need_80_port") {
            true if came_by_tls(state, request) => Port80::Tls,
            true => Port80::Needed,
            false => Port80::Other,
        },
    };
    let Some(chosen) = choice::choose(state, &wish).await? else {
        let nobody = || Refusal::new(Code::Unavailable, "no server takes more connections now; try again later");
        return Err(state.site.standing.refusal().unwrap_or_else(nobody).into());
    };
    let pending = state.site.home.register(identity.node.clone(), identity.client.clone()).await?;
    let (server, after) = (&chosen.server, chosen.start_after_ms);
    log::debug!("{} asks where to connect: to {server} in {after} ms; {pending} wait for it", identity.node);
    let offer = Offer { pending: Some(pending), ..offer(door, state, &identity.node, &chosen, wish.port_80) };
    match socket {
        Some(payload) => farewell::say(request, payload, &offer, Close::NORMAL),
        None => Ok(HttpResponse::Ok().json(&offer)),
    }
}

/// Another server for a device that this one sends away; `None` where there is none.
pub(super) fn elsewhere(state: &State, device: &NodeId) -> Option<Box<RawValue>> {
    let chosen = choice::least_loaded(state)?;
    serde_json::value::to_raw_value(&offer(Door::Native, state, device, &chosen, Port80::Other)).ok()
}

fn offer<'a>(door: Door, state: &State, device: &NodeId, chosen: &'a Chosen, port_80: Port80) -> Offer<'a> {
    let Chosen { server, incarnation, address, start_after_ms } = chosen;
    let ws_url = match place(address, port_80) {
        (Scheme::Tls, authority) => format!("wss://{authority}{}", door.path()),
        (Scheme::Plain, authority) => format!("ws://{authority}{}", door.path()),
    };
    let bearer = Bearer { server, incarnation: *incarnation };
    // Judged by the clock of the server that is offered, and good from when they are to come.
    let there = state.site.standing.clock_of(server, now()).plus(*start_after_ms);
    let issue = || state.validation.issue(bearer, device, there, rand::random::<Nonce>());
    Offer {
        node_id: server,
        addr: &address.host,
        port: if door == Door::Native { Port::Number(address.port) } else { Port::Text(address.port.to_string()) },
        proxy_80_port: address.proxy_80_port.as_deref(),
        ws_url,
        validation_key: (door != Door::Second).then(issue),
        pending: None,
        start_after_ms: *start_after_ms,
        // Other doors answer as the original did.
        servers: if door == Door::Native { bases(choice::askable(state), port_80) } else { Vec::new() },
    }
}

/// Where a server is reached by whoever came in this way: plainly or not, and at which host and port.
fn place(address: &Address, port_80: Port80) -> (Scheme, String) {
    match (&address.proxy_80_port, port_80) {
        // Port 80 is that of plain HTTP.
        (Some(proxy), Port80::Needed) => (Scheme::Plain, proxy.clone()),
        // A page that was loaded over TLS opens no socket without.
        (Some(proxy), Port80::Tls) => (Scheme::Tls, proxy.clone()),
        _ if address.host.contains(':') => (address.scheme, format!("[{}]:{}", address.host, address.port)),
        _ => (address.scheme, format!("{}:{}", address.host, address.port)),
    }
}

/// What the paths of the API are appended to. Who reaches no port but 80 is told of none other, unless there is none.
fn bases(mut addresses: Vec<Address>, port_80: Port80) -> Vec<String> {
    if port_80 != Port80::Other && addresses.iter().any(|address| address.proxy_80_port.is_some()) {
        addresses.retain(|address| address.proxy_80_port.is_some());
    }
    let mut bases: Vec<String> = addresses
        .iter()
        .map(|address| match place(address, port_80) {
            (Scheme::Tls, authority) => format!("https://{authority}"),
            (Scheme::Plain, authority) => format!("http://{authority}"),
        })
        .collect();
    // One proxy may stand before several.
    let mut seen = std::collections::HashSet::new();
    bases.retain(|base| seen.insert(base.clone()));
    bases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, proxy: Option<&str>, scheme: Scheme) -> Address {
        let proxy_80_port = proxy.map(str::to_owned);
        Address { host: host.to_owned(), port: 8080, scheme, proxy_80_port, region: None }
    }

    #[test]
    fn where_to_ask_is_where_the_asker_gets_through() {
        let all = || {
            vec![
                at("10.0.0.1", Some("mesh.example"), Scheme::Plain),
                at("10.0.0.2", Some("mesh.example"), Scheme::Plain),
                at("fd00::3", None, Scheme::Tls),
            ]
        };
        let plainly = ["http://10.0.0.1:8080", "http://10.0.0.2:8080", "https://[fd00::3]:8080"];
        assert_eq!(bases(all(), Port80::Other), plainly);
        assert_eq!(bases(all(), Port80::Needed), ["http://mesh.example"]);
        assert_eq!(bases(all(), Port80::Tls), ["https://mesh.example"]);
        let without = || vec![at("10.0.0.9", None, Scheme::Plain)];
        assert_eq!(bases(without(), Port80::Needed), ["http://10.0.0.9:8080"]);
    }
}
