//! The postman: the thread that sends held mail on, and looks after what was asked of other homes and is not answered.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::mover::{self, Mover};
use super::record::Record;
use super::{Homes, keys};
use crate::metrics;
use crate::model::custody::{Counts, Verdict};
use crate::model::envelope::Status;
use crate::model::ids::{NodeId, Seq};
use crate::model::lane::Lane;
use crate::model::outbox::{Class, Custody, Item};
use crate::store::{Order, Store, StoreError, Table};
use crate::view::{Parcel, Ticket, View, Whom};
use crate::wire::frame;

/// How often it looks without being called.
const ROUND: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Called {
    rung: bool,
    reachable: Vec<NodeId>,
    closed: bool,
}

/// What calls the postman.
#[derive(Default)]
pub(super) struct Bell {
    called: Mutex<Called>,
    rings: Condvar,
}

impl Bell {
    /// Something may go on; `reachable` are servers that can be reached again.
    pub(super) fn ring(&self, reachable: &[NodeId]) {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        called.rung = true;
        called.reachable.extend_from_slice(reachable);
        self.rings.notify_one();
    }

    pub(super) fn close(&self) {
        self.called.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.rings.notify_one();
    }

    /// Who can be reached again, at most after `patience`; `None`: it is over.
    fn wait(&self, patience: Duration) -> Option<Vec<NodeId>> {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        if !called.rung && !called.closed {
            called = self.rings.wait_timeout(called, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        let Called { reachable, closed, .. } = std::mem::take(&mut *called);
        called.closed = closed;
        (!closed).then_some(reachable)
    }
}

/// See the module's header.
pub(super) struct Postman {
    pub homes: Homes,
    pub view: Arc<View>,
    pub store: Arc<dyn Store>,
}

impl Postman {
    /// Learns what is held from before, and where everything belongs.
    pub(super) fn restore(&self) -> Result<Mover, StoreError> {
        let abroad = self.homes.abroad();
        self.store.scan(Table::Held, &[], &[0xff], Order::Ascending, &mut |key, value| {
            if let Some((device, Seq(number))) = keys::place_of(key) {
                abroad.restore(device, number, value.len() as u64);
            }
            ControlFlow::Continue(())
        })?;
        self.homes.arrivals().restore(mover::settled(&*self.store)?);
        let mut mover = Mover::default();
        mover.restore(self)?;
        Ok(mover)
    }

    pub(super) fn run(self, mut mover: Mover) {
        while let Some(reachable) = self.homes.bell().wait(ROUND) {
            self.round(&mut mover, &reachable);
        }
    }

    /// As [`Self::run`] does it each time, for whoever has rung.
    pub(super) fn turn(&self, mover: &mut Mover) {
        if let Some(reachable) = self.homes.bell().wait(Duration::ZERO) {
            self.round(mover, &reachable);
        }
    }

    fn round(&self, mover: &mut Mover, reachable: &[NodeId]) {
        self.homes.remote().tick();
        self.homes.abroad().tick(&self.view);
        if !reachable.is_empty() {
            self.homes_are_back(reachable);
        }
        reachable.iter().for_each(|server| self.homes.debts().look(server));
        self.settle_debts();
        self.return_home();
        mover.step(self);
        for device in self.homes.abroad().due() {
            if self.can_go_on(&device) {
                self.send_on(&device);
            }
        }
    }

    /// The devices here read what has been stored for them while their homes were away.
    fn homes_are_back(&self, servers: &[NodeId]) {
        let placement = self.view.mesh.placement();
        self.view.devices.for_each(|device| {
            if device.is_attached() && servers.contains(placement.home(device.id().as_str())) {
                self.view.on(device, |lane, _, out| Lane::home_is_back(lane, out));
            }
        });
    }

    fn can_go_on(&self, device: &NodeId) -> bool {
        let mesh = &self.view.mesh;
        mesh.takes_mail(&mesh.home(device.as_str())) || self.view.is_present(device)
    }

    /// The next of what is held for `device`, through its lane as any other envelope.
    fn send_on(&self, device: &NodeId) {
        for number in self.homes.abroad().next(device) {
            if !self.homes.abroad().may_go_on(number) {
                self.homes.abroad().forwarded(number, Verdict::Unavailable(Counts::default()));
                continue;
            }
            match self.store.get(Table::Held, &keys::held(device, number)) {
                Ok(value) => match value.and_then(Record::decode) {
                    Some(record) => self.offer(device, number, record),
                    None => {
                        metrics::INBOX_DROPPED.with_label_values(&["damaged"]).inc();
                        log::error!("an envelope held for {device} is damaged: it is lost");
                        self.homes.abroad().forwarded(number, GONE);
                    }
                },
                Err(error) => {
                    log::error!("what is held for {device} cannot be read: {error}");
                    self.homes.abroad().forwarded(number, Verdict::Unavailable(Counts::default()));
                }
            }
        }
    }

    fn offer(&self, device: &NodeId, number: u64, record: Record) {
        let ticket = Ticket::open(Whom::Held(number), record.keep.id.clone(), None, None, None);
        let item: Parcel = Item {
            encoded: frame::text(&record.text),
            key: record.key,
            seq: None,
            class: Class::Reliable,
            ticket: Some(ticket.clone()),
            repeats: Vec::new(),
            expires: record.expires,
            keep: record.keep,
            shown: None,
            custody: Custody::Own,
        };
        self.view.offer(device, item);
        self.view.release(&ticket);
    }
}

/// There is nothing left to send on.
const GONE: Verdict =
    Verdict::Confirmed { status: Status::Dropped, counts: Counts { dropped: 1, delivered: 0, stored: 0, failed: 0 } };
