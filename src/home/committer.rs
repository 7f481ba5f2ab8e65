//! The committer: the one thread that writes to the store.
//!
//! It takes all that waits, works out what that means for the inboxes, makes it durable with one commit, and only then
//! answers: lanes and senders hear "stored" after the disk has it. While it commits, the next group gathers.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::boxes::{Boxes, DeviceRecord, MAX_TOKENS, lose, put_json};
use super::keys;
use super::profile::{Profile, Trimmed};
use super::queue::{Command, Group, Queue, TokenChange};
use super::reader::{Reads, Request};
use super::record::Record;
use super::sweep::Sweep;
use crate::metrics;
use crate::model::custody::Outcome;
use crate::model::ids::{ClientId, Millis, NodeId, Seq};
use crate::model::inbox::{Appended, Limits};
use crate::model::lane::Why;
use crate::push::Notification;
use crate::store::{Done, Order, Store, StoreError, Table, Unavailable, Write};
use crate::view::{Acquaintance, Device, Parcel, View, now};
use crate::wire::notice::Nobody;

/// Without work for this long, the committer looks after the store.
const QUIET: Duration = Duration::from_millis(500);
/// How often it removes what is too old and reports its figures, in milliseconds.
const HOUSEKEEPING_MS: u64 = 10_000;

/// Whom the committer asks to wake a device.
pub type Waker = Arc<dyn Fn(Notification) + Send + Sync>;

pub(super) struct Committer {
    pub queue: Arc<Queue>,
    pub reads: Arc<Reads>,
    pub store: Arc<dyn Store>,
    pub view: Arc<View>,
    pub limits: Limits,
    pub wake: Waker,
    pub content: Content,
    pub boxes: Boxes,
    pub sweep: Sweep,
    pub kept_house: Millis,
    pub health: Health,
}

/// Whether the last commit succeeded: a disk that is full is a line in the log, not one for each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    Bad,
}

/// Whether notifications may carry what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Hidden,
    Shown,
}

/// What is answered once the group is durable.
enum Answer {
    Appended(Box<Stored>),
    Done(Done),
    Trimmed(oneshot::Sender<Result<Trimmed, Unavailable>>, Trimmed),
    Profile(oneshot::Sender<Result<Option<Profile>, Unavailable>>, Option<Profile>),
    Pending(oneshot::Sender<Result<u64, Unavailable>>, u64),
    Tell(oneshot::Sender<u64>, u64),
    Flushed(oneshot::Sender<()>),
    Read(Request),
}

/// Whether an answer depends on the group's commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Commit,
}

struct Stored {
    device: Arc<Device>,
    item: Parcel,
    why: Why,
    seq: Option<Seq>,
    record: Option<Arc<DeviceRecord>>,
    pending: u64,
}

impl Committer {
    pub(super) fn run(mut self) {
        loop {
            match self.queue.take(QUIET) {
                Group::Commands(commands) => self.group(commands),
                Group::Quiet => self.rest(),
                Group::Closed => return,
            }
            self.keep_house();
        }
    }

    fn group(&mut self, commands: Vec<Command>) {
        let now = now();
        let mut writes = Vec::with_capacity(commands.len());
        let mut answers = Vec::with_capacity(commands.len());
        let mut needs = Vec::with_capacity(commands.len());
        for command in commands {
            let (written, answered) = (writes.len(), answers.len());
            if let Err(error) = self.plan(command, now, &mut writes, &mut answers) {
                log::error!("the store cannot be read: {error}");
            }
            needs.resize(answers.len(), Need::Nothing);
            if writes.len() > written {
                needs[answered..].fill(Need::Commit);
            }
        }
        let writes = self.with_heads(writes);
        let result = self.commit(&writes);
        if result.is_ok() {
            self.boxes.committed(now);
        } else {
            self.boxes.failed();
        }
        for (answer, need) in answers.into_iter().zip(needs) {
            // Who had nothing to write is not harmed by those who had.
            let result = if need == Need::Commit { result } else { Ok(()) };
            self.answer(answer, result);
        }
    }

    /// Heads go first: of a commit that a crash cuts short a beginning may be durable, and a head that is ahead of its
    /// envelopes does no harm, while one that is behind would give out numbers twice.
    fn with_heads(&mut self, mut writes: Vec<Write>) -> Vec<Write> {
        let mut all = Vec::new();
        self.boxes.heads(&mut all);
        all.append(&mut writes);
        all
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), Unavailable> {
        if writes.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let result = self.store.commit(writes);
        metrics::COMMIT_SECONDS.observe(began.elapsed().as_secs_f64());
        metrics::COMMIT_WRITES.observe(writes.len() as f64);
        match (&result, std::mem::replace(&mut self.health, if result.is_ok() { Health::Good } else { Health::Bad })) {
            (Err(error), Health::Good) => log::error!("nothing can be made durable now: {error}"),
            (Ok(()), Health::Bad) => log::warn!("the store takes writes again"),
            _ => {}
        }
        result.map_err(|_| {
            metrics::STORE_FAILURES.inc();
            Unavailable
        })
    }

    /// What a command means. Where the store cannot be read, its sender is told so.
    fn plan(
        &mut self,
        command: Command,
        now: Millis,
        writes: &mut Vec<Write>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), StoreError> {
        match command {
            Command::Append { device, item, why } => self.append(device, item, why, now, writes, answers),
            Command::Refuse { device, item } => {
                let stored = Stored { device, item, why: Why::Behind, seq: None, record: None, pending: 0 };
                answers.push(Answer::Appended(Box::new(stored)));
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
                answers.extend(pending.map(|pending| Answer::Pending(pending, count)));
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
                answers.push(Answer::Tell(news, lost));
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
        device: Arc<Device>,
        item: Parcel,
        why: Why,
        now: Millis,
        writes: &mut Vec<Write>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), StoreError> {
        let record = Record {
            key: item.key,
            stored: now,
            expires: item.expires,
            keep: item.keep.clone(),
            text: item.encoded.text(),
        };
        let value = record.encode();
        let entry = record.entry(value.len());
        let limits = self.limits;
        let id = device.id().clone();
        let appended = self.boxes.change(&*self.store, &id, now, |mailbox| {
            let appended = mailbox.inbox.append(entry, mailbox.limits(limits), now);
            (appended, mailbox.device.clone(), mailbox.inbox.len() as u64)
        });
        let (appended, known, pending) = match appended {
            Ok(appended) => appended,
            Err(error) => {
                let stored = Stored { device, item, why, seq: None, record: None, pending: 0 };
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
        let stored = Stored { device, item, why, seq: Some(seq), record: known, pending };
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

    fn answer(&self, answer: Answer, result: Result<(), Unavailable>) {
        match answer {
            Answer::Appended(stored) => self.appended(*stored, result),
            Answer::Done(done) => done(result),
            // Whoever asked may be gone; then nobody needs the answer.
            Answer::Trimmed(done, trimmed) => drop(done.send(result.map(|()| trimmed))),
            Answer::Profile(answer, profile) => drop(answer.send(result.map(|()| profile))),
            Answer::Pending(pending, count) => drop(pending.send(result.map(|()| count))),
            Answer::Tell(news, lost) => drop(news.send(if result.is_ok() { lost } else { 0 })),
            Answer::Flushed(done) => drop(done.send(())),
            Answer::Read(request) => self.reads.push(request),
        }
    }

    fn appended(&self, stored: Stored, result: Result<(), Unavailable>) {
        let Stored { device, item, why, seq, record, pending } = stored;
        let seq = seq.filter(|_| result.is_ok());
        self.view.appended(&device, item.key, &item.keep, seq);
        let outcome = if seq.is_some() { Outcome::Stored } else { Outcome::Failed };
        match outcome {
            Outcome::Stored => metrics::RELIABLE.stored.inc(),
            _ => metrics::RELIABLE.failed.inc(),
        }
        if seq.is_some() && why.is_away() {
            if let Some(ticket) = &item.ticket {
                let acquaintance = if record.is_some() { Acquaintance::Known } else { Acquaintance::Unknown };
                self.view.tell_offline(ticket, item.shown.as_ref().unwrap_or(device.id()), acquaintance);
            }
            if let Some(record) = record.filter(|record| !record.tokens.is_empty()) {
                (self.wake)(self.notification(&device, &item, &record, pending));
            }
        }
        for ticket in item.ticket.iter().chain(&item.repeats) {
            self.view.settle(ticket, outcome);
        }
    }

    fn notification(&self, device: &Device, item: &Parcel, record: &DeviceRecord, pending: u64) -> Notification {
        #[derive(serde::Deserialize)]
        struct Text {
            payload: Option<serde_json::Value>,
        }
        let text = (self.content == Content::Shown).then(|| serde_json::from_slice::<Text>(&item.encoded.text()).ok());
        let text = text.flatten().and_then(|text| text.payload?.as_str().map(str::to_owned));
        Notification {
            device: device.id().clone(),
            tokens: record.tokens.clone(),
            pending,
            sender: Some(item.keep.sender.clone()),
            session: item.keep.session.clone(),
            kind: item.keep.kind,
            text,
        }
    }

    fn rest(&mut self) {
        match self.store.maintain() {
            Ok(true) => log::info!("the store was rebuilt"),
            Ok(false) => {}
            Err(error) => log::error!("the store could not be rebuilt: {error}"),
        }
    }

    fn keep_house(&mut self) {
        let now = now();
        if now.since(self.kept_house) < HOUSEKEEPING_MS {
            return;
        }
        self.kept_house = now;
        let usage = self.store.usage();
        metrics::STORE_BYTES.with_label_values(&["live"]).set(usage.live as i64);
        metrics::STORE_BYTES.with_label_values(&["disk"]).set(usage.disk as i64);
        let mut writes = Vec::new();
        self.boxes.expire(&*self.store, self.limits, now, &mut writes);
        let overdue = self.sweep.step(&*self.store, self.limits, now);
        for device in overdue {
            // Loading it expires it: the rules of expiry are in one place.
            let expired = self
                .boxes
                .change(&*self.store, &device, now, |mailbox| mailbox.inbox.expire(mailbox.limits(self.limits), now));
            lose(&device, &expired.unwrap_or_default(), &mut writes);
        }
        let writes = self.with_heads(writes);
        match self.commit(&writes) {
            Ok(()) => {
                self.boxes.committed(now);
                self.boxes.forget_empty(now);
            }
            Err(Unavailable) => self.boxes.failed(),
        }
    }
}
