//! The actor of one link, dialled or accepted: hears what comes, hands it on, and ends it.
//!
//! Frames of the data path are handed to the [`crate::view::Receiver`] where they are read, all others to the node.
//! Invariant: whatever ends the link, [`Up`] is dropped with it, once, which tells the node.

use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};

use actix::fut::ActorFuture;
use actix::prelude::*;
use bytes::Bytes;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::oneshot;

use super::connection::{Broken, Connection};
use super::messages::Backlog;
use super::pulse::{Beat, Pulse, TICK};
use super::{Dialled, Introduction, LinkDown, LinkId, LinkStop, LinkUp, Links, Measured};
use crate::metrics;
use crate::model::codes::{Code, Refusal};
use crate::model::frames::Hop;
use crate::model::ids::NodeId;
use crate::view::{Urgency, now};
use crate::wire::link::{self, LinkError};

/// How long what waits may still be written when a link is told to end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Reads of one link before others have their turn.
const ROUNDS: usize = 16;

/// Why a link ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("nothing has come over it for six seconds")]
    Silent,
    #[error("it was told to")]
    Told,
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("the other side sends what is no frame: {0}")]
    Frame(#[from] LinkError),
    #[error("the other side sends a frame in parts")]
    Parts,
    #[error("too much waits for it")]
    Overflow,
}

impl End {
    /// For the metric.
    fn word(&self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Told => "told",
            Self::Broken(Broken::Closed) => "closed",
            Self::Broken(Broken::Lost | Broken::Io(_)) => "lost",
            Self::Broken(Broken::Carrier(_) | Broken::Long(_)) | Self::Frame(_) | Self::Parts => "broken",
            Self::Overflow => "overflow",
        }
    }

    /// The other side is at fault, not the wire.
    fn is_fault(&self) -> bool {
        self.word() == "broken"
    }
}

/// See the module's header.
pub(super) struct Link {
    links: Arc<Links>,
    connection: Connection,
    theirs: Introduction,
    dialled: Dialled,
    id: LinkId,
    pulse: Pulse,
    since: Instant,
    backlog: Arc<Backlog>,
    /// Kept to spare an allocation for each frame.
    chunks: Vec<Bytes>,
    meters: Meters,
    state: State,
}

struct Meters {
    bytes: IntCounter,
    frames: IntCounter,
    rtt: IntGauge,
}

enum State {
    /// Whoever has made the connection waits for the node's answer.
    New(Option<oneshot::Sender<Result<(), Refusal>>>),
    Up(Up),
    /// What comes counts for nothing any more.
    Ending,
}

/// The fact that the node knows this link.
struct Up {
    links: Arc<Links>,
    peer: NodeId,
    id: LinkId,
    since: Instant,
}

impl Drop for Up {
    fn drop(&mut self) {
        metrics::LINKS.dec();
        // One for each link: this does not fill a mailbox.
        self.links.host.down.do_send(LinkDown { peer: self.peer.clone(), id: self.id });
        self.links.ended(&self.peer, self.since.elapsed());
    }
}

impl Link {
    /// Makes a link of a connection whose greeting is done, and returns when the node has taken it, or has not.
    pub(super) async fn begin(
        links: &Arc<Links>,
        connection: Connection,
        theirs: Introduction,
        dialled: Dialled,
    ) -> Result<(), Refusal> {
        let (sender, up) = oneshot::channel();
        let peer = theirs.node.as_str();
        connection.queue().belongs_to(theirs.node.clone());
        let link = Self {
            links: links.clone(),
            connection,
            dialled,
            id: links.next_id(),
            pulse: Pulse::new(Duration::ZERO),
            since: Instant::now(),
            backlog: Arc::default(),
            chunks: Vec::new(),
            meters: Meters {
                bytes: metrics::LINK_BYTES.with_label_values(&[peer, "in"]),
                frames: metrics::LINK_FRAMES.with_label_values(&[peer]),
                rtt: metrics::LINK_RTT.with_label_values(&[peer]),
            },
            state: State::New(Some(sender)),
            theirs,
        };
        link.start();
        up.await.unwrap_or_else(|_| Err(Refusal::new(Code::Unavailable, "the link ended at once")))
    }

    fn now(&self) -> Duration {
        self.since.elapsed()
    }

    /// The node has answered.
    fn introduced(&mut self, answer: Result<Result<(), Refusal>, MailboxError>, ctx: &mut Context<Self>) {
        let answer = answer.unwrap_or_else(|_| Err(Refusal::new(Code::Draining, "this server is going away")));
        let State::New(sender) = &mut self.state else { return };
        let sender = sender.take();
        match &answer {
            Ok(()) => {
                metrics::LINKS.inc();
                let (links, peer) = (self.links.clone(), self.theirs.node.clone());
                links.began(&peer);
                log::info!("linked to {peer} ({:?}, link {})", self.dialled, self.id.0);
                self.state = State::Up(Up { links, peer, id: self.id, since: self.since });
                self.beat(ctx);
                ctx.run_interval(TICK, Self::beat);
            }
            Err(refusal) => {
                log::debug!("a link to {} is not needed: {refusal}", self.theirs.node);
                self.close(ctx);
            }
        }
        if let Some(sender) = sender {
            // Who has given up waiting does not need the answer.
            let _ = sender.send(answer);
        }
        ctx.spawn(Drive);
    }

    /// Writes what waits, for a moment, and stops.
    fn close(&mut self, ctx: &mut Context<Self>) {
        self.state = State::Ending;
        self.connection.queue().close();
        ctx.run_later(LAST_WORDS, |_, ctx| ctx.stop());
    }

    fn end(&mut self, why: &End, ctx: &mut Context<Self>) {
        let State::Up(up) = std::mem::replace(&mut self.state, State::Ending) else {
            // The rest of a link that ends already.
            return ctx.stop();
        };
        metrics::LINK_ENDS.with_label_values(&[why.word()]).inc();
        let level = if why.is_fault() { log::Level::Warn } else { log::Level::Info };
        log::log!(level, "the link to {} ends: {why}", up.peer);
        match why {
            End::Told | End::Frame(_) | End::Parts | End::Broken(Broken::Closed | Broken::Carrier(_)) => {
                self.close(ctx);
            }
            End::Silent | End::Overflow | End::Broken(_) => {
                self.connection.queue().abort();
                ctx.stop();
            }
        }
        drop(up);
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.state, State::Up(_)) {
            return;
        }
        if self.backlog.is_over() {
            // It is we who do not read.
            self.pulse.heard(self.now());
        }
        match self.pulse.beat(self.now()) {
            Beat::Wait => {}
            Beat::Ping { counter } => self.say(&Hop::Ping { counter }),
            Beat::Dead => self.end(&End::Silent, ctx),
        }
    }

    fn say(&mut self, hop: &Hop) {
        link::encode(hop, &mut self.chunks);
        // A queue that takes nothing has ended, and the link with it.
        let _ = self.connection.queue().push(&self.chunks, Urgency::Heartbeat);
        self.chunks.clear();
    }

    /// Reads and writes as far as there is anything to. Ready when the link is at its end, by itself where all is written
    /// and the queue takes nothing more.
    fn drive(&mut self, task: &mut Task<'_>) -> Poll<Result<(), End>> {
        if !matches!(self.state, State::Up(_)) {
            if self.connection.poll_discard(task).is_ready() {
                return Poll::Ready(Ok(()));
            }
            return self.connection.poll_write(task).map_err(|error| End::Broken(error.into()));
        }
        self.connection.attend();
        let mut rounds = 0;
        // What came together with the last word of the greeting has been read already.
        self.frames()?;
        while !self.backlog.is_full(task.waker()) {
            match self.connection.poll_read(task) {
                Poll::Ready(read) => {
                    self.meters.bytes.inc_by(read? as u64);
                    self.pulse.heard(self.now());
                    self.frames()?;
                }
                Poll::Pending => break,
            }
            rounds += 1;
            if rounds == ROUNDS {
                task.waker().wake_by_ref();
                break;
            }
        }
        self.connection.poll_write(task).map_err(|error| End::Broken(error.into()))
    }

    /// Hands on all frames that have been read.
    fn frames(&mut self) -> Result<(), End> {
        let (mut frames, mut carried) = (0, false);
        let result = self.each_frame(&mut frames, &mut carried);
        if carried {
            self.links.receiver.flush();
        }
        self.meters.frames.inc_by(frames);
        result
    }

    fn each_frame(&mut self, frames: &mut u64, carried: &mut bool) -> Result<(), End> {
        while let Some(mut message) = self.connection.message()? {
            if !matches!(self.state, State::Up(_)) {
                continue;
            }
            while let Some(hop) = link::decode(&mut message)? {
                *frames += 1;
                match hop {
                    Hop::Carry(_) | Hop::Acked { .. } => {
                        *carried = true;
                        self.links.receiver.receive(&self.theirs.node, hop);
                    }
                    Hop::Ping { counter } => self.say(&Hop::Pong { counter, clock: now() }),
                    Hop::Pong { counter, clock } => self.measure(counter, clock),
                    // The link stops reading while too many of them are under way.
                    Hop::Record(_) | Hop::Delta(_) | Hop::Digests(_) | Hop::Snapshot(_) | Hop::Members(_) => {
                        self.links.host.heard.do_send(self.backlog.heard(&self.theirs.node, self.id, hop));
                    }
                }
            }
            if !message.is_empty() {
                return Err(End::Parts);
            }
        }
        Ok(())
    }

    fn measure(&mut self, counter: u64, clock: crate::model::ids::Millis) {
        let Some(measure) = self.pulse.pong(counter, clock, now(), self.now()) else { return };
        self.meters.rtt.set(measure.rtt_us.into());
        self.links.host.measured.do_send(Measured {
            peer: self.theirs.node.clone(),
            id: self.id,
            rtt_us: measure.rtt_us,
            clock_offset_ms: measure.clock_offset_ms,
        });
    }
}

impl Actor for Link {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let up = LinkUp {
            peer: self.theirs.node.clone(),
            incarnation: self.theirs.incarnation,
            address: self.theirs.address.clone(),
            dialled: self.dialled,
            queue: self.connection.queue().clone(),
            id: self.id,
            stop: ctx.address().recipient(),
        };
        let asked = self.links.host.up.send(up).into_actor(self);
        // Nothing is read before the node knows whose it is.
        ctx.wait(asked.map(|answer, link, ctx| link.introduced(answer, ctx)));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.connection.queue().abort();
        self.meters.rtt.set(0);
    }
}

/// The reading and writing of a link, in the actor's own task.
struct Drive;

impl ActorFuture<Link> for Drive {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, link: &mut Link, ctx: &mut Context<Link>, task: &mut Task<'_>) -> Poll<()> {
        loop {
            let Poll::Ready(result) = link.drive(task) else { return Poll::Pending };
            let was_up = matches!(link.state, State::Up(_));
            link.end(&result.err().unwrap_or(End::Overflow), ctx);
            if !was_up {
                return Poll::Ready(());
            }
            // The next round writes its last words.
        }
    }
}

impl Handler<LinkStop> for Link {
    type Result = ();

    fn handle(&mut self, _: LinkStop, ctx: &mut Self::Context) {
        if matches!(self.state, State::Up(_)) {
            self.end(&End::Told, ctx);
        }
    }
}
