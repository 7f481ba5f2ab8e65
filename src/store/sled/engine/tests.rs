//! Of one engine: what a crash or a damage within it leaves.

use super::*;
use crate::store::suite::{delete, patterned, put};

fn engine() -> (Engine, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Engine::open(dir.path(), 1 << 20).unwrap(), dir)
}

#[test]
fn a_flipped_bit_is_never_served_and_is_told_of_once() {
    let (engine, _dir) = engine();
    let long = patterned(10_000, 1);
    for (key, value) in [(b"a", b"short".as_slice()), (b"b", &long), (b"c", &long), (b"d", &long)] {
        engine.commit(&[put(Table::Inbox, key, value)], 1).unwrap();
    }
    let (heads, chunks) = (&engine.heads[0], &engine.chunks[0]);
    let flip = |tree: &Tree, key: &[u8]| {
        let mut raw = tree.get(key).unwrap().unwrap().to_vec();
        *raw.last_mut().unwrap() ^= 1;
        tree.insert(key, raw).unwrap();
    };
    flip(heads, b"a");
    flip(chunks, &value::chunk_key(b"b", 0, 1));
    chunks.remove(value::chunk_key(b"c", 0, 0)).unwrap();
    let before = metrics::INBOX_DROPPED.with_label_values(&["damaged"]).get();
    for _ in 0..3 {
        for key in [b"a", b"b", b"c"] {
            assert_eq!(engine.get(Table::Inbox, key).unwrap(), None);
        }
        let mut seen = Vec::new();
        let mut visit = |key: &[u8], value: Bytes| {
            assert_eq!(value, long);
            seen.extend_from_slice(key);
            ControlFlow::Continue(())
        };
        engine.scan(Table::Inbox, b"", None, Order::Ascending, &mut visit).unwrap();
        assert_eq!(seen, b"d");
    }
    assert_eq!(metrics::INBOX_DROPPED.with_label_values(&["damaged"]).get() - before, 3);
    engine.commit(&[put(Table::Inbox, "a", "anew")], 2).unwrap();
    assert_eq!(engine.get(Table::Inbox, b"a").unwrap(), Some("anew".into()));
}

#[test]
fn a_crash_within_a_put_leaves_the_old_value_and_no_rubbish() {
    let (engine, dir) = engine();
    let (old, new) = (patterned(10_000, 1), patterned(20_000, 2));
    engine.commit(&[put(Table::Records, "k", old.clone())], 1).unwrap();
    let live = engine.live();
    // As far as a put gets before its head: the chunks of the next generation, and those of a key never seen.
    for (number, chunk) in value::chunks(&new).enumerate() {
        engine.chunks[1].insert(value::chunk_key(b"k", 1, number as u16), chunk).unwrap();
        engine.chunks[1].insert(value::chunk_key(b"new", 0, number as u16), chunk).unwrap();
    }
    assert_eq!(engine.get(Table::Records, b"k").unwrap().unwrap(), old);
    engine.db.flush().unwrap();
    drop(engine);
    let engine = Engine::open(dir.path(), 1 << 20).unwrap();
    assert_eq!(engine.get(Table::Records, b"k").unwrap().unwrap(), old);
    assert_eq!(engine.chunks[1].len(), 2);
    assert_eq!((engine.live(), engine.found()), (live, Found::Whole));
}

#[test]
fn a_crash_between_any_two_steps_of_a_commit_leaves_it_whole() {
    let (mut engine, dir) = engine();
    let t = Table::Inbox;
    let long = patterned(9_000, 1);
    let before = [put(t, "a", "1"), put(t, "b", long.clone()), put(t, "c", "1")];
    engine.commit(&before, 1).unwrap();
    let next = [put(t, "a", "2"), delete(t, "b"), put(t, "b", long.clone()), delete(t, "b"), put(t, "d", long)];
    for done in 0..=next.len() {
        // As far as a commit gets.
        let steps = engine.plan(&next).unwrap();
        let sums = std::iter::once(engine.sum()).chain(steps.iter().map(|step| step.sum)).collect();
        engine.about.insert(PLAN, Plan { number: 2, sums }.encode()).unwrap();
        steps.iter().take(done).for_each(|step| engine.take(step).unwrap());
        engine.db.flush().unwrap();
        drop((steps, engine));
        engine = Engine::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(engine.found(), Found::Whole, "after {done} steps");
        assert_eq!(engine.commits().unwrap(), 1);
    }
}

#[test]
fn what_is_missing_or_back_is_noticed() {
    let (mut engine, dir) = engine();
    let long = patterned(9_000, 1);
    let writes = [put(Table::Inbox, "a", "1"), put(Table::Inbox, "b", "2"), put(Table::Push, "c", long)];
    engine.commit(&writes, 1).unwrap();
    engine.commit(&[delete(Table::Inbox, "b")], 2).unwrap();
    let changes: [fn(&Engine); 3] = [
        |engine| drop(engine.heads[0].remove("a").unwrap()),
        |engine| drop(engine.heads[0].insert("b", Head::of(b"b", b"2", 0).encode(b"2")).unwrap()),
        |engine| drop(engine.chunks[2].remove(value::chunk_key(b"c", 0, 0)).unwrap()),
    ];
    for change in changes {
        change(&engine);
        engine.db.flush().unwrap();
        drop(engine);
        engine = Engine::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(engine.found(), Found::Holes);
        engine.set_about(Epoch(2), 2).unwrap();
    }
    assert_eq!(engine.get(Table::Push, b"c").unwrap(), None);
    drop(engine);
    engine = Engine::open(dir.path(), 1 << 20).unwrap();
    assert_eq!(engine.found(), Found::Whole, "it is told of once");
    assert_eq!(engine.chunks[2].len(), 0);
}

#[test]
fn a_panic_of_the_database_is_damage() {
    let result: Result<(), _> = guarded(|| panic!("as {} does", "sled"));
    assert!(matches!(result, Err(StoreError::Damaged(text)) if text.ends_with("as sled does")));
}
