//! What a person has sent and has no confirmation for yet. It is sent again, with the same ids, on the next connection;
//! the server recognises what it has seen, so that nothing arrives twice.

use std::collections::VecDeque;

use serde_json::json;

use super::command::To;

/// Most bytes kept without a confirmation; then the person is asked to wait.
const MAX_BYTES: usize = 8 << 20;
/// The type of what a person writes: kept where the recipient is away.
const CHAT: i64 = 1;

/// One message on its way.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// Both `id` and `reference` of the envelope.
    pub(super) id: String,
    pub(super) to: To,
    pub(super) frame: String,
}

/// Messages without a confirmation, oldest first.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Tells this run's ids from those of any other run of the same device.
    run: String,
    count: u64,
    bytes: usize,
    waiting: VecDeque<Sent>,
}

impl Outgoing {
    pub(super) fn new(run: u64) -> Self {
        Self { run: format!("{run:016x}"), count: 0, bytes: 0, waiting: VecDeque::new() }
    }

    /// Takes a message on; `None` when too much waits already.
    pub(super) fn add(&mut self, to: &To, text: &str) -> Option<&Sent> {
        if self.bytes.saturating_add(text.len()) > MAX_BYTES {
            return None;
        }
        self.count += 1;
        let id = format!("{}-{}", self.run, self.count);
        let mut envelope = json!({ "type": CHAT, "id": id, "reference": id, "payload": text });
        let fields: &[(&str, &str)] = match to {
            To::Device(device) => &[("dest_id", device.as_str())],
            To::Client(client) => &[("dest_client_id", client.as_str())],
            To::Session(session) => &[("dest_session_id", session.as_str())],
            To::Member { session, member } => &[("dest_session_id", session.as_str()), ("dest_id", member.as_str())],
        };
        for (name, value) in fields {
            envelope[*name] = json!(value);
        }
        let frame = envelope.to_string();
        self.bytes += frame.len();
        self.waiting.push_back(Sent { id, to: to.clone(), frame });
        self.waiting.back()
    }

    /// Forgets a message, by its id; gives it back where it was waiting.
    pub(super) fn settle(&mut self, id: &str) -> Option<Sent> {
        let at = self.waiting.iter().position(|sent| sent.id == id)?;
        let sent = self.waiting.remove(at)?;
        self.bytes -= sent.frame.len();
        Some(sent)
    }

    /// Forgets the oldest message to a session: a refusal of row A18 names no envelope.
    pub(super) fn settle_session(&mut self, session: Option<&str>) -> Option<Sent> {
        let to_it = |sent: &&Sent| match &sent.to {
            To::Session(id) | To::Member { session: id, .. } => session.is_none_or(|session| session == id.as_str()),
            To::Device(_) | To::Client(_) => false,
        };
        let id = self.waiting.iter().find(to_it)?.id.clone();
        self.settle(&id)
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Sent> {
        self.waiting.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> To {
        To::Session("room".parse().unwrap())
    }

    #[test]
    fn each_recipient_has_its_field_and_the_text_is_untouched() {
        let mut outgoing = Outgoing::new(7);
        let member = To::Member { session: "room".parse().unwrap(), member: "fox".parse().unwrap() };
        for (to, field, value) in [
            (To::Device("bob".parse().unwrap()), "dest_id", "bob"),
            (To::Client("bo".parse().unwrap()), "dest_client_id", "bo"),
            (room(), "dest_session_id", "room"),
            (member.clone(), "dest_id", "fox"),
            (member, "dest_session_id", "room"),
        ] {
            let sent = outgoing.add(&to, "a \"quoted\"\u{7} line").unwrap();
            let envelope: serde_json::Value = serde_json::from_str(&sent.frame).unwrap();
            assert_eq!(envelope[field], value);
            assert_eq!(envelope["payload"], "a \"quoted\"\u{7} line");
            assert_eq!(envelope["type"], 1);
            assert_eq!(envelope["id"], envelope["reference"]);
        }
    }

    #[test]
    fn a_message_waits_until_it_is_settled_once() {
        let mut outgoing = Outgoing::new(7);
        let first = outgoing.add(&room(), "one").unwrap().id.clone();
        let second = outgoing.add(&To::Device("bob".parse().unwrap()), "two").unwrap().id.clone();
        assert_ne!(first, second);
        assert!(outgoing.settle(&second).is_some());
        assert!(outgoing.settle(&second).is_none());
        assert!(outgoing.settle_session(Some("other")).is_none());
        assert_eq!(outgoing.settle_session(Some("room")).unwrap().id, first);
        assert_eq!((outgoing.len(), outgoing.bytes), (0, 0));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut outgoing = Outgoing::new(7);
        let line = "x".repeat(1 << 20);
        let taken = (0..20).filter(|_| outgoing.add(&room(), &line).is_some()).count();
        assert_eq!(taken, 7);
    }
}
