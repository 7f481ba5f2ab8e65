//! The store's own records, of which the modules show the rest of the house nothing.

#[path = "../../src/store/sled/ledger.rs"]
mod ledger;
#[path = "../../src/store/sled/value.rs"]
mod value;

use super::Table;
use ledger::{Committed, Plan, Sum};
use value::{Head, chunk_key, chunks, split_chunk_key};

pub fn any(data: &[u8]) {
    if let Some((head, inline)) = Head::decode(data) {
        assert!(head.chunks() as usize * value::PIECE + inline.len() >= head.len as usize);
        if head.chunks() == 0 {
            // A value that is whole in its head is written as it was.
            assert_eq!(head.encode(inline), data);
        }
        assert_eq!(Head::header(data).len() + inline.len(), data.len());
    }
    let head = Head::of(b"key", data, 7);
    let raw = head.encode(data);
    assert_eq!(Head::decode(&raw).map(|(read, _)| read), Some(head));
    assert!(head.is_of(b"key", data) && !head.is_of(b"another", data));
    assert_eq!(chunks(data).count(), head.chunks() as usize);
    if let Some((key, generation, number)) = split_chunk_key(data) {
        assert_eq!(chunk_key(key, generation, number), data);
    }
    let sum = Sum::default().with(Table::Inbox, b"key", data);
    assert_eq!(sum.without(Table::Inbox, b"key", data), Sum::default());
    let committed = Committed::decode(data);
    if let Some(committed) = committed {
        assert_eq!(committed.encode(), data);
    }
    if let Some(plan) = Plan::decode(data) {
        assert_eq!(plan.encode(), data);
        committed.unwrap_or_default().allows(Default::default(), Some(&plan));
    }
}
