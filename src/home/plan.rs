//! What each command means for the inboxes and records, and what it writes: the committer's head.

use super::boxes::lose;
use super::committer::{Answer, Committer, Held, Stored};
use super::profile::{Profile, Trimmed};
use super::queue::{Asker, Command};
use super::record::Record;
use super::{keys, moving};
use crate::metrics;
use crate::model::custody::Outcome;
use crate::model::ids::{ClientId, Millis, NodeId};
use crate::model::inbox::Appended;
use crate::model::lane::Why;
use crate::store::{Done, StoreError, Table, Write};
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
            Command::Trim { device, upto, done } => {
                let store = self.store.epoch();
                let (gone, pending, epoch) = self.boxes.change(&*self.store, &device, now, |mailbox| {
                    let epoch = mailbox.inbox.head().epoch(store);
                    let gone = if upto.is_of(epoch) { mailbox.inbox.trim(upto.seq) } else { Vec::new() };
                    (gone, mailbox.inbox.len() as u64, epoch)
                })?;
                let trimmed = Trimmed { gone: gone.len() as u64, pending, epoch };
                writes.extend(
                    gone.iter().map(|seq| Write::Delete { table: Table::Inbox, key: keys::envelope(&device, *seq) }),
                );
                answers.extend(done.map(|done| Answer::Trimmed(done, trimmed)));
                Ok(())
            }
            Command::Register { device, client, pending } => {
                let (count, owed) = self.register(&device, client, now, writes)?;
                let then: Done = Box::new(move |result| {
                    if let Some(pending) = pending {
                        pending(result.map(|()| count));
                    }
                });
                answers.push(Answer::Copied(owed, then));
                Ok(())
            }
            Command::Tokens { device, change, done } => {
                let owed = self.tokens(&device, change, now, writes)?;
                answers.push(Answer::Copied(owed, done));
                Ok(())
            }
            Command::Copies { copies, done } => {
                copies.into_iter().try_for_each(|copy| self.take_copy(copy, now, writes))?;
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
            Command::Adopt { part, done } => {
                let device = part.device().clone();
                let first = self.adopt(*part, now, writes)?;
                answers.push(Answer::Adopted(device, first, done));
                Ok(())
            }
            Command::Moved { part, done } => {
                self.moved(&part, now, writes)?;
                answers.push(Answer::Done(done));
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
        let found = moving::devices_now(&*self.store, client);
        for device in found.iter().flatten().filter(|device| !except.contains(device)) {
            self.view.offer(device, item.clone());
        }
        if let Some(ticket) = &item.ticket {
            match &found {
                Ok(devices) => {
                    if devices.is_empty() && except.len() <= 1 {
                        self.view.tell_unknown(ticket, Nobody::Client(client));
                    }
                    self.view.release(ticket);
                }
                Err(_) => self.view.settle(ticket, Outcome::Failed),
            }
        }
        found.map(drop)
    }
}

/// What is written of an envelope.
fn record_of(item: &Parcel, stored: Millis) -> Record {
    Record { key: item.key, stored, expires: item.expires, keep: item.keep.clone(), text: item.encoded.text() }
}
