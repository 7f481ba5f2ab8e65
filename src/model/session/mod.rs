//! A session: a named group of devices, as an immutable value.
//!
//! Owns who is a member under which face, who hears whom, and that the real id of an anonymous member never gets out.
//! Every operation takes a session and gives another one with a [`Change`]: what to write, whom to tell, what to
//! answer. The home of the session applies them one after the other, makes [`Change::records`] durable, publishes the
//! new value, and sends [`Change::notice`] to its [`Session::audience`]; the data path only reads.
//!
//! Invariants:
//! - Real ids of members, anonymous ids, and ids of those who revealed themselves are all distinct: one table holds
//!   them all, and an id in it means one member.
//! - Members are kept in the order in which they joined.
//! - [`Session::version`] grows with every change and never otherwise.
//! - No view, notice or refusal contains the real id of an anonymous member, but for what itself asks and what the
//!   requester has named. An answer gives both ids only to the member, to an app, and to the owner who gave the mask.
//!
//! Who asks for an id that is a real one of a member to be its own mask, or invites it, can tell that it is taken,
//! though not by whom: that is the price of distinct ids.
//!
//! Leaves to others: where sessions are kept, the order of messages in them, and who is online.

use crate::model::keyed::HashSet;

mod change;
mod chunked;
mod copies;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod laws;
mod member;
mod merge;
#[cfg(test)]
mod parted;
mod rules;
mod view;

use std::fmt;
use std::sync::Arc;

use chunked::{Chunked, Keyed};

pub use self::change::{Change, Draft, Join, Mask, Naming, Notice, Record};
pub use self::copies::{Absorbed, Delta, Horizon, Scribe, absorb};
pub use self::member::{Member, Pair, Shown, Version};
pub use self::merge::Merged;
pub use self::rules::{MAX_MEMBERS, Options, Requester, Role, SessionType, Stored, window};
pub use self::view::{Info, Presence, PresenceView};
use super::ids::{NodeId, SessionId};

/// See the module's header. Cheap to clone: a copy shares all but what then changes.
#[derive(Clone)]
pub struct Session {
    id: SessionId,
    version: Version,
    /// What this copy contains.
    horizon: Horizon,
    /// Who makes the changes of this copy.
    scribe: Scribe,
    options: Arc<Options>,
    members: Chunked<Member>,
    names: Chunked<Name>,
}

/// An id that stands for a member in this session, and for which one.
#[derive(Clone)]
struct Name {
    id: NodeId,
    joined: Version,
    sort: NameSort,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NameSort {
    Real,
    /// The anonymous id, or the one it had before it revealed itself.
    Mask,
}

impl Keyed for Name {
    type Key = str;
    fn key(&self) -> &str {
        self.id.as_str()
    }
}

/// The sender is no member: answered with `SESSION_UNAUTHORIZED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("only members speak in a session")]
pub struct Unauthorized;

/// Why a private message has nowhere to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    #[error(transparent)]
    Unauthorized(#[from] Unauthorized),
    /// Nobody is shown by that id, or the sender may not write to that member. Nothing distinguishes a real id of an
    /// anonymous member from an id that does not exist.
    #[error("the session shows no such member")]
    Unknown,
}

/// Records that are of no session. Names no member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the records of session {session} contradict each other: one device is there twice")]
pub struct Damaged {
    pub session: SessionId,
}

impl Session {
    /// From the store, or from another server; `members` in any order.
    ///
    /// Of two records that have a place or an id in common the older is a remnant: a crash has cut short what took its
    /// place. It is left out; where another server has changed it, what that server has done since is taken from it anew.
    ///
    /// Errors: when one device has two records.
    pub fn load(stored: Stored, members: impl IntoIterator<Item = Member>, scribe: Scribe) -> Result<Self, Damaged> {
        let mut members: Vec<Member> = members.into_iter().collect();
        let mut session = Self::empty(stored, scribe);
        let known = session.horizon.clone();
        for member in &members {
            // The record of a member is written without that of the session, which may be older.
            session.version = session.version.max(member.changed);
            session.horizon.note(&member.scribe, member.changed);
        }
        members.sort_by_key(Member::joined);
        let bare = session.clone();
        if members.iter().all(|member| session.put(member.clone())) {
            return Ok(session);
        }
        let mut nodes = HashSet::default();
        if !members.iter().all(|member| nodes.insert(member.node.clone())) {
            return Err(Damaged { session: session.id });
        }
        let mut session = bare;
        members.sort_by(|one, other| (other.changed, &other.scribe).cmp(&(one.changed, &one.scribe)));
        let (mut places, mut names) = (HashSet::default(), HashSet::default());
        members.retain(|member| {
            let own = [Some(&member.node), member.mask()];
            let fits = !places.contains(&member.joined) && own.iter().flatten().all(|name| !names.contains(*name));
            if fits {
                places.insert(member.joined);
                names.extend(own.into_iter().flatten().cloned());
            }
            if !fits && member.scribe != session.scribe.server {
                session.horizon.forget(&member.scribe, member.changed);
            }
            fits
        });
        session.horizon.join(&known);
        let fit = members.into_iter().all(|member| session.put(member));
        if fit { Ok(session) } else { Err(Damaged { session: session.id }) }
    }

    fn empty(stored: Stored, scribe: Scribe) -> Self {
        Self {
            id: stored.id,
            version: stored.version,
            horizon: stored.horizon,
            scribe,
            options: Arc::new(stored.options),
            members: Chunked::default(),
            names: Chunked::default(),
        }
    }

    pub fn id(&self) -> &SessionId {
        &self.id
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn horizon(&self) -> &Horizon {
        &self.horizon
    }

    /// Further changes are made by `scribe`.
    #[must_use]
    pub fn written_by(self, scribe: Scribe) -> Self {
        Self { scribe, ..self }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The record of the session without its members.
    pub fn stored(&self) -> Stored {
        let (id, horizon) = (self.id.clone(), self.horizon.clone());
        Stored { id, version: self.version, horizon, options: Options::clone(&self.options) }
    }

    /// In the order in which they joined.
    pub fn members(&self) -> impl DoubleEndedIterator<Item = &Member> {
        self.members.iter()
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// By its real id.
    pub fn member(&self, node: &NodeId) -> Option<&Member> {
        let name = self.names.get(node.as_str()).filter(|name| name.sort == NameSort::Real)?;
        self.members.get(&name.joined)
    }

    /// How a member is shown when it speaks.
    pub fn sender(&self, node: &NodeId) -> Result<Shown<'_>, Unauthorized> {
        self.member(node).map(Member::shown).ok_or(Unauthorized)
    }

    /// The id by which the others know a member.
    pub fn shown(&self, node: &NodeId) -> Option<&NodeId> {
        Some(self.member(node)?.shown().id())
    }

    /// The device behind an id that the session shows: whom a private message of `from` is for.
    ///
    /// Who revealed itself is found by its former anonymous id too: messages may be under way to it. In a game a player
    /// reaches the master and itself.
    pub fn private(&self, from: &NodeId, member: &NodeId) -> Result<&NodeId, Unreachable> {
        let from = self.member(from).ok_or(Unauthorized)?;
        let found = self.by_shown_id(member).ok_or(Unreachable::Unknown)?;
        let allowed = match self.options.master() {
            Some(master) => from.node == *master || found.node == *master || found.node == from.node,
            None => true,
        };
        if allowed { Ok(&found.node) } else { Err(Unreachable::Unknown) }
    }

    /// Who receives what `from` says to the session: all but itself, as far as the window goes; in a game, the master
    /// alone where a player speaks.
    ///
    /// Does not ask whether `from` may speak: [`Session::sender`] does. An app that is no member reaches everybody.
    pub fn recipients<'a>(&'a self, from: &NodeId) -> impl Iterator<Item = &'a Member> + use<'a> {
        let speaker = self.member(from);
        let (master, crowd) = match (speaker, self.options.master()) {
            (Some(speaker), Some(master)) if speaker.node != *master => (self.member(master), 0),
            _ => (None, usize::MAX),
        };
        let crowd = self.all_but(speaker.map(Member::joined)).take(crowd);
        master.into_iter().chain(crowd)
    }

    /// Who receives a notice: all but the member it is about, as far as the window goes, in games too.
    ///
    /// To be asked of the session that came with the notice.
    pub fn audience<'a>(&'a self, notice: &Notice) -> impl Iterator<Item = &'a NodeId> + use<'a> {
        self.all_but(notice.about).map(Member::node)
    }

    fn all_but(&self, spared: Option<Version>) -> impl Iterator<Item = &Member> {
        let window = self.options.notify_only_last_few_users.map_or(usize::MAX, |n| n.get() as usize);
        let outside = self.len().saturating_sub(window);
        self.members.iter().skip(outside).filter(move |member| Some(member.joined) != spared)
    }

    /// The member that others may call by this id.
    fn by_shown_id(&self, id: &NodeId) -> Option<&Member> {
        let name = self.names.get(id.as_str())?;
        let member = self.members.get(&name.joined)?;
        let hidden = name.sort == NameSort::Real && member.anonymous().is_some();
        (!hidden).then_some(member)
    }

    /// Whether anything in this session goes by this id.
    fn is_taken(&self, id: &NodeId) -> bool {
        self.names.get(id.as_str()).is_some()
    }

    /// The next change begins: it has a version of its own, and this copy contains it.
    fn advance(&mut self) {
        self.version = self.version.next().max(self.scribe.floor);
        self.horizon.note(&self.scribe.server, self.version);
    }

    /// Removes a member with all its names.
    fn take_out(&mut self, member: &Member) {
        self.names.remove(member.node.as_str());
        if let Some(mask) = member.mask() {
            self.names.remove(mask.as_str());
        }
        self.members.remove(&member.joined);
    }

    /// Adds a member with all its names. False, and half done, when one of them or its place is taken.
    fn put(&mut self, member: Member) -> bool {
        let name = |id: &NodeId, sort| Name { id: id.clone(), joined: member.joined, sort };
        let real = name(&member.node, NameSort::Real);
        let mask = member.mask().map(|id| name(id, NameSort::Mask));
        self.names.insert(real).is_none()
            && mask.is_none_or(|mask| self.names.insert(mask).is_none())
            && self.members.insert(member).is_none()
    }
}

/// Names no member: a line in a log must not undo anonymity.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({}, version {}, {} members)", self.id, self.version.0, self.len())
    }
}
