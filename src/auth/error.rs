//! Why somebody is not let in: one variant, one word for the metrics, one error word on the wire.

use crate::model::codes::{Code, Refusal};
use crate::model::ids::IdError;

/// The sentences are for the person who wrote the client or mints its keys; none of them shows a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("an auth_key is needed: a JWT in `Authorization: Bearer` or in the parameter auth_key")]
    Missing,
    #[error("the auth_key is no JWT this server can read: {0}")]
    Malformed(String),
    #[error("the auth_key must be signed with HS256")]
    Algorithm,
    #[error("the auth_key names a kid that this server has no secret for")]
    UnknownKid,
    #[error("the auth_key's signature fits none of this server's secrets")]
    Signature,
    #[error("the auth_key is of another kind: its aud or kind is not for connecting here")]
    Kind,
    #[error("the auth_key has no exp: every key must expire")]
    Endless,
    #[error("the auth_key has expired: get a new one")]
    Expired,
    #[error("the auth_key is not valid yet (nbf): is the clock of whoever made it right?")]
    Early,
    #[error("the auth_key's sub must be a node id: {0}")]
    Subject(#[source] IdError),
    #[error("the auth_key's client_id is no client id: {0}")]
    Client(#[source] IdError),
    #[error("the auth_key's role is unknown: it is app, admin, or absent for a device")]
    Role,
    #[error("this needs a key with the role {needed}")]
    RoleNeeded { needed: &'static str },
    #[error("the auth_key is for the id of a server, which no device can have")]
    ServerId,
    #[error("a validation_key is needed: ask /v1/connect-info for one")]
    ValidationMissing,
    #[error("the validation_key is not one that a server made")]
    ValidationMalformed,
    #[error("the validation_key was not made for this device by this server since its start: ask for a new one")]
    ValidationForeign,
    #[error("the validation_key has expired: ask for a new one")]
    ValidationExpired,
    #[error("the validation_key has been used: each opens one connection")]
    ValidationUsed,
}

impl AuthError {
    /// The label `reason` of `sparkmesh_auth_failures_total`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKid => "unknown_kid",
            Self::Signature => "signature",
            Self::Kind => "kind",
            Self::Endless => "endless",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Subject(_) => "subject",
            Self::Client(_) => "client",
            Self::Role => "role",
            Self::RoleNeeded { .. } => "role_needed",
            Self::ServerId => "server_id",
            Self::ValidationMissing => "validation_missing",
            Self::ValidationMalformed => "validation_malformed",
            Self::ValidationForeign => "validation_foreign",
            Self::ValidationExpired => "validation_expired",
            Self::ValidationUsed => "validation_used",
        }
    }

    /// Forbidden where the key is a good one and would stay one; unauthorized where another key would help.
    pub fn code(&self) -> Code {
        match self {
            Self::RoleNeeded { .. } | Self::ServerId => Code::Forbidden,
            _ => Code::Unauthorized,
        }
    }

    pub fn refusal(&self) -> Refusal {
        Refusal::new(self.code(), self.to_string())
    }
}
