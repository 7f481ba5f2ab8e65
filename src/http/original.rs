//! The original's paths, over the same functions: parameters by query or form, answers in the original's form (rows
//! A4-A10, A40-A48). Only failures differ: they have a status and words.

use actix_web::http::Method;
use actix_web::http::header::ContentType;
use actix_web::web::{Bytes, Payload, ServiceConfig, get, post};
use actix_web::{HttpRequest, HttpResponse};
use bytestring::ByteString;
use serde::Serialize;
use tokio::time::Instant;

use super::authenticate::{self, Demand, find, requester, with_params};
use super::error::Rejection;
use super::messages::{self, DEFAULT_WAIT, MAX_MESSAGES};
use super::offer::{self, Door};
use super::params::Params;
use super::sessions::{self, Wish, Word, last_few, mask};
use super::{Answer, Shared, State, body, connect, farewell};
use crate::auth::key::Identity;
use crate::edge::handshake::is_websocket;
use crate::model::codes::Refusal;
use crate::model::ids::{Millis, NodeId, SessionId};
use crate::model::session::{Info, Join, Pair};
use crate::wire::native::{self, Origin};

pub(super) fn configure(config: &mut ServiceConfig) {
    macro_rules! paths {
        ($($path:literal => $handler:path),* $(,)?) => {
            $(config.route($path, get().to($handler)).route($path, post().to($handler));)*
        };
    }
    paths! {
        "/connectV2" => connect_v2,
        "/connectV3" => connect_v3,
        "/create_session" => create_session,
        "/join_session" => join_session,
        "/unjoin_session" => unjoin_session,
        "/get_session_info" => get_session_info,
        "/reveal_anonymity" => reveal_anonymity,
        "/push_message" => push_message,
    }
}

/// What was asked, by whom.
struct Asked {
    identity: Identity,
    params: Params,
    /// A body that is no form.
    raw: Option<Bytes>,
}

impl Asked {
    /// Who shows its key before the body may send a long one.
    async fn read(
        state: &State,
        request: &HttpRequest,
        payload: Payload,
        demand: Demand,
        limit: usize,
    ) -> Result<Self, Rejection> {
        let query = Params::parse(request.query_string())?;
        if find(request, &query).is_some() {
            let identity = with_params(state, request, &query, demand).await?;
            let (params, raw) = merged(request, payload, query, limit).await?;
            return Ok(Self { identity, params, raw });
        }
        let (params, raw) = merged(request, payload, query, body::SMALL).await?;
        let identity = with_params(state, request, &params, demand).await?;
        Ok(Self { identity, params, raw })
    }

    fn session(&self) -> Result<SessionId, Rejection> {
        self.params.demand_id("session_id")
    }
}

/// The parameters of query and form, and the body where it is no form but JSON.
async fn merged(
    request: &HttpRequest,
    payload: Payload,
    query: Params,
    limit: usize,
) -> Result<(Params, Option<Bytes>), Rejection> {
    if request.method() != Method::POST {
        return Ok((query, None));
    }
    let body = body::read(request, payload, limit).await?;
    if body.trim_ascii_start().starts_with(b"{") {
        return Ok((query, Some(body)));
    }
    let form = std::str::from_utf8(&body).map_err(|_| Rejection::bad_request("the form is not UTF-8"))?;
    Ok((Params::parse(form)?.before(query), None))
}

fn text(text: impl Into<String>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body(text.into())
}

async fn connect_v2(state: Shared, request: HttpRequest, payload: Payload) -> Answer {
    if let Err(refusal) = connect::direct(&state) {
        return if is_websocket(&request) {
            farewell::refuse(&request, payload, &refusal)
        } else {
            Err(refusal.into())
        };
    }
    come_in(Door::Second, &state, &request, payload).await
}

async fn connect_v3(state: Shared, request: HttpRequest, payload: Payload) -> Answer {
    come_in(Door::Third, &state, &request, payload).await
}

async fn come_in(door: Door, state: &State, request: &HttpRequest, payload: Payload) -> Answer {
    let query = Params::parse(request.query_string())?;
    let (params, payload) = if request.method() == Method::GET {
        (query, Some(payload))
    } else {
        (merged(request, payload, query, body::SMALL).await?.0, None)
    };
    match params.get("get_pre_connection_info") {
        Some(_) => offer::through(door, state, request, payload, &params).await,
        None => connect::through(door, state, request, payload, &params).await,
    }
}

async fn create_session(state: Shared, request: HttpRequest, payload: Payload) -> Answer {
    let asked = Asked::read(&state, &request, payload, Demand::Key, body::LARGE).await?;
    let wish = wish(&asked.params)?;
    let session = sessions::found(&state, requester(&asked.identity), wish).await?;
    Ok(text(session.id().as_str()))
}

fn wish(params: &Params) -> Result<Wish, Rejection> {
    let (mut session_id, mut members) = (None, None);
    if let Some(bulk) = params.get("_session_info_") {
        let (id, list) = serde_json::from_str(bulk).map_err(|error| {
            Rejection::bad_request(format!(
                r#"_session_info_ is ["session",[["node","anonymous id"],["node"]]]: {error}"#
            ))
        })?;
        (session_id, members) = (Some(id), Some(list));
    }
    Ok(Wish {
        session_id,
        members,
        session_type: params.get("session_type").map(|word| Word::Text(word.to_owned())),
        session_game_master_node_id: params.id("session_game_master_node_id")?,
        anyone_can_join: Some(params.flag("anyone_can_join")),
        presence: Some(params.flag("presence")),
        is_anonymous: Some(params.flag("is_anonymous")),
        anonymous_id: params.id("anonymous_id")?,
        notify_only_last_few_users: params.number("notify_only_last_few_users")?,
    })
}

async fn join_session(state: Shared, request: HttpRequest, payload: Payload) -> Answer {
    let asked = Asked::read(&state, &request, payload, Demand::Key, body::SMALL).await?;
    let (params, id) = (&asked.params, asked.session()?);
    let mask = mask(params.id("anonymous_id")?, params.flag("is_anonymous"));
    let join = Join { node: params.id("node_id")?, mask };
    let pair = sessions::admit(&state, requester(&asked.identity), &id, join).await?;
    Ok(HttpResponse::Ok().json(pair))
}

async fn unjoin_session(state: Shared, request: HttpRequest, payload: Payload) -> Answer {
    let asked = Asked::read(&state, &request, payload, Demand::Key, body::SMALL).await?;
    sessions::part(&state, requester(&asked.identity), &asked.session()?, None).await?;
    Ok(text("ok"))
}

async fn reveal_anonymity(state: Shared, request: HttpRequest, payload: Payload) -> Answer {
    let asked = Asked::read(&state, &request, payload, Demand::Key, body::SMALL).await?;
    sessions::unmask(&state, requester(&asked.identity), &asked.session()?, None).await?;
    Ok(text("ok"))
}

/// Row A45.
#[derive(Serialize)]
struct Record<'a> {
    session_id: &'a SessionId,
    node_id: Option<&'a NodeId>,
    created_at: Millis,
    session_type: u8,
    session_game_master_node_id: Option<&'a NodeId>,
    notify_only_last_few_users: i64,
    anyone_can_join: bool,
    node_ids: Vec<&'a NodeId>,
    current_node_info: Pair,
}

impl<'a> Record<'a> {
    fn of(info: Info<'a>) -> Self {
        Self {
            session_id: info.session_id,
            node_id: info.node_id,
            created_at: info.created_at,
            session_type: info.session_type,
            session_game_master_node_id: info.session_game_master_node_id,
            notify_only_last_few_users: last_few(&info),
            anyone_can_join: info.anyone_can_join,
            node_ids: info.node_ids,
            current_node_info: info.current_node_info,
        }
    }
}

async fn get_session_info(state: Shared, request: HttpRequest, payload: Payload) -> Answer {
    let asked = Asked::read(&state, &request, payload, Demand::Key, body::SMALL).await?;
    let by = requester(&asked.identity);
    let session = sessions::look(&state, &by, &asked.session()?).await?;
    Ok(HttpResponse::Ok().json(Record::of(session.info(&by)?)))
}

async fn push_message(state: Shared, request: HttpRequest, payload: Payload) -> Answer {
    let limit = messages::body_limit(&state);
    let asked = Asked::read(&state, &request, payload, Demand::App, limit).await?;
    let nodes = to_nodes(asked.params.demand("to_nodes")?)?;
    let envelope = match asked.raw {
        Some(raw) => ByteString::try_from(raw).map_err(|_| Rejection::bad_request("the body is not UTF-8"))?,
        None => asked.params.demand("payload")?.into(),
    };
    let copies = nodes.iter().map(|node| addressed(&envelope, node)).collect::<Result<Vec<_>, _>>()?;
    let sender = authenticate::sender(asked.identity);
    let mut underway = Vec::with_capacity(copies.len());
    for copy in &copies {
        underway.push(messages::send(&state.site, &sender, copy));
        tokio::task::yield_now().await;
    }
    let deadline = Instant::now() + DEFAULT_WAIT;
    for one in underway {
        let (_, fate) = one.fate(deadline).await;
        fate?;
    }
    Ok(text("ok"))
}

fn to_nodes(list: &str) -> Result<Vec<NodeId>, Rejection> {
    let nodes: Vec<NodeId> = serde_json::from_str(list)
        .map_err(|error| Rejection::bad_request(format!(r#"to_nodes is a list of node ids, ["a","b"]: {error}"#)))?;
    if nodes.len() > MAX_MESSAGES {
        return Err(Rejection::bad_request(format!("to_nodes has at most {MAX_MESSAGES} node ids")));
    }
    Ok(nodes)
}

/// The envelope with a destination in front; all else stays byte for byte.
fn addressed(envelope: &ByteString, node: &NodeId) -> Result<ByteString, Rejection> {
    let decoded = native::decode(envelope, Origin::App).map_err(|error| Rejection::from(Refusal::from(error)))?;
    if decoded.dest.is_some() {
        return Err(Rejection::bad_request("to_nodes says where the payload goes: it names no destination itself"));
    }
    let open = envelope.find('{').map_or(envelope.len(), |at| at + 1);
    let rest = envelope[open..].trim_ascii_start();
    let comma = if rest.starts_with('}') { "" } else { "," };
    // Nothing in the alphabet of ids needs an escape.
    Ok(format!(r#"{{"dest_id":"{node}"{comma}{rest}"#).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::envelope::Dest;

    #[test]
    fn an_envelope_is_addressed_and_else_left_alone() {
        let node: NodeId = "bob".parse().unwrap();
        for (envelope, expected) in [
            (" {\"type\":5, \"payload\":1.0}", r#"{"dest_id":"bob","type":5, "payload":1.0}"#),
            ("{ }", r#"{"dest_id":"bob"}"#),
        ] {
            let copy = addressed(&envelope.into(), &node).unwrap();
            assert_eq!(copy, expected);
            assert_eq!(native::decode(&copy, Origin::App).unwrap().dest, Some(Dest::Device(node.clone())));
        }
        for bad in [r#"{"dest_id":"x"}"#, r#"{"dest_session_id":"x"}"#, "[]", "{", r#"{"type":"x"}"#] {
            assert!(addressed(&bad.into(), &node).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bulk_of_members_is_read() {
        let params = Params::parse(r#"_session_info_=["room",[["a","owl"],["b"]]]&session_type=1&presence=0"#).unwrap();
        let wish = wish(&params).unwrap();
        assert_eq!(wish.session_id.unwrap().as_str(), "room");
        assert_eq!(wish.members.unwrap().len(), 2);
        assert_eq!(wish.presence, Some(false));
        for bad in ["[]", "{}", r#"["a b",[]]"#, r#"["a"]"#] {
            assert!(super::wish(&Params::parse(&format!("_session_info_={bad}")).unwrap()).is_err(), "{bad}");
        }
        assert!(to_nodes(r#"["a","b"]"#).is_ok() && to_nodes(r#"["a b"]"#).is_err() && to_nodes("bob").is_err());
    }
}
