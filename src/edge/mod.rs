//! The edge: one connection of one device, an actor with its own send queue.
//!
//! [`handshake`] lets it in, [`actor`] hears what comes, [`inbound`] does what is asked, [`body`] writes what waits.

pub mod actor;
pub mod body;
pub mod handshake;
mod inbound;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::Addr;

use crate::config::Limits;
use crate::home::Homes;
use crate::home::sessions::SessionHome;
use crate::model::decide::Sender;
use crate::model::ids::NodeId;
use crate::model::lane::Replay;
use crate::model::outbox::Acks;
use crate::model::rate::Spent;
use crate::node::{Node, Standing};
use crate::view::View;

/// What every edge of this server works with.
pub struct Site {
    pub server: NodeId,
    pub view: Arc<View>,
    pub home: Homes,
    pub sessions: Addr<SessionHome>,
    pub node: Addr<Node>,
    pub standing: Arc<Standing>,
    pub limits: Limits,
    /// What is left of the rates of those who have gone a moment ago.
    pub spent: Mutex<Spent>,
}

impl Site {
    fn spent(&self) -> MutexGuard<'_, Spent> {
        // Nothing panics half way.
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who connects, and how it wants to be served.
#[derive(Debug, Clone)]
pub struct Newcomer {
    pub sender: Sender,
    pub replay: Replay,
    pub acks: Acks,
}
