//! Web Push: VAPID verified with its own key, bodies decrypted by the npm package `http_ece`, answers.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Value, json};
use sparkmesh::config::push::{PushSettings, WebPushSettings};
use sparkmesh::push::Provider;

use crate::kit::{Bench, Reply, StandIn, notification, reply, script, token};

#[derive(Deserialize)]
struct Claims {
    exp: u64,
    sub: String,
}

const PACKAGE: &str = "http_ece@1.2.1";

pub(crate) fn settings() -> WebPushSettings {
    WebPushSettings { subject: "mailto:ops@example.org".to_owned(), key_file: None }
}

/// A browser whose private key nobody knows.
pub(crate) fn subscription(endpoint: &str) -> String {
    let keys = json!({
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "auth": "BTBZMqHH6r4Tts7J_aSIgg",
    });
    json!({ "endpoint": endpoint, "expirationTime": null, "keys": keys }).to_string()
}

/// Where `http_ece` is installed, which the first call does.
fn modules() -> PathBuf {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    let install = || {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("http_ece");
        if !dir.join("node_modules/http_ece/package.json").exists() {
            std::fs::create_dir_all(&dir).unwrap();
            let npm = Command::new("npm")
                .args(["install", "--no-audit", "--no-fund", "--no-save", "--prefix"])
                .arg(&dir)
                .arg(PACKAGE)
                .output()
                .expect("this test needs npm, to install the independent implementation of Web Push's encryption");
            assert!(npm.status.success(), "npm cannot install {PACKAGE}: {}", String::from_utf8_lossy(&npm.stderr));
        }
        dir.join("node_modules")
    };
    INSTALLED.get_or_init(install).clone()
}

/// Asks the script, one JSON for another.
fn browser(question: &Value) -> Value {
    let mut node = Command::new("node")
        .arg(script("browser.cjs"))
        .env("NODE_PATH", modules())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs node");
    node.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn another_implementation_reads_what_was_encrypted() {
    let bench = Bench::new();
    let service = StandIn::start(|_| reply(201));
    let keys = browser(&json!({"do": "keys"}));
    let subscription = json!({ "endpoint": format!("{}/wpush/v2/abc", service.url),
        "keys": {"p256dh": keys["public"], "auth": keys["auth"]} });
    let settings = PushSettings { content: true, webpush: Some(settings()), ..Bench::settings() };
    let push = bench.start(&settings);
    push.notify(notification("bob", vec![token(Provider::Webpush, &subscription.to_string())]));
    let asked = service.wait_for(1).remove(0);
    bench.settled("bob");

    assert_eq!(asked.path, "/wpush/v2/abc");
    let header = |name: &str| asked.headers[name].as_str();
    assert_eq!((header("content-encoding"), header("ttl")), ("aes128gcm", "86400"));
    assert_eq!((header("urgency"), header("topic")), ("high", "pending"));
    let body = URL_SAFE_NO_PAD.encode(&asked.body);
    let read = browser(&json!({"do": "decrypt", "keys": keys, "body": body}));
    assert_eq!(
        read,
        json!({"notification_type": "101", "pending": 2, "payload1": "alice", "session_id": "room",
            "title": "New message", "message": "meet at nine"})
    );

    let (jwt, key) = header("authorization").strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
    assert_eq!(Some(key), push.vapid_public_key(), "browsers are given the key that signs");
    let point = URL_SAFE_NO_PAD.decode(key).unwrap();
    let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
    let key = DecodingKey::from_ec_components(&coordinate(1..33), &coordinate(33..65)).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[&service.url]);
    let claims = jsonwebtoken::decode::<Claims>(jwt, &key, &validation).unwrap().claims;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(claims.sub, "mailto:ops@example.org");
    assert!(claims.exp > now && claims.exp <= now + 24 * 3600);
}

#[test]
fn the_key_outlives_a_restart() {
    let bench = Bench::new();
    let settings = PushSettings { webpush: Some(settings()), ..Bench::settings() };
    let first = bench.start(&settings).vapid_public_key().unwrap().to_owned();
    assert_eq!(bench.start(&settings).vapid_public_key(), Some(first.as_str()));
}

#[test]
fn answers_are_heeded() {
    let bench = Bench::new();
    let service = StandIn::start(|asked| match asked.path.as_str() {
        "/gone" => reply(410),
        "/unknown" => reply(404),
        "/large" => reply(413),
        "/busy" => Reply { headers: vec![("retry-after", "3600".to_owned())], ..reply(429) },
        "/key" => reply(403),
        _ => reply(201),
    });
    let settings = PushSettings { webpush: Some(settings()), ..Bench::settings() };
    let push = bench.start(&settings);
    for device in ["gone", "unknown", "large", "busy", "key"] {
        let subscription = subscription(&format!("{}/{device}", service.url));
        push.notify(notification(device, vec![token(Provider::Webpush, &subscription)]));
    }
    push.notify(notification("garbled", vec![token(Provider::Webpush, "{}")]));
    service.wait_for(5);
    for device in ["gone", "unknown", "large", "garbled"] {
        bench.settled(device);
    }
    bench.kept("busy", "\"tries\":1");
    bench.kept("key", "\"tries\":1");
    let mut dead: Vec<String> = bench.dead().into_iter().map(|(device, _)| device).collect();
    dead.sort();
    assert_eq!(dead, ["garbled", "gone", "unknown"]);
}
