//! The decoders of sparkmesh, taken by path and not as the crate: of its dependencies they need a handful, and only
//! those are built and instrumented here.
//!
//! One more decoder: its module below, a file in `fuzz_targets/`, a `[[bin]]` in `Cargo.toml`, a folder in `seeds/`.

#[path = "../../src/model"]
pub mod model {
    pub mod codes;
    pub mod envelope;
    pub mod ids;
}

#[path = "../../src/wire/mod.rs"]
pub mod wire;
