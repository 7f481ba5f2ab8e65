//! The key a client shows: one it was given, or one it mints from the cluster's secret.
//!
//! A key is a JWT, HS256, with `sub` (node), `exp` and optionally `client_id` and `role`. Secrets come from a file or
//! from the environment, never from a flag's value, and are never printed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::ClientError;
use crate::model::ids::{ClientId, NodeId};

/// Where the secret is looked for when no file is named.
const SECRET_VARIABLE: &str = "SPARKMESH_SECRET";
/// The name of a secret that has none.
const DEFAULT_KID: &str = "default";

/// The secret's whereabouts, as the flags of a client command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SecretArgs {
    /// File with the cluster's secret, to mint keys from (default: the variable `SPARKMESH_SECRET`)
    #[arg(long, alias = "secret_file", value_name = "FILE", env = "SPARKMESH_SECRET_FILE")]
    pub secret_file: Option<PathBuf>,
}

impl SecretArgs {
    /// # Errors
    /// [`ClientError::NoSecret`] where neither file nor variable is given; others for an unreadable or empty one.
    pub fn load(&self) -> Result<Secret, ClientError> {
        match &self.secret_file {
            Some(path) => Secret::from_file(path),
            None => match std::env::var(SECRET_VARIABLE) {
                Ok(text) => Secret::parse(&text, SECRET_VARIABLE),
                Err(_) => Err(ClientError::NoSecret),
            },
        }
    }
}

/// The first secret of the cluster, which signs.
#[derive(Clone)]
pub struct Secret {
    kid: String,
    key: EncodingKey,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Secret {
    /// # Errors
    /// Where the file cannot be read or has no secret in it.
    pub fn from_file(path: &Path) -> Result<Self, ClientError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ClientError::SecretFile { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// One secret a line, `kid:secret` or bare; the first one signs.
    fn parse(text: &str, place: &str) -> Result<Self, ClientError> {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let (kid, secret) = line.map_or(("", ""), |line| line.split_once(':').unwrap_or((DEFAULT_KID, line)));
        if kid.is_empty() || secret.is_empty() {
            return Err(ClientError::EmptySecret { place: place.to_owned() });
        }
        Ok(Self { kid: kid.to_owned(), key: EncodingKey::from_secret(secret.as_bytes()) })
    }

    /// A key for a device, or with a role for an app or an admin, good for `ttl` from now.
    ///
    /// # Errors
    /// Where the signing itself fails.
    pub fn mint(&self, who: &Holder, ttl: Duration) -> Result<String, ClientError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = Claims {
            sub: who.node.clone(),
            exp: (now + ttl).as_secs(),
            client_id: who.client.clone(),
            role: who.role.map(|Role::App| "app"),
        };
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::HS256) };
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }
}

/// Whom a key is for.
#[derive(Debug, Clone)]
pub struct Holder {
    pub node: NodeId,
    pub client: Option<ClientId>,
    /// `None`: a device.
    pub role: Option<Role>,
}

/// What a key allows beyond a device's own doings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    App,
}

#[derive(Serialize)]
struct Claims {
    sub: NodeId,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
}

/// How a client comes by the key for its next attempt.
#[derive(Clone)]
pub enum Credentials {
    /// Given; when it expires the client is at its end.
    Key(String),
    /// Minted anew for each attempt.
    Secret { secret: Secret, holder: Holder },
}

impl Credentials {
    /// How long a minted key is good: long enough for a slow handshake, too short to be worth stealing.
    const TTL: Duration = Duration::from_secs(3600);

    /// # Errors
    /// Where signing fails.
    pub fn key(&self) -> Result<String, ClientError> {
        match self {
            Self::Key(key) => Ok(key.clone()),
            Self::Secret { secret, holder } => secret.mint(holder, Self::TTL),
        }
    }
}

/// The node a key is for, read without checking the signature: for telling a person of a mix-up, never for trust.
pub(super) fn claimed_node(key: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Sub {
        sub: String,
    }
    let payload = URL_SAFE_NO_PAD.decode(key.split('.').nth(1)?).ok()?;
    Some(serde_json::from_slice::<Sub>(&payload).ok()?.sub)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    fn holder(node: &str, role: Option<Role>) -> Holder {
        Holder { node: node.parse().unwrap(), client: Some("alice".parse().unwrap()), role }
    }

    #[test]
    fn the_first_line_signs_under_its_name() {
        let secret = Secret::parse("\n# rotated in May\n2026-05:first\n2025:second\n", "test").unwrap();
        let key = secret.mint(&holder("alice__1", Some(Role::App)), Duration::from_secs(60)).unwrap();
        assert_eq!(jsonwebtoken::decode_header(&key).unwrap().kid.as_deref(), Some("2026-05"));
        let rules = Validation::new(Algorithm::HS256);
        let claims = jsonwebtoken::decode::<serde_json::Value>(&key, &DecodingKey::from_secret(b"first"), &rules);
        let claims = claims.unwrap().claims;
        assert_eq!(claims["sub"], "alice__1");
        assert_eq!(claims["client_id"], "alice");
        assert_eq!(claims["role"], "app");
        assert_eq!(claimed_node(&key).as_deref(), Some("alice__1"));
    }

    #[test]
    fn a_bare_secret_is_the_default_one_and_a_device_has_no_role() {
        let secret = Secret::parse("just-a-secret\n", "test").unwrap();
        let key = secret.mint(&holder("bob", None), Duration::from_secs(60)).unwrap();
        assert_eq!(jsonwebtoken::decode_header(&key).unwrap().kid.as_deref(), Some(DEFAULT_KID));
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(key.split('.').nth(1).unwrap()).unwrap()).unwrap();
        assert!(claims.get("role").is_none());
    }

    #[test]
    fn nothing_to_sign_with_is_said_and_a_secret_is_never_printed() {
        for empty in ["", "\n\n", "kid:\n", ":secret\n"] {
            assert!(matches!(Secret::parse(empty, "test"), Err(ClientError::EmptySecret { .. })), "{empty:?}");
        }
        assert!(!format!("{:?}", Secret::parse("k:hidden", "test").unwrap()).contains("hidden"));
        assert_eq!(claimed_node("no.key"), None);
    }
}
