//! From what is announced to what the data path reads: routes, links and places.
//!
//! Order matters: the epoch of the order in which this server would number the sessions of others comes first, then the ways
//! are published, then what lay on a way that is no more is taken back (lanes, then what was
//! posted), then the homes are told, and last the members of sessions with presence.

use std::time::Duration;

use actix::prelude::*;

use super::Node;
use super::presence::Was;
use crate::link::Learned;
use crate::metrics;
use crate::model::attachments::Change;
use crate::model::frames::Hop;
use crate::model::ids::NodeId;
use crate::model::keyed::HashSet;
use crate::model::routes::Routes;
use crate::model::topology::Standing;

/// Changes that come within this time are computed and published at once.
const DEBOUNCE: Duration = Duration::from_millis(10);

impl Node {
    /// Something is better than before, or other: nobody waits for it.
    pub(super) fn publish_soon(&mut self, ctx: &mut Context<Self>) {
        if !self.publishing {
            self.publishing = true;
            ctx.run_later(DEBOUNCE, |node, ctx| {
                if node.publishing {
                    node.publish(ctx);
                }
            });
        }
    }

    /// Computes the ways anew, and tells everybody whom they concern.
    pub(super) fn publish(&mut self, ctx: &mut Context<Self>) {
        self.publishing = false;
        metrics::TOPOLOGY_RECOMPUTATIONS.inc();
        let (before, routes) = (self.view.mesh.routes(), self.topology.routes());
        let changed = changed(&before, &routes);
        let at_changed = changed.iter().flat_map(|server| self.directory.devices_at(server));
        let was = self.presence(at_changed);
        self.begin_epoch_before(&before, &routes, &changed, ctx);
        let lost = self.view.mesh.publish(routes.clone(), self.neighbours.queues());
        for server in &changed {
            // The list of an earlier life says nothing.
            let incarnation = routes.incarnation(server);
            let listed = self.directory.known_of(server).map(|(digest, _)| digest.incarnation);
            if incarnation.is_some() && listed < incarnation {
                let devices = self.directory.forget(server);
                self.place(server, &devices);
            }
        }
        self.find_other_ways(&lost);
        let gained: Vec<NodeId> = changed.into_iter().filter(|server| routes.is_reachable(server)).collect();
        for server in &gained {
            self.directory.devices_at(server).for_each(|device| self.view.look_again(device));
        }
        self.homes.reachable(&gained);
        self.tell_changes(was).iter().for_each(|device| self.welcome(device));
        if self.directory.lacks(&routes) {
            self.neighbours.owe_digests(None);
        }
        self.teach_dialler();
        self.acquainted();
        metrics::SERVERS.set(routes.servers().len() as i64 + 1);
    }

    /// What was on its way to servers that are lost goes by another.
    pub(super) fn find_other_ways(&self, lost: &[NodeId]) {
        if lost.is_empty() {
            return;
        }
        self.view.devices.for_each(|device| self.view.look_again(device.id()));
        self.view.post_again(lost);
        self.homes.lost(lost);
    }

    /// Servers that had lost us are taken for lost, and found again: what they were sent is sent once more, and whoever has
    /// seen it says so.
    pub(super) fn start_over(&mut self, ctx: &mut Context<Self>) {
        let lost = self.view.mesh.take_behind();
        if lost.is_empty() {
            return;
        }
        log::info!("{lost:?} had lost this server: what is not answered is sent again");
        if lost.iter().any(|server| self.members.is_member(server)) {
            // For a moment this server may act in their stead.
            self.begin_epoch(ctx);
        }
        let routes = self.view.mesh.routes();
        self.view.mesh.hide(&lost);
        self.find_other_ways(&lost);
        self.view.mesh.publish(routes.as_ref().clone(), self.neighbours.queues());
        for server in &lost {
            self.directory.devices_at(server).for_each(|device| self.view.look_again(device));
        }
        self.homes.reachable(&lost);
    }

    /// The list of `server` says something else of these devices; `was` is who of them was present before.
    pub(super) fn placed(&self, server: &NodeId, devices: &[NodeId], was: Was) {
        let changes = self.place(server, devices);
        self.tell_changes(was);
        for change in &changes {
            if let Change::Attached(attachment) = change {
                self.welcome(&attachment.device);
            }
        }
    }

    fn place(&self, server: &NodeId, devices: &[NodeId]) -> Vec<Change> {
        let change = |device: &NodeId| match self.directory.at(server, device) {
            Some(attachment) => Change::Attached(attachment),
            None => Change::Detached(device.clone()),
        };
        let changes: Vec<Change> = devices.iter().map(change).collect();
        self.view.places.apply(server, &changes);
        devices.iter().for_each(|device| self.view.look_again(device));
        metrics::ATTACHMENTS_ELSEWHERE.set(self.view.places.len() as i64);
        changes
    }

    /// The dialler is told of all servers that are to be linked with, and where they are.
    pub(super) fn teach_dialler(&mut self) {
        let Some(dialler) = &self.dialler else { return };
        let others = self.topology.records().filter(|record| record.server != self.server);
        let known: Vec<_> = others
            .filter(|record| !record.about.address.host.is_empty())
            // Whoever still gives away what it keeps is to be reached for that.
            .filter(|record| !self.members.is_forgotten(&record.server) || record.about.standing == Standing::Leaving)
            .map(|record| (record.server.clone(), record.about.address.clone()))
            .collect();
        if known != self.learned {
            self.learned.clone_from(&known);
            dialler.do_send(Learned(known));
        }
    }

    /// What this server says of itself, as it is now; told to all when it has changed.
    pub(super) fn announce_about(&mut self, ctx: &mut Context<Self>) {
        let about = self.about();
        if let Some(record) = self.topology.set_about(about) {
            self.neighbours.flood(&Hop::Record(record), None);
            self.publish_soon(ctx);
        }
    }
}

/// The servers that can be reached only before, or only now, or in another life.
fn changed(before: &Routes, after: &Routes) -> HashSet<NodeId> {
    let all = before.servers().iter().chain(after.servers());
    let reached = |routes: &Routes, server: &NodeId| routes.way(server).map(|way| way.record.incarnation);
    all.filter(|server| reached(before, server) != reached(after, server)).cloned().collect()
}
