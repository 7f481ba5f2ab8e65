//! Whether the peer of an edge lives: when to ping, how long to wait, when to give up.
//!
//! Invariants: a ping every [`EVERY`], and no second one while the first is unanswered; whatever byte arrives after a
//! ping answers it. Who falls asleep itself (a stopped process, a closed lid) judges nobody by the time it slept.
//! Leaves to the edge to send and to listen.

use std::time::Duration;

/// Between two pings: shorter than the 30 s after which the most impatient proxies drop a silent connection.
pub const EVERY: Duration = Duration::from_secs(25);
/// How long after a ping a peer may be silent.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the edge does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send a ping, then ask again.
    Ping,
    /// Nothing for so long; ask again then.
    Wait(Duration),
    /// Close: the peer gave no sign of life.
    Dead,
}

/// The heartbeat of one edge. All times are since any fixed moment, on a clock that does not go back.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    next_ping: Duration,
    /// When the last ping must have been answered; `None`: it was.
    deadline: Option<Duration>,
}

impl Heartbeat {
    /// The first ping is earlier by `jitter` (at most [`EVERY`]), at random, so that a thousand edges that came at once
    /// are not pinged at once for ever.
    pub fn new(now: Duration, jitter: Duration) -> Self {
        Self { next_ping: now + EVERY.saturating_sub(jitter), deadline: None }
    }

    /// Something arrived, be it a pong or half a frame.
    pub fn heard(&mut self) {
        self.deadline = None;
    }

    /// To be asked when the last answer's time is over; earlier does no harm. What has arrived by then should have been
    /// told to [`Heartbeat::heard`].
    pub fn next(&mut self, now: Duration) -> Action {
        let due = self.deadline.unwrap_or(self.next_ping);
        if now < due {
            return Action::Wait(due.saturating_sub(now));
        }
        // Asked very late, this server slept, and the answer may lie unread: then the peer is asked again.
        if self.deadline.is_some_and(|deadline| now < deadline + ANSWER_WITHIN) {
            return Action::Dead;
        }
        self.deadline = Some(now + ANSWER_WITHIN);
        self.next_ping = now + EVERY;
        Action::Ping
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_peer_is_dead_ten_seconds_after_the_ping() {
        let mut heart = Heartbeat::new(s(100), s(5));
        assert_eq!(heart.next(s(100)), Action::Wait(s(20)));
        assert_eq!(heart.next(s(120)), Action::Ping);
        assert_eq!(heart.next(s(120)), Action::Wait(s(10)));
        assert_eq!(heart.next(s(129)), Action::Wait(s(1)));
        assert_eq!(heart.next(s(130)), Action::Dead);
        assert_eq!(heart.next(s(131)), Action::Dead);
    }

    #[test]
    fn any_sign_of_life_answers() {
        let mut heart = Heartbeat::new(s(0), s(0));
        assert_eq!(heart.next(s(25)), Action::Ping);
        heart.heard();
        assert_eq!(heart.next(s(34)), Action::Wait(s(16)));
        assert_eq!(heart.next(s(50)), Action::Ping, "again every 25 s");
    }

    #[test]
    fn what_came_before_the_ping_does_not_answer_it() {
        let mut heart = Heartbeat::new(s(0), s(0));
        heart.heard();
        assert_eq!(heart.next(s(25)), Action::Ping);
        assert_eq!(heart.next(s(35)), Action::Dead);
    }

    #[test]
    fn who_slept_asks_again() {
        let mut heart = Heartbeat::new(s(0), s(0));
        assert_eq!(heart.next(s(25)), Action::Ping);
        assert_eq!(heart.next(s(3600)), Action::Ping);
        assert_eq!(heart.next(s(3610)), Action::Dead);
    }

    #[test]
    fn jitter_larger_than_the_interval_pings_at_once() {
        assert_eq!(Heartbeat::new(s(7), s(90)).next(s(7)), Action::Ping);
    }

    proptest! {
        /// An edge that does as it is told, with a peer that answers within `delay` ms until it dies.
        #[test]
        fn the_living_are_kept_and_the_dead_found_within_35_s(
            delay in 0..9_999u64,
            jitter in 0..25_000u64,
            died in 0..500_000u64,
        ) {
            let ms = Duration::from_millis;
            let mut heart = Heartbeat::new(ms(0), ms(jitter));
            let (mut now, mut pong, mut pings) = (0, None, 0);
            let found = loop {
                match heart.next(ms(now)) {
                    Action::Ping => {
                        pings += 1;
                        pong = Some(now + delay).filter(|at| *at < died);
                    }
                    Action::Wait(wait) => {
                        let until = now + wait.as_millis() as u64;
                        match pong.take() {
                            Some(at) if at <= until => {
                                now = at;
                                heart.heard();
                            }
                            later => {
                                pong = later;
                                now = until;
                            }
                        }
                    }
                    Action::Dead => break now,
                }
            };
            prop_assert!(found >= died);
            prop_assert!(found <= died + 35_000, "died at {died}, found at {found}");
            prop_assert!(pings <= found / 25_000 + 2);
        }
    }
}
