//! Hash maps whose order is the same in every run with the same key.
//!
//! What a map is iterated in may reach what a server does: which of two devices is asked first, say. The standard library
//! draws a key for each map, so that nobody outside can choose ids that all fall into one bucket; but then no run can be
//! repeated. Here one key is given at the start of the process: a random one by the program, for ids are chosen by clients,
//! and a fixed one by whoever wants to see the same again. Invariant: the key is given before anything is hashed, and never
//! changes.

use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::sync::OnceLock;

pub type HashMap<K, V> = std::collections::HashMap<K, V, Keyed>;
pub type HashSet<T> = std::collections::HashSet<T, Keyed>;

/// A hasher that has taken in the key already.
static BEGUN: OnceLock<DefaultHasher> = OnceLock::new();

/// Gives the key, once; a later one changes nothing. Without it all processes hash alike.
pub fn set_key(key: u128) {
    BEGUN.get_or_init(|| begin(key));
}

fn begin(key: u128) -> DefaultHasher {
    let mut hasher = DefaultHasher::new();
    hasher.write_u128(key);
    hasher
}

/// See the module's header.
#[derive(Debug, Default, Clone, Copy)]
pub struct Keyed;

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        BEGUN.get_or_init(|| begin(0)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: u128, of: &str) -> u64 {
        let mut hasher = begin(key);
        hasher.write(of.as_bytes());
        hasher.finish()
    }

    #[test]
    fn what_falls_where_is_the_keys_alone() {
        assert_eq!(hash(7, "alice"), hash(7, "alice"));
        assert_ne!(hash(7, "alice"), hash(8, "alice"));
        assert_ne!(hash(7, "alice"), hash(7, "bob"));
    }

    #[test]
    fn the_key_is_given_once() {
        let before = Keyed.hash_one("alice");
        set_key(99);
        assert_eq!(Keyed.hash_one("alice"), before);
        assert_eq!(size_of::<Keyed>(), 0, "no map grows by it");
    }
}
