//! The home: what is durable about devices, clients and sessions.
//!
//! Owns the inbox service (a queue, one committer thread, one reader thread) and the session actor. The data path reaches
//! it through [`crate::view::Inboxes`]; everybody else through [`Home`]. Nothing here blocks its caller.

mod boxes;
mod committer;
mod keys;
mod plan;
mod profile;
mod question;
mod queue;
mod reader;
pub mod record;
pub mod remote;
pub mod sessions;
mod sweep;

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use boxes::MAX_TOKENS;
pub use committer::{Content, Waker};
pub use profile::{Profile, Trimmed};
pub use queue::TokenChange;

use self::boxes::Boxes;
use self::committer::{Committer, Health};
use self::queue::{Command, Queue};
use self::reader::{Reader, Reads, Request};
use self::remote::Remote;
use self::sweep::Sweep;
use crate::model::custody::Verdict;
use crate::model::frames::Dispatch;
use crate::model::ids::{ClientId, Epoch, Millis, NodeId, Seq};
use crate::model::inbox::Limits;
use crate::model::lane::Why;
use crate::model::seen::Key;
pub use crate::store::Unavailable;
use crate::store::{Done, Journal, Store, Write};
use crate::view::{Device, Inboxes, Parcel, View};
use crate::wire::config_request::{Fetch, Page};

/// How to reach the home. Cheap to clone.
#[derive(Clone)]
pub struct Home {
    queue: Arc<Queue>,
    reads: Arc<Reads>,
    remote: Arc<Remote>,
    epoch: Epoch,
}

/// The home before its threads are started.
pub struct Desk {
    home: Home,
    store: Arc<dyn Store>,
}

/// The home's threads.
pub struct Threads {
    committer: JoinHandle<()>,
}

impl Threads {
    /// Waits until all that was handed over is durable and answered. To be called after [`Home::close`], on a thread that
    /// may block.
    pub fn join(self) {
        if self.committer.join().is_err() {
            log::error!("the committer ended with a fault");
        }
    }
}

impl Home {
    pub fn open(store: Arc<dyn Store>) -> Desk {
        let home = Self { queue: Arc::default(), reads: Arc::default(), remote: Arc::default(), epoch: store.epoch() };
        Desk { home, store }
    }

    /// The homes of other servers.
    pub fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The device asks where to connect, or connects: it is known from now on. How many envelopes wait for it.
    pub async fn register(&self, device: NodeId, client: Option<ClientId>) -> Result<u64, Unavailable> {
        let (pending, answer) = oneshot::channel();
        self.queue.push(Command::Register { device, client, pending: Some(pending) });
        answer.await.unwrap_or(Err(Unavailable))
    }

    pub async fn change_tokens(&self, device: NodeId, change: TokenChange) -> Result<(), Unavailable> {
        let (done, answer) = done();
        self.queue.push(Command::Tokens { device, change, done });
        answer.await.unwrap_or(Err(Unavailable))
    }

    /// As [`Self::change_tokens`], for whoever cannot wait.
    pub fn remove_token(&self, device: NodeId, token: crate::push::PushToken) {
        let done = Box::new(|_| {});
        self.queue.push(Command::Tokens { device, change: TokenChange::Remove(token), done });
    }

    pub async fn fetch(&self, device: NodeId, fetch: Fetch) -> Result<Page, Unavailable> {
        let (answer, page) = oneshot::channel();
        self.queue.push(Command::Read(Request::Fetch { device, fetch, answer }));
        page.await.unwrap_or(Err(Unavailable))
    }

    /// Acknowledges the inbox up to `to`, durably.
    pub async fn trim(&self, device: NodeId, to: Seq) -> Result<Trimmed, Unavailable> {
        let (done, answer) = oneshot::channel();
        self.queue.push(Command::Trim { device, to, done: Some(done) });
        answer.await.unwrap_or(Err(Unavailable))
    }

    /// What is known of a device; `None`: it was never here.
    pub async fn profile(&self, device: NodeId) -> Result<Option<Profile>, Unavailable> {
        let (answer, profile) = oneshot::channel();
        self.queue.push(Command::Profile { device, answer });
        profile.await.unwrap_or(Err(Unavailable))
    }

    /// How many envelopes a limit has pushed out since the device was told.
    pub async fn tell_lost(&self, device: NodeId) -> u64 {
        let (news, answer) = oneshot::channel();
        self.queue.push(Command::Tell { device, news });
        answer.await.unwrap_or(0)
    }

    /// Everything handed over before is durable, or has failed.
    pub async fn flush(&self) {
        let (done, answer) = oneshot::channel();
        self.queue.push(Command::Flush(done));
        let _ = answer.await;
    }

    /// Whether the store takes a write.
    pub async fn probe(&self, now: Millis) -> Result<(), Unavailable> {
        let (done, answer) = done();
        let write = boxes::put_json(bytes::Bytes::from_static(b"p"), &now);
        self.submit(vec![write], done);
        answer.await.unwrap_or(Err(Unavailable))
    }

    /// Nothing more will be handed over.
    pub fn close(&self) {
        self.queue.close();
    }
}

fn done() -> (Done, oneshot::Receiver<Result<(), Unavailable>>) {
    let (sender, answer) = oneshot::channel();
    // Whoever asked may be gone; then nobody needs the answer.
    (Box::new(move |result| sender.send(result).unwrap_or(())), answer)
}

impl Desk {
    pub fn home(&self) -> Home {
        self.home.clone()
    }

    /// Starts the committer and the reader.
    pub fn start(self, view: Arc<View>, limits: Limits, wake: Waker, content: Content) -> std::io::Result<Threads> {
        let committer = Committer {
            queue: self.home.queue.clone(),
            reads: self.home.reads.clone(),
            store: self.store.clone(),
            view: view.clone(),
            limits,
            wake,
            content,
            boxes: Boxes::default(),
            sweep: Sweep::default(),
            kept_house: Millis(0),
            health: Health::Good,
        };
        let reader = Reader { reads: self.home.reads, store: self.store, view };
        let committer =
            std::thread::Builder::new().name("committer".into()).spawn(move || end_with(move || committer.run()))?;
        // Ends with the process: it only reads.
        std::thread::Builder::new().name("reader".into()).spawn(move || end_with(move || reader.run()))?;
        Ok(Threads { committer })
    }
}

/// A server without its committer or its reader would take messages and answer nobody. What is durable is safe, and
/// whoever looks after the process starts it again.
fn end_with(work: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
        log::error!("the home has a fault: this server ends");
        std::process::abort();
    }
}

impl Inboxes for Home {
    fn append(&self, device: &Arc<Device>, item: Parcel, why: Why) {
        self.queue.push(Command::Append { device: device.clone(), item, why });
    }

    fn remove(&self, device: &NodeId, seq: Seq) {
        self.queue.push(Command::Remove { device: device.clone(), seq });
    }

    fn trim(&self, device: &NodeId, to: Seq) {
        self.queue.push(Command::Trim { device: device.clone(), to, done: None });
    }

    fn read(&self, device: &Arc<Device>, from: Seq, room: usize, generation: u64) {
        let request = Request::Replay { device: device.clone(), from, room, generation };
        self.queue.push(Command::Read(request));
    }

    fn acknowledge(&self, device: &NodeId, key: Key) {
        self.queue.push(Command::Acknowledge { device: device.clone(), key });
    }

    fn to_client(&self, client: ClientId, except: Vec<NodeId>, item: Parcel) {
        self.queue.push(Command::ToClient { client, except, item });
    }

    fn dispatched(&self, from: &NodeId, _: Dispatch) {
        log::error!("server {from} asks for what this one cannot do yet");
    }

    fn forwarded(&self, _: u64, _: Verdict) {}
}

impl Journal for Home {
    fn submit(&self, writes: Vec<Write>, done: Done) {
        self.queue.push(Command::Write { writes, done });
    }
}
