//! Which server somebody is offered.

use super::ids::NodeId;
use super::topology::Load;

/// A server that takes connections: it lives, does not drain, is not full, and has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    pub server: &'a NodeId,
    /// With those that were offered it and have not come yet.
    pub load: Load,
    /// From the region that was asked for, in microseconds; 0 within it, and where none was. The highest number where no
    /// way leads.
    pub distance: u64,
    /// Members of the session that was named which are attached there.
    pub members: u64,
}

/// The nearest; among these that with most of the session; among these the least loaded; the lowest id of the rest.
pub fn choose<'a>(candidates: impl IntoIterator<Item = Candidate<'a>>) -> Option<&'a NodeId> {
    let best = candidates.into_iter().min_by(|one, other| {
        let nearer = one.distance.cmp(&other.distance);
        let fuller = |of: &Candidate<'_>, by: &Candidate<'_>| {
            u128::from(of.load.connections) * u128::from(by.load.max_connections)
        };
        nearer
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
        Candidate { server, load: Load { connections, max_connections }, distance: 0, members: 0 }
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
