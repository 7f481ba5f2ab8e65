//! The way of one message: from what a sender has said to the lanes of all who are to have it.
//!
//! 1. `edge::inbound` decodes a frame and asks the model ([`crate::model::decide`]) what becomes of it;
//! 2. [`View::send`] stamps it, encodes it once, and opens its account;
//! 3. the lane of each recipient ([`crate::model::lane`]) takes it to an edge's outbox or to the inbox;
//! 4. `edge::body` takes it from the outbox to the socket.

use std::sync::Arc;

use super::{Parcel, Ticket, View, Waiter, now};
use crate::metrics;
use crate::model::decide::{Route, Voice};
use crate::model::envelope::{Encoded, Envelope, Feature, Stamp};
use crate::model::ids::{ClientId, EnvelopeId, Millis, NodeId, SessionId};
use crate::model::outbox::{Class, Item, Keep, Prompt};
use crate::model::seen::Key;
use crate::model::session::Notice as SessionNotice;
use crate::wire::native;
use crate::wire::notice::{MemberNotice, Membership, Notice, OnlineList, OnlineSnapshot, SessionOrder};

/// An envelope with all that was decided about it.
pub struct Message {
    pub envelope: Envelope,
    pub route: Route,
    /// Whose key it came with: who is told of the outcome.
    pub sender: NodeId,
    /// Who speaks, by its real id; an app may speak for a device.
    pub from: NodeId,
    /// How the recipients see the sender.
    pub src_id: NodeId,
    pub src_client_id: Option<ClientId>,
    /// Given where the sender gave none.
    pub id: EnvelopeId,
    /// An app over HTTP that waits for the verdict.
    pub waiter: Option<Waiter>,
}

impl View {
    /// Hands the message to the lanes of all its recipients. Never fails: the sender is told by its account.
    pub fn send(&self, message: Message) {
        let Message { envelope, route, sender, from, src_id, src_client_id, id, waiter } = message;
        let now = now();
        let session = match &route {
            Route::Session(session, _) | Route::Member { session, .. } => Some(session.clone()),
            Route::Device(_) | Route::Client(_) => None,
        };
        let wanted = envelope.reference.is_some() || waiter.is_some();
        let class = match (envelope.feature, wanted) {
            (Feature::Reliable, _) => Class::Reliable,
            (Feature::Fast, true) => Class::FastTracked,
            (Feature::Fast, false) => Class::Fast,
        };
        match envelope.feature {
            Feature::Reliable => metrics::RECEIVED_RELIABLE.inc(),
            Feature::Fast => metrics::RECEIVED_FAST.inc(),
        }
        let ticket = (class != Class::Fast)
            .then(|| Ticket::open(sender, id.clone(), envelope.reference.clone(), session.clone(), waiter));
        let keep = Arc::new(Keep {
            sender: src_id.clone(),
            id: id.clone(),
            collapse: envelope.collapse_key.as_deref().map(|key| Key::collapse(&src_id, key)),
            kind: envelope.kind,
            timestamp: now,
            session,
            prompt: if wanted { Prompt::Soon } else { Prompt::Later },
        });
        let key = envelope.id.as_ref().map(|id| match &keep.session {
            Some(session) if src_id != from => Key::masked(session, &src_id, id),
            _ => Key::of(&from, id),
        });
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
        };
        match route {
            Route::Device(device) => self.offer(&device, item(&stamp)),
            Route::Member { real, shown, .. } => self.offer(&real, Parcel { shown: Some(shown), ..item(&stamp) }),
            Route::Client(client) => self.to_client(client, &from, item(&stamp)),
            Route::Session(id, voice) => {
                if let Some(published) = self.sessions.get(&id) {
                    let mut order = published.order();
                    let session = published.current();
                    // Who has been removed since it was decided speaks to nobody.
                    let may = voice == Voice::App || session.sender(&from).is_ok();
                    *order += u64::from(may);
                    stamp.session = Some((self.sessions.epoch(), *order));
                    let item = item(&stamp);
                    for member in session.recipients(&from).filter(|_| may) {
                        self.offer(member.node(), Parcel { shown: member.anonymous().cloned(), ..item.clone() });
                    }
                }
            }
        }
        if let Some(ticket) = ticket {
            self.release(&ticket);
        }
    }

    /// One copy for one device.
    pub fn offer(&self, device: &NodeId, item: Parcel) {
        let device = match item.class {
            Class::Reliable => self.devices.get_or_add(device),
            // For somebody who is not here nothing need be remembered.
            Class::Fast | Class::FastTracked => match self.devices.get(device.as_str()) {
                Some(device) => device,
                None => return self.drop_fast(item),
            },
        };
        if let Some(ticket) = &item.ticket {
            ticket.expect(1);
        }
        self.on(&device, |lane, now, out| lane.offer(item, now, out));
    }

    fn drop_fast(&self, item: Parcel) {
        metrics::FAST.dropped.inc();
        if let Some(ticket) = item.ticket {
            ticket.expect(1);
            self.settle(&ticket, crate::model::custody::Outcome::Dropped);
        }
    }

    /// The devices that are here at once; the home knows the others.
    fn to_client(&self, client: ClientId, sender: &NodeId, item: Parcel) {
        let mut except = vec![sender.clone()];
        for device in self.devices.of_client(&client) {
            if device.id() != sender {
                except.push(device.id().clone());
                self.offer(device.id(), item.clone());
            }
        }
        if item.class == Class::Reliable {
            // The home settles this share when it has found the others.
            if let Some(ticket) = &item.ticket {
                ticket.expect(1);
            }
            self.inboxes().to_client(client, except, item);
        }
    }

    /// Tells the members of a session what has changed: RELIABLE, in the session's order.
    pub fn announce(&self, id: &SessionId, notice: &SessionNotice, envelope_id: &EnvelopeId) {
        let Some(published) = self.sessions.get(id) else { return };
        let Some(what) = Membership::of(notice.kind) else { return };
        let reliable = !matches!(what, Membership::Online | Membership::Offline);
        let mut last = published.order();
        *last += u64::from(reliable);
        let order = SessionOrder { session_epoch: self.sessions.epoch(), session_seq: *last };
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
        let item = server_made(frame.encode(), class, keep);
        let session = published.current();
        for member in session.audience(notice) {
            self.offer(member, item.clone());
        }
    }

    /// Whether the device has an edge.
    pub fn is_present(&self, node: &NodeId) -> bool {
        self.devices.get(node.as_str()).is_some_and(|device| device.is_attached())
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
    }
}
