//! Who is there: members of sessions with presence are told when a device comes to the mesh or leaves it.
//!
//! Told by the server that acts as the session's home, wherever the device is attached; several edges and several servers
//! of a device count once. Invariant: whoever changes what is known of places or ways asks before ([`Node::presence`])
//! and after ([`Node::tell_changes`]).

use super::Node;
use crate::model::ids::NodeId;
use crate::model::session::Presence;
use crate::view::{Acting, Published, fresh_id};

/// Devices that somebody watches, and whether each was present.
#[must_use]
pub(super) struct Was(Vec<(NodeId, bool)>);

impl Node {
    /// Of these devices those that are watched, as they are now.
    pub(super) fn presence<'a>(&self, devices: impl Iterator<Item = &'a NodeId>) -> Was {
        let watched = devices.filter(|device| self.view.sessions.is_watched(device));
        Was(watched.map(|device| (device.clone(), self.view.is_present(device))).collect())
    }

    /// Tells of those that have come or gone; those that have come.
    pub(super) fn tell_changes(&self, Was(was): Was) -> Vec<NodeId> {
        let mut came = Vec::new();
        for (device, was) in was {
            let is = self.view.is_present(&device);
            if is != was {
                self.tell_presence(&device, if is { Presence::Online } else { Presence::Offline });
            }
            if is && !was {
                came.push(device);
            }
        }
        came
    }

    /// The sessions that are this server's to speak for.
    fn watching(&self, device: &NodeId) -> Vec<std::sync::Arc<Published>> {
        let mut sessions = self.view.sessions.watching(device);
        sessions.retain(|session| self.view.mesh.acting(session.current().id().as_str()) == Acting::Here);
        sessions
    }

    /// Members of the device's sessions with presence hear that it has come or gone.
    pub(super) fn tell_presence(&self, device: &NodeId, presence: Presence) {
        for published in self.watching(device) {
            let session = published.current();
            if let Some(notice) = session.presence_notice(device, presence) {
                self.view.announce(session.id(), &notice, &fresh_id());
            }
        }
    }

    /// A device that has attached hears who else is there.
    pub(super) fn welcome(&self, device: &NodeId) {
        for published in self.watching(device) {
            self.view.show_present(published.current().id(), device);
        }
    }
}
