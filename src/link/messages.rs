//! What links and the node actor say to each other. Neither knows the other's type: everything goes by `Recipient`s.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::dev::ToEnvelope;
use actix::prelude::*;
use futures_util::task::AtomicWaker;

use crate::model::codes::Refusal;
use crate::model::frames::Hop;
use crate::model::ids::{Incarnation, NodeId};
use crate::model::members::Members;
use crate::model::topology::Address;
use crate::view::LinkQueue;

/// One link of this server; never used twice within its incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// Which end of a link has opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialled {
    ByUs,
    ByThem,
}

/// What a server says of itself in the greeting, under the proof of the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// Where others may dial it; its host is empty where they may not.
    pub address: Address,
    pub cluster: [u8; 32],
    pub members: Members,
    /// It has no durable record.
    pub blank: bool,
    /// [`pin::digest`](crate::model::pin::digest) of its pins.
    pub pins: u64,
}

/// Asks the node for its own introduction as of now: to be said by the server that dials.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Introduction")]
pub struct Introduce;

/// Two servers have proved the secret to each other and meet: the node decides (`members::meet`), adopts what is to be
/// adopted, and has it on disk before it answers with its own introduction as it is then. A refusal is told to the other
/// side in its words, logged once, and the link is not made.
#[derive(Debug, Message)]
#[rtype(result = "Result<Introduction, Refusal>")]
pub struct Meet {
    pub theirs: Introduction,
}

/// A link is ready: its queue takes frames. Refused where another link to the same server is to stay (see
/// [`super::which_stays`]); where the other is to go, the node tells it so by its `stop`.
///
/// A [`LinkDown`] with the same id follows in any case in which this was answered `Ok`, exactly once, and after all else.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct LinkUp {
    pub peer: NodeId,
    pub incarnation: Incarnation,
    pub address: Address,
    pub dialled: Dialled,
    pub queue: Arc<LinkQueue>,
    pub id: LinkId,
    pub stop: Recipient<LinkStop>,
}

/// The link is gone; what its queue held has been dropped or is on its way, nobody knows which.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LinkDown {
    pub peer: NodeId,
    pub id: LinkId,
}

/// A frame that is the node's business: a record, delta, digests, snapshot or members list. Drop it when it has been
/// dealt with: a link with too many of them under way stops reading.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Heard {
    pub peer: NodeId,
    pub id: LinkId,
    pub hop: Hop,
    _underway: Underway,
}

/// A pong has come: every two seconds, and soon after [`LinkUp`].
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Measured {
    pub peer: NodeId,
    pub id: LinkId,
    /// Smoothed round trip in microseconds, at least 1.
    pub rtt_us: u32,
    /// How far the peer's clock is ahead of ours, from the quickest of the last round trips.
    pub clock_offset_ms: i64,
}

/// To the dialler: servers and where they can be dialled, the whole list as it is now. With `--links static` it does
/// nothing.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Learned(pub Vec<(NodeId, Address)>);

/// Ends a link: what waits in its queue is still written, for a moment. [`LinkDown`] comes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct LinkStop;

/// The node as links reach it.
#[derive(Clone)]
pub struct Host {
    pub introduce: Recipient<Introduce>,
    pub meet: Recipient<Meet>,
    pub up: Recipient<LinkUp>,
    pub down: Recipient<LinkDown>,
    pub heard: Recipient<Heard>,
    pub measured: Recipient<Measured>,
}

impl Host {
    pub fn of<A>(node: &Addr<A>) -> Self
    where
        A: Actor
            + Handler<Introduce>
            + Handler<Meet>
            + Handler<LinkUp>
            + Handler<LinkDown>
            + Handler<Heard>
            + Handler<Measured>,
        A::Context: ToEnvelope<A, Introduce>
            + ToEnvelope<A, Meet>
            + ToEnvelope<A, LinkUp>
            + ToEnvelope<A, LinkDown>
            + ToEnvelope<A, Heard>
            + ToEnvelope<A, Measured>,
    {
        Self {
            introduce: node.clone().recipient(),
            meet: node.clone().recipient(),
            up: node.clone().recipient(),
            down: node.clone().recipient(),
            heard: node.clone().recipient(),
            measured: node.clone().recipient(),
        }
    }
}

/// Most frames of one link that wait for the node.
const MOST_UNDERWAY: usize = 4096;

/// Counts one link's frames that the node has not dealt with.
#[derive(Debug, Default)]
pub struct Backlog {
    count: AtomicUsize,
    /// Of the link, when it has stopped reading.
    waker: AtomicWaker,
}

impl Backlog {
    /// A frame of the link `id`, for the node.
    pub fn heard(self: &Arc<Self>, peer: &NodeId, id: LinkId, hop: Hop) -> Heard {
        self.count.fetch_add(1, Ordering::Relaxed);
        Heard { peer: peer.clone(), id, hop, _underway: Underway(self.clone()) }
    }

    pub(super) fn is_over(&self) -> bool {
        self.count.load(Ordering::Acquire) >= MOST_UNDERWAY
    }

    /// Whether the link must not read on; then `task` is woken when it may.
    pub(super) fn is_full(&self, task: &std::task::Waker) -> bool {
        if !self.is_over() {
            return false;
        }
        self.waker.register(task);
        // It may have become less before the waker was there.
        self.is_over()
    }
}

#[derive(Debug)]
struct Underway(Arc<Backlog>);

impl Drop for Underway {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == MOST_UNDERWAY {
            self.0.waker.wake();
        }
    }
}
