//! How the mesh speaks: bytes in, envelopes out, and back. No IO.
//!
//! [`native`] is the JSON dialect of envelopes, [`config_request`] the one control frame with a payload of its own,
//! [`notice`] what the server itself says, [`frame`] the WebSocket framing round all of them, [`carrier`] that of links, and
//! [`link`] what servers say over them.

pub mod carrier;
pub mod config_request;
mod field;
pub mod frame;
pub mod guard;
pub mod link;
pub mod native;
pub mod notice;

pub use field::{MAX_DEPTH, WireError};
