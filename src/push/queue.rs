//! The push thread: takes in what [`PushHandle`] was told, and carries out what [`Schedule`] decides.
//!
//! Owns the schedule, the requests under way and what the store keeps of them. Invariants: what waits is in the store as
//! soon as the journal gets to it, and leaves it when it is sent, cancelled or given up; each provider has at most
//! `in_flight` requests under way. Leaves the rules to the model and the protocols to the providers' files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use super::complaints::Complaints;
use super::content::Content;
use super::handle::{Attended, PushHandle, Shared, news_bytes};
use super::kept;
use super::last::LastPush;
use super::outcome::Outcome;
use super::providers::Providers;
use super::{Notification, Provider, PushError, PushToken};
use crate::config::push::PushSettings;
use crate::metrics;
use crate::model::ids::{Millis, NodeId};
use crate::model::wake::{Dropped, Finished, Flight, Schedule};
use crate::store::{Journal, Order, Store, Table, Write};

/// Called on the push thread when a token will never work again: forget it, unless the device has another by now.
/// Must not block.
pub type OnDead = Arc<dyn Fn(NodeId, PushToken) + Send + Sync>;

/// How long a newer count or sender of a notification that is kept already may wait to be kept too.
const LAZY: Duration = Duration::from_secs(1);
/// Writes in one submission.
const MOST_WRITES: usize = 256;
const PATIENCE: Duration = Duration::from_secs(5);
const FAR: Duration = Duration::from_secs(3600);

/// Starts push; see [`PushHandle`] for how to use it.
pub struct PushQueue;

type News = Arc<Notification>;

impl PushQueue {
    /// Reads all keys, then runs on a thread of its own until stopped, beginning with what the store kept.
    /// Fails on a setting, key or file that cannot be used.
    pub fn start(
        settings: &PushSettings,
        data_dir: &Path,
        store: Arc<dyn Store>,
        journal: Arc<dyn Journal>,
        on_dead: OnDead,
    ) -> Result<PushHandle, PushError> {
        let limits = settings.limits()?;
        let content = if settings.content { Content::Shown } else { Content::Hidden };
        let providers = Arc::new(Providers::open(settings, data_dir, content)?);
        let shared = Arc::new(Shared::new(content));
        let handle = PushHandle::new(Arc::clone(&shared), providers.vapid_public_key().map(str::to_owned));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PushError::Thread)?;
        let worker = Worker {
            ending: Ending(Arc::clone(&shared)),
            shared,
            providers,
            journal,
            on_dead,
            content,
            in_flight: settings.in_flight,
            schedule: Schedule::new(limits),
            clock: Clock::start(),
            flights: JoinSet::new(),
            flying: HashMap::new(),
            busy: BTreeMap::new(),
            dirty: BTreeSet::new(),
            lazy: BTreeSet::new(),
            lazy_since: Instant::now(),
            complaints: Complaints::default(),
        };
        std::thread::Builder::new()
            .name("push".to_owned())
            .spawn(move || runtime.block_on(worker.run(store)))
            .map_err(PushError::Thread)?;
        Ok(handle)
    }
}

/// Says that the thread has ended, also when it panicked.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.send_replace(true);
        metrics::PUSH_QUEUE.set(0);
    }
}

/// Milliseconds since 1970 that never go back while the server lives.
struct Clock {
    wall: Millis,
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: Millis(wall.as_millis() as u64), started: Instant::now() }
    }

    fn now(&self) -> Millis {
        self.wall.plus(self.started.elapsed().as_millis() as u64)
    }
}

struct Worker {
    shared: Arc<Shared>,
    providers: Arc<Providers>,
    journal: Arc<dyn Journal>,
    on_dead: OnDead,
    content: Content,
    in_flight: usize,
    schedule: Schedule<News, PushToken>,
    clock: Clock,
    flights: JoinSet<Outcome>,
    flying: HashMap<Id, Flight<News, PushToken>>,
    /// Requests under way, for each provider.
    busy: BTreeMap<Provider, usize>,
    /// Devices whose kept state is to be brought up to date now, and those for which it can wait for [`LAZY`].
    dirty: BTreeSet<NodeId>,
    lazy: BTreeSet<NodeId>,
    lazy_since: Instant,
    complaints: Complaints,
    ending: Ending,
}

fn count(provider: Provider, outcome: &str) {
    metrics::PUSHES.with_label_values(&[provider.name(), outcome]).inc();
}

impl Worker {
    async fn run(mut self, store: Arc<dyn Store>) {
        self.reload(&*store);
        drop(store);
        let shared = Arc::clone(&self.shared);
        while self.take_in().is_continue() {
            self.schedule.ripen(self.clock.now());
            self.depart();
            self.save();
            metrics::PUSH_QUEUE.set(self.schedule.waiting() as i64);
            let pause = self.pause();
            tokio::select! {
                () = shared.bell.notified() => {}
                Some(landed) = self.flights.join_next_with_id() => self.land(landed),
                () = sleep(pause) => {}
            }
            while let Some(landed) = self.flights.try_join_next_with_id() {
                self.land(landed);
            }
        }
        self.end().await;
    }

    fn pause(&self) -> Duration {
        let due = self.schedule.next().map_or(FAR, |due| Duration::from_millis(due.since(self.clock.now())));
        let lazy = if self.lazy.is_empty() { FAR } else { LAZY.saturating_sub(self.lazy_since.elapsed()) };
        due.min(lazy)
    }

    /// What was waiting when the server stopped.
    fn reload(&mut self, store: &dyn Store) {
        let now = self.clock.now();
        let (mut waiting, mut damaged) = (0_usize, Vec::new());
        let scanned = store.scan(Table::Push, &[], &[0xff], Order::Ascending, &mut |key, value| {
            match kept::read(key, &value) {
                Ok(mut kept) => {
                    let device = kept.notification.device.clone();
                    kept.targets.retain(|(token, _)| self.providers.has(token.provider));
                    if kept.targets.is_empty() {
                        self.dirty.insert(device);
                        return ControlFlow::Continue(());
                    }
                    self.content.trim(&mut kept.notification);
                    let bytes = news_bytes(&kept.notification);
                    let news = Arc::new(kept.notification);
                    let dropped = self.schedule.restore(now, &device, news, bytes, kept.targets);
                    self.dropped(dropped);
                    waiting += 1;
                }
                Err(error) => damaged.push((bytes::Bytes::copy_from_slice(key), error)),
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = scanned {
            log::error!("the notifications that waited when the server stopped cannot be read: {error}");
        }
        if let Some((_, error)) = damaged.first() {
            log::error!("{} kept notifications cannot be used and are dropped; of the first: {error}", damaged.len());
            let deletions: Vec<_> = damaged.into_iter().map(|(key, _)| kept::delete_key(key)).collect();
            self.submit(&deletions);
        }
        if waiting > 0 {
            log::info!("{waiting} devices have notifications from before the start to be pushed");
        }
    }

    /// Hears what the server has said since the last time; breaks when it says no more.
    fn take_in(&mut self) -> ControlFlow<()> {
        let intake = self.shared.take();
        for (device, event) in intake.events {
            let cancelled = match event.attended {
                Some(Attended::Connected) => self.schedule.connected(&device),
                Some(Attended::Emptied) => self.schedule.emptied(&device),
                None => false,
            };
            if cancelled {
                log::debug!("{device} is there or has fetched all: its notification is cancelled");
                self.dirty.insert(device.clone());
            }
            if let Some(notification) = event.notification {
                self.notify(&device, notification);
            }
        }
        if intake.closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn notify(&mut self, device: &NodeId, mut notification: Notification) {
        let mut tokens = std::mem::take(&mut notification.tokens);
        tokens.retain(|token| {
            let known = self.providers.has(token.provider);
            if !known {
                count(token.provider, "refused");
                log::debug!("{device} has a token of {}, which is not set up here", token.provider);
            }
            known
        });
        if tokens.is_empty() {
            return;
        }
        let bytes = news_bytes(&notification);
        let notified = self.schedule.notify(self.clock.now(), device, Arc::new(notification), bytes, &tokens);
        for provider in notified.held {
            count(provider, "throttled");
        }
        self.dropped(notified.dropped);
        if notified.fresh {
            self.dirty.insert(device.clone());
        } else if !self.dirty.contains(device) {
            if self.lazy.is_empty() {
                self.lazy_since = Instant::now();
            }
            self.lazy.insert(device.clone());
        }
    }

    fn dropped(&mut self, dropped: Vec<Dropped<Provider>>) {
        let Some(first) = dropped.first() else { return };
        let line = format!(
            "the push queue is full (push.queue-bytes): the notification of {}, which has waited longest, is dropped",
            first.device
        );
        self.complaints.say("queue", &line);
        for gone in dropped {
            for provider in gone.lanes {
                count(provider, "dropped");
            }
            self.dirty.insert(gone.device);
        }
    }

    /// Begins as many requests as may be under way.
    fn depart(&mut self) {
        for provider in Provider::ALL {
            while self.busy.get(&provider).copied().unwrap_or_default() < self.in_flight {
                let Some(flight) = self.schedule.start(provider) else { break };
                let (providers, token, news) =
                    (Arc::clone(&self.providers), flight.target.clone(), Arc::clone(&flight.news));
                let task = self.flights.spawn(async move { providers.send(&token, &news).await });
                self.flying.insert(task.id(), flight);
                *self.busy.entry(provider).or_default() += 1;
            }
        }
    }

    fn land(&mut self, landed: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match landed {
            Ok(landed) => landed,
            Err(error) => (error.id(), Outcome::retry("the attempt was broken off")),
        };
        let Some(flight) = self.flying.remove(&id) else { return };
        let (device, provider) = (&flight.device, flight.target.provider);
        if let Some(busy) = self.busy.get_mut(&provider) {
            *busy -= 1;
        }
        let finished =
            self.schedule.finish(self.clock.now(), device, flight.ticket, outcome.verdict(), rand::random::<f64>());
        let then = match finished {
            Finished::Retried(wait) => {
                format!("try {} is in {} s", wait.tries + 1, wait.due.since(self.clock.now()) / 1000)
            }
            Finished::GaveUp => "given up".to_owned(),
            Finished::Settled | Finished::Stale => "not needed any more".to_owned(),
        };
        let gave_up = finished == Finished::GaveUp;
        let word = match &outcome {
            Outcome::Sent => "sent",
            Outcome::Retry { .. } | Outcome::Broken { .. } if gave_up => "gave_up",
            Outcome::Retry { .. } => "retried",
            Outcome::Broken { .. } => "broken",
            Outcome::Dead { .. } => "dead_token",
            Outcome::Refused { .. } => "refused",
        };
        count(provider, word);
        self.shared.last.note(device, LastPush { at: self.clock.now(), provider, outcome: word.to_owned() });
        match &outcome {
            Outcome::Sent => {
                log::debug!("pushed to {device} by {provider}: {} waiting", flight.news.pending);
            }
            Outcome::Retry { why, .. } => {
                match provider {
                    // The operator's own provider being out of reach is news; an address of a user's is not.
                    Provider::Fcm | Provider::Apns => {
                        self.complaints.say(provider.name(), &format!("push by {provider} fails for now: {why}"));
                    }
                    Provider::Webpush | Provider::Webhook => {}
                }
                log::debug!("push to {device} by {provider} failed ({why}): {then}");
            }
            Outcome::Broken { why } => {
                self.complaints.say(provider.name(), &format!("push by {provider} is not set up right: {why}"));
                log::debug!("push to {device} by {provider} failed ({why}): {then}");
            }
            Outcome::Dead { why } => {
                log::info!("a token of {device} at {provider} is dead and forgotten ({why})");
                (self.on_dead)(device.clone(), flight.target.clone());
            }
            Outcome::Refused { why } => {
                log::debug!("push to {device} by {provider} is refused: {why}");
            }
        }
        if finished != Finished::Stale {
            self.dirty.insert(device.clone());
        }
    }

    /// Brings the store up to date with what has changed.
    fn save(&mut self) {
        if !self.lazy.is_empty() && self.lazy_since.elapsed() >= LAZY {
            self.dirty.append(&mut self.lazy);
        }
        let mut writes = Vec::new();
        for device in std::mem::take(&mut self.dirty) {
            self.lazy.remove(&device);
            writes.push(match self.schedule.kept(&device) {
                Some((news, targets)) => kept::put(news, targets),
                None => kept::delete(&device),
            });
        }
        self.submit(&writes);
        if self.shared.unsaved.swap(false, Ordering::Relaxed) {
            self.complaints
                .say("store", "the store takes no writes now: a restart would forget or repeat notifications");
        }
    }

    fn submit(&self, writes: &[Write]) {
        for writes in writes.chunks(MOST_WRITES) {
            self.shared.saving.fetch_add(1, Ordering::Relaxed);
            let shared = Arc::clone(&self.shared);
            let done = move |result: Result<(), _>| {
                if result.is_err() {
                    shared.unsaved.store(true, Ordering::Relaxed);
                }
                if shared.saving.fetch_sub(1, Ordering::AcqRel) == 1 {
                    shared.saved.notify_one();
                }
            };
            self.journal.submit(writes.to_vec(), Box::new(done));
        }
    }

    async fn end(mut self) {
        let _ = timeout(PATIENCE, async {
            while let Some(landed) = self.flights.join_next_with_id().await {
                self.land(landed);
            }
        })
        .await;
        self.dirty.append(&mut self.lazy);
        self.save();
        let _ = timeout(PATIENCE, async {
            while self.shared.saving.load(Ordering::Acquire) > 0 {
                self.shared.saved.notified().await;
            }
        })
        .await;
        drop(self.ending);
    }
}
