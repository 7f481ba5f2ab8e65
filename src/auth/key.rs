//! The `auth_key`: a JWT that says who somebody is, signed with the cluster secret.
//!
//! Any back end mints one with its own JWT library, so it is read as leniently as the standard allows and as strictly
//! as safety demands: HS256 and nothing else whatever the token's header says, `exp` demanded, ids in our alphabet, no
//! unknown role. Keys of other kinds are made with derived secrets ([`Keyring::derived`]), so that neither can ever pass
//! for the other. Time is an argument.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use sha2::Sha256;

use super::error::AuthError;
use super::secrets::{Secret, Secrets};
use crate::model::ids::{ClientId, Millis, NodeId};

/// How far the clocks of a back end and a server may differ, in milliseconds.
const LEEWAY_MS: u64 = 30_000;
/// Longest auth key in bytes; ours have about 200.
const MAX_KEY: usize = 4096;
/// A token that names audiences must name this one.
const AUDIENCE: &str = "sparkmesh";
/// A token that names its kind must name this one.
const KIND: &str = "auth";

/// What the holder of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Speaks for itself only.
    Device,
    /// A back end: speaks for any of its devices.
    App,
    /// Runs the servers.
    Admin,
}

impl Role {
    pub fn word(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::App => "app",
            Self::Admin => "admin",
        }
    }
}

/// Who somebody is, after their key was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeId,
    pub client: Option<ClientId>,
    pub role: Role,
    /// When the key expires; checked at each handshake and HTTP call, not later.
    pub expires: Millis,
}

impl Identity {
    /// Fails for a holder of another role.
    pub fn require(&self, role: Role) -> Result<(), AuthError> {
        if self.role == role { Ok(()) } else { Err(AuthError::RoleNeeded { needed: role.word() }) }
    }

    /// Fails for a plain device.
    pub fn require_app_or_admin(&self) -> Result<(), AuthError> {
        if self.role == Role::Device { Err(AuthError::RoleNeeded { needed: "app or admin" }) } else { Ok(()) }
    }

    /// A server's id is nobody else's, whatever the key says.
    pub fn refuse_ids_of<'a>(&self, servers: impl IntoIterator<Item = &'a NodeId>) -> Result<(), AuthError> {
        if servers.into_iter().any(|server| self.node == *server) { Err(AuthError::ServerId) } else { Ok(()) }
    }
}

/// What a key is to say, in the form it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    sub: NodeId,
    /// Seconds since 1970.
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
}

impl Claims {
    /// A device's key. It expires with the whole second that `expires` lies in.
    pub fn new(node: NodeId, expires: Millis) -> Self {
        Self { sub: node, exp: expires.0 / 1000, client_id: None, role: None }
    }

    #[must_use]
    pub fn of_client(mut self, client: Option<ClientId>) -> Self {
        self.client_id = client;
        self
    }

    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = (role != Role::Device).then_some(role);
        self
    }
}

/// The claims of a token whose signature fits, before they mean anything.
#[derive(Deserialize)]
struct Claimed {
    sub: Option<String>,
    exp: Option<Number>,
    nbf: Option<Number>,
    client_id: Option<String>,
    role: Option<String>,
    aud: Option<Value>,
    kind: Option<Value>,
}

impl Claimed {
    fn identity(self, now: Millis) -> Result<Identity, AuthError> {
        let meant_for_us = match &self.aud {
            None => true,
            Some(Value::Array(all)) => all.iter().any(|one| one == AUDIENCE),
            Some(one) => one == AUDIENCE,
        };
        if !meant_for_us || self.kind.is_some_and(|kind| kind != KIND) {
            return Err(AuthError::Kind);
        }
        let expires = millis(&self.exp.ok_or(AuthError::Endless)?);
        if now >= expires.plus(LEEWAY_MS) {
            return Err(AuthError::Expired);
        }
        if self.nbf.is_some_and(|from| millis(&from) > now.plus(LEEWAY_MS)) {
            return Err(AuthError::Early);
        }
        let role = match self.role.as_deref() {
            None => Role::Device,
            Some("app") => Role::App,
            Some("admin") => Role::Admin,
            Some(_) => return Err(AuthError::Role),
        };
        Ok(Identity {
            node: self.sub.unwrap_or_default().parse().map_err(AuthError::Subject)?,
            client: self.client_id.map(|id| id.parse()).transpose().map_err(AuthError::Client)?,
            role,
            expires,
        })
    }
}

/// A JWT's time, seconds with or without a fraction, before 1970 and after all time included.
fn millis(seconds: &Number) -> Millis {
    match seconds.as_u64() {
        Some(whole) => Millis(whole.saturating_mul(1000)),
        None => Millis((seconds.as_f64().unwrap_or(0.0) * 1000.0) as u64),
    }
}

/// What a derived secret is for. One more kind of key is one more variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    ValidationKey,
    /// Servers that meet.
    Greeting,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::ValidationKey => b"sparkmesh validation key 1",
            Self::Greeting => b"sparkmesh greeting 1",
        }
    }
}

/// A secret made from the cluster secret for one purpose.
#[derive(Clone)]
pub(super) struct Derived([u8; 32]);

impl Derived {
    fn new(secret: &Secret, purpose: Purpose) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes()).expect("HMAC takes a key of any length");
        mac.update(purpose.label());
        Self(mac.finalize().into_bytes().into())
    }

    pub(super) fn mac(&self) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length")
    }
}

/// The secrets, ready to sign and to verify.
pub struct Keyring {
    secrets: Secrets,
    signing: EncodingKey,
    /// In the order of `secrets`.
    verifying: Vec<DecodingKey>,
    validation: Validation,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.secrets).finish()
    }
}

impl Keyring {
    pub fn new(secrets: Secrets) -> Self {
        let signing = EncodingKey::from_secret(secrets.all()[0].bytes());
        let verifying = secrets.all().iter().map(|secret| DecodingKey::from_secret(secret.bytes())).collect();
        // Signature and algorithm only: claims are judged in `Claimed`, against a time that is given.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self { secrets, signing, verifying, validation }
    }

    /// Signs with the first secret.
    pub fn mint(&self, claims: &Claims) -> String {
        let header = Header { kid: Some(self.secrets.all()[0].kid().to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, claims, &self.signing).expect("HS256 signs any text")
    }

    /// Who the holder of `token` is. A `kid` in the token narrows the search to secrets of that name; without one all
    /// are tried.
    pub fn verify(&self, token: &str, now: Millis) -> Result<Identity, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > MAX_KEY {
            return Err(AuthError::Malformed(format!("it is longer than {MAX_KEY} bytes")));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| reason(&error))?;
        if header.alg != Algorithm::HS256 {
            return Err(AuthError::Algorithm);
        }
        // Extensions marked as critical must be refused by whoever does not know them (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(AuthError::Malformed("it demands an extension (crit) that is unknown here".to_owned()));
        }
        let mut failure = AuthError::UnknownKid;
        for (secret, key) in self.secrets.all().iter().zip(&self.verifying) {
            if header.kid.as_deref().is_some_and(|kid| kid != secret.kid()) {
                continue;
            }
            match jsonwebtoken::decode::<Claimed>(token, key, &self.validation) {
                Ok(verified) => return verified.claims.identity(now),
                Err(error) => failure = reason(&error),
            }
            if failure != AuthError::Signature {
                break;
            }
        }
        Err(failure)
    }

    /// The secrets of one purpose; the first is the one to sign with.
    pub(super) fn derived(&self, purpose: Purpose) -> Vec<Derived> {
        self.secrets.all().iter().map(|secret| Derived::new(secret, purpose)).collect()
    }
}

fn reason(error: &jsonwebtoken::errors::Error) -> AuthError {
    match error.kind() {
        ErrorKind::InvalidSignature => AuthError::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            AuthError::Algorithm
        }
        ErrorKind::InvalidToken => AuthError::Malformed("it must have three parts with dots between them".to_owned()),
        ErrorKind::Base64(_) => AuthError::Malformed("a part is not base64url".to_owned()),
        // Shows what the holder wrote into the token at most, cut short.
        _ => AuthError::Malformed(error.to_string().chars().take(200).collect()),
    }
}
