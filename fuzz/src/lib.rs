//! The decoders of sparkmesh, taken by path and not as the crate: of its dependencies they need a handful, and only
//! those are built and instrumented here.
//!
//! One more decoder: its module below, a file in `fuzz_targets/`, a `[[bin]]` in `Cargo.toml`, a folder in `seeds/`. Keys
//! are decoded by a library; what is ours there is held by the property tests of `src/auth`.

#[path = "../../src/model/mod.rs"]
pub mod model;

#[path = "../../src/wire/mod.rs"]
pub mod wire;

#[path = "../../src/home/record.rs"]
pub mod record;
