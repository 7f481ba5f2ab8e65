//! What an outbox remembers of items that were written and then went into the inbox, because no acknowledgement had come:
//! one that comes late takes the copy out of the inbox again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::ids::Seq;
use super::super::seen::Key;
use super::{Class, Item, Keep, Outbox};

/// A written item whose content goes into the inbox because no acknowledgement came.
#[derive(Debug)]
pub struct Ghost {
    /// Its number among all tracked items ever written on this edge.
    pub(super) written: u64,
    key: Option<Key>,
    pub(super) keep: Arc<Keep>,
    /// Known once the inbox has it.
    pub seq: Option<Seq>,
}

impl Ghost {
    pub fn key(&self) -> Option<Key> {
        self.key
    }

    pub fn keep(&self) -> &Arc<Keep> {
        &self.keep
    }
}

impl<T> Outbox<T> {
    /// As [`Self::take_back`], on an edge that lives on: remembers what was written, so that a late pong can be honoured.
    pub fn take_back_leaving_ghosts(&mut self) -> Vec<Item<T>> {
        let reliable = self.unacked.iter().filter(|(_, item)| item.class == Class::Reliable);
        self.ghosts.extend(reliable.map(|(written, item)| Ghost {
            written: *written,
            key: item.key,
            keep: item.keep.clone(),
            seq: item.seq,
        }));
        self.take_back()
    }

    /// The inbox has given an item its place. True when its ghost waits here.
    #[must_use]
    pub fn name_ghost(&mut self, keep: &Arc<Keep>, seq: Seq) -> bool {
        let ghost = self.ghosts.iter_mut().find(|ghost| ghost.seq.is_none() && Arc::ptr_eq(&ghost.keep, keep));
        ghost.map(|ghost| ghost.seq = Some(seq)).is_some()
    }

    /// The lowest place in the inbox of what was written and never acknowledged; forgets those ghosts.
    pub fn exorcise(&mut self) -> Option<Seq> {
        let lowest = self.ghosts.drain(..).filter_map(|ghost| ghost.seq).min();
        self.calm();
        lowest
    }

    /// An item that left a ghost was not stored after all.
    pub fn drop_ghost(&mut self, keep: &Arc<Keep>) {
        self.ghosts.retain(|ghost| !Arc::ptr_eq(&ghost.keep, keep));
        self.calm();
    }

    pub fn has_ghosts(&self) -> bool {
        !self.ghosts.is_empty()
    }

    pub(super) fn lay_ghosts(&mut self, acked: impl Fn(&Ghost) -> bool) -> Vec<Ghost> {
        if self.ghosts.is_empty() {
            return Vec::new();
        }
        let (gone, rest): (VecDeque<_>, _) = std::mem::take(&mut self.ghosts).into_iter().partition(acked);
        self.ghosts = rest;
        gone.into()
    }
}
