//! How the mesh speaks: bytes in, envelopes out, and back. No IO.
