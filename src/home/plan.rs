//! What each command means for the inboxes and records, and what it writes: the committer's head.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::boxes::{DeviceRecord, MAX_TOKENS, lose, put_json};
use super::committer::{Answer, Committer, Held, Stored};
use super::keys;
use super::profile::{Profile, Trimmed};
use super::queue::{Asker, Command, TokenChange};
use super::record::Record;
use crate::metrics;
use crate::model::custody::Outcome;
use crate::model::ids::{ClientId, Millis, NodeId};
use crate::model::inbox::Appended;
use crate::model::lane::Why;
use crate::store::{Order, StoreError, Table, Write};
use crate::view::Parcel;
use crate::wire::notice::Nobody;

impl Committer {
    /// What a command means. Where the store cannot be read, its sender is told so.
    pub(super) fn plan(
        &mut self,
        command: Command,
        now: Millis,
        writes: &mut Vec<Write>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), StoreError> {
        match command {
            Command::Append { asker, item, why } => self.append(asker, item, why, now, writes, answers),
            Command::Refuse { asker, item } => {
                let stored = Stored { asker, item, why: Why::Behind, seq: None, record: None, pending: 0 };
                answers.push(Answer::Appended(Box::new(stored)));
                Ok(())
            }
            Command::Hold { number, device, item, why } => {
                let key = keys::held(device.id(), number);
                writes.push(Write::Put { table: Table::Held, key, value: record_of(&item, now).encode() });
                answers.push(Answer::Held(Box::new(Held { number, device, item, why })));
                Ok(())
            }
            Command::Unhold { number, device } => {
                writes.push(Write::Delete { table: Table::Held, key: keys::held(&device, number) });
                Ok(())
            }
            Command::Away { device, generation } => {
                answers.push(Answer::Away(device, generation));
                Ok(())
            }
            Command::ToClient { client, except, item } => {
                // What comes of it is done here, before what its sender sent later.
                self.queue.hand_out();
                let scanned = self.to_client(&client, &except, &item);
                for command in self.queue.given() {
                    self.plan(command, now, writes, answers)?;
                }
                scanned
            }
            Command::Remove { device, seq } => {
                if self.boxes.change(&*self.store, &device, now, |mailbox| mailbox.inbox.remove(seq))? {
                    writes.push(Write::Delete { table: Table::Inbox, key: keys::envelope(&device, seq) });
                }
                Ok(())
            }
            Command::Trim { device, to, done } => {
                let (gone, pending) = self.boxes.change(&*self.store, &device, now, |mailbox| {
                    let gone = mailbox.inbox.trim(to);
                    (gone, mailbox.inbox.len() as u64)
                })?;
                let trimmed = Trimmed { gone: gone.len() as u64, pending };
                writes.extend(
                    gone.iter().map(|seq| Write::Delete { table: Table::Inbox, key: keys::envelope(&device, *seq) }),
                );
                answers.extend(done.map(|done| Answer::Trimmed(done, trimmed)));
                Ok(())
            }
            Command::Register { device, client, pending } => {
                let count = self.register(&device, client, now, writes)?;
                answers.extend(pending.map(|pending| Answer::Count(pending, count)));
                Ok(())
            }
            Command::Tokens { device, change, done } => {
                self.tokens(&device, change, now, writes)?;
                answers.push(Answer::Done(done));
                Ok(())
            }
            Command::Profile { device, answer } => {
                let profile = Profile::of(self.boxes.get(&*self.store, &device, now)?);
                answers.push(Answer::Profile(answer, profile));
                Ok(())
            }
            Command::Tell { device, news } => {
                let lost = self.boxes.change(&*self.store, &device, now, |mailbox| mailbox.inbox.tell())?;
                answers.push(Answer::Count(news, lost));
                Ok(())
            }
            Command::Read(request) => {
                answers.push(Answer::Read(request));
                Ok(())
            }
            Command::Acknowledge { device, key } => {
                let found = self.boxes.change(&*self.store, &device, now, |mailbox| mailbox.inbox.acknowledge(key))?;
                writes
                    .extend(found.map(|seq| Write::Delete { table: Table::Inbox, key: keys::envelope(&device, seq) }));
                Ok(())
            }
            Command::Write { writes: more, done } => {
                writes.extend(more);
                answers.push(Answer::Done(done));
                Ok(())
            }
            Command::Flush(done) => {
                answers.push(Answer::Flushed(done));
                Ok(())
            }
        }
    }

    fn append(
        &mut self,
        asker: Asker,
        item: Parcel,
        why: Why,
        now: Millis,
        writes: &mut Vec<Write>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), StoreError> {
        let record = record_of(&item, now);
        let value = record.encode();
        let entry = record.entry(value.len());
        let limits = self.limits;
        let id = asker.device().clone();
        let appended = self.boxes.change(&*self.store, &id, now, |mailbox| {
            let appended = mailbox.inbox.append(entry, mailbox.limits(limits), now);
            (appended, mailbox.device.clone(), mailbox.inbox.len() as u64)
        });
        let (appended, known, pending) = match appended {
            Ok(appended) => appended,
            Err(error) => {
                let stored = Stored { asker, item, why, seq: None, record: None, pending: 0 };
                answers.push(Answer::Appended(Box::new(stored)));
                return Err(error);
            }
        };
        let seq = match appended {
            Appended::New { seq, lost } => {
                lose(&id, &lost, writes);
                writes.push(Write::Put { table: Table::Inbox, key: keys::envelope(&id, seq), value });
                seq
            }
            Appended::Duplicate { seq, lost } => {
                metrics::RELIABLE.duplicate.inc();
                lose(&id, &lost, writes);
                // Written again, so that what is said to be stored is so by a commit of its own.
                writes.push(Write::Put { table: Table::Inbox, key: keys::envelope(&id, seq), value });
                seq
            }
        };
        metrics::DIVERTED.with_label_values(&[why.word()]).inc();
        let stored = Stored { asker, item, why, seq: Some(seq), record: known, pending };
        answers.push(Answer::Appended(Box::new(stored)));
        Ok(())
    }

    /// The devices of a client that are not here; each gets its copy through its lane.
    fn to_client(&self, client: &ClientId, except: &[NodeId], item: &Parcel) -> Result<(), StoreError> {
        let (from, to) = keys::devices_of(client);
        let mut devices: Vec<NodeId> = Vec::new();
        let mut known = false;
        let scanned = self.store.scan(Table::Records, &from, &to, Order::Ascending, &mut |key, _| {
            let device = keys::last_id(key).and_then(|id| id.parse().ok());
            known |= device.is_some();
            devices.extend(device.filter(|device| !except.contains(device)));
            ControlFlow::Continue(())
        });
        let share = item.ticket.clone();
        for device in &devices {
            self.view.offer(device, item.clone());
        }
        if let Some(ticket) = share {
            if !known && except.len() <= 1 && scanned.is_ok() {
                self.view.tell_unknown(&ticket, Nobody::Client(client));
            }
            match &scanned {
                Ok(()) => self.view.release(&ticket),
                Err(_) => self.view.settle(&ticket, Outcome::Failed),
            }
        }
        scanned
    }

    fn register(
        &mut self,
        id: &NodeId,
        client: Option<ClientId>,
        now: Millis,
        writes: &mut Vec<Write>,
    ) -> Result<u64, StoreError> {
        let mailbox = self.boxes.get(&*self.store, id, now)?;
        let pending = mailbox.inbox.len() as u64;
        let before = mailbox.device.as_deref();
        if before.is_some_and(|device| device.client == client || client.is_none()) {
            return Ok(pending);
        }
        if let Some(former) = before.and_then(|device| device.client.as_ref()) {
            writes.push(Write::Delete { table: Table::Records, key: keys::device_of(former, id) });
        }
        if let Some(client) = &client {
            let key = keys::device_of(client, id);
            writes.push(Write::Put { table: Table::Records, key, value: bytes::Bytes::new() });
        }
        let record = DeviceRecord {
            client,
            tokens: before.map(|device| device.tokens.clone()).unwrap_or_default(),
            since: before.map_or(now, |device| device.since),
        };
        writes.push(put_json(keys::device(id), &record));
        mailbox.device = Some(Arc::new(record));
        Ok(pending)
    }

    fn tokens(
        &mut self,
        id: &NodeId,
        change: TokenChange,
        now: Millis,
        writes: &mut Vec<Write>,
    ) -> Result<(), StoreError> {
        let mailbox = self.boxes.get(&*self.store, id, now)?;
        let mut record = match &mailbox.device {
            Some(device) => DeviceRecord::clone(device),
            None => DeviceRecord { client: None, tokens: Vec::new(), since: now },
        };
        let before = record.tokens.clone();
        match change {
            TokenChange::Add(token) => {
                record.tokens.retain(|known| *known != token);
                record.tokens.push(token);
                let over = record.tokens.len().saturating_sub(MAX_TOKENS);
                record.tokens.drain(..over);
            }
            TokenChange::Remove(token) => record.tokens.retain(|known| *known != token),
        }
        if before != record.tokens || mailbox.device.is_none() {
            writes.push(put_json(keys::device(id), &record));
            mailbox.device = Some(Arc::new(record));
        }
        Ok(())
    }
}

/// What is written of an envelope.
fn record_of(item: &Parcel, stored: Millis) -> Record {
    Record { key: item.key, stored, expires: item.expires, keep: item.keep.clone(), text: item.encoded.text() }
}
