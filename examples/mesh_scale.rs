//! What a large mesh costs each of its servers, over the pure model: 50 servers, 1 million attachments.
//!
//! `cargo run --release --example mesh_scale`
//!
//! Prints medians: how long routes take to compute anew, what a change takes on a link, how long a server's list takes to
//! apply, and what an attachment takes in memory.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sparkmesh::model::attachments::{Applied, Attachment, Change, Delta, Directory, Own, Snapshot};
use sparkmesh::model::frames::Hop;
use sparkmesh::model::ids::{Incarnation, Millis, NodeId};
use sparkmesh::model::placement::Placement;
use sparkmesh::model::topology::{About, Address, LinkState, Load, Record, Scheme, Standing, Topology};
use sparkmesh::wire::link::encode;

const SERVERS: usize = 50;
const ATTACHMENTS: usize = 1_000_000;
const HERE: usize = ATTACHMENTS / SERVERS;
const ROUNDS: usize = 101;
const NOW: Millis = Millis(1_700_000_000_000);

fn main() {
    println!("{SERVERS} servers, {ATTACHMENTS} attachments\n");
    for (what, linked) in [("each linked to each", SERVERS - 1), ("each linked to six", 6), ("in a ring", 2)] {
        graph(what, linked);
    }
    lists();
    homes();
}

fn server(n: usize) -> NodeId {
    format!("server-{n:03}").parse().expect("an id")
}

fn attachment(n: usize, number: u64) -> Attachment {
    Attachment {
        device: format!("user{n:07}-phone").parse().expect("an id"),
        client: Some(format!("user{n:07}").parse().expect("an id")),
        number,
    }
}

/// Of a server in a ring that has links to the nearest on both sides, each at its own cost.
fn record(n: usize, linked: usize, number: u64) -> Record {
    let cost = |peer: usize| LinkState { peer: server(peer), cost: 200 + (n.abs_diff(peer) * 37 % 900) as u32 };
    let near = |peer: &usize| {
        let apart = n.abs_diff(*peer);
        *peer != n && apart.min(SERVERS - apart) <= linked.div_ceil(2)
    };
    let address = Address {
        host: format!("10.0.0.{n}"),
        port: 8080,
        scheme: Scheme::Tls,
        proxy_80_port: None,
        region: Some("eu-central".to_owned()),
    };
    let load = Load { connections: HERE as u64, max_connections: 100_000, per_second: 1000 };
    Record {
        server: server(n),
        incarnation: Incarnation(3),
        number,
        about: About { address, load, standing: Standing::Serving, epoch: 7 },
        links: (0..SERVERS).filter(near).map(cost).collect(),
    }
}

fn graph(what: &str, linked: usize) {
    let own = record(0, linked, 1);
    let mut topology = Topology::new(own.server, own.incarnation, own.about);
    topology.set_links(own.links);
    for n in 1..SERVERS {
        let _ = topology.accept(record(n, linked, 1), NOW);
    }
    let links: usize = topology.records().map(|record| record.links.len()).sum();
    let mut number = 1;
    let accept = median(|| {
        number += 1;
        let changed = Arc::new(record(7, linked, number));
        timed(|| {
            let _ = black_box(topology.accept(changed, NOW));
        })
    });
    let routes = topology.routes();
    let farthest = server(SERVERS / 2);
    println!("{what}: {} links, {} servers reachable", links / 2, routes.servers().len());
    println!("  routes anew                  {:8.1} us", us(median(|| timed(|| drop(black_box(topology.routes()))))));
    println!(
        "  who has departed             {:8.1} us",
        us(median(|| timed(|| drop(black_box(topology.expire(NOW))))))
    );
    println!("  a record accepted            {:8.1} us", us(accept));
    println!(
        "  one next hop                 {:8.1} ns",
        each(10_000, || {
            black_box(routes.next(black_box(&farthest)));
        })
    );
    println!("  a record on a link           {:8} bytes\n", bytes(&Hop::Record(Arc::new(record(7, linked, 1000)))));
}

fn lists() {
    let lists: Vec<Own> = (1..SERVERS).map(list).collect();
    let snapshots: Vec<Vec<Snapshot>> = lists.iter().map(Own::snapshot).collect();
    let mut directory = Directory::new(server(0));
    let mut times = Vec::new();
    let before = allocated();
    for (n, parts) in snapshots.iter().enumerate() {
        let from = server(n + 1);
        // As decoded from a link: no text is shared with what is here already.
        let parts: Vec<Snapshot> = parts.iter().map(unshared).collect();
        let took = timed(|| {
            for part in parts {
                let _ = black_box(directory.apply_snapshot(&from, part));
            }
        });
        times.push(took);
    }
    let held = allocated() - before;
    let known = directory.len();
    println!("attachments: {known} known at other servers, {HERE} at each");
    println!("  memory for one               {:8.1} bytes", held as f64 / known as f64);
    println!("  a whole list applied         {:8.1} ms", us(middle(times)) / 1000.0);
    let list_bytes: usize = snapshots[0].iter().map(|part| bytes(&Hop::Snapshot(Arc::new(part.clone())))).sum();
    println!("  a whole list on a link       {list_bytes:8} bytes, {:.1} for one", list_bytes as f64 / HERE as f64);

    let mut own = lists.into_iter().next().expect("a list");
    let mut next = 0;
    let mut change = |count: usize| {
        let mut delta: Option<Delta> = None;
        for _ in 0..count {
            next += 1;
            let change = own.attach(attachment(HERE + next % HERE, 9));
            match &mut delta {
                Some(delta) => delta.append(change).expect("it follows"),
                None => delta = Some(change),
            }
        }
        delta.expect("a change")
    };
    let mut apply = |count: usize| {
        let delta = change(count);
        let took = timed(|| assert!(matches!(black_box(directory.apply(&delta)), Applied::Changed(_))));
        (took, bytes(&Hop::Delta(Arc::new(delta))))
    };
    for count in [1, 100] {
        let runs: Vec<(Duration, usize)> = (0..ROUNDS).map(|_| apply(count)).collect();
        let size = runs[ROUNDS / 2].1;
        let took = us(middle(runs.into_iter().map(|(took, _)| took).collect()));
        println!("  {count:3} attached at once: applied  {took:8.2} us");
        println!("                       on a link {size:6} bytes, {:.1} for one", size as f64 / count as f64);
    }
    let gone = Delta { changes: vec![Change::Detached(attachment(HERE + 1, 1).device)], ..change(1) };
    println!("  one detached: on a link      {:8} bytes", bytes(&Hop::Delta(Arc::new(gone))));
    let routes = Topology::new(server(0), Incarnation(1), record(0, 2, 1).about).routes();
    let device = attachment(HERE * 7, 1).device;
    println!(
        "  where a device is            {:8.1} ns",
        each(10_000, || {
            black_box(directory.newest(black_box(&device), &routes));
        })
    );
    let digests = directory.digests();
    println!("  all digests on a link        {:8} bytes", bytes(&Hop::Digests(digests)));
    let mut took = None;
    let forgotten = timed(|| took = Some(directory.forget(&server(SERVERS - 1))));
    println!(
        "  a departed server forgotten  {:8.1} ms, {} devices\n",
        us(forgotten) / 1000.0,
        took.map_or(0, |d| d.len())
    );
}

/// The list of one server.
fn list(n: usize) -> Own {
    let mut own = Own::new(server(n), Incarnation(3));
    for device in n * HERE..(n + 1) * HERE {
        let _ = own.attach(attachment(device, 1));
    }
    own
}

fn unshared(part: &Snapshot) -> Snapshot {
    let unshared = |at: &Attachment| Attachment {
        device: at.device.as_str().parse().expect("an id"),
        client: at.client.as_ref().map(|client| client.as_str().parse().expect("an id")),
        number: at.number,
    };
    Snapshot { attachments: part.attachments.iter().map(unshared).collect(), ..part.clone() }
}

fn homes() {
    println!("homes");
    for count in [1, 3, SERVERS] {
        let placement = Placement::new([7; 32], (0..count).map(server), Vec::new()).expect("members");
        let one = each(2000, || {
            black_box(placement.home(black_box("user0012345-phone")));
        });
        println!("  home among {count:2}               {one:8.1} ns");
    }
}

/// Memory of this process, in bytes.
fn allocated() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("a Linux");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
    let kilobytes: usize = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

/// What a frame takes on a link.
fn bytes(hop: &Hop) -> usize {
    let mut chunks = Vec::new();
    encode(hop, &mut chunks);
    chunks.iter().map(Bytes::len).sum()
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut work: impl FnMut() -> Duration) -> Duration {
    middle((0..ROUNDS).map(|_| work()).collect())
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Nanoseconds for one of many.
fn each(many: u32, mut work: impl FnMut()) -> f64 {
    let round = median(|| timed(|| (0..many).for_each(|_| work())));
    round.as_nanos() as f64 / f64::from(many)
}

fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}
