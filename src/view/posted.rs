//! Envelopes that another server sees to as a whole: to a session, whose home finds out who its members are, and to a
//! client, whose home knows its devices.
//!
//! This server stays their custodian: what is posted is kept until the verdict comes, and goes to whoever serves next when
//! the server it was sent to is lost. Nobody is waited for beyond [`PATIENCE_MS`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::mesh::Acting;
use super::{Parcel, Share, Ticket, View, Waiter, Whom, fresh_id, steady};
use crate::model::custody::{Counts, Outcome};
use crate::model::decide::Sender;
use crate::model::envelope::{Envelope, Feature};
use crate::model::frames::{Carried, Denial, Dispatch};
use crate::model::ids::{ClientId, EnvelopeId, Millis, NodeId, SessionId};
use crate::model::outbox::Class;

/// How long an envelope may wait for somebody who serves its session or client, in milliseconds.
const PATIENCE_MS: u64 = 8_000;

/// What another server is to see to.
#[derive(Clone)]
enum What {
    Session { session: SessionId, sender: Sender, id: EnvelopeId, text: Bytes },
    Client { client: ClientId, except: Vec<NodeId>, envelope: Carried },
}

impl What {
    /// Who sees to it now.
    fn acting(&self, view: &View) -> Acting {
        match self {
            Self::Session { session, .. } => view.serves(session),
            Self::Client { client, .. } => view.mesh.acting(client.as_str()),
        }
    }

    /// Whose home sees to it.
    fn subject(&self) -> &str {
        match self {
            Self::Session { session, .. } => session.as_str(),
            Self::Client { client, .. } => client.as_str(),
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

struct Posted {
    ticket: Ticket,
    what: What,
    /// Whom it was sent to; `None` while nobody serves.
    to: Option<NodeId>,
    since: Millis,
}

/// Bytes that may be posted and not answered for; what comes beyond is refused to its sender.
const LIMIT: usize = 64 << 20;

#[derive(Default)]
struct Open {
    /// In the order in which they were sent.
    posted: std::collections::BTreeMap<u64, Posted>,
    bytes: usize,
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Post {
    next: AtomicU64,
    open: Mutex<Open>,
}

impl Post {
    fn open<R>(&self, act: impl FnOnce(&mut Open) -> R) -> R {
        // Nothing panics while it is held.
        act(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, number: u64) -> Option<Posted> {
        self.open(|open| {
            let posted = open.posted.remove(&number)?;
            open.bytes -= posted.what.bytes();
            Some(posted)
        })
    }
}

impl View {
    /// Nothing is on its way to another server, and nothing waits for one that serves.
    pub fn is_quiet(&self) -> bool {
        self.mesh.is_quiet() && self.post.open(|open| open.posted.is_empty())
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
            None => {
                // Nobody waits for it, and nobody may have it.
                if let Acting::There(server) = self.mesh.acting(what.subject()) {
                    let _ = self.mesh.send(&server, &what.dispatch(0));
                }
            }
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
        let Some(ticket) = ticket else { return crate::metrics::FAST.dropped.inc() };
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

    /// `from` is the server that has sent it here, if one has.
    fn post(&self, what: What, ticket: &Ticket, from: Option<&NodeId>) {
        let number = self.post.next.fetch_add(1, Ordering::Relaxed) + 1;
        let since = steady();
        let bytes = what.bytes();
        let taken = self.post.open(|open| {
            if open.bytes > 0 && open.bytes + bytes > LIMIT {
                return false;
            }
            open.bytes += bytes;
            // What was posted before and waits for somebody who serves goes first.
            let waits =
                open.posted.values().any(|posted| posted.to.is_none() && posted.what.subject() == what.subject());
            let mut posted = Posted { ticket: ticket.clone(), what, to: None, since };
            if !waits {
                self.send_posted(number, &mut posted, from);
            }
            open.posted.insert(number, posted);
            true
        });
        if !taken {
            self.settle(ticket, Outcome::Failed);
        }
    }

    /// To whoever serves now, if somebody does. Under the lock of what is open, so that nothing overtakes.
    fn send_posted(&self, number: u64, posted: &mut Posted, from: Option<&NodeId>) {
        posted.to = match posted.what.acting(self) {
            // It would come back at once.
            Acting::There(server) if Some(&server) == from => None,
            Acting::There(server) => {
                let sent = self.mesh.send(&server, &posted.what.dispatch(number));
                sent.is_ok().then_some(server)
            }
            // Found out by `post_again`, outside of the lock.
            Acting::Here | Acting::Nobody => None,
        };
    }

    /// The server that was asked to see to it answers.
    pub(super) fn verdict(&self, number: u64, counts: Counts) {
        if let Some(posted) = self.post.take(number) {
            self.settle_all(&posted.ticket, counts);
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
        if let Some(posted) = self.post.take(number) {
            self.deny(&posted.ticket, why);
        }
    }

    /// Who waits for what was posted as `number`.
    pub(super) fn waits_posted(&self, number: u64) -> Option<Ticket> {
        self.post.open(|open| open.posted.get(&number).map(|posted| posted.ticket.clone()))
    }

    /// What was posted to servers that are `lost` goes to whoever serves next; and what has found nobody tries again, until
    /// its time is over. To be called when servers are lost, and every second or so.
    pub fn post_again(&self, lost: &[NodeId]) {
        let now = steady();
        let mut here = Vec::new();
        let mut late = Vec::new();
        self.post.open(|open| {
            let mut blocked: HashMap<String, ()> = HashMap::new();
            let mut gone = Vec::new();
            for (number, posted) in &mut open.posted {
                if posted.to.as_ref().is_some_and(|to| lost.contains(to)) {
                    posted.to = None;
                }
                if posted.to.is_some() {
                    continue;
                }
                if now.since(posted.since) > PATIENCE_MS {
                    gone.push((*number, false));
                    continue;
                }
                if blocked.contains_key(posted.what.subject()) {
                    continue;
                }
                if posted.what.acting(self) == Acting::Here {
                    gone.push((*number, true));
                    continue;
                }
                self.send_posted(*number, posted, None);
                if posted.to.is_none() {
                    blocked.insert(posted.what.subject().to_owned(), ());
                }
            }
            for (number, is_here) in gone {
                if let Some(posted) = open.posted.remove(&number) {
                    open.bytes -= posted.what.bytes();
                    if is_here { here.push(posted) } else { late.push(posted) }
                }
            }
        });
        for posted in late {
            self.settle(&posted.ticket, Outcome::Failed);
        }
        for Posted { ticket, what, .. } in here {
            match what {
                What::Session { sender, id, text, .. } => self.serve_session(&sender, id, &text, Some(&ticket)),
                What::Client { client, except, envelope } => self.serve_client(client, except, envelope, ticket),
            }
        }
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
