//! The promise of [`Store`] as tests, which every implementation passes.
//!
//! What only a store with files promises (that it can be opened again) is tested beside that store.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;

use super::{MAX_KEY, MAX_VALUE, Order, Store, StoreError, Table, Write};

/// Runs the suite over the stores that `$make` gives: `|| store` or, where something must outlive it, `|| (store, it)`.
macro_rules! store_suite {
    ($make:expr) => {
        $crate::store::suite::store_suite!(@each $make;
            what_is_put_can_be_got_until_deleted,
            the_last_write_of_a_key_wins,
            a_scan_keeps_the_order_of_keys,
            a_scan_ends_when_told,
            an_empty_range_is_no_error,
            a_visitor_may_read_the_store,
            big_values_come_back_whole,
            a_shorter_value_leaves_nothing_of_the_longer,
            what_is_too_large_changes_nothing,
            usage_follows_what_is_there,
            readers_on_other_threads_see_whole_values,
            it_does_what_a_map_does
        );
    };
    (@each $make:expr; $($name:ident),+) => {
        mod suite {
            use super::*;
            $(#[test]
            fn $name() {
                use $crate::store::suite::Provided;
                let provided = ($make)();
                $crate::store::suite::$name(provided.store());
            })+
        }
    };
}
pub(super) use store_suite;

/// A store alone, or with what must live as long as it does.
pub(super) trait Provided {
    fn store(&self) -> &dyn Store;
}

impl<S: Store> Provided for S {
    fn store(&self) -> &dyn Store {
        self
    }
}

impl<S: Store, T> Provided for (S, T) {
    fn store(&self) -> &dyn Store {
        &self.0
    }
}

pub(super) fn put(table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Write {
    Write::Put { table, key: key.into().into(), value: value.into().into() }
}

pub(super) fn delete(table: Table, key: impl Into<Vec<u8>>) -> Write {
    Write::Delete { table, key: key.into().into() }
}

/// Bytes that differ from place to place, so that a piece in the wrong place shows.
pub(super) fn patterned(len: usize, seed: u32) -> Vec<u8> {
    (0..len).map(|i| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed).to_be_bytes()[0]).collect()
}

fn all(store: &dyn Store, table: Table, from: &[u8], to: &[u8], order: Order) -> Vec<(Vec<u8>, Bytes)> {
    let mut found = Vec::new();
    store
        .scan(table, from, to, order, &mut |key, value| {
            found.push((key.to_vec(), value));
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn keys(found: &[(Vec<u8>, Bytes)]) -> Vec<&[u8]> {
    found.iter().map(|(key, _)| key.as_slice()).collect()
}

pub(super) fn what_is_put_can_be_got_until_deleted(store: &dyn Store) {
    store
        .commit(&[put(Table::Inbox, "a", "1"), put(Table::Records, "a", "2"), put(Table::Push, "", "empty key")])
        .unwrap();
    assert_eq!(store.get(Table::Inbox, b"a").unwrap(), Some("1".into()));
    assert_eq!(store.get(Table::Records, b"a").unwrap(), Some("2".into()), "tables are apart");
    assert_eq!(store.get(Table::Push, b"").unwrap(), Some("empty key".into()));
    assert_eq!(store.get(Table::Push, b"a").unwrap(), None);
    assert_eq!(store.get(Table::Push, &[0; MAX_KEY + 1]).unwrap(), None);
    store
        .commit(&[delete(Table::Inbox, "a"), delete(Table::Inbox, "never there"), put(Table::Inbox, "e", "")])
        .unwrap();
    assert_eq!(store.get(Table::Inbox, b"a").unwrap(), None);
    assert_eq!(store.get(Table::Records, b"a").unwrap(), Some("2".into()));
    assert_eq!(store.get(Table::Inbox, b"e").unwrap(), Some(Bytes::new()), "an empty value is a value");
    store.commit(&[]).unwrap();
}

pub(super) fn the_last_write_of_a_key_wins(store: &dyn Store) {
    let t = Table::Records;
    let writes = [put(t, "k", "1"), delete(t, "k"), put(t, "k", "2"), put(t, "gone", "1"), delete(t, "gone")];
    store.commit(&writes).unwrap();
    assert_eq!(store.get(t, b"k").unwrap(), Some("2".into()));
    assert_eq!(store.get(t, b"gone").unwrap(), None);
}

pub(super) fn a_scan_keeps_the_order_of_keys(store: &dyn Store) {
    let t = Table::Inbox;
    // Keys that are prefixes of one another, with big values, are where a split value could get between.
    let big = patterned(20_000, 1);
    let names: [&[u8]; 7] = [b"a", b"a\0", b"a\0\0\0\0\0\0\x01", b"a\0\0\x01", b"ab", b"b", b"\xff\xff"];
    for name in names {
        store.commit(&[put(t, name, big.clone())]).unwrap();
    }
    let up = all(store, t, b"", b"\xff\xff\xff", Order::Ascending);
    assert_eq!(keys(&up), names);
    assert!(up.iter().all(|(_, value)| *value == big));
    let mut down = all(store, t, b"", b"\xff\xff\xff", Order::Descending);
    down.reverse();
    assert_eq!(up, down);
    assert_eq!(keys(&all(store, t, b"a\0", b"ab", Order::Ascending)), names[1..4], "from is in, to is out");
    assert_eq!(keys(&all(store, t, b"aa", b"c", Order::Descending)), [b"b".as_slice(), b"ab"]);
    assert!(all(store, Table::Push, b"", b"\xff", Order::Ascending).is_empty());
}

pub(super) fn a_scan_ends_when_told(store: &dyn Store) {
    for n in 0..100u8 {
        store.commit(&[put(Table::Inbox, [n], [n])]).unwrap();
    }
    for (order, expected) in [(Order::Ascending, [10, 11, 12]), (Order::Descending, [89, 88, 87])] {
        let mut seen = Vec::new();
        store
            .scan(Table::Inbox, &[10], &[90], order, &mut |key, _| {
                seen.push(key[0]);
                if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        assert_eq!(seen, expected);
    }
}

pub(super) fn an_empty_range_is_no_error(store: &dyn Store) {
    store.commit(&[put(Table::Inbox, "m", "1")]).unwrap();
    for order in [Order::Ascending, Order::Descending] {
        for (from, to) in [("m", "m"), ("z", "a"), ("n", "o"), ("", "")] {
            assert!(all(store, Table::Inbox, from.as_bytes(), to.as_bytes(), order).is_empty(), "{from}..{to}");
        }
    }
}

pub(super) fn a_visitor_may_read_the_store(store: &dyn Store) {
    store.commit(&[put(Table::Inbox, "a", "1"), put(Table::Inbox, "b", "2")]).unwrap();
    let mut seen = Vec::new();
    store
        .scan(Table::Inbox, b"a", b"c", Order::Ascending, &mut |key, value| {
            assert_eq!(store.get(Table::Inbox, key).unwrap(), Some(value.clone()));
            seen.push(value);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, ["1", "2"]);
}

pub(super) fn big_values_come_back_whole(store: &dyn Store) {
    // Around the borders of pieces, and a message of the largest usual size.
    for (n, len) in [4083, 4084, 4085, 4096, 4097, 8180, 8181, 100_000, 1 << 20].into_iter().enumerate() {
        let value = patterned(len, n as u32);
        store.commit(&[put(Table::Inbox, [n as u8], value.clone())]).unwrap();
        assert!(store.get(Table::Inbox, &[n as u8]).unwrap().unwrap() == value, "{len} bytes came back changed");
    }
    assert_eq!(all(store, Table::Inbox, b"", b"\xff", Order::Ascending).len(), 9, "pieces are not seen as pairs");
}

pub(super) fn a_shorter_value_leaves_nothing_of_the_longer(store: &dyn Store) {
    let before = store.usage().live;
    for len in [300_000, 9_000, 40_000, 4_000, 0, 5_000] {
        let value = patterned(len, len as u32);
        store.commit(&[put(Table::Records, "k", value.clone())]).unwrap();
        assert!(store.get(Table::Records, b"k").unwrap().unwrap() == value, "{len}");
        let live = store.usage().live - before;
        assert!(live >= len as u64 && live <= (len + len / 100 + 200) as u64, "{len} bytes take {live}");
    }
    store.commit(&[delete(Table::Records, "k")]).unwrap();
    assert_eq!(store.usage().live, before);
}

pub(super) fn what_is_too_large_changes_nothing(store: &dyn Store) {
    let good = put(Table::Inbox, "good", "1");
    let long_key = put(Table::Inbox, vec![b'k'; MAX_KEY + 1], "");
    let long_delete = delete(Table::Inbox, vec![b'k'; MAX_KEY + 1]);
    let long_value = put(Table::Inbox, "k", vec![0; MAX_VALUE + 1]);
    for bad in [long_key, long_delete, long_value] {
        assert!(matches!(store.commit(&[good.clone(), bad]), Err(StoreError::TooLarge { .. })));
    }
    assert_eq!(store.get(Table::Inbox, b"good").unwrap(), None, "nothing of a refused commit is there");
    store.commit(&[put(Table::Inbox, vec![b'k'; MAX_KEY], "longest"), good]).unwrap();
    assert_eq!(store.get(Table::Inbox, &[b'k'; MAX_KEY]).unwrap(), Some("longest".into()));
}

pub(super) fn usage_follows_what_is_there(store: &dyn Store) {
    let empty = store.usage().live;
    let writes: Vec<_> = (0..100u8).map(|n| put(Table::Inbox, [n], vec![n; 1000])).collect();
    store.commit(&writes).unwrap();
    let full = store.usage().live - empty;
    assert!((100_000..105_000).contains(&full), "{full}");
    store.commit(&writes).unwrap();
    assert_eq!(store.usage().live - empty, full, "the same once more takes no more");
    let gone: Vec<_> = (0..100u8).map(|n| delete(Table::Inbox, [n])).collect();
    store.commit(&gone).unwrap();
    assert_eq!(store.usage().live, empty);
}

pub(super) fn readers_on_other_threads_see_whole_values(store: &dyn Store) {
    let value = |round: u32| patterned(3_000 + 4_000 * (round as usize % 5), round);
    let whole: Vec<Vec<u8>> = (0..60).map(value).collect();
    store.commit(&[put(Table::Records, "k", whole[0].clone())]).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) || reads == 0 {
                        let seen = store.get(Table::Records, b"k").unwrap().expect("it is never absent");
                        assert!(whole.iter().any(|value| *value == seen), "a torn value of {} bytes", seen.len());
                        assert_eq!(all(store, Table::Records, b"", b"z", Order::Ascending).len(), 1);
                        reads += 1;
                    }
                })
            })
            .collect();
        for value in &whole {
            store.commit(&[put(Table::Records, "k", value.clone())]).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("no reader failed");
        }
    });
}

/// A write in the small: few keys, many of them prefixes of others, and values of all classes of length.
fn any_write() -> impl Strategy<Value = Write> {
    let table = prop::sample::select(Table::ALL.to_vec());
    let key = prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 0xff]), 0..4);
    let value = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (0usize..30_000, any::<u32>()).prop_map(|(len, seed)| patterned(len, seed)),
    ];
    prop_oneof![
        3 => (table.clone(), key.clone(), value).prop_map(|(table, key, value)| put(table, key, value)),
        2 => (table, key).prop_map(|(table, key)| delete(table, key)),
    ]
}

pub(super) fn it_does_what_a_map_does(store: &dyn Store) {
    let mut config = ProptestConfig::with_cases(48);
    config.failure_persistence = None;
    let commits = prop::collection::vec(prop::collection::vec(any_write(), 0..12), 1..8);
    let range = prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 0xff]), 0..4);
    proptest!(config, |(commits in commits, from in range.clone(), to in range)| {
        let mut model: BTreeMap<(Table, Vec<u8>), Vec<u8>> = BTreeMap::new();
        for table in Table::ALL {
            let old = all(store, table, b"", &[0xff; 9], Order::Ascending);
            store.commit(&old.into_iter().map(|(key, _)| delete(table, key)).collect::<Vec<_>>()).unwrap();
        }
        for writes in &commits {
            for write in writes {
                match write {
                    Write::Put { table, key, value } => model.insert((*table, key.to_vec()), value.to_vec()),
                    Write::Delete { table, key } => model.remove(&(*table, key.to_vec())),
                };
            }
            store.commit(writes).unwrap();
        }
        for table in Table::ALL {
            let expected = |low: &[u8], high: &[u8]| -> Vec<(Vec<u8>, Bytes)> {
                let inside = |key: &[u8]| low <= key && key < high;
                model.iter().filter(|((t, key), _)| *t == table && inside(key))
                    .map(|((_, key), value)| (key.clone(), value.clone().into())).collect()
            };
            prop_assert_eq!(all(store, table, b"", &[0xff; 9], Order::Ascending), expected(b"", &[0xff; 9]));
            let mut down = all(store, table, &from, &to, Order::Descending);
            down.reverse();
            prop_assert_eq!(down, expected(&from, &to));
            for ((t, key), value) in &model {
                let found = store.get(*t, key).unwrap();
                prop_assert_eq!(found.as_deref(), Some(value.as_slice()));
            }
        }
    });
}
