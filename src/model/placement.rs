//! Which server is the home of an id, and which is its deputy.
//!
//! Rendezvous hashing: each member is weighed against the id, the heaviest is the home, the next the deputy. One member
//! more or less therefore moves only the ids that are its own. Pins go before weights.

use std::cmp::Reverse;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::ids::NodeId;

/// Ids that the config gives to a server: those of the prefix, or those of the prefix and a number in the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub prefix: String,
    /// First and last.
    pub range: Option<(u64, u64)>,
    pub server: NodeId,
}

impl Pin {
    fn holds(&self, id: &str) -> bool {
        let Some(rest) = id.strip_prefix(self.prefix.as_str()) else { return false };
        let Some((first, last)) = self.range else { return true };
        // `parse` alone would take a sign.
        let digits = rest.bytes().all(|byte| byte.is_ascii_digit());
        digits && rest.parse().is_ok_and(|number: u64| (first..=last).contains(&number))
    }
}

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
