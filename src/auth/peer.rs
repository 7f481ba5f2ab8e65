//! How two servers prove to each other that they know the cluster secret, and keep between them what they say of
//! themselves.
//!
//! A proof is an HMAC with a secret of its own ([`Purpose::Greeting`]) over the role of who proves, the version, both
//! ids and both nonces: it fits one meeting of two servers, in one direction. Replayed it meets another nonce, and sent
//! back to its maker another role. What follows is sealed (AES-256-GCM) with a key derived from the same, so that a wire
//! that can be listened to gives away no cluster id. Pure: nonces are given.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce as SealNonce, UnboundKey};
use hmac::Mac;

use super::key::{Derived, Keyring, Purpose};
use crate::model::ids::NodeId;

/// Random, and never the same twice.
pub type Nonce = [u8; 32];
/// HMAC-SHA256.
pub type Proof = [u8; 32];

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    Dialler,
    Acceptor,
}

impl Speaker {
    fn label(self) -> u8 {
        match self {
            Self::Dialler => 1,
            Self::Acceptor => 2,
        }
    }
}

/// What makes a meeting of two servers different from any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    pub version: u16,
    pub dialler: NodeId,
    pub acceptor: NodeId,
    pub dialler_nonce: Nonce,
    pub acceptor_nonce: Nonce,
}

/// One of the secrets, by its place; both servers must use the same one after the first proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Which(usize);

/// The secrets of greetings.
pub struct PeerKeys(Vec<Derived>);

impl PeerKeys {
    pub fn new(keyring: &Keyring) -> Self {
        Self(keyring.derived(Purpose::Greeting))
    }

    /// The secret that a server which dials proves.
    pub fn first(&self) -> Which {
        Which(0)
    }

    pub fn prove(&self, which: Which, speaker: Speaker, meeting: &Meeting) -> Proof {
        self.mac(which, b"proof", speaker, meeting).finalize().into_bytes().into()
    }

    /// With which of our secrets the other side has made `proof`.
    pub fn check(&self, proof: &[u8], speaker: Speaker, meeting: &Meeting) -> Option<Which> {
        let all = (0..self.0.len()).map(Which);
        all.into_iter().find(|which| self.mac(*which, b"proof", speaker, meeting).verify_slice(proof).is_ok())
    }

    /// To be used once for each speaker in a meeting.
    pub fn seal(&self, which: Which, speaker: Speaker, meeting: &Meeting, mut text: Vec<u8>) -> Vec<u8> {
        let (key, nonce) = self.seal_key(which, speaker, meeting);
        key.seal_in_place_append_tag(nonce, Aad::empty(), &mut text).expect("AES-GCM takes up to 64 GiB");
        text
    }

    /// `None`: nobody who knows the secret has sealed it for this meeting.
    pub fn open<'a>(
        &self,
        which: Which,
        speaker: Speaker,
        meeting: &Meeting,
        sealed: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let (key, nonce) = self.seal_key(which, speaker, meeting);
        key.open_in_place(nonce, Aad::empty(), sealed).ok().map(|text| &*text)
    }

    /// The key is new in each meeting and for each speaker: the nonce can be the same.
    fn seal_key(&self, which: Which, speaker: Speaker, meeting: &Meeting) -> (LessSafeKey, SealNonce) {
        let key = self.mac(which, b"seal", speaker, meeting).finalize().into_bytes();
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("the key has 32 bytes");
        (LessSafeKey::new(key), SealNonce::assume_unique_for_key([0; 12]))
    }

    /// Each field is bound with its length, so that no two lists of fields are the same bytes.
    fn mac(&self, which: Which, use_: &[u8], speaker: Speaker, meeting: &Meeting) -> hmac::Hmac<sha2::Sha256> {
        let mut mac = self.0[which.0].mac();
        let version = meeting.version.to_be_bytes();
        for field in [
            use_,
            &[speaker.label()],
            &version,
            meeting.dialler.as_str().as_bytes(),
            meeting.acceptor.as_str().as_bytes(),
            &meeting.dialler_nonce,
            &meeting.acceptor_nonce,
        ] {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::secrets::Secrets;

    fn keys(secrets: &str) -> PeerKeys {
        PeerKeys::new(&Keyring::new(Secrets::parse(secrets, "test").unwrap()))
    }

    fn meeting() -> Meeting {
        Meeting {
            version: 1,
            dialler: "a".parse().unwrap(),
            acceptor: "b".parse().unwrap(),
            dialler_nonce: [1; 32],
            acceptor_nonce: [2; 32],
        }
    }

    #[test]
    fn a_proof_fits_one_meeting_and_one_speaker() {
        let keys = keys("the-secret-of-tests");
        let proof = keys.prove(keys.first(), Speaker::Dialler, &meeting());
        assert!(keys.check(&proof, Speaker::Dialler, &meeting()).is_some());
        assert!(keys.check(&proof, Speaker::Acceptor, &meeting()).is_none());
        for other in [
            Meeting { version: 2, ..meeting() },
            Meeting { dialler: "c".parse().unwrap(), ..meeting() },
            Meeting { acceptor: "c".parse().unwrap(), ..meeting() },
            Meeting { dialler_nonce: [3; 32], ..meeting() },
            Meeting { acceptor_nonce: [3; 32], ..meeting() },
        ] {
            assert!(keys.check(&proof, Speaker::Dialler, &other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_secret_on_its_way_in_or_out_still_opens() {
        let (old, both) = (keys("old:the-older-secret-x"), keys("new:the-newer-secret-x\nold:the-older-secret-x"));
        let proof = old.prove(old.first(), Speaker::Dialler, &meeting());
        let which = both.check(&proof, Speaker::Dialler, &meeting()).unwrap();
        let answer = both.prove(which, Speaker::Acceptor, &meeting());
        assert_eq!(old.check(&answer, Speaker::Acceptor, &meeting()), Some(old.first()));
    }

    #[test]
    fn what_is_sealed_is_hidden_and_opens_for_its_own_meeting() {
        let keys = keys("the-secret-of-tests");
        let sealed = keys.seal(keys.first(), Speaker::Dialler, &meeting(), b"cluster".to_vec());
        assert!(!sealed.windows(7).any(|part| part == b"cluster"));
        let open = |speaker, meeting: &Meeting| {
            keys.open(keys.first(), speaker, meeting, &mut sealed.clone()).map(<[u8]>::to_vec)
        };
        assert_eq!(open(Speaker::Dialler, &meeting()).as_deref(), Some(&b"cluster"[..]));
        assert_eq!(open(Speaker::Acceptor, &meeting()), None);
        assert_eq!(open(Speaker::Dialler, &Meeting { acceptor_nonce: [9; 32], ..meeting() }), None);
    }
}
