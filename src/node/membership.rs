//! Which servers are members of the mesh: who meets whom, who joins whom, who is forgotten.
//!
//! Invariant: a list of members counts, here and for others, only when it is on disk. While that is on its way nothing
//! else is dealt with.

use std::sync::Arc;

use actix::prelude::*;

use super::Node;
use crate::config::identity::{ClusterId, IdentityError};
use crate::home;
use crate::link::{Introduce, Introduction, LinkStop, Meet};
use crate::metrics;
use crate::model::codes::{Code, Refusal};
use crate::model::frames::Hop;
use crate::model::ids::{Incarnation, NodeId};
use crate::model::members::{self, Blank, Meeting, Members, Merged, Regard, Standpoint};
use crate::model::pin::{self, Pin};
use crate::model::placement::Placement;
use crate::outside;

/// Forgets a server for ever: it is home to nothing any more. As long as it keeps something it is let in, so that it can
/// give that away; after that it comes back only under another id. Answered when this is on disk here and has been told to
/// the neighbours.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Forget(pub NodeId);

/// Cluster and members as they are to be.
struct Membership {
    cluster: ClusterId,
    members: Members,
}

impl Handler<Introduce> for Node {
    type Result = AtomicResponse<Self, Introduction>;

    fn handle(&mut self, _: Introduce, _: &mut Self::Context) -> Self::Result {
        let introduced = self.blank().into_actor(self).map(|blank, node, _| node.introduction(blank));
        AtomicResponse::new(Box::pin(introduced))
    }
}

impl Handler<Meet> for Node {
    type Result = AtomicResponse<Self, Result<Introduction, Refusal>>;

    fn handle(&mut self, Meet { theirs }: Meet, _: &mut Self::Context) -> Self::Result {
        let of_pins = (theirs.node.clone(), theirs.pins);
        let met = self.blank().into_actor(self).then(move |blank, node, _| {
            let decided = node.meet(&theirs, blank);
            let before = (node.cluster, node.members.clone());
            let dir = node.dir.clone();
            async move {
                let decided = decided?;
                if (decided.cluster, &decided.members) != (before.0, &before.1) {
                    let (cluster, members) = (decided.cluster, decided.members.clone());
                    keep(move || dir.keep_members(cluster, &members)).await?;
                }
                Ok((decided, blank))
            }
            .into_actor(node)
        });
        AtomicResponse::new(Box::pin(met.map(move |result: Result<_, Refusal>, node, ctx| {
            let (decided, blank) = result?;
            node.adopt(decided, None, ctx);
            node.compare_pins(&of_pins.0, of_pins.1);
            Ok(node.introduction(blank))
        })))
    }
}

impl Handler<Forget> for Node {
    type Result = AtomicResponse<Self, Result<(), Refusal>>;

    fn handle(&mut self, Forget(server): Forget, _: &mut Self::Context) -> Self::Result {
        let mut members = self.members.clone();
        let decided = match members.is_member(&server) {
            true if members.current().count() == 1 => Err(Refusal::new(
                Code::Conflict,
                format!("{server} is the only member of this mesh: nobody could take what it keeps"),
            )),
            false if members.is_forgotten(&server) => Ok(()),
            false => Err(Refusal::new(Code::NotFound, format!("{server} is no member of this mesh"))),
            true => {
                let _ = members.forget(&server);
                Ok(())
            }
        };
        let (dir, cluster) = (self.dir.clone(), self.cluster);
        let kept = async move {
            decided?;
            let of_disk = members.clone();
            keep(move || dir.keep_members(cluster, &of_disk)).await?;
            Ok(Membership { cluster, members })
        };
        AtomicResponse::new(Box::pin(kept.into_actor(self).map(move |result: Result<_, Refusal>, node, ctx| {
            node.adopt(result?, None, ctx);
            log::warn!("server {server} is forgotten");
            Ok(())
        })))
    }
}

impl Node {
    pub(super) fn blank(&self) -> impl Future<Output = Blank> + 'static {
        let store = self.store.clone();
        async move {
            let blank = outside::aside(move || home::is_blank(&*store)).await;
            // A store that cannot be read may hold anything.
            if matches!(blank, Some(Ok(true))) { Blank::Yes } else { Blank::No }
        }
    }

    fn introduction(&self, blank: Blank) -> Introduction {
        let own = self.topology.own();
        Introduction {
            node: self.server.clone(),
            incarnation: own.incarnation,
            address: own.about.address.clone(),
            cluster: *self.cluster.bytes(),
            members: self.members.clone(),
            blank: blank == Blank::Yes,
            pins: pin::digest(&self.pins),
        }
    }

    /// A pin may be given before its server has joined; or its name is wrong.
    pub(super) fn look_at_pins(&self) {
        let unknown = |pin: &&Pin| !self.members.is_member(&pin.server) && pin.server != self.server;
        for pin in self.pins.iter().filter(unknown) {
            log::warn!("the pin {pin} counts when {} has joined: it is no member of this mesh yet", pin.server);
        }
    }

    /// A server that has other pins than this one looks for homes elsewhere. Said once, for all may be about to be
    /// restarted with new ones.
    fn compare_pins(&mut self, server: &NodeId, theirs: u64) {
        if theirs == pin::digest(&self.pins) {
            self.other_pins.remove(server);
        } else if self.other_pins.insert(server.clone()) {
            log::warn!(
                "the pins of {server} are not those of {}: they look for homes in different places until both have the same",
                self.server
            );
        }
    }

    /// What becomes of the two clusters; changes nothing yet.
    fn meet(&mut self, theirs: &Introduction, blank: Blank) -> Result<Membership, Refusal> {
        let regard = |members: &Members, of: &NodeId, life: Incarnation, blank: Blank| {
            // A forgotten one that keeps something gives it away.
            let is_out = members.is_forgotten(of) && blank == Blank::Yes && self.leaving.get(of) != Some(&life);
            if is_out { Regard::Forgotten } else { Regard::Welcome }
        };
        let life = self.topology.own().incarnation;
        let their_blank = if theirs.blank { Blank::Yes } else { Blank::No };
        let own = Standpoint {
            node: self.server.clone(),
            cluster: *self.cluster.bytes(),
            members: self.members.current().count(),
            blank,
            regard: regard(&self.members, &theirs.node, theirs.incarnation, their_blank),
        };
        let other = Standpoint {
            node: theirs.node.clone(),
            cluster: theirs.cluster,
            members: theirs.members.current().count(),
            blank: their_blank,
            regard: regard(&theirs.members, &self.server, life, blank),
        };
        let meeting = members::meet(&own, &other);
        let cluster = if meeting == Meeting::WeJoin { theirs.cluster.into() } else { self.cluster };
        self.met.insert(theirs.node.clone(), (meeting, cluster));
        match meeting {
            Meeting::Same => {
                let mut members = self.members.clone();
                let _ = members.merge(&theirs.members);
                let _ = members.admit(&theirs.node);
                Ok(Membership { cluster: self.cluster, members })
            }
            Meeting::TheyJoin => {
                let mut members = self.members.clone();
                let _ = members.admit(&theirs.node);
                Ok(Membership { cluster: self.cluster, members })
            }
            Meeting::WeJoin => {
                log::info!("joins the mesh of {} ({} members)", theirs.node, other.members);
                let mut members = theirs.members.clone();
                let _ = members.admit(&theirs.node);
                let _ = members.admit(&self.server);
                Ok(Membership { cluster, members })
            }
            Meeting::Refused if own.regard == Regard::Forgotten => Err(Refusal::new(
                Code::Forbidden,
                format!("server {} has been forgotten: give it a new data directory and id", theirs.node),
            )),
            Meeting::Refused if other.regard == Regard::Forgotten => Err(Refusal::new(
                Code::Forbidden,
                format!("server {} has been forgotten: give it a new data directory and id", self.server),
            )),
            Meeting::Refused if own.node == other.node => {
                Err(Refusal::new(Code::Conflict, format!("both servers are called {}", own.node)))
            }
            Meeting::Refused => Err(Refusal::new(
                Code::Conflict,
                "each of the two servers has a mesh and records of its own: one of them must begin with an empty data \
                 directory",
            )),
        }
    }

    pub(super) fn heard_members(&mut self, from: &NodeId, theirs: &Arc<Members>, ctx: &mut Context<Self>) {
        let mut members = self.members.clone();
        if members.merge(theirs) == Merged::Same {
            return;
        }
        let (dir, cluster, from) = (self.dir.clone(), self.cluster, from.clone());
        let kept = async move {
            let of_disk = members.clone();
            keep(move || dir.keep_members(cluster, &of_disk)).await.map(|()| Membership { cluster, members })
        };
        // Nothing else is dealt with before it is on disk.
        ctx.wait(kept.into_actor(self).map(move |kept, node, ctx| match kept {
            Ok(membership) => node.adopt(membership, Some(&from), ctx),
            Err(refusal) => log::error!("the members that {from} tells of are not taken: {}", refusal.message),
        }));
    }

    /// What is on disk counts from now on. `from`: who has told it, and need not be told.
    fn adopt(&mut self, membership: Membership, from: Option<&NodeId>, ctx: &mut Context<Self>) {
        let Membership { cluster, members } = membership;
        if (cluster, &members) == (self.cluster, &self.members) {
            return;
        }
        if cluster == self.cluster {
            self.neighbours.flood(&Hop::Members(members.clone().into()), from);
        } else {
            // Whoever was linked with us is of another cluster than this server now: they meet again.
            self.neighbours.iter().for_each(|(_, neighbour)| neighbour.stop.do_send(LinkStop));
        }
        if members.is_forgotten(&self.server) && !self.members.is_forgotten(&self.server) {
            self.begin_parting();
        }
        for server in members.forgotten().filter(|server| !self.members.is_forgotten(server)) {
            if let Some(record) = self.topology.get(server) {
                self.leaving.insert(server.clone(), record.incarnation);
            }
        }
        self.cluster = cluster;
        self.members = members;
        self.place_homes();
        self.teach_dialler();
        self.publish_soon(ctx);
    }

    /// Publishes who is home to what.
    pub(super) fn place_homes(&self) {
        let members: Vec<NodeId> = self.members.current().cloned().collect();
        metrics::MEMBERS.set(members.len() as i64);
        self.homes.members_changed(&self.members);
        if let Some(placement) = Placement::new(*self.cluster.bytes(), members, self.pins.clone()) {
            self.view.mesh.publish_placement(placement);
        }
    }
}

/// Has something on disk before it returns; what is wrong with the disk is in the log.
async fn keep(write: impl FnOnce() -> Result<(), IdentityError> + Send + 'static) -> Result<(), Refusal> {
    match outside::aside(write).await {
        Some(Ok(())) => return Ok(()),
        Some(Err(error)) => log::error!("the members of the mesh cannot be kept: {error}"),
        None => log::error!("the members of the mesh cannot be kept: what was to write them has a fault"),
    }
    Err(Refusal::new(Code::Unavailable, "the members of the mesh cannot be kept on disk now"))
}
