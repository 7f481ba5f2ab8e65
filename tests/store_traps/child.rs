//! What the tests run in processes of their own, to kill them, to take away their disk, or to weigh them alone.
//!
//! A child is this same test binary, told by `STORE_ROLE` what to do in `STORE_DIR`. It tells of each step on a line
//! `@word number`.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sparkmesh::model::ids::Epoch;
use sparkmesh::store::sled::{SledStore, Tuning};
use sparkmesh::store::{Store, StoreError, Table, Write};

use super::{KEPT, commit_number, put, small};

/// The command that makes this binary `role`.
pub(crate) fn command(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child_process", "--ignored", "--nocapture"])
        .env("STORE_ROLE", role)
        .env("STORE_DIR", dir)
        .env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

pub(crate) struct Lines(BufReader<std::process::ChildStdout>);

impl Lines {
    pub(crate) fn of(child: &mut Child) -> Self {
        Self(BufReader::new(child.stdout.take().unwrap()))
    }
}

impl Iterator for Lines {
    type Item = (String, u64);

    /// The next step told; `None` when the child has ended.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut line = String::new();
            // A line without an end was being written when the child was killed.
            if self.0.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                return None;
            }
            let told = line.trim_end().strip_prefix('@').and_then(|line| line.split_once(' '));
            if let Some((word, number)) = told {
                return Some((word.to_owned(), number.parse().unwrap()));
            }
        }
    }
}

fn tell(word: &str, number: u64) {
    // In one write, and on a line of its own whatever the test harness has begun there.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n@{word} {number}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Waits for a line from the parent.
fn wait() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

pub(crate) fn run() {
    let Ok(role) = std::env::var("STORE_ROLE") else { return };
    let dir = std::env::var("STORE_DIR").unwrap();
    let dir = Path::new(&dir);
    match role.as_str() {
        "append" => append(dir, Tuning::default()),
        // Whenever the files have doubled.
        "rebuild in steps" => {
            append(dir, Tuning { rebuild_factor: 1, rebuild_slack: 0, rebuild_step: 16 << 10, ..small() });
        }
        "rebuild at once" => {
            append(dir, Tuning { rebuild_factor: 1, rebuild_slack: 0, rebuild_step: u64::MAX, ..small() });
        }
        "hold" => {
            let _store = SledStore::open(dir, Epoch(1)).unwrap().store;
            tell("holds", 0);
            wait();
        }
        "churn" => churn(dir),
        "five commits" => five_commits(dir),
        "full disk" => full_disk(dir),
        "file limit" => file_limit(dir),
        other => panic!("no such role: {other}"),
    }
}

/// Appends and trims without end, and tells of each commit.
fn append(dir: &Path, tuning: Tuning) {
    let store = SledStore::open_with(dir, Epoch(1), tuning).unwrap().store;
    let mut number = commit_number(&store);
    tell("open", number);
    loop {
        number += 1;
        store.commit(&super::commit(number)).unwrap();
        tell("ack", number);
        while store.maintain().unwrap() {
            tell("step", number);
            number += 1;
            store.commit(&super::commit(number)).unwrap();
            tell("ack", number);
        }
    }
}

/// Steady state of many small records, then of few large ones; tells the memory and the files after each.
fn churn(dir: &Path) {
    let store = SledStore::open(dir, Epoch(1)).unwrap().store;
    let rss = || {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    // Number `n` of many devices' envelopes, each device's in order.
    let key = |n: u64, devices: u64| [(n % devices).to_be_bytes(), (n / devices).to_be_bytes()].concat();
    for (devices, count, len, warm, long) in [(200, 1000, 300, 30, 90), (3, 2, 200_000, 300, 900)] {
        let round = |round: u64| {
            let mut writes = Vec::new();
            for n in round * count..(round + 1) * count {
                writes.push(put(Table::Inbox, key(n, devices), vec![n as u8; len]));
                if n >= 20 * count {
                    writes.push(Write::Delete { table: Table::Inbox, key: key(n - 20 * count, devices).into() });
                }
            }
            store.commit(&writes).unwrap();
        };
        (0..warm).for_each(round);
        tell("rss", rss());
        tell("disk", store.usage().disk);
        (warm..long).for_each(round);
        tell("rss", rss());
        tell("disk", store.usage().disk);
        let rest = ((long - 20) * count..long * count)
            .map(|n| Write::Delete { table: Table::Inbox, key: key(n, devices).into() });
        store.commit(&rest.collect::<Vec<_>>()).unwrap();
    }
}

fn five_commits(dir: &Path) {
    let store = SledStore::open(dir, Epoch(1)).unwrap().store;
    for number in 1..=5 {
        store.commit(&super::commit(number)).unwrap();
        tell("ack", number);
    }
}

/// A commit that leaves something for good.
fn growing(number: u64) -> Vec<Write> {
    let mut writes = super::commit(number);
    writes.push(put(Table::Push, number.to_be_bytes(), vec![7; 8_000]));
    writes
}

/// Commits until that is refused; gives the number of the last that was not.
fn fill(store: &SledStore, mut number: u64) -> u64 {
    loop {
        match store.commit(&growing(number + 1)) {
            Ok(()) => number += 1,
            Err(StoreError::Unwritable(_)) => return number,
            Err(error) => panic!("a full disk is no damage: {error}"),
        }
    }
}

/// Commits until that works, which must be soon; gives the number of the first that did.
fn go_on(store: &SledStore, number: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = store.commit(&growing(number + 1)) {
        assert!(matches!(error, StoreError::Unwritable(_)) && Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(10));
    }
    number + 1
}

/// Commits some more, and checks that all of it is there, also when opened again.
fn prove_whole(store: SledStore, dir: &Path, mut number: u64) -> SledStore {
    for _ in 0..2 * KEPT {
        number += 1;
        store.commit(&super::commit(number)).unwrap();
    }
    super::check(&store, number, number);
    drop(store);
    let opened = SledStore::open_with(dir, Epoch(2), hasty()).unwrap();
    assert_eq!((opened.moved_aside, opened.store.epoch()), (None, Epoch(1)));
    super::check(&opened.store, number, number);
    tell("whole", number);
    opened.store
}

fn hasty() -> Tuning {
    Tuning { retry_after: Duration::from_millis(50), ..small() }
}

/// Runs on a small disk of its own: fills it, has room made, goes on, and once more.
fn full_disk(dir: &Path) {
    let ballast = ["first", "second"].map(|name| dir.with_file_name(name));
    for file in &ballast {
        std::fs::write(file, vec![1; 12 << 20]).unwrap();
    }
    let mut store = SledStore::open_with(dir, Epoch(1), hasty()).unwrap().store;
    for file in &ballast {
        let mut number = fill(&store, commit_number(&store));
        tell("full", number);
        for _ in 0..20 {
            assert!(matches!(store.commit(&growing(number + 1)), Err(StoreError::Unwritable(_))), "there is no room");
            super::check(&store, number, number + 1);
            std::thread::sleep(Duration::from_millis(10));
        }
        // Also when it starts on a full disk.
        drop(store);
        let opened = SledStore::open_with(dir, Epoch(2), hasty()).unwrap();
        assert_eq!((opened.moved_aside, opened.store.epoch()), (None, Epoch(1)));
        store = opened.store;
        super::check(&store, number, number + 1);
        number = super::commit_number(&store);
        assert!(matches!(store.commit(&growing(number + 1)), Err(StoreError::Unwritable(_))), "there is no room");
        std::fs::remove_file(file).unwrap();
        number = go_on(&store, number);
        store = prove_whole(store, dir, number);
    }
}

/// As a quota: no file may grow over a limit, which is then lifted. Opening again works all the time, writing does not.
fn file_limit(dir: &Path) {
    let (_, hard) = rlimit::getrlimit(rlimit::Resource::FSIZE).unwrap();
    rlimit::setrlimit(rlimit::Resource::FSIZE, 16 << 20, hard).unwrap();
    let store = SledStore::open_with(dir, Epoch(1), hasty()).unwrap().store;
    let mut number = fill(&store, 0);
    tell("full", number);
    for _ in 0..30 {
        match store.commit(&growing(number + 1)) {
            Ok(()) => number += 1,
            Err(error) => assert!(matches!(error, StoreError::Unwritable(_)), "{error}"),
        }
        super::check(&store, number, number + 1);
        std::thread::sleep(Duration::from_millis(10));
    }
    rlimit::setrlimit(rlimit::Resource::FSIZE, hard, hard).unwrap();
    let number = go_on(&store, number);
    prove_whole(store, dir, number);
}
