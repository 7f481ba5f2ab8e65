//! The time and the chance of a simulated world: those of its runtime, and of its seed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use sparkmesh::model::ids::Millis;
use sparkmesh::outside::Outside;
use tokio::time::Instant;

use crate::random::Random;

/// When every world begins.
const BEGINNING: u64 = 1_800_000_000_000;

/// See the module's header. Only within a runtime whose clock is paused.
pub(crate) struct Virtual {
    began: Instant,
    random: RefCell<Random>,
    /// How much chance was had: two runs that differ somewhere differ here soon.
    drawn: Cell<u64>,
}

impl Virtual {
    pub(crate) fn begin(random: Random) -> Rc<Self> {
        Rc::new(Self { began: Instant::now(), random: RefCell::new(random), drawn: Cell::new(0) })
    }

    /// Milliseconds since the world began.
    pub(crate) fn elapsed(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    pub(crate) fn drawn(&self) -> u64 {
        self.drawn.get()
    }
}

impl Outside for Virtual {
    fn now(&self) -> Millis {
        Millis(BEGINNING + self.elapsed())
    }

    fn steady(&self) -> Millis {
        self.now()
    }

    fn chance(&self) -> u64 {
        self.drawn.set(self.drawn.get() + 1);
        self.random.borrow_mut().next()
    }
}

pub(crate) async fn sleep(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
