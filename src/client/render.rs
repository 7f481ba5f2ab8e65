//! What a person sees: frames as lines. Pure, and the one way to the terminal: every text of another passes [`clean`].

use serde::Deserialize;
use serde_json::value::RawValue;

use super::command::To;
use super::offer::Offer;
use crate::model::codes::kind;

/// A frame from the server, as far as a person needs it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Incoming {
    #[serde(rename = "type")]
    pub(super) kind: i64,
    pub(super) src_id: Option<String>,
    pub(super) dest_session_id: Option<String>,
    pub(super) payload: Option<Box<RawValue>>,
    pub(super) id: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) seq: Option<u64>,
    /// Milliseconds since 1970, by the server's clock.
    pub(super) timestamp: Option<u64>,
    pub(super) status: Option<String>,
    pub(super) delivered: u64,
    pub(super) stored: u64,
    pub(super) dropped: u64,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) reconnect_after_ms: u64,
    pub(super) offer: Option<Offer>,
}

/// A line for an application's message or a notice; `now` in milliseconds since 1970. `None`: nothing to show.
pub(super) fn line(frame: &Incoming, now: u64) -> Option<String> {
    let who = frame.src_id.as_deref().unwrap_or("somebody");
    let place = frame.dest_session_id.as_deref().map(|session| format!("#{session} ")).unwrap_or_default();
    let text = match frame.kind {
        kind::JOINED => format!("{place}{who} joined"),
        kind::LEFT => format!("{place}{who} left"),
        kind::REVEALED => match text_of(frame) {
            real if real.is_empty() => format!("{place}{who} has shown its real id"),
            real => format!("{place}{who} is {real}"),
        },
        kind::ONLINE => format!("{place}{who} is online"),
        kind::OFFLINE => format!("{place}{who} is offline"),
        kind::USER_OFFLINE => format!("* {place}{who} is offline"),
        kind::NODE_UNKNOWN => {
            format!("* {who} was never here; what you wrote is kept for it for a week, up to a limit")
        }
        kind::SESSION_UNAUTHORIZED => match place.trim() {
            "" => "* you are not a member of that session: nobody got it".to_owned(),
            place => format!("* you are not a member of {place}: nobody got it"),
        },
        kind::ERROR => {
            let (code, message) = (frame.code.as_deref().unwrap_or("error"), frame.message.as_deref().unwrap_or(""));
            format!("* the server says {code}: {message}")
        }
        application if kind::is_application(application) => {
            frame.payload.as_ref()?;
            format!("{place}{who}: {}{}", text_of(frame), age(frame, now))
        }
        _ => return None,
    };
    Some(clean(&text))
}

/// A line for a confirmation of what was sent to `to`.
pub(super) fn confirmation(to: &To, frame: &Incoming) -> String {
    let counts = match (frame.delivered, frame.stored, frame.dropped) {
        (delivered, stored, 0) if delivered + stored > 1 => format!(" ({delivered} delivered, {stored} stored)"),
        (delivered, stored, dropped) if dropped > 0 => {
            format!(" ({delivered} delivered, {stored} stored, {dropped} dropped)")
        }
        _ => String::new(),
    };
    let text = match frame.status.as_deref() {
        Some("delivered") => format!("  delivered to {to}{counts}"),
        Some("stored") => format!("  stored for {to}{counts}"),
        Some("dropped") => format!("  {to} got nothing: nobody was there"),
        other => format!("  {} for {to}{counts}", other.unwrap_or("confirmed")),
    };
    clean(&text)
}

/// The payload as text: a JSON string by its contents, anything else as JSON.
fn text_of(frame: &Incoming) -> String {
    let Some(payload) = &frame.payload else { return String::new() };
    serde_json::from_str(payload.get()).unwrap_or_else(|_| payload.get().to_owned())
}

/// How old a message from the inbox is, where that is worth a word.
fn age(frame: &Incoming, now: u64) -> String {
    let (Some(_), Some(then)) = (frame.seq, frame.timestamp) else { return String::new() };
    let seconds = now.saturating_sub(then) / 1000;
    match seconds {
        0..10 => String::new(),
        10..120 => format!("  ({seconds} s ago)"),
        120..7_200 => format!("  ({} min ago)", seconds / 60),
        7_200..172_800 => format!("  ({} h ago)", seconds / 3_600),
        _ => format!("  ({} days ago)", seconds / 86_400),
    }
}

/// Text that a terminal only shows: without control characters (escape sequences move cursors, set titles, and worse)
/// and without those that turn the direction of writing. Further lines are indented, so that no message can pass for
/// one of another sender.
pub(super) fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\n    "),
            '\t' => shown.push(' '),
            '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(frame: &str) -> Option<String> {
        line(&serde_json::from_str(frame).unwrap(), 1_000_000)
    }

    #[test]
    fn every_kind_of_frame_has_its_words() {
        for (frame, expected) in [
            (r#"{"type":1,"src_id":"alice","payload":"hello"}"#, "alice: hello"),
            (r#"{"src_id":"alice","payload":0}"#, "alice: 0"),
            (r#"{"type":2,"src_id":"a","dest_session_id":"room","payload":{"x": 1}}"#, r#"#room a: {"x": 1}"#),
            (r#"{"type":1,"src_id":"a","payload":"old","seq":3,"timestamp":100000}"#, "a: old  (15 min ago)"),
            (r#"{"type":100,"src_id":"fox","dest_session_id":"room"}"#, "#room fox joined"),
            (r#"{"type":103,"src_id":"fox","dest_session_id":"room"}"#, "#room fox left"),
            (r#"{"type":104,"src_id":"fox","dest_session_id":"room","payload":"alice"}"#, "#room fox is alice"),
            (r#"{"type":105,"src_id":"fox","dest_session_id":"room"}"#, "#room fox is online"),
            (r#"{"type":106,"src_id":"fox","dest_session_id":"room"}"#, "#room fox is offline"),
            (r#"{"type":-4,"src_id":"bob","timestamp":1}"#, "* bob is offline"),
            (r#"{"type":-5,"dest_id":"me"}"#, "* you are not a member of that session: nobody got it"),
            (r#"{"type":-8,"code":"too_large","message":"at most 1"}"#, "* the server says too_large: at most 1"),
        ] {
            assert_eq!(shown(frame).as_deref(), Some(expected), "{frame}");
        }
        assert!(shown(r#"{"type":-3,"src_id":"bob"}"#).unwrap().contains("bob was never here"));
        assert_eq!(shown(r#"{"src_id":"server-1"}"#), None, "a keep-alive is not shown");
        assert_eq!(shown(r#"{"type":-102,"payload":{}}"#), None);
    }

    #[test]
    fn nothing_of_another_reaches_the_terminal_raw() {
        assert_eq!(clean("a\u{1b}[2Jb\u{7}\u{9b}c\u{202e}d\u{0}\r"), "a[2Jbcd");
        assert_eq!(shown(r#"{"src_id":"x\u001b]0;t\u0007","payload":"1\n2\u009d"}"#).unwrap(), "x]0;t: 1\n    2");
        assert_eq!(shown(r#"{"src_id":"x","payload":{"k":"\u001b[1m"}}"#).unwrap(), r#"x: {"k":"\u001b[1m"}"#);
    }

    #[test]
    fn a_confirmation_counts_where_there_is_more_than_one() {
        let told = |frame: &str, to: &To| confirmation(to, &serde_json::from_str(frame).unwrap());
        let bob = To::Device("bob".parse().unwrap());
        assert_eq!(told(r#"{"status":"delivered","delivered":1}"#, &bob), "  delivered to @bob");
        assert_eq!(told(r#"{"status":"stored","stored":1}"#, &bob), "  stored for @bob");
        let room = To::Session("room".parse().unwrap());
        assert_eq!(
            told(r#"{"status":"stored","delivered":3,"stored":2}"#, &room),
            "  stored for #room (3 delivered, 2 stored)"
        );
        assert!(told(r#"{"status":"dropped","dropped":1}"#, &bob).contains("got nothing"));
    }
}
