//! How the rest of the server speaks to push: without waiting, from any thread.
//!
//! Owns the intake, where what is said waits for the push thread. Invariants: one entry per device, the newest
//! notification replacing the one before; at most [`INTAKE_BYTES`], beyond which what concerns further devices is
//! dropped and counted. The lock is held for a few lines.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::Notification;
use super::content::Content;
use super::last::{LastPush, LastPushes};
use crate::metrics;
use crate::model::ids::NodeId;
use crate::model::wake::Target;

/// The thread empties the intake within milliseconds, so this is many thousands of devices at a time.
const INTAKE_BYTES: usize = 8 << 20;
const ENTRY_BYTES: usize = 256;
/// More ways to wake one device than this are ignored.
const MOST_TOKENS: usize = 16;

/// Cheap to clone. When the last one is dropped the push thread ends, as after [`PushHandle::stop`].
#[derive(Clone)]
pub struct PushHandle {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    vapid_public_key: Option<String>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Why nothing need be pushed to a device any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attended {
    Emptied,
    Connected,
}

/// What was said of a device since the thread looked: first `attended`, then `notification`.
#[derive(Default)]
pub(super) struct Event {
    pub(super) attended: Option<Attended>,
    pub(super) notification: Option<Notification>,
}

impl Event {
    fn bytes(&self, device: &NodeId) -> usize {
        ENTRY_BYTES + device.as_str().len() + self.notification.as_ref().map_or(0, notification_bytes)
    }
}

/// What a notification costs to hold, in bytes, without its tokens.
pub(super) fn news_bytes(notification: &Notification) -> usize {
    let ids = notification.sender.as_ref().map_or(0, |id| id.as_str().len())
        + notification.session.as_ref().map_or(0, |id| id.as_str().len());
    size_of::<Notification>() + ids + notification.text.as_ref().map_or(0, String::len)
}

fn notification_bytes(notification: &Notification) -> usize {
    news_bytes(notification) + notification.tokens.iter().map(Target::bytes).sum::<usize>()
}

#[derive(Default)]
pub(super) struct Intake {
    pub(super) events: HashMap<NodeId, Event>,
    bytes: usize,
    pub(super) closed: bool,
}

pub(super) struct Shared {
    intake: Mutex<Intake>,
    content: Content,
    /// Rung when the intake has something, or is closed.
    pub(super) bell: Notify,
    /// Submissions whose fate the journal has not told yet; `saved` is rung when it falls to zero.
    pub(super) saving: AtomicUsize,
    pub(super) saved: Notify,
    /// The journal took no writes since the thread looked.
    pub(super) unsaved: AtomicBool,
    pub(super) ended: watch::Sender<bool>,
    pub(super) last: LastPushes,
}

impl Shared {
    pub(super) fn new(content: Content) -> Self {
        Self {
            intake: Mutex::default(),
            content,
            bell: Notify::new(),
            saving: AtomicUsize::new(0),
            saved: Notify::new(),
            unsaved: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            last: LastPushes::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Intake> {
        // A panic with the lock held leaves at worst an entry out of the sum.
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was said since the last time, and whether there will be no more.
    pub(super) fn take(&self) -> Intake {
        let mut intake = self.lock();
        let closed = intake.closed;
        std::mem::replace(&mut *intake, Intake { closed, ..Intake::default() })
    }

    fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_one();
    }

    fn say(&self, device: NodeId, change: impl FnOnce(&mut Event)) -> Result<(), Full> {
        let mut intake = self.lock();
        if intake.closed {
            return Ok(());
        }
        let mut event = intake.events.remove(&device);
        intake.bytes -= event.as_ref().map_or(0, |event| event.bytes(&device));
        let known = event.is_some();
        let event_now = event.get_or_insert_default();
        change(event_now);
        let bytes = event_now.bytes(&device);
        if !known && intake.bytes + bytes > INTAKE_BYTES {
            return Err(Full);
        }
        intake.bytes += bytes;
        intake.events.extend(event.map(|event| (device, event)));
        drop(intake);
        self.bell.notify_one();
        Ok(())
    }
}

struct Full;

impl PushHandle {
    pub(super) fn new(shared: Arc<Shared>, vapid_public_key: Option<String>) -> Self {
        Self { owner: Arc::new(Owner { shared, vapid_public_key }) }
    }

    /// An envelope waits for a device that is not there. Never blocks; of many for one device the latest counts.
    pub fn notify(&self, mut notification: Notification) {
        let shared = &self.owner.shared;
        notification.tokens.truncate(MOST_TOKENS);
        shared.content.trim(&mut notification);
        if notification.tokens.is_empty() {
            return;
        }
        let providers: Vec<_> = notification.tokens.iter().map(|token| token.provider).collect();
        let said = shared.say(notification.device.clone(), |event| event.notification = Some(notification));
        if said.is_err() {
            for provider in providers {
                metrics::PUSHES.with_label_values(&[provider.name(), "dropped"]).inc();
            }
        }
    }

    /// The device is connected: what waits for it is cancelled, and its throttle is reset. Never blocks.
    pub fn connected(&self, device: NodeId) {
        self.attended(device, Attended::Connected);
    }

    /// The device has fetched all it had without connecting: what waits is cancelled, its throttle holds. Never blocks.
    pub fn emptied(&self, device: NodeId) {
        self.attended(device, Attended::Emptied);
    }

    fn attended(&self, device: NodeId, how: Attended) {
        // When the intake is full the worst is a notification too many, or one that the throttle delays.
        let _ = self.owner.shared.say(device, |event| {
            event.notification = None;
            event.attended = event.attended.max(Some(how));
        });
    }

    /// What became of the last notification of a device that was not long ago.
    pub fn last(&self, device: &NodeId) -> Option<LastPush> {
        self.owner.shared.last.of(device)
    }

    /// What browsers want as `applicationServerKey`: an uncompressed point of P-256 in base64url. None when Web Push is
    /// not set up.
    pub fn vapid_public_key(&self) -> Option<&str> {
        self.owner.vapid_public_key.as_deref()
    }

    /// Begins nothing more, waits for what is under way (5 s at most) and for the journal (5 s at most). What is left is
    /// kept for the next start.
    pub async fn stop(&self) {
        self.owner.shared.close();
        // The sender lives as long as `self`, so an error cannot come.
        let _ = self.owner.shared.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::{Provider, PushToken};

    fn handle() -> PushHandle {
        PushHandle::new(Arc::new(Shared::new(Content::Hidden)), None)
    }

    fn notification(device: &str, pending: u64) -> Notification {
        Notification {
            device: device.parse().unwrap(),
            tokens: vec![PushToken { provider: Provider::Fcm, token: "t".repeat(1000) }],
            pending,
            sender: None,
            session: None,
            kind: 1,
            text: Some("secret".to_owned()),
        }
    }

    #[test]
    fn a_device_has_one_entry_with_the_latest() {
        let handle = handle();
        for pending in 1..=1000 {
            handle.notify(notification("bob", pending));
        }
        let mut taken = handle.owner.shared.take();
        let event = taken.events.remove("bob").unwrap();
        let latest = event.notification.unwrap();
        assert_eq!((latest.pending, latest.text, event.attended), (1000, None, None));
        assert!(taken.events.is_empty() && handle.owner.shared.take().events.is_empty());
    }

    #[test]
    fn the_order_of_coming_and_missing_something_counts() {
        let handle = handle();
        let bob: NodeId = "bob".parse().unwrap();
        handle.notify(notification("bob", 1));
        handle.connected(bob.clone());
        handle.emptied(bob.clone());
        let event = handle.owner.shared.take().events.remove("bob").unwrap();
        assert!(event.notification.is_none() && event.attended == Some(Attended::Connected));
        handle.connected(bob);
        handle.notify(notification("bob", 2));
        let event = handle.owner.shared.take().events.remove("bob").unwrap();
        assert!(event.notification.is_some() && event.attended == Some(Attended::Connected));
    }

    #[test]
    fn the_intake_is_bounded_in_bytes() {
        let handle = handle();
        let count = || metrics::PUSHES.with_label_values(&["fcm", "dropped"]).get();
        let before = count();
        for device in 0..20_000 {
            handle.notify(notification(&format!("device{device}"), 1));
        }
        handle.notify(notification("device0", 2));
        let intake = handle.owner.shared.take();
        let sum: usize = intake.events.iter().map(|(device, event)| event.bytes(device)).sum();
        assert!(intake.bytes == sum && sum <= INTAKE_BYTES, "{sum}");
        assert_eq!(intake.events.len() as u64 + count() - before, 20_000);
        assert_eq!(intake.events["device0"].notification.as_ref().unwrap().pending, 2);
    }
}
