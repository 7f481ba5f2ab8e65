//! The key by which push services know this server (RFC 8292), kept in the data directory.
//!
//! Browsers bind a subscription to its public half: another key orphans every subscription, so the file is made once,
//! with access for its owner only, and never replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;

use super::PushError;

const WHAT: &str = "the VAPID key";
/// How long a token is good for, in seconds; the RFC allows a day.
const GOOD_FOR: u64 = 12 * 3600;

pub(super) struct Vapid {
    key: EncodingKey,
    subject: String,
    /// The public key as browsers want it (`applicationServerKey`): an uncompressed point in base64url.
    pub(super) public: String,
}

impl Vapid {
    /// Reads the key, or makes it where there is none.
    pub(super) fn open(path: &Path, subject: &str) -> Result<Self, PushError> {
        if !subject.starts_with("mailto:") && !subject.starts_with("https://") {
            let why = "it must be mailto:... or https://..., where push services can write about this server";
            return Err(PushError::Setting { name: "webpush.subject", value: subject.to_owned(), why });
        }
        if !path.exists() {
            make(path).map_err(|source| PushError::Unwritable { path: path.to_owned(), source })?;
        }
        let pem = super::read_file(WHAT, path)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem)
            .map_err(|error| PushError::unusable(WHAT, path, format!("it is no PKCS#8 key in PEM: {error}")))?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
            .map_err(|error| PushError::unusable(WHAT, path, format!("it is no key of P-256: {error}")))?;
        Ok(Self {
            key: EncodingKey::from_ec_der(der.secret_pkcs8_der()),
            subject: subject.to_owned(),
            public: URL_SAFE_NO_PAD.encode(pair.public_key()),
        })
    }

    /// The `Authorization` for requests to `origin` at `now` (seconds since 1970).
    pub(super) fn authorization(&self, origin: &str, now: u64) -> Result<String, jsonwebtoken::errors::Error> {
        #[derive(Serialize)]
        struct Claims<'a> {
            aud: &'a str,
            exp: u64,
            sub: &'a str,
        }
        let claims = Claims { aud: origin, exp: now + GOOD_FOR, sub: &self.subject };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.key)?;
        Ok(format!("vapid t={token}, k={}", self.public))
    }
}

/// Written beside its place and linked into it, so that nobody ever reads half a key and two servers that start at a
/// time agree on one.
fn make(path: &Path) -> io::Result<()> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(io::Error::other)?;
    let der = pair.to_pkcs8v1().map_err(io::Error::other)?;
    let text = STANDARD.encode(der.as_ref());
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");

    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vapid.pem");
        let first = Vapid::open(&path, "mailto:ops@example.org").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(URL_SAFE_NO_PAD.decode(&first.public).unwrap().len(), 65);
        let second = Vapid::open(&path, "mailto:ops@example.org").unwrap();
        assert_eq!(first.public, second.public);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_broken_key_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vapid.pem");
        fs::write(&path, "no key").unwrap();
        let error = Vapid::open(&path, "mailto:ops@example.org").err().unwrap().to_string();
        assert!(error.contains("vapid.pem") && error.contains("no PKCS#8 key"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "no key");
        assert!(Vapid::open(&path, "ops").is_err());
    }
}
