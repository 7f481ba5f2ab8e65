//! Links that begin, are measured, and end.

use std::collections::VecDeque;
use std::time::Duration;

use actix::prelude::*;

use super::Node;
use super::neighbours::{Digests, Neighbour};
use crate::link::{Dialled, LinkDown, LinkStop, LinkUp, Measured, Stays, which_stays};
use crate::metrics;
use crate::model::codes::{Code, Refusal};
use crate::model::frames::Hop;
use crate::model::members::Meeting;

/// How long a link goes on that another one has replaced.
const OVERLAP: Duration = Duration::from_secs(1);

impl Handler<LinkUp> for Node {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, up: LinkUp, ctx: &mut Self::Context) -> Self::Result {
        let LinkUp { peer, incarnation, address: _, dialled, queue, id, stop } = up;
        let is_let_in = self.leaving.get(&peer) == Some(&incarnation)
            || self.met.get(&peer).is_some_and(|(meeting, _)| *meeting == Meeting::Same);
        if self.members.is_forgotten(&peer) && !is_let_in {
            return Err(Refusal::new(Code::Forbidden, format!("server {peer} has been forgotten")));
        }
        match self.met.get(&peer) {
            // It has answered before we said so, and so it has not joined.
            Some((Meeting::TheyJoin, _)) if dialled == Dialled::ByUs => {
                return Err(Refusal::new(Code::Conflict, "each side took the other for the one that joins; once more"));
            }
            Some((_, cluster)) if *cluster != self.cluster => {
                return Err(Refusal::new(Code::Conflict, "this server has joined another mesh meanwhile; once more"));
            }
            _ => {}
        }
        let mut cost = None;
        if let Some(old) = self.neighbours.get(&peer) {
            let stays = which_stays(&self.server, &peer, (old.incarnation, old.dialled), (incarnation, dialled));
            if stays == Stays::Old {
                return Err(Refusal::new(Code::Conflict, format!("the other link to {peer} stays")));
            }
            // Not before the other side has this one, too: it would be without any. Whoever is gone already need not be told.
            let stop = old.stop.clone();
            ctx.run_later(OVERLAP, move |_, _| stop.do_send(LinkStop));
            cost = old.cost;
        }
        log::info!("linked with {peer} (start {})", incarnation.0);
        let neighbour = Neighbour {
            id,
            incarnation,
            dialled,
            queue,
            stop,
            cost,
            clock_offset_ms: 0,
            owed: VecDeque::new(),
            digests: Digests::Told,
        };
        neighbour.say(&Hop::Members(self.members.clone().into()));
        self.topology.records().for_each(|record| neighbour.say(&Hop::Record(record.clone())));
        // What is not announced yet is told as a delta, which follows on these.
        self.flush_delta();
        neighbour.say(&Hop::Digests(self.digests()));
        self.directory.abandon(&peer);
        if self.neighbours.insert(peer, neighbour).is_some() {
            // What waited in the queue of the old one is sent again over this one.
            self.publish(ctx);
        }
        Ok(())
    }
}

impl Handler<LinkDown> for Node {
    type Result = ();

    fn handle(&mut self, down: LinkDown, ctx: &mut Self::Context) {
        if self.neighbours.over(&down.peer, down.id).is_none() {
            return;
        }
        log::info!("no longer linked with {}", down.peer);
        self.neighbours.remove(&down.peer);
        self.standing.set_clock(&down.peer, None);
        self.directory.abandon(&down.peer);
        self.announce_links();
        self.publish(ctx);
    }
}

impl Handler<Measured> for Node {
    type Result = ();

    fn handle(&mut self, measured: Measured, ctx: &mut Self::Context) {
        let Some(neighbour) = self.neighbours.over(&measured.peer, measured.id) else { return };
        neighbour.cost = Some(measured.rtt_us);
        neighbour.clock_offset_ms = measured.clock_offset_ms;
        self.standing.set_clock(&measured.peer, Some(measured.clock_offset_ms));
        metrics::LINK_CLOCK_OFFSET.with_label_values(&[measured.peer.as_str()]).set(measured.clock_offset_ms);
        if self.announce_links() {
            self.publish_soon(ctx);
        }
    }
}

impl Node {
    /// Whether there is something new in it.
    fn announce_links(&mut self) -> bool {
        let Some(record) = self.topology.set_links(self.neighbours.links()) else { return false };
        self.neighbours.flood(&Hop::Record(record), None);
        true
    }
}
