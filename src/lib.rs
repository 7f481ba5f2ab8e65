//! sparkmesh: a real-time messaging mesh with durable inboxes.
//!
//! # The house
//!
//! Two rings. [`model`] is pure: values in, decisions out; it has no IO, no actor, no clock, no randomness and no log.
//! Everything else is a thin shell round it, and `tests/architecture.rs` fails on an import against the table there.
//!
//! | module | owns |
//! |---|---|
//! | [`model`] | what becomes of a message, of a session, of an inbox |
//! | [`wire`] | how frames are read and written |
//! | [`view`] | what the data path reads: devices with their lanes, sessions; and the way of one message |
//! | [`edge`] | one connection of one device |
//! | [`link`] | one connection to another server |
//! | [`node`] | the server: who is attached, presence, heartbeats, going away |
//! | [`home`] | what is durable: inboxes, device records, sessions |
//! | [`store`] | where bytes are kept: sled, or memory |
//! | [`push`] | waking phones |
//! | [`auth`], [`http`], [`tls`] | the way in |
//! | [`config`], [`cli`], [`app`] | settings, commands, wiring |
//! | [`client`], [`mod@bench`] | the other end: a terminal client and a load generator |
//!
//! # The way of one message
//!
//! 1. [`edge::actor`] hears a frame from a socket, and `edge::inbound` has it decoded by [`wire::native`];
//! 2. [`model::decide`] says what becomes of it, and for whom it is;
//! 3. [`view::View::send`] stamps it, encodes it once, opens its account, and offers it to the lane of each recipient;
//! 4. [`model::lane`] takes it to an edge's [`model::outbox`], or, where nobody is there or keeps up, to the inbox;
//! 5. [`edge::body`] takes it from the outbox to the socket, followed by a ping whose pong acknowledges it;
//! 6. or [`home`] writes it to the [`store`], one `fsync` for many, and wakes the device by [`push`];
//! 7. when all recipients have settled, the account tells the sender ([`view::View::settle`]).

#![forbid(unsafe_code)]

pub mod app;
pub mod auth;
pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod edge;
pub mod home;
pub mod http;
pub mod link;
pub mod metrics;
pub mod model;
pub mod node;
pub mod push;
pub mod store;
pub mod tls;
pub mod view;
pub mod wire;
