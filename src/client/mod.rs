//! The client's side of the wire, small: a key, an offer, a socket. `sparkmesh connect` and `sparkmesh bench` stand on it.
//!
//! Owns what every client must do before it can speak: mint or take a key ([`key`]), ask where to connect ([`offer`]),
//! open the WebSocket there ([`socket`]). Leaves to [`connect`] what a person sees, and to `bench` how load is made.

pub mod connect;
pub mod key;
pub mod mesh;
pub mod offer;

mod api;
mod backoff;
mod command;
mod conversation;
mod heard;
mod outgoing;
mod render;
mod socket;
mod terminal;
mod watch;

use crate::auth::secrets::SecretError;
use crate::config::secret::NoSecret;

/// What can go wrong for a client, told to the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{url:?} is no address of a server: {reason}; write it as http://HOST:PORT")]
    BadUrl { url: String, reason: String },
    /// Said with the flag that a client has besides.
    #[error("there is no key: give --key or SPARKMESH_KEY, or what one can be minted from")]
    NoSecret(#[from] NoSecret),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the key is for {is}, not for {wanted}: give the node the key was made for, or another key")]
    ForeignKey { is: String, wanted: String },
    #[error("the server at {url} does not answer: {reason}; is it running?")]
    Unreachable { url: String, reason: String },
    #[error("the server refused ({status} {code}): {message}")]
    Refused { status: u16, code: String, message: String, retry_after: Option<std::time::Duration> },
    #[error("the answer of {url} makes no sense: {reason}")]
    BadAnswer { url: String, reason: String },
    #[error("{url} offers the unencrypted {ws_url}: refused, because the key would be sent in the clear")]
    Downgrade { url: String, ws_url: String },
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the server closed the connection ({code}): {reason}")]
    Closed { code: u16, reason: String },
    #[error("{0} of your messages were not confirmed: they may or may not have arrived")]
    Unconfirmed(usize),
    #[error("no way leads from {from} to {to}")]
    NoWay { from: String, to: String },
    #[error("the terminal cannot be read or written: {0}")]
    Terminal(#[from] std::io::Error),
}

impl ClientError {
    /// Whether the same attempt, repeated later, may end better.
    pub(crate) fn may_pass(&self) -> bool {
        use crate::model::codes::{Close, Then};
        match self {
            Self::Unreachable { .. } | Self::Broken(_) => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::Closed { code, .. } => {
                Close::ALL.iter().find(|close| close.code == *code).is_none_or(|close| close.then == Then::Reconnect)
            }
            Self::BadUrl { .. }
            | Self::NoSecret(_)
            | Self::Secret(_)
            | Self::ForeignKey { .. }
            | Self::BadAnswer { .. }
            | Self::Downgrade { .. }
            | Self::Unconfirmed(_)
            | Self::NoWay { .. }
            | Self::Terminal(_) => false,
        }
    }
}
