//! The members of the mesh: the servers that were admitted, and those that were forgotten. Only grows.
//!
//! A list is merged, never replaced: the merge is commutative, associative and idempotent, so lists flooded in any order,
//! any number of times, end up equal everywhere. A forgotten server stays in the list of the admitted, and is for ever no
//! member; it comes back under another id.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ids::NodeId;

mod meet;
pub use self::meet::{Blank, Meeting, Regard, Standpoint, meet};

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVERS: usize = 6;

    fn node(n: usize) -> NodeId {
        format!("s{n}").parse().unwrap()
    }

    /// A list as it may have come to be, from another first server each.
    fn list() -> impl Strategy<Value = Members> {
        let step = (0..SERVERS, prop::bool::weighted(0.2));
        (0..SERVERS, prop::collection::vec(step, 0..8)).prop_map(|(first, steps)| {
            let mut members = Members::first(node(first));
            for (server, forgets) in steps {
                let before = members.version();
                let merged = if forgets { members.forget(&node(server)) } else { members.admit(&node(server)) };
                assert_eq!(merged == Merged::Changed, members.version() > before);
            }
            members
        })
    }

    fn merged(mut one: Members, other: &Members) -> Members {
        let before = one.clone();
        let merged = one.merge(other);
        assert_eq!(merged == Merged::Changed, one != before);
        assert!(one.version() >= before.version().max(other.version()));
        one
    }

    proptest! {
        #[test]
        fn merging_is_the_same_in_any_order_and_any_number_of_times(a in list(), b in list(), c in list()) {
            prop_assert_eq!(merged(a.clone(), &b), merged(b.clone(), &a));
            prop_assert_eq!(merged(merged(a.clone(), &b), &c), merged(a.clone(), &merged(b.clone(), &c)));
            let both = merged(a.clone(), &b);
            prop_assert_eq!(merged(both.clone(), &b), both.clone());
            for server in (0..SERVERS).map(node) {
                prop_assert!(!(both.is_forgotten(&server) && both.is_member(&server)));
                prop_assert_eq!(both.is_forgotten(&server), a.is_forgotten(&server) || b.is_forgotten(&server));
                prop_assert_eq!(both.is_member(&server), both.current().any(|member| *member == server));
            }
        }

        #[test]
        fn before_is_an_order_of_the_members(members in list()) {
            let mut current: Vec<&NodeId> = members.current().collect();
            current.sort_by_key(|member| members.before(member).count());
            for (place, member) in current.iter().enumerate() {
                let before: BTreeSet<&NodeId> = members.before(member).collect();
                prop_assert_eq!(before, current[..place].iter().copied().collect::<BTreeSet<_>>());
            }
        }

        #[test]
        fn a_list_survives_the_disk(members in list()) {
            let text = serde_json::to_string(&members).unwrap();
            prop_assert_eq!(serde_json::from_str::<Members>(&text).unwrap(), members.clone());
            let admitted = members.admitted().map(|(server, admission)| (server.clone(), admission.clone()));
            prop_assert_eq!(Members::of(admitted, members.forgotten().cloned()), members.clone());
        }
    }

    #[test]
    fn who_joins_comes_after_those_that_were_there() {
        let mut mesh = Members::first(node(5));
        let _ = mesh.admit(&node(3));
        let mut alone = Members::first(node(1));
        let _ = mesh.admit(&node(1));
        assert_eq!(alone.merge(&mesh), Merged::Changed);
        assert_eq!(alone, mesh);
        assert_eq!(mesh.before(&node(1)).collect::<Vec<_>>(), [&node(3), &node(5)]);
        assert_eq!(mesh.before(&node(0)).count(), 0, "never admitted");
        let _ = mesh.forget(&node(3));
        assert_eq!(mesh.before(&node(1)).collect::<Vec<_>>(), [&node(5)]);
        assert_eq!(mesh.admit(&node(3)), Merged::Same, "for ever");
    }
}
