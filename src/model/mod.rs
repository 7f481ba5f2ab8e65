//! The rules of the domain, as pure code: values in, decisions out. Time, randomness and ids are arguments.

pub mod codes;
pub mod envelope;
pub mod ids;
pub mod wake;
