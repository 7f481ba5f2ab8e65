//! kill -9 while appending, again and again: no confirmed envelope is lost, order is kept, and the server opens its store
//! each time. The real program, real sled files, a WebSocket client that is not ours.
//!
//! `SPARKMESH_KILLS` sets the number of kills (200), `SPARKMESH_SEED` the moments.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use sparkmesh::auth::key::{Claims, Keyring};
use sparkmesh::auth::secrets::Secrets;
use sparkmesh::model::ids::Millis;
use tokio_tungstenite::tungstenite::Message;

const SECRET: &str = "a secret of this test alone";
const SENDERS: usize = 3;
const WINDOW: usize = 32;

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_sparkmesh"))
            .args(["serve", "--port", "0", "--allow-direct", "--inbox-max-count", "1000000", "--data-dir"])
            .arg(dir.join("data"))
            .env_remove("RUST_LOG")
            .env("SPARKMESH_SECRET", SECRET)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().and_then(Result::ok).unwrap_or_default();
        let url = line.strip_prefix("sparkmesh ready on ").unwrap_or_else(|| {
            let log = std::fs::read_to_string(dir.join("log")).unwrap();
            panic!("the server did not start: {line:?}\n{}", log.lines().rev().take(10).collect::<Vec<_>>().join("\n"))
        });
        Self { child, url: url.to_owned() }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn key(node: &str) -> String {
    let in_an_hour =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64 + 3_600_000;
    let keyring = Keyring::new(Secrets::parse(SECRET, "the test").unwrap());
    keyring.mint(&Claims::new(node.parse().unwrap(), Millis(in_an_hour)))
}

/// Sends numbered envelopes to a device that is away until the server is gone; which ones were confirmed.
async fn send_until_the_end(url: String, sender: usize, round: usize) -> Vec<u64> {
    let url = format!("{}/connectV2?auth_key={}", url.replacen("http", "ws", 1), key(&format!("sender-{sender}")));
    let Ok((mut socket, _)) = tokio_tungstenite::connect_async(url).await else { return Vec::new() };
    let mut confirmed = Vec::new();
    let mut next = 0u64;
    let padding = "x".repeat(300);
    loop {
        while (next as usize) < confirmed.len() + WINDOW {
            let text = format!(
                r#"{{"dest_id":"away-{sender}","type":1,"id":"{round}-{next}","reference":"{next}","payload":"{padding}"}}"#
            );
            if socket.feed(Message::text(text)).await.is_err() {
                return confirmed;
            }
            next += 1;
        }
        if socket.flush().await.is_err() {
            return confirmed;
        }
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
                if frame["type"] == -7 {
                    assert_eq!(frame["status"], "stored", "{text}");
                    confirmed.push(frame["reference"].as_str().unwrap().parse().unwrap());
                }
                assert_ne!(frame["type"], -8, "{text}");
            }
            Some(Ok(_)) => {}
            _ => return confirmed,
        }
    }
}

/// A device that was never here has a small inbox.
async fn introduce(http: &reqwest::Client, url: &str, sender: usize) {
    let auth = format!("Bearer {}", key(&format!("away-{sender}")));
    let offer = http.get(format!("{url}/v1/connect-info")).header("authorization", &auth).send().await.unwrap();
    assert!(offer.status().is_success(), "{}", offer.status());
}

/// Everything that waits for the device, acknowledged after it was read.
async fn empty_inbox(http: &reqwest::Client, url: &str, sender: usize) -> Vec<String> {
    let auth = format!("Bearer {}", key(&format!("away-{sender}")));
    let mut ids = Vec::new();
    let mut after = 0;
    loop {
        let page = http.get(format!("{url}/v1/inbox?after={after}&limit=1000")).header("authorization", &auth);
        let page: serde_json::Value = serde_json::from_str(&page.send().await.unwrap().text().await.unwrap()).unwrap();
        let messages = page["messages"].as_array().unwrap_or_else(|| panic!("{page}"));
        for message in messages {
            assert!(message["seq"].as_u64().unwrap() > after, "sequence numbers grow");
            after = message["seq"].as_u64().unwrap();
            ids.push(message["id"].as_str().unwrap().to_owned());
        }
        if page["more"] != true {
            break;
        }
    }
    let trimmed =
        http.delete(format!("{url}/v1/inbox?to={after}")).header("authorization", &auth).send().await.unwrap();
    assert!(trimmed.status().is_success(), "{}", trimmed.status());
    ids
}

#[tokio::test]
async fn no_confirmed_envelope_is_lost() {
    let kills: usize = std::env::var("SPARKMESH_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let mut random: u64 = std::env::var("SPARKMESH_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0x5EED);
    let dir = tempfile::tempdir().unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut confirmed_last: Vec<Vec<u64>> = vec![Vec::new(); SENDERS];
    let (mut confirmed_all, mut stored_all) = (0, 0);
    let mut slowest = Duration::ZERO;
    for round in 1..=kills + 1 {
        let began = Instant::now();
        let server = Server::start(dir.path());
        slowest = slowest.max(began.elapsed());
        for sender in 0..SENDERS {
            introduce(&http, &server.url, sender).await;
        }
        for (sender, confirmed) in confirmed_last.iter().enumerate() {
            let ids = empty_inbox(&http, &server.url, sender).await;
            let numbers: Vec<u64> = ids
                .iter()
                .map(|id| {
                    id.strip_prefix(&format!("{}-", round - 1)).unwrap_or_else(|| panic!("{id} in round {round}"))
                })
                .map(|n| n.parse().unwrap())
                .collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "round {round}: order and no duplicates: {numbers:?}");
            let there: HashSet<u64> = numbers.iter().copied().collect();
            let lost: Vec<_> = confirmed.iter().filter(|n| !there.contains(n)).collect();
            assert!(lost.is_empty(), "round {round}, seed {random}: confirmed and lost: {lost:?}");
            confirmed_all += confirmed.len();
            stored_all += numbers.len();
        }
        if round > kills {
            server.kill();
            break;
        }
        let senders: Vec<_> =
            (0..SENDERS).map(|sender| tokio::spawn(send_until_the_end(server.url.clone(), sender, round))).collect();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // A random moment is the point of this test; nothing is waited for here.
        tokio::time::sleep(Duration::from_millis((random >> 33) % 150)).await;
        server.kill();
        for (sender, task) in senders.into_iter().enumerate() {
            confirmed_last[sender] = task.await.unwrap();
        }
    }
    println!(
        "{kills} kills: {confirmed_all} confirmed, {stored_all} found, 0 lost; slowest start {} ms",
        slowest.as_millis()
    );
    assert!(confirmed_all > 0, "nothing was confirmed: the test proves nothing");
}

/// Joins that are under way at once end in one session that is there, whole, after a crash.
#[tokio::test]
async fn joins_at_once_are_all_kept() {
    const JOINERS: usize = 50;
    let dir = tempfile::tempdir().unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = |url: String, node: String, body: &'static str| {
        http.post(url).header("authorization", format!("Bearer {}", key(&node))).body(body).send()
    };
    let server = Server::start(dir.path());
    let made =
        post(format!("{}/v1/sessions", server.url), "owner".into(), r#"{"session_id":"room","anyone_can_join":true}"#);
    assert_eq!(made.await.unwrap().status(), 201);
    let url = format!("{}/v1/sessions/room/join", server.url);
    let joins: Vec<_> = (0..JOINERS).map(|n| tokio::spawn(post(url.clone(), format!("joiner-{n}"), "{}"))).collect();
    for join in joins {
        assert!(join.await.unwrap().unwrap().status().is_success());
    }
    server.kill();
    let server = Server::start(dir.path());
    let room = http.get(format!("{}/v1/sessions/room", server.url));
    let room = room.header("authorization", format!("Bearer {}", key("owner"))).send().await.unwrap();
    let room: serde_json::Value = serde_json::from_str(&room.text().await.unwrap()).unwrap();
    assert_eq!(room["members"].as_array().map(Vec::len), Some(JOINERS + 1), "{room}");
    server.kill();
}
