//! What a thread has from outside: the time, chance, and a place for work that blocks.
//!
//! Whatever a server does follows from these, from what comes over its connections and from what its store says. So they are
//! asked for here alone, and a thread can be given others: a simulation of many servers on one thread gives its own time and
//! chance, does what blocks at once, and plays the same again. Invariant: [`steady`] never goes back, whatever becomes of
//! [`now`].

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::ids::Millis;

/// What a thread can be given.
pub trait Outside {
    /// The time since 1970.
    fn now(&self) -> Millis;
    /// A clock that nobody sets.
    fn steady(&self) -> Millis;
    /// Any number.
    fn chance(&self) -> u64;
}

thread_local! {
    static GIVEN: RefCell<Option<Rc<dyn Outside>>> = const { RefCell::new(None) };
}

/// From now on this thread has `outside`, or the world again.
pub fn give(outside: Option<Rc<dyn Outside>>) {
    GIVEN.set(outside);
}

fn given() -> Option<Rc<dyn Outside>> {
    GIVEN.with_borrow(Clone::clone)
}

/// This server's clock.
pub fn now() -> Millis {
    if let Some(outside) = given() {
        return outside.now();
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(since.as_millis() as u64)
}

/// A clock that no correction of the other one moves: heartbeats, stalls and what is remembered go by it.
pub fn steady() -> Millis {
    static START: LazyLock<(Millis, Instant)> = LazyLock::new(|| (now(), Instant::now()));
    if let Some(outside) = given() {
        return outside.steady();
    }
    START.0.plus(START.1.elapsed().as_millis() as u64)
}

/// A number that nobody can guess.
pub fn chance() -> u128 {
    match given() {
        Some(outside) => u128::from(outside.chance()) << 64 | u128::from(outside.chance()),
        None => rand::random(),
    }
}

/// A number below `end`, or 0.
pub fn chance_below(end: u64) -> u64 {
    if end == 0 { 0 } else { (chance() % u128::from(end)) as u64 }
}

/// Does what blocks where it keeps nobody up; `None` where it could not be done to its end.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if given().is_some() {
        return Some(work());
    }
    tokio::task::spawn_blocking(work).await.ok()
}

/// As [`aside`], of which nobody waits for the end.
pub fn aside_alone(work: impl FnOnce() + Send + 'static) {
    if given().is_some() {
        return work();
    }
    drop(tokio::task::spawn_blocking(work));
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Outside for Fixed {
        fn now(&self) -> Millis {
            Millis(5)
        }
        fn steady(&self) -> Millis {
            Millis(6)
        }
        fn chance(&self) -> u64 {
            7
        }
    }

    #[test]
    fn a_thread_has_what_it_is_given_and_the_others_have_the_world() {
        give(Some(Rc::new(Fixed)));
        assert_eq!((now(), steady(), chance() as u64, chance_below(4)), (Millis(5), Millis(6), 7, 3));
        let elsewhere = std::thread::spawn(|| (now(), steady())).join().unwrap();
        assert!(elsewhere.0.0 > 1_000_000 && elsewhere.1.0 > 1_000_000);
        give(None);
        assert!(now().0 > 1_000_000 && chance() != chance());
    }
}
