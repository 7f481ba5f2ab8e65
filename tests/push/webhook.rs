//! Webhooks: the signature, and what answers lead to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sparkmesh::config::push::PushSettings;
use sparkmesh::push::Provider;

use crate::kit::{Bench, Reply, StandIn, WEBHOOK_SECRET, notification, reply, token};

#[test]
fn the_receiver_can_verify_what_it_gets() {
    let bench = Bench::new();
    let receiver = StandIn::start(|_| reply(204));
    let push = bench.start(&PushSettings { content: true, ..bench.with_webhook() });
    push.notify(notification("bob", vec![token(Provider::Webhook, &format!("{}/hook?x=1", receiver.url))]));
    let asked = receiver.wait_for(1).remove(0);
    bench.settled("bob");

    assert_eq!((asked.path.as_str(), asked.headers["content-type"].as_str()), ("/hook?x=1", "application/json"));
    let expected = json!({"notification_type": "101", "pending": 2, "payload1": "alice", "session_id": "room",
        "node_id": "bob", "title": "New message", "message": "meet at nine"});
    assert_eq!(asked.json(), expected);
    let (time, tag) = asked.headers["sparkmesh-signature"].split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(time.parse().unwrap()) < 60);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(WEBHOOK_SECRET).unwrap();
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(&asked.body);
    mac.verify_slice(&hex::decode(tag).unwrap()).unwrap();
}

#[test]
fn gone_is_dead_and_a_date_to_retry_after_is_kept_to() {
    let bench = Bench::new();
    let tries = AtomicUsize::new(0);
    let receiver = StandIn::start(move |asked| match (asked.path.as_str(), tries.fetch_add(1, Ordering::SeqCst)) {
        ("/gone", _) => reply(410),
        (_, 0) => {
            let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
            Reply { headers: vec![("retry-after", date)], ..reply(503) }
        }
        _ => reply(200),
    });
    let push = bench.start(&bench.with_webhook());
    let start = std::time::Instant::now();
    push.notify(notification("bob", vec![token(Provider::Webhook, &format!("{}/busy", receiver.url))]));
    receiver.wait_for(2);
    // A date has whole seconds: 3 s from now are at least 2.
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    bench.settled("bob");

    let gone = format!("{}/gone", receiver.url);
    push.notify(notification("carol", vec![token(Provider::Webhook, &gone)]));
    receiver.wait_for(3);
    bench.settled("carol");
    assert_eq!(bench.dead(), [("carol".to_owned(), gone)]);
}

#[test]
fn an_endless_answer_does_no_harm() {
    let bench = Bench::new();
    let receiver = StandIn::start(|_| Reply { body: "x".repeat(8 << 20), ..reply(200) });
    let push = bench.start(&bench.with_webhook());
    push.notify(notification("bob", vec![token(Provider::Webhook, &receiver.url)]));
    receiver.wait_for(1);
    bench.settled("bob");
    assert!(bench.dead().is_empty());
}

#[test]
fn a_token_that_is_no_address_is_dead() {
    let bench = Bench::new();
    let push = bench.start(&bench.with_webhook());
    push.notify(notification("bob", vec![token(Provider::Webhook, "not an address")]));
    bench.kept("bob", "not an address");
    bench.settled("bob");
    assert_eq!(bench.dead(), [("bob".to_owned(), "not an address".to_owned())]);
}
