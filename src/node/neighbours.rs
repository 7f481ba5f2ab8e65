//! The servers that this one is linked with, and what each of them is yet to be told.
//!
//! Owns nothing of a link but its end of the queue. Invariant: there is at most one link to each server; what was said
//! over an earlier one may be lost, so a new one begins with everything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;

use crate::link::{Dialled, LinkId, LinkStop};
use crate::metrics;
use crate::model::frames::Hop;
use crate::model::ids::{Incarnation, NodeId};
use crate::model::keyed::HashMap;
use crate::model::topology::LinkState;
use crate::view::{LinkQueue, Urgency};
use crate::wire::link;

/// Lists are sent to a neighbour while less than this waits for it, in bytes: what is urgent is not to wait behind all of
/// them, and somebody else may tell it meanwhile.
const CALM: usize = 1 << 20;

/// Whether a neighbour is to be told soon how far our lists are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Digests {
    #[default]
    Told,
    Due,
}

/// One link.
pub(super) struct Neighbour {
    pub(super) id: LinkId,
    pub(super) incarnation: Incarnation,
    pub(super) dialled: Dialled,
    pub(super) queue: Arc<LinkQueue>,
    pub(super) stop: Recipient<LinkStop>,
    /// Smoothed round trip in microseconds; `None` before the first was measured.
    pub(super) cost: Option<u32>,
    pub(super) clock_offset_ms: i64,
    /// Servers of whose lists it lacks something.
    pub(super) owed: VecDeque<NodeId>,
    pub(super) digests: Digests,
}

impl Neighbour {
    /// Whether it takes another list now.
    pub(super) fn is_calm(&self) -> bool {
        self.queue.bytes() < CALM
    }

    pub(super) fn say(&self, hop: &Hop) {
        count(hop);
        self.push(&frame(hop));
    }

    fn push(&self, chunks: &[Bytes]) {
        // A link that takes nothing more is at its end, and the next one begins with everything.
        let _ = self.queue.push(chunks, Urgency::Control);
    }
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Neighbours(BTreeMap<NodeId, Neighbour>);

impl Neighbours {
    pub(super) fn get(&self, peer: &NodeId) -> Option<&Neighbour> {
        self.0.get(peer)
    }

    pub(super) fn get_mut(&mut self, peer: &NodeId) -> Option<&mut Neighbour> {
        self.0.get_mut(peer)
    }

    /// The link to `peer`, if it is this one.
    pub(super) fn over(&mut self, peer: &NodeId, id: LinkId) -> Option<&mut Neighbour> {
        self.0.get_mut(peer).filter(|neighbour| neighbour.id == id)
    }

    /// The link that this one replaces.
    pub(super) fn insert(&mut self, peer: NodeId, neighbour: Neighbour) -> Option<Neighbour> {
        self.0.insert(peer, neighbour)
    }

    pub(super) fn remove(&mut self, peer: &NodeId) -> Option<Neighbour> {
        self.0.remove(peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Neighbour)> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&NodeId, &mut Neighbour)> {
        self.0.iter_mut()
    }

    pub(super) fn queues(&self) -> HashMap<NodeId, Arc<LinkQueue>> {
        self.0.iter().map(|(peer, neighbour)| (peer.clone(), neighbour.queue.clone())).collect()
    }

    /// Those that have been measured.
    pub(super) fn links(&self) -> Vec<LinkState> {
        let link =
            |(peer, neighbour): (&NodeId, &Neighbour)| Some(LinkState { peer: peer.clone(), cost: neighbour.cost? });
        self.0.iter().filter_map(link).collect()
    }

    /// Tells all neighbours but `except`, which is the one that it came from.
    pub(super) fn flood(&self, hop: &Hop, except: Option<&NodeId>) {
        let mut others = self.0.iter().filter(|(peer, _)| Some(*peer) != except).peekable();
        if others.peek().is_none() {
            return;
        }
        count(hop);
        let chunks = frame(hop);
        others.for_each(|(_, neighbour)| neighbour.push(&chunks));
    }

    /// All but `except` are told soon how far our lists are.
    pub(super) fn owe_digests(&mut self, except: Option<&NodeId>) {
        let others = self.0.iter_mut().filter(|(peer, _)| Some(*peer) != except);
        others.for_each(|(_, neighbour)| neighbour.digests = Digests::Due);
    }
}

fn frame(hop: &Hop) -> Vec<Bytes> {
    let mut chunks = Vec::with_capacity(1);
    link::encode(hop, &mut chunks);
    chunks
}

fn count(hop: &Hop) {
    let what = match hop {
        Hop::Record(_) => "record",
        Hop::Delta(_) => "delta",
        Hop::Members(_) => "members",
        Hop::Digests(_) => "digests",
        Hop::Snapshot(_) => "snapshot",
        Hop::Ping { .. } | Hop::Pong { .. } | Hop::Carry(_) | Hop::Acked { .. } => return,
    };
    metrics::FLOODS.with_label_values(&[what]).inc();
}
