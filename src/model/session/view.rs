//! What a session shows to those who may see it: information and presence, as values to be serialised.

use std::num::NonZeroU32;

use serde::Serialize;

use super::rules::Act;
use super::{Member, Notice, Pair, Requester, Session, Version};
use crate::model::codes::{Code, Refusal, kind};
use crate::model::ids::{Millis, NodeId, SessionId};

/// Row A45. Members are named as the session shows them, to everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Info<'a> {
    pub session_id: &'a SessionId,
    /// The owner as the session shows it; absent where it is no member, except for itself and for apps: it may have
    /// been here behind a mask.
    pub node_id: Option<&'a NodeId>,
    pub created_at: Millis,
    /// 0 normal, 1 game.
    pub session_type: u8,
    /// As for the owner.
    pub session_game_master_node_id: Option<&'a NodeId>,
    /// `null`: all.
    pub notify_only_last_few_users: Option<NonZeroU32>,
    pub anyone_can_join: bool,
    pub presence: bool,
    pub version: Version,
    /// In the order in which they joined.
    pub node_ids: Vec<&'a NodeId>,
    /// The requester's own ids.
    pub current_node_info: Pair,
}

/// Who of a session is online, by the ids that it shows, in the order in which they joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PresenceView<'a> {
    pub session_id: &'a SessionId,
    pub online: Vec<&'a NodeId>,
    pub offline: Vec<&'a NodeId>,
}

/// What has become of a member's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Online,
    Offline,
}

impl Session {
    /// Errors: `forbidden` for who is neither member nor owner nor app.
    pub fn info(&self, by: &Requester) -> Result<Info<'_>, Refusal> {
        self.authorize(by, Act::Look)?;
        let options = self.options();
        let current = self.member(&by.node).map(Member::pair);
        Ok(Info {
            session_id: self.id(),
            node_id: self.office(&options.owner, by),
            created_at: options.created_at,
            session_type: options.session_type.number(),
            session_game_master_node_id: options.master().and_then(|master| self.office(master, by)),
            notify_only_last_few_users: options.notify_only_last_few_users,
            anyone_can_join: options.anyone_can_join,
            presence: options.presence,
            version: self.version(),
            node_ids: self.members().map(|member| member.shown().id()).collect(),
            current_node_info: current.unwrap_or_else(|| Pair { node: by.node.clone(), anonymous: None }),
        })
    }

    /// Who is online, for a member that asks or has just come.
    ///
    /// Errors: `forbidden` as for [`Session::info`]; `conflict` for a session created without presence.
    pub fn presence(&self, by: &Requester, is_online: impl Fn(&NodeId) -> bool) -> Result<PresenceView<'_>, Refusal> {
        self.authorize(by, Act::Look)?;
        if !self.options().presence {
            return Err(Refusal::new(Code::Conflict, "this session was created without presence"));
        }
        let (online, offline): (Vec<_>, Vec<_>) = self.members().partition(|member| is_online(member.node()));
        Ok(PresenceView { session_id: self.id(), online: shown_ids(online), offline: shown_ids(offline) })
    }

    /// What the others are told when a member comes online or goes; `None` where nobody asked for it.
    pub fn presence_notice(&self, node: &NodeId, presence: Presence) -> Option<Notice> {
        let kind = match presence {
            Presence::Online => kind::ONLINE,
            Presence::Offline => kind::OFFLINE,
        };
        self.member(node).filter(|_| self.options().presence).map(|member| member.notice(kind))
    }

    /// The holder of an office as `by` may know it.
    fn office<'a>(&'a self, holder: &'a NodeId, by: &Requester) -> Option<&'a NodeId> {
        self.shown(holder).or_else(|| (*holder == by.node || by.is_trusted()).then_some(holder))
    }
}

fn shown_ids(members: Vec<&Member>) -> Vec<&NodeId> {
    members.into_iter().map(|member| member.shown().id()).collect()
}
