//! How many come in: the handshakes that a server takes in a second, and when those who ask where to connect are told to set
//! out, so that it need refuse none of them.
//!
//! Owns the arithmetic of both sides. A [`Gate`] is what one server takes: over any stretch of time no more than its rate x
//! time + [`BURST`] of its rate. [`Slots`] are what one server gives away of others: each of those who give offers gives its
//! share, so that all of them together, without a word to each other, give no more than rate x time + [`TOLD`] of the rate.
//! Hence who comes when told, and no later than the difference (a second), is never refused, whatever else comes: those who
//! come untold, or early, have [`UNTOLD`] of the rate in a burst at most. Leaves to others who may come in at all.

use std::time::Duration;

use super::ids::NodeId;
use super::keyed::HashMap;

/// Of the rate, what a server takes at once.
pub const BURST: Duration = Duration::from_secs(2);
/// Of it, what those have at most who were not told to come now.
pub const UNTOLD: Duration = Duration::from_secs(1);
/// Of the rate, what all who give offers may have come at once.
pub const TOLD: Duration = Duration::from_secs(1);
/// Nobody is told to wait longer: who would have to asks again.
pub const LONGEST: Duration = Duration::from_secs(120);
/// Least rate of a server, in handshakes a second: the shares of twenty servers still fit into its burst.
pub const LEAST: u64 = 10;

/// How somebody comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// At the time that an offer said.
    Told,
    /// Earlier, or without an offer.
    Untold,
}

/// When the next would be due if all so far had come at the bare rate.
#[derive(Debug, Clone, Copy, Default)]
struct Meter {
    due: Duration,
}

impl Meter {
    /// How long until one more keeps to the rate, with `burst` of it at once.
    fn wait(self, step: Duration, burst: Duration, now: Duration) -> Duration {
        self.due.saturating_sub(now.saturating_add(burst.saturating_sub(step)))
    }

    fn take(&mut self, step: Duration, now: Duration) {
        self.due = self.due.max(now).saturating_add(step);
    }
}

/// What a server takes. All times are since any fixed moment, on a clock that does not go back.
#[derive(Debug)]
pub struct Gate {
    step: Duration,
    taken: Meter,
    /// Those who were turned away, as if they stood in a queue: each is told to come back behind the one before.
    turned: Meter,
}

impl Gate {
    /// `per_second` handshakes.
    pub fn new(per_second: u64) -> Self {
        Self { step: step_of(per_second, 1), taken: Meter::default(), turned: Meter::default() }
    }

    /// Lets somebody in, or says when to come back, at most in [`LONGEST`].
    pub fn admit(&mut self, arrival: Arrival, now: Duration) -> Result<(), Duration> {
        let burst = match arrival {
            Arrival::Told => BURST,
            Arrival::Untold => UNTOLD,
        };
        let wait = self.taken.wait(self.step, burst, now);
        if wait.is_zero() {
            self.taken.take(self.step, now);
            return Ok(());
        }
        let back = wait.max(self.turned.due.saturating_sub(now));
        if back < LONGEST {
            self.turned.take(self.step, now);
        }
        Err(back.min(LONGEST))
    }
}

/// When those are to set out whom this server tells where to connect, by the server that they are told.
#[derive(Debug, Default)]
pub struct Slots {
    given: HashMap<NodeId, Meter>,
}

impl Slots {
    /// How long somebody who is offered `server` now is to wait; it takes `per_second`, and `offering` servers, this one among
    /// them, send devices there.
    pub fn wait(&self, server: &NodeId, per_second: u64, offering: u64, now: Duration) -> Duration {
        let given = self.given.get(server).copied().unwrap_or_default();
        given.wait(step_of(per_second, offering), TOLD, now)
    }

    /// As [`Self::wait`], and the place is theirs.
    pub fn book(&mut self, server: &NodeId, per_second: u64, offering: u64, now: Duration) -> Duration {
        let wait = self.wait(server, per_second, offering, now);
        self.given.entry(server.clone()).or_default().take(step_of(per_second, offering), now);
        wait
    }

    /// Forgets what matters no more at `now`.
    pub fn expire(&mut self, now: Duration) {
        self.given.retain(|_, given| given.due > now);
    }
}

/// From one to the next of those that one of `offering` servers lets come.
fn step_of(per_second: u64, offering: u64) -> Duration {
    let nanos = u128::from(offering.max(1)) * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn nobody_waits_but_in_a_rush() {
        let mut slots = Slots::default();
        for at in 0..3000 {
            assert_eq!(slots.book(&id("a"), 1000, 1, ms(at)), Duration::ZERO);
        }
        let waits: Vec<_> = (0..3000).map(|_| slots.book(&id("a"), 1000, 1, ms(10_000))).collect();
        assert!(waits[..1000].iter().all(Duration::is_zero), "a second's worth comes at once");
        assert!(waits.is_sorted() && waits[1000] == ms(1) && waits[2999] == ms(2000), "each is after the one before");
        assert_eq!(slots.wait(&id("b"), 1000, 1, ms(10_000)), Duration::ZERO, "elsewhere there is room");
        assert_eq!(slots.wait(&id("a"), 1000, 1, ms(13_000)), Duration::ZERO, "and then it is over");
        slots.expire(ms(13_000));
        assert!(slots.given.is_empty());
    }

    #[test]
    fn who_comes_untold_leaves_room_for_who_was_told() {
        let mut gate = Gate::new(100);
        let mut taken = |arrival| (0..1000).filter(|_| gate.admit(arrival, ms(0)).is_ok()).count();
        assert_eq!((taken(Arrival::Untold), taken(Arrival::Told), taken(Arrival::Untold)), (100, 100, 0));
    }

    #[test]
    fn who_is_turned_away_comes_back_behind_the_one_before() {
        let mut gate = Gate::new(10);
        let mut turned: Vec<_> = (0..3000).filter_map(|_| gate.admit(Arrival::Untold, ms(0)).err()).collect();
        assert!(turned.is_sorted() && turned[0] > Duration::ZERO);
        assert_eq!((turned[100].as_secs(), turned.pop()), (10, Some(LONGEST)));
        assert_eq!(gate.admit(Arrival::Untold, ms(1_000)), Ok(()), "who comes at the right time has the place");
    }

    proptest! {
        /// The law of both: whatever servers offer at whatever times, and whatever comes untold, who sets out when told, and
        /// is less than a second on the way, is let in.
        #[test]
        fn who_comes_when_told_is_never_refused(
            rate in LEAST..300,
            offering in 1..9u64,
            asked in prop::collection::vec((0..9u64, 0..6_000u64, 0..800u64), 1..600),
            untold in prop::collection::vec(0..20_000u64, 0..300),
        ) {
            let mut books: Vec<Slots> = (0..offering).map(|_| Slots::default()).collect();
            let mut asked = asked;
            asked.sort_by_key(|(_, at, _)| *at);
            let late = Duration::from_secs_f64((1.0 - offering as f64 / rate as f64).max(0.0)).min(ms(800));
            let mut come: Vec<(Duration, Arrival)> = untold.into_iter().map(|at| (ms(at), Arrival::Untold)).collect();
            for (who, at, way) in asked {
                let wait = books[(who % offering) as usize].book(&id("s"), rate, offering, ms(at));
                come.push((ms(at) + wait + ms(way).min(late), Arrival::Told));
            }
            come.sort_by_key(|(at, arrival)| (*at, *arrival == Arrival::Told));
            let mut gate = Gate::new(rate);
            for (at, arrival) in come {
                let told = gate.admit(arrival, at);
                prop_assert!(arrival == Arrival::Untold || told.is_ok(), "refused at {at:?}: {told:?}");
            }
        }

        #[test]
        fn no_stretch_of_time_admits_more_than_its_share(
            rate in LEAST..300,
            come in prop::collection::vec((0..6_000u64, any::<bool>()), 1..800),
        ) {
            let mut come = come;
            come.sort_by_key(|(at, _)| *at);
            let mut gate = Gate::new(rate);
            let mut admitted = Vec::new();
            for (at, told) in come {
                let arrival = if told { Arrival::Told } else { Arrival::Untold };
                if gate.admit(arrival, ms(at)).is_ok() {
                    admitted.push(at);
                }
            }
            for (first, begin) in admitted.iter().enumerate() {
                for (count, end) in admitted[first..].iter().enumerate() {
                    let most = rate as f64 * ((end - begin) as f64 / 1000.0 + BURST.as_secs_f64()) + 1e-3;
                    prop_assert!((count + 1) as f64 <= most);
                }
            }
        }

        #[test]
        fn extremes_do_not_overflow(per_second: u64, offering: u64, now in 0..u64::MAX) {
            let mut slots = Slots::default();
            let mut gate = Gate::new(per_second);
            for _ in 0..3 {
                slots.book(&id("a"), per_second, offering, Duration::from_nanos(now));
                let _ = gate.admit(Arrival::Told, Duration::from_nanos(now));
            }
        }
    }
}
