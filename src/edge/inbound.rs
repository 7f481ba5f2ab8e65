//! What an edge does with a frame: decode, decide, and hand on.
//!
//! The model decides; here each decision is one line that carries it out.

use actix::prelude::*;
use bytestring::ByteString;
use serde_json::{Map, Value};

use super::actor::Edge;
use crate::home::sessions::{Ask, Operation};
use crate::home::{TokenChange, Unavailable};
use crate::metrics;
use crate::model::codes::{Code, Refusal};
use crate::model::decide::{Decision, Membership, decide};
use crate::model::envelope::{Envelope, Status};
use crate::model::ids::{EnvelopeId, NodeId, SessionId};
use crate::model::seen::Key;
use crate::model::session::{Join, Mask};
use crate::outside;
use crate::view::{Message, Payer, Ticket, Whom, fresh_id, now};
use crate::wire::config_request::{self, Answer, ConfigRequest, Page};
use crate::wire::native::{self, Origin};
use crate::wire::notice::{About, Confirmation, Membered, Nobody, Notice, SessionUnauthorized};

impl Edge {
    pub(super) fn inbound(&mut self, text: &ByteString, ctx: &mut Context<Self>) {
        let origin = if self.sender.is_trusted() { Origin::App } else { Origin::Device };
        let envelope = match native::decode(text, origin) {
            Ok(envelope) => envelope,
            Err(error) => {
                let (id, reference) = native::names_of(text);
                return self.refuse(&error.into(), About { id: id.as_ref(), reference: reference.as_deref() }, ctx);
            }
        };
        match decide(&self.sender, &envelope, &*self.site.view) {
            Decision::KeepAlive => {}
            Decision::Config => self.configure(&envelope, ctx),
            Decision::AckOne { src_id, id } => {
                let view = &self.site.view;
                if !view.on(&self.device, |lane, now, out| lane.ack(self.connection, &src_id, &id, now, out)) {
                    view.inboxes().acknowledge(&self.sender.node, Key::shown(&src_id, &id));
                }
            }
            Decision::AckTo(seq) => {
                self.site.view.on(&self.device, |lane, now, out| lane.ack_to(seq, now, out));
                self.site.view.inboxes().trim(&self.sender.node, seq);
            }
            Decision::Membership { session, what } => self.change_membership(session, what, envelope, ctx),
            Decision::Send { route, from, src_id, src_client_id } => {
                let id = envelope.id.clone().unwrap_or_else(fresh_id);
                let payer = Payer::Sender(self.sender.node.clone(), None);
                self.site.view.send(Message { envelope, route, payer, from, src_id, src_client_id, id });
            }
            Decision::Elsewhere(session) => {
                self.site.view.send_elsewhere(session, &self.sender, &envelope, text.as_bytes(), None);
            }
            Decision::NoMember { session, member } => self.no_member(session, &member, &envelope),
            Decision::Unauthorized(session) => self.unauthorized(&session, About::envelope(&envelope, None)),
            Decision::Refuse(refusal) => self.refuse(&refusal, About::envelope(&envelope, None), ctx),
        }
    }

    /// Told as for somebody who does not exist; nothing is kept.
    fn no_member(&self, session: SessionId, member: &NodeId, envelope: &Envelope) {
        let id = envelope.id.clone().unwrap_or_else(fresh_id);
        let whom = Whom::Sender(self.sender.node.clone());
        let ticket = Ticket::open(whom, id, envelope.reference.clone(), Some(session), None);
        self.site.view.tell_unknown(&ticket, Nobody::Node(member));
        self.site.view.release(&ticket);
    }

    fn unauthorized(&self, session: &SessionId, about: About<'_>) {
        metrics::REFUSED.with_label_values(&["session_unauthorized"]).inc();
        let timestamp = now();
        let notice = SessionUnauthorized { dest_id: &self.sender.node, dest_session_id: session, about, timestamp };
        self.site.view.control(&self.device, self.connection, notice.encode().frame().clone());
    }

    /// A refusal that must leave the edge open, whatever its code means at the door.
    fn refuse_gently(&mut self, refusal: &Refusal, about: About<'_>, session: &SessionId, ctx: &mut Context<Self>) {
        match refusal.code {
            Code::Forbidden | Code::Unauthorized | Code::NotFound => self.unauthorized(session, about),
            _ => self.refuse(refusal, about, ctx),
        }
    }

    fn change_membership(&mut self, session: SessionId, what: Membership, envelope: Envelope, ctx: &mut Context<Self>) {
        let id = envelope.id.clone().unwrap_or_else(fresh_id);
        let wish = match Wish::of(&envelope) {
            Ok(wish) => wish,
            Err(refusal) => return self.refuse(&refusal, About::envelope(&envelope, None), ctx),
        };
        let operation = match what {
            Membership::Join => {
                let mask = match (wish.anonymous_id, wish.is_anonymous) {
                    (Some(id), _) => Mask::Anonymous(id),
                    (None, true) => Mask::Random(outside::chance()),
                    (None, false) => Mask::Named,
                };
                Operation::Join(session.clone(), Join { node: wish.node_id, mask })
            }
            Membership::Leave => Operation::Leave(session.clone(), wish.node_id),
            Membership::Reveal => Operation::Reveal(session.clone()),
        };
        let asked = self.site.sessions.send(Ask { by: self.sender.requester(), operation });
        let done = asked.into_actor(self).map(move |result, edge, ctx| match result {
            Ok(Ok(done)) => {
                if let Some(reference) = &envelope.reference {
                    edge.confirm(reference, &id, done.answer.as_ref().map(|pair| Membered::of(&session, pair)));
                }
            }
            Ok(Err(refusal)) => edge.refuse_gently(&refusal, About::envelope(&envelope, Some(&id)), &session, ctx),
            Err(_) => edge.refuse(&unavailable(), About::envelope(&envelope, Some(&id)), ctx),
        });
        // Frames that follow wait, so that what is sent after a join is sent by a member.
        ctx.wait(done);
    }

    /// A change of membership is confirmed when it is durable, whoever hears of it later; hence no counts.
    fn confirm(&self, reference: &str, id: &EnvelopeId, payload: Option<Membered<'_>>) {
        let (status, delivered, stored, dropped) = (Status::Delivered, 0, 0, 0);
        let confirmation = Confirmation { reference, id, status, delivered, stored, dropped, payload };
        self.site.view.control(&self.device, self.connection, confirmation.encode().frame().clone());
    }

    /// `CLIENT_CONFIG_REQUEST`: push tokens are kept, the inbox is fetched, and then it is answered.
    fn configure(&mut self, envelope: &Envelope, ctx: &mut Context<Self>) {
        let request = match config_request::parse(envelope.payload.as_ref()) {
            Ok(request) => request,
            Err(error) => return self.refuse(&error.into(), About::envelope(envelope, None), ctx),
        };
        let tokens = match tokens(&request) {
            Ok(tokens) => tokens,
            Err(refusal) => return self.refuse(&refusal, About::envelope(envelope, None), ctx),
        };
        let (home, node) = (self.site.home.clone(), self.sender.node.clone());
        let fetch = request.fetch;
        let work = async move {
            for token in tokens {
                home.change_tokens(node.clone(), token).await?;
            }
            match fetch {
                Some(fetch) => home.fetch(node, fetch).await.map(Some),
                None => Ok(None),
            }
        };
        let (id, reference) = (envelope.id.clone(), envelope.reference.clone());
        let done =
            work.into_actor(self).map(move |result: Result<Option<Page>, Unavailable>, edge, ctx| match result {
                Ok(page) => {
                    let answer = Answer::to(&request, now(), page).encode(&edge.sender.node, request.form);
                    edge.site.view.answer(&edge.device, edge.connection, &answer);
                }
                Err(Unavailable) => {
                    edge.refuse(&unavailable(), About { id: id.as_ref(), reference: reference.as_deref() }, ctx);
                }
            });
        // One fetch at a time: a device that asks faster than it is answered waits.
        ctx.wait(done);
    }
}

fn unavailable() -> Refusal {
    Refusal::new(Code::Unavailable, "this could not be stored or read now; try again later")
}

fn tokens(request: &ConfigRequest) -> Result<Vec<TokenChange>, Refusal> {
    let typed = |token: &config_request::PushToken| TokenChange::add(&token.provider, token.token.clone());
    let bad = |refusal: Refusal| Refusal::new(Code::BadEnvelope, refusal.message);
    request.push_tokens.iter().map(typed).collect::<Result<_, _>>().map_err(bad)
}

/// What a membership frame may say beyond its type.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Wish {
    anonymous_id: Option<NodeId>,
    is_anonymous: bool,
    node_id: Option<NodeId>,
}

impl Wish {
    fn of(envelope: &Envelope) -> Result<Self, Refusal> {
        let Some(payload) = envelope.payload.as_ref().filter(|payload| *payload != "null") else {
            return Ok(Self::default());
        };
        let bad = |error| {
            let message = format!("the payload of a membership change is an object or absent: {error}");
            Refusal::new(Code::BadEnvelope, message)
        };
        // An array would do for a struct, too.
        let object: Map<String, Value> = serde_json::from_slice(payload).map_err(bad)?;
        serde_json::from_value(Value::Object(object)).map_err(bad)
    }
}
