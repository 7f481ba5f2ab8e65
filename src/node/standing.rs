//! How full the server is, whether it goes away, and whether it has met its mesh: for everybody to read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use tokio::sync::Notify;

use crate::metrics;
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{Millis, NodeId};
use crate::model::keyed::HashMap;
use crate::model::topology::Load;
use crate::outside::steady;

/// A server that finds no peer for this long takes work all the same, in milliseconds.
const LONELY_MS: u64 = 5_000;

/// Whether a server is to wait for others before it takes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    Expected,
    None,
}

/// See the module's header.
#[derive(Debug)]
pub struct Standing {
    connections: AtomicU64,
    max: u64,
    per_second: u64,
    draining: AtomicBool,
    leaving: Notify,
    began: Millis,
    acquainted: AtomicBool,
    /// How far the clocks of the servers that this one is linked with are ahead of ours, in milliseconds.
    clocks: RwLock<HashMap<NodeId, i64>>,
}

impl Standing {
    /// `max` connections, and handshakes `per_second`; in the `company` of peers that are configured.
    pub fn new(max: u64, per_second: u64, company: Company) -> Self {
        Self {
            connections: AtomicU64::new(0),
            max,
            per_second,
            draining: AtomicBool::new(false),
            leaving: Notify::new(),
            began: steady(),
            acquainted: AtomicBool::new(company == Company::None),
            clocks: RwLock::default(),
        }
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// As other servers are told.
    pub fn load(&self) -> Load {
        Load { connections: self.connections(), max_connections: self.max, per_second: self.per_second }
    }

    pub fn is_full(&self) -> bool {
        self.connections() >= self.max
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether the first exchange with a peer is done, or is waited for no longer.
    pub fn is_acquainted(&self) -> bool {
        self.acquainted.load(Ordering::Relaxed) || steady().since(self.began) >= LONELY_MS
    }

    /// Returns when the server has been asked to go away.
    pub async fn leaving(&self) {
        self.leaving.notified().await;
    }

    /// What the clock of `server` says when ours says `now`, as far as that has been measured.
    pub fn clock_of(&self, server: &NodeId, now: Millis) -> Millis {
        let ahead = self.clocks.read().unwrap_or_else(PoisonError::into_inner).get(server).copied().unwrap_or_default();
        Millis(now.0.saturating_add_signed(ahead))
    }

    /// Why a newcomer is not taken, if it is not.
    pub fn refusal(&self) -> Option<Refusal> {
        if self.is_draining() {
            return Some(Refusal::new(Code::Draining, "this server is going away; ask again for another one"));
        }
        let full =
            || Refusal::new(Code::Full, format!("this server has its {} connections; try again later", self.max));
        self.is_full().then(full)
    }

    pub(super) fn came(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        metrics::CONNECTIONS.inc();
        metrics::CONNECTIONS_TOTAL.inc();
    }

    pub(super) fn went(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        metrics::CONNECTIONS.dec();
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.leaving.notify_one();
    }

    /// `None`: nothing is measured any more.
    pub(super) fn set_clock(&self, server: &NodeId, ahead_ms: Option<i64>) {
        let mut clocks = self.clocks.write().unwrap_or_else(PoisonError::into_inner);
        match ahead_ms {
            Some(ahead) => drop(clocks.insert(server.clone(), ahead)),
            None => drop(clocks.remove(server)),
        }
    }

    pub(super) fn acquaint(&self) {
        self.acquainted.store(true, Ordering::Relaxed);
    }
}
