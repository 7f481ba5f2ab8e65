//! Links: the connections between servers, which carry frames of [`crate::model::frames`] both ways.
//!
//! A connection is made by [`dial`] (when, the [`dialler`] knows) or taken by [`accept`]; on both sides [`greeting`] finds
//! out who is there, [`meeting`] asks the node about it, and then it is an [`actor`] that reads, hands on and ends the
//! link, over a [`connection`] that is the same for both. What is to be written waits in a [`crate::view::LinkQueue`].
//! [`messages`] is all that the node and links say to each other.

pub mod accept;
mod actor;
mod connection;
mod dial;
pub mod dialler;
mod greeting;
pub mod links;
mod meeting;
pub mod messages;
mod pulse;

pub use dialler::Dialler;
pub use links::{Links, Setup};
pub use messages::{
    Backlog, Dialled, Heard, Host, Introduce, Introduction, Learned, LinkDown, LinkId, LinkStop, LinkUp, Measured, Meet,
};

use crate::model::ids::{Incarnation, NodeId};

/// Which of two links between the same two servers stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    Old,
    New,
}

/// Which of two links to `peer` stays, the `old` one or the `new` one: both servers must say the same. Links to a server
/// in a later life replace those of an earlier one; then the one that the server with the lower id has opened stays; of
/// two that the same server has opened the new one stays, as whoever opens another has lost the first.
pub fn which_stays(own: &NodeId, peer: &NodeId, old: (Incarnation, Dialled), new: (Incarnation, Dialled)) -> Stays {
    let by_lower = |dialled| (dialled == Dialled::ByUs) == (own < peer);
    let is_new = if new.0 == old.0 { new.1 == old.1 || by_lower(new.1) } else { new.0 > old.0 };
    if is_new { Stays::New } else { Stays::Old }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_keep_the_same_link() {
        let (low, high): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let life = Incarnation(3);
        // Each end sees the two links in either order.
        for (old, stays) in [(Dialled::ByUs, Stays::Old), (Dialled::ByThem, Stays::New)] {
            let new = if old == Dialled::ByUs { Dialled::ByThem } else { Dialled::ByUs };
            assert_eq!(which_stays(&low, &high, (life, old), (life, new)), stays);
            let mirrored = if stays == Stays::Old { Stays::New } else { Stays::Old };
            assert_eq!(which_stays(&high, &low, (life, old), (life, new)), mirrored);
        }
    }

    #[test]
    fn a_second_link_of_the_same_server_replaces_its_first_and_a_new_life_the_old() {
        let (own, peer): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (one, two) = (Incarnation(1), Incarnation(2));
        assert_eq!(which_stays(&own, &peer, (one, Dialled::ByUs), (one, Dialled::ByUs)), Stays::New);
        assert_eq!(which_stays(&own, &peer, (one, Dialled::ByUs), (two, Dialled::ByThem)), Stays::New);
        assert_eq!(which_stays(&own, &peer, (two, Dialled::ByThem), (one, Dialled::ByUs)), Stays::Old);
    }
}
