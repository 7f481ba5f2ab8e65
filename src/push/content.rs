//! What a notification says: the keys every provider carries, and the words shown where the operator allows them.

use serde_json::{Map, Value, json};

use super::Notification;

/// Longest text shown, in bytes: also when escaped, and carried twice, it fits the 4096 bytes that providers take.
const SHOWN_BYTES: usize = 512;
/// Of `notification_type`: messages wait. The one value there is (row A29).
const MESSAGES_WAIT: &str = "101";
/// What newer notifications of a device replace older ones by, at every provider.
pub(super) const COLLAPSE_KEY: &str = "pending";
/// How long a provider keeps it for a phone that is off, in seconds.
pub(super) const TIME_TO_LIVE: u64 = 24 * 3600;

/// Whether notifications show what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Hidden,
    Shown,
}

/// The words on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) title: &'static str,
    pub(super) body: String,
}

impl Content {
    /// Takes away what shall not be kept, sent or shown: the text, or what of it is too long or no text.
    pub(super) fn trim(self, notification: &mut Notification) {
        let text = notification.text.take();
        if self == Self::Shown {
            notification.text = text.map(|text| shorten(&text)).filter(|text| !text.is_empty());
        }
    }

    pub(super) fn words(self, notification: &Notification) -> Option<Words> {
        if self == Self::Hidden {
            return None;
        }
        let body = match (notification.kind, &notification.text) {
            (1, Some(text)) => text.clone(),
            (2, _) => "Sent you".to_owned(),
            _ => "You have pending messages".to_owned(),
        };
        Some(Words { title: "New message", body })
    }

    /// The keys an app reads: `notification_type`, `pending`, `payload1` (the sender), `session_id`, `message`.
    pub(super) fn data(self, notification: &Notification) -> Map<String, Value> {
        let mut data = Map::new();
        data.insert("notification_type".to_owned(), json!(MESSAGES_WAIT));
        data.insert("pending".to_owned(), json!(notification.pending));
        if let Some(sender) = &notification.sender {
            data.insert("payload1".to_owned(), json!(sender));
        }
        if let Some(session) = &notification.session {
            data.insert("session_id".to_owned(), json!(session));
        }
        if let Some(words) = self.words(notification) {
            data.insert("message".to_owned(), json!(words.body));
        }
        data
    }
}

fn shorten(text: &str) -> String {
    let mut short = String::new();
    for character in text.trim().chars() {
        let character = if character.is_control() { ' ' } else { character };
        if short.len() + character.len_utf8() > SHOWN_BYTES - '…'.len_utf8() {
            short.push('…');
            break;
        }
        short.push(character);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(kind: i64, text: Option<&str>) -> Notification {
        Notification {
            device: "bob".parse().unwrap(),
            tokens: Vec::new(),
            pending: 3,
            sender: Some("alice".parse().unwrap()),
            session: None,
            kind,
            text: text.map(str::to_owned),
        }
    }

    #[test]
    fn hidden_content_is_count_and_sender_alone() {
        let mut secret = notification(1, Some("meet me at nine"));
        let data = Content::Hidden.data(&secret);
        assert_eq!(Value::from(data), json!({"notification_type": "101", "pending": 3, "payload1": "alice"}));
        assert_eq!(Content::Hidden.words(&secret), None);
        Content::Hidden.trim(&mut secret);
        assert_eq!(secret.text, None);
    }

    #[test]
    fn shown_words_follow_the_type() {
        for (kind, text, body) in [
            (1, Some("hello"), "hello"),
            (1, None, "You have pending messages"),
            (2, Some("a picture"), "Sent you"),
            (7, Some("hello"), "You have pending messages"),
        ] {
            assert_eq!(Content::Shown.words(&notification(kind, text)).unwrap().body, body);
        }
        assert_eq!(Content::Shown.data(&notification(1, Some("hi")))["message"], "hi");
    }

    #[test]
    fn a_text_is_cut_between_characters_and_has_no_control_characters() {
        let mut long = notification(1, Some(&format!("a\nb\u{0}{}", "é".repeat(1000))));
        Content::Shown.trim(&mut long);
        let text = long.text.unwrap();
        assert!(text.starts_with("a b é") && text.ends_with('…') && text.len() <= SHOWN_BYTES, "{}", text.len());
        let mut blank = notification(1, Some(" \n "));
        Content::Shown.trim(&mut blank);
        assert_eq!(blank.text, None);
    }
}
