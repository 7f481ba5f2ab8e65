//! The gate before the handshakes: how many devices come in, whoever they are; the model says which.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::error::Rejection;
use crate::metrics;
use crate::model::admission::{Arrival, Gate};
use crate::model::codes::{Code, Refusal};
use crate::model::ids::Millis;
use crate::view::steady;

/// Who comes no earlier than this before the time that was said comes in time: clocks are measured, not the same.
const EARLY_MS: u64 = 500;

/// See the module's header.
#[derive(Debug)]
pub(super) struct Admission(Mutex<Gate>);

impl Admission {
    pub(super) fn new(per_second: u64) -> Self {
        Self(Mutex::new(Gate::new(per_second)))
    }

    /// Lets one more in. `told`: for when its offer was, where it has one; `now` by this server's clock.
    pub(super) fn admit(&self, told: Option<Millis>, now: Millis) -> Result<(), Rejection> {
        let arrival = match told {
            Some(told) if told.0 <= now.0.saturating_add(EARLY_MS) => Arrival::Told,
            _ => Arrival::Untold,
        };
        let moment = Duration::from_millis(steady().0);
        // Nothing panics half way.
        let admitted = self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(arrival, moment);
        admitted.map_err(|wait| {
            metrics::ADMISSIONS_REFUSED.with_label_values(&[if told.is_some() { "offered" } else { "direct" }]).inc();
            let message = "too many devices come in at once; come back later, or ask where to connect, and wait as the answer \
                           says";
            Rejection::later(Refusal::new(Code::Unavailable, message), wait)
        })
    }
}
