//! Waking phones: what is asked of it, whoever the provider is.
//!
//! Never in the way of a message: the home says [`Notification`] after an envelope is durable, and goes on.

use serde::{Deserialize, Serialize};

use crate::model::ids::{NodeId, SessionId};

/// Where a device can be woken. The token is what the provider gave the app; for Web Push it is the JSON of the
/// browser's `PushSubscription`, for a webhook its URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PushToken {
    pub provider: Provider,
    pub token: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Fcm,
    Apns,
    Webpush,
    Webhook,
}

/// An envelope has entered the inbox of a device that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
