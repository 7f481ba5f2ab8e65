//! Who may do what in a session, and what a session is made of.
//!
//! Owns the one authorisation function for all ways in, HTTP and socket alike, and the options fixed at creation.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::Session;
use super::copies::Horizon;
use super::member::Version;
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{Millis, NodeId, SessionId};

/// Most members of one session. A bound for memory and for the work of one envelope, far above what is sensible.
pub const MAX_MEMBERS: usize = 100_000;

/// What the key of a requester says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    Device,
    /// An app back end: acts for its users.
    App,
    /// An operator: may all that an app may.
    Admin,
}

/// Who asks, as the key says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    pub node: NodeId,
    pub role: Role,
}

impl Requester {
    pub(super) fn is_trusted(&self) -> bool {
        matches!(self.role, Role::App | Role::Admin)
    }
}

/// Who speaks to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionType {
    /// Everybody to everybody.
    Normal,
    /// Players to the master only, the master to all.
    Game {
        /// The real id of the master; `None`: the owner.
        master: Option<NodeId>,
    },
}

impl SessionType {
    /// From `session_type` as requests have it: `0` or `normal`, `1` or `game`. `master` counts for a game only.
    pub fn parse(word: &str, master: Option<NodeId>) -> Result<Self, Refusal> {
        match word {
            "0" | "normal" => Ok(Self::Normal),
            "1" | "game" => Ok(Self::Game { master }),
            _ => Err(Refusal::new(
                Code::BadRequest,
                format!("session_type is 0 (normal) or 1 (game), not {:?}", word.chars().take(32).collect::<String>()),
            )),
        }
    }

    /// The number that stands for it in session records.
    pub fn number(&self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Game { .. } => 1,
        }
    }
}

/// `notify_only_last_few_users` from a request: how many of the last joiners hear what is said, -1 for all.
///
/// The original raised it to 256 at least and forbade the others to speak (rows A46, A70). Here it is taken as given,
/// from 1, and bounds only who receives.
pub fn window(raw: i64) -> Result<Option<NonZeroU32>, Refusal> {
    if raw == -1 {
        return Ok(None);
    }
    let given = u32::try_from(raw).ok().and_then(NonZeroU32::new);
    given.map(Some).ok_or_else(|| {
        let message = format!("notify_only_last_few_users is -1 (all members) or a number from 1, not {raw}");
        Refusal::new(Code::BadRequest, message)
    })
}

/// What is fixed when a session is created.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    pub owner: NodeId,
    pub session_type: SessionType,
    /// Whether who knows the id may join without the owner.
    pub anyone_can_join: bool,
    /// Whether members hear of each other's coming and going online.
    pub presence: bool,
    /// Only so many of the last joiners receive; `None`: all. Everybody may speak.
    pub notify_only_last_few_users: Option<NonZeroU32>,
    pub created_at: Millis,
}

impl Options {
    /// The real id of the master of a game.
    pub(super) fn master(&self) -> Option<&NodeId> {
        match &self.session_type {
            SessionType::Normal => None,
            SessionType::Game { master } => Some(master.as_ref().unwrap_or(&self.owner)),
        }
    }
}

/// Names neither owner nor master, who may be here behind a mask.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("session_type", &self.session_type.number())
            .field("anyone_can_join", &self.anyone_can_join)
            .field("presence", &self.presence)
            .field("notify_only_last_few_users", &self.notify_only_last_few_users)
            .finish_non_exhaustive()
    }
}

/// The record of a session in the store, besides those of its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub id: SessionId,
    pub version: Version,
    pub horizon: Horizon,
    pub options: Options,
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Become a member oneself.
    Join,
    /// Make another one a member.
    Invite,
    /// Leave, or take off one's mask.
    OwnMembership,
    /// End the membership of another one.
    Remove,
    /// See who is there.
    Look,
}

impl Session {
    /// The one place that says who may do what. A refusal tells nothing about the members.
    pub(super) fn authorize(&self, by: &Requester, act: Act) -> Result<(), Refusal> {
        let rules = || by.node == self.options.owner || by.is_trusted();
        let is_member = || self.member(&by.node).is_some();
        let (allowed, otherwise) = match act {
            Act::Join => (
                self.options.anyone_can_join || rules() || is_member(),
                "this session is joined by invitation: ask its owner to add you",
            ),
            Act::Invite => (rules(), "only the owner of a session, or an app, adds others"),
            Act::OwnMembership => (is_member(), "you are not a member of this session"),
            Act::Remove => (rules(), "only the owner of a session, or an app, removes others"),
            Act::Look => (is_member() || rules(), "only members see a session"),
        };
        if allowed { Ok(()) } else { Err(Refusal::new(Code::Forbidden, otherwise)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_minus_one_or_from_one() {
        assert_eq!(window(-1), Ok(None));
        assert_eq!(window(1), Ok(NonZeroU32::new(1)));
        assert_eq!(window(255), Ok(NonZeroU32::new(255)), "not raised to 256");
        for bad in [0, -2, i64::MIN, i64::from(u32::MAX) + 1] {
            assert_eq!(window(bad).unwrap_err().code, Code::BadRequest, "{bad}");
        }
    }

    #[test]
    fn session_types_have_the_originals_numbers_and_words() {
        assert_eq!(SessionType::parse("0", None), Ok(SessionType::Normal));
        assert_eq!(SessionType::parse("game", None), Ok(SessionType::Game { master: None }));
        for text in ["0", "1"] {
            assert_eq!(SessionType::parse(text, None).unwrap().number().to_string(), text);
        }
        assert_eq!(SessionType::parse("2", None).unwrap_err().code, Code::BadRequest);
    }
}
