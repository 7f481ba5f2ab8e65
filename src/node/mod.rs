//! The server actor: who is attached here, how full it is, and how it goes away.
//!
//! Owns connection numbers and the count of edges, presence, the heartbeat of all lanes, and the drain. Everything it knows
//! that others need is published: devices in the view, the rest in [`Standing`].

mod drain;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Notify;

pub use drain::{Drain, Drained};

use crate::metrics;
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{ClientId, ConnectionId, NodeId};
use crate::model::lane::Options;
use crate::model::session::Presence;
use crate::push::PushHandle;
use crate::view::{Device, View, fresh_id};

/// How often the lanes are looked after: heartbeats, stalls, forgetting.
const TICK: Duration = Duration::from_secs(1);

/// How long an edge may leave unasked what nobody waits for. Short: what a device has read and not acknowledged when it
/// leaves comes to it again.
const ASK: Duration = Duration::from_millis(20);

/// How full the server is and whether it goes away, for everybody to read.
#[derive(Debug)]
pub struct Standing {
    connections: AtomicU64,
    max: u64,
    draining: AtomicBool,
    leaving: Notify,
}

impl Standing {
    pub fn new(max: u64) -> Self {
        Self { connections: AtomicU64::new(0), max, draining: AtomicBool::new(false), leaving: Notify::new() }
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    pub fn is_full(&self) -> bool {
        self.connections() >= self.max
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Returns when the server has been asked to go away.
    pub async fn leaving(&self) {
        self.leaving.notified().await;
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
}

/// See the module's header.
pub struct Node {
    view: Arc<View>,
    standing: Arc<Standing>,
    next: u64,
    drain: Option<drain::Plan>,
    push: PushHandle,
    /// Whose device each attached one is: that of its newest key.
    clients: HashMap<NodeId, ClientId>,
}

impl Node {
    pub fn new(view: Arc<View>, standing: Arc<Standing>, push: PushHandle) -> Self {
        Self { view, standing, next: 1, drain: None, push, clients: HashMap::new() }
    }

    fn tick(&mut self) {
        self.view.tidy();
    }

    /// A device is one of its client's, and of nobody else's any more.
    fn belongs_to(&mut self, device: &Arc<Device>, client: Option<&ClientId>) {
        let former = match client {
            Some(client) => self.clients.insert(device.id().clone(), client.clone()),
            None => self.clients.remove(device.id().as_str()),
        };
        if let Some(former) = former.filter(|former| Some(former) != client) {
            self.view.devices.delist(&former, device);
        }
        if let Some(client) = client {
            self.view.devices.enlist(client, device);
        }
    }

    /// Members of the device's sessions with presence hear that it has come or gone.
    fn tell_presence(&self, node: &NodeId, presence: Presence) {
        for published in self.view.sessions.watching(node) {
            let session = published.current();
            if let Some(notice) = session.presence_notice(node, presence) {
                self.view.announce(session.id(), &notice, &fresh_id());
            }
        }
    }
}

impl Actor for Node {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |node, _| node.tick());
        ctx.run_interval(ASK, |node, _| node.view.tick());
    }
}

/// A device connects.
#[derive(Debug, Message)]
#[rtype(result = "Result<Attached, Refusal>")]
pub struct Attach {
    pub node: NodeId,
    pub client: Option<ClientId>,
    pub options: Options,
}

/// Its edge is there, and visible to everybody. When this is dropped, by whatever end, the lane is detached, so that what
/// was not acknowledged goes another way, and the node is told.
pub struct Attached {
    pub connection: ConnectionId,
    pub device: Arc<Device>,
    view: Arc<View>,
    node: Addr<Node>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.view.detach(&self.device, self.connection);
        let detach = Detach { device: self.device.clone() };
        // The node's mailbox is drained quickly, and one of these is all that an edge leaves there.
        self.node.do_send(detach);
    }
}

impl Handler<Attach> for Node {
    type Result = Result<Attached, Refusal>;

    fn handle(&mut self, attach: Attach, ctx: &mut Self::Context) -> Self::Result {
        if let Some(refusal) = self.standing.refusal() {
            return Err(refusal);
        }
        let device = self.view.devices.get_or_add(&attach.node);
        let first = !device.is_attached();
        let connection = ConnectionId(self.next);
        self.next += 1;
        self.standing.connections.fetch_add(1, Ordering::Relaxed);
        metrics::CONNECTIONS.inc();
        metrics::CONNECTIONS_TOTAL.inc();
        self.view.attach(&device, connection, attach.options);
        self.belongs_to(&device, attach.client.as_ref());
        self.push.connected(attach.node.clone());
        if first {
            self.tell_presence(&attach.node, Presence::Online);
        }
        for published in self.view.sessions.watching(&attach.node) {
            self.view.show_present(published.current().id(), &attach.node);
        }
        let (view, node) = (self.view.clone(), ctx.address());
        Ok(Attached { connection, device, view, node })
    }
}

/// An edge has ended; its lane is detached already.
#[derive(Message)]
#[rtype(result = "()")]
struct Detach {
    device: Arc<Device>,
}

impl Handler<Detach> for Node {
    type Result = ();

    fn handle(&mut self, detach: Detach, _: &mut Self::Context) {
        self.standing.connections.fetch_sub(1, Ordering::Relaxed);
        metrics::CONNECTIONS.dec();
        if detach.device.is_attached() {
            return;
        }
        self.belongs_to(&detach.device, None);
        self.tell_presence(detach.device.id(), Presence::Offline);
    }
}
