//! One direction of a connection: chunks that arrive in order, each after a while, as long as the way is there.
//!
//! Like a TCP stream: it delays, it holds back, it takes no more than it has room for; it breaks as a whole and loses what
//! was under way, but neither drops nor changes the order of anything that arrives.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use crate::random::Random;

struct Inner {
    chunks: VecDeque<(Instant, Bytes)>,
    room: usize,
    random: Random,
    /// Milliseconds that a chunk takes, at most.
    delay: u64,
    last: Instant,
    /// Nothing comes through, and neither end hears of what the other one does.
    held: bool,
    /// The writer has ended; what is under way still comes.
    ended: bool,
    /// Nothing comes any more.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// See the module's header. Both ends have one.
#[derive(Clone)]
pub(crate) struct Pipe(Rc<RefCell<Inner>>);

impl Pipe {
    /// With `room` for so many chunks.
    pub(crate) fn new(room: usize, delay: u64, random: Random) -> Self {
        let inner = Inner {
            chunks: VecDeque::new(),
            room,
            random,
            delay,
            last: Instant::now(),
            held: false,
            ended: false,
            broken: false,
            reader: None,
            writer: None,
        };
        Self(Rc::new(RefCell::new(inner)))
    }

    fn change(&self, how: impl FnOnce(&mut Inner)) {
        let woken = {
            let mut inner = self.0.borrow_mut();
            how(&mut inner);
            [inner.reader.take(), inner.writer.take()]
        };
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    pub(crate) fn hold(&self) {
        self.0.borrow_mut().held = true;
    }

    pub(crate) fn release(&self) {
        self.change(|inner| inner.held = false);
    }

    /// As when a router says that there is no way: both ends hear of it.
    pub(crate) fn tear(&self) {
        self.change(|inner| {
            inner.held = false;
            inner.broken = true;
            inner.chunks.clear();
        });
    }

    /// Whether the other end takes it; waits until there is room.
    pub(crate) async fn write(&self, chunk: Bytes) -> bool {
        poll_fn(|cx| {
            let mut inner = self.0.borrow_mut();
            if inner.broken && !inner.held {
                return Poll::Ready(false);
            }
            if inner.chunks.len() >= inner.room {
                inner.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let delay = inner.delay;
            let takes = inner.random.within(0, delay);
            let due = inner.last.max(Instant::now() + Duration::from_millis(takes));
            inner.last = due;
            inner.chunks.push_back((due, chunk.clone()));
            if let Some(reader) = inner.reader.take() {
                reader.wake();
            }
            Poll::Ready(true)
        })
        .await
    }

    /// The next chunk; `None`: none comes any more.
    pub(crate) async fn read(&self) -> Option<Bytes> {
        loop {
            let due = poll_fn(|cx| {
                let mut inner = self.0.borrow_mut();
                let due = inner.chunks.front().map(|(due, _)| *due);
                match due {
                    _ if inner.held => {}
                    _ if inner.broken => return Poll::Ready(None),
                    Some(due) => return Poll::Ready(Some(due)),
                    None if inner.ended => return Poll::Ready(None),
                    None => {}
                }
                inner.reader = Some(cx.waker().clone());
                Poll::Pending
            })
            .await?;
            if due > Instant::now() {
                sleep_until(due).await;
                // It may have broken meanwhile.
                continue;
            }
            let mut inner = self.0.borrow_mut();
            if let Some(writer) = inner.writer.take() {
                writer.wake();
            }
            return inner.chunks.pop_front().map(|(_, chunk)| chunk);
        }
    }
}

/// Ends what is written into, whatever ends the one who writes.
pub(crate) struct Writer(pub(crate) Pipe);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.change(|inner| inner.ended = true);
    }
}

/// Breaks what is read from, whatever ends the one who reads: who writes is told.
pub(crate) struct Reader(pub(crate) Pipe);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.change(|inner| {
            inner.broken = true;
            inner.chunks.clear();
        });
    }
}
