//! A snapshot of which some parts have come.

use super::super::ids::NodeId;
use super::{Attachment, Snapshot};

/// The parts so far of one list, from one neighbour.
#[derive(Debug, Clone)]
pub(super) struct Partial {
    first: Snapshot,
    next: u32,
}

/// What a part makes of the parts before it.
pub(super) enum Assembled {
    Whole(Vec<Attachment>),
    Part(Partial),
}

impl Partial {
    /// None when `part` neither begins a list nor follows on `before`: a later part of what was given up.
    pub(super) fn add(before: Option<Self>, part: Snapshot) -> Option<Assembled> {
        let partial = match before {
            _ if part.part == 0 => Self { first: part, next: 1 },
            Some(mut partial) if partial.goes_on_with(&part) => {
                partial.next += 1;
                partial.first.attachments.extend(part.attachments);
                partial
            }
            _ => return None,
        };
        let whole = partial.next >= partial.first.parts;
        Some(if whole { Assembled::Whole(partial.first.attachments) } else { Assembled::Part(partial) })
    }

    fn goes_on_with(&self, part: &Snapshot) -> bool {
        let list = |snapshot: &Snapshot| (snapshot.incarnation, snapshot.number, snapshot.parts);
        self.next == part.part && list(&self.first) == list(part)
    }

    pub(super) fn is_of(&self, server: &NodeId) -> bool {
        self.first.server == *server
    }
}
