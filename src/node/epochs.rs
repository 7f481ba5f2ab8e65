//! The epoch of the sessions' order: higher whenever this server begins to number what another one has numbered.
//!
//! Each server tells the highest epoch that it has heard of, and one that takes over goes beyond it. Two servers that
//! cannot hear each other must not come upon the same: the low bits are a server's own.

use actix::prelude::*;
use sha2::{Digest, Sha256};

use super::Node;
use crate::model::ids::NodeId;
use crate::model::keyed::HashSet;
use crate::model::routes::Routes;
use crate::outside;

/// Bits of an epoch that are the server's own; what stands above is counted. 2^37 counts are below what a JSON number holds
/// exactly.
const OWN_BITS: u32 = 16;

/// The next epoch of `server` after all that is `heard`.
fn next(heard: u64, server: &NodeId) -> u64 {
    let digest = Sha256::digest(server.as_str().as_bytes());
    let own = u64::from(digest[0]) << 8 | u64::from(digest[1]);
    (heard >> OWN_BITS).saturating_add(1) << OWN_BITS | own
}

impl Node {
    /// Another server has heard of this one.
    pub(super) fn heard_epoch(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    /// This server begins to act for sessions that another one has acted for.
    pub(super) fn begin_epoch(&mut self, ctx: &mut Context<Self>) {
        let epoch = next(self.epoch.max(self.view.sessions.epoch()), &self.server);
        self.epoch = epoch;
        self.view.sessions.begin(epoch);
        let dir = self.dir.clone();
        // A start is behind by no more than it takes to write this.
        outside::aside_alone(move || {
            if let Err(error) = dir.keep_epoch(epoch) {
                log::error!("the epoch of sessions cannot be kept: {error}");
            }
        });
        self.announce_about(ctx);
    }

    /// Begins an epoch where the servers that come or go make this one act for others, or again for its own. To be called
    /// before the routes are published: what comes after that is numbered at once.
    pub(super) fn begin_epoch_before(
        &mut self,
        before: &Routes,
        after: &Routes,
        changed: &HashSet<NodeId>,
        ctx: &mut Context<Self>,
    ) {
        // As deputy of one that is gone.
        let acts = changed.iter().any(|server| before.is_reachable(server) && self.members.is_member(server));
        // As home, for which another one has acted while it could not be reached.
        let own = self.view.sessions.epoch();
        let theirs = changed.iter().filter(|server| !before.is_reachable(server));
        let returns = theirs.filter_map(|server| after.about(server)).any(|about| about.epoch >= own);
        if acts || returns {
            self.begin_epoch(ctx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_higher_than_all_and_nobody_elses() {
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        for heard in [0, 1, 7, 65_535, 65_536, next(3, &b), u64::from(u32::MAX)] {
            assert!(next(heard, &a) > heard && next(heard, &a) < 1 << 53);
            assert_ne!(next(heard, &a), next(heard, &b));
            assert_eq!(next(heard, &a) % 65_536, next(0, &a) % 65_536);
        }
    }
}
