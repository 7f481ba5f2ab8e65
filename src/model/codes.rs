//! Every number and fixed word of the wire, in one table each: message types, error words, close codes.
//!
//! Owns the mapping of an error word to its HTTP status and to the WebSocket close code, if it closes at all.
//! `docs/protocol.md` prints these tables for the public; a test there keeps both equal.

use serde::{Deserialize, Serialize};

/// The `type` of an envelope or a frame. Applications own 1-99 and 200 and up.
pub mod kind {
    pub const CONFIG_REQUEST: i64 = -101;
    pub const CONFIG_RESPONSE: i64 = -102;
    pub const NODE_UNKNOWN: i64 = -3;
    pub const USER_OFFLINE: i64 = -4;
    pub const SESSION_UNAUTHORIZED: i64 = -5;
    pub const ACK: i64 = -6;
    pub const CONFIRMATION: i64 = -7;
    pub const ERROR: i64 = -8;
    pub const GOING_AWAY: i64 = -9;
    /// Absent `type` means this: nobody asked for it to be kept.
    pub const EPHEMERAL: i64 = 0;
    pub const JOINED: i64 = 100;
    pub const LEFT: i64 = 103;
    pub const REVEALED: i64 = 104;
    pub const ONLINE: i64 = 105;
    pub const OFFLINE: i64 = 106;

    /// Whether an application may use this type for a message of its own.
    pub fn is_application(kind: i64) -> bool {
        (0..=99).contains(&kind) || kind >= 200
    }
}

/// The fixed words of ERROR frames and of HTTP error bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    BadRequest,
    BadEnvelope,
    TooLarge,
    RateLimited,
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    Unavailable,
    Full,
    Draining,
    /// Told at the start of an edge: a limit has pushed messages out of the inbox.
    InboxOverflow,
    BinaryFrame,
    BadUtf8,
}

impl Code {
    pub const ALL: [Self; 14] = [
        Self::BadRequest,
        Self::BadEnvelope,
        Self::TooLarge,
        Self::RateLimited,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::Unavailable,
        Self::Full,
        Self::Draining,
        Self::InboxOverflow,
        Self::BinaryFrame,
        Self::BadUtf8,
    ];

    /// The word as it stands on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BadEnvelope => "bad_envelope",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::InboxOverflow => "inbox_overflow",
            Self::BinaryFrame => "binary_frame",
            Self::BadUtf8 => "bad_utf8",
        }
    }

    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest | Self::BadEnvelope | Self::BinaryFrame | Self::BadUtf8 => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Unavailable | Self::Full | Self::Draining | Self::InboxOverflow => 503,
        }
    }

    /// The close that follows on a WebSocket; `None` leaves the edge open.
    pub fn close(self) -> Option<Close> {
        match self {
            Self::BinaryFrame => Some(Close::UNSUPPORTED),
            Self::BadUtf8 => Some(Close::INVALID_UTF8),
            Self::RateLimited => Some(Close::POLICY),
            Self::TooLarge => Some(Close::TOO_LARGE),
            Self::Unauthorized => Some(Close::BAD_KEY),
            Self::Forbidden => Some(Close::FORBIDDEN),
            Self::Draining => Some(Close::GOING_AWAY),
            Self::BadRequest
            | Self::BadEnvelope
            | Self::NotFound
            | Self::Conflict
            | Self::Unavailable
            | Self::Full
            | Self::InboxOverflow => None,
        }
    }
}

/// A WebSocket close code, and what a client should do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    pub code: u16,
    pub reason: &'static str,
    pub then: Then,
}

/// What a client does after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Ask for a new offer and connect again, with backoff.
    Reconnect,
    /// Get a new key or mend the client first: the same again has the same end.
    GiveUp,
}

impl Close {
    pub const NORMAL: Self = Self { code: 1000, reason: "closed", then: Then::GiveUp };
    pub const GOING_AWAY: Self = Self { code: 1001, reason: "going away", then: Then::Reconnect };
    pub const PROTOCOL: Self = Self { code: 1002, reason: "protocol error", then: Then::GiveUp };
    pub const UNSUPPORTED: Self = Self { code: 1003, reason: "binary frames are not spoken here", then: Then::GiveUp };
    pub const INVALID_UTF8: Self = Self { code: 1007, reason: "text is not UTF-8", then: Then::GiveUp };
    pub const POLICY: Self = Self { code: 1008, reason: "too many frames", then: Then::Reconnect };
    pub const TOO_LARGE: Self = Self { code: 1009, reason: "message too large", then: Then::GiveUp };
    pub const INTERNAL: Self = Self { code: 1011, reason: "server fault", then: Then::Reconnect };
    pub const BAD_KEY: Self = Self { code: 4401, reason: "bad key", then: Then::GiveUp };
    pub const FORBIDDEN: Self = Self { code: 4403, reason: "forbidden", then: Then::GiveUp };
    /// The edge gave no sign of life; usually the client never sees this.
    pub const SILENT: Self = Self { code: 4408, reason: "no sign of life", then: Then::Reconnect };
    /// Closed on behalf of an app or an admin (`POST /v1/nodes/{id}/disconnect`).
    pub const DISCONNECTED: Self = Self { code: 4410, reason: "disconnected by the application", then: Then::GiveUp };

    pub const ALL: [Self; 12] = [
        Self::NORMAL,
        Self::GOING_AWAY,
        Self::PROTOCOL,
        Self::UNSUPPORTED,
        Self::INVALID_UTF8,
        Self::POLICY,
        Self::TOO_LARGE,
        Self::INTERNAL,
        Self::BAD_KEY,
        Self::FORBIDDEN,
        Self::SILENT,
        Self::DISCONNECTED,
    ];
}

/// A refusal for a person: a fixed word for programs and a sentence that says what went wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {message}", code.word())]
pub struct Refusal {
    pub code: Code,
    pub message: String,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serialised_word_is_the_word() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("{:?}", code.word()));
        }
    }
}
