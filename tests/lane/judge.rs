//! What was promised, checked as it happens and at the end.

use std::collections::HashMap;
use std::sync::Arc;

use sparkmesh::model::custody::Outcome;
use sparkmesh::model::ids::{Millis, NodeId, Seq};
use sparkmesh::model::inbox::Loss;
use sparkmesh::model::outbox::{Class, Keep, Prompt};
use sparkmesh::model::seen::{Key, WINDOW_MS};

use crate::disk::Ticket;

/// One thing a sender sent; the same again has the same number.
pub(crate) struct Sent {
    pub(crate) sender: usize,
    pub(crate) class: Class,
    pub(crate) key: Option<Key>,
    pub(crate) keep: Arc<Keep>,
    pub(crate) fill: usize,
    pub(crate) expires: Option<Millis>,
    /// When it was offered, the first time and the last.
    offered: (u64, u64),
    received: u32,
    stored: bool,
    /// Its sender has been told so, or a limit has pushed it out.
    given_up: bool,
    /// The lane knows that the client has it.
    acknowledged: bool,
}

#[derive(Default)]
pub(crate) struct Judge {
    pub(crate) sent: Vec<Sent>,
    /// By ticket: the envelope, and its outcome.
    tickets: Vec<(usize, Option<Outcome>)>,
    /// First receptions, by sender.
    first: HashMap<usize, Vec<usize>>,
    pub(crate) duplicates: u64,
}

impl Judge {
    pub(crate) fn sender(number: usize) -> NodeId {
        format!("sender-{number}").parse().expect("the alphabet of ids")
    }

    pub(crate) fn send(
        &mut self,
        sender: usize,
        class: Class,
        key: Option<Key>,
        fill: usize,
        expires: Option<Millis>,
    ) -> usize {
        let envelope = self.sent.len();
        let keep = Arc::new(Keep {
            sender: Self::sender(sender),
            id: envelope.to_string().parse().expect("a short id"),
            collapse: None,
            kind: 1,
            timestamp: Millis(0),
            session: None,
            prompt: if envelope.is_multiple_of(3) { Prompt::Soon } else { Prompt::Later },
        });
        self.sent.push(Sent {
            sender,
            class,
            key,
            keep,
            fill,
            expires,
            offered: (u64::MAX, 0),
            received: 0,
            stored: false,
            given_up: false,
            acknowledged: false,
        });
        envelope
    }

    pub(crate) fn ticket(&mut self, envelope: usize, now: u64) -> Ticket {
        let offered = &mut self.sent[envelope].offered;
        *offered = (offered.0.min(now), now);
        self.tickets.push((envelope, None));
        self.tickets.len() - 1
    }

    pub(crate) fn settled(&mut self, ticket: Ticket, outcome: Outcome) {
        let (envelope, before) = &mut self.tickets[ticket];
        assert_eq!(*before, None, "envelope {envelope}, ticket {ticket} was settled and is now settled {outcome:?}");
        *before = Some(outcome);
        let sent = &mut self.sent[*envelope];
        match outcome {
            Outcome::Delivered => assert!(sent.received > 0, "envelope {envelope} is said to be delivered"),
            Outcome::Stored => assert!(sent.stored, "envelope {envelope} is said to be stored"),
            Outcome::Failed | Outcome::Dropped => sent.given_up = true,
        }
        sent.acknowledged |= outcome == Outcome::Delivered;
    }

    pub(crate) fn stored(&mut self, envelope: usize) {
        self.sent[envelope].stored = true;
    }

    pub(crate) fn failed(&mut self, envelope: usize) {
        // Its sender is told to send it again, and that is a new beginning.
        self.sent[envelope].given_up = true;
        self.sent[envelope].acknowledged = false;
    }

    pub(crate) fn lost(&mut self, envelope: usize, why: Loss) {
        assert!(why != Loss::Expired || self.sent[envelope].expires.is_some(), "only what may expire does");
        self.sent[envelope].given_up = true;
    }

    pub(crate) fn removed(&mut self, envelope: usize, now: u64) {
        let sent = &mut self.sent[envelope];
        let expired = sent.expires.is_some_and(|at| at.0 <= now);
        assert!(sent.received > 0 || expired, "envelope {envelope} is removed from the inbox, but nobody received it");
        sent.acknowledged |= sent.received > 0;
        sent.given_up |= sent.received == 0;
    }

    pub(crate) fn written(&self, envelope: usize, now: u64) {
        let sent = &self.sent[envelope];
        let forgotten = sent.key.is_some() && now - sent.offered.1 > WINDOW_MS;
        assert!(
            !sent.acknowledged || forgotten || sent.class != Class::Reliable,
            "envelope {envelope} is written again after the client has acknowledged it"
        );
    }

    pub(crate) fn received(&mut self, envelope: usize, _seq: Option<Seq>) {
        let sent = &mut self.sent[envelope];
        sent.received += 1;
        if sent.received > 1 {
            self.duplicates += 1;
        } else if sent.class == Class::Reliable {
            self.first.entry(sent.sender).or_default().push(envelope);
        }
    }

    pub(crate) fn is_unsettled(&self) -> bool {
        self.tickets.iter().any(|(_, outcome)| outcome.is_none())
    }

    pub(crate) fn close(&self, now: u64) {
        for (ticket, (envelope, outcome)) in self.tickets.iter().enumerate() {
            assert!(outcome.is_some(), "ticket {ticket} of envelope {envelope} was never settled");
        }
        for (envelope, sent) in self.sent.iter().enumerate() {
            let excused = sent.given_up
                || sent.expires.is_some_and(|at| at.0 <= now)
                || sent.class != Class::Reliable
                || sent.offered.1 == 0;
            assert!(sent.received > 0 || excused, "envelope {envelope} was accepted and never received");
        }
    }

    /// First receptions come in the order offered. What was given up may come late.
    pub(crate) fn order(&self) {
        for (sender, envelopes) in &self.first {
            let kept: Vec<_> = envelopes.iter().filter(|at| !self.sent[**at].given_up).collect();
            for pair in kept.windows(2) {
                assert!(
                    pair[0] < pair[1],
                    "of sender {sender} envelope {} was first received before {}",
                    pair[0],
                    pair[1]
                );
            }
        }
    }
}
