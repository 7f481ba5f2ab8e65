//! Addresses that users name must not reach what only this machine can.

use std::net::{TcpListener, TcpStream};

use sparkmesh::config::push::{PushSettings, WebPushSettings};
use sparkmesh::push::Provider;

use crate::kit::{Bench, Reply, StandIn, notification, reply, token};

const KEYS: &str = r#""keys":{"p256dh":
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
    "auth":"BTBZMqHH6r4Tts7J_aSIgg"}"#;

/// Whether anybody has connected; closes the door.
fn was_reached(door: &TcpListener) -> bool {
    door.set_nonblocking(true).unwrap();
    door.accept().is_ok()
}

#[test]
fn private_addresses_are_refused_without_a_connection() {
    let bench = Bench::new();
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = door.local_addr().unwrap().port();
    let subject = "mailto:ops@example.org".to_owned();
    let webpush = Some(WebPushSettings { subject, key_file: None });
    let settings = PushSettings { allow_private: false, webpush, ..bench.with_webhook() };
    let push = bench.start(&settings);
    for (number, host) in
        ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0", "127.0.0.1."]
            .iter()
            .enumerate()
    {
        let url = format!("https://{host}:{port}/");
        let subscription = format!(r#"{{"endpoint":"{url}",{KEYS}}}"#);
        let device = format!("device{number}");
        let tokens = vec![token(Provider::Webhook, &url), token(Provider::Webpush, &subscription)];
        push.notify(notification(&device, tokens));
        bench.kept(&device, &format!("{port}/"));
        bench.settled(&device);
        assert!(!was_reached(&door), "{host}");
    }
    assert!(bench.dead().is_empty(), "a refused address is no dead token");

    // The same door opens where the operator allows it, so it was the guard that kept it shut.
    let push = bench.start(&PushSettings { allow_private: true, ..settings });
    door.set_nonblocking(false).unwrap();
    push.notify(notification("allowed", vec![token(Provider::Webhook, &format!("https://localhost:{port}/"))]));
    let (_stream, _): (TcpStream, _) = door.accept().unwrap();
}

#[test]
fn plain_http_is_refused() {
    let bench = Bench::new();
    let receiver = StandIn::start(|_| reply(200));
    let push = bench.start(&PushSettings { allow_private: false, ..bench.with_webhook() });
    push.notify(notification("bob", vec![token(Provider::Webhook, &receiver.url)]));
    bench.kept("bob", "127.0.0.1");
    bench.settled("bob");
    assert!(receiver.asked().is_empty());
}

#[test]
fn a_redirect_is_not_followed() {
    let bench = Bench::new();
    let inner = StandIn::start(|_| reply(200));
    let to = inner.url.clone();
    let outer = StandIn::start(move |_| Reply { headers: vec![("location", to.clone())], ..reply(307) });
    let push = bench.start(&bench.with_webhook());
    push.notify(notification("bob", vec![token(Provider::Webhook, &outer.url)]));
    outer.wait_for(1);
    bench.settled("bob");
    assert!(inner.asked().is_empty());
}
