//! Where the members of a session are: for offers that keep a session together.

use tokio::sync::oneshot;

use super::View;
use super::mesh::Acting;
use crate::model::frames::Dispatch;
use crate::model::ids::{NodeId, SessionId};
use crate::model::keyed::HashMap;

/// How many members have their newest edge at each server.
pub type Gathering = HashMap<NodeId, u64>;

impl View {
    /// As far as this server knows the session.
    pub fn gathering(&self, session: &SessionId) -> Gathering {
        let mut gathering = Gathering::default();
        let Some(session) = self.sessions.get(session) else { return gathering };
        for member in session.current().members() {
            let here = || self.devices.get(member.node().as_str()).is_some_and(|device| device.is_attached());
            let elsewhere = self.place_of(member.node()).map(|place| place.server);
            if let Some(server) = elsewhere.or_else(|| here().then(|| self.mesh.own().clone())) {
                *gathering.entry(server).or_default() += 1;
            }
        }
        gathering
    }

    /// Asks whoever acts for the session; `None` where that is this server, or nobody. It may never answer.
    pub fn ask_gathering(&self, session: &SessionId) -> Option<oneshot::Receiver<Vec<(NodeId, u64)>>> {
        let Acting::There(server) = self.mesh.acting(session.as_str()) else { return None };
        let (number, answer) = self.gatherings.ask(&server)?;
        self.mesh.send(&server, &Dispatch::Gathering { number, session: session.clone() }).ok()?;
        Some(answer)
    }

    pub(super) fn tell_gathering(&self, from: &NodeId, number: u64, session: &SessionId) {
        let servers = self.gathering(session).into_iter().collect();
        // Whoever cannot be reached stops waiting by itself.
        let _ = self.mesh.send(from, &Dispatch::GatheringIs { number, servers });
    }
}
