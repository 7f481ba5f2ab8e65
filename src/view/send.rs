//! The way of one message: from what a sender has said to the lanes of all who are to have it.
//!
//! 1. `edge::inbound` decodes a frame and asks the model ([`crate::model::decide`]) what becomes of it;
//! 2. [`View::send`] stamps it, encodes it once, and opens its account;
//! 3. the lane of each recipient ([`crate::model::lane`]) takes it to an edge's outbox or to the inbox;
//! 4. `edge::body` takes it from the outbox to the socket.

use std::sync::Arc;

use super::gate::Passage;
use super::{Parcel, Ticket, View, Waiter, Whom, now};
use crate::metrics;
use crate::model::custody::Outcome;
use crate::model::decide::{Route, Voice};
use crate::model::envelope::{Encoded, Envelope, Feature, Stamp};
use crate::model::ids::{ClientId, EnvelopeId, Millis, NodeId, SessionId};
use crate::model::lane::{Lane, Place};
use crate::model::outbox::{Class, Custody, Item, Keep, Prompt};
use crate::model::seen::Key;
use crate::model::session::Notice as SessionNotice;
use crate::wire::native;
use crate::wire::notice::{MemberNotice, Membership, Notice, OnlineList, OnlineSnapshot, SessionOrder};

/// An envelope with all that was decided about it.
pub struct Message {
    pub envelope: Envelope,
    pub route: Route,
    pub payer: Payer,
    /// Who speaks, by its real id; an app may speak for a device.
    pub from: NodeId,
    /// How the recipients see the sender.
    pub src_id: NodeId,
    pub src_client_id: Option<ClientId>,
    /// Given where the sender gave none.
    pub id: EnvelopeId,
}

/// On whose account an envelope goes.
pub enum Payer {
    /// Whose key it came with; an app over HTTP waits for the verdict.
    Sender(NodeId, Option<Waiter>),
    /// Another server's, or one that is open already; `None`: nobody's.
    Share(Option<Ticket>, Prompt),
}

impl View {
    /// Hands the message to the lanes of all its recipients. Never fails: the sender is told by its account.
    pub fn send(&self, message: Message) {
        match self.gates.pass(message) {
            Passage::Free(message) => self.send_now(message),
            Passage::Waits => {}
            Passage::Full(message) => {
                let Message { envelope, payer: Payer::Sender(sender, waiter), id, .. } = message else { return };
                let ticket = Ticket::open(Whom::Sender(sender), id, envelope.reference, None, waiter);
                ticket.expect(1);
                self.settle(&ticket, Outcome::Failed);
                self.release(&ticket);
            }
        }
    }

    pub(super) fn send_now(&self, message: Message) {
        let Message { envelope, route, payer, from, src_id, src_client_id, id } = message;
        let now = now();
        let session = match &route {
            Route::Session(session, _) | Route::Member { session, .. } => Some(session.clone()),
            Route::Device(_) | Route::Client(_) => None,
        };
        let (wanted, prompt) = match &payer {
            Payer::Sender(_, waiter) => {
                let wanted = envelope.reference.is_some() || waiter.is_some();
                (wanted, if wanted { Prompt::Soon } else { Prompt::Later })
            }
            Payer::Share(ticket, prompt) => (ticket.is_some(), *prompt),
        };
        let class = match (envelope.feature, wanted) {
            (Feature::Reliable, _) => Class::Reliable,
            (Feature::Fast, true) => Class::FastTracked,
            (Feature::Fast, false) => Class::Fast,
        };
        match envelope.feature {
            Feature::Reliable => metrics::RECEIVED_RELIABLE.inc(),
            Feature::Fast => metrics::RECEIVED_FAST.inc(),
        }
        // From another server, which sends it once more when it does not hear of it, or with an id of the sender's own, who
        // does the same: by whatever way it comes the next time.
        let may_come_again = matches!(payer, Payer::Share(..)) || envelope.id.is_some();
        let gate = match &payer {
            Payer::Sender(sender, _) => sender.clone(),
            Payer::Share(..) => from.clone(),
        };
        let (ticket, opened) = match payer {
            _ if class == Class::Fast => (None, None),
            Payer::Sender(sender, waiter) => {
                let whom = Whom::Sender(sender);
                let ticket = Ticket::open(whom, id.clone(), envelope.reference.clone(), session.clone(), waiter);
                (Some(ticket.clone()), Some(ticket))
            }
            Payer::Share(ticket, _) => (ticket, None),
        };
        let keep = Arc::new(Keep {
            sender: src_id.clone(),
            id: id.clone(),
            collapse: envelope.collapse_key.as_deref().map(|key| Key::collapse(&src_id, key)),
            kind: envelope.kind,
            timestamp: now,
            session,
            prompt,
        });
        let key = envelope.id.as_ref().map(|id| match &keep.session {
            Some(session) if src_id != from => Key::masked(session, &src_id, id),
            _ => Key::of(&from, id),
        });
        let key = key.or_else(|| self.key_of_ours(class, &keep));
        let mut stamp = Stamp { src_id, src_client_id, timestamp: now, id: Some(id), session: None };
        let item = |stamp: &Stamp| Item {
            encoded: native::encode(&envelope, stamp),
            key,
            seq: None,
            class,
            ticket: ticket.clone(),
            repeats: Vec::new(),
            expires: envelope.ttl_ms.map(|ttl| now.plus(ttl)),
            keep: keep.clone(),
            shown: None,
            custody: Custody::Own,
        };
        match route {
            Route::Device(device) => self.offer(&device, item(&stamp)),
            Route::Member { real, shown, .. } => self.offer(&real, Parcel { shown: Some(shown), ..item(&stamp) }),
            Route::Client(client) => self.to_client(client, &from, gate, item(&stamp)),
            Route::Session(id, voice) => {
                if let Some(published) = self.sessions.get(&id) {
                    let mut order = published.order();
                    let session = published.current();
                    // Who has been removed since it was decided speaks to nobody.
                    let may = voice == Voice::App || session.sender(&from).is_ok();
                    let epoch = self.sessions.epoch();
                    let number = match key {
                        _ if !may => order.last(),
                        Some(key) if may_come_again => order.of(key, epoch),
                        _ => order.once(),
                    };
                    stamp.session = Some((epoch, number));
                    let item = item(&stamp);
                    self.gather(|| {
                        for member in session.recipients(&from).filter(|_| may) {
                            self.offer(member.node(), Parcel { shown: member.anonymous().cloned(), ..item.clone() });
                        }
                    });
                }
            }
        }
        self.give_back();
        if let Some(ticket) = opened {
            self.release(&ticket);
        }
    }

    /// One copy for one device.
    pub fn offer(&self, id: &NodeId, item: Parcel) {
        let device = match item.class {
            Class::Reliable => self.devices.get_or_add(id),
            Class::Fast | Class::FastTracked => match self.devices.get(id.as_str()) {
                Some(device) => device,
                None if self.place_of(id).is_some() => self.devices.get_or_add(id),
                // For somebody who is not here nothing need be remembered.
                None => return self.drop_fast(item),
            },
        };
        if let Some(ticket) = &item.ticket {
            ticket.expect(1);
        }
        self.on(&device, |lane, now, out| {
            lane.place(self.place_for(id, lane, now).as_ref(), self.mesh.own(), now, out);
            if item.class == Class::Reliable && self.inboxes.goes_behind(id, &item) {
                lane.offer_behind(item, now, out);
            } else {
                lane.offer(item, now, out);
            }
        });
    }

    /// What nobody else can repeat may be sent again by servers: where there are several, it is known by its own id.
    fn key_of_ours(&self, class: Class, keep: &Keep) -> Option<Key> {
        (class == Class::Reliable && !self.mesh.is_alone()).then(|| Key::of(&keep.sender, &keep.id))
    }

    /// Where the device has its newest edge among the other servers that can be reached.
    pub fn place_of(&self, device: &NodeId) -> Option<Place> {
        if self.places.is_empty() {
            return None;
        }
        self.places.newest(device.as_str(), |place| self.mesh.is_reachable(&place.server))
    }

    /// As [`Self::place_of`], for its lane, but for places that have told it they are none.
    pub(super) fn place_for(&self, device: &NodeId, lane: &Lane<Ticket>, now: Millis) -> Option<Place> {
        if self.places.is_empty() {
            return None;
        }
        let may = |place: &Place| lane.may_serve(place, self.mesh.own(), now);
        self.places.newest(device.as_str(), |place| self.mesh.is_reachable(&place.server) && may(place))
    }

    /// What is known of the places of `device` has changed: its lane, if there is one, looks again.
    pub fn look_again(&self, device: &NodeId) {
        if let Some(device) = self.devices.get(device.as_str()) {
            self.on(&device, |lane, now, out| {
                lane.recall(|place| self.places.lists(device.id().as_str(), place));
                lane.place(self.place_for(device.id(), lane, now).as_ref(), self.mesh.own(), now, out);
            });
            self.give_back();
        }
        self.inboxes.present(device);
    }

    fn drop_fast(&self, item: Parcel) {
        metrics::FAST.dropped.inc();
        if let Some(ticket) = item.ticket {
            ticket.expect(1);
            self.settle(&ticket, Outcome::Dropped);
        }
    }

    /// The devices that are here at once; the home knows the others.
    fn to_client(&self, client: ClientId, sender: &NodeId, gate: NodeId, item: Parcel) {
        let mut except = vec![sender.clone()];
        let here = self.devices.of_client(&client).into_iter().map(|device| device.id().clone());
        let elsewhere = self.places.of_client(&client).into_iter().filter(|device| self.place_of(device).is_some());
        for device in here.chain(elsewhere) {
            if !except.contains(&device) {
                self.offer(&device, item.clone());
                except.push(device);
            }
        }
        if item.class == Class::Reliable {
            // The home settles this share when it has found the others.
            if let Some(ticket) = &item.ticket {
                ticket.expect(1);
            }
            if self.mesh.is_alone() {
                self.inboxes().to_client(client, except, item);
            } else {
                self.ask_devices(client, except, gate, item);
            }
        }
    }

    /// Tells the members of a session what has changed: RELIABLE, in the session's order.
    pub fn announce(&self, id: &SessionId, notice: &SessionNotice, envelope_id: &EnvelopeId) {
        let Some(published) = self.sessions.get(id) else { return };
        let Some(what) = Membership::of(notice.kind) else { return };
        let reliable = !matches!(what, Membership::Online | Membership::Offline);
        let mut numbering = published.order();
        let number = if reliable { numbering.once() } else { numbering.last() };
        let order = SessionOrder { session_epoch: self.sessions.epoch(), session_seq: number };
        let timestamp = now();
        let frame = MemberNotice {
            what,
            src_id: &notice.src_id,
            dest_session_id: id,
            timestamp,
            id: reliable.then_some(envelope_id),
            order: reliable.then_some(order),
            real_id: notice.payload.as_ref(),
        };
        let keep = Keep {
            sender: notice.src_id.clone(),
            id: envelope_id.clone(),
            collapse: None,
            kind: notice.kind,
            timestamp,
            session: Some(id.clone()),
            prompt: Prompt::Later,
        };
        let class = if reliable { Class::Reliable } else { Class::Fast };
        let key = self.key_of_ours(class, &keep);
        let item = Parcel { key, ..server_made(frame.encode(), class, keep) };
        let session = published.current();
        self.gather(|| {
            for member in session.audience(notice) {
                self.offer(member, item.clone());
            }
        });
        self.give_back();
    }

    /// Whether the device has an edge, at whatever server.
    pub fn is_present(&self, node: &NodeId) -> bool {
        self.devices.get(node.as_str()).is_some_and(|device| device.is_attached()) || self.place_of(node).is_some()
    }

    /// Tells a newcomer to a session with presence who is there.
    pub fn show_present(&self, id: &SessionId, newcomer: &NodeId) {
        let Some(published) = self.sessions.get(id) else { return };
        let session = published.current();
        let online: Vec<NodeId> = session
            .members()
            .filter(|member| member.node() != newcomer && self.is_present(member.node()))
            .map(|member| member.shown().id().clone())
            .collect();
        let snapshot =
            OnlineSnapshot { dest_session_id: id, timestamp: now(), payload: OnlineList { online: &online } };
        self.notify(newcomer, &snapshot.encode());
    }
}

fn server_made(encoded: Encoded, class: Class, keep: Keep) -> Parcel {
    Item {
        encoded,
        key: None,
        seq: None,
        class,
        ticket: None,
        repeats: Vec::new(),
        expires: None::<Millis>,
        keep: Arc::new(keep),
        shown: None,
        custody: Custody::Own,
    }
}
