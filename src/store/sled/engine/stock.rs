//! What is done once, at opening: all there is is read, counted, and compared with the ledger.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::super::super::{StoreError, Table};
use super::super::ledger::{Plan, Sum};
use super::super::value::{self, Head};
use super::{Engine, Found, PLAN, failed};

impl Engine {
    /// Reads all there is, counts it, removes the chunks that no head names (a crash came between them and their head),
    /// and says whether anything is missing.
    pub(super) fn take_stock(&self) -> Result<Found, StoreError> {
        let mut sum = Sum::default();
        let mut whole = true;
        for table in Table::ALL {
            let mut expected = 0;
            for pair in &self.heads[table as usize] {
                let (key, raw) = pair.map_err(failed)?;
                self.live.fetch_add((key.len() + raw.len()) as u64, Ordering::Relaxed);
                sum = sum.with(table, &key, Head::header(&raw));
                expected += Head::decode(&raw).map_or(0, |(head, _)| u64::from(head.chunks()));
            }
            if self.sort_chunks(table)? < expected {
                whole = false;
                sum = self.remove_incomplete(table, sum)?;
            }
        }
        *self.sum.lock().unwrap_or_else(PoisonError::into_inner) = sum;
        let plan = self.about.get(PLAN).map_err(failed)?;
        let plan = plan.and_then(|raw| Plan::decode(&raw));
        whole &= self.committed()?.allows(sum, plan.as_ref());
        Ok(if whole { Found::Whole } else { Found::Holes })
    }

    /// Removes the values of which pieces are missing, so that this is found once and not at every opening.
    fn remove_incomplete(&self, table: Table, mut sum: Sum) -> Result<Sum, StoreError> {
        for pair in &self.heads[table as usize] {
            let (key, raw) = pair.map_err(failed)?;
            if self.assemble(table, &key, &raw)?.is_none() {
                self.tell_damaged(table, &key);
                self.remove(&self.heads[table as usize], &key)?;
                self.replaced(table, &key, Some(&raw))?;
                sum = sum.without(table, &key, Head::header(&raw));
            }
        }
        Ok(sum)
    }

    /// Counts those chunks that a head names, and removes the others.
    fn sort_chunks(&self, table: Table) -> Result<u64, StoreError> {
        let chunks = &self.chunks[table as usize];
        let mut named = 0;
        let mut owner: Option<(Vec<u8>, Option<Head>)> = None;
        for pair in chunks {
            let (raw, chunk) = pair.map_err(failed)?;
            self.live.fetch_add((raw.len() + chunk.len()) as u64, Ordering::Relaxed);
            let Some((key, generation, number)) = value::split_chunk_key(&raw) else {
                self.remove(chunks, &raw)?;
                continue;
            };
            if owner.as_ref().is_none_or(|(owner, _)| owner != key) {
                let head = self.heads[table as usize].get(key).map_err(failed)?;
                owner = Some((key.to_vec(), head.and_then(|raw| Head::decode(&raw).map(|(head, _)| head))));
            }
            let head = owner.as_ref().and_then(|(_, head)| *head);
            if head.is_some_and(|head| head.generation == generation && number < head.chunks()) {
                named += 1;
            } else {
                self.remove(chunks, &raw)?;
            }
        }
        Ok(named)
    }
}
