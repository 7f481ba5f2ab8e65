//! The committer: the one thread that writes to the store.
//!
//! It takes all that waits, works out what that means for the inboxes, makes it durable with one commit, and only then
//! answers: lanes and senders hear "stored" after the disk has it. While it commits, the next group gathers.
//! A [`Round`] is what stands between the two: it is planned, made durable, and then finished.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Homes;
use super::abroad;
use super::boxes::{Boxes, DeviceRecord, lose};
use super::copies::Owed;
use super::profile::{Profile, Trimmed};
use super::queue::{Asker, Command, Group, Queue, Then};
use super::reader::{Reads, Request};
use super::sweep::Sweep;
use crate::metrics;
use crate::model::frames::Dispatch;
use crate::model::ids::{Millis, NodeId, Seq};
use crate::model::inbox::Limits;
use crate::model::lane::{End, Kept, Why};
use crate::push::Notification;
use crate::store::{Done, Store, StoreError, Table, Unavailable, Write};
use crate::view::{Acquaintance, Device, Parcel, View, now, steady};

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
    /// Held envelopes that may be on the disk although a commit of theirs has failed.
    pub doubtful: Vec<Write>,
    pub homes: Homes,
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
pub(super) enum Answer {
    Appended(Box<Stored>),
    Done(Done),
    /// Once those who are owed copies have them, or cannot be reached.
    Copied(Vec<Owed>, Done),
    /// The first place where something was put.
    Adopted(NodeId, Option<Seq>, Then<()>),
    Held(Box<Held>),
    Away(Arc<Device>, u64),
    Trimmed(Then<Trimmed>, Trimmed),
    Profile(Then<Option<Profile>>, Option<Profile>),
    Count(Then<u64>, u64),
    Flushed(oneshot::Sender<()>),
    Read(Request),
}

/// Whether an answer depends on the group's commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Commit,
}

pub(super) struct Stored {
    pub(super) asker: Asker,
    pub(super) item: Parcel,
    pub(super) why: Why,
    pub(super) seq: Option<Seq>,
    pub(super) record: Option<Arc<DeviceRecord>>,
    pub(super) pending: u64,
}

pub(super) struct Held {
    pub(super) number: u64,
    pub(super) device: Arc<Device>,
    pub(super) item: Parcel,
    pub(super) why: Why,
}

/// What is to become durable with one commit, and what is answered then. Invariant: one round at a time, and each is
/// finished before the next one begins.
pub struct Round {
    writes: Vec<Write>,
    answers: Vec<(Answer, Need)>,
    began: Millis,
    occasion: Occasion,
}

impl Round {
    /// In the order in which they are to be applied: of a commit that a crash cuts short a beginning may be durable.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    Asked,
    Housekeeping,
}

/// What a committer that looks for work comes upon.
pub(super) enum Work {
    Round(Round),
    /// Nothing came for a while.
    Nothing,
    /// Nothing will come any more.
    Over,
}

impl Committer {
    pub(super) fn run(mut self) {
        loop {
            match self.begin(QUIET) {
                Work::Round(round) => {
                    let result = self.commit(&round);
                    self.finish(round, result);
                }
                Work::Nothing => self.rest(),
                Work::Over => return,
            }
        }
    }

    /// Plans what waits, at most after `patience`. What is planned counts for what comes next, but nobody is told of it before
    /// [`Self::finish`].
    pub(super) fn begin(&mut self, patience: Duration) -> Work {
        if let Some(round) = self.keep_house() {
            return Work::Round(round);
        }
        match self.queue.take(patience) {
            Group::Commands(commands) => Work::Round(self.group(commands)),
            Group::Quiet => Work::Nothing,
            Group::Closed => Work::Over,
        }
    }

    fn group(&mut self, commands: Vec<Command>) -> Round {
        let began = now();
        let mut writes = Vec::with_capacity(commands.len());
        let mut answers = Vec::with_capacity(commands.len());
        let mut needs = Vec::with_capacity(commands.len());
        for command in commands {
            let (written, answered) = (writes.len(), answers.len());
            if let Err(error) = self.plan(command, began, &mut writes, &mut answers) {
                log::error!("the store cannot be read: {error}");
            }
            needs.resize(answers.len(), Need::Nothing);
            if writes.len() > written {
                needs[answered..].fill(Need::Commit);
            }
        }
        let writes = self.with_heads(writes);
        let writes = self.with_doubtful(writes);
        Round { writes, answers: answers.into_iter().zip(needs).collect(), began, occasion: Occasion::Asked }
    }

    /// The round is durable, or is not.
    pub(super) fn finish(&mut self, round: Round, result: Result<(), StoreError>) {
        let result = self.judge(result);
        if result.is_ok() {
            self.boxes.committed(round.began);
            if round.occasion == Occasion::Housekeeping {
                self.boxes.forget_empty(round.began);
            }
        } else {
            self.boxes.failed();
            self.doubtful.extend(round.writes.iter().filter_map(doubt));
        }
        for (answer, need) in round.answers {
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

    /// Of a commit that failed anything may be there. An envelope that is held and nobody knows of would be sent on after the
    /// next start, however late that is.
    fn with_doubtful(&mut self, writes: Vec<Write>) -> Vec<Write> {
        let mut all = std::mem::take(&mut self.doubtful);
        all.extend(writes);
        all
    }

    fn commit(&self, round: &Round) -> Result<(), StoreError> {
        if round.writes.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let result = self.store.commit(&round.writes);
        metrics::COMMIT_SECONDS.observe(began.elapsed().as_secs_f64());
        metrics::COMMIT_WRITES.observe(round.writes.len() as f64);
        result
    }

    fn judge(&mut self, result: Result<(), StoreError>) -> Result<(), Unavailable> {
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

    fn answer(&self, answer: Answer, result: Result<(), Unavailable>) {
        match answer {
            Answer::Appended(stored) => self.appended(*stored, result),
            Answer::Copied(owed, done) if result.is_ok() => self.homes.hand_out(owed, done),
            Answer::Done(done) | Answer::Copied(_, done) => done(result),
            Answer::Adopted(device, first, done) => {
                done(result);
                if let Some(seq) = first.filter(|_| result.is_ok()) {
                    self.tell_attached(&Asker::Server { server: self.view.mesh.own().clone(), number: 0, device }, seq);
                }
            }
            Answer::Held(held) => self.held(*held, result),
            Answer::Away(device, generation) => self.view.page(&device, generation, Vec::new(), End::Away),
            Answer::Trimmed(done, trimmed) => done(result.map(|()| trimmed)),
            Answer::Profile(answer, profile) => answer(result.map(|()| profile)),
            Answer::Count(then, count) => then(result.map(|()| count)),
            // Whoever asked may be gone; then nobody needs the answer.
            Answer::Flushed(done) => drop(done.send(())),
            Answer::Read(request) => self.reads.push(request),
        }
    }

    fn appended(&self, stored: Stored, result: Result<(), Unavailable>) {
        let Stored { asker, item, why, seq, record, pending } = stored;
        let seq = seq.filter(|_| result.is_ok());
        let acquaintance = if record.is_some() { Acquaintance::Known } else { Acquaintance::Unknown };
        let wakes = record.filter(|record| seq.is_some() && why.is_away() && !record.tokens.is_empty());
        if let Some(record) = wakes {
            (self.wake)(self.notification(asker.device(), &item, &record, pending));
        }
        if let Some(seq) = seq {
            self.tell_attached(&asker, seq);
        }
        match asker {
            Asker::Lane(device) => {
                abroad::tell(&self.view, &device, item, why, seq.map(Kept::InInbox), acquaintance);
            }
            Asker::Server { server, number, .. } => {
                // Who cannot be reached finds another way, or asks again; then it is here already.
                let _ = self.view.mesh.send(&server, &Dispatch::Appended { number, seq, acquaintance });
            }
        }
    }

    /// The lane that serves the device reads what lies in its inbox, and those that stand by know what there is to be read when
    /// it is their turn; the one that has asked knows it by its answer.
    fn tell_attached(&self, asker: &Asker, seq: Seq) {
        let id = asker.device();
        if let (Asker::Server { .. }, Some(device)) = (asker, self.view.devices.get(id.as_str())) {
            self.view.on(&device, |lane, _, out| lane.stored_elsewhere(seq, out));
        }
        let places = self.view.places.servers_of(id.as_str());
        let coming = self.homes.coming().expected(id, steady()).filter(|server| !places.contains(server));
        for other in places.into_iter().chain(coming) {
            if !matches!(asker, Asker::Server { server, .. } if *server == other) {
                // A server that is lost loses its devices too, and they read their inboxes when they come back.
                let _ = self.view.mesh.send(&other, &Dispatch::Stored { device: id.clone(), seq });
            }
        }
    }

    fn held(&self, held: Held, result: Result<(), Unavailable>) {
        let Held { number, device, item, why } = held;
        match result {
            Ok(()) => self.homes.abroad().held(number),
            Err(Unavailable) => self.homes.abroad().not_held(number),
        }
        let kept = result.is_ok().then_some(Kept::Held);
        // Nobody here knows whether it has ever been there.
        abroad::tell(&self.view, &device, item, why, kept, Acquaintance::Known);
    }

    fn notification(&self, device: &NodeId, item: &Parcel, record: &DeviceRecord, pending: u64) -> Notification {
        #[derive(serde::Deserialize)]
        struct Text {
            payload: Option<serde_json::Value>,
        }
        let text = (self.content == Content::Shown).then(|| serde_json::from_slice::<Text>(&item.encoded.text()).ok());
        let text = text.flatten().and_then(|text| text.payload?.as_str().map(str::to_owned));
        Notification {
            device: device.clone(),
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

    fn keep_house(&mut self) -> Option<Round> {
        let now = now();
        if now.since(self.kept_house) < HOUSEKEEPING_MS {
            return None;
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
        let writes = self.with_doubtful(writes);
        Some(Round { writes, answers: Vec::new(), began: now, occasion: Occasion::Housekeeping })
    }
}

/// What undoes a write to the held mail, or does again what took from it.
fn doubt(write: &Write) -> Option<Write> {
    match write {
        Write::Put { table: Table::Held, key, .. } | Write::Delete { table: Table::Held, key } => {
            Some(Write::Delete { table: Table::Held, key: key.clone() })
        }
        Write::Put { .. } | Write::Delete { .. } => None,
    }
}
