//! The sessions as they are published, and the order of each.
//!
//! A session's home publishes a new value after each durable change; the data path reads it. Whoever speaks to a session
//! holds its order while it numbers the envelope and puts it into the members' queues: so every member gets the same
//! order, also from senders on different threads.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::View;
use super::mesh::Acting;
use crate::model::decide::{Known, Sessions};
use crate::model::ids::{NodeId, SessionId};
use crate::model::keyed::{HashMap, HashSet, Keyed};
use crate::model::numbering::Numbering;
use crate::model::placement::Placement;
use crate::model::post::Subject;
use crate::model::session::Session;

const SHARDS: usize = 64;

/// One session: its value as of now, and the number of its last envelope.
pub struct Published {
    current: ArcSwap<Session>,
    order: Mutex<Numbering>,
}

impl Published {
    pub fn current(&self) -> Arc<Session> {
        self.current.load_full()
    }

    /// The order, held until the guard is dropped.
    pub fn order(&self) -> MutexGuard<'_, Numbering> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module's header.
pub struct SessionTable {
    shards: Vec<RwLock<HashMap<SessionId, Arc<Published>>>>,
    hasher: Keyed,
    /// Of devices that are members of sessions with presence: which ones.
    watched: RwLock<HashMap<NodeId, HashSet<SessionId>>>,
    /// Who was home to what when the sessions that this server was to have by that were all here.
    whole: ArcSwapOption<Placement>,
    /// Raised when this server begins to number what another one has numbered before.
    epoch: AtomicU64,
}

impl SessionTable {
    pub fn new(epoch: u64) -> Self {
        Self {
            shards: std::iter::repeat_with(RwLock::default).take(SHARDS).collect(),
            hasher: Keyed,
            watched: RwLock::default(),
            whole: ArcSwapOption::empty(),
            epoch: AtomicU64::new(epoch),
        }
    }

    /// Numbers of envelopes mean something only within it.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// From now on numbers count within `epoch`, which must be higher than all that members have seen.
    pub fn begin(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    fn shard(&self, id: &SessionId) -> &RwLock<HashMap<SessionId, Arc<Published>>> {
        &self.shards[self.hasher.hash_one(id) as usize % SHARDS]
    }

    pub fn get(&self, id: &SessionId) -> Option<Arc<Published>> {
        self.shard(id).read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Whether all sessions that this server is to have are here, as far as could be found out: of another one it can be said
    /// that there is none. With another placement others may have sessions that this one is to have.
    pub fn is_whole(&self, placement: &Arc<Placement>) -> bool {
        self.whole.load().as_ref().is_some_and(|whole| Arc::ptr_eq(whole, placement))
    }

    /// All others have been asked for what is this server's by `placement`.
    pub fn all_here(&self, placement: Arc<Placement>) {
        self.whole.store(Some(placement));
    }

    pub fn all(&self) -> Vec<Arc<Published>> {
        let shards = self.shards.iter();
        let of = |shard: &RwLock<HashMap<SessionId, Arc<Published>>>| {
            shard.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>()
        };
        shards.flat_map(of).collect()
    }

    /// A session that is others' now.
    pub fn withdraw(&self, id: &SessionId) {
        let gone = self.shard(id).write().unwrap_or_else(PoisonError::into_inner).remove(id);
        let Some(gone) = gone else { return };
        crate::metrics::SESSIONS.dec();
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        for member in gone.current().members() {
            unwatch(&mut watched, member.node(), id);
        }
    }

    /// Publishes a new value of a session.
    pub fn publish(&self, session: Session) {
        let before = self.get(session.id());
        if session.options().presence {
            self.watch(&session, before.as_ref().map(|published| published.current()).as_deref());
        }
        match before {
            Some(published) => published.current.store(Arc::new(session)),
            None => {
                let id = session.id().clone();
                let published =
                    Arc::new(Published { current: ArcSwap::from_pointee(session), order: Mutex::default() });
                self.shard(&id).write().unwrap_or_else(PoisonError::into_inner).insert(id, published);
                crate::metrics::SESSIONS.inc();
            }
        }
    }

    fn watch(&self, session: &Session, before: Option<&Session>) {
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        for member in before.into_iter().flat_map(Session::members) {
            if session.member(member.node()).is_none() {
                unwatch(&mut watched, member.node(), session.id());
            }
        }
        for member in session.members() {
            if before.is_none_or(|before| before.member(member.node()).is_none()) {
                watched.entry(member.node().clone()).or_default().insert(session.id().clone());
            }
        }
    }

    /// Whether `device` is a member of a session with presence.
    pub fn is_watched(&self, device: &NodeId) -> bool {
        self.watched.read().unwrap_or_else(PoisonError::into_inner).contains_key(device)
    }

    /// The sessions with presence that `device` is a member of.
    pub fn watching(&self, device: &NodeId) -> Vec<Arc<Published>> {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        let ids = watched.get(device).into_iter().flatten();
        ids.filter_map(|id| self.get(id)).collect()
    }
}

fn unwatch(watched: &mut HashMap<NodeId, HashSet<SessionId>>, device: &NodeId, session: &SessionId) {
    if let Some(ids) = watched.get_mut(device) {
        ids.remove(session);
        if ids.is_empty() {
            watched.remove(device);
        }
    }
}

impl View {
    /// Who serves a session now. Nobody, for a while, where that is this server and the session may be on its way here.
    pub fn serves(&self, id: &SessionId) -> Acting {
        match self.mesh.acting(id.as_str()) {
            Acting::Here if self.sessions.get(id).is_none() && !self.sessions.is_whole(&self.mesh.placement()) => {
                Acting::Nobody
            }
            acting => acting,
        }
    }
}

/// The sessions of this server, as its own home sees them.
pub(super) struct Here<'a>(pub(super) &'a SessionTable);

impl Sessions for Here<'_> {
    fn session(&self, id: &SessionId) -> Known {
        self.0.get(id).map_or(Known::Nowhere, |published| Known::Here(published.current()))
    }
}

/// The sessions as an edge of this server sees them: many have their home elsewhere.
impl Sessions for View {
    fn session(&self, id: &SessionId) -> Known {
        match self.serves(id) {
            // Behind what others are still to answer for, so that nothing overtakes.
            Acting::Here if self.post.has(|| Subject::Session(id.clone())) => Known::Elsewhere,
            Acting::Here => Here(&self.sessions).session(id),
            Acting::There(_) | Acting::Nobody => Known::Elsewhere,
        }
    }
}
