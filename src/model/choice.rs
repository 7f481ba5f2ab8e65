//! Which server somebody is offered.

use super::ids::NodeId;
use super::topology::Load;

/// A server that takes connections: it lives, does not drain, is not full, and has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    pub server: &'a NodeId,
    pub load: Load,
    /// Those that were offered it and may not have come yet.
    pub reserved: u64,
    /// From the region that was asked for, in microseconds; 0 within it, and where none was. The highest number where no
    /// way leads.
    pub distance: u64,
    /// Members of the session that was named which are attached there.
    pub members: u64,
}

impl Candidate<'_> {
    /// Its connections if all come that were sent there.
    fn expected(&self) -> u64 {
        self.load.connections.saturating_add(self.reserved)
    }
}

/// One that has room for all who were sent there, if any has; among these the nearest; among these that with most of the
/// session; among these the least loaded; the lowest id of the rest.
pub fn choose<'a>(candidates: impl IntoIterator<Item = Candidate<'a>>) -> Option<&'a NodeId> {
    let best = candidates.into_iter().min_by(|one, other| {
        let booked = |of: &Candidate<'_>| of.expected() >= of.load.max_connections;
        let fuller =
            |of: &Candidate<'_>, by: &Candidate<'_>| u128::from(of.expected()) * u128::from(by.load.max_connections);
        booked(one)
            .cmp(&booked(other))
            .then(one.distance.cmp(&other.distance))
            .then(other.members.cmp(&one.members))
            .then_with(|| fuller(one, other).cmp(&fuller(other, one)))
            .then_with(|| one.server.cmp(other.server))
    });
    best.map(|candidate| candidate.server)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn candidate(server: &NodeId, connections: u64, max_connections: u64) -> Candidate<'_> {
        Candidate {
            server,
            load: Load { connections, max_connections, per_second: 1000 },
            reserved: 0,
            distance: 0,
            members: 0,
        }
    }

    #[test]
    fn the_least_loaded_for_its_size() {
        let (a, b, c) = (id("a"), id("b"), id("c"));
        let all = [candidate(&a, 50, 100), candidate(&b, 60, 1000), candidate(&c, 59, 900)];
        assert_eq!(choose(all.clone()), Some(&b));
        assert_eq!(choose(all.into_iter().rev()), Some(&b));
        assert_eq!(choose([candidate(&c, 0, 10), candidate(&b, 0, 900), candidate(&a, 1, 1000)]), Some(&b));
        assert_eq!(choose([]), None);
    }

    #[test]
    fn who_was_sent_somewhere_has_the_place() {
        let (a, b) = (id("a"), id("b"));
        let with = |reserved| Candidate { reserved, ..candidate(&a, 5, 10) };
        assert_eq!(choose([with(0), candidate(&b, 6, 10)]), Some(&a));
        assert_eq!(choose([with(2), candidate(&b, 6, 10)]), Some(&b));
        let near = |reserved| Candidate { members: 7, ..with(reserved) };
        let far = || Candidate { distance: 9, ..candidate(&b, 9, 10) };
        assert_eq!(choose([near(4), far()]), Some(&a));
        assert_eq!(choose([near(5), far()]), Some(&b), "all of its places are given away");
        // Some may not come: nobody is turned away for them.
        assert_eq!(choose([near(5)]), Some(&a));
        assert_eq!(choose([with(6), Candidate { reserved: 1, ..candidate(&b, 9, 10) }]), Some(&b));
    }

    #[test]
    fn a_session_is_kept_together_and_a_region_goes_before_it() {
        let (a, b, c) = (id("a"), id("b"), id("c"));
        let all = || {
            [
                candidate(&a, 0, 100),
                Candidate { members: 3, ..candidate(&b, 90, 100) },
                Candidate { members: 3, ..candidate(&c, 80, 100) },
            ]
        };
        assert_eq!(choose(all()), Some(&c));
        let far = all().map(|one| Candidate { distance: if *one.server == a { 900 } else { 1000 }, ..one });
        assert_eq!(choose(far), Some(&a));
    }
}
