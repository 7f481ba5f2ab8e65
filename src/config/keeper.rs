//! What a running server keeps of who it is: the node says it, the data directory has it at the next start.

use super::identity::{ClusterId, DataDir, IdentityError};
use crate::model::members::Members;

/// Each blocks until it is on disk.
pub trait Keeper: Send + Sync {
    /// The list of members, and the cluster that they and this server are of.
    fn keep_members(&self, cluster: ClusterId, members: &Members) -> Result<(), IdentityError>;

    /// The highest epoch of sessions that was given out; it or a higher one.
    fn keep_epoch(&self, epoch: u64) -> Result<(), IdentityError>;

    /// The number of a life that began without a start; it or a higher one.
    fn keep_incarnation(&self, incarnation: u64) -> Result<(), IdentityError>;
}

impl Keeper for DataDir {
    fn keep_members(&self, cluster: ClusterId, members: &Members) -> Result<(), IdentityError> {
        Self::keep_members(self, cluster, members)
    }

    fn keep_epoch(&self, epoch: u64) -> Result<(), IdentityError> {
        Self::keep_epoch(self, epoch)
    }

    fn keep_incarnation(&self, incarnation: u64) -> Result<(), IdentityError> {
        Self::keep_incarnation(self, incarnation)
    }
}
