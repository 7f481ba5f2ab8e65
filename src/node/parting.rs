//! A server that has been forgotten gives away what it keeps; here it finds out when that is done, and says so to all.

use actix::prelude::*;

use super::Node;
use crate::home;
use crate::model::topology::Standing;
use crate::outside;

/// How far a server is from being stopped for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// It is a member.
    Never,
    /// It has been forgotten, and keeps what is to be given away.
    Gives,
    /// It has been forgotten, and keeps nothing.
    Over,
}

impl Parting {
    pub(super) fn standing(self) -> Option<Standing> {
        match self {
            Self::Never => None,
            Self::Gives => Some(Standing::Leaving),
            Self::Over => Some(Standing::Empty),
        }
    }
}

impl Node {
    /// This server has been forgotten.
    pub(super) fn begin_parting(&mut self) {
        self.parting = Parting::Gives;
        log::error!(
            "this server, {}, has been forgotten by its mesh: it is home to nothing any more, and gives away what it keeps",
            self.server
        );
    }

    /// Looks whether there is still something to give away.
    pub(super) fn look_at_parting(&mut self, ctx: &mut Context<Self>) {
        if self.parting == Parting::Never || self.parting_look.is_some() {
            return;
        }
        let (store, members) = (self.store.clone(), self.members.clone());
        let looked = outside::aside(move || home::is_given_away(&*store, &members));
        let look = ctx.spawn(looked.into_actor(self).map(|looked, node, ctx| {
            node.parting_look = None;
            // A store that cannot be read may hold anything.
            let is_over = matches!(looked, Some(Ok(true)));
            match (node.parting, is_over) {
                (Parting::Gives, true) => {
                    log::warn!("this server, {}, has given away all that it kept: it may be stopped", node.server);
                    node.parting = Parting::Over;
                }
                (Parting::Over, false) => {
                    log::warn!(
                        "this server, {}, has been given something to keep: it gives that away too",
                        node.server
                    );
                    node.parting = Parting::Gives;
                }
                _ => return,
            }
            node.announce_about(ctx);
        }));
        self.parting_look = Some(look);
    }

    /// Whether there is something to wait for before this server ends.
    pub(super) fn still_gives(&self) -> bool {
        self.parting == Parting::Gives && !self.view.mesh.routes().servers().is_empty()
    }
}
