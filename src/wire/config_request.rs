//! `CLIENT_CONFIG_REQUEST` (type -101) and its `RESPONSE` (-102): push tokens, and fetching from the inbox.
//!
//! Owns the fields of both payloads and their two forms: an object, and (as the original's clients send it) a JSON string
//! that holds one; who asks in a form is answered in it. Fields unknown here are ignored, known ones of a wrong type are
//! refused. What is fetched, and what becomes of a token, is the home's affair.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::field::{Field, WireError, unescaped};
use super::frame::{TextFrame, json_into};
use super::native::write_with_seq;
use crate::model::codes::kind;
use crate::model::envelope::Encoded;
use crate::model::ids::{Epoch, Millis, NodeId, Seq};

/// Envelopes in an answer where the request names no `limit`.
pub const DEFAULT_LIMIT: u32 = 100;
/// Most envelopes in an answer, whatever is asked for.
pub const MAX_LIMIT: u32 = 1000;
/// Longest push token in bytes; the subscription of a browser is the longest in use, at about 500.
pub const MAX_PUSH_TOKEN: usize = 4096;

/// How the payload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Object,
    /// A JSON string that holds the object; in the answer every message is one as well.
    String,
}

/// What a device asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRequest {
    pub form: Form,
    /// `push_token`, and `update_gcm_key` as one of provider `fcm`.
    pub push_tokens: Vec<PushToken>,
    pub fetch: Option<Fetch>,
    /// The device's clock.
    pub timestamp: Option<Millis>,
}

/// A push token as a device names it. Its `Debug` does not show the token.
#[derive(Clone, PartialEq, Eq)]
pub struct PushToken {
    /// The word for the provider, not yet looked up.
    pub provider: String,
    /// A string as it is, an object (a browser's subscription) as its JSON.
    pub token: String,
}

impl fmt::Debug for PushToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushToken").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Which part of the inbox. An open end is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// First place, inclusive.
    pub from_seq: Option<Seq>,
    /// Last place, inclusive.
    pub to_seq: Option<Seq>,
    /// Later than this.
    pub after: Option<Millis>,
    /// Earlier than this.
    pub before: Option<Millis>,
    pub first: First,
    /// 1 to [`MAX_LIMIT`].
    pub limit: u32,
}

/// At which end a fetch begins, and how its answer is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    Oldest,
    Newest,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    update_gcm_key: Option<&'a RawValue>,
    #[serde(borrow)]
    push_token: Option<&'a RawValue>,
    #[serde(borrow)]
    fetch_inbox_messages: Option<&'a RawValue>,
    #[serde(borrow)]
    fetch_inbox_messages_from_seq: Option<&'a RawValue>,
    #[serde(borrow)]
    fetch_inbox_messages_to_seq: Option<&'a RawValue>,
    #[serde(borrow)]
    fetch_inbox_messages_from_time_stamp: Option<&'a RawValue>,
    #[serde(borrow)]
    fetch_inbox_messages_to_time_stamp: Option<&'a RawValue>,
    #[serde(borrow)]
    newest_first: Option<&'a RawValue>,
    #[serde(borrow)]
    limit: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TokenFields<'a> {
    #[serde(borrow)]
    provider: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
}

/// The request in the payload of an envelope of type -101. An envelope without payload asks for nothing, but the
/// server's clock.
///
/// # Errors
/// [`WireError`] names the field; it never shows a token.
pub fn parse(payload: Option<&Bytes>) -> Result<ConfigRequest, WireError> {
    let raw = String::from_utf8_lossy(payload.map_or(b"{}", |payload| payload.as_ref()));
    let raw = raw.trim_ascii();
    if raw.starts_with('"') {
        let wanted = "an object, or a string that holds the JSON of one";
        let not_text = || Field { name: "payload", raw }.wrong_unseen(wanted);
        let held = serde_json::from_str::<String>(raw).map_err(|_| not_text())?;
        return parse_object(held.trim_ascii(), Form::String);
    }
    parse_object(raw, Form::Object)
}

fn parse_object(json: &str, form: Form) -> Result<ConfigRequest, WireError> {
    let fields: Fields<'_> = object("the payload of type -101", json)?;
    let mut push_tokens = Vec::new();
    if let Some(key) = field("update_gcm_key", fields.update_gcm_key) {
        push_tokens.push(PushToken { provider: "fcm".to_owned(), token: token(key)? });
    }
    if let Some(named) = field("push_token", fields.push_token) {
        push_tokens.push(push_token(named)?);
    }
    let fetch = match field("fetch_inbox_messages", fields.fetch_inbox_messages) {
        Some(field) if is_truthy(field.raw) => Some(Fetch {
            from_seq: open_or("fetch_inbox_messages_from_seq", fields.fetch_inbox_messages_from_seq)?.map(Seq),
            to_seq: open_or("fetch_inbox_messages_to_seq", fields.fetch_inbox_messages_to_seq)?.map(Seq),
            after: open_or("fetch_inbox_messages_from_time_stamp", fields.fetch_inbox_messages_from_time_stamp)?
                .map(Millis),
            before: open_or("fetch_inbox_messages_to_time_stamp", fields.fetch_inbox_messages_to_time_stamp)?
                .map(Millis),
            first: if field_or("newest_first", fields.newest_first, false, Field::boolean)? {
                First::Newest
            } else {
                First::Oldest
            },
            limit: field_or("limit", fields.limit, i64::from(DEFAULT_LIMIT), |field| field.integer(1..=i64::MAX))?
                .min(i64::from(MAX_LIMIT)) as u32,
        }),
        _ => None,
    };
    let timestamp = field("timestamp", fields.timestamp).map(|field| field.integer(0..=i64::MAX)).transpose()?;
    Ok(ConfigRequest { form, push_tokens, fetch, timestamp: timestamp.map(|ms| Millis(ms as u64)) })
}

/// The object in `json`. serde's own error could show a value, so only where it is wrong is told.
fn object<'a, T: Deserialize<'a>>(what: &'static str, json: &'a str) -> Result<T, WireError> {
    if !json.starts_with('{') {
        return Err(WireError::NotObject { what });
    }
    serde_json::from_str(json).map_err(|error| WireError::Syntax(error.to_string()))
}

/// Serde has made `null` into `None` already.
fn field<'a>(name: &'static str, raw: Option<&'a RawValue>) -> Option<Field<'a>> {
    raw.map(|raw| Field { name, raw: raw.get() })
}

fn field_or<'a, T>(
    name: &'static str,
    raw: Option<&'a RawValue>,
    default: T,
    read: impl FnOnce(Field<'a>) -> Result<T, WireError>,
) -> Result<T, WireError> {
    field(name, raw).map_or(Ok(default), read)
}

/// A bound of a range; -1, like nothing at all, leaves it open.
fn open_or(name: &'static str, raw: Option<&RawValue>) -> Result<Option<u64>, WireError> {
    let bound = field_or(name, raw, -1, |field| field.integer(-1..=i64::MAX))?;
    Ok(u64::try_from(bound).ok())
}

/// What JavaScript and Python take for true.
fn is_truthy(raw: &str) -> bool {
    match raw.as_bytes() {
        b"false" | b"null" | b"\"\"" => false,
        [b'[', .., b']'] | [b'{', .., b'}'] => !raw[1..raw.len() - 1].trim_ascii().is_empty(),
        [b'-' | b'0'..=b'9', ..] => raw.parse() != Ok(0.0),
        _ => true,
    }
}

fn push_token(named: Field<'_>) -> Result<PushToken, WireError> {
    const WANTED: &str = "an object of provider and token";
    let fields: TokenFields<'_> = serde_json::from_str(named.raw)
        .ok()
        .filter(|_| named.raw.starts_with('{'))
        .ok_or_else(|| named.wrong_unseen(WANTED))?;
    let (Some(provider), Some(key)) =
        (field("push_token.provider", fields.provider), field("push_token.token", fields.token))
    else {
        return Err(named.wrong_unseen(WANTED));
    };
    Ok(PushToken { provider: provider.text(32)?, token: token(key)? })
}

fn token(field: Field<'_>) -> Result<String, WireError> {
    const WANTED: &str = "the token that the provider gave: a string, or for Web Push the subscription";
    let token = match field.raw.as_bytes().first() {
        Some(b'"') => unescaped(field.raw).ok_or_else(|| field.wrong_unseen(WANTED))?.into_owned(),
        Some(b'{') => field.raw.to_owned(),
        _ => return Err(field.wrong_unseen(WANTED)),
    };
    match token.len() {
        0 => Err(field.wrong_unseen(WANTED)),
        len if len > MAX_PUSH_TOKEN => Err(WireError::TooLong { field: field.name, len, max: MAX_PUSH_TOKEN }),
        _ => Ok(token),
    }
}

/// `CLIENT_CONFIG_RESPONSE`, the answer to every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Where something was fetched.
    pub page: Option<Page>,
    /// The server's clock less the device's, in milliseconds; where the device named its own.
    pub server_timestamp_add_diff: Option<i64>,
}

/// A part of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The JSON of each envelope as it is stored, in the order asked for.
    pub messages: Vec<(Seq, Bytes)>,
    /// Whether the range asked for holds others.
    pub more: More,
    pub epoch: Epoch,
    /// How many a limit has pushed out of this inbox.
    pub dropped: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    Yes,
    No,
}

#[derive(Serialize)]
struct AnswerFields {
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    page: Option<PageFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_timestamp_add_diff: Option<i64>,
}

#[derive(Serialize)]
struct PageFields {
    from_seq: Option<Seq>,
    to_seq: Option<Seq>,
    more: bool,
    epoch: Epoch,
    dropped: u64,
}

impl Answer {
    /// What `request` is told when the server's clock says `now`.
    pub fn to(request: &ConfigRequest, now: Millis, page: Option<Page>) -> Self {
        let difference = |theirs: Millis| (now.0 as i64).saturating_sub(theirs.0 as i64);
        Self { page, server_timestamp_add_diff: request.timestamp.map(difference) }
    }

    pub fn encode(&self, device: &NodeId, form: Form) -> Encoded {
        let payload = self.payload(form);
        let mut frame = TextFrame::with_capacity(payload.len() + 256);
        frame.json(&Head { kind: kind::CONFIG_RESPONSE, dest_id: device }).reopen_object().push(b",\"payload\":");
        match form {
            Form::Object => frame.push(&payload),
            Form::String => frame.json(&String::from_utf8_lossy(&payload)),
        };
        frame.push(b"}");
        frame.finish()
    }

    fn payload(&self, form: Form) -> Vec<u8> {
        let messages = self.page.as_ref().map_or(&[][..], |page| &page.messages);
        let mut json = Vec::with_capacity(256 + messages.iter().map(|(_, text)| text.len() + 32).sum::<usize>());
        let fields = AnswerFields {
            page: self.page.as_ref().map(PageFields::of),
            server_timestamp_add_diff: self.server_timestamp_add_diff,
        };
        json_into(&mut json, &fields);
        if self.page.is_none() {
            return json;
        }
        // A page has fields, so that a comma is right.
        json.pop();
        json.extend_from_slice(b",\"messages\":[");
        let mut message = Vec::new();
        for (place, (seq, text)) in messages.iter().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            match form {
                Form::Object => write_with_seq(text, *seq, |part| json.extend_from_slice(part)),
                Form::String => {
                    message.clear();
                    write_with_seq(text, *seq, |part| message.extend_from_slice(part));
                    json_into(&mut json, &String::from_utf8_lossy(&message));
                }
            }
        }
        json.extend_from_slice(b"]}");
        json
    }
}

impl PageFields {
    fn of(page: &Page) -> Self {
        let seqs = || page.messages.iter().map(|(seq, _)| *seq);
        Self {
            from_seq: seqs().min(),
            to_seq: seqs().max(),
            more: page.more == More::Yes,
            epoch: page.epoch,
            dropped: page.dropped,
        }
    }
}

#[derive(Serialize)]
struct Head<'a> {
    #[serde(rename = "type")]
    kind: i64,
    dest_id: &'a NodeId,
}

#[cfg(test)]
mod tests;
