//! Senders whose reliable messages wait: until it is known which devices a client has, nothing of the same sender may overtake
//! what is for them.
//!
//! Invariants: what waits goes on in the order in which it came, one at a time; a gate is there as long as something of its
//! sender is asked or waits. Bounded in bytes in all; what comes beyond is refused to its sender.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::send::{Message, Payer};
use crate::metrics;
use crate::model::envelope::Feature;
use crate::model::ids::{EnvelopeId, NodeId};
use crate::model::keyed::HashMap;

/// Bytes that may wait.
const LIMIT: usize = 32 << 20;
/// What a message costs beside its text.
const OVERHEAD: usize = 512;

#[derive(Default)]
struct Gate {
    /// Answers that are waited for.
    asked: usize,
    waiting: VecDeque<Message>,
    /// Somebody is sending on what waited.
    drains: bool,
}

#[derive(Default)]
struct Closed {
    gates: HashMap<NodeId, Gate>,
    bytes: usize,
}

/// What becomes of a message at the gate of its sender.
pub(super) enum Passage {
    Free(Message),
    Waits,
    Full(Message),
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Gates {
    closed: Mutex<Closed>,
    /// Spares everybody the lock while all are open.
    any: AtomicBool,
}

impl Gates {
    fn closed<R>(&self, act: impl FnOnce(&mut Closed) -> R) -> R {
        // Nothing panics while it is held.
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = act(&mut closed);
        self.any.store(!closed.gates.is_empty(), Ordering::Release);
        metrics::GATED_BYTES.set(closed.bytes as i64);
        answer
    }

    pub(super) fn pass(&self, message: Message) -> Passage {
        if !self.any.load(Ordering::Acquire) || message.envelope.feature != Feature::Reliable {
            return Passage::Free(message);
        }
        self.closed(|closed| {
            let gate = sender(&message).and_then(|sender| closed.gates.get_mut(sender.as_str()));
            let Some(gate) = gate else { return Passage::Free(message) };
            let bytes = cost(&message);
            if closed.bytes > 0 && closed.bytes + bytes > LIMIT {
                return Passage::Full(message);
            }
            closed.bytes += bytes;
            gate.waiting.push_back(message);
            Passage::Waits
        })
    }

    /// Whether this envelope waits at its sender's gate.
    pub(super) fn holds(&self, sender: &NodeId, id: &EnvelopeId) -> bool {
        let waits = |gate: &Gate| gate.waiting.iter().any(|message| message.id == *id);
        self.any.load(Ordering::Acquire) && self.closed(|closed| closed.gates.get(sender.as_str()).is_some_and(waits))
    }

    /// Something is asked on behalf of `sender`.
    pub(super) fn close(&self, sender: &NodeId) {
        self.closed(|closed| closed.gates.entry(sender.clone()).or_default().asked += 1);
    }

    /// It is answered: `send` gets what has waited, unless it has to wait again.
    pub(super) fn open(&self, sender: &NodeId, send: impl Fn(Message)) {
        let drains = self.closed(|closed| {
            let Some(gate) = closed.gates.get_mut(sender.as_str()) else { return false };
            gate.asked = gate.asked.saturating_sub(1);
            let drains = gate.asked == 0 && !gate.drains;
            gate.drains |= drains;
            drains
        });
        if !drains {
            return;
        }
        while let Some(message) = self.closed(|closed| closed.next(sender)) {
            send(message);
        }
    }
}

impl Closed {
    fn next(&mut self, sender: &NodeId) -> Option<Message> {
        let gate = self.gates.get_mut(sender.as_str())?;
        if gate.asked > 0 {
            gate.drains = false;
            return None;
        }
        let Some(message) = gate.waiting.pop_front() else {
            self.gates.remove(sender.as_str());
            return None;
        };
        self.bytes -= cost(&message);
        Some(message)
    }
}

fn cost(message: &Message) -> usize {
    message.envelope.members.len() + OVERHEAD
}

fn sender(message: &Message) -> Option<&NodeId> {
    match &message.payer {
        Payer::Sender(sender, _) => Some(sender),
        Payer::Share(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::model::decide::Route;
    use crate::wire::native::{self, Origin};

    fn message(sender: &str, payload: usize, feature: &str) -> Message {
        let text = format!(r#"{{"dest_id":"bob","type":1,"payload":{payload},"feature":"{feature}"}}"#);
        let sender: NodeId = sender.parse().unwrap();
        Message {
            envelope: native::decode(&text.into(), Origin::Device).unwrap(),
            route: Route::Device("bob".parse().unwrap()),
            payer: Payer::Sender(sender.clone(), None),
            from: sender.clone(),
            src_id: sender,
            src_client_id: None,
            id: format!("m{payload}").parse().unwrap(),
        }
    }

    fn waits(gates: &Gates, message: Message) -> bool {
        matches!(gates.pass(message), Passage::Waits)
    }

    #[test]
    fn reliable_ones_of_that_sender_wait_and_go_on_in_order() {
        let gates = Gates::default();
        let (alice, sent) = ("alice".parse().unwrap(), RefCell::new(Vec::new()));
        assert!(!waits(&gates, message("alice", 0, "RELIABLE")));
        gates.close(&alice);
        gates.close(&alice);
        assert!(!waits(&gates, message("alice", 0, "FAST")) && !waits(&gates, message("carol", 0, "RELIABLE")));
        assert!((1..4).all(|n| waits(&gates, message("alice", n, "RELIABLE"))));
        gates.open(&alice, |_| panic!("one answer is still waited for"));
        gates.open(&alice, |message| {
            sent.borrow_mut().push(message.id.to_string());
            if message.id.as_str() == "m2" {
                gates.close(&alice);
            }
        });
        assert_eq!(*sent.borrow(), ["m1", "m2"], "the second asks again");
        gates.open(&alice, |message| {
            // What comes meanwhile is behind.
            if message.id.as_str() == "m3" {
                assert!(waits(&gates, self::message("alice", 4, "RELIABLE")));
            }
            sent.borrow_mut().push(message.id.to_string());
        });
        assert_eq!(*sent.borrow(), ["m1", "m2", "m3", "m4"]);
        assert!(!waits(&gates, message("alice", 5, "RELIABLE")) && gates.closed(|closed| closed.bytes) == 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let gates = Gates::default();
        gates.close(&"alice".parse().unwrap());
        gates.closed(|closed| closed.bytes = LIMIT);
        assert!(matches!(gates.pass(message("alice", 1, "RELIABLE")), Passage::Full(_)));
    }
}
