//! What a running load shares: the clock, the read buffer of the thread, the count of what is done, and the end.
//!
//! Everything of a load runs on one thread, so that cells do where a server would need atomics.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::Notify;

use super::histogram::Histogram;
use crate::model::codes::kind;

/// One read takes at most so much, in bytes; all connections of the thread share the buffer.
const READ: usize = 128 << 10;
/// Without any progress for so long, what is missing will not come any more.
const STALL: Duration = Duration::from_secs(10);
/// How often the end is looked for when nothing announces it.
const LOOK: Duration = Duration::from_millis(100);

/// How a measurement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    Complete,
    /// Nothing moved for 10 s.
    Stalled,
    TimedOut,
    /// Every connection broke.
    Broken,
}

/// The state of one measurement.
pub(super) struct Meter {
    origin: Instant,
    pub(super) buffer: RefCell<Vec<u8>>,
    pub(super) latency: RefCell<Histogram>,
    done: Cell<u64>,
    goal: u64,
    last: Cell<u64>,
    open: Cell<u64>,
    broken: Cell<u64>,
    finished: Notify,
    stop: Notify,
    remarks: RefCell<Remarks>,
}

/// What the server said beside the messages: how often each frame type came, and the first complaint in its words.
#[derive(Debug, Clone, Default)]
pub(super) struct Remarks {
    pub(super) frames: BTreeMap<i64, u64>,
    pub(super) first: Option<String>,
}

impl Meter {
    /// Counts up to `goal`.
    pub(super) fn new(goal: u64) -> Self {
        Self {
            origin: Instant::now(),
            buffer: RefCell::new(vec![0; READ]),
            latency: RefCell::new(Histogram::new()),
            done: Cell::new(0),
            goal,
            last: Cell::new(0),
            open: Cell::new(0),
            broken: Cell::new(0),
            finished: Notify::new(),
            stop: Notify::new(),
            remarks: RefCell::default(),
        }
    }

    /// Nanoseconds since this measurement was made.
    pub(super) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// One more is done, at `now`, after `latency` nanoseconds.
    pub(super) fn advance(&self, now: u64, latency: u64) {
        self.latency.borrow_mut().add(latency);
        self.last.set(now);
        self.done.set(self.done.get() + 1);
        if self.done.get() == self.goal {
            self.finished.notify_one();
        }
    }

    pub(super) fn done(&self) -> u64 {
        self.done.get()
    }

    pub(super) fn goal(&self) -> u64 {
        self.goal
    }

    /// When the last step was made, on this clock.
    pub(super) fn last(&self) -> u64 {
        self.last.get()
    }

    pub(super) fn broken(&self) -> u64 {
        self.broken.get()
    }

    pub(super) fn opened(&self) {
        self.open.set(self.open.get() + 1);
    }

    /// A connection ended that nobody here ended.
    pub(super) fn broke(&self, why: &str) {
        self.open.set(self.open.get() - 1);
        self.broken.set(self.broken.get() + 1);
        self.remarks.borrow_mut().first.get_or_insert_with(|| why.to_owned());
    }

    /// A text that is no message of the load: counted, and put into words where it is a complaint.
    pub(super) fn remark(&self, text: &[u8]) {
        #[derive(Deserialize)]
        struct Remark {
            #[serde(rename = "type", default)]
            kind: i64,
        }
        let mut remarks = self.remarks.borrow_mut();
        let Ok(remark) = serde_json::from_slice::<Remark>(text) else {
            remarks.first.get_or_insert_with(|| "a text came that is no JSON".to_owned());
            return;
        };
        *remarks.frames.entry(remark.kind).or_default() += 1;
        if matches!(remark.kind, kind::ERROR | kind::NODE_UNKNOWN | kind::SESSION_UNAUTHORIZED | kind::GOING_AWAY) {
            remarks.first.get_or_insert_with(|| String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned());
        }
    }

    pub(super) fn remarks(&self) -> Remarks {
        self.remarks.borrow().clone()
    }

    /// Waits for the goal, or for the reason that it will not be reached.
    pub(super) async fn end(&self, limit: Duration) -> Ended {
        let begin = self.now();
        loop {
            if self.done.get() >= self.goal {
                return Ended::Complete;
            }
            let now = self.now();
            let quiet = Duration::from_nanos(now.saturating_sub(self.last.get().max(begin)));
            if self.open.get() == 0 && self.broken.get() > 0 {
                return Ended::Broken;
            }
            if quiet >= STALL {
                return Ended::Stalled;
            }
            if Duration::from_nanos(now - begin) >= limit {
                return Ended::TimedOut;
            }
            // A timeout of the wait only means that it is time to look.
            let _ = tokio::time::timeout(LOOK, self.finished.notified()).await;
        }
    }

    /// Tells every connection to close.
    pub(super) fn stop(&self) {
        self.stop.notify_waiters();
    }

    pub(super) async fn stopped(&self) {
        self.stop.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_is_the_goal_or_the_reason_why_not() {
        let meter = Meter::new(2);
        meter.advance(5, 1);
        assert_eq!(meter.end(Duration::ZERO).await, Ended::TimedOut);
        meter.advance(9, 3);
        assert_eq!(meter.end(Duration::from_secs(5)).await, Ended::Complete);
        assert_eq!((meter.last(), meter.latency.borrow().max()), (9, 3));

        let meter = Meter::new(1);
        meter.opened();
        meter.broke("gone");
        assert_eq!(meter.end(Duration::from_secs(5)).await, Ended::Broken);
        assert_eq!(meter.remarks().first.as_deref(), Some("gone"));
    }

    #[test]
    fn complaints_are_kept_in_the_servers_words() {
        let meter = Meter::new(1);
        meter.remark(br#"{"type":-4,"src_id":"a"}"#);
        meter.remark(br#"{"type":-8,"code":"rate_limited","message":"slower"}"#);
        meter.remark(br#"{"type":-8,"code":"later"}"#);
        let remarks = meter.remarks();
        assert_eq!(remarks.frames, BTreeMap::from([(-8, 2), (-4, 1)]));
        assert!(remarks.first.unwrap().contains("slower"));
    }
}
