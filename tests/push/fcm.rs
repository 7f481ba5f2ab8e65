//! FCM HTTP v1: the assertion for the access token, `messages:send`, and what its answers lead to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::KeyPair;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Value, json};
use sparkmesh::config::push::{FcmSettings, PushSettings};
use sparkmesh::push::{Provider, PushToken};

use crate::kit::{Asked, Bench, Reply, StandIn, eventually, notification, reply, reply_json, token};

const SEND: &str = "/v1/projects/my-project/messages:send";

#[derive(Deserialize)]
struct Claims {
    iss: String,
    scope: String,
    iat: u64,
    exp: u64,
}

struct Google {
    stand_in: StandIn,
    public: Vec<u8>,
    settings: PushSettings,
}

/// A token endpoint that sells `access-1`, `access-2` ..., and whatever `answer` says to messages.
fn google(bench: &Bench, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Google {
    let sold = AtomicUsize::new(0);
    let stand_in = StandIn::start(move |asked| match asked.path.as_str() {
        "/token" => {
            let number = sold.fetch_add(1, Ordering::SeqCst) + 1;
            let body = json!({"access_token": format!("access-{number}"), "expires_in": 3599, "token_type": "Bearer"});
            reply_json(200, &body)
        }
        SEND => answer(asked),
        _ => reply(404),
    });
    let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let account = json!({
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "key-1",
        "private_key": crate::kit::pem("PRIVATE KEY", private.as_ref()),
        "client_email": "push@my-project.iam.gserviceaccount.com",
        "token_uri": format!("{}/token", stand_in.url),
    });
    let service_account_file = bench.file("fcm.json", account.to_string().as_bytes());
    let fcm = FcmSettings { service_account_file, endpoint: format!("{}/", stand_in.url) };
    let settings = PushSettings { fcm: Some(fcm), ..Bench::settings() };
    Google { public: pair.public_key().as_ref().to_vec(), stand_in, settings }
}

impl Google {
    fn asked(&self, path: &str) -> Vec<Asked> {
        self.stand_in.asked().into_iter().filter(|asked| asked.path == path).collect()
    }

    fn wait_for_sends(&self, count: usize) -> Vec<Asked> {
        eventually(&format!("{count} sends"), || Some(self.asked(SEND)).filter(|asked| asked.len() >= count))
    }
}

fn fcm_token(text: &str) -> Vec<PushToken> {
    vec![token(Provider::Fcm, text)]
}

fn failure(status: u16, word: &str, code: &str) -> Reply {
    let detail = json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code});
    let error = json!({"code": status, "message": "no", "status": word, "details": [detail]});
    reply_json(status, &json!({ "error": error }))
}

#[test]
fn a_wake_up_carries_count_and_sender_and_is_paid_with_a_signed_assertion() {
    let bench = Bench::new();
    let google = google(&bench, |_| reply_json(200, &json!({"name": "projects/my-project/messages/1"})));
    let push = bench.start(&google.settings);
    push.notify(notification("bob", fcm_token("bobs-token")));
    push.notify(notification("carol", fcm_token("carols-token")));
    let sends = google.wait_for_sends(2);
    bench.settled("bob");
    bench.settled("carol");

    let bought = google.asked("/token");
    assert_eq!(bought.len(), 1, "one access token for both");
    assert_eq!(bought[0].headers["content-type"], "application/x-www-form-urlencoded");
    let form = String::from_utf8(bought[0].body.clone()).unwrap();
    let assertion = form
        .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=")
        .expect("the grant type of RFC 7523");
    assert_eq!(jsonwebtoken::decode_header(assertion).unwrap().kid.as_deref(), Some("key-1"));
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[format!("{}/token", google.stand_in.url)]);
    let key = DecodingKey::from_rsa_der(&google.public);
    let claims = jsonwebtoken::decode::<Claims>(assertion, &key, &validation).unwrap().claims;
    assert_eq!(claims.iss, "push@my-project.iam.gserviceaccount.com");
    assert_eq!(claims.scope, "https://www.googleapis.com/auth/firebase.messaging");
    assert!(claims.exp > claims.iat && claims.exp - claims.iat <= 3600);

    for sent in &sends {
        assert_eq!(sent.headers["authorization"], "Bearer access-1");
    }
    let mut messages: Vec<Value> = sends.iter().map(Asked::json).collect();
    messages.sort_by_key(Value::to_string);
    let message = &messages[0]["message"];
    assert_eq!(message["token"], "bobs-token");
    assert_eq!(
        message["data"],
        json!({"notification_type": "101", "payload1": "alice", "pending": "2", "session_id": "room"})
    );
    assert_eq!(message["android"], json!({"priority": "high", "collapse_key": "pending", "ttl": "86400s"}));
    assert_eq!(message["apns"]["payload"]["aps"]["content-available"], 1);
    assert_eq!(message.get("notification"), None, "content is off by default");
    assert!(!message.to_string().contains("nine"));
}

#[test]
fn shown_content_is_the_text_of_type_1() {
    let bench = Bench::new();
    let google = google(&bench, |_| reply(200));
    let push = bench.start(&PushSettings { content: true, ..google.settings.clone() });
    push.notify(notification("bob", fcm_token("t")));
    let message = google.wait_for_sends(1)[0].json()["message"].clone();
    assert_eq!(message["notification"], json!({"title": "New message", "body": "meet at nine"}));
    assert_eq!(message["data"]["message"], "meet at nine");
}

#[test]
fn an_unregistered_token_is_forgotten() {
    let bench = Bench::new();
    let google = google(&bench, |_| failure(404, "NOT_FOUND", "UNREGISTERED"));
    let push = bench.start(&google.settings);
    push.notify(notification("bob", fcm_token("old")));
    bench.kept("bob", "old");
    bench.settled("bob");
    assert_eq!(bench.dead(), [("bob".to_owned(), "old".to_owned())]);
    assert_eq!(google.asked(SEND).len(), 1);
}

#[test]
fn too_many_requests_are_repeated_after_the_time_asked() {
    let bench = Bench::new();
    let tries = AtomicUsize::new(0);
    let google = google(&bench, move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Reply {
            headers: vec![("retry-after", "2".to_owned())],
            ..failure(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
        },
        _ => reply(200),
    });
    let push = bench.start(&google.settings);
    let start = std::time::Instant::now();
    push.notify(notification("bob", fcm_token("t")));
    google.wait_for_sends(2);
    assert!(start.elapsed().as_millis() >= 2000, "{:?}", start.elapsed());
    bench.settled("bob");
    assert!(bench.dead().is_empty());
}

#[test]
fn a_refused_access_token_is_renewed_once_and_the_push_repeated() {
    let bench = Bench::new();
    let google = google(&bench, |asked| match asked.headers["authorization"].as_str() {
        "Bearer access-1" => failure(401, "UNAUTHENTICATED", ""),
        _ => reply(200),
    });
    let push = bench.start(&google.settings);
    push.notify(notification("bob", fcm_token("t")));
    let sends = google.wait_for_sends(2);
    assert_eq!(sends[1].headers["authorization"], "Bearer access-2");
    bench.settled("bob");
    assert_eq!(google.asked("/token").len(), 2);
}

#[test]
fn a_wrong_configuration_kills_no_token_and_keeps_the_notification() {
    for wrong in
        [failure(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), failure(401, "UNAUTHENTICATED", ""), reply(404)]
    {
        let bench = Bench::new();
        let answer = Arc::new(std::sync::Mutex::new(wrong));
        let now = Arc::clone(&answer);
        let google = google(&bench, move |_| now.lock().unwrap().clone());
        let push = bench.start(&google.settings);
        push.notify(notification("bob", fcm_token("t")));
        bench.kept("bob", "\"tries\":1");
        *answer.lock().unwrap() = reply(200);
        bench.settled("bob");
        assert!(bench.dead().is_empty());
        drop(push);
    }
}

#[test]
fn an_unusable_service_account_is_named_at_start() {
    let bench = Bench::new();
    let google = google(&bench, |_| reply(200));
    for (content, expected) in [("{}", "a field is missing"), ("no", "it is no JSON")] {
        bench.file("fcm.json", content.as_bytes());
        let shelf = Arc::clone(&bench.shelf);
        let error = sparkmesh::push::PushQueue::start(
            &google.settings,
            bench.dir.path(),
            Arc::clone(&shelf) as _,
            shelf,
            Arc::new(|_, _| {}),
        );
        let error = error.err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains("fcm.json"), "{error}");
    }
}
