//! What comes over links: taken, sent on, acknowledged.

use std::sync::PoisonError;

use super::Mesh;
use crate::metrics;
use crate::model::frames::{Carry, Dispatch, Hop, MAX_HOPS, Stop};
use crate::model::ids::NodeId;
use crate::view::{Urgency, steady};
use crate::wire::link;

impl Mesh {
    /// A frame on its way: what is for us is given to `take`, in order; the rest goes on.
    pub(in crate::view) fn carried(&self, from: &NodeId, carry: Carry, mut take: impl FnMut(&NodeId, Dispatch)) {
        let Carry { hops, origin, incarnation, stops, body } = carry;
        let mut onward = Vec::new();
        for stop in stops {
            if stop.server != self.own {
                onward.push(stop);
                continue;
            }
            let stream = self.origins.of(&origin);
            let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            if stream.is_new(incarnation, stop.generation) && self.streams.follow(&origin, stop.generation) {
                self.behind.lock().unwrap_or_else(PoisonError::into_inner).push(origin.clone());
            }
            if !stream.receive(incarnation, stop.generation, stop.number) {
                metrics::LINK_REPEATED.inc();
                continue;
            }
            match link::dispatch_of(&stop.head, body.clone()) {
                Ok(dispatch) => take(&origin, dispatch),
                Err(error) => {
                    metrics::LINK_DROPPED.with_label_values(&["unreadable"]).inc();
                    log::error!("server {origin} sends what cannot be read: {error}");
                }
            }
        }
        if !onward.is_empty() {
            self.relay(from, Carry { hops: hops + 1, origin, incarnation, stops: onward, body });
        }
    }

    fn relay(&self, from: &NodeId, carry: Carry) {
        let (routes, links) = (self.routes.load(), self.links.load());
        let mut by_hop: Vec<(&NodeId, Vec<Stop>)> = Vec::with_capacity(1);
        for stop in carry.stops {
            // Never back over the link it came by; its origin sends it again when it knows a better way.
            let next = routes.next(&stop.server).filter(|next| *next != from && carry.hops < MAX_HOPS);
            let Some(next) = next else {
                metrics::LINK_DROPPED.with_label_values(&["no way"]).inc();
                continue;
            };
            match by_hop.iter_mut().find(|(hop, _)| *hop == next) {
                Some((_, stops)) => stops.push(stop),
                None => by_hop.push((next, vec![stop])),
            }
        }
        for (next, stops) in by_hop {
            let body = carry.body.clone();
            let carry =
                Carry { hops: carry.hops, origin: carry.origin.clone(), incarnation: carry.incarnation, stops, body };
            metrics::LINK_RELAYED.inc();
            Self::queue(&links, next, &Hop::Carry(carry), Urgency::Data);
        }
    }

    /// An acknowledgement: ours, or one on its way.
    pub(in crate::view) fn acknowledged(&self, from: &NodeId, hop: Hop) {
        let Hop::Acked { hops, to, by, incarnation, generation, number } = hop else { return };
        if to == self.own {
            if incarnation == self.incarnation() {
                self.streams.acked(&by, generation, number, steady());
            }
            return;
        }
        let (routes, links) = (self.routes.load(), self.links.load());
        if let Some(next) = routes.next(&to).filter(|next| *next != from && hops < MAX_HOPS) {
            let hop = Hop::Acked { hops: hops + 1, to: to.clone(), by, incarnation, generation, number };
            Self::queue(&links, next, &hop, Urgency::Control);
        }
    }

    /// Acknowledges the streams in which at least `count` frames have come since the last time.
    pub(in crate::view) fn acknowledge(&self, count: u64) {
        let due = self.origins.due(count);
        if due.is_empty() {
            return;
        }
        let (routes, links) = (self.routes.load(), self.links.load());
        for (to, ack) in due {
            let Some(next) = routes.next(&to) else { continue };
            let hop = Hop::Acked {
                hops: 0,
                to: to.clone(),
                by: self.own.clone(),
                incarnation: ack.incarnation,
                generation: ack.generation,
                number: ack.number,
            };
            Self::queue(&links, next, &hop, Urgency::Control);
        }
    }
}
