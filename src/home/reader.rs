//! The reader: the thread that reads inboxes, for lanes that catch up and for devices that fetch.
//!
//! Apart from the committer, so that a device with a long inbox does not hold up what is being stored. It sees only what
//! is durable.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::boxes::read_json;
use super::copies::Copy;
use super::keys;
use super::moving::{self, Parts};
use super::queue::Then;
use super::record::Record;
use crate::model::frames::Dispatch;
use crate::model::ids::{ClientId, NodeId, Seq};
use crate::model::inbox::Head;
use crate::model::lane::End;
use crate::model::outbox::{Class, Custody, Item};
use crate::store::{Order, Store, StoreError, Table, Unavailable};
use crate::view::{Device, Parcel, View, now};
use crate::wire::config_request::{Fetch, First, More, Page};
use crate::wire::native;

/// Bytes of messages in one answer to a fetch (DESIGN 5).
const MAX_PAGE_BYTES: usize = 512 * 1024;
/// Envelopes read for a lane at once.
const MAX_REPLAY: usize = 1000;

pub(super) enum Request {
    Replay {
        whom: Whom,
        from: Seq,
        room: usize,
    },
    Fetch {
        device: NodeId,
        fetch: Fetch,
        answer: Then<Page>,
    },
    /// All there is of a device, to go to another server.
    Pack {
        device: NodeId,
        then: Then<Parts>,
    },
    /// Whose devices are a client's now.
    Devices {
        client: ClientId,
        then: Then<Vec<NodeId>>,
    },
    /// What is known of a client's devices.
    Client {
        client: ClientId,
        then: Then<Vec<Copy>>,
    },
}

/// Who reads an inbox.
pub(super) enum Whom {
    /// The lane of a device at this server.
    Lane(Arc<Device>, u64),
    /// Another server, by its number.
    Server { server: NodeId, number: u64, device: NodeId },
}

impl Whom {
    pub(super) fn device(&self) -> &NodeId {
        match self {
            Self::Lane(device, _) => device.id(),
            Self::Server { device, .. } => device,
        }
    }
}

/// Fetches that may wait; a further one is refused. Replays are bounded by nature: a lane asks for one page at a time.
const MAX_WAITING: usize = 10_000;

/// What waits for the reader.
#[derive(Default)]
pub(super) struct Reads {
    waiting: Mutex<VecDeque<Request>>,
    filled: Condvar,
}

impl Reads {
    pub(super) fn push(&self, request: Request) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            Request::Fetch { answer, .. } if waiting.len() >= MAX_WAITING => {
                answer(Err(Unavailable));
            }
            request => waiting.push_back(request),
        }
        self.filled.notify_one();
    }

    fn next(&self) -> Option<Request> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn take(&self) -> Request {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match waiting.pop_front() {
                Some(request) => return request,
                None => waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

pub(super) struct Reader {
    pub reads: Arc<Reads>,
    pub store: Arc<dyn Store>,
    pub view: Arc<View>,
}

impl Reader {
    pub(super) fn run(self) {
        loop {
            self.serve(self.reads.take());
        }
    }

    /// What waits now; whether there was anything.
    pub(super) fn turn(&self) -> bool {
        let request = self.reads.next();
        let any = request.is_some();
        request.into_iter().for_each(|request| self.serve(request));
        any
    }

    fn serve(&self, request: Request) {
        match request {
            Request::Replay { whom, from, room } => {
                let device = whom.device();
                let (items, end) = self.replay(device, from, room).unwrap_or_else(|error| {
                    log::error!("the inbox of {device} cannot be read: {error}");
                    (Vec::new(), End::More)
                });
                match whom {
                    Whom::Lane(device, generation) => self.view.page(&device, generation, items, end),
                    Whom::Server { server, number, .. } => self.send(&server, number, &items, end),
                }
            }
            Request::Fetch { device, fetch, answer } => {
                let page = self.fetch(&device, fetch).map_err(|error| {
                    log::error!("the inbox of {device} cannot be read: {error}");
                    Unavailable
                });
                answer(page);
            }
            Request::Devices { client, then } => {
                then(moving::devices_now(&*self.store, &client).map_err(|_| Unavailable));
            }
            Request::Client { client, then } => {
                then(moving::devices_of(&*self.store, &client).map_err(|_| Unavailable));
            }
            Request::Pack { device, then } => {
                let parts = moving::pack(&*self.store, &device).map_err(|error| {
                    log::error!("the inbox of {device} cannot be read: {error}");
                    Unavailable
                });
                then(parts);
            }
        }
    }

    /// Who cannot be reached reads again by itself.
    fn send(&self, server: &NodeId, number: u64, items: &[Parcel], end: End) {
        let now = now();
        let item = |item: &Parcel| Dispatch::PageItem { number, envelope: item.carried(now) };
        let dispatches = items.iter().map(item).chain([Dispatch::Page { number, end }]);
        for dispatch in dispatches {
            if self.view.mesh.send(server, &dispatch).is_err() {
                return;
            }
        }
    }

    fn replay(&self, device: &NodeId, from: Seq, room: usize) -> Result<(Vec<Parcel>, End), StoreError> {
        let now = now();
        let (start, end) = keys::envelopes_from(device, from);
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut reached = End::Reached;
        self.store.scan(Table::Inbox, &start, &end, Order::Ascending, &mut |key, value| {
            if bytes >= room || items.len() == MAX_REPLAY {
                reached = End::More;
                return ControlFlow::Break(());
            }
            let (Some((_, seq)), Some(record)) = (keys::place_of(key), Record::decode(value)) else {
                return ControlFlow::Continue(());
            };
            if record.expires.is_some_and(|at| at <= now) {
                return ControlFlow::Continue(());
            }
            let item: Parcel = Item {
                encoded: native::with_seq(&record.text, seq),
                key: record.key,
                seq: Some(seq),
                class: Class::Reliable,
                ticket: None,
                repeats: Vec::new(),
                expires: record.expires,
                keep: record.keep,
                shown: None,
                custody: Custody::Own,
            };
            bytes += item.cost();
            items.push(item);
            ControlFlow::Continue(())
        })?;
        Ok((items, reached))
    }

    fn fetch(&self, device: &NodeId, fetch: Fetch) -> Result<Page, StoreError> {
        let now = now();
        let from = fetch.from_seq.unwrap_or(Seq(0));
        let (start, mut end) = keys::envelopes_from(device, from);
        if let Some(to) = fetch.to_seq {
            end = end.min(keys::envelope(device, to.next()));
        }
        let order = match fetch.first {
            First::Oldest => Order::Ascending,
            First::Newest => Order::Descending,
        };
        let mut messages = Vec::new();
        let mut bytes = 0;
        let mut more = More::No;
        self.store.scan(Table::Inbox, &start, &end, order, &mut |key, value| {
            let (Some((_, seq)), Some(record)) = (keys::place_of(key), Record::decode(value)) else {
                return ControlFlow::Continue(());
            };
            let sent = record.keep.timestamp;
            let wanted =
                fetch.after.is_none_or(|after| sent > after) && fetch.before.is_none_or(|before| sent < before);
            if !wanted || record.expires.is_some_and(|at| at <= now) {
                return ControlFlow::Continue(());
            }
            let full = messages.len() as u32 == fetch.limit || bytes + record.text.len() > MAX_PAGE_BYTES;
            if full && !messages.is_empty() {
                more = More::Yes;
                return ControlFlow::Break(());
            }
            bytes += record.text.len();
            messages.push((seq, record.text));
            ControlFlow::Continue(())
        })?;
        let head: Head = read_json(&*self.store, &keys::head(device))?.unwrap_or_default();
        Ok(Page { messages, more, epoch: head.epoch(self.store.epoch()), dropped: head.dropped })
    }
}
