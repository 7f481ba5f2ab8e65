//! The queue: throttle, collapse, cancelling, bounds, and what outlives a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sparkmesh::config::push::PushSettings;
use sparkmesh::push::{Notification, Provider};
use sparkmesh::store::{Store, Table, Write};

use crate::kit::{Bench, Reply, StandIn, eventually, notification, reply, token};

fn pending(pending: u64, notification: Notification) -> Notification {
    Notification { pending, ..notification }
}

#[test]
fn within_the_window_many_become_one_with_the_latest() {
    let bench = Bench::new();
    let receiver = StandIn::start(|_| reply(200));
    let push = bench.start(&PushSettings { throttle_seconds: 2, ..bench.with_webhook() });
    let bob = || notification("bob", vec![token(Provider::Webhook, &receiver.url)]);
    push.notify(pending(1, bob()));
    receiver.wait_for(1);
    bench.settled("bob");
    let sent = Instant::now();
    for count in 2..=500 {
        push.notify(pending(count, bob()));
    }
    bench.kept("bob", "\"pending\":500");
    let asked = receiver.wait_for(2);
    assert!(sent.elapsed() >= Duration::from_millis(1900), "{:?}", sent.elapsed());
    bench.settled("bob");
    assert_eq!((asked.len(), asked[1].json()["pending"].as_u64()), (2, Some(500)));
}

#[test]
fn connecting_cancels_what_waits_and_resets_the_throttle() {
    let bench = Bench::new();
    let receiver = StandIn::start(|_| reply(200));
    let push = bench.start(&PushSettings { throttle_seconds: 3600, ..bench.with_webhook() });
    let bob = || notification("bob", vec![token(Provider::Webhook, &receiver.url)]);
    push.notify(pending(1, bob()));
    receiver.wait_for(1);
    bench.settled("bob");
    push.notify(pending(2, bob()));
    bench.kept("bob", "\"pending\":2");
    push.connected("bob".parse().unwrap());
    bench.settled("bob");
    push.notify(pending(3, bob()));
    let asked = receiver.wait_for(2);
    assert_eq!(asked[1].json()["pending"], 3, "the second was cancelled, the third goes at once");
    bench.settled("bob");

    push.notify(pending(4, bob()));
    bench.kept("bob", "\"pending\":4");
    push.emptied("bob".parse().unwrap());
    bench.settled("bob");
    push.notify(pending(5, bob()));
    bench.kept("bob", "\"pending\":5");
    assert_eq!(receiver.asked().len(), 2, "fetching without connecting cancels, but the window holds");
}

#[test]
fn what_waits_survives_a_restart() {
    let bench = Bench::new();
    let well = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&well);
    let receiver = StandIn::start(move |_| reply(if now.load(Ordering::SeqCst) { 200 } else { 503 }));
    let settings = bench.with_webhook();

    let push = bench.start(&settings);
    push.notify(pending(7, notification("bob", vec![token(Provider::Webhook, &receiver.url)])));
    bench.kept("bob", "\"tries\":1");
    assert!(!bench.shelf.kept("bob").unwrap().contains("nine"), "no content is kept where none may be shown");
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(push.stop());
    let before = receiver.asked().len();
    push.notify(notification("late", vec![token(Provider::Webhook, &receiver.url)]));
    drop(push);

    // A server that starts finds what it cannot read too, and lets it go.
    let broken = Write::Put { table: Table::Push, key: "eve".into(), value: "torn".into() };
    bench.shelf.commit(&[broken]).unwrap();
    well.store(true, Ordering::SeqCst);
    let push = bench.start(&settings);
    let asked = receiver.wait_for(before + 1);
    assert_eq!(asked[before].json()["pending"], 7);
    bench.settled("bob");
    bench.settled("eve");
    drop(push);
}

#[test]
fn dropping_the_last_handle_ends_it_too() {
    let bench = Bench::new();
    let receiver = StandIn::start(|_| reply(503));
    let push = bench.start(&bench.with_webhook());
    let other = push.clone();
    drop(push);
    other.notify(notification("bob", vec![token(Provider::Webhook, &receiver.url)]));
    bench.kept("bob", "\"tries\":1");
    drop(other);
    eventually("the thread to let go of the store", || (Arc::strong_count(&bench.shelf) == 1).then_some(()));
    assert!(bench.shelf.kept("bob").is_some());
}

#[test]
fn no_more_are_under_way_than_allowed_and_none_is_forgotten() {
    let bench = Bench::new();
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, highest) = (Arc::clone(&under_way), Arc::clone(&most));
    // The stand-in cannot see the end of a request, so each is let go by a thread of its own a little before its answer.
    let receiver = StandIn::start(move |_| {
        highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let now = Arc::clone(&now);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(40));
            now.fetch_sub(1, Ordering::SeqCst);
        });
        Reply { delay: Duration::from_millis(60), ..reply(200) }
    });
    let push = bench.start(&PushSettings { in_flight: 3, ..bench.with_webhook() });
    for device in 0..30 {
        push.notify(notification(&format!("device{device}"), vec![token(Provider::Webhook, &receiver.url)]));
    }
    let asked = receiver.wait_for(30);
    let mut devices: Vec<String> = asked.iter().map(|asked| asked.json()["node_id"].to_string()).collect();
    devices.sort();
    devices.dedup();
    assert_eq!(devices.len(), 30);
    assert!((2..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[test]
fn a_provider_that_hangs_is_given_up_on_and_holds_up_no_other() {
    let bench = Bench::new();
    let hanging = StandIn::start(|_| Reply { delay: Duration::from_secs(3600), ..reply(200) });
    let receiver = StandIn::start(|_| reply(201));
    let subscription = crate::webpush::subscription(&receiver.url);
    let settings = PushSettings {
        in_flight: 1,
        timeout_seconds: 1,
        webpush: Some(crate::webpush::settings()),
        ..bench.with_webhook()
    };
    let push = bench.start(&settings);
    for device in ["a", "b", "c"] {
        push.notify(notification(device, vec![token(Provider::Webhook, &hanging.url)]));
    }
    hanging.wait_for(1);
    push.notify(notification("d", vec![token(Provider::Webpush, &subscription)]));
    receiver.wait_for(1);
    bench.settled("d");
    for device in ["a", "b", "c"] {
        bench.kept(device, "\"tries\":1");
    }
}

#[test]
fn a_provider_that_is_not_set_up_is_no_reason_to_wait() {
    let bench = Bench::new();
    let receiver = StandIn::start(|_| reply(200));
    let push = bench.start(&bench.with_webhook());
    let tokens = vec![token(Provider::Fcm, "x"), token(Provider::Webhook, &receiver.url)];
    push.notify(notification("bob", tokens));
    receiver.wait_for(1);
    bench.settled("bob");
    assert_eq!(push.vapid_public_key(), None);
}
