//! What the dialect of servers costs: nanoseconds for one envelope of 100 bytes to one device at another server, step by
//! step, the least of many rounds.
//!
//! `cargo run --release --example link_cost`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sparkmesh::model::custody::Outcome;
use sparkmesh::model::frames::{Carried, Carry, Dispatch, Fate, Hop, Recipient, Stop};
use sparkmesh::model::ids::{Incarnation, Millis, Seq};
use sparkmesh::model::outbox::{Class, Keep, Prompt};
use sparkmesh::model::seen::Key;
use sparkmesh::wire::frame;
use sparkmesh::wire::link::{decode, dispatch_of, encode, head_of};

const ROUNDS: usize = 20;
const PER_ROUND: u32 = 5000;

fn main() {
    for (what, dispatch) in [
        ("100 bytes for one device", deliver(1, 100)),
        ("1000 bytes for one device", deliver(1, 1000)),
        ("100 bytes for 1000 devices", deliver(1000, 100)),
        ("one fate", Dispatch::Fates(vec![(3_000_000, Fate::Settled(Outcome::Delivered))])),
    ] {
        let hop = hop(&dispatch);
        let frame = written(&hop);
        let Ok(Some(Hop::Carry(passing))) = decode(&mut frame.clone()) else { unreachable!("a frame of ours") };
        let passing = Hop::Carry(passing);
        println!("{what}: {} bytes", frame.len());
        println!("  head             {:7} ns", least(|| drop(black_box(head_of(black_box(&dispatch))))));
        println!("  frame            {:7} ns", least(|| chunks(&hop)));
        println!("  read a frame     {:7} ns", least(|| drop(black_box(decode(&mut black_box(&frame).clone())))));
        println!("  relay            {:7} ns", least(|| chunks(&passing)));
        let Hop::Carry(Carry { stops, body, .. }) = &passing else { unreachable!("made above") };
        println!("  read a dispatch  {:7} ns", least(|| drop(black_box(dispatch_of(&stops[0].head, body.clone())))));
    }
}

fn deliver(recipients: u64, bytes: usize) -> Dispatch {
    let recipient = |n: u64| Recipient {
        device: format!("bob-device-{n}").parse().expect("an id"),
        number: 3_000_000 + n,
        shown: None,
        known: Seq(0),
        way: 3_000_000,
    };
    let keep = Keep {
        sender: "alice-device-1".parse().expect("an id"),
        id: "0123456789abcdef".parse().expect("an id"),
        collapse: None,
        kind: 1,
        timestamp: Millis(1_700_000_000_000),
        session: None,
        prompt: Prompt::Soon,
    };
    let envelope = Carried {
        encoded: frame::text("x".repeat(bytes)),
        key: Some(Key(7)),
        seq: None,
        class: Class::Reliable,
        ttl: None,
        keep: Arc::new(keep),
    };
    Dispatch::Deliver { recipients: (0..recipients).map(recipient).collect(), envelope }
}

fn hop(dispatch: &Dispatch) -> Hop {
    let (head, body) = head_of(dispatch);
    let stop = Stop { server: "server-b".parse().expect("an id"), generation: 1, number: 3_000_000, head };
    let origin = "server-a".parse().expect("an id");
    Hop::Carry(Carry { hops: 0, origin, incarnation: Incarnation(5), stops: vec![stop], body })
}

fn written(hop: &Hop) -> Bytes {
    let mut chunks = Vec::new();
    encode(hop, &mut chunks);
    chunks.concat().into()
}

fn chunks(hop: &Hop) {
    let mut chunks = Vec::with_capacity(4);
    encode(black_box(hop), &mut chunks);
    black_box(chunks);
}

fn least(mut work: impl FnMut()) -> u128 {
    let round = |_| {
        let start = Instant::now();
        (0..PER_ROUND).for_each(|_| work());
        (start.elapsed() / PER_ROUND).as_nanos()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}
