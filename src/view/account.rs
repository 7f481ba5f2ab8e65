//! The account of one envelope: whom it is for, and what they are told when all recipients have settled.
//!
//! A [`Ticket`] goes with every copy; the last one to be settled closes the account. The arithmetic is the model's.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::View;
use super::mesh::Haste;
use crate::model::codes::{Code, Refusal};
use crate::model::custody::{Acquaintance, Counts, Outcome, Tally, Verdict};
use crate::model::frames::{Denial, Dispatch, Fate};
use crate::model::ids::{EnvelopeId, NodeId, SessionId};
use crate::model::outbox::Prompt;
use crate::wire::notice::{
    About, Confirmation, ErrorNotice, Nobody, NodeUnknown, Notice, SessionUnauthorized, UserOffline,
};

/// Most notices of absence for one envelope; the confirmation has the counts.
const MAX_OFFLINE_NOTICES: u32 = 32;

/// A request over HTTP that waits for the verdict, or for why there is none.
pub type Waiter = oneshot::Sender<Result<Verdict, Denial>>;

/// Who is told what became of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Its sender.
    Sender(NodeId),
    /// The server that has lent us this share of it.
    Server { server: NodeId, number: u64, share: Share },
    /// A record of this server's held mail, by its number.
    Held(u64),
}

/// How much of an envelope another server has asked this one to see to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// One recipient.
    One,
    /// All recipients: this server finds out who they are.
    Whole,
}

/// See the module's header.
pub struct Account {
    pub whom: Whom,
    pub id: EnvelopeId,
    pub reference: Option<String>,
    /// Named in the notices of a session's envelope.
    pub session: Option<SessionId>,
    prompt: Prompt,
    waiter: Mutex<Option<Waiter>>,
    tally: Mutex<Tally>,
    offline_notices: AtomicU32,
}

impl Account {
    fn about(&self) -> About<'_> {
        About { id: Some(&self.id), reference: self.reference.as_deref() }
    }
}

/// One recipient's share of an account.
#[derive(Clone)]
pub struct Ticket(Arc<Account>);

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({} of {:?})", self.0.id, self.0.whom)
    }
}

impl Ticket {
    /// A new account, held open until [`View::release`].
    pub fn open(
        whom: Whom,
        id: EnvelopeId,
        reference: Option<String>,
        session: Option<SessionId>,
        waiter: Option<Waiter>,
    ) -> Self {
        let prompt = if reference.is_some() || waiter.is_some() { Prompt::Soon } else { Prompt::Later };
        Self(Arc::new(Account {
            whom,
            id,
            reference,
            session,
            prompt,
            waiter: Mutex::new(waiter),
            tally: Mutex::new(Tally::new()),
            offline_notices: AtomicU32::new(0),
        }))
    }

    /// For one recipient's share that `server` has lent us, and nobody else's.
    pub(super) fn lent(server: NodeId, number: u64, id: EnvelopeId, prompt: Prompt) -> Self {
        Self(Arc::new(Account {
            whom: Whom::Server { server, number, share: Share::One },
            id,
            reference: None,
            session: None,
            prompt,
            waiter: Mutex::new(None),
            tally: Mutex::new(Tally::new()),
            offline_notices: AtomicU32::new(0),
        }))
    }

    pub fn whom(&self) -> &Whom {
        &self.0.whom
    }

    /// `recipients` more will settle.
    pub fn expect(&self, recipients: u32) {
        self.tally(|tally| tally.expect(recipients));
    }

    fn tally<R>(&self, act: impl FnOnce(&mut Tally) -> R) -> R {
        // Nothing panics while the tally is held, and its numbers are whole at every step.
        act(&mut self.0.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl View {
    /// All recipients of the account are known.
    pub fn release(&self, ticket: &Ticket) {
        let verdict = ticket.tally(Tally::release);
        self.tell(ticket, verdict);
    }

    /// One recipient has settled.
    pub fn settle(&self, ticket: &Ticket, outcome: Outcome) {
        if let Whom::Server { server, number, share: Share::One } = &ticket.0.whom {
            let haste = if ticket.0.prompt == Prompt::Soon { Haste::Now } else { Haste::Soon };
            return self.mesh.fate(server, *number, Fate::Settled(outcome), haste);
        }
        let verdict = ticket.tally(|tally| tally.settle(outcome));
        self.tell(ticket, verdict);
    }

    /// A share of several recipients has settled.
    pub fn settle_all(&self, ticket: &Ticket, counts: Counts) {
        let verdict = ticket.tally(|tally| tally.settle_all(counts));
        self.tell(ticket, verdict);
    }

    /// What was lent cannot be delivered here: its custodian finds another way.
    pub(super) fn elsewhere(&self, ticket: &Ticket) {
        match &ticket.0.whom {
            Whom::Server { server, number, share: Share::One } => {
                self.mesh.fate(server, *number, Fate::Elsewhere, Haste::Now);
            }
            // Only one recipient's share is ever lent.
            Whom::Server { .. } | Whom::Sender(_) | Whom::Held(_) => self.settle(ticket, Outcome::Failed),
        }
    }

    fn tell(&self, ticket: &Ticket, verdict: Option<Verdict>) {
        let Some(verdict) = verdict else { return };
        let account = &ticket.0;
        let waiter = account.waiter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiter) = waiter {
            // The request may have stopped waiting; the envelope has its fate all the same.
            let _ = waiter.send(Ok(verdict));
            return;
        }
        let sender = match &account.whom {
            Whom::Sender(sender) => sender,
            Whom::Server { server, number, .. } => {
                // A custodian that cannot be reached finds another way by itself.
                let _ = self.mesh.send(server, &Dispatch::Verdict { number: *number, counts: verdict.counts() });
                return;
            }
            Whom::Held(number) => return self.inboxes.forwarded(*number, verdict),
        };
        match (verdict, &account.reference) {
            (Verdict::Confirmed { status, counts }, Some(reference)) => {
                let confirmation = Confirmation {
                    reference,
                    id: &account.id,
                    status,
                    delivered: counts.delivered,
                    stored: counts.stored,
                    dropped: counts.dropped,
                    payload: None,
                };
                self.tell_sender(sender, &confirmation.encode());
            }
            (Verdict::Confirmed { .. }, None) => {}
            (Verdict::Unavailable(_), _) => {
                let refusal = Refusal::new(
                    Code::Unavailable,
                    "the message could not be stored for everybody; send it again with the same id",
                );
                self.tell_sender(sender, &ErrorNotice::of(&refusal, account.about()).encode());
            }
        }
    }

    /// Tells the sender that a recipient is away and the envelope is in its inbox. `shown` is the recipient as the sender
    /// may know it.
    pub fn tell_offline(&self, ticket: &Ticket, shown: &NodeId, acquaintance: Acquaintance) {
        let account = &ticket.0;
        let sender = match &account.whom {
            Whom::Sender(sender) => sender,
            Whom::Server { server, number, .. } => {
                let away = Dispatch::Away { number: *number, shown: shown.clone(), acquaintance };
                // A notice: lost with the way.
                let _ = self.mesh.send(server, &away);
                return;
            }
            // Its sender was told when it was held.
            Whom::Held(_) => return,
        };
        if account.offline_notices.fetch_add(1, Ordering::Relaxed) >= MAX_OFFLINE_NOTICES {
            return;
        }
        let (id, timestamp) = (&account.id, super::now());
        let offline = UserOffline { src_id: shown, id, timestamp, dest_session_id: account.session.as_ref() };
        self.notify(sender, &offline.encode());
        if acquaintance == Acquaintance::Unknown {
            self.tell_unknown(ticket, Nobody::Node(shown));
        }
    }

    /// Tells the sender that nobody has this name.
    pub fn tell_unknown(&self, ticket: &Ticket, who: Nobody<'_>) {
        let account = &ticket.0;
        match &account.whom {
            Whom::Sender(sender) => {
                let unknown = NodeUnknown { dest_id: sender, who, id: &account.id, timestamp: super::now() };
                self.notify(sender, &unknown.encode());
            }
            Whom::Server { server, number, .. } => {
                // Who has a client is asked, and told, by the server of its sender.
                let Nobody::Node(node) = who else { return };
                // A notice: lost with the way.
                let _ =
                    self.mesh.send(server, &Dispatch::Refused { number: *number, why: Denial::NoMember(node.clone()) });
            }
            Whom::Held(_) => {}
        }
    }

    /// The envelope goes nowhere, and its sender is told why. Nothing of it is confirmed.
    pub(super) fn deny(&self, ticket: &Ticket, why: Denial) {
        let account = &ticket.0;
        let waiter = account.waiter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiter) = waiter {
            // The request may have stopped waiting.
            let _ = waiter.send(Err(why));
            return;
        }
        match (&account.whom, why) {
            (Whom::Server { server, number, .. }, why) => {
                let _ = self.mesh.send(server, &Dispatch::Refused { number: *number, why });
            }
            (Whom::Sender(_), Denial::NoMember(member)) => {
                self.tell_unknown(ticket, Nobody::Node(&member));
                self.release(ticket);
            }
            (Whom::Sender(sender), Denial::Unauthorized | Denial::NoSession) => {
                let Some(session) = &account.session else { return };
                crate::metrics::REFUSED.with_label_values(&["session_unauthorized"]).inc();
                let timestamp = super::now();
                let notice = SessionUnauthorized {
                    dest_id: sender,
                    dest_session_id: session,
                    about: account.about(),
                    timestamp,
                };
                self.tell_sender(sender, &notice.encode());
            }
            (Whom::Sender(sender), Denial::Refusal(refusal)) => {
                crate::metrics::REFUSED.with_label_values(&[refusal.code.word()]).inc();
                self.tell_sender(sender, &ErrorNotice::of(&refusal, account.about()).encode());
            }
            (Whom::Held(_), _) => {}
        }
    }
}
