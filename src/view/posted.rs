//! Envelopes that another server sees to as a whole: to a session, whose home finds out who its members are, and to a
//! client, whose home knows its devices.
//!
//! This server stays their custodian: what is posted is kept until the verdict comes, and goes to whoever serves next when
//! the server it was sent to is lost. In which order, and for how long, is the model's ([`Post`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::mesh::Acting;
use super::{Parcel, Share, Ticket, View, Waiter, Whom, fresh_id, steady};
use crate::metrics;
use crate::model::custody::{Counts, Outcome};
use crate::model::decide::Sender;
use crate::model::envelope::{Envelope, Feature};
use crate::model::frames::{Carried, Denial, Dispatch};
use crate::model::ids::{ClientId, EnvelopeId, NodeId, SessionId};
use crate::model::outbox::Class;
use crate::model::post::{Post, Subject, With};

/// What another server is to see to.
#[derive(Clone)]
enum What {
    Session { session: SessionId, sender: Sender, id: EnvelopeId, text: Bytes },
    Client { client: ClientId, except: Vec<NodeId>, envelope: Carried },
}

impl What {
    /// Whose home sees to it.
    fn subject(&self) -> Subject {
        match self {
            Self::Session { session, .. } => Subject::Session(session.clone()),
            Self::Client { client, .. } => Subject::Client(client.clone()),
        }
    }

    fn dispatch(&self, number: u64) -> Dispatch {
        match self.clone() {
            Self::Session { sender, id, text, .. } => Dispatch::ToSession { number, sender, id, text },
            Self::Client { client, except, envelope } => Dispatch::ToClient { number, client, except, envelope },
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Session { text, .. } => text.len(),
            Self::Client { envelope, .. } => envelope.encoded.frame().len(),
        }
    }
}

/// An envelope that another server sees to, or is to see to, and who waits for that.
struct Posted {
    ticket: Ticket,
    what: What,
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Posts {
    open: Mutex<Post<Posted>>,
    /// Spares everybody the lock while nothing is open.
    any: AtomicBool,
}

impl Posts {
    fn open<R>(&self, act: impl FnOnce(&mut Post<Posted>) -> R) -> R {
        // Nothing panics while it is held.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = act(&mut open);
        self.any.store(!open.is_empty(), Ordering::Release);
        metrics::POSTED_BYTES.set(open.bytes() as i64);
        answer
    }

    /// Something of this session is with another server, or waits: what comes now goes behind it.
    pub(super) fn has(&self, subject: impl FnOnce() -> Subject) -> bool {
        self.any.load(Ordering::Acquire) && self.open(|open| open.has(&subject()))
    }
}

impl View {
    /// Nothing is on its way to another server, and nothing waits for one that serves.
    pub fn is_quiet(&self) -> bool {
        self.mesh.is_quiet() && self.post.open(|open| open.is_empty())
    }

    /// To the home of `session`, which is another server: what the sender's frame said, as it came. The envelope's id.
    pub fn send_elsewhere(
        &self,
        session: SessionId,
        sender: &Sender,
        envelope: &Envelope,
        text: &Bytes,
        waiter: Option<Waiter>,
    ) -> EnvelopeId {
        let id = envelope.id.clone().unwrap_or_else(fresh_id);
        let tracked = envelope.feature == Feature::Reliable || envelope.reference.is_some() || waiter.is_some();
        let ticket = tracked.then(|| {
            let whom = Whom::Sender(sender.node.clone());
            Ticket::open(whom, id.clone(), envelope.reference.clone(), Some(session.clone()), waiter)
        });
        self.to_session(session, sender.clone(), id.clone(), text.clone(), ticket);
        id
    }

    fn to_session(&self, session: SessionId, sender: Sender, id: EnvelopeId, text: Bytes, ticket: Option<Ticket>) {
        let what = What::Session { session, sender, id, text };
        match ticket {
            Some(ticket) => {
                ticket.expect(1);
                self.post(what, &ticket, None);
                self.release(&ticket);
            }
            // Nobody waits for it, and nobody may have it: it waits for nobody either.
            None => match self.acting_for(&what.subject()) {
                Acting::There(server) => drop(self.mesh.send(&server, &what.dispatch(0))),
                Acting::Here => self.serve(what, None),
                Acting::Nobody => metrics::FAST.dropped.inc(),
            },
        }
    }

    /// What was sent here for a session that another server serves by now, or that is still on its way here. One share of
    /// `ticket`.
    pub(super) fn pass_on(
        &self,
        session: SessionId,
        sender: Sender,
        id: EnvelopeId,
        text: Bytes,
        ticket: Option<&Ticket>,
    ) {
        // What nobody waits for would go round while servers disagree.
        let Some(ticket) = ticket else { return metrics::FAST.dropped.inc() };
        let from = match ticket.whom() {
            Whom::Server { server, .. } => Some(server.clone()),
            Whom::Sender(_) | Whom::Held(_) => None,
        };
        self.post(What::Session { session, sender, id, text }, ticket, from.as_ref());
    }

    /// To the home of `client`, for its devices that are nowhere: one share of the account.
    pub(super) fn to_home_of_client(&self, client: ClientId, except: Vec<NodeId>, item: &Parcel) {
        let Some(ticket) = &item.ticket else { return };
        debug_assert!(item.class == Class::Reliable);
        self.post(What::Client { client, except, envelope: item.carried(steady()) }, ticket, None);
    }

    /// Who sees to it now.
    fn acting_for(&self, subject: &Subject) -> Acting {
        match subject {
            Subject::Session(session) => self.serves(session),
            Subject::Client(client) => self.mesh.acting(client.as_str()),
        }
    }

    /// `from` is the server that has sent it here, if one has.
    fn post(&self, what: What, ticket: &Ticket, from: Option<&NodeId>) {
        let (subject, bytes) = (what.subject(), what.bytes());
        let posted = Posted { ticket: ticket.clone(), what };
        match self.post.open(|open| open.push(subject.clone(), posted, bytes, steady())) {
            Ok(()) => self.go_on(&subject, from),
            Err(Posted { ticket, .. }) => self.settle(&ticket, Outcome::Failed),
        }
    }

    /// Whatever of a line may go now goes. What came from `from` does not go back there at once.
    fn go_on(&self, subject: &Subject, from: Option<&NodeId>) {
        loop {
            let with = match self.acting_for(subject) {
                Acting::Here => With::Here,
                Acting::There(server) if Some(&server) != from => With::There(server),
                // Tried again by `post_again`.
                Acting::There(_) | Acting::Nobody => return,
            };
            // Sent under the lock, so that nothing overtakes.
            let step = self.post.open(|open| {
                let (number, posted) = open.next(subject, &with)?;
                let With::There(server) = &with else { return Some((number, Some(posted.what.clone()))) };
                if self.mesh.send(server, &posted.what.dispatch(number)).is_ok() {
                    return Some((number, None));
                }
                open.unsent(number);
                None
            });
            match step {
                None => return,
                Some((_, None)) => {}
                Some((number, Some(what))) => {
                    if let Some(ticket) = self.waits_posted(number) {
                        self.serve(what, Some(ticket));
                    }
                    self.post.open(|open| drop(open.take(number)));
                }
            }
        }
    }

    fn serve(&self, what: What, ticket: Option<Ticket>) {
        match (what, ticket) {
            (What::Session { sender, id, text, .. }, ticket) => {
                self.serve_session(&sender, id, &text, ticket.as_ref());
            }
            (What::Client { client, except, envelope }, Some(ticket)) => {
                self.serve_client(client, except, envelope, ticket);
            }
            // Only what is reliable goes to a client's home.
            (What::Client { .. }, None) => {}
        }
    }

    /// The server that was asked to see to it answers.
    pub(super) fn verdict(&self, number: u64, counts: Counts) {
        if let Some(ticket) = self.take_posted(number) {
            self.settle_all(&ticket, counts);
        }
    }

    pub(super) fn refused(&self, number: u64, why: Denial) {
        if matches!(why, Denial::NoClient(_)) {
            // Told beside the verdict.
            if let Some(ticket) = self.waits_posted(number) {
                self.deny(&ticket, why);
            }
            return;
        }
        if let Some(ticket) = self.take_posted(number) {
            self.deny(&ticket, why);
        }
    }

    fn take_posted(&self, number: u64) -> Option<Ticket> {
        let (subject, waits, Posted { ticket, .. }) = self.post.open(|open| {
            let (subject, posted) = open.take(number)?;
            let waits = open.has(&subject);
            Some((subject, waits, posted))
        })?;
        if waits {
            self.go_on(&subject, None);
        }
        Some(ticket)
    }

    /// Who waits for what was posted as `number`.
    pub(super) fn waits_posted(&self, number: u64) -> Option<Ticket> {
        self.post.open(|open| open.get(number).map(|posted| posted.ticket.clone()))
    }

    /// What was posted to servers that are `lost` goes to whoever serves next; and what has found nobody tries again, until
    /// its time is over. To be called when servers are lost, and every second or so.
    pub fn post_again(&self, lost: &[NodeId]) {
        let (late, waiting) = self.post.open(|open| {
            open.lost(lost);
            (open.give_up(steady()), open.waiting())
        });
        for Posted { ticket, .. } in late {
            self.settle(&ticket, Outcome::Failed);
        }
        waiting.iter().for_each(|subject| self.go_on(subject, None));
    }

    /// This server is asked by `from` to see to an envelope to a session of which it is the home.
    pub(super) fn session_for(&self, from: &NodeId, number: u64, sender: &Sender, id: EnvelopeId, text: &Bytes) {
        let whom = Whom::Server { server: from.clone(), number, share: Share::Whole };
        let ticket = (number > 0).then(|| Ticket::open(whom, id.clone(), None, None, None));
        if let Some(ticket) = &ticket {
            ticket.expect(1);
        }
        self.serve_session(sender, id, text, ticket.as_ref());
        if let Some(ticket) = ticket {
            self.release(&ticket);
        }
    }

    /// As [`Self::session_for`], for a client.
    pub(super) fn client_for(
        &self,
        from: &NodeId,
        number: u64,
        client: ClientId,
        except: Vec<NodeId>,
        envelope: Carried,
    ) {
        let whom = Whom::Server { server: from.clone(), number, share: Share::Whole };
        let ticket = Ticket::open(whom, envelope.keep.id.clone(), None, None, None);
        ticket.expect(1);
        self.serve_client(client, except, envelope, ticket.clone());
        self.release(&ticket);
    }

    /// One share of `ticket` is settled when the home has found the devices.
    fn serve_client(&self, client: ClientId, except: Vec<NodeId>, envelope: Carried, ticket: Ticket) {
        let item = Parcel { ticket: Some(ticket), ..super::handle::parcel(envelope) };
        self.inboxes.to_client(client, except, item);
    }
}
