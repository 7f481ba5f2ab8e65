//! Which device is attached at which server: numbered lists, one for each server, kept in step by deltas.
//!
//! A list is of one incarnation of its server and begins empty, at 0; each change is one number. [`Own`] numbers ours,
//! [`Directory`] keeps what is known of all others. What keeps them in step:
//!
//! - A [`Delta`] is flooded: who takes it (`Changed`) passes it on; who misses something before it (`Gap`) answers the
//!   neighbour that it came from with its digests.
//! - [`Digest`]s are always of all lists that the sender knows, its own too. Who sees that the other lacks something sends
//!   snapshots of it; who sees that it lacks something itself ([`Directory::is_behind`]) answers with its own digests.
//! - A [`Snapshot`] is not flooded: who takes one (`Changed`) tells its other neighbours its digests.
//! - A list counts only for the incarnation that the server's record has: other deltas and snapshots are not applied
//!   (`Topology::is_current`). Records go before lists over each link.
//! - Whoever finds a server reachable whose list it has not ([`Directory::lacks`]) tells its neighbours its digests: when
//!   routes are published.

use super::ids::{ClientId, Incarnation, NodeId};

mod directory;
#[cfg(test)]
mod laws;
mod own;
mod partial;
pub use directory::{Applied, Directory, Place, Took};
pub use own::Own;

/// Most attachments in one part of a snapshot.
pub const MAX_PART: usize = 500;

/// One device that has an edge at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub device: NodeId,
    pub client: Option<ClientId>,
    /// Of several attachments of a device the highest number is the newest; ties go by the server's id. 0: its edges there make
    /// no progress.
    pub number: u64,
}

/// One change of a server's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Attached(Attachment),
    Detached(NodeId),
}

/// Changes of one server's list, which was at `from` and is at `from + changes.len()` after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    pub server: NodeId,
    pub incarnation: Incarnation,
    pub from: u64,
    pub changes: Vec<Change>,
}

/// A part of a server's whole list as it was at `number`; the parts of one list come in order over one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub server: NodeId,
    pub incarnation: Incarnation,
    pub number: u64,
    pub part: u32,
    /// How many parts the list has.
    pub parts: u32,
    pub attachments: Vec<Attachment>,
}

/// Which list somebody has, and how far: for finding out what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    pub server: NodeId,
    pub incarnation: Incarnation,
    pub number: u64,
}

impl Change {
    pub fn device(&self) -> &NodeId {
        match self {
            Self::Attached(attachment) => &attachment.device,
            Self::Detached(device) => device,
        }
    }
}

impl Delta {
    /// Takes up the changes that follow at once, so that both go as one; gives them back if they do not follow.
    pub fn append(&mut self, next: Self) -> Result<(), Self> {
        let follows =
            self.server == next.server && self.incarnation == next.incarnation && self.end() == Some(next.from);
        if !follows {
            return Err(next);
        }
        self.changes.extend(next.changes);
        Ok(())
    }

    /// Where the list is after it; none for a number that no list can have.
    fn end(&self) -> Option<u64> {
        self.from.checked_add(self.changes.len() as u64)
    }
}

impl Digest {
    /// The higher knows more.
    fn version(&self) -> (Incarnation, u64) {
        (self.incarnation, self.number)
    }
}

/// A device's entry in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    client: Option<ClientId>,
    number: u64,
}

/// A whole list as snapshots; one, empty, of an empty list.
fn snapshots(digest: &Digest, attachments: impl ExactSizeIterator<Item = Attachment>) -> Vec<Snapshot> {
    let parts = attachments.len().div_ceil(MAX_PART).max(1) as u32;
    let mut attachments = attachments;
    let part = |part| Snapshot {
        server: digest.server.clone(),
        incarnation: digest.incarnation,
        number: digest.number,
        part,
        parts,
        attachments: attachments.by_ref().take(MAX_PART).collect(),
    };
    (0..parts).map(part).collect()
}

impl Entry {
    fn attachment(&self, device: &NodeId) -> Attachment {
        Attachment { device: device.clone(), client: self.client.clone(), number: self.number }
    }
}
