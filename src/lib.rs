//! sparkmesh: a real-time messaging mesh with durable inboxes.
//!
//! # The house
//!
//! Two rings. [`model`] is pure: values in, decisions out; it has no IO, no actor, no clock, no randomness and no log.
//! Everything else is a thin shell round it, and `tests/architecture.rs` fails on an import against the table there.

#![forbid(unsafe_code)]

pub mod app;
pub mod auth;
pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod edge;
pub mod home;
pub mod metrics;
pub mod model;
pub mod node;
pub mod push;
pub mod store;
pub mod tls;
pub mod view;
pub mod wire;
