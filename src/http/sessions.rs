//! Sessions over HTTP: everything goes through the sessions' home, by the same rules as over the socket.
//!
//! A line in the log about a session names its members only as the session shows them.

use std::fmt;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::authenticate::{Demand, authenticate, requester};
use super::error::Rejection;
use super::params::id_in_path;
use super::{Answer, Shared, State, body};
use crate::home::sessions::{Ask, Done, Operation};
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{Millis, NodeId, SessionId};
use crate::model::session::{Draft, Info, Join, Mask, Naming, Pair, Requester, Session, SessionType, window};
use crate::view::Acting;

/// What is wished for a new session; all of it may be absent.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Wish {
    pub session_id: Option<SessionId>,
    pub session_type: Option<Word>,
    pub session_game_master_node_id: Option<NodeId>,
    pub anyone_can_join: Option<bool>,
    pub presence: Option<bool>,
    pub is_anonymous: Option<bool>,
    pub anonymous_id: Option<NodeId>,
    pub notify_only_last_few_users: Option<i64>,
    pub members: Option<Vec<Vec<Option<NodeId>>>>,
}

/// A type of session, by name or by number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "session_type must be \"normal\" (0) or \"game\" (1)")]
pub(super) enum Word {
    Number(i64),
    Text(String),
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl Wish {
    fn draft(self) -> Result<Draft, Rejection> {
        let word = self.session_type.map_or_else(|| "normal".to_owned(), |word| word.to_string());
        Ok(Draft {
            id: self.session_id.map_or_else(|| Naming::Random(rand::random()), Naming::Chosen),
            owner: None,
            mask: mask(self.anonymous_id, self.is_anonymous == Some(true)),
            members: self.members.unwrap_or_default().into_iter().map(member).collect::<Result<_, _>>()?,
            session_type: SessionType::parse(&word, self.session_game_master_node_id)?,
            anyone_can_join: self.anyone_can_join.unwrap_or_default(),
            presence: self.presence.unwrap_or_default(),
            notify_only_last_few_users: window(self.notify_only_last_few_users.unwrap_or(-1))?,
        })
    }
}

/// An anonymous id wins over the mere wish for one.
pub(super) fn mask(anonymous_id: Option<NodeId>, is_anonymous: bool) -> Mask {
    match anonymous_id {
        Some(id) => Mask::Anonymous(id),
        None if is_anonymous => Mask::Random(rand::random()),
        None => Mask::Named,
    }
}

/// `["node"]` or `["node","anonymous id"]`.
fn member(ids: Vec<Option<NodeId>>) -> Result<(NodeId, Mask), Rejection> {
    let mut ids = ids.into_iter();
    match (ids.next().flatten(), ids.next().flatten(), ids.next()) {
        (Some(node), anonymous_id, None) => Ok((node, mask(anonymous_id, false))),
        _ => Err(Rejection::bad_request("each of members is [\"node\"] or [\"node\",\"anonymous id\"]")),
    }
}

pub(super) async fn ask(state: &State, by: Requester, operation: Operation) -> Result<Done, Rejection> {
    Ok(state.site.sessions.send(Ask { by, operation }).await??)
}

/// The session as it is published by who acts for it; what of it `by` may see is for the caller to ask.
pub(super) async fn look(state: &State, by: &Requester, id: &SessionId) -> Result<Arc<Session>, Rejection> {
    let missing = || Refusal::new(Code::NotFound, format!("there is no session {id}"));
    if state.site.view.serves(id) == Acting::Here {
        let published = state.site.view.sessions.get(id).map(|published| published.current());
        return published.ok_or_else(|| missing().into());
    }
    let done = ask(state, by.clone(), Operation::Look(id.clone())).await?;
    done.session.ok_or_else(|| missing().into())
}

pub(super) async fn found(state: &State, by: Requester, wish: Wish) -> Result<Arc<Session>, Rejection> {
    let app = by.node.clone();
    let Done { id, shown, members, session, .. } = ask(state, by.clone(), Operation::Create(wish.draft()?)).await?;
    log::info!("session {id} of {} with {members} members", shown.as_ref().unwrap_or(&app));
    match session {
        Some(session) => Ok(session),
        None => look(state, &by, &id).await,
    }
}

/// Who has joined, as far as the requester may know it.
pub(super) async fn admit(state: &State, by: Requester, id: &SessionId, join: Join) -> Result<Option<Pair>, Rejection> {
    let Done { answer, shown, members, .. } = ask(state, by, Operation::Join(id.clone(), join)).await?;
    if let Some(shown) = shown {
        log::info!("session {id}: {shown} has joined, {members} members");
    }
    Ok(answer)
}

pub(super) async fn part(state: &State, by: Requester, id: &SessionId, whom: Option<NodeId>) -> Result<(), Rejection> {
    let Done { shown, members, .. } = ask(state, by, Operation::Leave(id.clone(), whom)).await?;
    if let Some(shown) = shown {
        log::info!("session {id}: {shown} has left, {members} members");
    }
    Ok(())
}

/// `whom` is for apps: the member that is to be revealed.
pub(super) async fn unmask(
    state: &State,
    by: Requester,
    id: &SessionId,
    whom: Option<NodeId>,
) -> Result<(), Rejection> {
    let by = match whom {
        None => by,
        Some(node) if node == by.node => by,
        Some(node) if by.role != crate::model::session::Role::Device => Requester { node, ..by },
        Some(_) => return Err(Refusal::new(Code::Forbidden, "only an app reveals others").into()),
    };
    let Done { shown, .. } = ask(state, by, Operation::Reveal(id.clone())).await?;
    if let Some(mask) = shown {
        log::info!("session {id}: {mask} has revealed itself");
    }
    Ok(())
}

/// The record of a session as somebody may see it.
#[derive(Serialize)]
struct Record<'a> {
    session_id: &'a SessionId,
    node_id: Option<&'a NodeId>,
    created_at: Millis,
    session_type: u8,
    session_game_master_node_id: Option<&'a NodeId>,
    anyone_can_join: bool,
    presence: bool,
    notify_only_last_few_users: i64,
    members: Vec<&'a NodeId>,
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
            anyone_can_join: info.anyone_can_join,
            presence: info.presence,
            notify_only_last_few_users: last_few(&info),
            members: info.node_ids,
            current_node_info: info.current_node_info,
        }
    }
}

/// As requests have it: -1 is all.
pub(super) fn last_few(info: &Info<'_>) -> i64 {
    info.notify_only_last_few_users.map_or(-1, |last| i64::from(last.get()))
}

/// `POST /v1/sessions`.
pub(super) async fn create(state: Shared, request: HttpRequest, payload: web::Payload) -> Answer {
    let by = requester(&authenticate(&state, &request, Demand::Key).await?);
    let body = body::read(&request, payload, body::LARGE).await?;
    let session = found(&state, by.clone(), body::json_or_default(&body)?).await?;
    Ok(HttpResponse::Created().json(Record::of(session.info(&by)?)))
}

/// `GET /v1/sessions/{id}`.
pub(super) async fn info(state: Shared, request: HttpRequest) -> Answer {
    let by = requester(&authenticate(&state, &request, Demand::Key).await?);
    let session = look(&state, &by, &id_in_path(&request)?).await?;
    Ok(HttpResponse::Ok().json(Record::of(session.info(&by)?)))
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the words of the specification")]
struct Joined<'a> {
    session_id: &'a SessionId,
    node_id: Option<&'a NodeId>,
    anonymous_id: Option<&'a NodeId>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Whom {
    node_id: Option<NodeId>,
    anonymous_id: Option<NodeId>,
    is_anonymous: Option<bool>,
}

async fn whom(
    state: &State,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<(Requester, SessionId, Whom), Rejection> {
    let by = requester(&authenticate(state, request, Demand::Key).await?);
    let id = id_in_path(request)?;
    let body = body::read(request, payload, body::SMALL).await?;
    Ok((by, id, body::json_or_default(&body)?))
}

/// `POST /v1/sessions/{id}/join`.
pub(super) async fn join(state: Shared, request: HttpRequest, payload: web::Payload) -> Answer {
    let (by, id, whom) = whom(&state, &request, payload).await?;
    let mask = mask(whom.anonymous_id, whom.is_anonymous == Some(true));
    let pair = admit(&state, by, &id, Join { node: whom.node_id, mask }).await?;
    let joined = Joined {
        session_id: &id,
        node_id: pair.as_ref().map(|pair| &pair.node),
        anonymous_id: pair.as_ref().and_then(|pair| pair.anonymous.as_ref()),
    };
    Ok(HttpResponse::Ok().json(joined))
}

/// `POST /v1/sessions/{id}/leave`.
pub(super) async fn leave(state: Shared, request: HttpRequest, payload: web::Payload) -> Answer {
    let (by, id, whom) = whom(&state, &request, payload).await?;
    part(&state, by, &id, whom.node_id).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({"status": "ok"})))
}

/// `POST /v1/sessions/{id}/reveal`.
pub(super) async fn reveal(state: Shared, request: HttpRequest, payload: web::Payload) -> Answer {
    let (by, id, whom) = whom(&state, &request, payload).await?;
    unmask(&state, by, &id, whom.node_id).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({"status": "ok"})))
}

#[derive(Serialize)]
struct Present<'a> {
    node_id: &'a NodeId,
    online: bool,
}

/// `GET /v1/sessions/{id}/presence`, of sessions without presence too: who may see the members may ask.
pub(super) async fn presence(state: Shared, request: HttpRequest) -> Answer {
    let by = requester(&authenticate(&state, &request, Demand::Key).await?);
    let session = look(&state, &by, &id_in_path(&request)?).await?;
    session.info(&by)?;
    let online = |node: &NodeId| state.site.view.is_present(node);
    let members: Vec<Present<'_>> = session
        .members()
        .map(|member| Present { node_id: member.shown().id(), online: online(member.node()) })
        .collect();
    Ok(HttpResponse::Ok().json(serde_json::json!({"members": members})))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::mangled::mangled;

    const GOOD: [&str; 2] = [
        r#"{"session_id":"room","session_type":1,"session_game_master_node_id":"m","anyone_can_join":true}"#,
        r#"{"members":[["a","x"],["b"],["c",null]],"is_anonymous":true,"anonymous_id":"fox","presence":false,
            "notify_only_last_few_users":3,"session_type":"normal"}"#,
    ];

    proptest! {
        #[test]
        fn any_bytes_are_a_wish_or_refused(bytes in mangled(&GOOD)) {
            if let Err(refused) = body::json_or_default::<Wish>(&bytes).and_then(Wish::draft) {
                prop_assert!(refused.to_string().len() < 2000, "a refusal is a sentence");
            }
        }
    }

    fn wish(json: &str) -> Result<Draft, Rejection> {
        body::json_or_default::<Wish>(json.as_bytes())?.draft()
    }

    #[test]
    fn all_of_a_wish_may_be_absent() {
        let draft = wish("").unwrap();
        assert!(matches!(draft.id, Naming::Random(_)) && draft.mask == Mask::Named && draft.members.is_empty());
        assert_eq!((draft.session_type, draft.notify_only_last_few_users), (SessionType::Normal, None));
        assert!(!draft.anyone_can_join && !draft.presence);
    }

    #[test]
    fn a_wish_is_read_in_both_spellings() {
        let game = SessionType::Game { master: Some("m".parse().unwrap()) };
        for word in ["1", "\"1\"", "\"game\""] {
            let draft = wish(&format!(r#"{{"session_type":{word},"session_game_master_node_id":"m"}}"#)).unwrap();
            assert_eq!(draft.session_type, game);
        }
        let draft = wish(r#"{"members":[["a","x"],["b"],["c",null]],"is_anonymous":true}"#).unwrap();
        let names: Vec<_> = draft.members.iter().map(|(node, mask)| (node.as_str(), mask.clone())).collect();
        assert_eq!(names, [("a", Mask::Anonymous("x".parse().unwrap())), ("b", Mask::Named), ("c", Mask::Named)]);
        assert!(matches!(draft.mask, Mask::Random(_)));
    }

    #[test]
    fn a_wrong_wish_is_refused() {
        for bad in [
            r#"{"session_type":"party"}"#,
            r#"{"session_type":[]}"#,
            r#"{"session_id":"a b"}"#,
            r#"{"anonymous_id":""}"#,
            r#"{"notify_only_last_few_users":0}"#,
            r#"{"anyone_can_join":"perhaps"}"#,
            r#"{"members":[["a","b","c"]]}"#,
            r#"{"members":[[]]}"#,
            r#"{"members":["a"]}"#,
            "[]",
            "\"x\"",
        ] {
            assert_eq!(wish(bad).unwrap_err().0.code, Code::BadRequest, "{bad}");
        }
    }
}
