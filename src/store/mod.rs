//! The durable store: what it promises to those above it, whatever holds the bytes.
//!
//! A store is a set of ordered tables of keys and values. It knows nothing of inboxes or sessions: who writes decides
//! what a key means. Its one promise is [`Store::commit`]: when that returns `Ok`, every write in it survives kill -9
//! and a machine that stops. Whoever reads sees whole values or none, never a torn one.
//!
//! Invariants: keys are at most [`MAX_KEY`] bytes and values at most [`MAX_VALUE`]. Only one thread commits (the
//! committer in `home`); any thread may read.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::model::ids::Epoch;

pub mod memory;
pub mod sled;
#[cfg(test)]
mod suite;

/// Longest key in bytes: two ids and a few numbers. An index page of `sled` holds up to 257 keys and must stay below
/// 128 KiB, or it spills into a blob file that is never deleted; hence not more.
pub const MAX_KEY: usize = 400;
/// Longest value in bytes: the largest message that any setting allows, with its header.
pub const MAX_VALUE: usize = 64 << 20;

/// The tables; one more is one more line here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Envelopes waiting for a device: device id, 0, sequence (8 bytes, big-endian).
    Inbox,
    /// What outlives an inbox's envelopes, and device, client and session records.
    Records,
    /// Notifications waiting to be pushed.
    Push,
    /// Envelopes on their way to a home that cannot be reached: device id, 0, number (8 bytes, big-endian).
    Held,
}

impl Table {
    pub const ALL: [Self; 4] = [Self::Inbox, Self::Records, Self::Push, Self::Held];
}

/// One change. Within one commit the last write of a key wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Put { table: Table, key: Bytes, value: Bytes },
    Delete { table: Table, key: Bytes },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// What a store takes, for metrics and for deciding when to rebuild. In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub live: u64,
    pub disk: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("another process uses the data directory {0}: stop it, or give this server its own --data-dir")]
    InUse(std::path::PathBuf),
    #[error("the store cannot be written: {0} (is the disk full, or read-only?)")]
    Unwritable(#[source] std::io::Error),
    #[error("the store is damaged: {0}")]
    Damaged(String),
    #[error("a {what} of {len} bytes is over the limit of {max}")]
    TooLarge { what: &'static str, len: usize, max: usize },
}

/// See the module's header for what every implementation promises; `suite.rs` is that promise as tests.
pub trait Store: Send + Sync + 'static {
    /// Changes when the store had to start anew without what it held.
    fn epoch(&self) -> Epoch;

    /// Makes all `writes` durable, in order. After an error none, some or all of them may be there, and the caller
    /// must not tell anybody that they are.
    fn commit(&self, writes: &[Write]) -> Result<(), StoreError>;

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Visits the pairs with `from <= key < to` in order, until `visit` breaks or the range ends.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    fn usage(&self) -> Usage;

    /// Housekeeping that may take a while (rebuilding a store whose files outgrew what they hold); the committer calls
    /// it when nothing waits. True when something was done.
    fn maintain(&self) -> Result<bool, StoreError>;
}

/// What every implementation asks of a commit before it writes anything.
fn check_sizes(writes: &[Write]) -> Result<(), StoreError> {
    let check = |what, len, max| if len > max { Err(StoreError::TooLarge { what, len, max }) } else { Ok(()) };
    writes.iter().try_for_each(|write| match write {
        Write::Put { key, value, .. } => {
            check("key", key.len(), MAX_KEY)?;
            check("value", value.len(), MAX_VALUE)
        }
        Write::Delete { key, .. } => check("key", key.len(), MAX_KEY),
    })
}

/// Called once, on the committer's thread, when the fate of a submission is known. Must be quick and must not block.
pub type Done = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;

/// Nothing can be made durable now: the disk failed, or too much waits for it already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store takes no writes now")]
pub struct Unavailable;

/// The way to the one committer thread, for those who have something to keep and are not the inbox.
pub trait Journal: Send + Sync + 'static {
    /// Hands `writes` over; never blocks. `done` is always called.
    fn submit(&self, writes: Vec<Write>, done: Done);
}
