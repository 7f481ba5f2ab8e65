//! The decoders of sparkmesh, taken by path and not as the crate: of its dependencies they need a handful, and only
//! those are built and instrumented here.
//!
//! One more decoder: its module below, a file in `fuzz_targets/`, a `[[bin]]` in `Cargo.toml`, a folder in `seeds/`. Those that
//! stand behind half of the house's dependencies (keys, greetings of links, bodies of requests, questions of servers, records in
//! JSON) are held by property tests instead: `any_bytes` in their names, as often as PROPTEST_CASES says.

#[path = "../../src/model/mod.rs"]
pub mod model;

#[path = "../../src/wire/mod.rs"]
pub mod wire;

#[path = "../../src/home/record.rs"]
pub mod record;

/// As `src/store/mod.rs` has it.
#[derive(Debug, Clone, Copy)]
pub enum Table {
    Inbox,
}

pub const MAX_VALUE: usize = 64 << 20;

pub mod store;
