//! The key a client shows: one it was given, or one it mints from the cluster's secret.
//!
//! What a key says and how it is signed is [`crate::auth::key`]'s; here is only where a client takes it from.

#![expect(clippy::doc_markdown, reason = "these comments are shown in a terminal, as help")]

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::ClientError;
use crate::auth::key::{Claims, Keyring, Role};
use crate::auth::secrets::Secrets;
use crate::config::secret::SecretSource;
use crate::config::settings::DEFAULT_DATA_DIR;
use crate::model::ids::{ClientId, Millis, NodeId};

/// How long a minted key is good: long enough for a slow handshake, too short to be worth stealing.
const TTL: Duration = Duration::from_secs(3600);

/// The secret's whereabouts, as the flags of a client command.
#[derive(Debug, Clone, clap::Args)]
pub struct SecretArgs {
    /// File with the cluster's secret, to mint keys from (default: the variable SPARKMESH_SECRET)
    #[arg(long, value_name = "FILE", env = "SPARKMESH_SECRET_FILE", global = true)]
    pub secret_file: Option<PathBuf>,
    /// Where to look for the secret that `serve --dev` made
    #[arg(long, value_name = "DIR", env = "SPARKMESH_DATA_DIR", default_value = DEFAULT_DATA_DIR, global = true)]
    pub data_dir: PathBuf,
}

impl Default for SecretArgs {
    fn default() -> Self {
        Self { secret_file: None, data_dir: DEFAULT_DATA_DIR.into() }
    }
}

impl SecretArgs {
    /// # Errors
    /// [`ClientError::NoSecret`] where there is none in any of the places; [`ClientError::Secret`] for a bad one.
    pub fn load(&self) -> Result<Minter, ClientError> {
        Minter::from_source(&SecretSource::find(self.secret_file.as_deref(), &self.data_dir)?)
    }
}

/// Makes keys, good for an hour.
#[derive(Clone)]
pub struct Minter(Arc<Keyring>);

impl fmt::Debug for Minter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Minter")
    }
}

impl Minter {
    /// # Errors
    /// [`ClientError::Secret`] where the file cannot be read or has no secret in it.
    pub fn from_file(path: &Path) -> Result<Self, ClientError> {
        Self::from_source(&SecretSource::File(path.to_owned()))
    }

    fn from_source(source: &SecretSource) -> Result<Self, ClientError> {
        Ok(Self(Arc::new(Keyring::new(Secrets::load(source)?))))
    }

    /// A key for `holder`.
    pub fn mint(&self, holder: &Holder) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = Millis((now + TTL).as_millis() as u64);
        self.0.mint(&Claims::new(holder.node.clone(), expires).of_client(holder.client.clone()).with_role(holder.role))
    }
}

/// Whom a key is for.
#[derive(Debug, Clone)]
pub struct Holder {
    pub node: NodeId,
    pub client: Option<ClientId>,
    pub role: Role,
}

/// How a client comes by the key for its next attempt.
#[derive(Clone)]
pub enum Credentials {
    /// Given; when it expires the client is at its end.
    Key(String),
    /// Minted anew for each attempt.
    Minted { minter: Minter, holder: Holder },
}

impl Credentials {
    pub fn key(&self) -> String {
        match self {
            Self::Key(key) => key.clone(),
            Self::Minted { minter, holder } => minter.mint(holder),
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
    use super::*;

    #[test]
    fn a_minted_key_is_one_the_server_takes() {
        let dir = tempfile::tempdir().unwrap();
        let secret_file = dir.path().join("secrets");
        std::fs::write(&secret_file, "new:0123456789abcdef\nold:fedcba9876543210\n").unwrap();
        let secret = SecretArgs { secret_file: Some(secret_file.clone()), ..SecretArgs::default() };
        let holder =
            Holder { node: "alice__1".parse().unwrap(), client: Some("alice".parse().unwrap()), role: Role::App };
        let key = Credentials::Minted { minter: secret.load().unwrap(), holder: holder.clone() }.key();
        assert_eq!(claimed_node(&key).as_deref(), Some("alice__1"));
        let now = Millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64);
        let server = Keyring::new(Secrets::load(&SecretSource::File(secret_file)).unwrap());
        let identity = server.verify(&key, now).unwrap();
        assert_eq!((identity.node, identity.client, identity.role), (holder.node, holder.client, Role::App));
        assert!(server.verify(&key, now.plus(2 * 3_600_000)).is_err(), "it does not live long");
    }

    #[test]
    fn the_secret_of_a_development_server_is_found_and_none_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let args = SecretArgs { secret_file: None, data_dir: dir.path().to_owned() };
        assert!(matches!(args.load(), Err(ClientError::NoSecret(_))));
        std::fs::write(dir.path().join("secret"), "0123456789abcdef\n").unwrap();
        assert!(args.load().is_ok());
        assert!(matches!(Minter::from_file(&dir.path().join("no")), Err(ClientError::Secret(_))));
    }

    #[test]
    fn what_is_no_key_claims_nothing() {
        for text in ["", "no.key", "a.b.c", "a.e30.c"] {
            assert_eq!(claimed_node(text), None, "{text}");
        }
    }
}
