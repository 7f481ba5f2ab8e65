//! What the tests share: a store in memory, an HTTP stand-in that records what it is asked, and a queue under test.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use sparkmesh::config::push::{PushSettings, WebhookSettings};
use sparkmesh::model::ids::{Epoch, NodeId};
use sparkmesh::push::{Notification, Provider, PushHandle, PushQueue, PushToken};
use sparkmesh::store::{Done, Journal, Order, Store, StoreError, Table, Usage, Write};

pub(crate) const WEBHOOK_SECRET: &[u8] = b"the secret of the webhooks";

/// Ordered tables in memory; as a journal it commits at once. Remembers all that was ever put into it, so that a test
/// does not miss what was there for a moment.
#[derive(Default)]
pub(crate) struct Shelf {
    now: Mutex<BTreeMap<(Table, Vec<u8>), Bytes>>,
    ever: Mutex<Vec<(Vec<u8>, Bytes)>>,
}

impl Shelf {
    /// What is kept for `device`, as text.
    pub(crate) fn kept(&self, device: &str) -> Option<String> {
        let value = self.get(Table::Push, device.as_bytes()).unwrap()?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    fn was_ever_kept(&self, device: &str, what: &str) -> bool {
        let ever = self.ever.lock().unwrap();
        ever.iter().any(|(key, value)| key == device.as_bytes() && String::from_utf8_lossy(value).contains(what))
    }
}

impl Store for Shelf {
    fn epoch(&self) -> Epoch {
        Epoch(1)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut tables = self.now.lock().unwrap();
        for write in writes.iter().cloned() {
            match write {
                Write::Put { table, key, value } => {
                    self.ever.lock().unwrap().push((key.to_vec(), value.clone()));
                    tables.insert((table, key.to_vec()), value);
                }
                Write::Delete { table, key } => drop(tables.remove(&(table, key.to_vec()))),
            }
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.now.lock().unwrap().get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        assert_eq!(order, Order::Ascending, "push reads in one direction only");
        let range = (Bound::Included((table, from.to_vec())), Bound::Excluded((table, to.to_vec())));
        for ((_, key), value) in self.now.lock().unwrap().range(range) {
            if visit(key, value.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn maintain(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}

impl Journal for Shelf {
    fn submit(&self, writes: Vec<Write>, done: Done) {
        self.commit(&writes).unwrap();
        done(Ok(()));
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What a stand-in answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    pub(crate) delay: Duration,
}

pub(crate) fn reply(status: u16) -> Reply {
    Reply { status, ..Reply::default() }
}

pub(crate) fn reply_json(status: u16, body: &serde_json::Value) -> Reply {
    Reply { status, body: body.to_string(), ..Reply::default() }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// An HTTP/1.1 server on a port of its own. Ends with the test.
pub(crate) struct StandIn {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: actix_web::dev::ServerHandle,
}

impl StandIn {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let record = Arc::clone(&asked);
        let answer: Arc<Answer> = Arc::new(answer);
        let (ready, started) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
                    App::new().default_service(web::to(move |request: HttpRequest, body: Bytes| {
                        let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
                        async move { serve(&request, &body, &record, &*answer).await }
                    }))
                })
                .workers(1)
                .disable_signals()
                .bind("127.0.0.1:0")
                .unwrap();
                let port = server.addrs()[0].port();
                let running = server.run();
                ready.send((port, running.handle())).unwrap();
                running.await.unwrap();
            });
        });
        let (port, server) = started.recv().unwrap();
        Self { url: format!("http://127.0.0.1:{port}"), asked, server }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until it was asked `count` times, and returns what it was asked.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Asked> {
        eventually(&format!("{count} requests"), || (self.asked().len() >= count).then(|| self.asked()))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // The future only waits for the end; the command to stop is sent by the call.
        drop(self.server.stop(false));
    }
}

async fn serve(request: &HttpRequest, body: &Bytes, record: &Mutex<Vec<Asked>>, answer: &Answer) -> HttpResponse {
    let text = |value: &actix_web::http::header::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let asked = Asked { path: request.uri().to_string(), headers, body: body.to_vec() };
    let reply = answer(&asked);
    record.lock().unwrap().push(asked);
    tokio::time::sleep(reply.delay).await;
    let mut response = HttpResponse::build(StatusCode::from_u16(reply.status).unwrap());
    for (name, value) in reply.headers {
        response.insert_header((name, value));
    }
    response.body(reply.body)
}

/// Asks until `found` has something; the time is only a bound for a test that fails.
pub(crate) fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A queue under test, with what it has called dead.
pub(crate) struct Bench {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) dead: Arc<Mutex<Vec<(NodeId, PushToken)>>>,
    pub(crate) dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { shelf: Arc::default(), dead: Arc::default(), dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn start(&self, settings: &PushSettings) -> PushHandle {
        let dead = Arc::clone(&self.dead);
        PushQueue::start(
            settings,
            self.dir.path(),
            Arc::clone(&self.shelf) as Arc<dyn Store>,
            Arc::clone(&self.shelf) as Arc<dyn Journal>,
            Arc::new(move |device, token| dead.lock().unwrap().push((device, token))),
        )
        .unwrap()
    }

    /// Quick retries and windows, private addresses allowed, no provider.
    pub(crate) fn settings() -> PushSettings {
        PushSettings { throttle_seconds: 1, retry_seconds: 1, allow_private: true, ..PushSettings::default() }
    }

    pub(crate) fn with_webhook(&self) -> PushSettings {
        let secret_file = self.file("webhook-secret", WEBHOOK_SECRET);
        PushSettings { webhook: Some(WebhookSettings { secret_file }), ..Self::settings() }
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Waits until something was kept for `device`, and is not any more.
    pub(crate) fn settled(&self, device: &str) {
        eventually(&format!("nothing kept for {device}"), || {
            (self.shelf.was_ever_kept(device, "") && self.shelf.kept(device).is_none()).then_some(())
        });
    }

    /// Waits until `what` stands, or has stood, in what is kept for `device`.
    pub(crate) fn kept(&self, device: &str, what: &str) {
        eventually(&format!("{what} kept for {device}"), || self.shelf.was_ever_kept(device, what).then_some(()));
    }

    pub(crate) fn dead(&self) -> Vec<(String, String)> {
        let dead = self.dead.lock().unwrap();
        dead.iter().map(|(device, token)| (device.to_string(), token.token.clone())).collect()
    }
}

pub(crate) fn token(provider: Provider, token: &str) -> PushToken {
    PushToken { provider, token: token.to_owned() }
}

/// Two messages of type 1 wait, the newer from alice in the room, who wrote "meet at nine".
pub(crate) fn notification(device: &str, tokens: Vec<PushToken>) -> Notification {
    Notification {
        device: device.parse().unwrap(),
        tokens,
        pending: 2,
        sender: Some("alice".parse().unwrap()),
        session: Some("room".parse().unwrap()),
        kind: 1,
        text: Some("meet at nine".to_owned()),
    }
}

/// Base64 in lines, between the markers of `label`.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Where the stand-ins' scripts are.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/push").join(name)
}
