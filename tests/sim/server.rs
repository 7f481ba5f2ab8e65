//! One server, in one of its lives: the real view, homes, node and sessions, over a simulated disk, in a set of tasks of its
//! own, which can stand still and can be killed between any two of its steps.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix::prelude::*;
use sparkmesh::config::{self, push::PushSettings};
use sparkmesh::edge::Site;
use sparkmesh::home::sessions::{self, SessionHome};
use sparkmesh::home::{Content, Hands, Home};
use sparkmesh::link::LinkId;
use sparkmesh::model::ids::Epoch;
use sparkmesh::model::inbox::Limits;
use sparkmesh::node::{Company, Node, Setup, Standing};
use sparkmesh::push::{PushHandle, PushQueue};
use sparkmesh::store::memory::MemoryStore;
use sparkmesh::store::{Done, Journal, Unavailable, Write};
use sparkmesh::view::View;
use tokio::task::LocalSet;

use crate::disk::Disk;
use crate::pipe::Pipe;
use crate::random::Random;
use crate::time::sleep;

/// After so many looks at nothing they are fewer: a simulation is to be quick.
const IDLE: u32 = 40;

/// See the module's header.
pub(crate) struct Life {
    pub(crate) site: Arc<Site>,
    set: RefCell<Option<Rc<LocalSet>>>,
    gate: Rc<Gate>,
    next_link: Cell<u64>,
    /// Of all its connections.
    pipes: RefCell<Vec<Pipe>>,
}

impl Life {
    pub(crate) async fn begin(disk: &Arc<Disk>, outbox: usize, mut random: Random) -> Rc<Self> {
        let set = Rc::new(LocalSet::new());
        let (of_parts, chance) = (disk.clone(), random.fork());
        let site = set.run_until(async move { assemble(of_parts, outbox, chance) }).await;
        let gate = Rc::new(Gate::default());
        let moved = set.clone();
        gate.run(async move { moved.run_until(std::future::pending::<()>()).await });
        tokio::task::spawn_local(Passage(gate.clone()));
        let (next_link, pipes) = (Cell::new(1), RefCell::default());
        Rc::new(Self { site, set: RefCell::new(Some(set)), gate, next_link, pipes })
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.site.view
    }

    pub(crate) fn next_link(&self) -> LinkId {
        self.next_link.set(self.next_link.get() + 1);
        LinkId(self.next_link.get())
    }

    /// It is at one end of `pipe`.
    pub(crate) fn holds(&self, pipe: &Pipe) {
        self.pipes.borrow_mut().push(pipe.clone());
    }

    /// Does something as this server, for as long as it lives.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        if let Some(set) = &*self.set.borrow() {
            set.spawn_local(work);
        }
    }

    /// It stands still, and does not know it.
    pub(crate) fn freeze(&self) {
        self.gate.frozen.set(true);
    }

    pub(crate) fn thaw(&self) {
        self.gate.frozen.set(false);
        self.gate.wake();
    }

    /// As kill -9, or as when the power goes, and nobody hears of it. Nothing of it does anything any more.
    pub(crate) fn kill(&self, how: Death) {
        if how == Death::Silent {
            self.pipes.borrow().iter().for_each(Pipe::hold);
        }
        let moved = self.gate.future.take();
        let set = self.set.take();
        drop(moved);
        drop(set);
        self.gate.wake();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// The others see that its connections end.
    Loud,
    Silent,
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// What moves a server.
#[derive(Default)]
struct Gate {
    future: RefCell<Option<Work>>,
    frozen: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Gate {
    fn run(&self, work: impl Future<Output = ()> + 'static) {
        *self.future.borrow_mut() = Some(Box::pin(work));
    }

    fn wake(&self) {
        self.waker.borrow_mut().take().into_iter().for_each(Waker::wake);
    }
}

struct Passage(Rc<Gate>);

impl Future for Passage {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        *self.0.waker.borrow_mut() = Some(cx.waker().clone());
        if self.0.frozen.get() {
            return Poll::Pending;
        }
        match &mut *self.0.future.borrow_mut() {
            Some(work) => work.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

/// As `app` does it.
fn assemble(disk: Arc<Disk>, outbox: usize, mut random: Random) -> Arc<Site> {
    let identity = disk.begin();
    let desk = Home::open(disk.clone());
    let home = desk.homes();
    let view = Arc::new(View::new(Node::alone(&identity, Vec::new()), Box::new(home.clone()), outbox, identity.epoch));
    let doubtful = sessions::load(&*disk, &view).unwrap();
    let limits = Limits { bytes: 64 << 20, count: 100_000, age_ms: 30 * 86_400_000 };
    let hands = desk.hands(view.clone(), limits, Arc::new(|_| {}), Content::Hidden).unwrap();
    let standing = Arc::new(Standing::new(10_000, 1000, Company::Expected));
    let server = identity.node.clone();
    let node = Node::new(Setup {
        view: view.clone(),
        homes: home.clone(),
        standing: standing.clone(),
        push: push(),
        identity,
        dir: disk.clone(),
        store: disk.clone(),
        pins: Vec::new(),
    })
    .start();
    let sessions = SessionHome::new(&home, view.clone(), doubtful).start();
    SessionHome::open(sessions.clone(), &home);
    let hands = Rc::new(RefCell::new(hands));
    actix::spawn(write(hands.clone(), disk, random.fork()));
    actix::spawn(look(hands, random));
    let limits = config::Limits {
        max_connections: 10_000,
        admission_rate: 1000,
        max_message_bytes: 1_000_000,
        rate_frames: 20_000,
        rate_bytes: 64_000_000,
        inbox_max_bytes: limits.bytes,
        inbox_max_count: limits.count,
        inbox_max_age: Duration::from_secs(30 * 86_400),
        outbox_max_bytes: outbox,
    };
    Arc::new(Site { server, view, home, sessions, node, standing, limits, spent: Mutex::default() })
}

/// The committer: what waits is planned, is on its way to the disk for a while, and then is answered.
async fn write(hands: Rc<RefCell<Hands>>, disk: Arc<Disk>, mut random: Random) {
    use sparkmesh::store::Store;
    let mut idle = 0;
    loop {
        sleep(random.within(1, if idle < IDLE { 4 } else { 16 })).await;
        let round = hands.borrow_mut().begin();
        let Some(round) = round else {
            idle += 1;
            continue;
        };
        idle = 0;
        let result = if round.writes().is_empty() {
            Ok(())
        } else {
            disk.begin_commit(round.writes());
            sleep(disk.latency()).await;
            disk.commit(round.writes())
        };
        hands.borrow_mut().finish(round, result);
    }
}

/// The reader and the postman.
async fn look(hands: Rc<RefCell<Hands>>, mut random: Random) {
    let (mut idle, mut posted) = (0, 0);
    loop {
        let pause = random.within(1, if idle < IDLE { 6 } else { 20 });
        sleep(pause).await;
        idle += 1;
        if random.percent(80) {
            while hands.borrow_mut().read() {
                idle = 0;
            }
        }
        posted += pause;
        if posted > 20 {
            posted = 0;
            hands.borrow_mut().post();
        }
    }
}

/// No device of a simulation has a push token: one that waits for ever will do for all servers.
fn push() -> PushHandle {
    static PUSH: OnceLock<PushHandle> = OnceLock::new();
    struct Nowhere;
    impl Journal for Nowhere {
        fn submit(&self, _: Vec<Write>, done: Done) {
            done(Err(Unavailable));
        }
    }
    let start = || {
        let store = Arc::new(MemoryStore::new(Epoch(1)));
        let dir = std::env::temp_dir();
        PushQueue::start(&PushSettings::default(), &dir, store, Arc::new(Nowhere), Arc::new(|_, _| {})).unwrap()
    };
    PUSH.get_or_init(start).clone()
}
