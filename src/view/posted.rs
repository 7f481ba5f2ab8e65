//! Envelopes that another server sees to as a whole: to a session, whose home finds out who its members are, and to a
//! client, whose home knows its devices.
//!
//! This server stays their custodian: what is posted is kept until the verdict comes, and goes to whoever serves next when
//! the server it was sent to is lost. In which order, and for how long, is the model's ([`Post`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::handle::Turn;
use super::mesh::Acting;
use super::{Parcel, Share, Ticket, View, Waiter, Whom, fresh_id, steady};
use crate::metrics;
use crate::model::custody::{Counts, Outcome};
use crate::model::decide::Sender;
use crate::model::envelope::{Envelope, Feature};
use crate::model::frames::{Denial, Dispatch};
use crate::model::ids::{ClientId, EnvelopeId, NodeId, SessionId};
use crate::model::outbox::{Class, Wanted};
use crate::model::post::{Post, Subject, With};
use crate::wire::notice::Nobody;

/// What another server is to see to.
#[derive(Clone)]
enum What {
    Session {
        session: SessionId,
        sender: Sender,
        id: EnvelopeId,
        text: Bytes,
    },
    /// Of which it is asked who its devices are. `gate` is whose messages wait for that.
    Client {
        client: ClientId,
        except: Vec<NodeId>,
        gate: NodeId,
        item: Parcel,
    },
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
            Self::Client { client, .. } => Dispatch::Devices { number, client },
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Session { text, .. } => text.len(),
            Self::Client { item, .. } => item.cost(),
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
    open: Mutex<Post<Box<Posted>>>,
    /// Spares everybody the lock while nothing is open.
    any: AtomicBool,
}

impl Posts {
    fn open<R>(&self, act: impl FnOnce(&mut Post<Box<Posted>>) -> R) -> R {
        // Nothing panics while it is held.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = act(&mut open);
        self.any.store(!open.is_empty(), Ordering::Release);
        metrics::POSTED_BYTES.set(open.bytes() as i64);
        answer
    }

    /// The sessions and clients for which it is posted.
    pub(super) fn trace(&self, wanted: Wanted<'_>) -> Vec<String> {
        self.open(|open| {
            let is_it = |posted: &Posted| match &posted.what {
                What::Session { sender, id, .. } => sender.node == *wanted.sender && id == wanted.id,
                What::Client { item, .. } => wanted.is(item),
            };
            let found = open.all().filter(|posted| is_it(posted));
            found.map(|posted| posted.what.subject().as_str().to_owned()).collect()
        })
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

    /// For the devices of `client` that are nowhere, once its home has said which they are: one share of the account. Until then
    /// the messages of `gate` wait, so that none overtakes.
    pub(super) fn ask_devices(&self, client: ClientId, except: Vec<NodeId>, gate: NodeId, item: Parcel) {
        let Some(ticket) = item.ticket.clone() else { return };
        debug_assert!(item.class == Class::Reliable);
        self.gates.close(&gate);
        self.post(What::Client { client, except, gate, item }, &ticket, None);
    }

    /// Which devices a client has.
    pub fn devices_are(&self, number: u64, devices: &[NodeId]) {
        let asked = |open: &mut Post<Box<Posted>>| {
            open.get(number).is_some_and(|posted| matches!(posted.what, What::Client { .. }))
        };
        if !self.post.open(asked) {
            return;
        }
        let Some(Posted { ticket, what: What::Client { client, except, gate, item } }) = self.take_posted(number)
        else {
            return;
        };
        for device in devices.iter().filter(|device| !except.contains(device)) {
            self.offer(device, item.clone());
        }
        if devices.is_empty() && except.len() <= 1 {
            self.tell_unknown(&ticket, Nobody::Client(&client));
        }
        self.release(&ticket);
        self.give_back();
        self.gates.open(&gate, |message| self.send_now(message));
    }

    /// It goes nowhere, or nobody knows where to.
    fn give_up(&self, posted: Posted, why: Option<Denial>) {
        match why {
            Some(why) if matches!(posted.what, What::Session { .. }) => self.deny(&posted.ticket, why),
            _ => self.settle(&posted.ticket, Outcome::Failed),
        }
        self.reopen(posted.what);
    }

    /// Nothing waits any more for what has been answered.
    fn reopen(&self, what: What) {
        if let What::Client { gate, .. } = what {
            self.gates.open(&gate, |message| self.send_now(message));
        }
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
        let posted = Box::new(Posted { ticket: ticket.clone(), what });
        match self.post.open(|open| open.push(subject.clone(), posted, bytes, steady())) {
            Ok(()) => self.go_on(&subject, from),
            Err(posted) => self.give_up(*posted, None),
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
                // Answered by `devices_are`.
                Some((number, Some(What::Client { client, .. }))) => return self.inboxes.devices_of(client, number),
                Some((number, Some(what))) => {
                    if let Some(ticket) = self.waits_posted(number) {
                        self.serve(what, Some(&ticket));
                    }
                    self.post.open(|open| drop(open.take(number)));
                }
            }
        }
    }

    fn serve(&self, what: What, ticket: Option<&Ticket>) {
        // Nothing untracked is asked about.
        let What::Session { sender, id, text, .. } = what else { return };
        self.serve_session(&sender, id, &text, ticket, Turn::First);
    }

    /// The server that was asked to see to it answers.
    pub(super) fn verdict(&self, number: u64, counts: Counts) {
        if let Some(posted) = self.take_posted(number) {
            self.settle_all(&posted.ticket, counts);
            self.reopen(posted.what);
        }
    }

    pub fn refused(&self, number: u64, why: Denial) {
        if let Some(posted) = self.take_posted(number) {
            self.give_up(posted, Some(why));
        }
    }

    fn take_posted(&self, number: u64) -> Option<Posted> {
        let (subject, waits, posted) = self.post.open(|open| {
            let (subject, posted) = open.take(number)?;
            let waits = open.has(&subject);
            Some((subject, waits, posted))
        })?;
        if waits {
            self.go_on(&subject, None);
        }
        Some(*posted)
    }

    /// Who waits for what was posted as `number`.
    pub(super) fn waits_posted(&self, number: u64) -> Option<Ticket> {
        self.post.open(|open| open.get(number).map(|posted| posted.ticket.clone()))
    }

    /// What was posted to servers that are `lost` goes to whoever serves next; and what has found nobody tries again, until
    /// its time is over. To be called when servers are lost, and every second or so.
    pub fn post_again(&self, lost: &[NodeId]) {
        // Who is lost has lost this server too, and sends again what was not answered: it would be numbered twice.
        let is_theirs = |whom: &Whom| matches!(whom, Whom::Server { server, .. } if lost.contains(server));
        let (late, waiting) = self.post.open(|open| {
            open.withdraw(|posted| is_theirs(posted.ticket.whom()));
            open.lost(lost);
            (open.give_up(steady()), open.waiting())
        });
        late.into_iter().for_each(|posted| self.give_up(*posted, None));
        waiting.iter().for_each(|subject| self.go_on(subject, None));
    }

    /// This server is asked by `from` to see to an envelope to a session of which it is the home.
    pub(super) fn session_for(&self, from: &NodeId, number: u64, sender: &Sender, id: EnvelopeId, text: &Bytes) {
        let whom = Whom::Server { server: from.clone(), number, share: Share::Whole };
        let ticket = (number > 0).then(|| Ticket::open(whom, id.clone(), None, None, None));
        if let Some(ticket) = &ticket {
            ticket.expect(1);
        }
        self.serve_session(sender, id, text, ticket.as_ref(), Turn::Last);
        if let Some(ticket) = ticket {
            self.release(&ticket);
        }
    }
}
