//! Waking phones: what is asked of it, whoever the provider is.
//!
//! Never in the way of a message: the home says [`Notification`] after an envelope is durable, and goes on.
//! [`PushHandle`] takes it in, a thread of its own ([`queue`]) throttles, keeps and retries it by the rules of
//! [`crate::model::wake`], and one file per provider speaks to the world.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::ids::{NodeId, SessionId};
use crate::model::wake::Target;

mod apns;
mod complaints;
mod content;
mod encrypt;
mod exchange;
mod fcm;
mod guard;
mod handle;
mod kept;
mod last;
mod oauth;
mod outcome;
mod providers;
mod queue;
mod token;
mod vapid;
mod webhook;
mod webpush;

pub use handle::PushHandle;
pub use last::LastPush;
pub use queue::{OnDead, PushQueue};
pub use token::{MAX_TOKEN, TokenError};

/// Where a device can be woken. The token is what the provider gave the app; for Web Push it is the JSON of the
/// browser's `PushSubscription`, for a webhook its URL. See [`PushToken::check`].
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PushToken {
    pub provider: Provider,
    pub token: String,
}

/// A token lets its holder write to somebody's phone: it is not for logs.
impl fmt::Debug for PushToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PushToken({})", self.provider)
    }
}

impl Target for PushToken {
    type Lane = Provider;

    fn lane(&self) -> Provider {
        self.provider
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.token.len()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Fcm,
    Apns,
    Webpush,
    Webhook,
}

impl Provider {
    pub const ALL: [Self; 4] = [Self::Fcm, Self::Apns, Self::Webpush, Self::Webhook];

    /// The word on the wire, in settings and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fcm => "fcm",
            Self::Apns => "apns",
            Self::Webpush => "webpush",
            Self::Webhook => "webhook",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An envelope has entered the inbox of a device that is not there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    pub device: NodeId,
    pub tokens: Vec<PushToken>,
    /// How many envelopes wait.
    pub pending: u64,
    /// Who wrote, as the recipient may know it: the anonymous id where the sender has one.
    pub sender: Option<NodeId>,
    pub session: Option<SessionId>,
    /// The message's `type`: decides the title (row A31).
    pub kind: i64,
    /// The payload's text if it is a JSON string; used only where the operator allows content in notifications.
    pub text: Option<String>,
}

/// Without tokens and text: this is what a log may show.
impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("device", &self.device)
            .field("tokens", &self.tokens)
            .field("pending", &self.pending)
            .field("sender", &self.sender)
            .field("session", &self.session)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Why push cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("{what} cannot be read from {path}: {source}")]
    Unreadable { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{what} in {path} cannot be used: {why}")]
    Unusable { what: &'static str, path: PathBuf, why: String },
    #[error("the VAPID key cannot be written to {path}: {source}")]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    OutOfRange(#[from] crate::config::push::OutOfRange),
    #[error("push.{name} is {value:?}: {why}")]
    Setting { name: &'static str, value: String, why: &'static str },
    #[error("the HTTP client for push cannot be made: {0}")]
    Client(#[from] reqwest::Error),
    #[error("the thread for push cannot be started: {0}")]
    Thread(std::io::Error),
}

impl PushError {
    fn unusable(what: &'static str, path: &Path, why: impl fmt::Display) -> Self {
        Self::Unusable { what, path: path.to_owned(), why: why.to_string() }
    }
}

fn read_file(what: &'static str, path: &Path) -> Result<Vec<u8>, PushError> {
    std::fs::read(path).map_err(|source| PushError::Unreadable { what, path: path.to_owned(), source })
}

/// A base address that an operator set, without the slash at its end.
fn endpoint(name: &'static str, value: &str) -> Result<String, PushError> {
    let url = reqwest::Url::parse(value).ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
    match url {
        Some(_) => Ok(value.trim_end_matches('/').to_owned()),
        None => Err(PushError::Setting { name, value: value.to_owned(), why: "it must be an https address" }),
    }
}
