//! For tests of what reads bytes: good ones with something wrong in them, and any bytes at all.
//!
//! Tests that take these have `any_bytes` in their names: `scripts/fuzz --runs N` runs each N times.

#[cfg(test)]
pub(crate) use making::mangled;

#[cfg(test)]
mod making {
    use proptest::prelude::*;
    use proptest::sample::Index;

    /// Up to eight things done to one of `good`: bytes changed, put in, left out, taken from elsewhere in it, the end cut off. One in
    /// eight is just bytes.
    pub(crate) fn mangled<T: AsRef<[u8]>>(good: &[T]) -> impl Strategy<Value = Vec<u8>> + use<T> {
        let good: Vec<Vec<u8>> = good.iter().map(|one| one.as_ref().to_vec()).collect();
        let change = (any::<Index>(), any::<Index>(), any::<u8>(), 0..6u8);
        let changed = (prop::sample::select(good), prop::collection::vec(change, 0..8));
        let changed = changed.prop_map(|(mut bytes, changes)| {
            for (at, from, byte, what) in changes {
                let at = at.index(bytes.len() + 1);
                match what {
                    0 if at < bytes.len() => bytes[at] ^= 1 << (byte & 7),
                    1 if at < bytes.len() => bytes[at] = byte,
                    2 => bytes.insert(at, byte),
                    3 if at < bytes.len() => drop(bytes.remove(at)),
                    4 => {
                        let from = from.index(bytes.len() + 1);
                        let part: Vec<u8> = bytes[from..].iter().take(usize::from(byte)).copied().collect();
                        bytes.splice(at..at, part);
                    }
                    _ => bytes.truncate(at),
                }
            }
            bytes
        });
        prop_oneof![7 => changed, 1 => prop::collection::vec(any::<u8>(), 0..200)]
    }
}
