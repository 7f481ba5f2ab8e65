//! A store that lives as long as its process: for tests, and for `--store memory`.
//!
//! Keeps every promise of the trait except the one it cannot: nothing survives the process. It can be told to fail,
//! so that those above it can be tested against a disk that does.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::{Order, Store, StoreError, Table, Usage, Write, check_sizes};
use crate::model::ids::Epoch;

/// How a store told to fail says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// As a disk that is full.
    Unwritable,
    /// As a file that cannot be read back.
    Damaged,
}

#[derive(Debug, Default)]
struct Held {
    tables: [BTreeMap<Bytes, Bytes>; Table::ALL.len()],
    live: u64,
    fault: Option<Fault>,
}

#[derive(Debug)]
pub struct MemoryStore {
    epoch: Epoch,
    held: RwLock<Held>,
}

impl MemoryStore {
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, held: RwLock::default() }
    }

    /// From now on every commit fails in this way, and changes nothing; `None` ends that. Reads go on.
    pub fn fail_commits(&self, fault: Option<Fault>) {
        self.write().fault = fault;
    }

    // A panic cannot leave a map half changed, so a poisoned lock is as good as any.
    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Put { table, key, value } => {
                self.live += (key.len() + value.len()) as u64;
                // Copied: a slice would keep alive the whole buffer that it was cut from.
                let old =
                    self.tables[*table as usize].insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                self.forget(key, old);
            }
            Write::Delete { table, key } => {
                let old = self.tables[*table as usize].remove(key);
                self.forget(key, old);
            }
        }
    }

    fn forget(&mut self, key: &Bytes, old: Option<Bytes>) {
        self.live -= old.map_or(0, |value| (key.len() + value.len()) as u64);
    }
}

impl Store for MemoryStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        check_sizes(writes)?;
        let mut held = self.write();
        match held.fault {
            Some(Fault::Unwritable) => Err(StoreError::Unwritable(std::io::ErrorKind::StorageFull.into())),
            Some(Fault::Damaged) => Err(StoreError::Damaged("told to fail".to_owned())),
            None => {
                writes.iter().for_each(|write| held.apply(write));
                Ok(())
            }
        }
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.read().tables[table as usize].get(key).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let (mut low, mut high) = (Bound::Included(from.to_vec()), Bound::Excluded(to.to_vec()));
        // One pair at a time, so that the lock is not held while `visit` runs: it may read the store itself.
        while !is_empty(&low, &high) {
            let next = {
                let held = self.read();
                let mut range = held.tables[table as usize]
                    .range::<[u8], _>((low.as_ref().map(Vec::as_slice), high.as_ref().map(Vec::as_slice)));
                let pair = match order {
                    Order::Ascending => range.next(),
                    Order::Descending => range.next_back(),
                };
                pair.map(|(key, value)| (key.clone(), value.clone()))
            };
            let Some((key, value)) = next else { break };
            if visit(&key, value).is_break() {
                break;
            }
            match order {
                Order::Ascending => low = Bound::Excluded(key.to_vec()),
                Order::Descending => high = Bound::Excluded(key.to_vec()),
            }
        }
        Ok(())
    }

    fn usage(&self) -> Usage {
        Usage { live: self.read().live, disk: 0 }
    }

    fn maintain(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// `BTreeMap::range` panics on ranges that end before they begin, and on empty ones with both ends excluded.
fn is_empty(low: &Bound<Vec<u8>>, high: &Bound<Vec<u8>>) -> bool {
    match (low, high) {
        (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::store::suite::store_suite!(|| MemoryStore::new(Epoch(7)));

    #[test]
    fn it_fails_as_told_and_recovers() {
        let store = MemoryStore::new(Epoch(7));
        let put = [Write::Put { table: Table::Inbox, key: "k".into(), value: "v".into() }];
        store.fail_commits(Some(Fault::Unwritable));
        assert!(matches!(store.commit(&put), Err(StoreError::Unwritable(_))));
        store.fail_commits(Some(Fault::Damaged));
        assert!(matches!(store.commit(&put), Err(StoreError::Damaged(_))));
        assert_eq!(store.get(Table::Inbox, b"k").unwrap(), None);
        store.fail_commits(None);
        store.commit(&put).unwrap();
        assert_eq!(store.get(Table::Inbox, b"k").unwrap(), Some("v".into()));
    }
}
