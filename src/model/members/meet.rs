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
/// its cluster cannot follow at once), else that which is not blank (less is to be moved), else the lower id.
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
        // The lower id is the greater here.
        (true, true) => match own.weight().cmp(&theirs.weight()).then(theirs.node.cmp(&own.node)) {
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
}
