//! Messages of app back ends: sent as a device would send them, and answered when each has its fate.
//!
//! An envelope is decoded from the bytes in which it came; its payload is never parsed.

use std::fmt;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use bytestring::ByteString;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::authenticate::{self, Demand, authenticate};
use super::error::{Rejection, Words};
use super::{Answer, Shared, State, body};
use crate::edge::Site;
use crate::metrics;
use crate::model::codes::{Code, Refusal};
use crate::model::custody::Verdict;
use crate::model::decide::{Decision, Sender, decide};
use crate::model::envelope::Status;
use crate::model::frames::Denial;
use crate::model::ids::{EnvelopeId, SessionId};
use crate::view::{Message, Payer, fresh_id};
use crate::wire::native::{self, Origin};

/// Most envelopes in one request.
pub(super) const MAX_MESSAGES: usize = 1000;
/// How long the answer waits for them where the request does not say.
pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(10);
const MAX_WAIT_MS: u64 = 60_000;
/// What may stand round one envelope in a body that holds no other.
const ROUND_ONE: usize = 1024;

#[derive(Deserialize)]
struct Bulk<'a> {
    #[serde(borrow, deserialize_with = "at_most")]
    messages: Vec<&'a RawValue>,
    wait_ms: Option<u64>,
}

/// Ends at one too many, so that a body of commas does not become a list of a million places.
fn at_most<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<&'de RawValue>, D::Error> {
    struct AtMost;
    impl<'de> Visitor<'de> for AtMost {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of envelopes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut messages = Vec::new();
            while let Some(message) = list.next_element::<&RawValue>()? {
                if messages.len() == MAX_MESSAGES {
                    return Err(A::Error::custom(format!("messages has more than {MAX_MESSAGES} envelopes")));
                }
                messages.push(message);
            }
            Ok(messages)
        }
    }
    deserializer.deserialize_seq(AtMost)
}

/// An envelope after it was handed over, or not.
pub(super) enum Underway {
    /// `session`: that whose home was asked.
    Sent {
        id: EnvelopeId,
        session: Option<SessionId>,
        verdict: oneshot::Receiver<Result<Verdict, Denial>>,
    },
    Refused {
        id: Option<EnvelopeId>,
        refusal: Refusal,
    },
}

/// What has become of an envelope by the time of the answer.
pub(super) type Fate = Result<Word, Refusal>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Delivered,
    Stored,
    Dropped,
    /// Not known yet; nothing is promised.
    Accepted,
}

/// Hands one envelope over; `text` is its JSON.
pub(super) fn send(site: &Site, sender: &Sender, text: &ByteString) -> Underway {
    let refused = |id, refusal| Underway::Refused { id, refusal };
    let limit = site.limits.max_message_bytes;
    if text.len() > limit {
        return refused(None, Refusal::new(Code::TooLarge, format!("a message has at most {limit} bytes")));
    }
    let envelope = match native::decode(text, Origin::App) {
        Ok(envelope) => envelope,
        Err(error) => return refused(native::names_of(text).0, error.into()),
    };
    let given = envelope.id.clone();
    match decide(sender, &envelope, &*site.view) {
        Decision::Send { route, from, src_id, src_client_id } => {
            let id = given.unwrap_or_else(fresh_id);
            let (waiter, verdict) = oneshot::channel();
            let payer = Payer::Sender(sender.node.clone(), Some(waiter));
            site.view.send(Message { envelope, route, payer, from, src_id, src_client_id, id: id.clone() });
            Underway::Sent { id, session: None, verdict }
        }
        Decision::Elsewhere(session) => {
            let (waiter, verdict) = oneshot::channel();
            let id = site.view.send_elsewhere(session.clone(), sender, &envelope, text.as_bytes(), Some(waiter));
            Underway::Sent { id, session: Some(session), verdict }
        }
        Decision::Unauthorized(session) if site.view.sessions.get(&session).is_none() => {
            refused(given, denied(Denial::NoSession, Some(&session)))
        }
        Decision::Unauthorized(session) => refused(given, denied(Denial::Unauthorized, Some(&session))),
        Decision::NoMember { session, member } => refused(given, denied(Denial::NoMember(member), Some(&session))),
        Decision::Refuse(refusal) => refused(given, refusal),
        Decision::Membership { session, .. } => {
            let message = format!("over HTTP a session is changed with POST /v1/sessions/{session}/join and the like");
            refused(given, Refusal::new(Code::BadEnvelope, message))
        }
        Decision::KeepAlive | Decision::Config | Decision::AckOne { .. } | Decision::AckTo(_) => {
            let message = "a message has a destination: dest_id, dest_client_id or dest_session_id";
            refused(given, Refusal::new(Code::BadEnvelope, message))
        }
    }
}

impl Underway {
    /// Waits until `deadline` for the fate of the envelope.
    pub(super) async fn fate(self, deadline: Instant) -> (Option<EnvelopeId>, Fate) {
        match self {
            Self::Refused { id, refusal } => {
                metrics::REFUSED.with_label_values(&[refusal.code.word()]).inc();
                (id, Err(refusal))
            }
            Self::Sent { id, session, verdict } => {
                let fate = match timeout_at(deadline, verdict).await {
                    Ok(Ok(Ok(verdict))) => word(verdict),
                    Ok(Ok(Err(why))) => Err(denied(why, session.as_ref())),
                    // The time is over, or the account has gone with the server.
                    Ok(Err(_)) | Err(_) => Ok(Word::Accepted),
                };
                (Some(id), fate)
            }
        }
    }
}

/// Why an envelope goes nowhere, for a back end.
fn denied(why: Denial, session: Option<&SessionId>) -> Refusal {
    let session = session.map_or("", SessionId::as_str);
    match why {
        Denial::NoSession => Refusal::new(Code::NotFound, format!("there is no session {session}")),
        Denial::Unauthorized => {
            let message = format!("only members write to a member of session {session}: name one as src_id");
            Refusal::new(Code::Forbidden, message)
        }
        Denial::NoMember(member) => Refusal::new(Code::NotFound, format!("session {session} shows no member {member}")),
        Denial::Refusal(refusal) => refusal,
    }
}

fn word(verdict: Verdict) -> Fate {
    match verdict {
        Verdict::Confirmed { status: Status::Delivered, .. } => Ok(Word::Delivered),
        Verdict::Confirmed { status: Status::Stored, .. } => Ok(Word::Stored),
        Verdict::Confirmed { status: Status::Dropped, .. } => Ok(Word::Dropped),
        Verdict::Unavailable(_) => Err(Refusal::new(
            Code::Unavailable,
            "the message could not be stored for everybody; send it again with the same id",
        )),
    }
}

#[derive(Serialize)]
struct Outcome<'a> {
    id: Option<&'a EnvelopeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Words<'a>>,
}

impl<'a> From<&'a (Option<EnvelopeId>, Fate)> for Outcome<'a> {
    fn from((id, fate): &'a (Option<EnvelopeId>, Fate)) -> Self {
        Self { id: id.as_ref(), status: fate.as_ref().ok().copied(), error: fate.as_ref().err().map(Words::from) }
    }
}

/// Most bytes of a body that holds messages: also where a single one may be larger than all usually are.
pub(super) fn body_limit(state: &State) -> usize {
    body::LARGE.max(state.site.limits.max_message_bytes + ROUND_ONE)
}

/// `POST /v1/messages`.
pub(super) async fn post(state: Shared, request: HttpRequest, payload: web::Payload) -> Answer {
    let sender = authenticate::sender(authenticate(&state, &request, Demand::App).await?);
    let body = body::read(&request, payload, body_limit(&state)).await?;
    let bulk: Bulk<'_> = body::json(&body)?;
    let wait = match bulk.wait_ms {
        None => DEFAULT_WAIT,
        Some(ms @ 0..=MAX_WAIT_MS) => Duration::from_millis(ms),
        Some(_) => return Err(Rejection::bad_request(format!("wait_ms is from 0 to {MAX_WAIT_MS}"))),
    };
    log::debug!("{} sends {} messages", sender.node, bulk.messages.len());
    let mut underway = Vec::with_capacity(bulk.messages.len());
    for message in &bulk.messages {
        let text = ByteString::try_from(body.slice_ref(message.get().as_bytes()))
            .map_err(|_| Rejection::bad_request("the body is not UTF-8"))?;
        underway.push(send(&state.site, &sender, &text));
        // Each may go to a hundred thousand members; those who share this thread have their turn in between.
        tokio::task::yield_now().await;
    }
    let deadline = Instant::now() + wait;
    let mut fates = Vec::with_capacity(underway.len());
    for one in underway {
        fates.push(one.fate(deadline).await);
    }
    let results: Vec<Outcome<'_>> = fates.iter().map(Outcome::from).collect();
    Ok(HttpResponse::Ok().json(serde_json::json!({"results": results})))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::custody::Counts;
    use crate::model::mangled::mangled;

    const GOOD: [&str; 2] = [
        r#"{"messages":[{"dest_id":"bob","type":1,"payload":{"a":[1,null]},"id":"x","ttl_ms":5}],"wait_ms":100}"#,
        r#"{"messages":[{"dest_session_id":"room","src_id":"alice"},{"dest_client_id":"c","reference":"r"}]}"#,
    ];

    proptest! {
        #[test]
        fn any_bytes_are_a_bulk_or_refused(bytes in mangled(&GOOD)) {
            match body::json::<Bulk<'_>>(&bytes) {
                Ok(bulk) => bulk.messages.iter().for_each(|message| {
                    if let Ok(envelope) = native::decode(&message.get().into(), Origin::App) {
                        assert!(envelope.id.is_none_or(|id| id.as_str().chars().count() <= 64));
                    }
                }),
                Err(refused) => prop_assert!(refused.to_string().len() < 2000, "a refusal is a sentence"),
            }
        }
    }

    #[test]
    fn a_bulk_is_a_bounded_list_whose_parts_are_left_as_they_are() {
        let bulk: Bulk<'_> = body::json(br#"{"messages":[{"a": 1.0},"x"],"more":1}"#).unwrap();
        let texts: Vec<&str> = bulk.messages.iter().map(|raw| raw.get()).collect();
        assert_eq!((texts, bulk.wait_ms), (vec![r#"{"a": 1.0}"#, "\"x\""], None));
        let many = |count| format!(r#"{{"messages":[{}]}}"#, vec!["1"; count].join(","));
        assert_eq!(body::json::<Bulk<'_>>(many(1000).as_bytes()).unwrap().messages.len(), 1000);
        for bad in [
            many(1001),
            "{}".into(),
            r#"{"messages":{}}"#.into(),
            r#"{"messages":"x"}"#.into(),
            r#"{"messages":[],"wait_ms":"soon"}"#.into(),
            r#"{"messages":[],"wait_ms":-1}"#.into(),
            r#"{"messages":[],"messages":[]}"#.into(),
        ] {
            assert!(body::json::<Bulk<'_>>(bad.as_bytes()).is_err(), "{bad:.60}");
        }
    }

    #[test]
    fn an_outcome_is_a_status_or_an_error() {
        let told = |fate| serde_json::to_string(&Outcome::from(&(Some("m".parse().unwrap()), fate))).unwrap();
        assert_eq!(told(Ok(Word::Accepted)), r#"{"id":"m","status":"accepted"}"#);
        assert_eq!(
            told(Err(Refusal::new(Code::Conflict, "no"))),
            r#"{"id":"m","error":{"code":"conflict","message":"no"}}"#
        );
    }

    #[actix_web::test]
    async fn who_waits_no_longer_is_told_that_it_is_accepted() {
        let (waiter, verdict) = oneshot::channel();
        let underway = Underway::Sent { id: "m".parse().unwrap(), session: None, verdict };
        let (_, fate) = underway.fate(Instant::now()).await;
        assert_eq!(fate.unwrap(), Word::Accepted);
        drop(waiter);
        let (waiter, verdict) = oneshot::channel();
        waiter.send(Ok(Verdict::Unavailable(Counts::default()))).unwrap();
        let underway = Underway::Sent { id: "m".parse().unwrap(), session: None, verdict };
        let (_, fate) = underway.fate(Instant::now()).await;
        assert_eq!(fate.unwrap_err().code, Code::Unavailable, "what is known is told, however late");
    }
}
