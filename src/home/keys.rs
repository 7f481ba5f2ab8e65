//! Where things lie in the store: the layout of its keys.
//!
//! Invariants: 0 separates and is outside the alphabet of ids, so no key of one id is met when another one is scanned;
//! numbers are big-endian, so that keys sort as the numbers do.

use bytes::Bytes;

use crate::model::ids::{ClientId, Millis, NodeId, Seq, SessionId};

fn key(sort: u8, parts: &[&str]) -> Bytes {
    let mut key = vec![sort];
    for part in parts {
        key.push(0);
        key.extend_from_slice(part.as_bytes());
    }
    key.into()
}

/// An envelope in the inbox of a device.
pub(super) fn envelope(device: &NodeId, seq: Seq) -> Bytes {
    let mut key = device.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&seq.0.to_be_bytes());
    key.into()
}

/// From `from` to the end of the inbox.
pub(super) fn envelopes_from(device: &NodeId, from: Seq) -> (Bytes, Bytes) {
    let mut end = device.as_str().as_bytes().to_vec();
    end.push(1);
    (envelope(device, from), end.into())
}

/// The place that a key of the inbox table names.
pub(super) fn place_of(key: &[u8]) -> Option<(NodeId, Seq)> {
    let (name, seq) = key.split_at_checked(key.len().checked_sub(9)?)?;
    let (0, seq) = seq.split_first().map(|(separator, seq)| (*separator, seq))? else { return None };
    let seq = <[u8; 8]>::try_from(seq).ok()?;
    let device = std::str::from_utf8(name).ok()?.parse().ok()?;
    Some((device, Seq(u64::from_be_bytes(seq))))
}

/// An envelope that is held for a device, by its number: as an inbox is laid out.
pub(super) fn held(device: &NodeId, number: u64) -> Bytes {
    envelope(device, Seq(number))
}

pub(super) fn head(device: &NodeId) -> Bytes {
    key(b'h', &[device.as_str()])
}

pub(super) fn device(device: &NodeId) -> Bytes {
    key(b'd', &[device.as_str()])
}

/// That a device is one of a client's.
pub(super) fn device_of(client: &ClientId, device: &NodeId) -> Bytes {
    key(b'c', &[client.as_str(), device.as_str()])
}

pub(super) fn devices_of(client: &ClientId) -> (Bytes, Bytes) {
    (key(b'c', &[client.as_str(), ""]), key(b'c', &[client.as_str(), "\u{7f}"]))
}

/// That `server` is owed a copy of something of `ids` as of `stamp`; `sort` as in the key of the thing itself.
pub(super) fn owed(server: &NodeId, sort: u8, ids: &[&str], stamp: Millis) -> Bytes {
    let mut key = vec![b'o', 0];
    key.extend_from_slice(server.as_str().as_bytes());
    key.extend_from_slice(&[0, sort]);
    for id in ids {
        key.push(0);
        key.extend_from_slice(id.as_bytes());
    }
    key.push(0);
    key.extend_from_slice(&stamp.0.to_be_bytes());
    key.into()
}

/// All that `server` is owed.
pub(super) fn all_owed(server: &NodeId) -> (Bytes, Bytes) {
    (key(b'o', &[server.as_str(), ""]), key(b'o', &[server.as_str(), "\u{7f}"]))
}

pub(super) fn session(session: &SessionId) -> Bytes {
    key(b's', &[session.as_str()])
}

pub(super) fn member(session: &SessionId, node: &NodeId) -> Bytes {
    key(b'm', &[session.as_str(), node.as_str()])
}

/// All keys of one sort: `s` sessions, `m` members, `d` devices, `h` heads, `c` devices of clients.
pub(super) fn all(sort: u8) -> (Bytes, Bytes) {
    (Bytes::from(vec![sort]), Bytes::from(vec![sort + 1]))
}

/// What the server keeps for itself: about no device, client or session.
pub(super) fn is_of_the_server(key: &[u8]) -> bool {
    key.len() == 1 || matches!(key.first(), Some(b'o' | b'v'))
}

/// That all that `server` had of ours has come here.
pub(super) fn has_all(server: &NodeId) -> Bytes {
    key(b'v', &[server.as_str()])
}

/// For which members and pins everything is where it belongs.
pub(super) fn placed() -> Bytes {
    key(b'v', &[])
}

/// The last id in a key of several.
pub(super) fn last_id(key: &[u8]) -> Option<&str> {
    let at = key.iter().rposition(|byte| *byte == 0)?;
    std::str::from_utf8(&key[at + 1..]).ok()
}

/// The first id in a key of several.
pub(super) fn first_id(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(2..)?.split(|byte| *byte == 0).next()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::mangled::mangled;

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_none(bytes in mangled(&[&b"bob\0\0\0\0\0\0\0\0\x07"[..], b"mroom\0bob", b"c\0c\0bob"])) {
            if let Some((device, seq)) = place_of(&bytes) {
                prop_assert_eq!(&envelope(&device, seq)[..], &bytes[..]);
            }
            let _ = (first_id(&bytes), last_id(&bytes), is_of_the_server(&bytes));
        }
    }

    #[test]
    fn an_inbox_is_one_range_and_holds_no_other() {
        let (a, ab): (NodeId, NodeId) = ("a".parse().unwrap(), "ab".parse().unwrap());
        let (from, to) = envelopes_from(&a, Seq(2));
        let within = |key: Bytes| from <= key && key < to;
        assert!(within(envelope(&a, Seq(2))) && within(envelope(&a, Seq(u64::MAX))));
        assert!(!within(envelope(&a, Seq(1))) && !within(envelope(&ab, Seq(2))));
        assert_eq!(place_of(&envelope(&ab, Seq(513))), Some((ab, Seq(513))));
        assert_eq!(place_of(b"short"), None);
    }

    #[test]
    fn a_client_is_one_range_and_holds_no_other() {
        let (c, cd): (ClientId, ClientId) = ("c".parse().unwrap(), "cd".parse().unwrap());
        let device: NodeId = "zz@9".parse().unwrap();
        let (from, to) = devices_of(&c);
        assert!(from < device_of(&c, &device) && device_of(&c, &device) < to);
        assert!(!(from..to).contains(&device_of(&cd, &device)));
        assert_eq!(last_id(&device_of(&c, &device)), Some("zz@9"));
        assert_eq!(first_id(&device_of(&cd, &device)), Some("cd"));
    }
}
