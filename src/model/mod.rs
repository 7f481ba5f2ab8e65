//! The rules of the domain, as pure code: values in, decisions out. Time, randomness and ids are arguments.

pub mod admission;
pub mod attachments;
pub mod backoff;
pub mod choice;
pub mod codes;
#[cfg(test)]
mod convergence;
pub mod custody;
pub mod decide;
pub mod envelope;
pub mod frames;
pub mod heartbeat;
pub mod history;
pub mod ids;
pub mod inbox;
pub mod keyed;
pub mod lane;
#[cfg(test)]
pub(crate) mod mangled;
pub mod members;
pub mod numbering;
pub mod outbox;
pub mod pin;
pub mod placement;
pub mod post;
pub mod rate;
pub mod reservations;
pub mod routes;
pub mod seen;
pub mod session;
pub mod stream;
pub mod topology;
pub mod wake;
