//! Where readers find the engine while the writer may exchange it.
//!
//! A reader keeps the engine that it took until it is done. An engine of other files replaces the old one at once; the
//! same files can be opened again only after the last reader has let go of them (`sled` locks them).

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::super::StoreError;
use super::engine::Engine;

/// How long readers may take to let go. A reader that asks the store again from within a scan waits for the new engine
/// while the writer waits for the scan: this ends it, in favour of the reader.
const READERS: Duration = Duration::from_secs(2);
/// How long an engine may take to stop.
const STOP: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum State {
    Ready(Arc<Engine>),
    /// Being exchanged: readers wait.
    Between,
    /// It could not be opened again.
    Closed,
}

#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State>,
    settled: Condvar,
}

impl Slot {
    pub(super) fn new(engine: Engine) -> Self {
        Self { state: Mutex::new(State::Ready(Arc::new(engine))), settled: Condvar::new() }
    }

    pub(super) fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        let state = self.settled.wait_while(self.state(), |state| matches!(state, State::Between));
        match &*state.unwrap_or_else(PoisonError::into_inner) {
            State::Ready(engine) => Ok(Arc::clone(engine)),
            State::Between | State::Closed => Err(closed()),
        }
    }

    /// Puts in an engine of other files.
    pub(super) fn exchange(&self, engine: Engine) {
        // Dropped after the lock: stopping an engine takes a while.
        let _old = self.set(State::Ready(Arc::new(engine)));
    }

    /// Stops the engine, then puts in what `open` gives.
    pub(super) fn reopen(&self, open: impl FnOnce() -> Result<Engine, StoreError>) -> Result<(), StoreError> {
        if let State::Ready(old) = self.set(State::Between) {
            match alone(old) {
                Ok(engine) => {
                    if !stop(engine) {
                        self.set(State::Closed);
                        return Err(closed());
                    }
                }
                Err(old) => {
                    self.set(State::Ready(old));
                    return Err(StoreError::Unwritable(std::io::Error::other("readers keep the failed files open")));
                }
            }
        }
        match open() {
            Ok(engine) => {
                self.set(State::Ready(Arc::new(engine)));
                Ok(())
            }
            Err(error) => {
                self.set(State::Closed);
                Err(error)
            }
        }
    }

    fn set(&self, state: State) -> State {
        let old = std::mem::replace(&mut *self.state(), state);
        self.settled.notify_all();
        old
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> StoreError {
    StoreError::Unwritable(std::io::Error::other("after a failure it could not be opened again; tried at each commit"))
}

/// Waits until nobody else has the engine.
fn alone(mut engine: Arc<Engine>) -> Result<Engine, Arc<Engine>> {
    let deadline = Instant::now() + READERS;
    loop {
        match Arc::try_unwrap(engine) {
            Ok(engine) => return Ok(engine),
            Err(shared) if Instant::now() > deadline => return Err(shared),
            Err(shared) => engine = shared,
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// On a thread of its own: an engine whose background thread died would be waited for without end.
fn stop(engine: Engine) -> bool {
    let (stopped, wait) = mpsc::sync_channel(1);
    let stopping = thread::Builder::new().name("store-stop".to_owned()).spawn(move || {
        drop(engine);
        // Nobody waits any more when this came too late.
        let _ = stopped.send(());
    });
    stopping.is_ok() && wait.recv_timeout(STOP).is_ok()
}
