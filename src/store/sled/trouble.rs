//! What is wrong after a commit failed, and what can still be relied on.

use std::io::{self, ErrorKind};
use std::time::Instant;

use super::super::StoreError;

/// The last commit failed, or what should have set that right.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) since: Instant,
    pub(super) kind: ErrorKind,
    pub(super) engine: Condition,
    /// After a failed fsync the system takes pages for written that are not: only other files can be relied on.
    pub(super) files: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Sound,
    Doubtful,
}

impl Trouble {
    pub(super) fn of(error: &StoreError) -> Self {
        let kind = match error {
            StoreError::Unwritable(error) => error.kind(),
            _ => ErrorKind::Other,
        };
        let files = if is_refusal(kind) { Condition::Sound } else { Condition::Doubtful };
        Self { since: Instant::now(), kind, engine: Condition::Doubtful, files }
    }

    /// The disk was full before anything was tried.
    pub(super) fn from_the_start(error: &io::Error) -> Self {
        Self { since: Instant::now(), kind: error.kind(), engine: Condition::Sound, files: Condition::Sound }
    }
}

/// The write was not begun for want of room: nothing is wrong with what is on the disk.
pub(super) fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}
