//! What waits to be written to one link: encoded frames, bounded in bytes.
//!
//! Whoever has a frame for the peer pushes it from where it is; the link's writer takes many of them at a time, as one
//! WebSocket message. Heartbeats go before control, and control before data; within each the order of the pushes is kept.
//! Invariant: frames are whole, and one that was taken is gone: what becomes of it on the wire is not known here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use prometheus::{IntCounter, IntGauge};

use super::Taken;
use crate::metrics;
use crate::model::ids::NodeId;
use crate::model::lane::Delivery;
use crate::wire::carrier::{self, Masking};

/// Most bytes of frames in one queue: data beyond is refused, control beyond twice that ends the link.
pub const LINK_QUEUE_LIMIT: usize = 64 << 20;
/// Frames for which a queue keeps its room when it is empty.
const KEEP: usize = 1024;

/// What may wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Of the link itself: before everything else, so that a full queue is no silence.
    Heartbeat,
    /// Flooded: never refused. Where there is no room at all the link ends, and the next one begins with everything.
    Control,
    /// Refused when the queue is full; whoever sent it sends it again.
    Data,
}

/// See the module's header.
#[derive(Debug)]
pub struct LinkQueue {
    limit: usize,
    /// As in `inner`, for those who only look.
    bytes: AtomicUsize,
    /// Once it is known whose link it is.
    meters: OnceLock<Meters>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Meters {
    peer: NodeId,
    waiting: IntGauge,
    out: IntCounter,
}

#[derive(Debug, Default)]
struct Inner {
    /// By urgency.
    lines: [Line; 3],
    bytes: usize,
    /// Of the writer, while it has nothing to write.
    waker: Option<Waker>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Takes nothing more; what waits is written, and then a close frame.
    Closing,
    Ended,
}

#[derive(Debug, Default)]
struct Line {
    frames: VecDeque<Frame>,
    chunks: VecDeque<Bytes>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    bytes: usize,
    chunks: usize,
}

impl LinkQueue {
    /// `limit` in bytes.
    pub fn new(peer: NodeId, limit: usize) -> Self {
        let queue = Self::to_stranger(limit);
        queue.belongs_to(peer);
        queue
    }

    /// Of a connection whose other side has not said who it is.
    pub fn to_stranger(limit: usize) -> Self {
        Self { limit, bytes: AtomicUsize::new(0), meters: OnceLock::new(), inner: Mutex::default() }
    }

    /// It is `peer` that this is a link to. Counted from here on.
    pub fn belongs_to(&self, peer: NodeId) {
        // Under the lock, so that the level is not missed.
        let inner = self.lock();
        self.meters.get_or_init(|| {
            let waiting = metrics::LINK_QUEUE_BYTES.with_label_values(&[peer.as_str()]);
            waiting.add(inner.bytes as i64);
            Meters { waiting, out: metrics::LINK_BYTES.with_label_values(&[peer.as_str(), "out"]), peer }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing here panics half way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of all frames that wait.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// One frame, in as many chunks as it has. An empty queue takes data of any size.
    pub fn push(&self, chunks: &[Bytes], urgency: Urgency) -> Delivery {
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        let waker = {
            let mut inner = self.lock();
            let limit = match urgency {
                Urgency::Data => self.limit,
                Urgency::Control | Urgency::Heartbeat => self.limit.saturating_mul(2),
            };
            let fits = inner.bytes == 0 || inner.bytes.saturating_add(bytes) <= limit;
            match (inner.state, fits, urgency) {
                (State::Open, true, _) => {}
                (State::Open, false, Urgency::Control | Urgency::Heartbeat) => {
                    metrics::LINK_FRAMES_REFUSED.with_label_values(&["control"]).inc();
                    let peer = self.meters.get().map_or("a stranger", |meters| meters.peer.as_str());
                    log::warn!("ends the link to {peer}: {} bytes wait for it", inner.bytes);
                    inner.end();
                    self.level(&inner);
                    let waker = inner.waker.take();
                    drop(inner);
                    waker.into_iter().for_each(Waker::wake);
                    return Delivery::Refused;
                }
                (State::Open, false, Urgency::Data) => {
                    metrics::LINK_FRAMES_REFUSED.with_label_values(&["data"]).inc();
                    return Delivery::Refused;
                }
                (State::Closing | State::Ended, ..) => return Delivery::Refused,
            }
            inner.lines[urgency as usize].push(chunks, bytes);
            inner.bytes += bytes;
            self.level(&inner);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Delivery::Queued
    }

    /// Adds one WebSocket message to `out`: about `budget` bytes of whole frames, at least one. After
    /// [`Taken::Nothing`] the `waker` is kept and woken once. After [`Taken::End`] the connection is to be ended when
    /// `out` is written.
    pub fn take(&self, budget: usize, masking: Masking, waker: &Waker, out: &mut BytesMut) -> Taken {
        let mut inner = self.lock();
        let bytes = inner.next(budget);
        if bytes > 0 {
            carrier::put_binary_head(out, bytes, masking);
            out.reserve(bytes);
            let mut rest = bytes;
            for line in &mut inner.lines {
                rest = line.take(rest, out);
            }
            inner.bytes -= bytes;
            self.level(&inner);
            if let Some(meters) = self.meters.get() {
                meters.out.inc_by(bytes as u64);
            }
            return Taken::Frames;
        }
        match inner.state {
            State::Open => {
                if !inner.waker.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
                    inner.waker = Some(waker.clone());
                }
                Taken::Nothing
            }
            State::Closing => {
                carrier::put_close(out, masking);
                inner.state = State::Ended;
                Taken::End
            }
            State::Ended => Taken::End,
        }
    }

    /// The writer is at work and asks again before it rests: it need not be woken.
    pub fn attend(&self) {
        self.lock().waker = None;
    }

    /// Takes nothing more; what waits is written, then the link ends.
    pub fn close(&self) {
        self.finish(|inner| {
            if inner.state == State::Open {
                inner.state = State::Closing;
            }
        });
    }

    /// Takes nothing more, and drops what waits.
    pub fn abort(&self) {
        self.finish(Inner::end);
    }

    fn finish(&self, how: impl FnOnce(&mut Inner)) {
        let waker = {
            let mut inner = self.lock();
            how(&mut inner);
            self.level(&inner);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn level(&self, inner: &Inner) {
        let before = self.bytes.swap(inner.bytes, Ordering::Relaxed);
        if let Some(meters) = self.meters.get() {
            meters.waiting.add(inner.bytes as i64 - before as i64);
        }
    }
}

impl Drop for LinkQueue {
    fn drop(&mut self) {
        if let Some(meters) = self.meters.get() {
            meters.waiting.sub(self.bytes() as i64);
        }
    }
}

impl Inner {
    /// Bytes of the frames to be taken next.
    fn next(&self, budget: usize) -> usize {
        let mut bytes = 0;
        for frame in self.lines.iter().flat_map(|line| &line.frames) {
            if bytes > 0 && bytes + frame.bytes > budget {
                break;
            }
            bytes += frame.bytes;
        }
        bytes
    }

    fn end(&mut self) {
        self.lines = Default::default();
        self.bytes = 0;
        self.state = State::Ended;
    }
}

impl Line {
    fn push(&mut self, chunks: &[Bytes], bytes: usize) {
        self.frames.push_back(Frame { bytes, chunks: chunks.len() });
        self.chunks.extend(chunks.iter().cloned());
    }

    /// Moves frames of up to `bytes` bytes, and says what is left of that number.
    fn take(&mut self, mut bytes: usize, out: &mut BytesMut) -> usize {
        while bytes > 0
            && let Some(frame) = self.frames.pop_front()
        {
            self.chunks.drain(..frame.chunks).for_each(|chunk| out.extend_from_slice(&chunk));
            bytes -= frame.bytes;
        }
        if self.frames.is_empty() && self.frames.capacity() > KEEP {
            *self = Self::default();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::carrier::Deframer;

    fn queue(limit: usize) -> LinkQueue {
        LinkQueue::new("peer".parse().unwrap(), limit)
    }

    fn push(queue: &LinkQueue, text: &'static str, urgency: Urgency) -> Delivery {
        let (a, b) = text.split_at(text.len() / 2);
        queue.push(&[Bytes::from_static(a.as_bytes()), Bytes::from_static(b.as_bytes())], urgency)
    }

    fn taken(queue: &LinkQueue, budget: usize) -> (Taken, String) {
        let mut out = BytesMut::new();
        let taken = queue.take(budget, Masking::Server, Waker::noop(), &mut out);
        let mut reader = Deframer::new(Masking::Server, 1 << 20);
        reader.feed(out.freeze());
        let mut text = String::new();
        while let Ok(Some(carrier::Message::Binary(bytes))) = reader.next() {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        (taken, text)
    }

    #[test]
    fn what_is_urgent_goes_first_and_all_else_in_order() {
        let queue = queue(1000);
        for (text, urgency) in [
            ("data1 ", Urgency::Data),
            ("control1 ", Urgency::Control),
            ("data2 ", Urgency::Data),
            ("ping ", Urgency::Heartbeat),
            ("control2 ", Urgency::Control),
        ] {
            assert_eq!(push(&queue, text, urgency), Delivery::Queued);
        }
        assert_eq!(queue.bytes(), 35);
        assert_eq!(taken(&queue, 1000), (Taken::Frames, "ping control1 control2 data1 data2 ".to_owned()));
        assert_eq!((queue.bytes(), taken(&queue, 1000).0), (0, Taken::Nothing));
    }

    #[test]
    fn a_message_has_whole_frames_and_at_least_one() {
        let queue = queue(1000);
        for text in ["aaaa", "bbbb", "cccccccccc", "d"] {
            push(&queue, text, Urgency::Data);
        }
        assert_eq!(taken(&queue, 8).1, "aaaabbbb");
        assert_eq!(taken(&queue, 8).1, "cccccccccc");
        assert_eq!(taken(&queue, 8).1, "d");
    }

    #[test]
    fn data_is_refused_over_the_limit_and_control_over_twice_that_ends_the_link() {
        let queue = queue(10);
        assert_eq!(push(&queue, "a frame of any size", Urgency::Data), Delivery::Queued);
        assert_eq!(push(&queue, "b", Urgency::Data), Delivery::Refused);
        assert_eq!(push(&queue, "c", Urgency::Control), Delivery::Queued);
        assert_eq!(push(&queue, "d", Urgency::Control), Delivery::Refused);
        assert_eq!((queue.bytes(), taken(&queue, 99).0), (0, Taken::End));
        assert_eq!(push(&queue, "e", Urgency::Control), Delivery::Refused);
    }

    #[test]
    fn closing_writes_what_waits_and_an_abort_does_not() {
        let queue = queue(100);
        push(&queue, "last words", Urgency::Data);
        queue.close();
        assert_eq!(push(&queue, "more", Urgency::Data), Delivery::Refused);
        assert_eq!(taken(&queue, 99), (Taken::Frames, "last words".to_owned()));
        assert_eq!((taken(&queue, 99).0, taken(&queue, 99).0), (Taken::End, Taken::End));
        let queue = self::queue(100);
        push(&queue, "last words", Urgency::Data);
        queue.abort();
        assert_eq!((queue.bytes(), taken(&queue, 99).0), (0, Taken::End));
    }

    #[test]
    fn the_writer_is_woken_once_and_only_while_it_rests() {
        use std::sync::Arc;
        use std::sync::atomic::AtomicU32;
        use std::task::Wake;
        #[derive(Default)]
        struct Count(AtomicU32);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (queue, count) = (queue(100), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let mut out = BytesMut::new();
        let woken = || count.0.load(Ordering::Relaxed);
        assert_eq!(queue.take(99, Masking::Server, &waker, &mut out), Taken::Nothing);
        push(&queue, "a", Urgency::Data);
        push(&queue, "b", Urgency::Data);
        assert_eq!(woken(), 1);
        queue.take(99, Masking::Server, &waker, &mut out);
        queue.take(99, Masking::Server, &waker, &mut out);
        queue.attend();
        push(&queue, "c", Urgency::Data);
        assert_eq!(woken(), 1);
    }
}
