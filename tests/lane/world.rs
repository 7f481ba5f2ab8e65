//! The world round one lane: a clock, sockets, the inbox, senders; and the shell's part, which does what the lane says.

use std::collections::VecDeque;

use sparkmesh::model::custody::Outcome;
use sparkmesh::model::ids::{ConnectionId, Millis, Seq};
use sparkmesh::model::lane::{Delivery, Effect, Kept, Lane, Options, Replay};
use sparkmesh::model::outbox::{Acks, Class, Custody, Item};
use sparkmesh::model::seen::Key;

use crate::disk::{Answer, Ask, Disk, From, Ticket};
use crate::frames::{self, Frame};
use crate::judge::Judge;
use crate::plan::Plan;
use crate::random::Random;
use crate::socket::{Sent, Socket, State};

/// The sender of what comes by another way.
const ELSEWHERE: usize = 9;
const HEALTHY: u64 = 5;
/// What the outboxes may hold beside their limits: control frames.
const CONTROL: usize = 4_000;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) now: u64,
    pub(crate) lane: Lane<Ticket>,
    pub(crate) disk: Disk,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) judge: Judge,
    effects: Vec<Effect<Ticket>>,
    ticks_at: u64,
    /// Edges to be asked for acknowledgement, and when.
    unasked: VecDeque<(u64, ConnectionId)>,
    /// Of the effects since the last clearing: appends.
    pub(crate) appends: u64,
    /// Calls within this millisecond; a world that stands still is a loop.
    calls: u64,
    pub(crate) trace: bool,
    /// For devices that fetch: places up to this were stored before the device attached.
    before: Seq,
}

impl World {
    pub(crate) fn new(plan: Plan, random: Random) -> Self {
        let limit = plan.limit as usize;
        Self {
            plan,
            random,
            now: 1_000_000,
            lane: Lane::new(frames::ping, limit),
            disk: Disk::default(),
            sockets: Vec::new(),
            judge: Judge::default(),
            effects: Vec::new(),
            ticks_at: 1_001_000,
            unasked: VecDeque::new(),
            appends: 0,
            calls: 0,
            trace: std::env::var_os("SPARKMESH_TRACE").is_some(),
            before: Seq(0),
        }
    }

    fn time(&self) -> Millis {
        Millis(self.now)
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>7} {}", self.now - 1_000_000, what());
        }
    }

    pub(crate) fn say_plan(&self) {
        self.say(|| format!("{:?}", self.plan));
    }

    /// Asks the lane, and does what it says.
    fn ask<R>(&mut self, what: &str, act: impl FnOnce(&mut Lane<Ticket>, Millis, &mut Vec<Effect<Ticket>>) -> R) -> R {
        self.calls += 1;
        assert!(self.calls < 20_000, "the world stands still at {what}");
        let now = self.time();
        let before = self.lane.bytes();
        let mut effects = std::mem::take(&mut self.effects);
        let answer = act(&mut self.lane, now, &mut effects);
        let bound = 20 + 4 * self.judge.sent.len();
        assert!(effects.len() <= bound, "{} effects of one {what}", effects.len());
        self.bytes_hold(what, before);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
        answer
    }

    fn bytes_hold(&self, what: &str, before: usize) {
        let attached = self.sockets.iter().filter(|socket| socket.is_attached());
        let times = if self.plan.notices > 0 { 2 } else { 1 };
        let one = self.plan.largest as usize + 200;
        let most: usize = attached.map(|socket| times * socket.options.limit + one + CONTROL).sum();
        let after = self.lane.bytes();
        assert!(
            after <= most.max(before),
            "after {what} the outboxes hold {after} bytes: more than {before} and {most}"
        );
    }

    fn carry_out(&mut self, effect: Effect<Ticket>) {
        self.say(|| match &effect {
            Effect::Append(item, why) => {
                format!("    append {} {why:?}", frames::envelope_of(item.encoded.frame()))
            }
            other => format!("    {other:?}"),
        });
        match effect {
            Effect::Wake(connection) => self.socket(connection).wanted = true,
            Effect::Append(item, _) => {
                self.appends += 1;
                self.ask_disk(Ask::Append(item, From::Lane));
            }
            Effect::Settle { ticket, outcome, .. } => self.judge.settled(ticket, outcome),
            Effect::AskLater(connection) => self.unasked.push_back((self.now + 20, connection)),
            Effect::Count { .. } | Effect::Duplicate | Effect::Replaced | Effect::Renumbered => {}
            Effect::Forward { .. } | Effect::Elsewhere(_) => panic!("there is no other server in this world"),
            Effect::Read { from, room, generation } => self.ask_disk(Ask::Read { from, room, generation }),
            Effect::Remove(seq) => {
                if let Some(envelope) = self.disk.envelope_at(seq) {
                    self.judge.removed(envelope, self.now);
                }
                self.ask_disk(Ask::Remove(seq));
            }
            Effect::Close(connection, _) => {
                let later = self.now + self.random.within(0, 50);
                let socket = self.socket(connection);
                if socket.is_open() {
                    socket.state = State::Broken(later);
                } else if let State::Broken(at) = socket.state {
                    socket.state = State::Broken(at.min(later));
                }
            }
        }
    }

    fn ask_disk(&mut self, ask: Ask) {
        self.disk.ask(ask, self.now, &self.plan, &mut self.random);
    }

    fn socket(&mut self, connection: ConnectionId) -> &mut Socket {
        &mut self.sockets[connection.0 as usize]
    }

    /// Lets everything happen that happens by itself until `until`.
    pub(crate) fn run(&mut self, until: u64) {
        loop {
            self.write_all();
            let (at, what) = self.next_event();
            if at > until {
                self.advance(until);
                return;
            }
            self.advance(at);
            match what {
                Event::Tick => {
                    self.ticks_at += 1_000;
                    self.say(|| "tick".into());
                    self.ask("tick", |lane, now, out| lane.tick(|_| None, now, out));
                }
                Event::Ask => {
                    if let Some((_, connection)) = self.unasked.pop_front() {
                        self.ask("ask_now", |lane, _, out| lane.ask_now(connection, out));
                    }
                }
                Event::Disk => self.disk_answers(),
                Event::Read(at) => self.client_reads(at),
                Event::Arrival(at) => self.server_reads(at),
                Event::Leave(at) => self.detach(at),
            }
        }
    }

    fn advance(&mut self, to: u64) {
        if to > self.now {
            self.now = to;
            self.calls = 0;
        }
    }

    fn next_event(&self) -> (u64, Event) {
        let mut next = (self.ticks_at, Event::Tick);
        let mut consider = |at: Option<u64>, event: Event| {
            if let Some(at) = at.filter(|at| *at < next.0) {
                next = (at, event);
            }
        };
        consider(self.unasked.front().map(|(at, _)| *at), Event::Ask);
        consider(self.disk.next_at(), Event::Disk);
        for (at, socket) in self.sockets.iter().enumerate().filter(|(_, socket)| socket.is_attached()) {
            consider(socket.reads_at(), Event::Read(at));
            consider(socket.arrives_at(), Event::Arrival(at));
            consider(socket.leaves_at(), Event::Leave(at));
        }
        (next.0.max(self.now), next.1)
    }

    fn write_all(&mut self) {
        while let Some(at) = self.sockets.iter().position(Socket::is_writable) {
            let connection = self.sockets[at].connection;
            let budget = self.random.within(1, 4_000) as usize;
            let mut batch = VecDeque::new();
            self.ask("take", |lane, now, out| lane.take(connection, budget, now, &mut batch, out));
            self.sockets[at].wanted = !batch.is_empty();
            for frame in batch {
                self.say(|| format!("  {connection:?} <- {:?}", frames::decode(&frame)));
                if let Frame::Envelope { envelope, .. } = frames::decode(&frame)
                    && !self.plan.overtakes
                {
                    self.judge.written(envelope, self.now);
                }
                self.sockets[at].write(frame, self.now, &mut self.random);
            }
        }
    }

    fn disk_answers(&mut self) {
        match self.disk.answer(self.now, &self.plan) {
            Answer::Appended { from, key, keep, seq, tickets, envelope } => {
                self.say(|| format!("appended {envelope} at {seq:?}"));
                self.judge.stored(envelope);
                for (lost, why) in std::mem::take(&mut self.disk.lost) {
                    self.judge.lost(lost, why);
                }
                for ticket in tickets {
                    self.judge.settled(ticket, Outcome::Stored);
                }
                match from {
                    From::Lane => self.ask("appended", |lane, now, out| {
                        lane.appended(key, &keep, Kept::InInbox(seq), now, out);
                    }),
                    From::Elsewhere => self.ask("elsewhere", |lane, _, out| lane.stored_elsewhere(seq, out)),
                }
            }
            Answer::Refused { from, item } => {
                let envelope = frames::envelope_of(item.encoded.frame());
                self.say(|| format!("refused {envelope}"));
                self.judge.failed(envelope);
                match from {
                    From::Lane => self.ask("unstored", |lane, now, out| lane.unstored(item, now, out)),
                    From::Elsewhere => {
                        for ticket in item.ticket.into_iter().chain(item.repeats) {
                            self.judge.settled(ticket, Outcome::Failed);
                        }
                    }
                }
            }
            Answer::Page { items, end, generation } => {
                self.say(|| format!("page of {} items, {end:?}", items.len()));
                self.ask("page", |lane, now, out| lane.page(generation, items, end, now, out));
            }
            Answer::Nothing => {}
        }
    }

    fn client_reads(&mut self, at: usize) {
        let frame = self.sockets[at].read(self.now, &mut self.random);
        self.say(|| format!("  {at} reads {:?}", frames::decode(&frame)));
        match frames::decode(&frame) {
            Frame::Envelope { envelope, seq } => {
                self.judge.received(envelope, seq);
                self.nothing_from_before(at, seq);
                if self.sockets[at].options.acks == Acks::Application {
                    let whole = self.plan.is_auto() && self.random.percent(30);
                    let what = seq.filter(|_| whole).map_or(Sent::Ack(envelope), Sent::AckTo);
                    self.sockets[at].send(what, self.now, &mut self.random);
                }
            }
            Frame::Ping(counter) => self.sockets[at].send(Sent::Pong(counter), self.now, &mut self.random),
            Frame::Own => {}
            Frame::Close => self.sockets[at].state = State::Broken(self.now + 1),
        }
    }

    /// A device that fetches is sent what was stored while it is attached, and nothing else.
    fn nothing_from_before(&self, at: usize, seq: Option<Seq>) {
        if self.plan.manual == 100 && self.plan.repeated == 0 && self.sockets[at].options.replay == Replay::Manual {
            assert!(seq.is_none_or(|seq| seq > self.before), "{seq:?} was stored before the device attached");
        }
    }

    fn server_reads(&mut self, at: usize) {
        let connection = self.sockets[at].connection;
        let what = self.sockets[at].arrive();
        self.say(|| format!("  {at} sends {what:?}"));
        self.ask("received", |lane, now, _| lane.received(connection, now));
        match what {
            Sent::Pong(counter) => self.ask("pong", |lane, now, out| lane.pong(connection, counter, now, out)),
            Sent::Ack(envelope) => {
                let keep = self.judge.sent[envelope].keep.clone();
                self.ask("ack", |lane, now, out| lane.ack(connection, &keep.sender, &keep.id, now, out));
            }
            Sent::AckTo(seq) => {
                self.ask_disk(Ask::Trim(seq));
                self.ask("ack_to", |lane, now, out| lane.ack_to(seq, now, out));
            }
        }
    }

    pub(crate) fn detach(&mut self, at: usize) {
        let connection = self.sockets[at].connection;
        self.say(|| format!("detach {at}"));
        self.sockets[at].state = State::Gone;
        self.ask("detach", |lane, now, out| lane.detach(connection, now, out));
    }

    pub(crate) fn attach(&mut self, options: Options, slowness: u64) {
        let connection = ConnectionId(self.sockets.len() as u64);
        self.say(|| format!("attach {} {options:?}", connection.0));
        if !self.lane.is_attached() {
            self.before = Seq(self.disk.inbox.head().next.0 - 1);
        }
        let capacity = [100, 2_000, 50_000][self.random.pick(3)];
        self.sockets.push(Socket::new(connection, options, slowness, capacity));
        self.ask("attach", |lane, now, out| lane.attach(connection, options, now, out));
    }

    pub(crate) fn attach_healthy(&mut self) {
        let limit = self.plan.limit as usize;
        self.attach(Options { acks: Acks::Transport, replay: Replay::Auto, limit, number: 1 }, HEALTHY);
    }

    pub(crate) fn offer(&mut self, envelope: usize) {
        let item = self.item(envelope);
        self.say(|| format!("offer {envelope} {:?} {:?} ticket {:?}", item.class, item.key, item.ticket));
        self.ask("offer", |lane, now, out| lane.offer(item, now, out));
    }

    /// An envelope that comes into the inbox without the lane.
    pub(crate) fn store_elsewhere(&mut self) {
        let fill = self.random.within(0, self.plan.largest) as usize;
        let envelope = self.judge.send(ELSEWHERE, Class::Reliable, None, fill, None);
        let item = self.item(envelope);
        self.say(|| format!("elsewhere {envelope}"));
        self.ask_disk(Ask::Append(item, From::Elsewhere));
    }

    fn item(&mut self, envelope: usize) -> Item<Ticket> {
        let sent = &self.judge.sent[envelope];
        let (class, key, expires, keep, fill) = (sent.class, sent.key, sent.expires, sent.keep.clone(), sent.fill);
        let ticket = (class != Class::Fast).then(|| self.judge.ticket(envelope, self.now));
        Item {
            encoded: frames::envelope(envelope, fill),
            key,
            seq: None,
            class,
            ticket,
            repeats: Vec::new(),
            expires,
            keep,
            shown: None,
            custody: Custody::Own,
        }
    }

    pub(crate) fn new_envelope(&mut self) -> usize {
        let (plan, random) = (&self.plan, &mut self.random);
        let class = match random.percent(plan.fast) {
            true if random.percent(50) => Class::Fast,
            true => Class::FastTracked,
            false => Class::Reliable,
        };
        let key = random.percent(plan.keyed).then_some(Key(self.judge.sent.len() as u128));
        let expires = random.percent(plan.expiring).then(|| Millis(self.now + [50, 3_000, 15_000][random.pick(3)]));
        let fill = random.within(0, plan.largest) as usize;
        self.judge.send(random.pick(3), class, key, fill, expires)
    }

    /// A frame of the server's own: a notice or a control frame.
    pub(crate) fn own_frame(&mut self) {
        let fill = self.random.within(0, 300) as usize;
        let frame = frames::own(fill);
        let attached: Vec<_> = self.lane.connections().collect();
        let Some(connection) = attached.last().copied() else { return };
        if self.random.percent(20) && self.lane.bytes() < CONTROL / 2 {
            let _: Delivery = self.ask("control", |lane, _, out| lane.control(connection, frame.frame().clone(), out));
        } else {
            let _: Delivery = self.ask("notify", |lane, _, out| lane.notify(&frame, out));
        }
    }

    pub(crate) fn end(&mut self, at: usize) {
        let connection = self.sockets[at].connection;
        self.sockets[at].told_to_go = true;
        if self.random.percent(50) {
            self.say(|| format!("leave {at}"));
            return self.lane.leave(connection);
        }
        self.say(|| format!("end {at}"));
        self.ask("end", |lane, _, out| lane.end(connection, frames::close(), out));
    }
}

enum Event {
    Tick,
    Ask,
    Disk,
    Read(usize),
    Arrival(usize),
    Leave(usize),
}
