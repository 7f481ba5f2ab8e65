//! What becomes of two servers' clusters when the servers meet for the first time.

use std::cmp::Ordering;

use super::super::ids::NodeId;

/// Whether a server has anything durable to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blank {
    /// No record, nothing held.
    Yes,
    No,
}

/// How a server's list of members has the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regard {
    /// A member, or unknown.
    Welcome,
    Forgotten,
}

/// What a server says of itself when it meets another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standpoint {
    pub node: NodeId,
    pub cluster: [u8; 32],
    /// How many members its list has, itself included.
    pub members: usize,
    pub blank: Blank,
    pub regard: Regard,
}

/// What two servers that meet do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Meeting {
    /// They are of one cluster.
    Same,
    /// We take over their cluster id and are admitted.
    WeJoin,
    /// They take over ours.
    TheyJoin,
    /// Two clusters with records, or one of the two is forgotten.
    Refused,
}

/// Both ends come to the same end: `WeJoin` here is `TheyJoin` there.
///
/// A server that is alone or blank can join. Where both can, that one keeps its cluster which is not alone (the others of
/// its cluster cannot follow at once), else that which is not blank (less is to be moved), else of two that are alone the
/// lower id, and of others that of the lower cluster: many that meet at a time, each in its turn, then come to one end.
pub fn meet(own: &Standpoint, theirs: &Standpoint) -> Meeting {
    if own.regard == Regard::Forgotten || theirs.regard == Regard::Forgotten || own.node == theirs.node {
        return Meeting::Refused;
    }
    if own.cluster == theirs.cluster {
        return Meeting::Same;
    }
    match (own.can_join(), theirs.can_join()) {
        (false, false) => Meeting::Refused,
        (true, false) => Meeting::WeJoin,
        (false, true) => Meeting::TheyJoin,
        // What is lower is the greater here.
        (true, true) => match own.weight().cmp(&theirs.weight()).then_with(|| theirs.rank().cmp(&own.rank())) {
            Ordering::Greater => Meeting::TheyJoin,
            _ => Meeting::WeJoin,
        },
    }
}

impl Standpoint {
    fn is_alone(&self) -> bool {
        self.members <= 1
    }

    fn can_join(&self) -> bool {
        self.is_alone() || self.blank == Blank::Yes
    }

    /// Of two that can join, the heavier keeps its cluster.
    fn weight(&self) -> (bool, Blank) {
        (!self.is_alone(), self.blank)
    }

    fn rank(&self) -> (Option<&[u8; 32]>, &NodeId) {
        ((!self.is_alone()).then_some(&self.cluster), &self.node)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standpoint(node: &str, cluster: u8, members: usize, blank: Blank) -> Standpoint {
        let (node, cluster) = (node.parse().unwrap(), [cluster; 32]);
        Standpoint { node, cluster, members, blank, regard: Regard::Welcome }
    }

    fn any_standpoint() -> impl Strategy<Value = Standpoint> {
        let blank = prop_oneof![Just(Blank::Yes), Just(Blank::No)];
        (0..4u8, 0..3u8, 1..4usize, blank, prop::bool::weighted(0.1)).prop_map(
            |(node, cluster, members, blank, bad)| {
                let regard = if bad { Regard::Forgotten } else { Regard::Welcome };
                Standpoint { regard, ..standpoint(&format!("s{node}"), cluster, members, blank) }
            },
        )
    }

    proptest! {
        #[test]
        fn both_ends_decide_alike(one in any_standpoint(), other in any_standpoint()) {
            let mirrored = match meet(&other, &one) {
                Meeting::WeJoin => Meeting::TheyJoin,
                Meeting::TheyJoin => Meeting::WeJoin,
                same => same,
            };
            let meeting = meet(&one, &other);
            prop_assert_eq!(meeting, mirrored);
            let joiner = match meeting {
                Meeting::WeJoin => Some(&one),
                Meeting::TheyJoin => Some(&other),
                _ => None,
            };
            prop_assert!(joiner.is_none_or(Standpoint::can_join), "nobody leaves records or friends behind");
            let forgotten = one.regard == Regard::Forgotten || other.regard == Regard::Forgotten;
            prop_assert!(!forgotten || meeting == Meeting::Refused);
        }
    }

    #[test]
    fn who_keeps_its_cluster() {
        let (b, many) = (standpoint("b", 1, 1, Blank::No), standpoint("z", 3, 3, Blank::No));
        assert_eq!(meet(&b, &standpoint("b2", 1, 5, Blank::No)), Meeting::Same);
        assert_eq!(meet(&b, &standpoint("a", 2, 1, Blank::No)), Meeting::WeJoin, "the lower id keeps");
        assert_eq!(meet(&b, &standpoint("a", 2, 1, Blank::Yes)), Meeting::TheyJoin, "but the blank one joins");
        assert_eq!(meet(&b, &standpoint("z", 2, 3, Blank::Yes)), Meeting::WeJoin, "and before all who is alone");
        assert_eq!(meet(&b, &many), Meeting::WeJoin);
        let (two, three) = (standpoint("z", 2, 2, Blank::Yes), standpoint("a", 3, 2, Blank::Yes));
        assert_eq!(meet(&two, &three), Meeting::TheyJoin, "of two that are not alone the lower cluster stays");
        assert_eq!(meet(&many, &standpoint("y", 4, 2, Blank::Yes)), Meeting::TheyJoin);
        assert_eq!(meet(&many, &standpoint("y", 4, 2, Blank::No)), Meeting::Refused, "two meshes with records");
        assert_eq!(meet(&b, &standpoint("b", 2, 1, Blank::Yes)), Meeting::Refused, "our own id");
    }
}
