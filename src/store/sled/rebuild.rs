//! Copying what lives into a new generation, because `sled`'s files practically never shrink.
//!
//! The copy goes on in steps between commits, in the order of tables and keys. What a commit writes goes to the old
//! generation as always, and to the new one too where the copy has passed already. Until the new one is made current,
//! nothing depends on it: a crash, or an error, only costs the work.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::{Order, StoreError, Table, Write};
use super::directory::{Directory, Generation};
use super::engine::Engine;
use crate::model::ids::Epoch;

#[derive(Debug)]
pub(super) struct Rebuild {
    pub(super) generation: Generation,
    target: Engine,
    /// Where the copy goes on: index in [`Table::ALL`] (one past the last when done) and the first key not copied.
    table: usize,
    from: Vec<u8>,
}

impl Rebuild {
    pub(super) fn begin(directory: &Directory, generation: Generation, cache_bytes: u64) -> Result<Self, StoreError> {
        directory.remove(generation).map_err(StoreError::Unwritable)?;
        let target = Engine::open(&directory.path(generation), cache_bytes)?;
        Ok(Self { generation, target, table: 0, from: Vec::new() })
    }

    pub(super) fn is_complete(&self) -> bool {
        self.table == Table::ALL.len()
    }

    /// Copies about `budget` bytes more.
    pub(super) fn step(&mut self, source: &Engine, budget: u64) -> Result<(), StoreError> {
        let mut left = budget;
        while let Some(&table) = Table::ALL.get(self.table) {
            let (target, from) = (&self.target, &mut self.from);
            let mut failure = None;
            let mut next = None;
            source.scan(table, from, None, Order::Ascending, &mut |key, value| {
                if left == 0 {
                    next = Some(key.to_vec());
                    return ControlFlow::Break(());
                }
                left = left.saturating_sub((key.len() + value.len()).max(1) as u64);
                let key = Bytes::copy_from_slice(key);
                match target.apply(&[Write::Put { table, key, value }]) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failure = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
            if let Some(key) = next {
                *from = key;
                return Ok(());
            }
            self.table += 1;
            from.clear();
        }
        Ok(())
    }

    /// Repeats those writes of a commit that the copy would not come by any more.
    pub(super) fn follow(&self, writes: &[Write]) -> Result<(), StoreError> {
        let behind = |write: &&Write| match write {
            Write::Put { table, key, .. } | Write::Delete { table, key } => {
                let at = *table as usize;
                at < self.table || (at == self.table && key.as_ref() < self.from.as_slice())
            }
        };
        let behind: Vec<Write> = writes.iter().filter(behind).cloned().collect();
        self.target.apply(&behind)
    }

    /// The finished engine, with all of it on disk: ready to be made current.
    pub(super) fn finish(self, directory: &Directory, epoch: Epoch, commits: u64) -> Result<Engine, StoreError> {
        self.target.set_about(epoch, commits)?;
        directory.sync(self.generation).map_err(StoreError::Unwritable)?;
        Ok(self.target)
    }
}
