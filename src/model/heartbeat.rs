//! Whether an edge still lives: a ping when it has been silent, and an end when that is not answered.
//!
//! Any byte received counts as life (DESIGN 5, field notes on half-open peers); a write that succeeds does not.

use super::ids::Millis;

/// Silence after which an edge is asked for a sign of life, in milliseconds.
pub const PING_AFTER_MS: u64 = 25_000;
/// How long it has for the answer, in milliseconds.
pub const DEAD_AFTER_MS: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    Wait,
    Ping,
    Dead,
}

#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    heard: Millis,
    asked: Option<Millis>,
}

impl Heartbeat {
    pub fn new(now: Millis) -> Self {
        Self { heard: now, asked: None }
    }

    pub fn received(&mut self, now: Millis) {
        self.heard = now;
        self.asked = None;
    }

    /// What is due now; a [`Beat::Ping`] is expected to be sent.
    pub fn beat(&mut self, now: Millis) -> Beat {
        match self.asked {
            // Asked too long ago: this server slept, and the answer may lie unread.
            Some(asked) if now.since(asked) >= 2 * DEAD_AFTER_MS => {
                self.asked = Some(now);
                Beat::Ping
            }
            Some(asked) if now.since(asked) >= DEAD_AFTER_MS => Beat::Dead,
            None if now.since(self.heard) >= PING_AFTER_MS => {
                self.asked = Some(now);
                Beat::Ping
            }
            _ => Beat::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_about_once_and_then_ends_the_edge() {
        let mut heart = Heartbeat::new(Millis(0));
        assert_eq!(heart.beat(Millis(24_999)), Beat::Wait);
        assert_eq!(heart.beat(Millis(25_000)), Beat::Ping);
        assert_eq!(heart.beat(Millis(26_000)), Beat::Wait);
        assert_eq!(heart.beat(Millis(34_999)), Beat::Wait);
        assert_eq!(heart.beat(Millis(35_000)), Beat::Dead);
    }

    #[test]
    fn a_server_that_slept_asks_again() {
        let mut heart = Heartbeat::new(Millis(0));
        assert_eq!(heart.beat(Millis(25_000)), Beat::Ping);
        assert_eq!(heart.beat(Millis(60_000)), Beat::Ping);
        assert_eq!(heart.beat(Millis(70_000)), Beat::Dead);
    }

    #[test]
    fn any_byte_is_life() {
        let mut heart = Heartbeat::new(Millis(0));
        assert_eq!(heart.beat(Millis(25_000)), Beat::Ping);
        heart.received(Millis(34_000));
        assert_eq!(heart.beat(Millis(40_000)), Beat::Wait);
        assert_eq!(heart.beat(Millis(59_000)), Beat::Ping);
    }
}
