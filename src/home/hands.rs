//! Who does the work of the homes: the committer, the reader and the postman, as something that can be moved.
//!
//! In the program each of them is a thread ([`Hands::start`]). A simulation moves them itself, one step at a time, and
//! decides when what is written is durable, and what of it when the server dies meanwhile.

use std::thread::JoinHandle;
use std::time::Duration;

use super::committer::{Committer, Round, Work};
use super::mover::Mover;
use super::postman::Postman;
use super::reader::Reader;
use crate::store::StoreError;

/// See the module's header.
pub struct Hands {
    pub(super) committer: Committer,
    pub(super) reader: Reader,
    pub(super) postman: Postman,
    pub(super) mover: Mover,
}

/// The threads of the homes.
pub struct Threads {
    committer: JoinHandle<()>,
    postman: JoinHandle<()>,
}

impl Hands {
    /// Starts a thread for each.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start(self) -> std::io::Result<Threads> {
        let Self { committer, reader, postman, mover } = self;
        let committer = thread("committer", move || committer.run())?;
        // Ends with the process: it only reads.
        thread("reader", move || reader.run())?;
        let postman = thread("postman", move || postman.run(mover))?;
        Ok(Threads { committer, postman })
    }

    /// What waits to become durable, if anything does. Its writes are to be committed, and then it is to be finished, before
    /// the next one begins.
    pub fn begin(&mut self) -> Option<Round> {
        match self.committer.begin(Duration::ZERO) {
            Work::Round(round) => Some(round),
            Work::Nothing | Work::Over => None,
        }
    }

    /// Answers those who wait for `round`.
    pub fn finish(&mut self, round: Round, result: Result<(), StoreError>) {
        self.committer.finish(round, result);
    }

    /// Reads for whoever has waited longest; whether somebody has.
    pub fn read(&mut self) -> bool {
        self.reader.turn()
    }

    /// One round of the postman.
    pub fn post(&mut self) {
        self.postman.turn(&mut self.mover);
    }
}

impl Threads {
    /// Waits until all that was handed over is durable and answered. To be called after [`super::Homes::close`], on a thread
    /// that may block.
    pub fn join(self) {
        if self.postman.join().is_err() {
            log::error!("the postman ended with a fault");
        }
        if self.committer.join().is_err() {
            log::error!("the committer ended with a fault");
        }
    }
}

/// A server without its committer or its reader would take messages and answer nobody. What is durable is safe, and
/// whoever looks after the process starts it again.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
            log::error!("the home has a fault: this server ends");
            std::process::abort();
        }
    })
}
