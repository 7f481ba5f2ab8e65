//! Whatever happens to a store's files, it is noticed.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sparkmesh::model::ids::Epoch;
use sparkmesh::store::sled::SledStore;
use sparkmesh::store::{Order, Store, Table, Write};

use super::{KEPT, check, commit, commit_number, envelope, inbox, put, small, value};

/// Changes a copy of a store's files in some way; says which.
fn damage(store: &Path, random: &mut StdRng) -> String {
    let mut files: Vec<_> = fs::read_dir(store.join("gen-1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.push(store.join("current"));
    files.sort();
    // Mostly the data: it is by far the largest.
    let data = store.join("gen-1").join("db");
    let path = if random.random_ratio(2, 3) { &data } else { &files[random.random_range(0..files.len())] };
    let mut bytes = fs::read(path).unwrap();
    let at = random.random_range(0..bytes.len());
    let end = bytes.len().min(at + random.random_range(1..200_000));
    let what = match random.random_range(0..5) {
        0 => {
            bytes[at] ^= 1 << random.random_range(0..8);
            "a bit flipped"
        }
        1 => {
            bytes[at..end].fill(0);
            "zeros"
        }
        2 => {
            bytes[at..end].iter_mut().for_each(|byte| *byte = random.random());
            "noise"
        }
        3 => {
            bytes.truncate(at);
            "cut off"
        }
        _ => {
            fs::remove_file(path).unwrap();
            return format!("{} removed", path.file_name().unwrap().display());
        }
    };
    fs::write(path, bytes).unwrap();
    format!("{what} in {} at {at}", path.file_name().unwrap().display())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            fs::copy(entry, target).unwrap();
        }
    }
}

/// Records that stay, so that much of the log is needed.
fn pile(part: u64) -> Vec<Write> {
    (0..50u64)
        .map(|n| put(Table::Push, [part.to_be_bytes(), n.to_be_bytes()].concat(), vec![part as u8; 1000]))
        .collect()
}

fn check_piles(store: &SledStore, parts: u64) {
    let mut found = 0;
    let mut visit = |key: &[u8], value: bytes::Bytes| {
        assert!(value == vec![key[7]; 1000]);
        found += 1;
        ControlFlow::Continue(())
    };
    store.scan(Table::Push, b"", &[0xff; 16], Order::Ascending, &mut visit).unwrap();
    assert_eq!(found, parts * 50, "some of the pile is lost, and the epoch is the old one");
}

#[test]
fn after_any_damage_all_is_there_or_the_epoch_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("original");
    let last = 2 * KEPT;
    // As a killed process leaves it: a part that `sled` has seen at an opening, and a part that is only in its log.
    for half in [1..=last / 2, last / 2 + 1..=last] {
        let store = SledStore::open_with(&dir.path().join("store"), Epoch(1), small()).unwrap().store;
        for number in half {
            store.commit(&commit(number)).unwrap();
            store.commit(&pile(number)).unwrap();
        }
        if commit_number(&store) == last {
            copy(&dir.path().join("store"), &original);
        }
    }
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut whole, mut aside, mut kept) = (0, 0, 0);
    for round in 0..50 {
        let root = dir.path().join(round.to_string());
        copy(&original, &root);
        let what = damage(&root, &mut random);
        let opened = SledStore::open_with(&root, Epoch(2), small()).unwrap();
        println!("{what}: epoch {:?}, aside {:?}", opened.store.epoch(), opened.moved_aside.is_some());
        if opened.store.epoch() == Epoch(1) {
            check(&opened.store, last, last);
            check_piles(&opened.store, last);
            whole += 1;
        } else if let Some(moved) = &opened.moved_aside {
            assert!(moved.is_dir() && inbox(&opened.store).is_empty());
            aside += 1;
        } else {
            assert!(inbox(&opened.store).iter().all(|(number, found)| *found == value(*number)));
            kept += 1;
        }
        // Whatever was found, it is a store that works, and it stays what it is now.
        opened.store.commit(&commit(last + 1)).unwrap();
        let epoch = opened.store.epoch();
        drop(opened);
        let again = SledStore::open_with(&root, Epoch(3), small()).unwrap();
        assert_eq!((again.store.epoch(), again.moved_aside), (epoch, None));
        assert_eq!(again.store.get(Table::Inbox, &envelope(last + 1)).unwrap().unwrap(), value(last + 1));
    }
    println!("{whole} whole, {aside} moved aside, {kept} kept under a new epoch");
    assert!(aside + kept > 10, "the damage was not damage");
}
