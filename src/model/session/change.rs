//! What changes a session: create, join, leave, reveal. Each gives the new session and what follows from it.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::member::Face;
use super::rules::Act;
use super::{Horizon, MAX_MEMBERS, Member, Options, Pair, Requester, Scribe, Session, SessionType, Stored, Version};
use crate::model::codes::{Code, Refusal, kind};
use crate::model::ids::{Millis, NodeId, SessionId};

/// What follows from an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whom it was about, as far as the requester may know it.
    pub answer: Option<Pair>,
    /// What the members are told; `None` where nothing changed for them.
    pub notice: Option<Notice>,
    /// What must be durable before the change is answered; empty: nothing changed.
    pub records: Vec<Record>,
}

impl Change {
    pub fn is_unchanged(&self) -> bool {
        self.records.is_empty()
    }
}

/// A record of the store to be written or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Session(Stored),
    Member(Member),
    /// To be removed: the record of this member.
    Gone(Member),
}

/// What the members of a session are told; [`Session::audience`] says which ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// JOINED, LEFT, REVEALED, ONLINE or OFFLINE.
    pub kind: i64,
    /// The member as the others know it; for REVEALED, as they knew it.
    pub src_id: NodeId,
    /// For REVEALED: the real id.
    pub payload: Option<NodeId>,
    /// Who is not told; by its place, so that nothing here names it.
    pub(super) about: Option<Version>,
}

/// How somebody wants to be shown. Chance comes from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mask {
    Named,
    Anonymous(NodeId),
    /// Anonymous, by an id made of this random number, from a cryptographic source: it must not be guessed.
    Random(u128),
}

/// Where the id of a new session comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Naming {
    /// The home refuses one that exists.
    Chosen(SessionId),
    /// Made of this random number, from a cryptographic source: to know the id may be all it takes to join.
    Random(u128),
}

impl Naming {
    pub fn id(&self) -> SessionId {
        match self {
            Self::Chosen(id) => id.clone(),
            Self::Random(random) => made_of(&format!("{random:032x}")),
        }
    }
}

/// A session to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    pub id: Naming,
    /// Apps only; otherwise, and by default, the requester.
    pub owner: Option<NodeId>,
    /// How a device that creates a session is shown in it: it is its first member. An app is none unless it says so
    /// in `members`.
    pub mask: Mask,
    /// Apps only: members from the start.
    pub members: Vec<(NodeId, Mask)>,
    pub session_type: SessionType,
    pub anyone_can_join: bool,
    pub presence: bool,
    pub notify_only_last_few_users: Option<NonZeroU32>,
}

/// Who is to join and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// `None`: the requester itself.
    pub node: Option<NodeId>,
    pub mask: Mask,
}

/// Who gave a member its mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Giver {
    Owner,
    /// The member itself, or an app.
    Other,
}

impl Session {
    /// A new session. A device becomes its owner and first member; an app may choose owner and members.
    ///
    /// Errors: `forbidden` for what only apps may choose, `conflict` for ids that collide and for too many members.
    pub fn create(by: &Requester, draft: Draft, now: Millis, scribe: Scribe) -> Result<(Self, Change), Refusal> {
        let chosen = !draft.members.is_empty();
        let foreign = draft.owner.as_ref().is_some_and(|owner| *owner != by.node);
        if (chosen || foreign) && !by.is_trusted() {
            return Err(Refusal::new(Code::Forbidden, "only an app chooses the owner and the first members"));
        }
        let id = draft.id.id();
        let options = Options {
            owner: draft.owner.unwrap_or_else(|| by.node.clone()),
            session_type: draft.session_type,
            anyone_can_join: draft.anyone_can_join,
            presence: draft.presence,
            notify_only_last_few_users: draft.notify_only_last_few_users,
            created_at: now,
        };
        let stored = Stored { id, version: Version::default(), horizon: Horizon::default(), options };
        let mut session = Self::empty(stored, scribe);
        session.advance();
        if !by.is_trusted() {
            session.admit(by.node.clone(), draft.mask, Giver::Owner)?;
        }
        for (node, mask) in draft.members {
            session.admit(node, mask, Giver::Other)?;
        }
        let members = session.members().cloned().map(Record::Member);
        // Last: without it the others are nothing, should a crash cut them short.
        let records = members.chain([Record::Session(session.stored())]).collect();
        let answer = session.member(&by.node).map(Member::pair);
        Ok((session, Change { answer, notice: None, records }))
    }

    /// Makes a device a member: the requester, or another one at the wish of the owner or an app.
    ///
    /// Who is a member already stays as it is, and nobody is told. An owner who invites somebody that is here behind a
    /// mask that the owner did not give it is answered without the mask.
    ///
    /// Errors: `forbidden`; `conflict` for an id that stands for a member already, and when the session is full.
    pub fn join(&self, by: &Requester, join: Join) -> Result<(Self, Change), Refusal> {
        let node = join.node.unwrap_or_else(|| by.node.clone());
        let own = node == by.node;
        self.authorize(by, if own { Act::Join } else { Act::Invite })?;
        if let Some(member) = self.member(&node) {
            let mut pair = member.pair();
            if !own && !by.is_trusted() && !member.by_owner {
                // Asked for a mask that is taken, whoever wears it gets the same answer: no guess is confirmed.
                if let Mask::Anonymous(mask) = &join.mask {
                    self.check_mask(&node, mask)?;
                }
                pair.anonymous = None;
            }
            return Ok((self.clone(), Change { answer: Some(pair), notice: None, records: Vec::new() }));
        }
        let mut session = self.clone();
        let giver = if by.node == self.options.owner { Giver::Owner } else { Giver::Other };
        let member = session.admit(node, join.mask, giver)?;
        let mut notice = member.notice(kind::JOINED);
        if !own {
            // Somebody else made it a member: it hears so, too.
            notice.about = None;
        }
        let change =
            Change { answer: Some(member.pair()), notice: Some(notice), records: vec![Record::Member(member)] };
        Ok((session, change))
    }

    /// Ends a membership: that of the requester, or of `whom` at the wish of the owner, who knows it by the id that
    /// the session shows, or of an app, which may use the real id.
    ///
    /// Errors: `forbidden` for who is no member or may not; `not_found` when the session shows no such member.
    pub fn leave(&self, by: &Requester, whom: Option<&NodeId>) -> Result<(Self, Change), Refusal> {
        let own = whom.is_none_or(|id| *id == by.node || self.shown(&by.node) == Some(id));
        self.authorize(by, if own { Act::OwnMembership } else { Act::Remove })?;
        let found = match whom {
            Some(id) if !own => self.by_shown_id(id).or_else(|| self.member(id).filter(|_| by.is_trusted())),
            _ => self.member(&by.node),
        };
        let Some(member) = found.cloned() else {
            return Err(Refusal::new(Code::NotFound, "the session shows no such member"));
        };
        let mut session = self.clone();
        session.advance();
        session.take_out(&member);
        let knows = own || by.is_trusted();
        let change = Change {
            answer: knows.then(|| member.pair()),
            notice: Some(member.notice(kind::LEFT)),
            // The version is in no member's record now, and must not go back when the session is loaded again. It says that
            // the member is gone: hence the order.
            records: vec![Record::Gone(member), Record::Session(session.stored())],
        };
        Ok((session, change))
    }

    /// Takes off the requester's mask, for good: all learn whose it was.
    ///
    /// Errors: `forbidden` for who is no member, `conflict` for who wears none.
    pub fn reveal(&self, by: &Requester) -> Result<(Self, Change), Refusal> {
        self.authorize(by, Act::OwnMembership)?;
        let Some((member, mask)) = self.member(&by.node).and_then(|m| Some((m, m.anonymous()?))) else {
            return Err(Refusal::new(Code::Conflict, "this member is not anonymous: there is nothing to reveal"));
        };
        let mut session = self.clone();
        session.advance();
        let (face, changed, scribe) = (Face::Revealed(mask.clone()), session.version, session.scribe.server.clone());
        let revealed = Member { face, changed, scribe, ..member.clone() };
        session.members.insert(revealed.clone());
        let notice = Notice { payload: Some(member.node.clone()), ..member.notice(kind::REVEALED) };
        // The former record is gone, and with it the word of who wrote it: the horizon is written, too.
        let answer = Some(revealed.pair());
        let records = vec![Record::Member(revealed), Record::Session(session.stored())];
        Ok((session, Change { answer, notice: Some(notice), records }))
    }

    /// Adds somebody who is no member yet, as one change. Leaves a half-changed session after an error.
    fn admit(&mut self, node: NodeId, mask: Mask, giver: Giver) -> Result<Member, Refusal> {
        if self.len() >= MAX_MEMBERS {
            return Err(Refusal::new(Code::Conflict, format!("a session has at most {MAX_MEMBERS} members")));
        }
        if self.is_taken(&node) {
            return Err(taken(&node));
        }
        let face = match mask {
            Mask::Named => Face::Named,
            Mask::Anonymous(id) => Face::Anonymous(id),
            Mask::Random(random) => Face::Anonymous(made_of(&format!("anonymous_{random:032x}"))),
        };
        if let Face::Anonymous(id) = &face {
            self.check_mask(&node, id)?;
        }
        self.advance();
        let (joined, scribe) = (self.version, self.scribe.server.clone());
        let member = Member { node, face, joined, changed: joined, scribe, by_owner: giver == Giver::Owner };
        let fresh = self.put(member.clone());
        debug_assert!(fresh, "ids were checked, and the version is new");
        Ok(member)
    }

    /// Whether `node` may wear this mask. Nobody wears the id of a member, of the owner or of the master, who would be
    /// impersonated and could not join.
    fn check_mask(&self, node: &NodeId, mask: &NodeId) -> Result<(), Refusal> {
        let reserved = mask == node || *mask == self.options.owner || Some(mask) == self.options.master();
        if reserved || self.is_taken(mask) { Err(taken(mask)) } else { Ok(()) }
    }
}

impl Member {
    pub(super) fn notice(&self, kind: i64) -> Notice {
        Notice { kind, src_id: self.shown().id().clone(), payload: None, about: Some(self.joined) }
    }
}

fn taken(id: &NodeId) -> Refusal {
    Refusal::new(Code::Conflict, format!("the id {id} stands for somebody in this session: choose another one"))
}

/// An id made of chance: digits and letters, never too long.
pub(super) fn made_of<I: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> I {
    text.parse().expect("hexadecimal digits after a fixed word are in the alphabet and at most 42")
}
