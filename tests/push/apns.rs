//! APNs: HTTP/2 against Node's server, the provider token verified with its public key, answers.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use sparkmesh::config::push::{ApnsSettings, PushSettings};
use sparkmesh::push::{Provider, PushToken};

use crate::kit::{Bench, eventually, notification, pem, script, token};

struct Apple {
    node: Child,
    asked: Arc<Mutex<Vec<Value>>>,
    settings: PushSettings,
    public: Vec<u8>,
}

impl Drop for Apple {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

fn apple(bench: &Bench) -> Apple {
    let (key, certificate) = (bench.dir.path().join("tls.key"), bench.dir.path().join("tls.pem"));
    let openssl = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=stand-in", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("this test needs openssl, to make a certificate");
    assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));

    let mut node = Command::new("node")
        .arg(script("apns.cjs"))
        .args([&key, &certificate])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs node");
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let port = lines.next().expect("the stand-in says its port").unwrap();
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let record = Arc::clone(&asked);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            record.lock().unwrap().push(serde_json::from_str(&line).unwrap());
        }
    });

    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let key_file = bench.file("AuthKey_KEY123.p8", pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()).as_bytes());
    let apns = ApnsSettings {
        key_file,
        key_id: "KEY123".to_owned(),
        team_id: "TEAM99".to_owned(),
        topic: "org.example.app".to_owned(),
        endpoint: format!("https://127.0.0.1:{port}"),
    };
    let settings = PushSettings { apns: Some(apns), ca_file: Some(certificate), ..Bench::settings() };
    Apple { node, asked, settings, public: pair.public_key().as_ref().to_vec() }
}

impl Apple {
    fn wait_for(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} requests"), || {
            let asked = self.asked.lock().unwrap();
            (asked.len() >= count).then(|| asked.clone())
        })
    }
}

/// A device token that makes the stand-in answer `times` times with the status and the reason's number.
fn device(status: u16, reason: u8, times: u8) -> Vec<PushToken> {
    vec![token(Provider::Apns, &format!("{}{status:03}{reason}{times:02}", "ab".repeat(29)))]
}

const GOOD: (u16, u8, u8) = (200, 0, 0);

#[test]
fn a_wake_up_is_a_background_notification_and_words_are_an_alert() {
    let bench = Bench::new();
    let apple = apple(&bench);
    let push = bench.start(&apple.settings);
    push.notify(notification("bob", device(GOOD.0, GOOD.1, GOOD.2)));
    let asked = apple.wait_for(1).remove(0);
    bench.settled("bob");
    assert_eq!(asked["alpn"], "h2");
    assert_eq!(
        (&asked[":method"], &asked[":path"]),
        (&json!("POST"), &json!(format!("/3/device/{}", device(GOOD.0, GOOD.1, GOOD.2)[0].token)))
    );
    for (name, value) in [
        ("apns-topic", "org.example.app"),
        ("apns-push-type", "background"),
        ("apns-priority", "5"),
        ("apns-collapse-id", "pending"),
    ] {
        assert_eq!(asked[name], value, "{name}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let until: u64 = asked["apns-expiration"].as_str().unwrap().parse().unwrap();
    assert!(until > now && until <= now + 24 * 3600);
    let body: Value = serde_json::from_str(asked["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        body,
        json!({"aps": {"content-available": 1}, "notification_type": "101", "payload1": "alice", "pending": 2,
            "session_id": "room"})
    );

    let jwt = asked["authorization"].as_str().unwrap().strip_prefix("bearer ").unwrap();
    assert_eq!(jsonwebtoken::decode_header(jwt).unwrap().kid.as_deref(), Some("KEY123"));
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_required_spec_claims(&["iss"]);
    validation.set_issuer(&["TEAM99"]);
    let key = DecodingKey::from_ec_der(&apple.public);
    let claims = jsonwebtoken::decode::<Value>(jwt, &key, &validation).unwrap().claims;
    assert!(claims["iat"].as_u64().unwrap().abs_diff(now) < 60);

    let push = bench.start(&PushSettings { content: true, ..apple.settings.clone() });
    push.notify(notification("carol", device(GOOD.0, GOOD.1, GOOD.2)));
    let asked = apple.wait_for(2).remove(1);
    assert_eq!((&asked["apns-push-type"], &asked["apns-priority"]), (&json!("alert"), &json!("10")));
    let body: Value = serde_json::from_str(asked["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["aps"]["alert"], json!({"title": "New message", "body": "meet at nine"}));
    assert_eq!(body["aps"]["badge"], 2);
}

#[test]
fn bad_and_unregistered_tokens_are_dead() {
    let bench = Bench::new();
    let apple = apple(&bench);
    let push = bench.start(&apple.settings);
    push.notify(notification("bob", device(400, 1, 99)));
    push.notify(notification("carol", device(410, 2, 99)));
    apple.wait_for(2);
    bench.settled("bob");
    bench.settled("carol");
    push.notify(notification("dave", vec![token(Provider::Apns, "../../evil")]));
    bench.kept("dave", "evil");
    bench.settled("dave");
    let mut dead: Vec<String> = bench.dead().into_iter().map(|(device, _)| device).collect();
    dead.sort();
    assert_eq!((dead, apple.wait_for(2).len()), (vec!["bob".into(), "carol".into(), "dave".into()], 2));
}

#[test]
fn an_expired_provider_token_is_renewed_once() {
    let bench = Bench::new();
    let apple = apple(&bench);
    let push = bench.start(&apple.settings);
    push.notify(notification("bob", device(403, 3, 1)));
    let asked = apple.wait_for(2);
    bench.settled("bob");
    assert_ne!(asked[0]["authorization"], asked[1]["authorization"]);
    assert_eq!(asked[0][":path"], asked[1][":path"]);

    // Where even that is called expired, it is not the token's age; Apple punishes those who renew often.
    push.notify(notification("carol", device(403, 3, 99)));
    bench.kept("carol", "\"tries\":2");
    let asked = apple.wait_for(4);
    assert!(asked[1..].iter().all(|one| one["authorization"] == asked[1]["authorization"]));
    assert!(bench.dead().is_empty());
}

#[test]
fn a_busy_or_wrongly_set_up_apns_is_tried_again() {
    let bench = Bench::new();
    let apple = apple(&bench);
    let push = bench.start(&apple.settings);
    push.notify(notification("busy", device(429, 4, 1)));
    push.notify(notification("broken", device(500, 5, 1)));
    push.notify(notification("wrong", device(403, 6, 1)));
    let asked = apple.wait_for(6);
    for device in ["busy", "broken", "wrong"] {
        bench.settled(device);
    }
    assert_eq!((asked.len(), bench.dead().len()), (6, 0));
}

#[test]
fn a_server_that_is_not_trusted_gets_nothing() {
    let bench = Bench::new();
    let apple = apple(&bench);
    let push = bench.start(&PushSettings { ca_file: None, ..apple.settings.clone() });
    push.notify(notification("bob", device(GOOD.0, GOOD.1, GOOD.2)));
    bench.kept("bob", "\"tries\":1");
    assert!(apple.asked.lock().unwrap().is_empty());
}
