//! A waiting notification as it stands in the store: one key per device, the value versioned JSON.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Notification, PushToken};
use crate::model::ids::NodeId;
use crate::model::wake::Wait;
use crate::store::{Table, Write};

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    version: u8,
    /// Without its tokens: `targets` has those that still wait.
    pub(super) notification: Notification,
    pub(super) targets: Vec<(PushToken, Wait)>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeptError {
    #[error("it is of version {0}, and this server knows {VERSION}")]
    Version(u8),
    #[error("it is damaged")]
    Damaged,
}

pub(super) fn put(notification: &Notification, targets: Vec<(PushToken, Wait)>) -> Write {
    let mut notification = notification.clone();
    notification.tokens.clear();
    let key = key(&notification.device);
    let value = serde_json::to_vec(&Kept { version: VERSION, notification, targets })
        .expect("ids, numbers and strings have a JSON form");
    Write::Put { table: Table::Push, key, value: value.into() }
}

pub(super) fn delete(device: &NodeId) -> Write {
    delete_key(key(device))
}

pub(super) fn delete_key(key: Bytes) -> Write {
    Write::Delete { table: Table::Push, key }
}

fn key(device: &NodeId) -> Bytes {
    Bytes::copy_from_slice(device.as_str().as_bytes())
}

pub(super) fn read(key: &[u8], value: &[u8]) -> Result<Kept, KeptError> {
    #[derive(Deserialize)]
    struct Version {
        version: u8,
    }
    match serde_json::from_slice(value) {
        Ok(Version { version: VERSION }) => {}
        Ok(Version { version }) => return Err(KeptError::Version(version)),
        Err(_) => return Err(KeptError::Damaged),
    }
    let kept: Kept = serde_json::from_slice(value).map_err(|_| KeptError::Damaged)?;
    if kept.notification.device.as_str().as_bytes() == key { Ok(kept) } else { Err(KeptError::Damaged) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::ids::Millis;
    use crate::model::mangled::mangled;
    use crate::push::Provider;

    fn good() -> Vec<u8> {
        let token = PushToken { provider: Provider::Fcm, token: "t".to_owned() };
        let notification = Notification {
            device: "bob".parse().unwrap(),
            tokens: vec![token.clone()],
            pending: 2,
            sender: None,
            session: None,
            kind: 1,
            text: None,
        };
        let wait = Wait { since: Millis(1), due: Millis(2), tries: 3 };
        let Write::Put { value, .. } = put(&notification, vec![(token, wait)]) else { panic!() };
        value.to_vec()
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_notification_or_damaged(bytes in mangled(&[good()])) {
            if let Ok(kept) = read(b"bob", &bytes) {
                prop_assert_eq!(kept.notification.device.as_str(), "bob");
            }
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let token = PushToken { provider: Provider::Fcm, token: "t".to_owned() };
        let notification = Notification {
            device: "bob".parse().unwrap(),
            tokens: vec![token.clone()],
            pending: 2,
            sender: Some("alice".parse().unwrap()),
            session: Some("room".parse().unwrap()),
            kind: 1,
            text: None,
        };
        let wait = Wait { since: Millis(1), due: Millis(2), tries: 3 };
        let Write::Put { key, value, .. } = put(&notification, vec![(token.clone(), wait)]) else { panic!() };
        let kept = read(&key, &value).unwrap();
        assert_eq!(kept.targets, [(token, wait)]);
        assert_eq!(kept.notification, Notification { tokens: Vec::new(), ..notification });
        assert_eq!(read(b"eve", &value).err(), Some(KeptError::Damaged));
        assert_eq!(read(b"bob", b"{}").err(), Some(KeptError::Damaged));
        assert_eq!(read(b"bob", br#"{"version":9}"#).err(), Some(KeptError::Version(9)));
    }
}
