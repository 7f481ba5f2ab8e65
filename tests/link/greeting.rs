//! Who gets in over a real socket, and who does not.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::kit::{Plan, id};

fn failures(reason: &str) -> u64 {
    sparkmesh::metrics::LINK_FAILURES.with_label_values(&[reason]).get()
}

async fn until_failed(reason: &str, before: u64) {
    for _ in 0..1000 {
        if failures(reason) > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody counted a failure: {reason}");
}

#[actix::test]
async fn a_server_with_another_secret_does_not_get_in() {
    let before = failures("secret");
    let a = Plan::new("a").start();
    let b = Plan { secret: "another-secret-here", ..Plan::new("b") }.dials(a.port).start();
    until_failed("secret", before).await;
    for server in [&a, &b] {
        let seen = server.log.lock().unwrap();
        assert_eq!((seen.ups, seen.met), (0, 0));
    }
}

#[actix::test]
async fn a_forgotten_server_does_not_get_in_from_either_side() {
    let before = failures("refused");
    let a = Plan { forgets: Some("b"), ..Plan::new("a") }.start();
    let b = Plan::new("b").dials(a.port).start();
    until_failed("refused", before + 1).await;
    let c = Plan { forgets: Some("d"), ..Plan::new("c") };
    let d = Plan::new("d").start();
    let before = failures("refused");
    let c = c.dials(d.port).start();
    until_failed("refused", before + 1).await;
    for server in [&a, &b, &c, &d] {
        assert_eq!(server.log.lock().unwrap().ups, 0, "{}", server.name);
    }
}

#[actix::test]
async fn a_server_that_is_given_its_own_address_gives_it_up() {
    let a = Plan::new("a").start();
    let before = failures("own_id");
    // Another one with the same id is the same to the greeting.
    let same = Plan::new("a").dials(a.port).start();
    until_failed("own_id", before).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(failures("own_id") <= before + 1, "it is dialled once");
    assert_eq!(same.log.lock().unwrap().ups, 0);
}

#[actix::test]
async fn a_stranger_gets_an_end_and_a_server_still_gets_in() {
    let a = Plan::new("a").start();
    let url = format!("ws://127.0.0.1:{}/v1/link", a.port);
    let hello = b"sparkmesh link\x00\x63";
    let mut other_version = (1 + hello.len() as u32).to_be_bytes().to_vec();
    other_version.push(1);
    other_version.extend_from_slice(hello);
    for message in [
        Message::text("hello"),
        Message::binary(vec![]),
        Message::binary(vec![0; 3]),
        Message::binary(vec![255; 8]),
        Message::binary(vec![0; 1 << 20]),
        Message::binary(other_version),
    ] {
        let (mut socket, _) = tokio_tungstenite::connect_async(url.as_str()).await.unwrap();
        let what = format!("{message:?}");
        // It may be cut off while it writes.
        let _ = socket.send(message).await;
        let end =
            tokio::time::timeout(Duration::from_secs(5), async { while let Some(Ok(_)) = socket.next().await {} });
        assert!(end.await.is_ok(), "nobody ended {}", &what[..what.len().min(60)]);
    }
    let b = Plan::new("b").dials(a.port).start();
    a.until_linked(&b).await;
    assert!(a.log.lock().unwrap().up.values().all(|link| link.0 == id("b")));
}
