//! The native JSON dialect: text frames to envelopes, and back.
//!
//! Owns which keys have a meaning, who may set them, and how the server's own fields come round those of a client.
//! Invariants: payloads and unknown members pass byte for byte and are never built into a tree; of a key that only a
//! server sets, nothing a client wrote is left in [`Envelope::members`]; no input panics. What becomes of an envelope,
//! and whether its sender may do that, is decided elsewhere.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;
use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::field::{self, Field, WireError};
use super::frame::TextFrame;
use crate::model::codes::kind;
use crate::model::envelope::{Dest, Encoded, Envelope, Feature, Stamp};
use crate::model::ids::{ClientId, EnvelopeId, Epoch, MAX_COLLAPSE_KEY, MAX_REFERENCE, Millis, NodeId, Seq};

/// Longest time to live: ten years, in milliseconds.
pub const MAX_TTL_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// Who sends: decides whether a `src_id` means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Device,
    /// The back end of an application, which may speak for any device.
    App,
}

macro_rules! keys {
    ($($key:ident = $name:literal),* $(,)?) => {
        /// A top-level key with a meaning. All others are the application's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Key { $($key),* }

        impl Key {
            const COUNT: usize = [$(Key::$key),*].len();

            fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$key),)*
                    _ => None,
                }
            }

            const fn name(self) -> &'static str {
                match self {
                    $(Self::$key => $name),*
                }
            }
        }
    };
}

keys! {
    DestId = "dest_id",
    DestClientId = "dest_client_id",
    DestSessionId = "dest_session_id",
    Type = "type",
    Payload = "payload",
    Id = "id",
    Feature = "feature",
    Reference = "reference",
    TtlMs = "ttl_ms",
    Collapse = "collapse_key",
    SrcId = "src_id",
    SrcClientId = "src_client_id",
    Timestamp = "timestamp",
    Seq = "seq",
    Epoch = "epoch",
    SessionEpoch = "session_epoch",
    SessionSeq = "session_seq",
    AnonymizeSrcId = "anonymize_src_id",
}

impl Key {
    /// Whether a client's value of this is taken out: only a server says it.
    fn is_servers(self) -> bool {
        match self {
            Self::SrcId
            | Self::SrcClientId
            | Self::Timestamp
            | Self::Seq
            | Self::SessionEpoch
            | Self::SessionSeq
            | Self::AnonymizeSrcId => true,
            Self::DestId
            | Self::DestClientId
            | Self::DestSessionId
            | Self::Type
            | Self::Payload
            | Self::Id
            | Self::Feature
            | Self::Reference
            | Self::TtlMs
            | Self::Collapse
            | Self::Epoch => false,
        }
    }
}

/// The envelope in one text frame.
///
/// # Errors
/// [`WireError`] says which field is wrong, and how; the edge stays open.
pub fn decode(text: &ByteString, from: Origin) -> Result<Envelope, WireError> {
    let fields = Fields::read(text)?;
    if field::is_too_deep(text) {
        return Err(WireError::TooDeep);
    }
    let dest = fields.dest()?;
    let kind = fields.get(Key::Type).map_or(Ok(kind::EPHEMERAL), |field| field.integer(i64::MIN..=i64::MAX))?;
    check_kind(kind, dest.as_ref())?;
    let id = fields.get(Key::Id).map(Field::id).transpose()?;
    let (src_id, seq) = fields.claims(kind, from)?;
    let epoch = fields.number_of_ack(kind, Key::Epoch)?.map(Epoch);
    if kind == kind::ACK && seq.is_none() && (src_id.is_none() || id.is_none()) {
        return Err(WireError::Ack);
    }
    Ok(Envelope {
        dest,
        kind,
        id,
        feature: fields.get(Key::Feature).map_or(Ok(Feature::default_for(kind)), feature)?,
        reference: fields.get(Key::Reference).map(|field| field.text(MAX_REFERENCE)).transpose()?,
        ttl_ms: fields
            .get(Key::TtlMs)
            .map(|field| field.integer(1..=MAX_TTL_MS as i64))
            .transpose()?
            .map(|ms| ms as u64),
        collapse_key: fields.get(Key::Collapse).map(collapse_key).transpose()?,
        src_id,
        seq,
        epoch,
        payload: fields.values[Key::Payload as usize].map(|raw| text.as_bytes().slice_ref(raw.as_bytes())),
        members: fields.members(text),
    })
}

/// The `id` and the `reference` in a frame that [`decode`] refused, so that its sender learns which one that was.
pub fn names_of(text: &ByteString) -> (Option<EnvelopeId>, Option<String>) {
    let Ok(fields) = Fields::read(text) else { return (None, None) };
    let reference = fields.get(Key::Reference).and_then(|field| field.text(MAX_REFERENCE).ok());
    (fields.get(Key::Id).and_then(|field| field.id().ok()), reference)
}

/// The envelope as every recipient gets it: the server's fields, then the sender's members.
pub fn encode(envelope: &Envelope, stamp: &Stamp) -> Encoded {
    // Some more than the keys and numbers of `Stamped` take.
    const OURS: usize = 128;
    let stamped = Stamped {
        src_id: &stamp.src_id,
        src_client_id: stamp.src_client_id.as_ref(),
        timestamp: stamp.timestamp,
        id: stamp.id.as_ref().filter(|_| envelope.id.is_none()),
        session_epoch: stamp.session.map(|(epoch, _)| epoch),
        session_seq: stamp.session.map(|(_, seq)| seq),
    };
    let ids = stamp.src_id.as_str().len() + stamp.src_client_id.as_ref().map_or(0, |client| client.as_str().len());
    let id = stamped.id.map_or(0, |id| id.as_str().len());
    let mut frame = TextFrame::with_capacity(OURS + ids + id + envelope.members.len());
    frame.json(&stamped);
    if !envelope.members.is_empty() {
        frame.reopen_object().push(b",").push(&envelope.members).push(b"}");
    }
    frame.finish()
}

/// An envelope from an inbox: `text` as [`encode`] made it, with its place there.
pub fn with_seq(text: &Bytes, seq: Seq) -> Encoded {
    let mut frame = TextFrame::with_capacity(text.len() + 32);
    write_with_seq(text, seq, |part| {
        frame.push(part);
    });
    frame.finish()
}

/// The parts of `text` with its `seq` in front.
pub(super) fn write_with_seq(text: &[u8], seq: Seq, mut write: impl FnMut(&[u8])) {
    debug_assert_eq!(text.first(), Some(&b'{'));
    let members = text.get(1..).unwrap_or(b"}");
    let comma = if members == b"}" { "" } else { "," };
    write(format!("{{\"seq\":{}{comma}", seq.0).as_bytes());
    write(members);
}

/// What the server puts in front of a client's members.
#[derive(Serialize)]
struct Stamped<'a> {
    src_id: &'a NodeId,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_client_id: Option<&'a ClientId>,
    timestamp: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a EnvelopeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_seq: Option<u64>,
}

/// Which types may be sent, and where to.
fn check_kind(kind: i64, dest: Option<&Dest>) -> Result<(), WireError> {
    match kind {
        kind::ACK | kind::CONFIG_REQUEST => dest.map_or(Ok(()), |_| Err(WireError::ControlType(kind))),
        kind::JOINED | kind::LEFT | kind::REVEALED => match dest {
            Some(Dest::Session(_)) => Ok(()),
            _ => Err(WireError::SessionType(kind)),
        },
        kind if kind::is_application(kind) => Ok(()),
        kind => Err(WireError::ServerType(kind)),
    }
}

fn feature(field: Field<'_>) -> Result<Feature, WireError> {
    match field.string()?.as_ref() {
        "RELIABLE" => Ok(Feature::Reliable),
        "FAST" => Ok(Feature::Fast),
        _ => Err(field.wrong("\"RELIABLE\" or \"FAST\"")),
    }
}

fn collapse_key(field: Field<'_>) -> Result<String, WireError> {
    let key = field.text(MAX_COLLAPSE_KEY)?;
    if key.is_empty() { Err(field.wrong("a string of at least one character")) } else { Ok(key) }
}

/// A frame, cut into the raw values of the keys we know.
struct Fields<'a> {
    /// By [`Key`].
    values: [Option<&'a str>; Key::COUNT],
    /// Where in the text the entries are that do not pass on, in order.
    dropped: Vec<Range<usize>>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, WireError> {
        if !text.trim_start_matches(is_space).starts_with('{') {
            return Err(WireError::NotObject { what: "a frame" });
        }
        let mut read = Read { text, fields: Self { values: [None; Key::COUNT], dropped: Vec::new() }, twice: None };
        let mut json = serde_json::Deserializer::from_str(text);
        match read.deserialize(&mut json).and_then(|()| json.end()) {
            Ok(()) => Ok(read.fields),
            Err(error) => Err(read.twice.map_or_else(|| WireError::Syntax(error.to_string()), WireError::Twice)),
        }
    }

    /// The value of `key`; what is `null` is not there.
    fn get(&self, key: Key) -> Option<Field<'a>> {
        let raw = self.values[key as usize]?;
        Some(Field { name: key.name(), raw }).filter(|field| !field.is_null())
    }

    fn dest(&self) -> Result<Option<Dest>, WireError> {
        let device = self.get(Key::DestId).map(Field::id).transpose()?;
        let client = self.get(Key::DestClientId).map(Field::id).transpose()?;
        let session = self.get(Key::DestSessionId).map(Field::id).transpose()?;
        Ok(match (device, client, session) {
            (Some(member), _, Some(session)) => Some(Dest::Member { session, member }),
            (Some(device), _, None) => Some(Dest::Device(device)),
            (None, Some(client), _) => Some(Dest::Client(client)),
            (None, None, Some(session)) => Some(Dest::Session(session)),
            (None, None, None) => None,
        })
    }

    /// `src_id` and `seq` where a client's value means something: what an ACK names, and for whom an app speaks.
    /// Elsewhere they are not even looked at.
    fn claims(&self, kind: i64, from: Origin) -> Result<(Option<NodeId>, Option<Seq>), WireError> {
        if kind != kind::ACK && from == Origin::Device {
            return Ok((None, None));
        }
        let src_id = self.get(Key::SrcId).map(Field::id).transpose()?;
        Ok((src_id, self.number_of_ack(kind, Key::Seq)?.map(Seq)))
    }

    /// What means something in an ACK only; elsewhere it is not even looked at.
    fn number_of_ack(&self, kind: i64, key: Key) -> Result<Option<u64>, WireError> {
        let field = self.get(key).filter(|_| kind == kind::ACK);
        Ok(field.map(|field| field.integer(0..=i64::MAX)).transpose()?.map(|number| number as u64))
    }

    /// What passes on: a slice of `text` where the client left the server's keys alone, as it should.
    fn members(&self, text: &ByteString) -> Bytes {
        // `text` is an object, so that both braces are there.
        let (Some(open), Some(close)) = (text.find('{'), text.rfind('}')) else { return Bytes::new() };
        if self.dropped.is_empty() {
            return text.as_bytes().slice_ref(text[open + 1..close].trim_matches(is_space).as_bytes());
        }
        let mut members = String::with_capacity(close - open);
        let mut kept_from = open + 1;
        for gone in self.dropped.iter().cloned().chain(std::iter::once(close..close)) {
            // Between two entries that go is a run of entries that stay, with the commas that were round it.
            let kept = text[kept_from..gone.start].trim_matches(|c| is_space(c) || c == ',');
            if !members.is_empty() && !kept.is_empty() {
                members.push(',');
            }
            members.push_str(kept);
            kept_from = gone.end;
        }
        Bytes::from(members)
    }
}

/// White space of JSON, which is less than that of Unicode.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Fills [`Fields`] entry by entry, without a tree.
struct Read<'a> {
    text: &'a str,
    fields: Fields<'a>,
    /// The key that made the reading end: serde's error has no room for one of ours.
    twice: Option<&'static str>,
}

impl Read<'_> {
    fn offset(&self, part: &str) -> usize {
        part.as_ptr().addr() - self.text.as_ptr().addr()
    }
}

impl<'a> DeserializeSeed<'a> for &mut Read<'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for &mut Read<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        // A key as raw text too: it shows where its entry begins.
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            let (name, value) = (name.get(), value.get());
            // A key with half a surrogate pair is none of ours, however a reader takes it.
            let Some(key) = field::unescaped(name).and_then(|name| Key::named(&name)) else { continue };
            if self.fields.values[key as usize].replace(value).is_some() {
                self.twice = Some(key.name());
                return Err(A::Error::custom("a key twice"));
            }
            // Where a sender gives no id the server does, and then there must not be two.
            if key.is_servers() || (key == Key::Id && value == "null") {
                let entry = self.offset(name)..self.offset(value) + value.len();
                self.fields.dropped.push(entry);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
