//! The door to an edge: keys and options are judged here, then [`handshake::open`] takes over.
//!
//! What is wrong with the request is refused with an HTTP status; what is wrong with a key is told after the handshake,
//! as a browser shows its script no status.

use actix_web::{HttpRequest, web};

use super::authenticate::{self, Demand, failed, find, verify};
use super::error::Rejection;
use super::offer::Door;
use super::params::Params;
use super::{Answer, Shared, State, farewell};
use crate::auth::error::AuthError;
use crate::auth::key::Identity;
use crate::auth::validation::Invitation;
use crate::config::Permission;
use crate::edge::Newcomer;
use crate::edge::handshake::{self, is_websocket};
use crate::model::codes::{Code, Refusal};
use crate::model::lane::Replay;
use crate::model::outbox::Acks;
use crate::view::now;

/// `GET /v1/connect`.
pub(super) async fn open(state: Shared, request: HttpRequest, payload: web::Payload) -> Answer {
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
    let Some(payload) = payload.filter(|_| is_websocket(request)) else {
        return Err(Rejection::bad_request("this path opens a WebSocket: ask with an Upgrade"));
    };
    let (replay, acks) = (replay(params)?, acks(params)?);
    let Some(key) = find(request, params) else {
        return Err(Rejection::bad_request(AuthError::Missing.to_string()));
    };
    // Before any key is used up, as the admission below: who comes back later comes with the same.
    if let Some(refusal) = state.site.standing.refusal() {
        return Err(refusal.into());
    }
    let judged = judge(door, state, key, params);
    if let Ok((_, invitation)) = &judged {
        state.admission.admit(invitation.map(Invitation::due), now())?;
    }
    let used_up = judged.and_then(|(identity, invitation)| {
        invitation.map_or(Ok(()), |invitation| state.validation.redeem(invitation, now()))?;
        Ok(identity)
    });
    let identity = match used_up {
        Ok(identity) => identity,
        Err(error) => {
            failed(state, request, &error).await;
            return farewell::refuse(request, payload, &error.refusal());
        }
    };
    let newcomer = Newcomer { sender: authenticate::sender(identity), replay, acks };
    Ok(handshake::open(&state.site, newcomer, request, payload).await?)
}

/// Who comes in, and by what invitation. It is not used up: who is refused now comes back with the same.
fn judge(door: Door, state: &State, key: &str, params: &Params) -> Result<(Identity, Option<Invitation>), AuthError> {
    let identity = verify(state, key, Demand::Key)?;
    if door == Door::Second {
        return Ok((identity, None));
    }
    let validation = params.get("validation_key").or_else(|| params.get("validation_token"));
    let incarnation = state.site.view.mesh.incarnation();
    let validation = validation.ok_or(AuthError::ValidationMissing)?;
    let invitation = state.validation.read(incarnation, validation, &identity.node, now())?;
    Ok((identity, Some(invitation)))
}

/// Whether `/connectV2` is there at all; to be asked before anything else.
pub(super) fn direct(state: &State) -> Result<(), Refusal> {
    match state.config.allow_direct {
        Permission::Granted => Ok(()),
        Permission::Refused => {
            let message = "/connectV2 connects without a validation key, which this server does not allow \
                           (--allow-direct): use /connectV3";
            Err(Refusal::new(Code::Forbidden, message))
        }
    }
}

fn replay(params: &Params) -> Result<Replay, Rejection> {
    match params.get("inbox") {
        Some("auto") => Ok(Replay::Auto),
        Some("manual") | None => Ok(Replay::Manual),
        Some(_) => Err(Rejection::bad_request("inbox is auto or manual")),
    }
}

fn acks(params: &Params) -> Result<Acks, Rejection> {
    match params.get("ack") {
        Some("app") => Ok(Acks::Application),
        Some("pong") | None => Ok(Acks::Transport),
        Some(_) => Err(Rejection::bad_request("ack is pong or app")),
    }
}
