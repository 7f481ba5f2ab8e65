//! What the wire costs: nanoseconds to decode and encode one message of 1000 bytes, the least of many rounds.
//!
//! `cargo run --release --example wire_cost`

use std::hint::black_box;
use std::time::Instant;

use bytestring::ByteString;
use serde_json::json;
use sparkmesh::model::envelope::Stamp;
use sparkmesh::model::ids::{EnvelopeId, Millis, NodeId, Seq};
use sparkmesh::wire::native::{Origin, decode, encode, with_seq};

const SIZE: usize = 1000;
const ROUNDS: usize = 200;
const PER_ROUND: u32 = 5000;

fn main() {
    let object = json!({"at": [1.5, -2, true, null], "who": {"name": "bob", "tags": ["a", "b"]}});
    let list = vec![object; 11];
    for (what, payload) in [
        ("one long string", json!("x".repeat(SIZE))),
        ("a string with escapes", json!("twenty letters here\n".repeat(SIZE / 20))),
        ("objects and numbers", json!(list)),
    ] {
        let message = |extra: &str| sized(&payload.to_string(), extra);
        println!("{what}");
        println!("  decode           {:5} ns", decoding(&message("")));
        println!("  decode, forged   {:5} ns", decoding(&message(r#""timestamp":1700000000000,"#)));
        println!("  encode           {:5} ns", encoding(&message("")));
        println!("  replay           {:5} ns", replaying(&message("")));
        println!("  decode + encode  {:5} ns", both(&message("")));
    }
}

/// A frame with `payload`, filled up to the size.
fn sized(payload: &str, extra: &str) -> ByteString {
    let bare = format!(
        r#"{{{extra}"dest_id":"bob-device-1","type":1,"id":"0123456789abcdef","reference":"r1","filler":"","payload":{payload}}}"#
    );
    let filler = format!(r#""filler":"{}""#, "-".repeat(SIZE.saturating_sub(bare.len())));
    ByteString::from(bare.replacen(r#""filler":"""#, &filler, 1))
}

fn stamp() -> Stamp {
    let src_id: NodeId = "alice-device-1".parse().expect("an id");
    let id: EnvelopeId = "fedcba9876543210".parse().expect("an id");
    Stamp {
        src_id,
        src_client_id: Some("alice".parse().expect("an id")),
        timestamp: Millis(1_700_000_000_000),
        id: Some(id),
        session: None,
    }
}

fn decoding(text: &ByteString) -> u128 {
    least(|| {
        black_box(decode(black_box(text), Origin::Device).expect("a good frame"));
    })
}

fn encoding(text: &ByteString) -> u128 {
    let (envelope, stamp) = (decode(text, Origin::Device).expect("a good frame"), stamp());
    least(|| {
        black_box(encode(black_box(&envelope), black_box(&stamp)));
    })
}

fn replaying(text: &ByteString) -> u128 {
    let stored = encode(&decode(text, Origin::Device).expect("a good frame"), &stamp()).text();
    least(|| {
        black_box(with_seq(black_box(&stored), Seq(1_234_567)));
    })
}

fn both(text: &ByteString) -> u128 {
    let stamp = stamp();
    least(|| {
        let envelope = decode(black_box(text), Origin::Device).expect("a good frame");
        black_box(encode(&envelope, black_box(&stamp)));
    })
}

fn least(mut work: impl FnMut()) -> u128 {
    let round = |_| {
        let start = Instant::now();
        (0..PER_ROUND).for_each(|_| work());
        (start.elapsed() / PER_ROUND).as_nanos()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}
