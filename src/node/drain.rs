//! Going away: every device is told, gets what waits for it, and is let go; nobody is waited for beyond the deadline.
//!
//! Paced at [`PACE`] devices per second so that the servers that take them are not overrun, and faster where the deadline
//! asks for it; each is offered another server, where there is one. What a device has not acknowledged when it goes goes on
//! to it there, or is in its inbox.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::Node;
use crate::model::codes::Close;
use crate::model::ids::{Millis, NodeId};
use crate::outside::{chance_below, steady};
use crate::view::Device;
use crate::wire::notice::{GoingAway, Notice};

/// Devices let go in a second.
const PACE: u64 = 200;
/// How long a device has between being told and being closed, in milliseconds.
const GRACE_MS: u64 = 500;
/// Kept from the deadline for what happens after the last device: flushing and syncing.
const RESERVE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(50);
/// Devices spread their return over this time, in milliseconds.
const RETURN_MS: u64 = 2_000;

/// Asks the server to go away within `deadline`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Drain {
    pub deadline: Duration,
}

/// Answered when every edge has ended and a forgotten server has given away what it keeps, or the deadline is near.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Drained(pub oneshot::Sender<()>);

/// Makes an offer of another server for a device that is sent away, if there is one. Called often, on the node's thread.
type Offering = Box<dyn Fn(&NodeId) -> Option<Box<RawValue>> + Send>;

/// Gives the node what makes the offers for devices that it sends away.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Offers(pub Offering);

pub(super) struct Plan {
    began: Millis,
    allowed: Duration,
    /// Not yet told.
    waiting: VecDeque<Arc<Device>>,
    all: usize,
    told: usize,
    /// Told, and to be closed at this time.
    leaving: VecDeque<(Millis, Arc<Device>)>,
    waiters: Vec<oneshot::Sender<()>>,
}

impl Plan {
    /// How many should have been told by now.
    fn due(&self, now: Millis) -> usize {
        let passed = now.since(self.began) as f64 / 1000.0;
        // The last one must be told early enough to be closed before the time is over.
        let window = (self.allowed.saturating_sub(Duration::from_millis(2 * GRACE_MS))).as_secs_f64().max(0.001);
        let rate = (PACE as f64).max(self.all as f64 / window);
        ((passed * rate).ceil() as usize + 1).min(self.all)
    }
}

impl Handler<Offers> for Node {
    type Result = ();

    fn handle(&mut self, offers: Offers, _: &mut Self::Context) {
        self.offers = Some(offers);
    }
}

impl Handler<Drain> for Node {
    type Result = ();

    fn handle(&mut self, Drain { deadline }: Drain, ctx: &mut Self::Context) {
        if self.drain.is_some() {
            return;
        }
        self.standing.drain();
        // Nobody is sent here any more, by whatever server.
        self.announce_about(ctx);
        let mut waiting = VecDeque::new();
        self.view.devices.for_each(|device| {
            if device.is_attached() {
                waiting.push_back(device.clone());
            }
        });
        log::info!("going away: {} devices, {} s at most", waiting.len(), deadline.as_secs());
        let reserve = RESERVE.min(deadline / 2);
        self.drain = Some(Plan {
            began: steady(),
            allowed: deadline.saturating_sub(reserve),
            all: waiting.len(),
            told: 0,
            waiting,
            leaving: VecDeque::new(),
            waiters: Vec::new(),
        });
        ctx.run_interval(STEP, |node, _| node.drain_step());
    }
}

impl Handler<Drained> for Node {
    type Result = ();

    fn handle(&mut self, Drained(waiter): Drained, _: &mut Self::Context) {
        if let Some(plan) = &mut self.drain {
            plan.waiters.push(waiter);
        }
    }
}

impl Node {
    fn drain_step(&mut self) {
        let gives = self.still_gives();
        let Some(plan) = &mut self.drain else { return };
        let now = steady();
        while plan.told < plan.due(now) {
            let Some(device) = plan.waiting.pop_front() else { break };
            plan.told += 1;
            let offer = self.offers.as_ref().and_then(|Offers(offer)| offer(device.id()));
            // Those who are offered another server come there at the pace at which they are told.
            let spread = if offer.is_some() { 0 } else { RETURN_MS };
            let notice = GoingAway { reconnect_after_ms: chance_below(spread + 1), offer: offer.as_deref() }.encode();
            for connection in device.connections() {
                self.view.control(&device, connection, notice.frame().clone());
            }
            plan.leaving.push_back((now.plus(GRACE_MS), device));
        }
        while plan.leaving.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, device)) = plan.leaving.pop_front() {
                device.stop_all(Close::GOING_AWAY);
            }
        }
        let all_gone = self.standing.connections() == 0 && plan.waiting.is_empty() && !gives;
        if all_gone || now.since(plan.began) >= plan.allowed.as_millis() as u64 {
            // Whoever waited may be gone.
            plan.waiters.drain(..).for_each(|waiter| waiter.send(()).unwrap_or(()));
        }
    }
}
