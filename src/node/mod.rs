//! The server actor: who is attached here and everywhere, who is linked with whom, how full it is, and how it goes away.
//!
//! Owns connection numbers and the count of edges, presence, the heartbeat of all lanes, the drain; this server's own
//! record and list of attachments, what is known of the other servers', and the list of members. Everything it knows that
//! others need is published: devices, places, routes and placement in the view, the rest in [`Standing`].
//!
//! [`links`] hears of links, [`flood`] of what comes over them, [`membership`] of who belongs here; [`publish`] makes of it
//! what the data path reads.

mod drain;
mod epochs;
mod flood;
mod links;
mod membership;
mod neighbours;
mod parting;
mod presence;
mod publish;
mod regions;
mod standing;
mod survey;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use self::neighbours::Neighbours;
use self::parting::Parting;
pub use drain::{Drain, Drained, Offers};
pub use membership::Forget;
pub use regions::Distances;
pub use standing::{Company, Standing};
pub use survey::{LinkSeen, Said, ServerSeen, Survey, Surveyed};

use crate::config::identity::{ClusterId, ServerIdentity};
use crate::config::keeper::Keeper;
use crate::home::Homes;
use crate::link::Learned;
use crate::metrics;
use crate::model::attachments::{Attachment, Delta, Directory, Own};
use crate::model::codes::Refusal;
use crate::model::ids::{ClientId, ConnectionId, Incarnation, Millis, NodeId};
use crate::model::keyed::HashMap;
use crate::model::lane::Options;
use crate::model::members::{Meeting, Members};
use crate::model::placement::{Pin, Placement};
use crate::model::session::Presence;
use crate::model::topology::{self, About, Address, Load, Topology};
use crate::push::PushHandle;
use crate::store::Store;
use crate::view::{Device, Mesh, View, steady};

/// How often the lanes are looked after: heartbeats, stalls, forgetting; and departed servers.
const TICK: Duration = Duration::from_secs(1);

/// How long an edge may leave unasked what nobody waits for. Short: what a device has read and not acknowledged when it
/// leaves comes to it again.
const ASK: Duration = Duration::from_millis(20);

/// What a node is made of.
pub struct Setup {
    pub view: Arc<View>,
    pub homes: Homes,
    pub standing: Arc<Standing>,
    pub push: PushHandle,
    pub identity: ServerIdentity,
    pub dir: Arc<dyn Keeper>,
    pub store: Arc<dyn Store>,
    /// The same at all servers.
    pub pins: Vec<Pin>,
}

/// See the module's header.
pub struct Node {
    server: NodeId,
    view: Arc<View>,
    homes: Homes,
    standing: Arc<Standing>,
    next: u64,
    /// Servers that were met and have other pins.
    other_pins: BTreeSet<NodeId>,
    drain: Option<drain::Plan>,
    offers: Option<Offers>,
    push: PushHandle,
    /// Whose device each attached one is: that of its newest key.
    clients: HashMap<NodeId, ClientId>,

    dir: Arc<dyn Keeper>,
    store: Arc<dyn Store>,
    cluster: ClusterId,
    members: Members,
    /// Forgotten servers that live on, in the life in which they were forgotten: they keep their links until they end.
    leaving: HashMap<NodeId, Incarnation>,
    /// Whether this server is one.
    parting: Parting,
    parting_look: Option<SpawnHandle>,
    pins: Vec<Pin>,
    /// What each server's last greeting has come to, and of which cluster both are by it.
    met: HashMap<NodeId, (Meeting, ClusterId)>,

    topology: Topology,
    address: Address,
    load: Load,
    own: Own,
    directory: Directory,
    neighbours: Neighbours,
    /// Changes of our list that are not announced yet.
    pending: Option<Delta>,
    flushing: bool,
    publishing: bool,
    /// A neighbour has told all it knows.
    exchanged: bool,
    /// The highest epoch of sessions that was heard of.
    epoch: u64,
    /// When another life began because of a ghost.
    reborn: Millis,
    dialler: Option<Recipient<Learned>>,
    learned: Vec<(NodeId, Address)>,
}

impl Node {
    /// The mesh of a server that has met no other in this life.
    pub fn alone(identity: &ServerIdentity, pins: Vec<Pin>) -> Mesh {
        let members = identity.members.current().cloned();
        let placement = Placement::new(*identity.cluster.bytes(), members, pins);
        // A server that has been forgotten, and knows no other, is home to what it has.
        let placement = placement.unwrap_or_else(|| Placement::alone(*identity.cluster.bytes(), identity.node.clone()));
        let incarnation = Incarnation(identity.incarnation);
        Mesh::new(identity.node.clone(), incarnation, lone(identity, topology::Standing::Serving).routes(), placement)
    }

    pub fn new(setup: Setup) -> Self {
        let Setup { view, homes, standing, push, identity, dir, store, pins } = setup;
        let topology = lone(&identity, view.mesh.standing());
        let ServerIdentity { node: server, incarnation, cluster, members, epoch } = identity;
        let parting = if members.is_forgotten(&server) { Parting::Gives } else { Parting::Never };
        metrics::SERVERS.set(1);
        metrics::MEMBERS.set(members.current().count() as i64);
        Self {
            own: Own::new(server.clone(), Incarnation(incarnation)),
            directory: Directory::new(server.clone()),
            server,
            view,
            homes,
            standing,
            next: 1,
            other_pins: BTreeSet::new(),
            drain: None,
            offers: None,
            push,
            clients: HashMap::default(),
            dir,
            store,
            cluster,
            parting,
            parting_look: None,
            members,
            leaving: HashMap::default(),
            pins,
            met: HashMap::default(),
            topology,
            address: Address::default(),
            load: Load::default(),
            neighbours: Neighbours::default(),
            pending: None,
            flushing: false,
            publishing: false,
            exchanged: false,
            epoch,
            reborn: Millis(0),
            dialler: None,
            learned: Vec::new(),
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.view.tidy();
        self.expire(steady());
        self.weigh();
        self.announce_about(ctx);
        self.look_at_parting(ctx);
    }

    /// What this server says of itself.
    fn about(&self) -> About {
        About {
            address: self.address.clone(),
            load: self.load,
            standing: self.stands(),
            epoch: self.epoch.max(self.view.sessions.epoch()),
        }
    }

    /// The home has said that this server returns, or serves again: others are told.
    fn look_at_standing(&mut self, ctx: &mut Context<Self>) {
        let (now, told) = (self.stands(), self.topology.own().about.standing);
        if now == told {
            return;
        }
        log::info!("this server is {now:?} now");
        if told == topology::Standing::Returning {
            // Its deputies have acted for it.
            self.begin_epoch(ctx);
        }
        self.announce_about(ctx);
        // Who serves is published with the routes.
        self.publish(ctx);
    }

    /// Who goes away serves until then; who has come back says so itself, in the view.
    fn stands(&self) -> topology::Standing {
        if let Some(standing) = self.parting.standing() {
            return standing;
        }
        match self.view.mesh.standing() {
            topology::Standing::Serving if self.standing.is_draining() => topology::Standing::Draining,
            standing => standing,
        }
    }

    /// Looks how full the server is: what is news is announced the next time that this server says anything of itself.
    fn weigh(&mut self) {
        let now = self.standing.load();
        if now.is_news_to(self.load) {
            self.load = now;
        }
    }

    /// A device has come. That the server is full is announced at once, or others would send people here until the next
    /// tick; that it has room again waits for that.
    fn look_whether_full(&mut self, ctx: &mut Context<Self>) {
        if self.standing.is_full() && !self.load.is_full() {
            self.weigh();
            self.announce_about(ctx);
        }
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
}

fn lone(identity: &ServerIdentity, standing: topology::Standing) -> Topology {
    let about = About { address: Address::default(), load: Load::default(), standing, epoch: identity.epoch };
    Topology::new(identity.node.clone(), Incarnation(identity.incarnation), about)
}

impl Actor for Node {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.homes.members_changed(&self.members);
        self.look_at_pins();
        ctx.run_interval(TICK, Self::tick);
        ctx.run_interval(ASK, |node, ctx| {
            node.view.tick();
            node.renumber(ctx);
            node.pump();
            node.start_over(ctx);
            node.look_at_standing(ctx);
        });
    }
}

/// Says where this server can be reached, once it listens.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Listening(pub Address);

impl Handler<Listening> for Node {
    type Result = ();

    fn handle(&mut self, Listening(address): Listening, ctx: &mut Self::Context) {
        self.address = address;
        self.weigh();
        self.announce_about(ctx);
    }
}

/// Who dials the servers that this one learns of.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DialBy(pub Recipient<Learned>);

impl Handler<DialBy> for Node {
    type Result = ();

    fn handle(&mut self, DialBy(dialler): DialBy, _: &mut Self::Context) {
        self.dialler = Some(dialler);
        self.teach_dialler();
    }
}

/// A device connects.
#[derive(Debug, Message)]
#[rtype(result = "Result<Attached, Refusal>")]
pub struct Attach {
    pub node: NodeId,
    pub client: Option<ClientId>,
    /// The number is given here.
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
        let Attach { node: id, client, options } = attach;
        // Of an edge that has just ended nobody has been told yet.
        let was_present = self.own.get(&id).is_some() || self.view.is_present(&id);
        let device = self.view.devices.get_or_add(&id);
        let connection = ConnectionId(self.next);
        self.next += 1;
        self.standing.came();
        self.look_whether_full(ctx);
        let number = self.number_for(&id);
        self.view.attach(&device, connection, Options { number, ..options });
        self.belongs_to(&device, client.as_ref());
        self.list(Attachment { device: id.clone(), client, number }, ctx);
        self.push.connected(id.clone());
        if !was_present {
            self.tell_presence(&id, Presence::Online);
        }
        self.welcome(&id);
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

    fn handle(&mut self, Detach { device }: Detach, ctx: &mut Self::Context) {
        self.standing.went();
        let id = device.id();
        // Another edge may have come since.
        match device.number() {
            Some(number) => self.relist(id, number, ctx),
            None => {
                let was_listed = self.own.get(id).is_some();
                self.delist(id, ctx);
                self.belongs_to(&device, None);
                if was_listed && !self.view.is_present(id) {
                    self.tell_presence(id, Presence::Offline);
                }
            }
        }
    }
}
