//! What all links of this server work with, and which servers it has links to.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Notify;

use super::dialler::{Dialler, LinkEnded};
use super::messages::{Host, LinkId};
use crate::auth::key::Keyring;
use crate::auth::peer::PeerKeys;
use crate::config::Permission;
use crate::model::ids::NodeId;
use crate::tls::link::DialTls;
use crate::view::Receiver;

/// Faults of servers that dial us that are remembered, so that each is in the log once.
const COMPLAINTS: usize = 256;

/// What [`Links::new`] needs.
pub struct Setup {
    pub own: NodeId,
    pub host: Host,
    pub receiver: Arc<dyn Receiver>,
    pub tls: DialTls,
    /// Whether a server that dials may come without a client certificate; where not, the TLS side has verified it.
    pub without_certificate: Permission,
}

/// See the module's header.
pub struct Links {
    pub(super) own: NodeId,
    pub(super) keys: Arc<PeerKeys>,
    pub(super) host: Host,
    pub(super) receiver: Arc<dyn Receiver>,
    pub(super) tls: Arc<DialTls>,
    pub(super) without_certificate: Permission,
    next: AtomicU64,
    /// How many links there are to each server: for a moment there may be two.
    live: Mutex<HashMap<NodeId, usize>>,
    threads: Mutex<Threads>,
    offered: Notify,
    dialler: OnceLock<Addr<Dialler>>,
    complaints: Mutex<HashSet<String>>,
}

#[derive(Default)]
struct Threads {
    all: Vec<ArbiterHandle>,
    next: usize,
}

impl Links {
    pub fn new(setup: Setup, keyring: &Keyring) -> Self {
        Self {
            own: setup.own,
            keys: Arc::new(PeerKeys::new(keyring)),
            host: setup.host,
            receiver: setup.receiver,
            tls: Arc::new(setup.tls),
            without_certificate: setup.without_certificate,
            next: AtomicU64::new(1),
            live: Mutex::default(),
            threads: Mutex::default(),
            offered: Notify::new(),
            dialler: OnceLock::new(),
            complaints: Mutex::default(),
        }
    }

    /// Offers the calling thread for links that are dialled: to be called by each thread of the HTTP server, where edges
    /// and accepted links live, so that a frame seldom has to wake another thread on its way.
    pub fn offer_thread(&self) {
        if let Some(thread) = Arbiter::try_current() {
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).all.push(thread);
            self.offered.notify_one();
        }
    }

    /// Returns when a thread has been offered: a link that was dialled before would live on the caller's for its whole life,
    /// and each of its frames wake another one. For one who waits.
    pub async fn thread_offered(&self) {
        while self.threads.lock().unwrap_or_else(PoisonError::into_inner).all.is_empty() {
            self.offered.notified().await;
        }
    }

    /// Runs what `work` makes on one of the threads offered, else here.
    pub(super) fn spawn<F: Future<Output = ()> + 'static>(&self, work: impl FnOnce() -> F + Send + 'static) {
        let thread = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            // One that has ended (the HTTP server replaces threads that panic) runs nothing any more.
            threads.all.retain(|thread| thread.spawn_fn(|| ()));
            threads.next = threads.next.wrapping_add(1);
            let at = threads.next % threads.all.len().max(1);
            threads.all.get(at).cloned()
        };
        match thread {
            Some(thread) => drop(thread.spawn_fn(move || drop(actix::spawn(work())))),
            None => drop(actix::spawn(work())),
        }
    }

    pub(super) fn dialled_by(&self, dialler: Addr<Dialler>) {
        self.dialler.get_or_init(|| dialler);
    }

    pub(super) fn next_id(&self) -> LinkId {
        LinkId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn began(&self, peer: &NodeId) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner).entry(peer.clone()).or_default() += 1;
    }

    /// `lived`: for how long there was a link.
    pub(super) fn ended(&self, peer: &NodeId, lived: Duration) {
        {
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(links) = live.get_mut(peer.as_str()) {
                *links -= 1;
                if *links == 0 {
                    live.remove(peer.as_str());
                }
            }
        }
        if let Some(dialler) = self.dialler.get() {
            // One for each link: this does not fill a mailbox.
            dialler.do_send(LinkEnded { peer: peer.clone(), lived });
        }
    }

    pub(super) fn is_linked(&self, peer: &NodeId) -> bool {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).contains_key(peer.as_str())
    }

    /// Logs that somebody at `from` did not become a link; the same once, until one from there does.
    pub(super) fn complain(&self, from: &str, why: &dyn Display) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() >= COMPLAINTS {
            complaints.clear();
        }
        if complaints.insert(format!("{from} {why}")) {
            log::warn!("no link with the server at {from}: {why}");
        } else {
            log::debug!("no link with the server at {from}: {why}");
        }
    }

    pub(super) fn content_with(&self, from: &str) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.retain(|complaint| !complaint.starts_with(from));
    }
}
