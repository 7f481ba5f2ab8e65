//! What other servers say to this one, and what is done with it.

use std::hash::BuildHasher;

use bytes::Bytes;
use bytestring::ByteString;

use super::{Acting, Message, Parcel, Receiver, Ticket, View, Whom, now};
use crate::model::codes::Refusal;
use crate::model::decide::{Decision, Sender, decide};
use crate::model::frames::{Carried, Denial, Dispatch, Hop, Recipient};
use crate::model::ids::{EnvelopeId, NodeId, SessionId};
use crate::model::outbox::{Custody, Item, Loan, Prompt};
use crate::model::post::Subject;
use crate::view::send::Payer;
use crate::wire::native::{self, Origin};

/// Frames of a stream that come before they are acknowledged without waiting for the tick.
const MANY: u64 = 64;

impl Receiver for View {
    fn receive(&self, from: &NodeId, hop: Hop) {
        match hop {
            Hop::Carry(carry) => self.mesh.carried(from, carry, |origin, dispatch| self.handle(origin, dispatch)),
            acked @ Hop::Acked { .. } => self.mesh.acknowledged(from, acked),
            // The node's, which gets it another way.
            _ => debug_assert!(false, "only what is on its way through the mesh comes here"),
        }
    }

    fn flush(&self) {
        self.mesh.acknowledge(MANY);
    }
}

/// An item for a lane of this server, or for a queue of it; nobody waits for it yet.
pub fn parcel(envelope: Carried) -> Parcel {
    let Carried { encoded, key, seq, class, ttl, keep } = envelope;
    Item {
        encoded,
        key,
        seq,
        class,
        ticket: None,
        repeats: Vec::new(),
        expires: ttl.map(|ttl| now().plus(ttl)),
        keep,
        shown: None,
        custody: Custody::Own,
    }
}

/// When an envelope to a session is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is the first of those that wait here for its session.
    First,
    /// It has just come: whatever waits here for its session is older, and goes before it.
    Last,
}

impl View {
    /// One dispatch, in its stream's order.
    fn handle(&self, from: &NodeId, dispatch: Dispatch) {
        match dispatch {
            Dispatch::Deliver { recipients, envelope } => self.lent(from, recipients, &envelope),
            Dispatch::Fates(fates) => fates.into_iter().for_each(|(number, fate)| self.fated(number, fate)),
            Dispatch::Away { number, shown, acquaintance } => {
                let ticket = self.waits_posted(number).or_else(|| self.waits_abroad(number));
                if let Some(ticket) = ticket {
                    self.tell_offline(&ticket, &shown, acquaintance);
                }
            }
            Dispatch::Stored { device, seq } => {
                if let Some(device) = self.devices.get(device.as_str()) {
                    self.on(&device, |lane, _, out| lane.stored_elsewhere(seq, out));
                }
            }
            Dispatch::DevicesAre { number, devices } => self.devices_are(number, &devices),
            Dispatch::ToSession { number, sender, id, text } => self.session_for(from, number, &sender, id, &text),
            Dispatch::Verdict { number, counts } => self.verdict(number, counts),
            Dispatch::Refused { number, why } => self.refused(number, why),
            Dispatch::Notify { device, frame } => self.notify_here(&device, frame),
            Dispatch::Edges { number, device, wish } => self.tell_edges(from, number, &device, wish),
            Dispatch::EdgesAre { number, edges } => self.edges.answered(from, number, edges),
            Dispatch::Gathering { number, session } => self.tell_gathering(from, number, &session),
            Dispatch::GatheringIs { number, servers } => self.gatherings.answered(from, number, servers),
            for_the_home => self.inboxes.dispatched(from, for_the_home),
        }
        self.give_back();
    }

    /// For devices that `custodian` believes to be here.
    fn lent(&self, custodian: &NodeId, recipients: Vec<Recipient>, envelope: &Carried) {
        let life = self.mesh.routes().incarnation(custodian);
        for Recipient { device: id, number, shown, known, way } in recipients {
            let ticket = (number > 0)
                .then(|| Ticket::lent(custodian.clone(), number, envelope.keep.id.clone(), envelope.keep.prompt));
            let device = match self.devices.get(id.as_str()) {
                Some(device) => device,
                // Its lane refuses what is lent, and remembers that it did.
                None if number > 0 => self.devices.get_or_add(&id),
                None => continue,
            };
            let custody = Custody::Lent(Loan(self.loans.hash_one((custodian, life, way))));
            let item = Parcel { ticket, shown, custody, ..parcel(envelope.clone()) };
            self.on(&device, |lane, now, out| {
                lane.place(self.place_for(&id, lane, now).as_ref(), self.mesh.own(), now, out);
                lane.hinted(known, out);
                lane.offer(item, now, out);
            });
        }
    }

    /// Says what an envelope to a session of this home says. `ticket` is expected to settle once more.
    pub(super) fn serve_session(
        &self,
        sender: &Sender,
        id: EnvelopeId,
        text: &Bytes,
        ticket: Option<&Ticket>,
        turn: Turn,
    ) {
        let deny = |session, reference, why| match ticket {
            Some(ticket) => self.deny(ticket, why),
            None => {
                let whom = Whom::Sender(sender.node.clone());
                self.deny(&Ticket::open(whom, id.clone(), reference, session, None), why);
            }
        };
        let origin = if sender.is_trusted() { Origin::App } else { Origin::Device };
        let decoded = ByteString::try_from(text.clone()).map(|text| native::decode(&text, origin));
        let envelope = match decoded {
            Ok(Ok(envelope)) => envelope,
            Ok(Err(error)) => return deny(None, None, Denial::Refusal(error.into())),
            Err(_) => {
                let refusal = Refusal::new(crate::model::codes::Code::BadUtf8, "a frame is not UTF-8");
                return deny(None, None, Denial::Refusal(refusal));
            }
        };
        let session = envelope.session().cloned();
        let older_waits = |session: &SessionId| {
            turn == Turn::Last && ticket.is_some() && self.post.has(|| Subject::Session(session.clone()))
        };
        let passes = |session: &&SessionId| self.serves(session) != Acting::Here || older_waits(session);
        if let Some(session) = session.as_ref().filter(passes) {
            return self.pass_on(session.clone(), sender.clone(), id, text.clone(), ticket);
        }
        let reference = envelope.reference.clone();
        match decide(sender, &envelope, &super::sessions::Here(&self.sessions)) {
            Decision::Send { route, from, src_id, src_client_id } => {
                let payer = Payer::Share(ticket.cloned(), prompt(sender, reference.as_deref()));
                self.send(Message { envelope, route, payer, from, src_id, src_client_id, id });
                if let Some(ticket) = ticket {
                    // The share itself; what it expects by now are its recipients.
                    self.release(ticket);
                }
            }
            Decision::NoMember { member, .. } => deny(session, reference, Denial::NoMember(member)),
            Decision::Unauthorized(id) if self.sessions.get(&id).is_none() => {
                deny(session, reference, Denial::NoSession);
            }
            Decision::Unauthorized(_) => deny(session, reference, Denial::Unauthorized),
            Decision::Refuse(refusal) => deny(session, reference, Denial::Refusal(refusal)),
            Decision::KeepAlive
            | Decision::Config
            | Decision::AckOne { .. }
            | Decision::AckTo(_)
            | Decision::Elsewhere(_)
            | Decision::Membership { .. } => {
                let refusal = Refusal::new(crate::model::codes::Code::BadEnvelope, "this is no message to a session");
                deny(session, reference, Denial::Refusal(refusal));
            }
        }
    }

    /// A frame that another server's own has for a device here.
    fn notify_here(&self, device: &NodeId, frame: Bytes) {
        if let Some(device) = self.devices.get(device.as_str()) {
            self.notify_lane(&device, frame);
        }
    }
}

/// Whoever waits at another server is not seen from here: an app always does.
fn prompt(sender: &Sender, reference: Option<&str>) -> Prompt {
    if reference.is_some() || sender.is_trusted() { Prompt::Soon } else { Prompt::Later }
}
