//! The client's side of the wire, small: a key, an offer, a socket. `sparkmesh connect` and `sparkmesh bench` stand on it.
//!
//! Owns what every client must do before it can speak: mint or take a key ([`key`]), ask where to connect ([`offer`]),
//! open the WebSocket there ([`socket`]). Leaves to [`connect`] what a person sees, and to `bench` how load is made.

pub mod connect;
pub mod key;
pub mod offer;

mod api;
mod backoff;
mod command;
mod outgoing;
mod render;
mod socket;
mod terminal;

use std::path::PathBuf;

/// What can go wrong for a client, told to the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{url:?} is no address of a server: {reason}; write it as http://HOST:PORT")]
    BadUrl { url: String, reason: String },
    #[error(
        "no key and no secret: give --key or SPARKMESH_KEY, or --secret-file FILE or SPARKMESH_SECRET to mint a key \
         (a server started with --dev keeps its secret in DATA-DIR/secret)"
    )]
    NoSecret,
    #[error("the secret file {} cannot be read: {source}", path.display())]
    SecretFile { path: PathBuf, source: std::io::Error },
    #[error("{place} holds no secret: expected a line KID:SECRET or SECRET")]
    EmptySecret { place: String },
    #[error("the key cannot be signed: {0}")]
    Mint(#[from] jsonwebtoken::errors::Error),
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
            | Self::NoSecret
            | Self::SecretFile { .. }
            | Self::EmptySecret { .. }
            | Self::Mint(_)
            | Self::ForeignKey { .. }
            | Self::BadAnswer { .. }
            | Self::Downgrade { .. }
            | Self::Terminal(_) => false,
        }
    }
}
