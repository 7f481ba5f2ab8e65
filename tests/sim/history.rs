//! What has happened in a world, in order, with a number that two runs have in common only if they were the same.

use std::cell::RefCell;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// An envelope, by the order in which it was thought of.
pub(crate) type Number = usize;

/// For whom an envelope is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dest {
    Device(usize),
    Client(usize),
    Session(usize),
    /// One member of a session, as it is shown there.
    Member(usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    Reliable,
    Fast,
}

/// What somebody means to say.
#[derive(Debug, Clone, Hash)]
pub(crate) struct Envelope {
    pub(crate) from: usize,
    pub(crate) dest: Dest,
    pub(crate) class: Class,
    /// Given by the sender.
    pub(crate) id: Option<String>,
    pub(crate) fill: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    Delivered,
    Stored,
    Dropped,
}

/// How an envelope has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum How {
    Sent,
    Fetched,
}

/// As a device has got it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Receipt {
    pub(crate) device: usize,
    pub(crate) connection: u64,
    pub(crate) envelope: Number,
    pub(crate) src_id: String,
    pub(crate) id: String,
    pub(crate) seq: Option<u64>,
    /// Epoch and number in the session's order.
    pub(crate) order: Option<(u64, u64)>,
    pub(crate) how: How,
}

#[derive(Debug, Clone, Hash)]
pub(crate) enum Event {
    Connected {
        device: usize,
        server: usize,
        connection: u64,
    },
    Gone {
        device: usize,
        connection: u64,
    },
    Sent {
        envelope: Number,
        connection: u64,
    },
    Told {
        device: usize,
        envelope: Number,
        status: Status,
    },
    Refused {
        device: usize,
        envelope: Option<Number>,
        code: String,
    },
    Received(Receipt),
    Died {
        server: usize,
    },
    /// What else the world has done.
    World(String),
}

/// See the module's header.
#[derive(Default)]
pub(crate) struct History(RefCell<Told>);

#[derive(Default)]
struct Told {
    events: Vec<(u64, Event)>,
    hasher: DefaultHasher,
}

impl History {
    pub(crate) fn note(&self, now: u64, event: Event) {
        let mut told = self.0.borrow_mut();
        let Told { events, hasher } = &mut *told;
        (now, &event).hash(hasher);
        if std::env::var_os("SPARKMESH_TRACE").is_some() {
            eprintln!("{now:>7} {event:?}");
        }
        events.push((now, event));
    }

    pub(crate) fn hash(&self) -> u64 {
        self.0.borrow().hasher.finish()
    }

    pub(crate) fn events(&self) -> Vec<(u64, Event)> {
        self.0.borrow().events.clone()
    }

    /// When something last came to a device.
    pub(crate) fn last_stir(&self) -> u64 {
        let told = self.0.borrow();
        let stirs = |event: &Event| matches!(event, Event::Received(_) | Event::Told { .. } | Event::Refused { .. });
        told.events.iter().rev().find(|(_, event)| stirs(event)).map_or(0, |(at, _)| *at)
    }
}

/// The end of the history, for people.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LAST: usize = 60;
        let told = self.0.borrow();
        let skip = told.events.len().saturating_sub(LAST);
        told.events.iter().skip(skip).try_for_each(|(at, event)| writeln!(f, "{at:>7} {event:?}"))
    }
}
