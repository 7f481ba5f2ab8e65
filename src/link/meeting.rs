//! The greeting over a connection: what the state machine says is said, what it wants to know the node is asked.

use std::time::Duration;

use actix::MailboxError;

use super::connection::{BUDGET, Broken, Connection};
use super::greeting::{self, Fault, Greeting, PREFIX, Step};
use super::{Introduce, Introduction, Links, Meet};
use crate::model::codes::Refusal;
use crate::model::ids::NodeId;
use crate::view::Urgency;
use crate::wire::link;

/// A greeting takes no longer; a node may have something to write to its disk meanwhile.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Why a connection did not become a link.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("no greeting within {} s", PATIENCE.as_secs())]
    Timeout,
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The node has another link to that server, or wants none.
    #[error("{}", .1.message)]
    Unwanted(NodeId, Refusal),
    #[error("this server is going away")]
    GoingAway,
}

impl Failure {
    /// For the metric.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Fault(fault) => fault.word(),
            Self::Broken(Broken::Carrier(_) | Broken::Long(_)) => "malformed",
            Self::Unreachable(_) | Self::Broken(_) => "unreachable",
            Self::Unwanted(..) | Self::GoingAway => "refused",
        }
    }
}

impl From<MailboxError> for Failure {
    fn from(_: MailboxError) -> Self {
        Self::GoingAway
    }
}

/// Greets the other side; who it is, once both have proved the secret and both nodes agree.
pub(super) async fn greet(
    links: &Links,
    connection: &mut Connection,
    greeting: &mut Greeting,
) -> Result<Introduction, Failure> {
    let greeted = async {
        let mut peer = None;
        loop {
            // The last word may come together with frames, and is that of a server which has proved the secret.
            connection.allow(if peer.is_some() { BUDGET + link::MAX_FRAME } else { greeting.limit() + PREFIX });
            let word = connection.word(greeting.limit()).await?;
            let said = match greeting.hear(&word)? {
                Step::Say(word) => Some(word),
                Step::Introduce => greeting.introduce(&links.host.introduce.send(Introduce).await?),
                Step::Meet(theirs) => {
                    let meet = Meet { theirs: (*theirs).clone() };
                    let own = links.host.meet.send(meet).await?.map_err(Fault::from)?;
                    peer = Some(*theirs);
                    greeting.met(&own)
                }
                Step::Done => None,
            };
            if let Some(word) = said {
                // Nothing else is in the queue: it has room.
                let _ = connection.queue().push(&[word], Urgency::Heartbeat);
            }
            if let Some(theirs) = peer.take_if(|_| greeting.is_done()) {
                connection.allow(BUDGET + link::MAX_FRAME);
                return Ok(theirs);
            }
        }
    };
    let result = tokio::time::timeout(PATIENCE, greeted).await.unwrap_or(Err(Failure::Timeout));
    if let Err(Failure::Fault(fault)) = &result
        && !greeting.was_refused()
    {
        let _ = connection.queue().push(&[greeting::refusal(fault)], Urgency::Heartbeat);
    }
    result
}
