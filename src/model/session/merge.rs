//! Two copies of a session that were changed apart become one.
//!
//! Per member the newer record wins: the one whose change the other copy has not seen. Of a member that only one copy has,
//! the other copy's horizon says whether it has left. Where both have changed the same member, the change with the higher
//! version wins. Of two sessions that were created under one id the first keeps its options; the members of both stay.
//!
//! What each copy had made sure of may then be broken: two members in one place, or under one mask. The server that
//! merges puts that right by changes of its own: one of them gets a place at the end, and a new mask where it needs one.

use std::collections::{BTreeMap, BTreeSet};

use super::change::made_of;
use super::member::Face;
use super::{Member, Options, Record, Session};
use crate::model::ids::NodeId;

/// One copy of two.
#[derive(Debug, Clone)]
pub struct Merged {
    pub session: Session,
    /// What is to be written where the first copy is; empty: it contained the other. A crash may cut it short: a record
    /// says that its scribe's earlier changes are contained, so those who left go first, then what was changed here, of
    /// which nothing was missing (those first whom we had already), then members in the order of their changes, and the session's own record is the last.
    pub records: Vec<Record>,
}

impl Session {
    /// What both copies know. The scribe of the result is that of `self`; `fresh` gives random numbers from a cryptographic
    /// source, for masks.
    pub fn merge(&self, other: &Self, mut fresh: impl FnMut() -> u128) -> Merged {
        if self.horizon.covers(&other.horizon) {
            return Merged { session: self.clone(), records: Vec::new() };
        }
        let (ours, theirs) = (by_node(self), by_node(other));
        let nodes: BTreeSet<&NodeId> = ours.keys().chain(theirs.keys()).copied().collect();
        let members = nodes.into_iter().filter_map(|node| match (ours.get(node), theirs.get(node)) {
            (Some(our), Some(their)) => Some(self.newer(our, other, their)),
            (Some(our), None) => (!other.has_seen(our)).then_some(*our),
            (None, Some(their)) => (!self.has_seen(their)).then_some(*their),
            (None, None) => None,
        });
        let members: Vec<Member> = members.cloned().collect();
        let mut session = Self::empty(self.stored(), self.scribe.clone());
        session.horizon.join(&other.horizon);
        session.version = self.version.max(other.version);
        if !other.horizon.covers(&self.horizon) {
            session.version = session.version.next();
        }
        if first_created(other.options(), self.options()) {
            session.options = other.options.clone();
        }
        session.settle(members, &mut fresh);
        let records = self.records_to(&session);
        Merged { session, records }
    }

    /// Whether this copy contains the change that made `member` what it is.
    fn has_seen(&self, member: &Member) -> bool {
        self.horizon.holds(&member.scribe, member.changed)
    }

    fn newer<'a>(&self, our: &'a Member, other: &Self, their: &'a Member) -> &'a Member {
        match (other.has_seen(our), self.has_seen(their)) {
            (true, false) => their,
            (false, true) => our,
            _ if (our.changed, &our.scribe) >= (their.changed, &their.scribe) => our,
            _ => their,
        }
    }

    /// A copy that comes from elsewhere to a server that has none.
    #[must_use]
    pub fn adopted(self) -> Merged {
        let records = Self::empty(self.stored(), self.scribe.clone()).records_to(&self);
        Merged { session: self, records }
    }

    /// Takes the members in, in a way that keeps the invariants of a session.
    fn settle(&mut self, mut members: Vec<Member>, fresh: &mut impl FnMut() -> u128) {
        members.sort_by(|one, other| (one.joined, &one.node).cmp(&(other.joined, &other.node)));
        let mut taken: BTreeSet<NodeId> = members.iter().map(|member| member.node.clone()).collect();
        let reserved = [Some(&self.options.owner), self.options.master()];
        let reserved: Vec<NodeId> = reserved.into_iter().flatten().cloned().collect();
        let mut late = Vec::new();
        let mut last = None;
        for mut member in members {
            let worn = member.mask().is_some_and(|mask| reserved.contains(mask) || !taken.insert(mask.clone()));
            if worn {
                member.face = match member.face {
                    Face::Anonymous(_) => loop {
                        let mask: NodeId = made_of(&format!("anonymous_{:032x}", fresh()));
                        if taken.insert(mask.clone()) {
                            break Face::Anonymous(mask);
                        }
                    },
                    // All know who it is; the former mask is somebody else's now.
                    Face::Revealed(_) | Face::Named => Face::Named,
                };
            }
            if worn || last == Some(member.joined) {
                late.push(member);
            } else {
                last = Some(member.joined);
                let fits = self.put(member);
                debug_assert!(fits, "places and names were checked");
            }
        }
        for mut member in late {
            self.advance();
            (member.changed, member.scribe) = (self.version, self.scribe.server.clone());
            member.joined = self.version;
            let fits = self.put(member);
            debug_assert!(fits, "places and names were checked, and the version is new");
        }
    }

    pub(super) fn records_to(&self, after: &Self) -> Vec<Record> {
        let mut put: Vec<&Member> =
            after.members().filter(|member| self.member(&member.node) != Some(*member)).collect();
        put.sort_by_key(|member| {
            let is_ours = member.scribe == self.scribe.server;
            // A name that we have given is free before somebody comes who has it by right.
            (!is_ours, is_ours && self.member(&member.node).is_none(), member.changed)
        });
        let gone = self.members().filter(|member| after.member(&member.node).is_none());
        let put = put.into_iter().cloned().map(Record::Member);
        gone.cloned().map(Record::Gone).chain(put).chain([Record::Session(after.stored())]).collect()
    }
}

fn by_node(session: &Session) -> BTreeMap<&NodeId, &Member> {
    session.members().map(|member| (&member.node, member)).collect()
}

/// Whether `one` is of a session that was created before that of `other`; the same at all servers.
fn first_created(one: &Options, other: &Options) -> bool {
    fn order(options: &Options) -> impl Ord + '_ {
        (
            options.created_at,
            &options.owner,
            options.session_type.number(),
            options.master(),
            (options.anyone_can_join, options.presence, options.notify_only_last_few_users),
        )
    }
    order(one) < order(other)
}
