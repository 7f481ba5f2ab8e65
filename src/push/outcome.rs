//! What became of one attempt to push, whoever the provider is.

use std::borrow::Cow;
use std::time::Duration;

use crate::model::wake::Verdict;

type Why = Cow<'static, str>;

/// The reasons are for the log: they carry no token, address or content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Sent,
    /// Not now; not before `after` where the provider said so.
    Retry {
        after: Option<Duration>,
        why: Why,
    },
    /// The token will never work again.
    Dead {
        why: Why,
    },
    /// This notification cannot go there.
    Refused {
        why: Why,
    },
    /// What the operator set up is wrong: kept, and tried again after it is mended.
    Broken {
        why: Why,
    },
}

impl Outcome {
    pub(super) fn retry(why: impl Into<Why>) -> Self {
        Self::Retry { after: None, why: why.into() }
    }

    pub(super) fn retry_after(after: Option<Duration>, why: impl Into<Why>) -> Self {
        Self::Retry { after, why: why.into() }
    }

    pub(super) fn dead(why: impl Into<Why>) -> Self {
        Self::Dead { why: why.into() }
    }

    pub(super) fn refused(why: impl Into<Why>) -> Self {
        Self::Refused { why: why.into() }
    }

    pub(super) fn broken(why: impl Into<Why>) -> Self {
        Self::Broken { why: why.into() }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Sent => Verdict::Sent,
            Self::Retry { after, .. } => {
                Verdict::Retry(after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
            }
            Self::Broken { .. } => Verdict::Retry(None),
            Self::Dead { .. } => Verdict::Dead,
            Self::Refused { .. } => Verdict::Refused,
        }
    }
}
