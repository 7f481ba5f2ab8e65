//! Which records of this server others may have changed in its stead, and have not handed back yet. While there are any, the
//! server does not act for them.

use std::sync::atomic::{AtomicU8, Ordering};

/// What is kept by two servers, and changed by one of them while the other is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Devices and clients.
    Records = 1,
    Sessions = 2,
}

/// See the module's header.
#[derive(Debug, Default)]
pub struct Returning(AtomicU8);

impl Returning {
    pub fn begin(&self, kept: Kept) {
        self.0.fetch_or(kept as u8, Ordering::AcqRel);
    }

    pub fn end(&self, kept: Kept) {
        self.0.fetch_and(!(kept as u8), Ordering::AcqRel);
    }

    pub fn includes(&self, kept: Kept) -> bool {
        self.0.load(Ordering::Acquire) & kept as u8 != 0
    }

    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}
