//! The mesh as the data path uses it: what goes to another server, and what comes from there.
//!
//! Owns the streams to and from every other server, the queues of our links, and the published routes and placement.
//! Invariants:
//! - a frame is numbered and queued under its stream's lock, so that it leaves in its stream's order;
//! - a frame that came is handled under the lock of its origin's stream: once, and in order;
//! - whoever handles a frame may send, and takes no lock of an incoming stream while it holds a lane.
//!
//! What is said is [`Dispatch`]es; what they mean is told in [`super::handle`]. Who is linked and what the routes are is the node's.

mod incoming;
mod outgoing;
mod relay;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;

use self::incoming::Origins;
use self::outgoing::Streams;
use super::LinkQueue;
use super::Urgency;
use super::returning::Returning;
use crate::metrics;
use crate::model::frames::{Carry, Dispatch, Fate, Hop, Stop};
use crate::model::ids::{Incarnation, NodeId};
use crate::model::keyed::HashMap;
use crate::model::lane::Delivery;
use crate::model::placement::Placement;
use crate::model::routes::Routes;
use crate::model::topology::Standing;
use crate::wire::link;

/// Fates that wait for company before they are sent.
const FATES: usize = 64;

/// Why something cannot be sent to another server now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    #[error("no way leads there")]
    Unreachable,
    #[error("too much is on its way there already")]
    Full,
    #[error("the way there has begun anew")]
    Anew,
}

/// Who serves the small records of an id: its home, or its deputy while that is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acting {
    Here,
    There(NodeId),
    /// Neither can be reached.
    Nobody,
}

/// See the module's header.
pub struct Mesh {
    own: NodeId,
    /// Changes only where a ghost of this server had lived longer: [`Self::begin_anew`].
    incarnation: AtomicU64,
    routes: ArcSwap<Routes>,
    placement: ArcSwap<Placement>,
    links: ArcSwap<HashMap<NodeId, Arc<LinkQueue>>>,
    streams: Streams,
    origins: Origins,
    /// By server: fates that are not sent yet.
    fates: Mutex<HashMap<NodeId, Vec<(u64, Fate)>>>,
    /// Servers that had lost us while we had not lost them.
    behind: Mutex<Vec<NodeId>>,
    /// What this server says of itself.
    returning: Returning,
}

impl Mesh {
    /// A server that is alone so far.
    pub fn new(own: NodeId, incarnation: Incarnation, routes: Routes, placement: Placement) -> Self {
        Self {
            own,
            incarnation: AtomicU64::new(incarnation.0),
            routes: ArcSwap::from_pointee(routes),
            placement: ArcSwap::from_pointee(placement),
            links: ArcSwap::default(),
            streams: Streams::default(),
            origins: Origins::default(),
            fates: Mutex::default(),
            behind: Mutex::default(),
            returning: Returning::default(),
        }
    }

    pub fn own(&self) -> &NodeId {
        &self.own
    }

    /// No other server can be reached, and none is a member.
    pub fn is_alone(&self) -> bool {
        self.is_only_one(&self.placement.load())
    }

    /// A server that has been forgotten may be none of the members.
    fn is_only_one(&self, placement: &Placement) -> bool {
        matches!(placement.members(), [only] if *only == self.own)
    }

    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation.load(Ordering::Acquire))
    }

    /// Begins another life without a start. Returns the servers to which something was ever sent: what was on its way to
    /// them is lost, as with [`Self::publish`].
    pub fn begin_anew(&self, incarnation: Incarnation) -> Vec<NodeId> {
        self.incarnation.store(incarnation.0, Ordering::Release);
        let servers = self.streams.servers();
        servers.iter().for_each(|server| self.streams.reset(server));
        servers
    }

    pub fn routes(&self) -> Arc<Routes> {
        self.routes.load_full()
    }

    pub fn is_reachable(&self, server: &NodeId) -> bool {
        self.routes.load().is_reachable(server)
    }

    /// Whether envelopes may go into the inboxes at `server`. Those of one that is about to go could not be read soon: they are
    /// held by others meanwhile.
    pub fn takes_mail(&self, server: &NodeId) -> bool {
        self.routes.load().about(server).is_some_and(|about| about.standing != Standing::Draining)
    }

    pub fn placement(&self) -> Arc<Placement> {
        self.placement.load_full()
    }

    pub fn publish_placement(&self, placement: Placement) {
        self.placement.store(Arc::new(placement));
    }

    /// What this server says of itself, to be told to the others.
    pub fn standing(&self) -> Standing {
        if self.returning.is_over() { Standing::Serving } else { Standing::Returning }
    }

    /// What others may have changed in this server's stead; the node tells them soon after a change of it.
    pub fn returning(&self) -> &Returning {
        &self.returning
    }

    /// The home of an inbox: it alone has it, reachable or not.
    pub fn home(&self, id: &str) -> NodeId {
        self.placement.load().home(id).clone()
    }

    pub fn is_home(&self, id: &str) -> bool {
        *self.placement.load().home(id) == self.own
    }

    /// Who serves the small records of `id` now.
    pub fn acting(&self, id: &str) -> Acting {
        let placement = self.placement.load();
        if self.is_only_one(&placement) {
            return Acting::Here;
        }
        let (home, deputy) = placement.ranked(id);
        let routes = self.routes.load();
        let serves = |server: &NodeId| {
            if *server == self.own {
                return self.returning.is_over();
            }
            routes.is_reachable(server)
                && routes.about(server).is_some_and(|about| about.standing != Standing::Returning)
        };
        let is_here = |server: &NodeId| routes.is_reachable(server) || *server == self.own;
        let of = |server: NodeId| if server == self.own { Acting::Here } else { Acting::There(server) };
        match deputy {
            _ if serves(&home) => of(home),
            Some(deputy) if serves(&deputy) => of(deputy),
            // One that returns knows less than it should, which is more than nothing.
            _ if is_here(&home) => of(home),
            Some(deputy) if is_here(&deputy) => of(deputy),
            _ => Acting::Nobody,
        }
    }

    /// Publishes who is linked and the ways that follow. Returns the servers that can be reached no more, or only in a new
    /// life: what was on its way to them is lost, and whoever sent it must find another way.
    pub fn publish(&self, routes: Routes, links: HashMap<NodeId, Arc<LinkQueue>>) -> Vec<NodeId> {
        let links = Arc::new(links);
        let former = (self.routes.swap(Arc::new(routes)), self.links.swap(links));
        let (routes, links) = (self.routes.load(), self.links.load());
        let mut lost = Vec::new();
        for server in former.0.servers().iter().filter(|server| **server != self.own) {
            if former.0.incarnation(server) != routes.incarnation(server) {
                self.streams.reset(server);
                lost.push(server.clone());
            }
        }
        let link_to = |routes: &Routes, links: &HashMap<NodeId, Arc<LinkQueue>>, server: &NodeId| {
            routes.next(server).and_then(|next| links.get(next)).map(|queue| Arc::as_ptr(queue) as usize)
        };
        for server in routes.servers().iter().filter(|server| !former.0.is_reachable(server)) {
            if self.streams.known(server).is_some() {
                // It may not know that it was lost, and wait for answers that are.
                let _ = self.send(server, &Dispatch::Fates(Vec::new()));
            }
        }
        for server in self.streams.servers() {
            if link_to(&former.0, &former.1, &server) != link_to(&routes, &links, &server) {
                self.send_again(&server);
            }
        }
        lost
    }

    /// The servers that had lost us, and have come upon us again, before we have lost them: what was sent to them is under way
    /// anew, but whatever they had answered may be lost. They are to be taken for lost, and found again at once.
    pub fn take_behind(&self) -> Vec<NodeId> {
        std::mem::take(&mut *self.behind.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes these for unreachable until [`Self::publish`]. What is on its way to them stays so.
    pub fn hide(&self, servers: &[NodeId]) {
        self.routes.store(Arc::new(self.routes.load().without(servers)));
    }

    /// Sends `dispatch` to another server: it arrives there once, and in order, unless [`Self::publish`] says that the server is
    /// lost.
    ///
    /// # Errors
    /// When no way leads there, or too much is on its way; nothing is kept then.
    pub fn send(&self, server: &NodeId, dispatch: &Dispatch) -> Result<(), NoWay> {
        let (head, body) = link::head_of(dispatch);
        self.send_to_all(vec![(server.clone(), head, None)], &body, weight(dispatch))
            .pop()
            .map_or(Ok(()), |(_, why)| Err(why))
    }

    /// Of the stream to `server`: another one means that what was sent in this one may be lost.
    pub(super) fn generation(&self, server: &NodeId) -> u64 {
        self.streams.of(server).lock().unwrap_or_else(PoisonError::into_inner).generation()
    }

    /// One body to several servers, each with a head of its own: every link carries the body once. A head with a generation goes
    /// only while the stream is in it: what was sent in an earlier one is taken back, and must not be overtaken. Returns those
    /// that it cannot be sent to.
    pub(super) fn send_to_all(
        &self,
        mut heads: Vec<(NodeId, Bytes, Option<u64>)>,
        body: &Bytes,
        weight: Weight,
    ) -> Vec<(NodeId, NoWay)> {
        // Streams are locked in one order by everybody.
        heads.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let (routes, links) = (self.routes.load(), self.links.load());
        let (mut failed, mut unanswered) = (Vec::new(), Vec::new());
        let streams: Vec<_> = heads.iter().map(|(server, ..)| self.streams.of(server)).collect();
        let mut locked = Vec::with_capacity(streams.len());
        let mut by_hop: Vec<(&NodeId, Vec<Stop>)> = Vec::with_capacity(1);
        let now = super::steady();
        for ((server, head, wanted), stream) in heads.into_iter().zip(&streams) {
            let Some(next) = routes.next(&server) else {
                unanswered.extend((weight == Weight::Answer).then(|| server.clone()));
                failed.push((server, NoWay::Unreachable));
                continue;
            };
            let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            if wanted.is_some_and(|wanted| wanted != stream.generation()) {
                failed.push((server, NoWay::Anew));
                continue;
            }
            let Some((generation, number)) = stream.push(head.clone(), body.clone(), weight, now) else {
                failed.push((server, NoWay::Full));
                continue;
            };
            locked.push(stream);
            let stop = Stop { server, generation, number, head };
            match by_hop.iter_mut().find(|(hop, _)| *hop == next) {
                Some((_, stops)) => stops.push(stop),
                None => by_hop.push((next, vec![stop])),
            }
        }
        for (next, stops) in by_hop {
            let carry =
                Carry { hops: 0, origin: self.own.clone(), incarnation: self.incarnation(), stops, body: body.clone() };
            // What the link does not take is sent again.
            Self::queue(&links, next, &Hop::Carry(carry), Urgency::Data);
        }
        drop(locked);
        unanswered.iter().for_each(|server| self.streams.owe(server));
        failed
    }

    fn queue(links: &HashMap<NodeId, Arc<LinkQueue>>, next: &NodeId, hop: &Hop, urgency: Urgency) -> Delivery {
        let Some(queue) = links.get(next) else {
            metrics::LINK_DROPPED.with_label_values(&["no link"]).inc();
            return Delivery::Refused;
        };
        let mut chunks = Vec::with_capacity(2);
        link::encode(hop, &mut chunks);
        let delivery = queue.push(&chunks, urgency);
        if delivery == Delivery::Refused {
            metrics::LINK_DROPPED.with_label_values(&["full"]).inc();
        }
        delivery
    }

    /// What `server` has not acknowledged goes there once more.
    fn send_again(&self, server: &NodeId) {
        let (routes, links) = (self.routes.load(), self.links.load());
        let Some(next) = routes.next(server) else { return };
        let stream = self.streams.of(server);
        let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.again(server, super::steady(), |stop, body| {
            let carry =
                Carry { hops: 0, origin: self.own.clone(), incarnation: self.incarnation(), stops: vec![stop], body };
            Self::queue(&links, next, &Hop::Carry(carry), Urgency::Data)
        });
    }

    /// To be called every few milliseconds: acknowledges what has come, sends fates, and sends again what nobody has
    /// acknowledged.
    pub fn tick(&self) {
        self.send_fates(|_| true);
        self.acknowledge(1);
        for server in self.streams.overdue(super::steady()) {
            self.send_again(&server);
        }
    }

    /// What became of a share that `server` has lent us.
    pub(super) fn fate(&self, server: &NodeId, number: u64, fate: Fate, haste: Haste) {
        let due = {
            let mut fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
            if !fates.contains_key(server) {
                fates.insert(server.clone(), Vec::new());
            }
            let Some(waiting) = fates.get_mut(server) else { return };
            waiting.push((number, fate));
            haste == Haste::Now || waiting.len() >= FATES
        };
        if due {
            self.send_fates(|of| of == server);
        }
    }

    fn send_fates(&self, which: impl Fn(&NodeId) -> bool) {
        let due: Vec<(NodeId, Vec<(u64, Fate)>)> = {
            let mut fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
            let of = fates.iter_mut().filter(|(server, waiting)| which(server) && !waiting.is_empty());
            of.map(|(server, waiting)| (server.clone(), std::mem::take(waiting))).collect()
        };
        for (server, fates) in due {
            // A custodian that cannot be reached finds another way by itself.
            let _ = self.send(&server, &Dispatch::Fates(fates));
        }
    }

    /// Nothing is on its way to a server that can be reached.
    pub(super) fn is_quiet(&self) -> bool {
        let routes = self.routes.load();
        routes.servers().iter().all(|server| self.streams.bytes(server) == 0)
    }

    /// For the figures: of each of our links, the bytes that wait for it.
    pub fn link_levels(&self) -> Vec<(NodeId, usize)> {
        let links = self.links.load();
        let mut levels: Vec<_> = links.iter().map(|(peer, queue)| (peer.clone(), queue.bytes())).collect();
        levels.sort();
        levels
    }

    /// For the figures: bytes sent to `server` that it has not acknowledged.
    pub fn unacknowledged(&self, server: &NodeId) -> usize {
        self.streams.bytes(server)
    }
}

/// Whether somebody waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    Now,
    Soon,
}

/// What room a dispatch may take in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// New work: refused while much is under way.
    Work,
    /// An answer, which frees what waits for it.
    Answer,
}

fn weight(dispatch: &Dispatch) -> Weight {
    match dispatch {
        Dispatch::Deliver { .. }
        | Dispatch::Append { .. }
        | Dispatch::Devices { .. }
        | Dispatch::ToSession { .. }
        | Dispatch::Read { .. }
        | Dispatch::Notify { .. }
        | Dispatch::Edges { .. }
        | Dispatch::Gathering { .. }
        | Dispatch::Ask { .. } => Weight::Work,
        Dispatch::Fates(_)
        | Dispatch::Away { .. }
        | Dispatch::Appended { .. }
        | Dispatch::Errand { .. }
        | Dispatch::PageItem { .. }
        | Dispatch::Page { .. }
        | Dispatch::Stored { .. }
        | Dispatch::Verdict { .. }
        | Dispatch::Refused { .. }
        | Dispatch::EdgesAre { .. }
        | Dispatch::GatheringIs { .. }
        | Dispatch::DevicesAre { .. }
        | Dispatch::Reply { .. } => Weight::Answer,
    }
}
