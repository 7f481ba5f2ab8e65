//! An envelope as it lies in the inbox table: what the inbox must know, then the JSON as recipients get it.
//!
//! A small binary header, since an append is on the way of every envelope for somebody who is away. The first byte is the
//! version: another one is refused, not guessed at.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::model::ids::{EnvelopeId, Millis, NodeId, SessionId};
use crate::model::inbox::Entry;
use crate::model::outbox::{Keep, Prompt};
use crate::model::seen::Key;

const VERSION: u8 = 1;

/// See the module's header.
#[derive(Debug, Clone)]
pub struct Record {
    pub key: Option<Key>,
    pub stored: Millis,
    pub expires: Option<Millis>,
    pub keep: Arc<Keep>,
    /// The JSON.
    pub text: Bytes,
}

impl Record {
    /// What the inbox counts with.
    pub fn entry(&self, len: usize) -> Entry {
        Entry {
            key: self.key,
            shown: Key::shown(&self.keep.sender, &self.keep.id),
            collapse: self.keep.collapse,
            bytes: u32::try_from(len).unwrap_or(u32::MAX),
            stored: self.stored,
            expires: self.expires,
        }
    }

    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.text.len() + 256);
        out.put_u8(VERSION);
        out.put_u64(self.stored.0);
        out.put_u64(self.expires.map_or(0, |at| at.0));
        put_key(&mut out, self.key);
        put_key(&mut out, self.keep.collapse);
        out.put_i64(self.keep.kind);
        out.put_u64(self.keep.timestamp.0);
        put_text(&mut out, self.keep.sender.as_str());
        put_text(&mut out, self.keep.id.as_str());
        put_text(&mut out, self.keep.session.as_ref().map_or("", SessionId::as_str));
        out.put_slice(&self.text);
        out.freeze()
    }

    /// `None`: written by another version, or damaged.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let stored = Millis(bytes.try_get_u64().ok()?);
        let expires = Some(bytes.try_get_u64().ok()?).filter(|at| *at > 0).map(Millis);
        let key = get_key(&mut bytes).ok()?;
        let collapse = get_key(&mut bytes).ok()?;
        let kind = bytes.try_get_i64().ok()?;
        let timestamp = Millis(bytes.try_get_u64().ok()?);
        let sender: NodeId = get_text(&mut bytes)?.parse().ok()?;
        let id: EnvelopeId = get_text(&mut bytes)?.parse().ok()?;
        let session = match get_text(&mut bytes)?.as_str() {
            "" => None,
            id => Some(id.parse().ok()?),
        };
        let keep = Arc::new(Keep { sender, id, collapse, kind, timestamp, session, prompt: Prompt::Soon });
        Some(Self { key, stored, expires, keep, text: bytes })
    }
}

struct Unreadable;

fn put_key(out: &mut BytesMut, key: Option<Key>) {
    out.put_u8(u8::from(key.is_some()));
    if let Some(key) = key {
        out.put_u128(key.0);
    }
}

fn get_key(bytes: &mut Bytes) -> Result<Option<Key>, Unreadable> {
    match bytes.try_get_u8() {
        Ok(0) => Ok(None),
        Ok(1) => bytes.try_get_u128().map(|key| Some(Key(key))).map_err(|_| Unreadable),
        _ => Err(Unreadable),
    }
}

/// Ids have at most 256 bytes.
fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn get_text(bytes: &mut Bytes) -> Option<String> {
    let len = usize::from(bytes.try_get_u16().ok()?);
    if bytes.len() < len {
        return None;
    }
    String::from_utf8(bytes.split_to(len).to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(session: Option<&str>, key: Option<u128>, expires: Option<u64>, text: &[u8]) -> Record {
        Record {
            key: key.map(Key),
            stored: Millis(7),
            expires: expires.map(Millis),
            keep: Arc::new(Keep {
                sender: "alice".parse().unwrap(),
                id: "m-é".parse().unwrap(),
                collapse: key.map(|key| Key(key ^ 1)),
                kind: -200,
                timestamp: Millis(6),
                session: session.map(|id| id.parse().unwrap()),
                prompt: Prompt::Soon,
            }),
            text: Bytes::copy_from_slice(text),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            session in proptest::option::of("[a-z]{1,9}"),
            key in proptest::option::of(any::<u128>()),
            expires in proptest::option::of(1u64..),
            text in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let written = record(session.as_deref(), key, expires, &text);
            let read = Record::decode(written.encode()).unwrap();
            prop_assert_eq!(format!("{written:?}"), format!("{read:?}"));
        }

        #[test]
        fn anything_else_is_refused_without_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(bytes.into());
        }

        #[test]
        fn a_cut_header_is_refused(cut in 0usize..80) {
            let whole = record(Some("s"), Some(9), Some(1), b"").encode();
            prop_assume!(cut < whole.len());
            prop_assert!(Record::decode(whole.slice(..cut)).is_none());
        }
    }
}
