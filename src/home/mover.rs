//! The mover: in the background it brings what lies here and belongs elsewhere to where it belongs.
//!
//! Part of the postman's round. When the members have changed it walks through the store: inboxes and records of which this
//! server is not the home go to their home, small records are copied to home and deputy. It walks again until there was nothing
//! left to move, then it notes for which members that is so. A walk that a crash or an unreachable server has cut short begins
//! anew.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::arrivals::Given;
use super::boxes::{put_json, read_json};
use super::copies::Copy;
use super::homes::Homes;
use super::keys;
use super::postman::Postman;
use super::question::{Answer, Question};
use crate::model::ids::{Millis, NodeId};
use crate::model::keyed::HashMap;
use crate::model::placement::Placement;
use crate::store::{Journal, Order, Store, StoreError, Table, Write};
use crate::view::steady;

/// Keys looked at in one step, and steps in one round.
const STEP: usize = 500;
const STEPS: usize = 10;
/// Shipments and batches under way at a time.
const MOST_UNDER_WAY: usize = 16;
/// After a walk that was not the last one, in milliseconds.
const PAUSE_MS: u64 = 500;

/// What a walk looks through, in order.
const STAGES: [(Table, u8); 4] =
    [(Table::Inbox, 0), (Table::Records, b'h'), (Table::Records, b'd'), (Table::Records, b'c')];

/// For which members everything is where it belongs: other servers ask.
#[derive(Default)]
pub(super) struct Placed {
    members: Mutex<Vec<NodeId>>,
    strayed: AtomicBool,
}

impl Placed {
    fn set(&self, members: &[NodeId]) {
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = members.to_vec();
    }

    /// Something was stored here that belongs elsewhere.
    pub(super) fn stray(&self) {
        self.strayed.store(true, Ordering::Release);
    }

    /// Whether this server has nothing left that belongs to `server`.
    pub(super) fn includes(&self, server: &NodeId) -> bool {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).contains(server)
    }

    /// Whether `own`, this server, has been forgotten, and has nothing left that belongs to `server`.
    pub(super) fn includes_without(&self, own: &NodeId, server: &NodeId) -> bool {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.contains(server) && !members.contains(own)
    }
}

/// How a walk has gone so far.
#[derive(Default)]
struct Tally {
    /// What was handed over before the walk began, while other servers were the members, is written.
    is_flushed: AtomicBool,
    under_way: AtomicUsize,
    /// What was moved, or could not be.
    unsettled: AtomicUsize,
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Mover {
    /// For which everything is done.
    done: Option<Arc<Placement>>,
    walk: Option<Walk>,
    not_before: Millis,
    asked: Millis,
}

struct Walk {
    placement: Arc<Placement>,
    stage: usize,
    from: Bytes,
    tally: Arc<Tally>,
}

impl Walk {
    fn new(placement: Arc<Placement>, homes: &Homes) -> Self {
        let tally: Arc<Tally> = Arc::default();
        let (of_done, bell) = (tally.clone(), homes.clone());
        let done = move |_| {
            of_done.is_flushed.store(true, Ordering::Release);
            bell.bell().ring(&[]);
        };
        homes.submit(Vec::new(), Box::new(done));
        Self { placement, stage: 0, from: Bytes::new(), tally }
    }
}

impl Mover {
    /// What is known from before: nothing is to be moved while members and pins are still the same.
    pub(super) fn restore(&mut self, postman: &Postman) -> Result<(), StoreError> {
        let placement = postman.view.mesh.placement();
        let placed: Option<(Vec<NodeId>, u64)> = read_json(&*postman.store, &keys::placed())?;
        if placed.is_some_and(|(members, pins)| members == placement.members() && pins == placement.pins_digest()) {
            postman.homes.placed().set(placement.members());
            self.done = Some(placement);
        }
        Ok(())
    }

    /// One round.
    pub(super) fn step(&mut self, postman: &Postman) {
        postman.homes.seek_put_off();
        self.ask_former_homes(postman);
        if postman.homes.placed().strayed.swap(false, Ordering::AcqRel) {
            self.done = None;
        }
        let placement = postman.view.mesh.placement();
        let is_same = |known: &Arc<Placement>| Arc::ptr_eq(known, &placement);
        if self.done.as_ref().is_some_and(is_same) || placement.members() == [postman.view.mesh.own().clone()] {
            return;
        }
        let now = steady();
        if now < self.not_before {
            return;
        }
        let walk = match self.walk.take() {
            Some(walk) if is_same(&walk.placement) => self.walk.insert(walk),
            _ => self.walk.insert(Walk::new(placement.clone(), &postman.homes)),
        };
        if !walk.tally.is_flushed.load(Ordering::Acquire) {
            return;
        }
        for _ in 0..STEPS {
            walk.go_on(postman);
        }
        if walk.stage < STAGES.len() {
            return;
        }
        if walk.tally.under_way.load(Ordering::Acquire) > 0 {
            return;
        }
        if walk.tally.unsettled.load(Ordering::Acquire) > 0 {
            self.walk = None;
            self.not_before = now.plus(PAUSE_MS);
            return;
        }
        self.walk = None;
        self.done = Some(placement.clone());
        postman.homes.placed().set(placement.members());
        // Not written, it is only done once more.
        postman
            .homes
            .submit(vec![put_json(keys::placed(), &(placement.members(), placement.pins_digest()))], Box::new(|_| {}));
    }

    /// Whether all that is ours has come.
    fn ask_former_homes(&mut self, postman: &Postman) {
        let now = steady();
        if now.since(self.asked) < PAUSE_MS {
            return;
        }
        self.asked = now;
        for (server, given) in postman.homes.arrivals().unsettled() {
            if postman.view.mesh.is_reachable(&server) {
                let (homes, of) = (postman.homes.clone(), server.clone());
                let then = move |result| {
                    if matches!(result, Ok(Answer::Count(1))) {
                        homes.has_all_of(&of, given);
                    }
                };
                let question = match given {
                    Given::AtJoining => Question::HaveAll,
                    Given::AtLeaving => Question::HaveLeft,
                };
                postman.homes.remote().ask_then(&server, &question, Box::new(then));
            }
        }
    }
}

impl Walk {
    fn go_on(&mut self, postman: &Postman) {
        let Some((table, sort)) = STAGES.get(self.stage).copied() else { return };
        let room = MOST_UNDER_WAY.saturating_sub(self.tally.under_way.load(Ordering::Acquire));
        if room == 0 {
            return;
        }
        let (first, end) = match table {
            Table::Inbox => (Bytes::new(), Bytes::from_static(&[0xff])),
            _ => keys::all(sort),
        };
        let from = if self.from.is_empty() { first } else { std::mem::take(&mut self.from) };
        let mut ship: Vec<NodeId> = Vec::new();
        let mut copies: HashMap<NodeId, Vec<(Copy, Option<Bytes>)>> = HashMap::default();
        let mut looked = 0;
        let mut next = Bytes::new();
        let own = postman.view.mesh.own();
        let scanned = postman.store.scan(table, &from, &end, Order::Ascending, &mut |key, value| {
            let id = match table {
                Table::Inbox => keys::place_of(key).map(|(device, _)| device.to_string()),
                _ => keys::first_id(key).map(str::to_owned),
            };
            let Some(id) = id.filter(|id| ship.last().is_none_or(|last| last.as_str() != *id)) else {
                return ControlFlow::Continue(());
            };
            if looked == STEP || ship.len() == room {
                next = Bytes::copy_from_slice(key);
                return ControlFlow::Break(());
            }
            looked += 1;
            let (home, deputy) = self.placement.ranked(&id);
            let keeps = home == *own || deputy.as_ref() == Some(own);
            if table == Table::Inbox || sort == b'h' || (sort == b'd' && !keeps) {
                ship.extend(id.parse().ok().filter(|_| home != *own));
                return ControlFlow::Continue(());
            }
            let copy = match sort {
                b'd' => serde_json::from_slice(&value)
                    .ok()
                    .and_then(|record| Some(Copy::Device { device: id.parse().ok()?, record })),
                _ => id
                    .parse()
                    .ok()
                    .zip(keys::last_id(key).and_then(|device| device.parse().ok()))
                    .map(|(client, device)| Copy::client(client, device, &value)),
            };
            if let Some(copy) = copy {
                let other = if home == *own { deputy } else { Some(home) };
                if let Some(other) = other {
                    let key = (!keeps).then(|| Bytes::copy_from_slice(key));
                    copies.entry(other).or_default().push((copy, key));
                }
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = scanned {
            log::error!("what is to be moved cannot be read: {error}");
            self.tally.unsettled.fetch_add(1, Ordering::AcqRel);
        }
        self.from = next;
        if self.from.is_empty() {
            self.stage += 1;
        }
        for device in ship {
            let home = self.placement.home(device.as_str()).clone();
            self.ship(&postman.homes, &device, home);
        }
        for (server, copies) in copies {
            self.copy(&postman.homes, &server, copies);
        }
    }

    fn ship(&self, homes: &Homes, device: &NodeId, home: NodeId) {
        let (tally, bell) = (self.tally.clone(), homes.clone());
        tally.under_way.fetch_add(1, Ordering::AcqRel);
        let done = move |result| {
            // Where something was moved, something else may have been added meanwhile.
            if result != Ok(false) {
                tally.unsettled.fetch_add(1, Ordering::AcqRel);
            }
            tally.under_way.fetch_sub(1, Ordering::AcqRel);
            bell.bell().ring(&[]);
        };
        homes.ship(device, home, Box::new(done));
    }

    /// Copies for `server`; those with a key are not kept here when it has them.
    fn copy(&self, homes: &Homes, server: &NodeId, copies: Vec<(Copy, Option<Bytes>)>) {
        let tally = self.tally.clone();
        tally.under_way.fetch_add(1, Ordering::AcqRel);
        let (copies, keys): (Vec<Copy>, Vec<Option<Bytes>>) = copies.into_iter().unzip();
        let of_then = homes.clone();
        let then = move |result| {
            if matches!(result, Ok(Answer::Done)) {
                let delete = |key| Write::Delete { table: Table::Records, key };
                let writes: Vec<Write> = keys.into_iter().flatten().map(delete).collect();
                if !writes.is_empty() {
                    tally.unsettled.fetch_add(1, Ordering::AcqRel);
                    of_then.submit(writes, Box::new(|_| {}));
                }
            } else {
                tally.unsettled.fetch_add(1, Ordering::AcqRel);
            }
            tally.under_way.fetch_sub(1, Ordering::AcqRel);
        };
        homes.remote().ask_then(server, &Question::Copies(copies), Box::new(then));
    }
}

/// The former homes that have said that they have nothing more of ours.
pub(super) fn settled(store: &dyn Store) -> Result<Vec<(NodeId, Given)>, StoreError> {
    let (from, to) = keys::all(b'v');
    let mut settled = Vec::new();
    store.scan(Table::Records, &from, &to, Order::Ascending, &mut |key, value| {
        let given = serde_json::from_slice(&value).unwrap_or(Given::AtJoining);
        settled.extend(keys::last_id(key).and_then(|id| Some((id.parse().ok()?, given))));
        ControlFlow::Continue(())
    })?;
    Ok(settled)
}
