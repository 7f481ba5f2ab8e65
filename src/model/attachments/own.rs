//! This server's list, which nobody else changes.

use super::super::ids::{Incarnation, NodeId};
use super::{Attachment, Change, Delta, Digest, Entry, Snapshot, snapshots};
use crate::model::keyed::HashMap;

/// Which devices are attached here, each once, whatever number of edges it has.
#[derive(Debug, Clone)]
pub struct Own {
    server: NodeId,
    incarnation: Incarnation,
    number: u64,
    entries: HashMap<NodeId, Entry>,
}

impl Own {
    /// Nobody is attached yet.
    pub fn new(server: NodeId, incarnation: Incarnation) -> Self {
        Self { server, incarnation, number: 0, entries: HashMap::default() }
    }

    /// Begins the list anew in another incarnation, with who is attached; the answer is for all neighbours.
    pub fn begin(&mut self, incarnation: Incarnation) -> Delta {
        self.incarnation = incarnation;
        self.number = 0;
        let changes = self.attachments().map(Change::Attached).collect();
        self.changed(changes)
    }

    /// A device has its first edge here, or a newer one.
    pub fn attach(&mut self, attachment: Attachment) -> Delta {
        let Attachment { device, client, number } = attachment.clone();
        self.entries.insert(device, Entry { client, number });
        self.changed(vec![Change::Attached(attachment)])
    }

    /// A device has no edge here any more; none when it had none before.
    pub fn detach(&mut self, device: &NodeId) -> Option<Delta> {
        let (device, _) = self.entries.remove_entry(device)?;
        Some(self.changed(vec![Change::Detached(device)]))
    }

    fn changed(&mut self, changes: Vec<Change>) -> Delta {
        let from = self.number;
        self.number += changes.len() as u64;
        Delta { server: self.server.clone(), incarnation: self.incarnation, from, changes }
    }

    pub fn digest(&self) -> Digest {
        Digest { server: self.server.clone(), incarnation: self.incarnation, number: self.number }
    }

    /// Whether somebody with these digests lacks something of this list.
    pub fn is_news(&self, theirs: &[Digest]) -> bool {
        let known = theirs.iter().find(|digest| digest.server == self.server);
        known.is_none_or(|digest| digest.version() < self.digest().version())
    }

    /// Whether somebody knows more of this list than there is: another life of this server has said it.
    pub fn is_ghost(&self, theirs: &[Digest]) -> bool {
        let known = theirs.iter().find(|digest| digest.server == self.server);
        known.is_some_and(|digest| digest.version() > self.digest().version())
    }

    pub fn snapshot(&self) -> Vec<Snapshot> {
        snapshots(&self.digest(), self.attachments())
    }

    pub fn get(&self, device: &NodeId) -> Option<Attachment> {
        self.entries.get(device).map(|entry| entry.attachment(device))
    }

    pub fn attachments(&self) -> impl ExactSizeIterator<Item = Attachment> {
        self.entries.iter().map(|(device, entry)| entry.attachment(device))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
