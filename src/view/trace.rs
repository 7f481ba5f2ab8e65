//! What this server knows of one envelope, and of one device: for people who look for something.
//!
//! Each lane is held as long as its own outboxes take to be looked through, one after the other; nothing is noted on the data
//! path for this. What is in the store is not looked for here. Not for an actor's thread: it takes as long as there are
//! devices.

use super::View;
use crate::model::ids::{EnvelopeId, NodeId};
use crate::model::lane::{LaneState, Sighting};
use crate::model::outbox::Wanted;
use crate::model::seen::Key;

/// What was found of an envelope outside of lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnTheWay {
    /// With the server that acts for its session or client, or waiting for one; the session or client.
    Posted(String),
    /// It waits until it is known which devices a client has.
    Gated,
}

impl View {
    /// In the lane of each device that knows of it.
    pub fn trace(&self, sender: &NodeId, id: &EnvelopeId, mut found: impl FnMut(&NodeId, Sighting)) {
        let wanted = Wanted { key: Key::of(sender, id), sender, id };
        self.devices.for_each(|device| {
            for sighting in device.trace(wanted) {
                found(device.id(), sighting);
            }
        });
    }

    /// Before it has come to any lane.
    pub fn trace_on_the_way(&self, sender: &NodeId, id: &EnvelopeId) -> Vec<OnTheWay> {
        let wanted = Wanted { key: Key::of(sender, id), sender, id };
        let posted = self.post.trace(wanted).into_iter().map(OnTheWay::Posted);
        let gated = self.gates.holds(sender, id).then_some(OnTheWay::Gated);
        posted.chain(gated).collect()
    }

    /// How the lane of a device is; `None` where it has none here.
    pub fn lane_state(&self, device: &NodeId) -> Option<LaneState> {
        self.devices.get(device.as_str()).map(|device| device.state())
    }
}
