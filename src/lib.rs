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
//! | [`view`] | what the data path reads: devices with their lanes, sessions, routes, who is where; and the way of one message |
//! | [`edge`] | one connection of one device |
//! | [`link`] | one connection to another server |
//! | [`node`] | the server: who is attached here and elsewhere, links and members of the mesh, presence, heartbeats, going away |
//! | [`home`] | what is durable: inboxes, device records, sessions; mail held for homes that cannot be reached; moving to new homes |
//! | [`store`] | where bytes are kept: sled, or memory |
//! | [`push`] | waking phones |
//! | [`watch`] | what operators are told of this server, and through it of the others |
//! | [`auth`], [`http`], [`tls`] | the way in |
//! | [`config`], [`cli`], [`app`] | settings, commands, wiring |
//! | [`outside`] | time, chance and what blocks, as a thread has them |
//! | [`client`], [`mod@bench`] | the other end: a terminal client and a load generator |
//!
//! # The way of one message
//!
//! 1. [`edge::actor`] hears a frame from a socket, and `edge::inbound` has it decoded by [`wire::native`];
//! 2. [`model::decide`] says what becomes of it, and for whom it is;
//! 3. [`view::View::send`] stamps it, encodes it once, opens its account, and offers it to the lane of each recipient;
//! 4. [`model::lane`] takes it to an edge's [`model::outbox`], or, where nobody is there or keeps up, to the inbox; a device
//!    that is attached at another server ([`view::Places`]) has a lane here too, which sends it there as in the next list;
//! 5. [`edge::body`] takes it from the outbox to the socket, followed by a ping whose pong acknowledges it;
//! 6. or [`home`] writes it to the [`store`], one `fsync` for many, and wakes the device by [`push`]; where the inbox has its
//!    home at another server it is sent there, and held on disk here while that cannot be reached;
//! 7. when all recipients have settled, the account tells the sender ([`view::View::settle`]).
//!
//! And from one server to another:
//!
//! 1. [`view::Mesh::send`] numbers it in the stream to that server ([`model::stream`]), which keeps it until it is acknowledged;
//! 2. the first server of the shortest way ([`model::routes`]) gets it, encoded by [`wire::link`], through the
//!    [`view::LinkQueue`] of that link; one copy for all who are reached over it;
//! 3. [`link`] writes what waits as one WebSocket message, and at the other end hands it to [`view::Receiver`] on the
//!    reader's thread;
//! 4. a server on the way passes it on, and keeps nothing; the one that it is for takes each number once and in order;
//! 5. there a lane serves it as in 4 to 6 above, and says what became of it; the lane at the first server, the custodian,
//!    has kept it until then, and takes another way, or the inbox, when that server is lost ([`view::View::look_again`]).
//!
//! An envelope to a session goes first, as it is, to whoever acts for that ([`view::Mesh::acting`]), in the order of
//! [`model::post`], and from there to the members. Whoever acts for a client is asked who its devices are; what the same
//! sender says meanwhile waits.

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
pub mod outside;
pub mod process;
pub mod push;
pub mod store;
pub mod tls;
pub mod view;
pub mod watch;
pub mod wire;
