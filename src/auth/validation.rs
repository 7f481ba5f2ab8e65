//! The `validation_key`: proof that a device was offered this server, good for one connection within a minute.
//!
//! A key is `expiry (8 bytes, ms) | nonce (16) | HMAC-SHA256 (32)` in base64url. The HMAC is made with a secret of its own
//! (see [`Purpose`]) over device, server and its incarnation too: a key of another device or server, or of this server
//! before a restart, does not fit.
//!
//! Who was told to wait comes with a key whose minute begins then: so the server knows who comes when told.
//!
//! Redeemed keys are remembered until they expire, at most [`MAX_REMEMBERED`] of them. When that is not enough, those
//! nearest to their end are forgotten, and from then on every key that ends no later than the last one forgotten counts
//! as expired: under a flood keys live shorter, but none is ever good twice, and fresh ones still open the door.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::error::AuthError;
use super::key::{Derived, Keyring, Purpose};
use crate::model::ids::{Incarnation, Millis, NodeId};

/// How long a key is good, in milliseconds.
pub const LIFETIME_MS: u64 = 60_000;
/// Most redeemed keys remembered: 4 000 connections per second for a minute, in about 10 MB.
pub const MAX_REMEMBERED: usize = 1 << 18;

/// Random, and never the same twice.
pub type Nonce = [u8; 16];

const EXPIRY: usize = 8;
const NONCE: usize = 16;
const MAC: usize = 32;

/// A server in one of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bearer<'a> {
    pub server: &'a NodeId,
    pub incarnation: Incarnation,
}

/// What a good key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invitation {
    expiry: Millis,
    nonce: Nonce,
}

impl Invitation {
    /// When its bearer was to come.
    pub fn due(self) -> Millis {
        Millis(self.expiry.0.saturating_sub(LIFETIME_MS))
    }
}

/// Makes the validation keys of all servers of the mesh, and redeems those of one.
pub struct ValidationKeys {
    /// The first signs.
    secrets: Vec<Derived>,
    server: NodeId,
    redeemed: Mutex<Redeemed>,
}

impl fmt::Debug for ValidationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValidationKeys({})", self.server)
    }
}

impl ValidationKeys {
    /// Redeems keys for `server`.
    pub fn new(keyring: &Keyring, server: NodeId) -> Self {
        let secrets = keyring.derived(Purpose::ValidationKey);
        Self { secrets, server, redeemed: Mutex::new(Redeemed::new(MAX_REMEMBERED)) }
    }

    /// For one connection of `device` to that server, while it is in that life, at `from` or a little later.
    pub fn issue(&self, server: Bearer<'_>, device: &NodeId, from: Millis, nonce: Nonce) -> String {
        let mut key = Vec::with_capacity(EXPIRY + NONCE + MAC);
        key.extend_from_slice(&from.plus(LIFETIME_MS).0.to_be_bytes());
        key.extend_from_slice(&nonce);
        let mac = mac(&self.secrets[0], server, device, &key).finalize().into_bytes();
        key.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(key)
    }

    /// What `key` invites `device` to: one connection to this server in its present life, which is still to be had. It can be
    /// read often, and redeemed once.
    pub fn read(
        &self,
        incarnation: Incarnation,
        key: &str,
        device: &NodeId,
        now: Millis,
    ) -> Result<Invitation, AuthError> {
        let mut bytes = [0; EXPIRY + NONCE + MAC];
        match URL_SAFE_NO_PAD.decode_slice(key, &mut bytes) {
            Ok(len) if len == bytes.len() => {}
            _ => return Err(AuthError::ValidationMalformed),
        }
        let (signed, mac) = bytes.split_at(EXPIRY + NONCE);
        let own = Bearer { server: &self.server, incarnation };
        let is_good = |secret| self::mac(secret, own, device, signed).verify_slice(mac).is_ok();
        if !self.secrets.iter().any(is_good) {
            return Err(AuthError::ValidationForeign);
        }
        let (expiry, nonce) = signed.split_at(EXPIRY);
        let expiry = Millis(u64::from_be_bytes(expiry.try_into().expect("split at its length")));
        let nonce: Nonce = nonce.try_into().expect("split at its length");
        let invitation = Invitation { expiry, nonce };
        self.redeemed().check(invitation, now)?;
        Ok(invitation)
    }

    /// Uses up what was read.
    pub fn redeem(&self, invitation: Invitation, now: Millis) -> Result<(), AuthError> {
        self.redeemed().redeem(invitation, now)
    }

    fn redeemed(&self) -> MutexGuard<'_, Redeemed> {
        // The lock guards nothing that a panic could leave half done.
        self.redeemed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each field is bound with its length, so that no two lists of fields are the same bytes.
fn mac(secret: &Derived, server: Bearer<'_>, device: &NodeId, signed: &[u8]) -> Hmac<Sha256> {
    let mut mac = secret.mac();
    for field in [device.as_str().as_bytes(), server.server.as_str().as_bytes()] {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field);
    }
    mac.update(&server.incarnation.0.to_be_bytes());
    mac.update(signed);
    mac
}

/// The keys used up that have not expired.
struct Redeemed {
    used: BTreeSet<(Millis, Nonce)>,
    /// Keys that end now or earlier are not known any more, and so are not accepted.
    forgotten: Millis,
    capacity: usize,
}

impl Redeemed {
    fn new(capacity: usize) -> Self {
        Self { used: BTreeSet::new(), forgotten: Millis(0), capacity }
    }

    fn check(&self, Invitation { expiry, nonce }: Invitation, now: Millis) -> Result<(), AuthError> {
        if expiry < now || expiry <= self.forgotten {
            return Err(AuthError::ValidationExpired);
        }
        if self.used.contains(&(expiry, nonce)) { Err(AuthError::ValidationUsed) } else { Ok(()) }
    }

    fn redeem(&mut self, invitation: Invitation, now: Millis) -> Result<(), AuthError> {
        while self.used.first().is_some_and(|(first, _)| *first < now) {
            self.forget_first();
        }
        self.check(invitation, now)?;
        self.used.insert((invitation.expiry, invitation.nonce));
        if self.used.len() > self.capacity {
            self.forget_first();
        }
        Ok(())
    }

    fn forget_first(&mut self) {
        if let Some((expiry, _)) = self.used.pop_first() {
            self.forgotten = self.forgotten.max(expiry);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::key::{Claims, Role};
    use crate::auth::secrets::Secrets;
    use crate::model::mangled::mangled;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn keyring(secrets: &str) -> Keyring {
        Keyring::new(Secrets::parse(secrets, "test").unwrap())
    }

    /// One server in one life.
    #[derive(Debug)]
    struct Keys(ValidationKeys, u64);

    impl Keys {
        fn new(keyring: &Keyring, server: NodeId, incarnation: u64) -> Self {
            Self(ValidationKeys::new(keyring, server), incarnation)
        }

        fn issue(&self, device: &NodeId, now: Millis, nonce: Nonce) -> String {
            let own = Bearer { server: &self.0.server, incarnation: Incarnation(self.1) };
            self.0.issue(own, device, now, nonce)
        }

        fn redeem(&self, key: &str, device: &NodeId, now: Millis) -> Result<(), AuthError> {
            let read = self.0.read(Incarnation(self.1), key, device, now)?;
            assert_eq!(self.0.read(Incarnation(self.1), key, device, now), Ok(read), "reading uses nothing up");
            self.0.redeem(read, now)
        }
    }

    fn keys() -> Keys {
        Keys::new(&keyring("the-secret-of-tests"), id("server"), 7)
    }

    #[test]
    fn any_server_makes_keys_for_any_other() {
        let ring = keyring("the-secret-of-tests");
        let (here, there) = (Keys::new(&ring, id("here"), 3), Keys::new(&ring, id("there"), 9));
        let offered = Bearer { server: &id("there"), incarnation: Incarnation(9) };
        let key = here.0.issue(offered, &id("alice"), NOW, [1; 16]);
        assert_eq!(here.redeem(&key, &id("alice"), NOW), Err(AuthError::ValidationForeign));
        assert_eq!(there.redeem(&key, &id("alice"), NOW), Ok(()));
        assert_eq!(there.redeem(&key, &id("alice"), NOW), Err(AuthError::ValidationUsed));
    }

    #[test]
    fn a_key_is_good_once() {
        let keys = keys();
        let key = keys.issue(&id("alice"), NOW, [1; 16]);
        assert_eq!(keys.redeem(&key, &id("alice"), NOW.plus(10)), Ok(()));
        assert_eq!(keys.redeem(&key, &id("alice"), NOW.plus(10)), Err(AuthError::ValidationUsed));
        let other = keys.issue(&id("alice"), NOW, [2; 16]);
        assert_eq!(keys.redeem(&other, &id("alice"), NOW), Ok(()));
    }

    #[test]
    fn a_key_is_good_for_a_minute() {
        let keys = keys();
        let key = keys.issue(&id("alice"), NOW, [1; 16]);
        assert_eq!(keys.redeem(&key, &id("alice"), NOW.plus(60_001)), Err(AuthError::ValidationExpired));
        assert_eq!(keys.redeem(&key, &id("alice"), NOW.plus(60_000)), Ok(()));
        assert_eq!(keys.redeem(&key, &id("alice"), NOW.plus(60_001)), Err(AuthError::ValidationExpired));
        assert_eq!(keys.redeem(&key, &id("alice"), NOW.plus(60_000)), Err(AuthError::ValidationUsed), "clock back");
    }

    #[test]
    fn a_key_is_good_for_one_device_at_one_server_in_one_life() {
        let ring = keyring("the-secret-of-tests");
        let key = keys().issue(&id("alice"), NOW, [1; 16]);
        let others = [
            (Keys::new(&ring, id("server"), 7), "bob"),
            (Keys::new(&ring, id("server2"), 7), "alice"),
            (Keys::new(&ring, id("server"), 8), "alice"),
            (Keys::new(&keyring("another-secret-here"), id("server"), 7), "alice"),
            // The same bytes shifted from one field to the next.
            (Keys::new(&ring, id("eserver"), 7), "alic"),
        ];
        for (keys, device) in others {
            assert_eq!(keys.redeem(&key, &id(device), NOW), Err(AuthError::ValidationForeign), "{keys:?} {device}");
        }
    }

    #[test]
    fn a_key_of_a_secret_on_its_way_out_is_still_good() {
        let old = Keys::new(&keyring("old:the-older-secret-x"), id("server"), 7);
        let both = keyring("new:the-newer-secret-x\nold:the-older-secret-x");
        let new = Keys::new(&both, id("server"), 7);
        assert_eq!(new.redeem(&old.issue(&id("a"), NOW, [1; 16]), &id("a"), NOW), Ok(()));
    }

    #[test]
    fn neither_kind_of_key_is_the_other() {
        let ring = keyring("the-secret-of-tests");
        let keys = Keys::new(&ring, id("server"), 7);
        let validation = keys.issue(&id("alice"), NOW, [1; 16]);
        assert!(matches!(ring.verify(&validation, NOW), Err(AuthError::Malformed(_))));
        let auth = ring.mint(&Claims::new(id("alice"), NOW.plus(1000)));
        assert_eq!(keys.redeem(&auth, &id("alice"), NOW), Err(AuthError::ValidationMalformed));
    }

    #[test]
    fn a_key_says_when_its_bearer_was_to_come() {
        let keys = keys();
        let later = NOW.plus(100_000);
        let key = keys.issue(&id("alice"), later, [1; 16]);
        let read = |now| keys.0.read(Incarnation(7), &key, &id("alice"), now);
        assert_eq!(read(NOW).map(Invitation::due), Ok(later), "who comes early is known to");
        assert_eq!(read(later.plus(60_001)), Err(AuthError::ValidationExpired));
    }

    /// One of each kind, and one that says more.
    fn good_keys() -> Vec<String> {
        let ring = keyring("the-secret-of-tests");
        let claims = || Claims::new(id("alice"), NOW.plus(1000));
        let more = claims().of_client(Some("al".parse().unwrap())).with_role(Role::App);
        vec![keys().issue(&id("alice"), NOW, [1; 16]), ring.mint(&claims()), ring.mint(&more)]
    }

    /// One key of so many, by its end and its nonce.
    fn invitation(expiry: Millis, nonce: u8) -> Invitation {
        Invitation { expiry, nonce: [nonce; 16] }
    }

    #[test]
    fn a_full_memory_shortens_lives_and_forgets_no_use() {
        let mut redeemed = Redeemed::new(3);
        for n in 0..3 {
            assert_eq!(redeemed.redeem(invitation(NOW.plus(n), n as u8), NOW), Ok(()));
        }
        assert_eq!(redeemed.redeem(invitation(NOW.plus(10), 10), NOW), Ok(()), "a fresh one still opens");
        assert_eq!(redeemed.redeem(invitation(NOW, 0), NOW), Err(AuthError::ValidationExpired), "the one forgotten");
        assert_eq!(redeemed.redeem(invitation(NOW.plus(1), 1), NOW), Err(AuthError::ValidationUsed));
        assert_eq!(redeemed.used.len(), 3);
        assert_eq!(redeemed.redeem(invitation(NOW.plus(20), 11), NOW.plus(15)), Ok(()));
        assert_eq!(redeemed.used.len(), 1, "expired ones need no memory");
    }

    proptest! {
        #[test]
        fn a_changed_key_is_refused(at in 0..75_usize, bit in 0..7_u32) {
            let keys = keys();
            let mut key = keys.issue(&id("alice"), NOW, [9; 16]).into_bytes();
            prop_assert_eq!(key.len(), 75);
            key[at] ^= 1 << bit;
            let key = String::from_utf8(key).unwrap();
            let result = keys.redeem(&key, &id("alice"), NOW);
            prop_assert!(matches!(result, Err(AuthError::ValidationForeign | AuthError::ValidationMalformed)));
        }

        #[test]
        fn any_text_is_only_refused(text in ".{0,200}") {
            prop_assert!(keys().redeem(&text, &id("alice"), NOW).is_err());
        }

        #[test]
        fn any_bytes_are_no_key(bytes in mangled(&good_keys())) {
            let text = String::from_utf8_lossy(&bytes);
            let good = good_keys();
            let redeemed = keys().redeem(&text, &id("alice"), NOW);
            prop_assert!(redeemed.is_err() || *text == good[0], "{text}");
            let verified = keyring("the-secret-of-tests").verify(&text, NOW);
            prop_assert!(verified.is_err() || good[1..].contains(&text.to_string()), "{text}");
        }

        #[test]
        fn none_is_good_twice(order in proptest::collection::vec((0_u64..40, 0_u8..4), 1..200)) {
            let mut redeemed = Redeemed::new(5);
            let mut seen = BTreeSet::new();
            for (expiry, nonce) in order {
                if redeemed.redeem(invitation(NOW.plus(expiry), nonce), NOW).is_ok() {
                    prop_assert!(seen.insert((expiry, nonce)));
                }
            }
        }
    }
}
