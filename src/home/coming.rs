//! Devices that are about to attach at another server, or have just done so: what is stored for them meanwhile is told there.
//!
//! A handshake asks the home before the device is attached, and what it asks comes in the order of that server's stream.
//! Whatever is stored from then on either finds the device attached there, or comes before it and is read from the
//! inbox; that the attachment itself is heard of later, by another way, does no harm.

use std::sync::{Mutex, PoisonError};

use crate::model::ids::{Millis, NodeId};
use crate::model::keyed::HashMap;

/// For how long at least a device is expected, in milliseconds; twice that at most. All have heard of it by then.
const EXPECTED_MS: u64 = 5_000;

#[derive(Default)]
struct Expected {
    since: Millis,
    recent: HashMap<NodeId, NodeId>,
    former: HashMap<NodeId, NodeId>,
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Coming(Mutex<Expected>);

impl Coming {
    fn with<R>(&self, now: Millis, act: impl FnOnce(&mut Expected) -> R) -> R {
        // Nothing panics while it is held.
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.since(expected.since);
        if age >= EXPECTED_MS {
            let recent = std::mem::take(&mut expected.recent);
            expected.former = if age < 2 * EXPECTED_MS { recent } else { HashMap::default() };
            expected.since = now;
        }
        act(&mut expected)
    }

    /// `server` has asked for `device`.
    pub(super) fn note(&self, device: &NodeId, server: &NodeId, now: Millis) {
        self.with(now, |expected| expected.recent.insert(device.clone(), server.clone()));
    }

    /// The server that has asked last.
    pub(super) fn expected(&self, device: &NodeId, now: Millis) -> Option<NodeId> {
        self.with(now, |expected| expected.recent.get(device).or_else(|| expected.former.get(device)).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_who_asked_expects_the_device_for_a_while() {
        let id = |text: &str| -> NodeId { text.parse().unwrap() };
        let coming = Coming::default();
        let at = |ms| Millis(1_000_000 + ms);
        coming.note(&id("d"), &id("s1"), at(0));
        coming.note(&id("d"), &id("s2"), at(1));
        coming.note(&id("e"), &id("s1"), at(EXPECTED_MS));
        assert_eq!(coming.expected(&id("d"), at(EXPECTED_MS + 1)), Some(id("s2")));
        assert_eq!(coming.expected(&id("d"), at(2 * EXPECTED_MS)), None);
        assert_eq!(coming.expected(&id("e"), at(2 * EXPECTED_MS)), Some(id("s1")));
        assert_eq!(coming.expected(&id("e"), at(9 * EXPECTED_MS)), None, "nobody has asked for long");
    }
}
