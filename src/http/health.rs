//! Whether the server lives, and whether it takes work.
//!
//! Readiness is found out by a write to the store, at most one a second however often it is asked for: nobody needs a
//! key here, and nobody shall wear the disk out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::HttpResponse;
use serde::Serialize;

use super::{Answer, Shared, State};
use crate::model::ids::{Millis, NodeId};
use crate::view::now;

/// How long a finding holds, in milliseconds.
const FRESH_MS: u64 = 1000;
/// A write that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Nobody has asked yet, or the first answer is on its way.
    Nothing,
    Writable,
    Unwritable,
}

/// What the last write to the store has shown.
#[derive(Debug)]
pub(super) struct Readiness(Mutex<(Millis, Found)>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Mutex::new((Millis(0), Found::Nothing)))
    }
}

impl Readiness {
    /// What is known; `None` when it is time to find out, which is then the caller's task and nobody else's.
    fn known(&self, now: Millis) -> Option<Found> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(last.0) < FRESH_MS {
            return Some(last.1);
        }
        last.0 = now;
        None
    }

    fn note(&self, found: Found) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = found;
    }
}

async fn store(state: &State) -> Found {
    if let Some(found) = state.readiness.known(now()) {
        return found;
    }
    let probe = tokio::time::timeout(PATIENCE, state.site.home.probe(now())).await;
    let found = if matches!(probe, Ok(Ok(()))) { Found::Writable } else { Found::Unwritable };
    state.readiness.note(found);
    found
}

#[derive(Serialize)]
struct Alive<'a> {
    status: &'static str,
    node_id: &'a NodeId,
}

/// `GET /healthz`.
pub(super) async fn alive(state: Shared) -> Answer {
    Ok(HttpResponse::Ok().json(Alive { status: "ok", node_id: &state.site.server }))
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'static str>,
}

/// `GET /readyz`.
pub(super) async fn ready(state: Shared) -> HttpResponse {
    let mut reasons = Vec::new();
    match store(&state).await {
        Found::Writable => {}
        Found::Unwritable => reasons.push("store"),
        Found::Nothing => reasons.push("starting"),
    }
    if state.site.standing.is_draining() {
        reasons.push("draining");
    }
    if !state.site.standing.is_acquainted() {
        reasons.push("mesh");
    }
    if !state.site.view.mesh.returning().is_over() {
        // It takes over from those who have served in its stead; seconds at most.
        reasons.push("returning");
    }
    if reasons.is_empty() {
        return HttpResponse::Ok().json(Ready { status: "ready", reasons });
    }
    HttpResponse::ServiceUnavailable().json(Ready { status: "not_ready", reasons })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_tried_once_a_second() {
        let readiness = Readiness::default();
        assert_eq!(readiness.known(Millis(50_000)), None);
        assert_eq!(readiness.known(Millis(50_001)), Some(Found::Nothing), "the first one is trying");
        readiness.note(Found::Writable);
        assert_eq!(readiness.known(Millis(50_999)), Some(Found::Writable));
        assert_eq!(readiness.known(Millis(51_000)), None);
        assert_eq!(readiness.known(Millis(51_000)), Some(Found::Writable), "until it is known better");
        readiness.note(Found::Unwritable);
        assert_eq!(readiness.known(Millis(51_999)), Some(Found::Unwritable));
    }
}
