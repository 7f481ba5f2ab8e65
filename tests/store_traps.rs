//! What was measured of `sled`, and would sink a store that did not know it: a test for each trap, which fails for a
//! store that walks into it. And the promise itself: kill -9 at any moment loses nothing that was acknowledged.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sparkmesh::model::ids::Epoch;
use sparkmesh::store::sled::{SledStore, Tuning};
use sparkmesh::store::{MAX_KEY, Order, Store, StoreError, Table, Write};

#[path = "store_traps/child.rs"]
mod child;
#[path = "store_traps/damage.rs"]
mod damage;

/// Envelopes that a device's inbox holds in these tests: commit `n` appends number `n` and removes `n - KEPT`.
const KEPT: u64 = 60;

#[test]
#[ignore = "the other tests run it as a process of its own"]
fn child_process() {
    child::run();
}

/// Thresholds that a test can reach.
fn small() -> Tuning {
    Tuning { cache: 4 << 20, rebuild_slack: 8 << 20, rebuild_step: 64 << 10, reserve: 1 << 20, ..Tuning::default() }
}

fn put(table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Write {
    Write::Put { table, key: key.into().into(), value: value.into().into() }
}

fn envelope(number: u64) -> Vec<u8> {
    [b"device".as_slice(), &[0], &number.to_be_bytes()].concat()
}

/// Bytes that only this number gives; now and then many.
fn value(number: u64) -> Vec<u8> {
    let len = if number.is_multiple_of(7) { 30_000 } else { 300 };
    (0..len).map(|i| (i * 31 + number * 131).to_le_bytes()).map(|b| b[0] ^ b[1]).chain(number.to_be_bytes()).collect()
}

/// A record that grows and shrinks, and is replaced by every commit.
fn record(number: u64) -> Vec<u8> {
    [number.to_be_bytes().as_slice(), &value(number * 3)].concat()
}

fn commit(number: u64) -> Vec<Write> {
    let mut writes = vec![put(Table::Inbox, envelope(number), value(number))];
    if number > KEPT {
        writes.push(Write::Delete { table: Table::Inbox, key: envelope(number - KEPT).into() });
    }
    writes.push(put(Table::Records, "device", record(number)));
    writes
}

/// The newest commit that is in the store: its record is the last of it.
fn commit_number(store: &SledStore) -> u64 {
    let record = store.get(Table::Records, b"device").unwrap();
    record.map_or(0, |record| u64::from_be_bytes(record[..8].try_into().unwrap()))
}

fn inbox(store: &SledStore) -> BTreeMap<u64, Vec<u8>> {
    let mut found = BTreeMap::new();
    store
        .scan(Table::Inbox, b"", b"\xff", Order::Ascending, &mut |key, value| {
            found.insert(u64::from_be_bytes(key[7..].try_into().unwrap()), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

/// The store holds exactly what the commits up to `acknowledged` left, but for the one commit that may have been under
/// way: up to `begun`.
fn check(store: &SledStore, acknowledged: u64, begun: u64) {
    let found = inbox(store);
    for number in (acknowledged + 1).saturating_sub(KEPT).max(1)..=acknowledged {
        let removed_by_next = begun > acknowledged && number + KEPT == begun;
        match found.get(&number) {
            Some(found) => assert!(*found == value(number), "envelope {number} came back changed"),
            None => assert!(removed_by_next, "envelope {number} is lost; acknowledged up to {acknowledged}"),
        }
    }
    for (number, found) in &found {
        let known = (acknowledged + 1).saturating_sub(KEPT) <= *number && *number <= begun;
        assert!(known && *found == value(*number), "envelope {number} must not be there: {acknowledged}, {begun}");
    }
    let newest = commit_number(store);
    assert!(newest >= acknowledged && newest <= begun, "the record is of commit {newest}, not {acknowledged}");
    let found = store.get(Table::Records, b"device").unwrap().unwrap_or_default();
    assert!(newest == 0 || found == record(newest), "the record came back changed");
}

fn reopened(dir: &Path) -> SledStore {
    let opened = SledStore::open_with(dir, Epoch(2), small()).unwrap();
    assert_eq!(opened.moved_aside, None);
    assert_eq!(opened.store.epoch(), Epoch(1), "the epoch changed although nothing was lost");
    opened.store
}

/// When a child is killed.
#[derive(Clone, Copy)]
enum Moment {
    /// Up to so long after it opened its store.
    Within(Duration),
    /// A few milliseconds after one of so many steps of rebuilding.
    AfterStep(u32),
}

/// Runs a child in `dir` for each of `roles`, kills it at a random moment, and checks each time what it left.
fn kill_and_check(dir: &Path, roles: impl Iterator<Item = (&'static str, Moment)>) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut acknowledged = 0;
    let mut rounds = 0;
    for (role, moment) in roles {
        let mut child = child::command(role, dir).spawn().unwrap();
        let mut lines = child::Lines::of(&mut child);
        let (steps, patience) = match moment {
            Moment::Within(longest) => (0, random.random_range(Duration::ZERO..longest)),
            Moment::AfterStep(most) => {
                (random.random_range(1..=most), random.random_range(Duration::ZERO..Duration::from_millis(4)))
            }
        };
        let mut seen = 0;
        for (word, number) in lines.by_ref() {
            match word.as_str() {
                "open" => assert!(number >= acknowledged, "it opened with {number} of {acknowledged} commits"),
                "step" => seen += 1,
                _ => {}
            }
            acknowledged = number;
            if seen >= steps {
                break;
            }
        }
        assert!(seen >= steps, "it ended by itself");
        // The one use of a clock: where in its work the child is killed is to be left to chance.
        std::thread::sleep(patience);
        child.kill().unwrap();
        acknowledged = lines.map(|(_, number)| number).last().unwrap_or(acknowledged);
        child.wait().unwrap();
        let store = reopened(dir);
        check(&store, acknowledged, acknowledged + 1);
        acknowledged = commit_number(&store);
        rounds += 1;
    }
    assert!(acknowledged > rounds, "it hardly wrote anything");
}

/// How often each of the two tests below kills.
fn kills() -> usize {
    std::env::var("STORE_KILLS").map_or(20, |rounds| rounds.parse().expect("STORE_KILLS is a number"))
}

#[test]
fn kill_9_while_committing_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let each = ("append", Moment::Within(Duration::from_millis(150)));
    kill_and_check(&dir.path().join("store"), std::iter::repeat_n(each, kills()));
}

#[test]
fn kill_9_while_rebuilding_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    // In the one, most moments are while copying; in the other, while beginning and ending.
    let kinds = [("rebuild in steps", Moment::AfterStep(18)), ("rebuild at once", Moment::AfterStep(3))];
    kill_and_check(&dir.path().join("store"), kinds.into_iter().cycle().take(kills()));
}

#[test]
fn a_second_process_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let mut child = child::command("hold", &dir).spawn().unwrap();
    assert_eq!(child::Lines::of(&mut child).next().unwrap().0, "holds");
    let begun = Instant::now();
    match SledStore::open(&dir, Epoch(2)) {
        Err(StoreError::InUse(path)) => assert_eq!(path, dir),
        other => panic!("it must be in use: {other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(reopened(&dir));
}

#[test]
fn steady_traffic_keeps_memory_and_files_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let mut child = child::command("churn", &dir).spawn().unwrap();
    let told: Vec<_> = child::Lines::of(&mut child).collect();
    assert!(child.wait().unwrap().success());
    let of = |word: &str| told.iter().filter(|told| told.0 == word).map(|told| told.1 >> 20).collect::<Vec<_>>();
    let (rss, disk) = (of("rss"), of("disk"));
    // 6 MB of small records live, 8 MB of large ones: three times the traffic must not take three times the room.
    println!("resident {rss:?} MiB, disk {disk:?} MiB after small, more small, large, more large");
    assert!(rss[1] < rss[0] + 30 && rss[3] < rss[2] + 30, "memory grows: {rss:?} MiB");
    assert!(disk[1] < disk[0] + 25 && disk[3] < disk[2] + 50, "the files grow: {disk:?} MiB");
    assert_eq!(blobs(&dir), 0, "a file for a value is never deleted");
}

/// What leaks or misleads whoever uses it is not used: the leak of a mixed `Batch` shows only after minutes of traffic.
#[test]
fn nothing_of_sled_is_used_that_must_not_be() {
    let banned =
        ["Batch", "transaction", "generate_id", "flush_async", "watch_prefix", "use_compression", "segment_size"];
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let text = fs::read_to_string(&path).unwrap();
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let used = banned.iter().find(|word| line.contains(**word));
                assert_eq!(used, None, "{}: {line}", path.display());
            }
        }
    }
    assert!(files > 5, "the sources were not found");
}

/// Files that `sled` made for what was too large for its log.
fn blobs(dir: &Path) -> usize {
    let of = |generation: PathBuf| fs::read_dir(generation.join("blobs")).map_or(0, Iterator::count);
    fs::read_dir(dir).unwrap().map(|entry| of(entry.unwrap().path())).sum()
}

#[test]
fn the_longest_keys_and_values_make_no_blob_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), Epoch(1)).unwrap().store;
    // Index pages are at their largest when neighbours differ only at the end, and the page's keys at the beginning:
    // `sled` stores a key as far as it differs from its neighbour, without what all in the page begin with.
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..60 {
        let device: Vec<u8> = (8..MAX_KEY).map(|_| random.random()).collect();
        let key = |number: u64| [device.as_slice(), &number.to_be_bytes()].concat();
        let writes: Vec<_> = (0..100).map(|number| put(Table::Inbox, key(number), "v")).collect();
        store.commit(&writes).unwrap();
    }
    for len in [4_096, 8_192, 100_000, 1_000_000] {
        store.commit(&[put(Table::Records, vec![b'k'; MAX_KEY], vec![7; len])]).unwrap();
    }
    assert_eq!(blobs(dir.path()), 0);
}

#[test]
fn nothing_jumps_when_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let mut live = None;
    for number in 1..=6 {
        let opened = SledStore::open_with(&dir, Epoch(number), small()).unwrap();
        let store = opened.store;
        assert_eq!((store.epoch(), opened.moved_aside), (Epoch(1), None));
        assert_eq!(commit_number(&store), number - 1, "the next is the next");
        assert_eq!(store.usage().live, live.unwrap_or(0), "what lives is counted as it was");
        store.commit(&commit(number)).unwrap();
        live = Some(store.usage().live);
    }
}

#[test]
fn files_that_outgrew_what_they_hold_are_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let store = SledStore::open_with(&dir, Epoch(1), small()).unwrap().store;
    let keep: Vec<_> = (0..50u64).map(|n| put(Table::Push, n.to_be_bytes(), value(n))).collect();
    store.commit(&keep).unwrap();
    let many: Vec<_> = (1..=20_000).map(envelope).collect();
    for part in many.chunks(1000) {
        store
            .commit(&part.iter().map(|key| put(Table::Inbox, key.clone(), vec![7; 1000])).collect::<Vec<_>>())
            .unwrap();
    }
    assert!(!store.maintain().unwrap(), "all of it lives: nothing to gain");
    for part in many.chunks(1000) {
        let gone = part.iter().map(|key| Write::Delete { table: Table::Inbox, key: key.clone().into() });
        store.commit(&gone.collect::<Vec<_>>()).unwrap();
    }
    let before = store.usage();
    let readers_go_on = std::sync::atomic::AtomicBool::new(true);
    let mut steps = 0;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while readers_go_on.load(std::sync::atomic::Ordering::Relaxed) {
                let number = reads % 50u64;
                assert_eq!(store.get(Table::Push, &number.to_be_bytes()).unwrap().unwrap(), value(number));
                reads += 1;
            }
            reads
        });
        // Commits go on between the steps: before, at and behind what was copied already.
        while store.maintain().unwrap() {
            steps += 1;
            store.commit(&commit(steps)).unwrap();
        }
        readers_go_on.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    let after = store.usage();
    println!("{steps} steps, {before:?} -> {after:?}");
    assert!(steps > 3 && before.disk > 16 << 20 && after.disk < 8 << 20, "{before:?} -> {after:?}");
    check(&store, steps, steps);
    drop(store);
    let store = reopened(&dir);
    check(&store, steps, steps);
    for number in 0..50u64 {
        assert_eq!(store.get(Table::Push, &number.to_be_bytes()).unwrap().unwrap(), value(number));
    }
    assert_eq!(store.usage().live, after.live);
}

/// `sled`'s own flush does not reach the disk: each commit must be followed by an `fdatasync` of the data file, after
/// the last write to it and before the commit is told of.
#[test]
fn each_commit_ends_with_an_fdatasync_of_the_data() {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: strace is not here, or may not trace");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let child = child::command("five commits", &dir.path().join("store"));
    let trace_to = trace.to_str().unwrap();
    let strace = ["strace", "-f", "-y", "-e", "trace=fdatasync,pwrite64,write", "-o", trace_to];
    assert!(through(&strace, "true", &child).output().unwrap().status.success());
    let text = fs::read_to_string(&trace).unwrap();
    let mut synced = None;
    let mut acknowledged = 0;
    for line in text.lines() {
        let of_data = line.contains("fdatasync(") && line.contains("/db>") && !line.contains("<unfinished");
        if line.contains("/db>") && line.contains("pwrite64(") {
            synced = Some(false);
        } else if of_data || line.contains("fdatasync resumed") {
            synced = Some(true);
        } else if line.contains("@ack") {
            assert_eq!(synced, Some(true), "acknowledged before it was on the disk:\n{text}");
            acknowledged += 1;
        }
    }
    assert_eq!(acknowledged, 5, "{text}");
}

/// The same command, run by a shell after `before`, with what the shell itself is run by.
fn through(runner: &[&str], before: &str, child: &Command) -> Command {
    let shell = ["sh".to_owned(), "-c".to_owned(), format!("{before} && exec \"$0\" \"$@\"")];
    let mut words = runner.iter().map(|word| (*word).to_owned()).chain(shell);
    let mut command = Command::new(words.next().expect("the shell at least"));
    command.args(words).arg(child.get_program()).args(child.get_args());
    command.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[test]
fn a_full_disk_stops_commits_and_nothing_else() {
    // A mount that only the child sees, and that goes away with it; without root, in a user namespace.
    let mine = |how: &&&[&str]| Command::new(how[0]).args(&how[1..]).arg("true").status().is_ok_and(|s| s.success());
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--mount", "--user", "--map-root-user"]];
    let Some(runner) = ways.iter().find(mine) else {
        eprintln!("skipped: no mount namespaces here; the test with a file limit stands for it");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=40m tmpfs '{}'", dir.path().display());
    let output = through(runner, &mount, &child::command("full disk", &dir.path().join("store"))).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((told.matches("@full").count(), told.matches("@whole").count()), (2, 2), "{told}");
}

#[test]
fn a_file_limit_stops_commits_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    // The signal that comes with this error would end the process.
    let output =
        through(&[], "trap '' XFSZ", &child::command("file limit", &dir.path().join("store"))).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("@full") && told.contains("@whole"), "{told}");
}
