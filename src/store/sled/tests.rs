//! Of the store as a whole: the suite, opening again, and what becomes of failures.

use std::io::ErrorKind;

use super::*;
use crate::store::suite::{delete, patterned, put};

fn open(dir: &Path) -> SledStore {
    let tuning = Tuning { cache: 4 << 20, reserve: 1 << 20, retry_after: Duration::ZERO, ..Tuning::default() };
    SledStore::open_with(dir, Epoch(7), tuning).unwrap().store
}

crate::store::suite::store_suite!(|| {
    let dir = tempfile::tempdir().unwrap();
    (open(dir.path()), dir)
});

const T: Table = Table::Records;

/// Brings the store to where a commit failed in this way.
fn fail(store: &SledStore, kind: ErrorKind) {
    store.fall_back(&mut store.writer(), &StoreError::Unwritable(kind.into()));
}

#[test]
fn it_is_the_same_when_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let big = patterned(100_000, 1);
    store.commit(&[put(T, "big", big.clone()), put(T, "gone", big.clone()), put(Table::Inbox, "", "")]).unwrap();
    store.commit(&[delete(T, "gone")]).unwrap();
    let live = store.usage().live;
    drop(store);
    let opened = SledStore::open(dir.path(), Epoch(8)).unwrap();
    assert_eq!((opened.store.epoch(), opened.moved_aside), (Epoch(7), None));
    assert_eq!(opened.store.get(T, b"big").unwrap().unwrap(), big);
    assert_eq!(opened.store.get(T, b"gone").unwrap(), None);
    assert_eq!(opened.store.get(Table::Inbox, b"").unwrap(), Some(Bytes::new()));
    assert_eq!(opened.store.usage().live, live);
}

#[test]
fn after_a_failed_fsync_only_new_files_are_relied_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit(&[put(T, "k", "1")]).unwrap();
    fail(&store, ErrorKind::StorageFull);
    store.commit(&[put(T, "k", "2")]).unwrap();
    assert_eq!(store.writer().generation, Generation(1), "nothing was wrong with these files");
    fail(&store, ErrorKind::Other);
    assert_eq!(store.get(T, b"k").unwrap(), Some("2".into()));
    store.commit(&[put(T, "k", "3")]).unwrap();
    assert_eq!(store.writer().generation, Generation(2));
    drop(store);
    assert_eq!(open(dir.path()).get(T, b"k").unwrap(), Some("3".into()));
}

#[test]
fn commits_wait_out_the_time_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.tuning.retry_after = Duration::from_secs(600);
    fail(&store, ErrorKind::StorageFull);
    let refused = store.commit(&[put(T, "k", "1")]).unwrap_err();
    assert!(matches!(&refused, StoreError::Unwritable(error) if error.kind() == ErrorKind::StorageFull), "{refused}");
    assert!(!store.maintain().unwrap());
}

#[test]
fn a_reader_within_a_scan_does_not_stop_the_writer_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit(&[put(T, "k", "1")]).unwrap();
    let (in_scan, wait) = std::sync::mpsc::sync_channel(0);
    std::thread::scope(|scope| {
        let store = &store;
        scope.spawn(move || {
            store
                .scan(T, b"", b"z", Order::Ascending, &mut |key, value| {
                    in_scan.send(()).unwrap();
                    // Likely while the writer waits for this scan to end: the store is between two engines then.
                    std::thread::sleep(Duration::from_millis(100));
                    assert_eq!(store.get(T, key).unwrap(), Some(value));
                    ControlFlow::Continue(())
                })
                .unwrap();
        });
        wait.recv().unwrap();
        fail(store, ErrorKind::StorageFull);
    });
    store.commit(&[put(T, "k", "2")]).unwrap();
    assert_eq!(store.get(T, b"k").unwrap(), Some("2".into()));
}

#[test]
fn a_copy_that_cannot_be_made_current_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.tuning.rebuild_factor = 0;
    store.tuning.rebuild_slack = 0;
    store.commit(&[put(T, "k", "1")]).unwrap();
    // In the way of the file that is renamed.
    std::fs::create_dir(dir.path().join("current.next")).unwrap();
    let failed = loop {
        match store.maintain() {
            Ok(true) => store.commit(&[put(T, "l", "1")]).unwrap(),
            Ok(false) => panic!("it never rebuilt"),
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, StoreError::Unwritable(_)), "{failed}");
    assert!(!store.maintain().unwrap(), "it is not tried again at once");
    store.commit(&[put(T, "k", "2")]).unwrap();
    drop(store);
    std::fs::remove_dir(dir.path().join("current.next")).unwrap();
    let opened = SledStore::open(dir.path(), Epoch(8)).unwrap();
    assert_eq!((opened.store.epoch(), opened.moved_aside), (Epoch(7), None));
    assert_eq!(opened.store.get(T, b"k").unwrap(), Some("2".into()));
}

#[test]
fn a_copy_that_was_not_finished_is_swept_away() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit(&[put(T, "k", "1")]).unwrap();
    let copy = Rebuild::begin(&store.directory, Generation(2), 1 << 20).unwrap();
    drop((copy, store));
    assert!(dir.path().join("gen-2").exists());
    assert_eq!(open(dir.path()).get(T, b"k").unwrap(), Some("1".into()));
    assert!(!dir.path().join("gen-2").exists());
}
