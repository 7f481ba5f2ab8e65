//! Which server is the home of an id, and which is its deputy.
//!
//! Rendezvous hashing: each member is weighed against the id, the heaviest is the home, the next the deputy. One member
//! more or less therefore moves only the ids that are its own. Pins go before weights.

use std::cmp::Reverse;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::ids::NodeId;
use super::pin;
pub use super::pin::Pin;

/// The members and pins as they are at one time. Immutable; cheap to ask, and free for a server that is alone.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Keyed with the cluster id.
    hmac: Hmac<Sha256>,
    /// Sorted, each once, never empty.
    members: Vec<NodeId>,
    pins: Vec<Pin>,
}

type Weight = [u8; 32];

impl Placement {
    /// `None` without a member.
    pub fn new(cluster: [u8; 32], members: impl IntoIterator<Item = NodeId>, pins: Vec<Pin>) -> Option<Self> {
        let mut members: Vec<NodeId> = members.into_iter().collect();
        members.sort_unstable();
        members.dedup();
        // A key shorter than a block is filled up with zeros, says HMAC.
        let mut key = [0; 64];
        key[..cluster.len()].copy_from_slice(&cluster);
        let hmac = Hmac::new(&key.into());
        (!members.is_empty()).then_some(Self { hmac, members, pins })
    }

    /// That of a server which has met no other.
    pub fn alone(cluster: [u8; 32], own: NodeId) -> Self {
        let mut key = [0; 64];
        key[..cluster.len()].copy_from_slice(&cluster);
        Self { hmac: Hmac::new(&key.into()), members: vec![own], pins: Vec::new() }
    }

    /// The server that keeps what is durable about `id`.
    pub fn home(&self, id: &str) -> &NodeId {
        let alone = &self.members[0];
        if self.members.len() == 1 {
            return alone;
        }
        self.pinned(id, &self.members.iter()).or_else(|| self.heaviest(id, self.members.iter()).0).unwrap_or(alone)
    }

    /// The home, and the deputy, which a server that is alone has not.
    pub fn ranked(&self, id: &str) -> (NodeId, Option<NodeId>) {
        if let [alone] = &self.members[..] {
            return (alone.clone(), None);
        }
        let (first, second) = self.heaviest(id, self.members.iter());
        let pinned = self.pinned(id, &self.members.iter());
        let home = pinned.or(first).unwrap_or(&self.members[0]);
        let deputy = if first == Some(home) { second } else { first };
        (home.clone(), deputy.cloned())
    }

    /// The home that `id` had when only `before` were members; none without them.
    pub fn formerly<'a>(&self, id: &str, before: impl IntoIterator<Item = &'a NodeId>) -> Option<&'a NodeId> {
        let before: Vec<&NodeId> = before.into_iter().collect();
        match before[..] {
            [] => None,
            [alone] => Some(alone),
            _ => self.pinned(id, &before.iter().copied()).or_else(|| self.heaviest(id, before.iter().copied()).0),
        }
    }

    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// What tells its pins from others.
    pub fn pins_digest(&self) -> u64 {
        pin::digest(&self.pins)
    }

    /// The server of the first pin that holds `id` and names one of `among`: who is no member holds nothing.
    fn pinned<'a>(&self, id: &str, among: &(impl Iterator<Item = &'a NodeId> + Clone)) -> Option<&'a NodeId> {
        let mut holding = self.pins.iter().filter(|pin| pin.holds(id));
        holding.find_map(|pin| among.clone().find(|member| **member == pin.server))
    }

    /// The heaviest and the next.
    fn heaviest<'a>(
        &self,
        id: &str,
        among: impl Iterator<Item = &'a NodeId>,
    ) -> (Option<&'a NodeId>, Option<&'a NodeId>) {
        let (mut first, mut second) = (None, None);
        for member in among {
            let weighed = Some((self.weight(member, id), Reverse(member)));
            if weighed > first {
                second = std::mem::replace(&mut first, weighed);
            } else if weighed > second {
                second = weighed;
            }
        }
        let member = |(_, Reverse(member))| member;
        (first.map(member), second.map(member))
    }

    /// The zero byte is outside the alphabet of ids, so no two pairs give the same bytes.
    fn weight(&self, server: &NodeId, id: &str) -> Weight {
        let mut hmac = self.hmac.clone();
        hmac.update(server.as_str().as_bytes());
        hmac.update(&[0]);
        hmac.update(id.as_bytes());
        hmac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: [u8; 32] = [7; 32];

    fn node(n: usize) -> NodeId {
        format!("server-{n}").parse().unwrap()
    }

    fn placement(members: impl IntoIterator<Item = usize>) -> Placement {
        Placement::new(CLUSTER, members.into_iter().map(node), Vec::new()).unwrap()
    }

    fn ids(count: usize) -> impl Iterator<Item = String> {
        (0..count).map(|n| format!("device-{n}"))
    }

    #[test]
    fn the_weight_is_the_designs() {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&CLUSTER).unwrap();
        hmac.update(b"server-3\0device-9");
        let weight: Weight = hmac.finalize().into_bytes().into();
        assert_eq!(placement([1]).weight(&node(3), "device-9"), weight);
        // Made once by another program (Python's hmac), so that no release moves a home.
        assert_eq!(placement(0..5).home("device-0"), &node(2));
        assert_eq!(placement(0..5).home("device-1"), &node(0));
    }

    #[test]
    fn one_more_server_moves_its_share_and_nothing_else() {
        const IDS: usize = 4000;
        for n in [1, 2, 4, 9] {
            let (before, after) = (placement(0..n), placement(0..=n));
            let mut moved = 0;
            for id in ids(IDS) {
                if before.home(&id) != after.home(&id) {
                    assert_eq!(after.home(&id), &node(n), "to the new one alone");
                    moved += 1;
                }
                let members: Vec<NodeId> = (0..n).map(node).collect();
                assert_eq!(after.formerly(&id, &members), Some(before.home(&id)));
            }
            let share = IDS / (n + 1);
            assert!((share * 4 / 5..share * 6 / 5).contains(&moved), "{moved} of {IDS} moved to one of {}", n + 1);
        }
    }

    #[test]
    fn who_is_alone_has_no_deputy_and_nobody_is_no_placement() {
        assert_eq!(placement([4]).ranked("x"), (node(4), None));
        assert_eq!(placement([4, 4]).ranked("x"), (node(4), None));
        assert!(Placement::new(CLUSTER, [], Vec::new()).is_none());
        assert_eq!(placement([4]).formerly("x", []), None);
    }

    #[test]
    fn pins_go_before_weights() {
        let pin = |prefix: &str, range, server| Pin { prefix: prefix.to_owned(), range, server: node(server) };
        let pins = vec![
            pin("user-", Some((10, 19)), 9),
            pin("user-", Some((10, 19)), 0),
            pin("user-", Some((15, 29)), 1),
            pin("eu.", None, 2),
        ];
        let pinned = Placement::new(CLUSTER, (0..4).map(node), pins).unwrap();
        let plain = placement(0..4);
        for (id, server) in
            [("user-10", 0), ("user-19", 0), ("user-0015", 0), ("user-20", 1), ("user-29", 1), ("eu.", 2), ("eu.x", 2)]
        {
            let (home, deputy) = pinned.ranked(id);
            assert_eq!((&home, pinned.home(id)), (&node(server), &node(server)), "{id}");
            let first = plain.ranked(id);
            let second = if first.0 == home { first.1 } else { Some(first.0) };
            assert_eq!(deputy, second, "the heaviest of the others");
        }
        for id in ["user-9", "user-30", "user-", "user-+15", "user-1x", "user-99999999999999999999", "USER-10", "eu"] {
            assert_eq!(pinned.ranked(id), plain.ranked(id), "{id}");
        }
        let before = [node(1), node(3)];
        assert_eq!(pinned.formerly("user-20", &before), Some(&node(1)));
        assert_eq!(pinned.formerly("eu.x", &before), plain.formerly("eu.x", &before), "not yet there");
    }

    proptest! {
        #[test]
        fn the_deputy_is_home_when_the_home_is_gone(
            members in prop::collection::btree_set(0..20usize, 2..8).prop_flat_map(|m| Just(m.into_iter().collect::<Vec<_>>()).prop_shuffle()),
            id in "[a-z]{1,9}",
        ) {
            let all = placement(members.clone());
            let (home, deputy) = all.ranked(&id);
            prop_assert_eq!(&home, all.home(&id));
            let rest = members.iter().copied().filter(|member| node(*member) != home);
            prop_assert_eq!(Some(placement(rest).ranked(&id).0), deputy.clone());
            let sorted: std::collections::BTreeSet<usize> = members.into_iter().collect();
            prop_assert_eq!(placement(sorted).ranked(&id), (home, deputy), "in whatever order they are named");
        }
    }
}
