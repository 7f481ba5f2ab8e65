//! A link between two servers: their real queues, codec and receivers, with a pair of pipes for the connection.
//!
//! Does what `link::actor` does, in its order: the node is asked before anything is read, data goes to the view where it is
//! read, everything else to the node, and whatever ends the link, the node is told once.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::prelude::*;
use bytes::{Bytes, BytesMut};
use sparkmesh::link::{Backlog, Dialled, Introduce, Introduction, LinkDown, LinkId, LinkStop, LinkUp, Measured, Meet};
use sparkmesh::model::frames::Hop;
use sparkmesh::model::ids::NodeId;
use sparkmesh::node::Node;
use sparkmesh::view::{LINK_QUEUE_LIMIT, LinkQueue, Receiver, Taken};
use sparkmesh::wire::carrier::{Deframer, Masking, Message};
use sparkmesh::wire::link;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::pipe::{Pipe, Reader, Writer};
use crate::random::Random;
use crate::server::Life;
use crate::time::sleep;

/// Bytes taken from a queue for one message.
const BUDGET: usize = 16 << 10;
const BEAT: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(6);
/// Chunks under way in one direction.
const ROOM: usize = 64;

/// Both directions of a connection between two servers.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) pipes: [Pipe; 2],
    ends: [Rc<()>; 2],
}

impl Line {
    /// Whether both ends are at work.
    pub(crate) fn is_whole(&self) -> bool {
        // One here, one at the end.
        self.ends.iter().all(|end| Rc::strong_count(end) > 1)
    }
}

/// Links `from` with `to`, unless they will not. The line is handed to `made` before anything is said over it.
pub(crate) async fn dial(from: Rc<Life>, to: Rc<Life>, delay: u64, mut random: Random, made: impl FnOnce(Line)) {
    let greeted = timeout(Duration::from_secs(10), greet(&from, &to, &mut random)).await;
    let Ok(Some((dialling, accepting))) = greeted else { return };
    let pipe = |random: &mut Random| Pipe::new(ROOM, delay, random.fork());
    let (there, back) = (pipe(&mut random), pipe(&mut random));
    for life in [&from, &to] {
        life.holds(&there);
        life.holds(&back);
    }
    let line = Line { pipes: [there.clone(), back.clone()], ends: [Rc::new(()), Rc::new(())] };
    let cost = 1_000 * (delay as u32 + 1);
    let one = End {
        id: from.next_link(),
        theirs: accepting,
        dialled: Dialled::ByUs,
        cost,
        life: line.ends[0].clone(),
        out: Writer(there.clone()),
        read: Reader(back.clone()),
    };
    let other = End {
        id: to.next_link(),
        theirs: dialling,
        dialled: Dialled::ByThem,
        cost,
        life: line.ends[1].clone(),
        out: Writer(back),
        read: Reader(there),
    };
    made(line);
    from.spawn(one.run(from.site.node.clone(), from.site.view.clone()));
    to.spawn(other.run(to.site.node.clone(), to.site.view.clone()));
}

async fn greet(from: &Life, to: &Life, random: &mut Random) -> Option<(Introduction, Introduction)> {
    let dialling = from.site.node.send(Introduce).await.ok()?;
    sleep(random.within(0, 10)).await;
    let accepting = to.site.node.send(Meet { theirs: dialling.clone() }).await.ok()?.ok()?;
    sleep(random.within(0, 10)).await;
    let dialling = from.site.node.send(Meet { theirs: accepting.clone() }).await.ok()?.ok()?;
    Some((dialling, accepting))
}

struct End {
    id: LinkId,
    theirs: Introduction,
    dialled: Dialled,
    cost: u32,
    life: Rc<()>,
    out: Writer,
    read: Reader,
}

impl End {
    async fn run(self, node: Addr<Node>, view: Arc<sparkmesh::view::View>) {
        let peer = self.theirs.node.clone();
        let queue = Arc::new(LinkQueue::new(peer.clone(), LINK_QUEUE_LIMIT));
        let (ours, theirs) = match self.dialled {
            Dialled::ByUs => (Masking::Client, Masking::Server),
            Dialled::ByThem => (Masking::Server, Masking::Client),
        };
        let stopped = Rc::new(Notify::new());
        let up = LinkUp {
            peer: peer.clone(),
            incarnation: self.theirs.incarnation,
            address: self.theirs.address.clone(),
            dialled: self.dialled,
            queue: queue.clone(),
            id: self.id,
            stop: Stop(stopped.clone()).start().recipient(),
        };
        if !matches!(node.send(up).await, Ok(Ok(()))) {
            return;
        }
        let _up = Up { node: node.clone(), peer: peer.clone(), id: self.id, queue: queue.clone(), _life: self.life };
        let measured = || Measured { peer: peer.clone(), id: self.id, rtt_us: self.cost, clock_offset_ms: 0 };
        node.do_send(measured());
        actix::spawn(write(queue.clone(), self.out, ours));
        let backlog = Arc::new(Backlog::default());
        let mut deframer = Deframer::new(theirs, 64 << 20);
        loop {
            let read = tokio::select! {
                biased;
                () = stopped.notified() => {
                    queue.close();
                    return;
                }
                read = timeout(SILENCE, self.read.0.read()) => read,
            };
            let Ok(Some(chunk)) = read else { break };
            if chunk.is_empty() {
                node.do_send(measured());
                continue;
            }
            deframer.feed(chunk);
            let mut carried = false;
            loop {
                match deframer.next().unwrap() {
                    Some(Message::Binary(mut bytes)) => {
                        while let Some(hop) = link::decode(&mut bytes).unwrap() {
                            match hop {
                                Hop::Carry(_) | Hop::Acked { .. } => {
                                    carried = true;
                                    view.receive(&peer, hop);
                                }
                                Hop::Ping { .. } | Hop::Pong { .. } => {}
                                other => node.do_send(backlog.heard(&peer, self.id, other)),
                            }
                        }
                    }
                    Some(Message::Life) => {}
                    Some(Message::Close) => return,
                    None => break,
                }
            }
            if carried {
                view.flush();
            }
        }
        queue.abort();
    }
}

/// The fact that the node knows the link.
struct Up {
    node: Addr<Node>,
    peer: NodeId,
    id: LinkId,
    queue: Arc<LinkQueue>,
    _life: Rc<()>,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.queue.close();
        self.node.do_send(LinkDown { peer: self.peer.clone(), id: self.id });
    }
}

async fn write(queue: Arc<LinkQueue>, out: Writer, ours: Masking) {
    loop {
        let mut bytes = BytesMut::new();
        let taken = poll_fn(|cx| match queue.take(BUDGET, ours, cx.waker(), &mut bytes) {
            Taken::Nothing => Poll::Pending,
            taken => Poll::Ready(taken),
        });
        let taken = timeout(BEAT, taken).await;
        // An empty chunk is a sign of life.
        let beats = taken.is_err();
        if (beats || !bytes.is_empty()) && !out.0.write(Bytes::from(bytes)).await {
            return queue.abort();
        }
        if taken == Ok(Taken::End) {
            return;
        }
    }
}

/// Whom the node tells to end a link.
struct Stop(Rc<Notify>);

impl Actor for Stop {
    type Context = Context<Self>;
}

impl Handler<LinkStop> for Stop {
    type Result = ();

    fn handle(&mut self, _: LinkStop, ctx: &mut Self::Context) {
        self.0.notify_one();
        ctx.stop();
    }
}
