//! The home: what is durable about devices, clients and sessions.
//!
//! Owns the inbox service (a queue, one committer thread, one reader thread), the session actor, what is asked of other
//! servers' homes, and the mail held for those that are away. The data path reaches it through [`crate::view::Inboxes`];
//! everybody else through [`Homes`], which knows who the home of an id is; [`Home`] is this server's own part. Nothing here
//! blocks its caller.

mod abroad;
mod arrivals;
mod asked;
mod blank;
mod boxes;
mod coming;
mod committer;
mod copies;
mod debts;
mod hands;
mod held;
mod homes;
mod keys;
mod mover;
mod moving;
mod plan;
mod postman;
mod profile;
mod question;
mod queue;
mod reader;
pub mod record;
pub mod remote;
mod search;
pub mod sessions;
mod sweep;

use std::sync::Arc;

use tokio::sync::oneshot;

pub use blank::{is_blank, is_given_away};
pub use boxes::MAX_TOKENS;
pub use committer::{Content, Round, Waker};
pub use hands::{Hands, Threads};
pub use homes::Homes;
pub use profile::{Profile, Trimmed};
pub use queue::TokenChange;
pub use search::{Lying, Search, Whole};

use self::boxes::Boxes;
use self::committer::{Committer, Health};
use self::postman::Postman;
use self::queue::{Command, Queue};
use self::reader::{Reader, Reads};
use self::sweep::Sweep;
use crate::model::ids::{Epoch, Millis};
use crate::model::inbox::Limits;
pub use crate::store::Unavailable;
use crate::store::{Done, Journal, Store, Write};
use crate::view::View;

/// This server's own home. Cheap to clone.
#[derive(Clone)]
pub struct Home {
    queue: Arc<Queue>,
    reads: Arc<Reads>,
    epoch: Epoch,
}

/// The homes before anybody works for them.
pub struct Desk {
    home: Home,
    homes: Homes,
    store: Arc<dyn Store>,
}

impl Home {
    pub fn open(store: Arc<dyn Store>) -> Desk {
        let home = Self { queue: Arc::default(), reads: Arc::default(), epoch: store.epoch() };
        let homes = Homes::new(home.clone());
        Desk { home, homes, store }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
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

    fn push(&self, command: Command) {
        self.queue.push(command);
    }

    /// Nothing more will be handed over.
    fn close(&self) {
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

    pub fn homes(&self) -> Homes {
        self.homes.clone()
    }

    /// As [`Self::hands`], each on a thread of its own.
    ///
    /// # Errors
    /// When a thread cannot be started, or the held mail cannot be read.
    pub fn start(self, view: Arc<View>, limits: Limits, wake: Waker, content: Content) -> std::io::Result<Threads> {
        self.hands(view, limits, wake, content)?.start()
    }

    /// The committer, the reader and the postman, for `view`; from now on the homes answer as far as these are moved.
    ///
    /// # Errors
    /// When the held mail cannot be read.
    pub fn hands(self, view: Arc<View>, limits: Limits, wake: Waker, content: Content) -> std::io::Result<Hands> {
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
            doubtful: Vec::new(),
            homes: self.homes.clone(),
        };
        let postman = Postman { homes: self.homes.clone(), view: view.clone(), store: self.store.clone() };
        let mover = postman.restore().map_err(std::io::Error::other)?;
        self.homes.begin(view.clone());
        let reader = Reader { reads: self.home.reads, store: self.store, view };
        Ok(Hands { committer, reader, postman, mover })
    }
}

impl Journal for Home {
    fn submit(&self, writes: Vec<Write>, done: Done) {
        self.queue.push(Command::Write { writes, done });
    }
}

#[cfg(test)]
mod tests;
