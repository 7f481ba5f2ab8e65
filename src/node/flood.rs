//! What neighbours announce: taken in, passed on, and answered where something is missing.
//!
//! The rules are those of [`crate::model::topology`] and [`crate::model::attachments`]; here they are carried out. Records
//! and deltas are told at once; digests and lists a little later ([`Node::pump`]), as much may come at a time.

use std::sync::Arc;

use actix::prelude::*;

use super::Node;
use super::neighbours::Digests;
use crate::link::Heard;
use crate::model::attachments::{Applied, Attachment, Change, Delta, Digest, Snapshot, Took};
use crate::model::frames::Hop;
use crate::model::ids::{Millis, NodeId};
use crate::model::topology::{Accepted, Record};
use crate::outside;
use crate::view::{now, steady};

/// The first change of our list is announced at once, and those that come within this time after it as one.
const BATCH: std::time::Duration = std::time::Duration::from_millis(4);
/// Most changes announced as one.
const MOST: usize = 1000;
/// How often this server begins another life because of a ghost, in milliseconds: two servers of one name are not to
/// outbid each other all the time.
const REBIRTH_MS: u64 = 1_000;

impl Handler<Heard> for Node {
    type Result = ();

    fn handle(&mut self, heard: Heard, ctx: &mut Self::Context) {
        // What came over a link that is replaced is told again over the new one.
        if self.neighbours.over(&heard.peer, heard.id).is_none() {
            return;
        }
        let from = &heard.peer;
        match &heard.hop {
            Hop::Record(record) => self.heard_record(from, record, ctx),
            Hop::Delta(delta) => self.heard_delta(from, delta),
            Hop::Digests(digests) => self.heard_digests(from, digests, ctx),
            Hop::Snapshot(part) => self.heard_snapshot(from, part),
            Hop::Members(members) => self.heard_members(from, members, ctx),
            Hop::Ping { .. } | Hop::Pong { .. } | Hop::Carry(_) | Hop::Acked { .. } => {}
        }
    }
}

impl Node {
    fn heard_record(&mut self, from: &NodeId, record: &Arc<Record>, ctx: &mut Context<Self>) {
        let is_ghost = record.server == self.server && record.version() > self.topology.own().version();
        if is_ghost && steady().since(self.reborn) < REBIRTH_MS {
            return;
        }
        let before = self.topology.get(&record.server).cloned();
        match self.topology.accept(record.clone(), steady()) {
            Accepted::Known => {}
            Accepted::Older(newer) => {
                if let Some(neighbour) = self.neighbours.get(from) {
                    neighbour.say(&Hop::Record(newer));
                }
            }
            Accepted::Ghost(own) => self.begin_anew(&own, ctx),
            Accepted::New => {
                self.neighbours.flood(&Hop::Record(record.clone()), Some(from));
                self.heard_epoch(record.about.epoch);
                // Whoever waits for a way that is no more, or for an earlier life, is told at once.
                if before.is_some_and(|before| is_worse(&before, record)) {
                    self.publish(ctx);
                } else {
                    self.publish_soon(ctx);
                }
            }
        }
    }

    /// Somebody remembers a later life of this server than this one: we begin one that is later still.
    fn begin_anew(&mut self, own: &Arc<Record>, ctx: &mut Context<Self>) {
        let incarnation = own.incarnation;
        log::error!(
            "others know a later life of this server ({}): its data directory was lost or put back, or another server \
             runs under this id; goes on as start {}",
            self.server,
            incarnation.0
        );
        self.reborn = steady();
        let dir = self.dir.clone();
        outside::aside_alone(move || {
            if let Err(error) = dir.keep_incarnation(incarnation.0) {
                log::error!("the number of this start cannot be kept: {error}");
            }
        });
        let delta = self.own.begin(incarnation);
        let lost = self.view.mesh.begin_anew(incarnation);
        self.neighbours.flood(&Hop::Record(own.clone()), None);
        self.pending = None;
        self.neighbours.flood(&Hop::Delta(delta.into()), None);
        self.publish(ctx);
        self.find_other_ways(&lost);
    }

    fn heard_delta(&mut self, from: &NodeId, delta: &Arc<Delta>) {
        if !self.topology.is_current(&delta.server, delta.incarnation) {
            return;
        }
        // Asked before it is applied, for whoever comes or goes.
        let was = self.presence(delta.changes.iter().map(Change::device));
        match self.directory.apply(delta) {
            Applied::Changed(devices) => {
                self.neighbours.flood(&Hop::Delta(delta.clone()), Some(from));
                self.placed(&delta.server, &devices, was);
                self.attended(delta);
            }
            Applied::Gap => self.owe_digests(from),
            Applied::Old => {}
        }
    }

    /// Devices whose home is here have come to another server: nobody need wake them.
    fn attended(&self, delta: &Delta) {
        let placement = self.view.mesh.placement();
        for change in &delta.changes {
            if let Change::Attached(Attachment { device, .. }) = change
                && placement.home(device.as_str()) == &self.server
            {
                self.push.connected(device.clone());
            }
        }
    }

    fn heard_snapshot(&mut self, from: &NodeId, part: &Arc<Snapshot>) {
        if !self.topology.is_current(&part.server, part.incarnation) {
            return;
        }
        match self.directory.apply_snapshot(from, Snapshot::clone(part)) {
            Took::Changed(devices) => {
                let was = self.presence(devices.iter());
                self.placed(&part.server, &devices, was);
                self.neighbours.owe_digests(Some(from));
                self.acquainted();
            }
            Took::Partial | Took::Old => {}
        }
    }

    fn heard_digests(&mut self, from: &NodeId, theirs: &[Digest], ctx: &mut Context<Self>) {
        if self.own.is_ghost(theirs) && steady().since(self.reborn) >= REBIRTH_MS {
            let highest = theirs.iter().filter(|digest| digest.server == self.server).map(|digest| digest.incarnation);
            let own = self.topology.own();
            let incarnation = highest.max().unwrap_or_default().max(own.incarnation);
            let ghost = Record { incarnation, number: own.number + 1, ..Record::clone(own) };
            if let Accepted::Ghost(own) = self.topology.accept(ghost, steady()) {
                self.begin_anew(&own, ctx);
            }
        }
        let own = self.own.is_news(theirs).then(|| self.server.clone());
        let owed = own.into_iter().chain(self.directory.behind(theirs)).collect();
        if self.directory.is_behind(theirs, &self.topology) {
            self.owe_digests(from);
        }
        if let Some(neighbour) = self.neighbours.get_mut(from) {
            neighbour.owed = owed;
        }
        self.exchanged = true;
        self.acquainted();
        self.pump();
    }

    fn owe_digests(&mut self, to: &NodeId) {
        if let Some(neighbour) = self.neighbours.get_mut(to) {
            neighbour.digests = Digests::Due;
        }
    }

    /// How far all lists are that we know.
    pub(super) fn digests(&self) -> Vec<Digest> {
        let mut digests = self.directory.digests();
        digests.push(self.own.digest());
        digests
    }

    /// Tells neighbours the lists that they lack, as long as they are quick to take them, and the digests that are due.
    pub(super) fn pump(&mut self) {
        let mut digests = None;
        for (_, neighbour) in self.neighbours.iter_mut() {
            while neighbour.is_calm() {
                let Some(server) = neighbour.owed.pop_front() else { break };
                let parts =
                    if server == self.server { self.own.snapshot() } else { self.directory.snapshot_of(&server) };
                parts.into_iter().for_each(|part| neighbour.say(&Hop::Snapshot(part.into())));
            }
            // Behind the lists: whoever answers with its own then has them.
            if neighbour.digests == Digests::Due && neighbour.owed.is_empty() {
                neighbour.digests = Digests::Told;
                let digests = digests.get_or_insert_with(|| {
                    let mut digests = self.directory.digests();
                    digests.push(self.own.digest());
                    Hop::Digests(digests)
                });
                neighbour.say(digests);
            }
        }
    }

    /// Our own list has changed: all are told soon.
    fn announce_delta(&mut self, delta: Delta, ctx: &mut Context<Self>) {
        match &mut self.pending {
            Some(pending) => {
                if let Err(delta) = pending.append(delta) {
                    self.flush_delta();
                    self.pending = Some(delta);
                }
            }
            None => self.pending = Some(delta),
        }
        if self.pending.as_ref().is_some_and(|pending| pending.changes.len() >= MOST) {
            self.flush_delta();
        } else if !self.flushing {
            // Whoever answers the device may be at another server, and is to find it.
            self.flush_delta();
            self.flush_later(ctx);
        }
    }

    fn flush_later(&mut self, ctx: &mut Context<Self>) {
        self.flushing = true;
        ctx.run_later(BATCH, |node, ctx| {
            node.flushing = false;
            if node.pending.is_some() {
                node.flush_delta();
                node.flush_later(ctx);
            }
        });
    }

    pub(super) fn flush_delta(&mut self) {
        if let Some(delta) = self.pending.take() {
            self.neighbours.flood(&Hop::Delta(delta.into()), None);
        }
    }

    /// A device has its newest edge here: its number. More than all that is known, and at least the clock's, for of an edge
    /// that was opened at another server just before this one nothing may be known yet.
    pub(super) fn number_for(&self, device: &NodeId) -> u64 {
        let own = self.view.devices.get(device.as_str()).and_then(|device| device.highest_number()).unwrap_or(0);
        own.max(self.view.places.highest(device.as_str())).saturating_add(1).max(now().0)
    }

    /// What this server's list says of `device` from now on.
    pub(super) fn list(&mut self, attachment: Attachment, ctx: &mut Context<Self>) {
        let delta = self.own.attach(attachment);
        self.announce_delta(delta, ctx);
    }

    /// As [`Self::list`], for a device that is listed, perhaps under another number.
    pub(super) fn relist(&mut self, device: &NodeId, number: u64, ctx: &mut Context<Self>) {
        let listed = self.own.get(device);
        if let Some(listed) = listed.filter(|listed| listed.number != number) {
            self.list(Attachment { number, ..listed }, ctx);
        }
    }

    /// Devices here whose edges have stalled, or move again, are listed so, and their lanes look where to send.
    pub(super) fn renumber(&mut self, ctx: &mut Context<Self>) {
        for device in self.view.take_renumbered() {
            if let Some(number) = device.number() {
                self.relist(device.id(), number, ctx);
            }
            self.view.look_again(device.id());
        }
    }

    pub(super) fn delist(&mut self, device: &NodeId, ctx: &mut Context<Self>) {
        if let Some(delta) = self.own.detach(device) {
            self.announce_delta(delta, ctx);
        }
    }

    /// Whether this server knows of its mesh what a neighbour could tell it.
    pub(super) fn acquainted(&self) {
        if self.exchanged
            && !self.view.mesh.routes().servers().is_empty()
            && !self.directory.lacks(&self.view.mesh.routes())
        {
            self.standing.acquaint();
        }
    }

    /// Lets those servers depart that have been unreachable for long.
    pub(super) fn expire(&mut self, now: Millis) {
        for server in self.topology.expire(now) {
            log::info!("server {server} has departed");
            self.unlist(&server);
        }
    }

    /// Nothing that the list of `server` says counts any more.
    pub(super) fn unlist(&mut self, server: &NodeId) {
        let was = self.presence(self.directory.devices_at(server));
        let devices = self.directory.forget(server);
        self.placed(server, &devices, was);
    }
}

/// Whether somebody may be waiting in vain by what was known before.
fn is_worse(before: &Record, after: &Record) -> bool {
    let has = |peer: &NodeId| after.links.iter().any(|link| link.peer == *peer);
    before.incarnation != after.incarnation || before.links.iter().any(|link| !has(&link.peer))
}
