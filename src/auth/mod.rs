//! Who is allowed in: secrets, the keys made with them, and what failed attempts cost.
//!
//! Owns every use of the cluster secret. A key of one kind is never accepted as another: auth keys are JWTs signed with
//! the secret itself, every other kind is made with a secret of its own, derived from it (row A61).

pub mod attempts;
pub mod error;
pub mod forwarded;
pub mod key;
pub mod peer;
pub mod secrets;
pub mod validation;
