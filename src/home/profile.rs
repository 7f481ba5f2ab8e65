//! What the home tells about a device and its inbox.

use serde::{Deserialize, Serialize};

use super::boxes::Mailbox;
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{ClientId, Epoch};
use crate::push::Provider;

/// A device that has been here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub client: Option<ClientId>,
    /// Envelopes that wait in its inbox.
    pub pending: u64,
    /// Of its push tokens, each once.
    pub providers: Vec<Provider>,
}

impl Profile {
    /// `None`: never here.
    pub(super) fn of(mailbox: &Mailbox) -> Option<Self> {
        let device = mailbox.device.as_ref()?;
        let mut providers: Vec<Provider> = device.tokens.iter().map(|token| token.provider).collect();
        providers.sort_unstable();
        providers.dedup();
        Some(Self { client: device.client.clone(), pending: mailbox.inbox.len() as u64, providers })
    }
}

/// What an acknowledgement has done to an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trimmed {
    /// Envelopes that left.
    pub gone: u64,
    /// Envelopes that still wait.
    pub pending: u64,
    /// That of the inbox's numbers. Where the acknowledgement named another one, nothing left.
    pub epoch: Epoch,
}

impl Trimmed {
    /// For an acknowledgement that named another epoch.
    pub fn refusal(&self) -> Refusal {
        let message =
            format!("the inbox has begun anew, in epoch {}: fetch it again, and acknowledge its numbers", self.epoch.0);
        Refusal::new(Code::Conflict, message)
    }
}
