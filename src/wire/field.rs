//! Single fields of what a client sends, read from raw JSON with an error that a person can act on.
//!
//! Shared by the decoders: each gets the raw text of a value that `serde_json` has found to be well-formed, and says
//! which field is wrong, what it should be, and (cut and escaped) what it is.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::model::codes::{Code, Refusal};
use crate::model::ids::IdError;

/// Deepest nesting of brackets in a frame.
pub const MAX_DEPTH: usize = 128;
/// Most characters of a client's value that an error shows.
const MAX_SHOWN: usize = 64;

/// Why a frame of a client is none of ours. Each is one sentence for whoever writes the client; none shows a payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the JSON cannot be read: {0}")]
    Syntax(String),
    #[error("{what} is one JSON object, from {{ to }}")]
    NotObject { what: &'static str },
    #[error("{0} stands there twice: send it once")]
    Twice(&'static str),
    #[error("brackets are nested deeper than {MAX_DEPTH}: flatten the payload, or send it as a string")]
    TooDeep,
    #[error("{field} must be {wanted}, not {found}")]
    Wrong { field: &'static str, wanted: String, found: String },
    #[error("{field} is {found}, but {source}")]
    Id { field: &'static str, found: String, source: IdError },
    #[error("{field} has {len} bytes, at most {max} are allowed")]
    TooLong { field: &'static str, len: usize, max: usize },
    #[error("type {0} is for the server to send: an application has 0 to 99, and 200 and up")]
    ServerType(i64),
    #[error("type {0} is for a session: give dest_session_id, and neither dest_id nor dest_client_id")]
    SessionType(i64),
    #[error("type {0} speaks to the server itself: leave dest_id, dest_client_id and dest_session_id away")]
    ControlType(i64),
    #[error("an ACK (type -6) names seq, or src_id and id")]
    Ack,
}

impl WireError {
    /// The word for programs. None of these breaks the connection.
    pub fn code(&self) -> Code {
        Code::BadEnvelope
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// The raw JSON of one field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    pub(super) raw: &'a str,
}

impl<'a> Field<'a> {
    pub(super) fn is_null(self) -> bool {
        self.raw == "null"
    }

    pub(super) fn wrong(self, wanted: impl Into<String>) -> WireError {
        WireError::Wrong { field: self.name, wanted: wanted.into(), found: shown(self.raw) }
    }

    /// The same, for what must not be shown: keys and payloads.
    pub(super) fn wrong_unseen(self, wanted: impl Into<String>) -> WireError {
        let found = match self.raw.as_bytes().first() {
            Some(b'"') => "this string",
            Some(b'{') => "an object",
            Some(b'[') => "a list",
            Some(b't' | b'f') => "true or false",
            Some(b'n') => "null",
            _ => "a number",
        };
        WireError::Wrong { field: self.name, wanted: wanted.into(), found: found.to_owned() }
    }

    pub(super) fn string(self) -> Result<Cow<'a, str>, WireError> {
        if !self.raw.starts_with('"') {
            return Err(self.wrong("a string"));
        }
        unescaped(self.raw).ok_or_else(|| self.wrong("a string of whole characters (it has half a surrogate pair)"))
    }

    pub(super) fn id<T: FromStr<Err = IdError>>(self) -> Result<T, WireError> {
        let text = self.string()?;
        text.parse().map_err(|source| WireError::Id { field: self.name, found: shown(self.raw), source })
    }

    /// A string of at most `max` bytes.
    pub(super) fn text(self, max: usize) -> Result<String, WireError> {
        let text = self.string()?;
        if text.len() > max {
            return Err(WireError::TooLong { field: self.name, len: text.len(), max });
        }
        Ok(text.into_owned())
    }

    /// A whole number, written without point or exponent.
    pub(super) fn integer(self, range: RangeInclusive<i64>) -> Result<i64, WireError> {
        match self.raw.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(self.wrong(match (*range.start(), *range.end()) {
                (i64::MIN, i64::MAX) => "a whole number".to_owned(),
                (start, i64::MAX) => format!("a whole number from {start}"),
                (start, end) => format!("a whole number from {start} to {end}"),
            })),
        }
    }

    pub(super) fn boolean(self) -> Result<bool, WireError> {
        match self.raw {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }
}

/// The text that a JSON string stands for, borrowed where it holds no escapes. `None`: half a surrogate pair.
pub(super) fn unescaped(raw: &str) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
        return Some(Cow::Borrowed(&raw[1..raw.len() - 1]));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

/// A value as an error may show it: cut, and without characters that are not to be seen.
fn shown(raw: &str) -> String {
    let mut shown = String::new();
    let mut chars = raw.chars();
    for c in chars.by_ref().take(MAX_SHOWN) {
        match c {
            // Part of JSON itself: escaping these would show another value than was sent.
            '"' | '\\' | '\'' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

/// Whether brackets nest deeper than [`MAX_DEPTH`] in `json`, which is well-formed.
pub(super) fn is_too_deep(json: &str) -> bool {
    if opening_brackets(json) <= MAX_DEPTH {
        return false;
    }
    let bytes = json.as_bytes();
    let (mut at, mut depth) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' => depth -= 1,
            b'"' => at = end_of_string(bytes, at),
            _ => {}
        }
        at += 1;
    }
    false
}

/// How many there are, in strings too. Few frames have so many that it is worth looking where they stand.
fn opening_brackets(json: &str) -> usize {
    // `[` and `{` differ in one bit; counting in single bytes is what the compiler can do for many at once.
    let count = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    json.as_bytes().chunks(usize::from(u8::MAX)).map(|chunk| usize::from(count(chunk))).sum()
}

/// The place of the quote that ends the string beginning at `start`.
fn end_of_string(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(step) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += step;
        if json[at] == b'"' {
            return at;
        }
        at += 2;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_too_deep(&nested(MAX_DEPTH)));
        assert!(is_too_deep(&nested(MAX_DEPTH + 1)));
        let wide = format!("[{}]", vec!["{}"; 500].join(","));
        assert!(!is_too_deep(&wide));
        let quoted = format!(r#"["{}\"{}\\",[]]"#, "[".repeat(300), "{".repeat(300));
        assert!(!is_too_deep(&quoted));
        let after = format!(r#"{{"a\\":"\"","b":{}}}"#, nested(MAX_DEPTH));
        assert!(is_too_deep(&after));
    }

    #[test]
    fn what_is_shown_is_short_and_visible() {
        assert_eq!(shown("\"a\u{202e}b\u{7f}\""), "\"a\\u{202e}b\\u{7f}\"");
        assert_eq!(shown(&"é".repeat(65)), format!("{}...", "é".repeat(64)));
    }
}
