//! Who is to be dialled, and when: the servers that are named, and those that the node has learned of.
//!
//! Never two dials to one server at a time, nor one to a server that is linked. A link that ends is dialled again at
//! once; what fails waits, longer each time, up to five seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use rand::RngExt;

use super::dial::dial;
use super::greeting::Fault;
use super::meeting::Failure;
use super::{Learned, Links};
use crate::config::peers::{LinkPlan, PeerUrl};
use crate::metrics;
use crate::model::backoff::Backoff;
use crate::model::ids::NodeId;

const BACKOFF: Backoff = Backoff { first_ms: 100, limit_ms: 5_000 };
/// How often it is looked who is due.
const LOOK: Duration = Duration::from_millis(50);
/// A link that lived shorter counts as a failure, so that two servers that cannot stay linked do not dial all the time.
const SHORT_LIFE: Duration = Duration::from_secs(2);
/// Both ends of a link know each other's address, as a rule: the one with the higher id lets the other dial.
const COURTESY: Duration = Duration::from_millis(300);

/// Where somebody is dialled.
struct Target {
    url: PeerUrl,
    /// Who is there: for a named one, once it has been met.
    peer: Option<NodeId>,
    origin: Origin,
    failures: u32,
    /// Not dialled before.
    due: Instant,
    state: State,
    /// What was logged last.
    complaint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// In the settings.
    Named,
    /// From the node.
    Learned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Dialling,
    /// It is this server itself.
    Never,
}

/// See the module's header.
pub struct Dialler {
    links: Arc<Links>,
    plan: LinkPlan,
    targets: Vec<Target>,
}

impl Dialler {
    /// Begins to dial; to be called where an actor can be started, once the server listens.
    pub fn begin(links: &Arc<Links>, plan: LinkPlan, named: Vec<PeerUrl>) -> Addr<Self> {
        let mut targets: Vec<Target> = Vec::new();
        for url in named {
            if targets.iter().all(|target| target.url != url) {
                targets.push(Target::new(url, None, Origin::Named));
            }
        }
        let dialler = Self { links: links.clone(), plan, targets }.start();
        links.dialled_by(dialler.clone());
        dialler
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        for at in 0..self.targets.len() {
            let target = &self.targets[at];
            if target.state != State::Idle || target.due > now || self.is_busy(target.peer.as_ref()) {
                continue;
            }
            let target = &mut self.targets[at];
            target.state = State::Dialling;
            let (links, url, answer) = (self.links.clone(), target.url.clone(), ctx.address());
            // An address that was learned is that server's: nobody else is proved anything there.
            let wanted = target.peer.clone().filter(|_| target.origin == Origin::Learned);
            self.links.spawn(move || async move {
                let outcome = dial(&links, &url, wanted).await;
                answer.do_send(Outcome { url, outcome });
            });
        }
    }

    /// Whether there is a link to that server, or it is being dialled.
    fn is_busy(&self, peer: Option<&NodeId>) -> bool {
        let Some(peer) = peer else { return false };
        let dialling = |target: &Target| target.state == State::Dialling && target.peer.as_ref() == Some(peer);
        self.links.is_linked(peer) || self.targets.iter().any(dialling)
    }
}

impl Target {
    fn new(url: PeerUrl, peer: Option<NodeId>, origin: Origin) -> Self {
        let (due, state) = (Instant::now(), State::Idle);
        Self { url, peer, origin, failures: 0, due, state, complaint: None }
    }

    /// Each failure waits longer, and none as long as another server's.
    fn put_off(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let delay = BACKOFF.delay_ms(self.failures);
        self.due = Instant::now() + Duration::from_millis(rand::rng().random_range(delay / 2..=delay));
    }

    /// Says what is wrong, once.
    fn complain(&mut self, failure: &Failure) {
        let text = failure.to_string();
        if self.complaint.as_ref() == Some(&text) {
            log::debug!("no link to {}: {text}", self.url);
        } else {
            log::warn!("no link to {}: {text}; goes on trying", self.url);
            self.complaint = Some(text);
        }
    }
}

impl Actor for Dialler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look(ctx);
        ctx.run_interval(LOOK, Self::look);
    }
}

/// An attempt has come to its end.
#[derive(Message)]
#[rtype(result = "()")]
struct Outcome {
    url: PeerUrl,
    outcome: Result<NodeId, Failure>,
}

impl Handler<Outcome> for Dialler {
    type Result = ();

    fn handle(&mut self, Outcome { url, outcome }: Outcome, _: &mut Self::Context) {
        // The node may have told of another address meanwhile.
        let found = self.targets.iter_mut().find(|target| target.url == url && target.state == State::Dialling);
        let Some(target) = found else { return };
        target.state = State::Idle;
        match outcome {
            Ok(peer) => {
                target.peer = Some(peer);
                target.complaint = None;
            }
            Err(failure @ Failure::Fault(Fault::OwnId)) => {
                metrics::LINK_FAILURES.with_label_values(&[failure.word()]).inc();
                log::info!("{url} is this server itself: it is not dialled again");
                target.state = State::Never;
            }
            Err(Failure::Unwanted(peer, refusal)) => {
                log::debug!("no second link to {peer}: {}", refusal.message);
                target.peer = Some(peer);
                target.put_off();
            }
            Err(failure) => {
                metrics::LINK_FAILURES.with_label_values(&[failure.word()]).inc();
                target.complain(&failure);
                target.put_off();
            }
        }
    }
}

/// A link to `peer` is gone, whoever had opened it.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct LinkEnded {
    pub(super) peer: NodeId,
    pub(super) lived: Duration,
}

impl Handler<LinkEnded> for Dialler {
    type Result = ();

    fn handle(&mut self, LinkEnded { peer, lived }: LinkEnded, ctx: &mut Self::Context) {
        let gives_way = self.links.own > peer;
        for target in self.targets.iter_mut().filter(|target| target.peer.as_ref() == Some(&peer)) {
            if lived < SHORT_LIFE {
                target.put_off();
                continue;
            }
            target.failures = 0;
            let courtesy = if gives_way && target.origin == Origin::Learned { COURTESY } else { Duration::ZERO };
            target.due = Instant::now() + courtesy;
        }
        self.look(ctx);
    }
}

impl Handler<Learned> for Dialler {
    type Result = ();

    fn handle(&mut self, Learned(servers): Learned, ctx: &mut Self::Context) {
        if self.plan == LinkPlan::Static {
            return;
        }
        let all: Vec<(NodeId, PeerUrl)> = servers
            .into_iter()
            .filter(|(peer, _)| *peer != self.links.own)
            .filter_map(|(peer, address)| PeerUrl::of(&address).map(|url| (peer, url)))
            .collect();
        self.targets.retain(|target| {
            target.origin == Origin::Named
                || all.iter().any(|(peer, url)| target.peer.as_ref() == Some(peer) && target.url == *url)
        });
        for (peer, url) in all {
            // Where a named one has been found to be this server, its name is good enough.
            if self.targets.iter().any(|target| target.url == url) {
                continue;
            }
            let gives_way = self.links.own > peer;
            let mut target = Target::new(url, Some(peer), Origin::Learned);
            if gives_way {
                target.due += COURTESY;
            }
            self.targets.push(target);
        }
        self.look(ctx);
    }
}
