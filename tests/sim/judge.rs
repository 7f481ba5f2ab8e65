//! The delivery promise (DESIGN 5) as laws over a history, with every exception that it states.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sparkmesh::model::lane::Replay;
use sparkmesh::store::Table;

use crate::history::{Class, Dest, Envelope, Event, How, Number, Receipt, Status};
use crate::plan::Profile;
use crate::world::World;

/// How much there was of everything.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) confirmed: u64,
    pub(crate) received: u64,
    pub(crate) duplicated: u64,
    pub(crate) late: u64,
    pub(crate) faults: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.confirmed += other.confirmed;
        self.received += other.received;
        self.duplicated += other.duplicated;
        self.late += other.late;
        self.faults += other.faults;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, confirmed, received, duplicated, late, faults } = self;
        write!(
            f,
            "{faults} faults, {sent} sent, {confirmed} confirmed, {received} received, {duplicated} of them again, {late} late"
        )
    }
}

/// Confirmations wait in an outbox like all else, and go over its bound at most once more: in bytes.
const SMALL_OUTBOX: usize = 10_000;

/// The first time.
struct Sent {
    at: u64,
    connection: u64,
    times: usize,
}

/// See the module's header.
pub(crate) struct Judge<'a> {
    world: &'a World,
    envelopes: Vec<Envelope>,
    sent: BTreeMap<Number, Sent>,
    told: BTreeMap<Number, Vec<Status>>,
    refused: BTreeSet<Number>,
    received: Vec<(u64, Receipt)>,
    /// The first of each device and envelope.
    first: BTreeMap<(usize, Number), (u64, Receipt)>,
    /// Connections that have ended before all came to rest.
    gone: BTreeSet<u64>,
    pub(crate) counts: Counts,
    against: Vec<String>,
}

impl<'a> Judge<'a> {
    /// What is against the promise, if anything.
    pub(crate) fn of(world: &'a World) -> (Counts, Vec<String>) {
        let mut judge = Self {
            world,
            envelopes: world.envelopes(),
            sent: BTreeMap::new(),
            told: BTreeMap::new(),
            refused: BTreeSet::new(),
            received: Vec::new(),
            first: BTreeMap::new(),
            gone: BTreeSet::new(),
            counts: Counts::default(),
            against: world.offences.borrow().clone(),
        };
        judge.read();
        judge.nothing_is_invented();
        judge.nothing_confirmed_is_lost();
        judge.everybody_is_told_once();
        judge.order_is_kept();
        judge.sessions_have_one_order();
        judge.nothing_is_left();
        if world.plan.profile == Profile::Calm {
            judge.nothing_comes_twice();
        }
        (judge.counts, judge.against)
    }

    fn read(&mut self) {
        let mut at_rest = false;
        let mut connected: Vec<(usize, u64)> = Vec::new();
        for (at, event) in self.world.history.events() {
            match event {
                Event::Sent { envelope, connection } => {
                    let sent = self.sent.entry(envelope).or_insert(Sent { at, connection, times: 0 });
                    sent.times += 1;
                }
                Event::Told { device, envelope, status } => {
                    if self.envelopes[envelope].from != device {
                        self.against.push(format!("d{device} is told of {envelope}, which it has not sent"));
                    }
                    self.told.entry(envelope).or_default().push(status);
                }
                Event::Refused { envelope, .. } => self.refused.extend(envelope),
                Event::Received(receipt) => {
                    self.first.entry((receipt.device, receipt.envelope)).or_insert_with(|| (at, receipt.clone()));
                    self.received.push((at, receipt));
                }
                Event::Gone { connection, .. } if !at_rest => drop(self.gone.insert(connection)),
                Event::World(what) if what == "all devices connect once more" => at_rest = true,
                Event::Connected { server, connection, .. } => connected.push((server, connection)),
                // Who is connected there may hear of it much later.
                Event::Died { server } => {
                    self.counts.faults += 1;
                    self.gone
                        .extend(connected.iter().filter(|(at, _)| *at == server).map(|(_, connection)| connection));
                }
                Event::World(what) if what.contains(" still") || what.contains(" cut") => {
                    self.counts.faults += 1;
                }
                Event::Gone { .. } | Event::World(_) => {}
            }
        }
        self.counts.sent = self.sent.len() as u64;
        self.counts.confirmed = self.told.len() as u64;
        self.counts.received = self.received.len() as u64;
        self.counts.duplicated = self.counts.received - self.first.len() as u64;
    }

    fn recipients(&self, number: Number) -> Vec<usize> {
        let envelope = &self.envelopes[number];
        let not_self = |device: &usize| *device != envelope.from;
        match envelope.dest {
            Dest::Device(device) => vec![device],
            Dest::Member(_, member) => vec![member],
            Dest::Client(client) => {
                let all = self.world.devices.iter().filter(|device| device.client == Some(client));
                all.map(|device| device.at).filter(not_self).collect()
            }
            Dest::Session(session) => {
                self.world.plan.sessions[session].iter().map(|(member, _)| *member).filter(not_self).collect()
            }
        }
    }

    /// What comes was said, to whom it comes, by whom it says; and it has one id, whenever it comes.
    fn nothing_is_invented(&mut self) {
        let mut ids: BTreeMap<Number, String> = BTreeMap::new();
        let mut against = Vec::new();
        for (at, receipt) in &self.received {
            let number = receipt.envelope;
            let Some(sent) = self.sent.get(&number).filter(|sent| sent.at <= *at) else {
                against.push(format!("nobody has sent {receipt:?}"));
                continue;
            };
            let _ = sent;
            if !self.recipients(number).contains(&receipt.device) {
                against.push(format!("{receipt:?} is for somebody else"));
            }
            let envelope = &self.envelopes[number];
            let shown = match envelope.dest {
                Dest::Session(session) | Dest::Member(session, _) => self.world.shown(session, envelope.from),
                Dest::Device(_) | Dest::Client(_) => format!("d{}", envelope.from),
            };
            let id = ids.entry(number).or_insert_with(|| envelope.id.clone().unwrap_or_else(|| receipt.id.clone()));
            if receipt.src_id != shown || receipt.id != *id {
                against.push(format!("{receipt:?} is from {shown}, and its id is {id}"));
            }
            if envelope.class == Class::Fast && (receipt.seq.is_some() || receipt.how == How::Fetched) {
                against.push(format!("{receipt:?} was stored, and is FAST"));
            }
        }
        self.against.append(&mut against);
    }

    /// Law 1: whoever is told "delivered" or "stored" need not worry.
    fn nothing_confirmed_is_lost(&mut self) {
        for (number, told) in &self.told {
            let envelope = &self.envelopes[*number];
            for status in told {
                let all = match (envelope.class, status) {
                    // Which of its devices were there nobody knows any more.
                    (Class::Fast, Status::Delivered) if matches!(envelope.dest, Dest::Client(_)) => Vec::new(),
                    (_, Status::Delivered) | (Class::Reliable, Status::Stored) => self.recipients(*number),
                    (Class::Fast, Status::Dropped) => Vec::new(),
                    (Class::Reliable, Status::Dropped) if self.recipients(*number).is_empty() => Vec::new(),
                    _ => {
                        self.against.push(format!("{number} ({envelope:?}) is said to be {status:?}"));
                        continue;
                    }
                };
                for device in all {
                    if !self.first.contains_key(&(device, *number)) {
                        self.against
                            .push(format!("LOST: {number} ({envelope:?}) is {status:?}, and d{device} has it not"));
                    }
                }
            }
        }
    }

    /// Whoever stays connected, to a server that lives, is told of each envelope; and nobody is told twice.
    fn everybody_is_told_once(&mut self) {
        for (number, sent) in &self.sent {
            let told = self.told.get(number).map_or(0, Vec::len);
            if told > sent.times {
                self.against.push(format!("{number} is told {told} times: {:?}", self.told[number]));
            }
            // A device that does not read what it has asked for is not told of all.
            let has_room = self.world.plan.outbox > SMALL_OUTBOX;
            if told == 0 && has_room && !self.refused.contains(number) && !self.gone.contains(&sent.connection) {
                self.against.push(format!("UNTOLD: {number} ({:?}), sent at {}", self.envelopes[*number], sent.at));
            }
        }
    }

    /// Whether mail for the inbox of `device` may have been held between these times.
    fn may_be_late(&self, device: usize, from: u64, to: u64) -> bool {
        let home = self.world.home_of(device);
        let troubles = self.world.troubles.borrow();
        troubles.iter().any(|trouble| trouble.server == home && trouble.from <= to && from <= trouble.to)
    }

    /// By way of which session's server an envelope goes, if it does: these have an order of their own.
    fn by_way_of(&self, number: Number) -> Option<usize> {
        match self.envelopes[number].dest {
            Dest::Session(session) | Dest::Member(session, _) => Some(session),
            Dest::Device(_) | Dest::Client(_) => None,
        }
    }

    /// Law 3: from one edge to one device, in the order sent; but for mail that was held, and for devices that fetch.
    fn order_is_kept(&mut self) {
        type Way = (u64, usize, Option<usize>);
        let mut by_pair: BTreeMap<Way, Vec<(u64, Number, u64)>> = BTreeMap::new();
        for ((device, number), (at, _)) in &self.first {
            let Some(sent) = self.sent.get(number) else { continue };
            if self.envelopes[*number].class == Class::Reliable
                && self.world.devices[*device].manner.replay == Replay::Auto
            {
                let way = (sent.connection, *device, self.by_way_of(*number));
                by_pair.entry(way).or_default().push((sent.at, *number, *at));
            }
        }
        for ((connection, device, _), mut pairs) in by_pair {
            // Sent in the order of the history; numbers of one sender grow.
            pairs.sort_unstable();
            for (place, late) in pairs.iter().enumerate() {
                let Some(early) = pairs[place + 1..].iter().find(|later| self.came_before(device, later.1, late.1))
                else {
                    continue;
                };
                if self.may_be_late(device, late.0, late.2) {
                    self.counts.late += 1;
                } else {
                    self.against.push(format!(
                        "ORDER: over connection {connection} to d{device} {} was sent at {} and came at {}, after {}, which was sent later",
                        late.1, late.0, late.2, early.1
                    ));
                }
            }
        }
    }

    fn came_before(&self, device: usize, one: Number, other: Number) -> bool {
        let place = |number| {
            let (at, receipt) = &self.first[&(device, number)];
            let same = |(when, other): &(u64, Receipt)| when == at && other == receipt;
            self.received.iter().position(same)
        };
        place(one) < place(other)
    }

    /// Within an epoch a number means one envelope, an envelope has one number, and both are the same for all.
    fn sessions_have_one_order(&mut self) {
        let mut of_number: BTreeMap<(usize, u64, u64), Number> = BTreeMap::new();
        let mut of_envelope: BTreeMap<(Number, u64), u64> = BTreeMap::new();
        let mut against = Vec::new();
        for (_, receipt) in &self.received {
            let Dest::Session(session) = self.envelopes[receipt.envelope].dest else { continue };
            if self.envelopes[receipt.envelope].class == Class::Fast {
                continue;
            }
            let Some((epoch, seq)) = receipt.order else {
                against.push(format!("{receipt:?} has no place in its session"));
                continue;
            };
            let known = *of_number.entry((session, epoch, seq)).or_insert(receipt.envelope);
            if known != receipt.envelope {
                against.push(format!("SPLIT: number {seq} of epoch {epoch} is {known} and {}", receipt.envelope));
            }
            let known = *of_envelope.entry((receipt.envelope, epoch)).or_insert(seq);
            if known != seq {
                against.push(format!("TWICE: {} is number {known} and {seq} of epoch {epoch}", receipt.envelope));
            }
        }
        self.against.append(&mut against);
    }

    /// Once quiet, nothing waits for anybody.
    fn nothing_is_left(&mut self) {
        for server in &self.world.servers {
            for table in [Table::Inbox, Table::Held] {
                if server.disk.count(table) > 0 {
                    let keys = server.disk.keys(table);
                    self.against.push(format!("LEFT: {:?} of {} has {keys:?}", table, server.id));
                }
            }
        }
    }

    /// Where nothing goes wrong nothing is sent again.
    fn nothing_comes_twice(&mut self) {
        if self.counts.duplicated > 0 {
            self.against.push(format!("{} came again, and nothing had gone wrong", self.counts.duplicated));
        }
        if !self.refused.is_empty() {
            self.against.push(format!("{:?} were refused, and nothing had gone wrong", self.refused));
        }
    }
}
