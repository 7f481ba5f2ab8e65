//! Whose request this is: finds the key, has it verified, and lets those wait who fail.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderName};

use super::State;
use super::error::Rejection;
use super::params::Params;
use crate::auth::error::AuthError;
use crate::auth::forwarded::{AddressHeaders, client_address};
use crate::auth::key::{Identity, Role};
use crate::metrics;
use crate::model::codes::Code;
use crate::model::decide::Sender;
use crate::model::session::{self, Requester};
use crate::view::now;

/// What a path demands of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Any key.
    Key,
    /// One of an app or an admin.
    App,
    Admin,
}

/// Who asks, by the key in the header or, failing that, in the query.
pub(super) async fn authenticate(state: &State, request: &HttpRequest, demand: Demand) -> Result<Identity, Rejection> {
    if bearer(request).is_some() {
        return with_params(state, request, &Params::default(), demand).await;
    }
    with_params(state, request, &Params::parse(request.query_string())?, demand).await
}

/// As [`authenticate`], for whoever has read the parameters already.
pub(super) async fn with_params(
    state: &State,
    request: &HttpRequest,
    params: &Params,
    demand: Demand,
) -> Result<Identity, Rejection> {
    let key = find(request, params).ok_or(AuthError::Missing);
    match key.and_then(|key| verify(state, key, demand)) {
        Ok(identity) => Ok(identity),
        Err(error) => {
            failed(state, request, &error).await;
            Err(error.into())
        }
    }
}

/// The key in the header, which wins, or among the parameters.
pub(super) fn find<'a>(request: &'a HttpRequest, params: &'a Params) -> Option<&'a str> {
    bearer(request).or_else(|| params.get("auth_key"))
}

pub(super) fn verify(state: &State, key: &str, demand: Demand) -> Result<Identity, AuthError> {
    let identity = state.keyring.verify(key, now())?;
    // A server that has been forgotten is no member, and still itself.
    identity.refuse_ids_of(state.site.view.mesh.placement().members().iter().chain([&state.site.server]))?;
    match demand {
        Demand::Key => {}
        Demand::App => identity.require_app_or_admin()?,
        Demand::Admin => identity.require(Role::Admin)?,
    }
    Ok(identity)
}

/// Counts a failure, and holds its answer back where a key was tried in vain. Who shows none, or a good one that may not
/// do this, guesses nothing.
pub(super) async fn failed(state: &State, request: &HttpRequest, error: &AuthError) {
    metrics::AUTH_FAILURES.with_label_values(&[error.word()]).inc();
    if *error == AuthError::Missing || error.code() == Code::Forbidden {
        return;
    }
    let address = address(state, request);
    log::debug!("a key from {address} was refused: {}", error.word());
    state.attempts.slow_down(address, now()).await;
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.trim().split_once(' ')?;
    Some(key.trim()).filter(|key| scheme.eq_ignore_ascii_case("bearer") && !key.is_empty())
}

/// Where the request comes from, as far as trusted proxies tell.
fn address(state: &State, request: &HttpRequest) -> IpAddr {
    let lines = |name: HeaderName| request.headers().get_all(name).filter_map(|line| line.to_str().ok()).collect();
    let headers =
        AddressHeaders { x_forwarded_for: lines(header::X_FORWARDED_FOR), forwarded: lines(header::FORWARDED) };
    // Only a request that did not come over TCP has no peer.
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    client_address(peer, &headers, &state.config.trust_proxies)
}

/// Whether a proxy that is trusted says that it was reached over TLS.
pub(super) fn came_by_tls(state: &State, request: &HttpRequest) -> bool {
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    let is_trusted = peer.is_some_and(|peer| state.config.trust_proxies.iter().any(|cidr| cidr.contains(peer)));
    let proto = request.headers().get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
    is_trusted && proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
}

impl From<Role> for session::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Device => Self::Device,
            Role::App => Self::App,
            Role::Admin => Self::Admin,
        }
    }
}

pub(super) fn requester(identity: &Identity) -> Requester {
    Requester { node: identity.node.clone(), role: identity.role.into() }
}

pub(super) fn sender(identity: Identity) -> Sender {
    Sender { node: identity.node, client: identity.client, role: identity.role.into() }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_header_wins_and_other_schemes_are_none_of_ours() {
        let params = Params::parse("auth_key=query").unwrap();
        for (header, key) in [
            (Some("Bearer head"), "head"),
            (Some("bearer  head "), "head"),
            (Some("Basic eDp5"), "query"),
            (Some("Bearer"), "query"),
            (None, "query"),
        ] {
            let mut request = TestRequest::default();
            if let Some(header) = header {
                request = request.insert_header((header::AUTHORIZATION, header));
            }
            assert_eq!(find(&request.to_http_request(), &params), Some(key), "{header:?}");
        }
        assert_eq!(find(&TestRequest::default().to_http_request(), &Params::default()), None);
    }
}
