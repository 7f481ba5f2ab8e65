//! One connection: the bytes that are on the way to the client, a client that reads them at its own pace, and what it
//! sends back.

use std::collections::VecDeque;

use bytes::Bytes;
use sparkmesh::model::ids::{ConnectionId, Seq};
use sparkmesh::model::lane::Options;

use crate::random::Random;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Sent {
    Pong(u64),
    Ack(usize),
    AckTo(Seq),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// The client is gone; the server learns of it at that time, if not by its own heartbeat before.
    Broken(u64),
    /// The server has let it go.
    Gone,
}

pub(crate) struct Socket {
    pub(crate) connection: ConnectionId,
    pub(crate) options: Options,
    pub(crate) state: State,
    /// The server has been told to write.
    pub(crate) wanted: bool,
    pub(crate) told_to_go: bool,
    pipe: VecDeque<Bytes>,
    in_pipe: usize,
    capacity: usize,
    /// Longest time for one frame, in milliseconds.
    slowness: u64,
    reads_at: Option<u64>,
    pub(crate) stuck_until: u64,
    sent: VecDeque<(u64, Sent)>,
    /// The application does not acknowledge until then.
    pub(crate) silent_until: u64,
}

impl Socket {
    pub(crate) fn new(connection: ConnectionId, options: Options, slowness: u64, capacity: usize) -> Self {
        Self {
            connection,
            options,
            state: State::Open,
            wanted: false,
            told_to_go: false,
            pipe: VecDeque::new(),
            in_pipe: 0,
            capacity,
            slowness,
            reads_at: None,
            stuck_until: 0,
            sent: VecDeque::new(),
            silent_until: 0,
        }
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.state != State::Gone
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.is_attached() && self.wanted && self.in_pipe < self.capacity
    }

    pub(crate) fn write(&mut self, frame: Bytes, now: u64, random: &mut Random) {
        self.in_pipe += frame.len();
        self.pipe.push_back(frame);
        if self.is_open() && self.reads_at.is_none() {
            self.plan_read(now, random);
        }
    }

    fn plan_read(&mut self, now: u64, random: &mut Random) {
        let ready = now + random.within(0, self.slowness);
        self.reads_at = (!self.pipe.is_empty()).then(|| ready.max(self.stuck_until));
    }

    pub(crate) fn read(&mut self, now: u64, random: &mut Random) -> Bytes {
        let frame = self.pipe.pop_front().expect("a read is planned only when there is something");
        self.in_pipe -= frame.len();
        self.plan_read(now, random);
        frame
    }

    pub(crate) fn send(&mut self, what: Sent, now: u64, random: &mut Random) {
        let mut at = now + random.within(0, self.slowness);
        if !matches!(what, Sent::Pong(_)) {
            at = at.max(self.silent_until);
        }
        let at = at.max(self.sent.back().map_or(0, |(at, _)| *at));
        self.sent.push_back((at, what));
    }

    pub(crate) fn arrive(&mut self) -> Sent {
        self.sent.pop_front().expect("the caller has looked at arrives_at").1
    }

    pub(crate) fn reads_at(&self) -> Option<u64> {
        self.reads_at.filter(|_| self.is_open())
    }

    pub(crate) fn arrives_at(&self) -> Option<u64> {
        self.sent.front().map(|(at, _)| *at).filter(|_| self.is_open())
    }

    pub(crate) fn leaves_at(&self) -> Option<u64> {
        match self.state {
            State::Broken(at) => Some(at),
            _ => None,
        }
    }

    /// From now on quick, and nothing is held back.
    pub(crate) fn heal(&mut self, now: u64) {
        self.stuck_until = 0;
        self.silent_until = 0;
        self.slowness = 5;
        self.reads_at = self.reads_at.map(|_| now);
        for (at, _) in &mut self.sent {
            *at = now;
        }
    }

    /// Unfrozen ahead of time.
    pub(crate) fn stick(&mut self, until: u64) {
        self.stuck_until = until;
        self.reads_at = self.reads_at.map(|at| at.max(until));
    }
}
