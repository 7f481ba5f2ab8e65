//! The members of the mesh: the servers that were admitted, and those that were forgotten. Only grows.
//!
//! A list is merged, never replaced: the merge is commutative, associative and idempotent, so lists flooded in any order,
//! any number of times, end up equal everywhere. A forgotten server stays in the list of the admitted, and is for ever no
//! member; it comes back under another id.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ids::NodeId;

mod meet;
pub use meet::{Blank, Meeting, Regard, Standpoint, meet};

/// When and where a server was admitted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Admission {
    /// One more than the highest that the admitting server knew; ties go by the server's id.
    pub ordinal: u64,
}

/// See the module's header.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Members {
    admitted: BTreeMap<NodeId, Admission>,
    forgotten: BTreeSet<NodeId>,
}

/// Whether a list knows more than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Merged {
    Changed,
    Same,
}

impl Members {
    /// The list of a server that knows no other.
    pub fn first(own: NodeId) -> Self {
        Self { admitted: BTreeMap::from([(own, Admission { ordinal: 1 })]), forgotten: BTreeSet::new() }
    }

    /// A list from its parts, as another server tells them.
    pub fn of(
        admitted: impl IntoIterator<Item = (NodeId, Admission)>,
        forgotten: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        Self { admitted: admitted.into_iter().collect(), forgotten: forgotten.into_iter().collect() }
    }

    /// Admits a server. `Same` when it is a member already, or forgotten.
    pub fn admit(&mut self, server: &NodeId) -> Merged {
        if self.admitted.contains_key(server) || self.is_forgotten(server) {
            return Merged::Same;
        }
        let highest = self.admitted.values().map(|admission| admission.ordinal).max().unwrap_or(0);
        self.admitted.insert(server.clone(), Admission { ordinal: highest.saturating_add(1) });
        Merged::Changed
    }

    /// Forgets a server for ever, be it a member or not.
    pub fn forget(&mut self, server: &NodeId) -> Merged {
        if self.forgotten.insert(server.clone()) { Merged::Changed } else { Merged::Same }
    }

    /// Takes over what another list knows. Of two admissions of one server the higher counts: a server that was alone
    /// has admitted itself as the first, and is later than all in the mesh that it joins.
    pub fn merge(&mut self, other: &Self) -> Merged {
        let mut merged = Merged::Same;
        for (server, admission) in &other.admitted {
            if self.admitted.get(server).is_none_or(|known| known < admission) {
                self.admitted.insert(server.clone(), admission.clone());
                merged = Merged::Changed;
            }
        }
        for server in &other.forgotten {
            if self.forget(server) == Merged::Changed {
                merged = Merged::Changed;
            }
        }
        merged
    }

    /// The members, by id.
    pub fn current(&self) -> impl Iterator<Item = &NodeId> {
        self.admitted.keys().filter(|server| !self.is_forgotten(server))
    }

    pub fn is_member(&self, server: &NodeId) -> bool {
        self.admitted.contains_key(server) && !self.is_forgotten(server)
    }

    pub fn is_forgotten(&self, server: &NodeId) -> bool {
        self.forgotten.contains(server)
    }

    /// The members that were admitted before `server`; none when it was never admitted.
    pub fn before(&self, server: &NodeId) -> impl Iterator<Item = &NodeId> {
        let own = self.admitted.get(server).map(|admission| (admission, server));
        self.current().filter(move |member| {
            let theirs = self.admitted.get(*member).map(|admission| (admission, *member));
            theirs < own
        })
    }

    /// All that were ever admitted, the forgotten too.
    pub fn admitted(&self) -> impl ExactSizeIterator<Item = (&NodeId, &Admission)> {
        self.admitted.iter()
    }

    pub fn forgotten(&self) -> impl ExactSizeIterator<Item = &NodeId> {
        self.forgotten.iter()
    }

    /// Grows with every member admitted or forgotten: of two lists where one knows all of the other and names more, it has
    /// the higher version.
    pub fn version(&self) -> u64 {
        (self.admitted.len() + self.forgotten.len()) as u64
    }
}
