//! The account of one envelope: who sent it, and what it is told when all recipients have settled.
//!
//! A [`Ticket`] goes with every copy; the last one to be settled closes the account. The arithmetic is the model's.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::View;
use crate::model::codes::{Code, Refusal};
use crate::model::custody::{Acquaintance, Outcome, Tally, Verdict};
use crate::model::ids::{EnvelopeId, NodeId, SessionId};
use crate::wire::notice::{About, Confirmation, ErrorNotice, Nobody, NodeUnknown, Notice, UserOffline};

/// Most notices of absence for one envelope; the confirmation has the counts.
const MAX_OFFLINE_NOTICES: u32 = 32;

/// A request over HTTP that waits for the verdict.
pub type Waiter = oneshot::Sender<Verdict>;

/// See the module's header.
pub struct Account {
    /// Who is told; an app over HTTP waits instead.
    pub sender: NodeId,
    pub id: EnvelopeId,
    pub reference: Option<String>,
    /// Named in the notices of a session's envelope.
    pub session: Option<SessionId>,
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
        write!(f, "Ticket({} of {})", self.0.id, self.0.sender)
    }
}

impl Ticket {
    /// A new account, held open until [`View::release`].
    pub fn open(
        sender: NodeId,
        id: EnvelopeId,
        reference: Option<String>,
        session: Option<SessionId>,
        waiter: Option<Waiter>,
    ) -> Self {
        Self(Arc::new(Account {
            sender,
            id,
            reference,
            session,
            waiter: Mutex::new(waiter),
            tally: Mutex::new(Tally::new()),
            offline_notices: AtomicU32::new(0),
        }))
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
        let verdict = ticket.tally(|tally| tally.settle(outcome));
        self.tell(ticket, verdict);
    }

    fn tell(&self, ticket: &Ticket, verdict: Option<Verdict>) {
        let Some(verdict) = verdict else { return };
        let account = &ticket.0;
        let waiter = account.waiter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiter) = waiter {
            // The request may have stopped waiting; the envelope has its fate all the same.
            let _ = waiter.send(verdict);
            return;
        }
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
                self.notify(&account.sender, &confirmation.encode());
            }
            (Verdict::Confirmed { .. }, None) => {}
            (Verdict::Unavailable, _) => {
                let refusal = Refusal::new(
                    Code::Unavailable,
                    "the message could not be stored for everybody; send it again with the same id",
                );
                self.notify(&account.sender, &ErrorNotice::of(&refusal, account.about()).encode());
            }
        }
    }

    /// Tells the sender that a recipient is away and the envelope is in its inbox. `shown` is the recipient as the sender
    /// may know it.
    pub fn tell_offline(&self, ticket: &Ticket, shown: &NodeId, acquaintance: Acquaintance) {
        let account = &ticket.0;
        if account.offline_notices.fetch_add(1, Ordering::Relaxed) >= MAX_OFFLINE_NOTICES {
            return;
        }
        let (id, timestamp) = (&account.id, super::now());
        let offline = UserOffline { src_id: shown, id, timestamp, dest_session_id: account.session.as_ref() };
        self.notify(&account.sender, &offline.encode());
        if acquaintance == Acquaintance::Unknown {
            self.tell_unknown(ticket, Nobody::Node(shown));
        }
    }

    /// Tells the sender that nobody has this name.
    pub fn tell_unknown(&self, ticket: &Ticket, who: Nobody<'_>) {
        let account = &ticket.0;
        let unknown = NodeUnknown { dest_id: &account.sender, who, id: &account.id, timestamp: super::now() };
        self.notify(&account.sender, &unknown.encode());
    }
}
