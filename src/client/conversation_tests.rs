//! Conversations with a server that is a script: one listener, of which each connection is played by hand.

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::super::terminal::AtEnd;
use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// The other side: what the conversation is told, and what it shows.
struct Scene {
    listener: TcpListener,
    type_in: Option<mpsc::Sender<String>>,
    screen: Lines<BufReader<DuplexStream>>,
    end: tokio::task::JoinHandle<Result<(), ClientError>>,
}

impl Scene {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (type_in, lines) = mpsc::channel(16);
        let (out, shown) = tokio::io::duplex(1 << 16);
        let door = Door::at(&listener.local_addr().unwrap().to_string()).unwrap();
        let mut conversation = Conversation::new(
            door,
            Credentials::Key("the.key.given".to_owned()),
            InboxMode::Auto,
            Input::new(lines, AtEnd::Leave),
            Screen::new(out),
            Outgoing::new(7),
        );
        let end = tokio::spawn(async move { conversation.run(&"alice".parse().unwrap()).await });
        Self { listener, type_in: Some(type_in), screen: BufReader::new(shown).lines(), end }
    }

    async fn write(&self, line: &str) {
        self.type_in.as_ref().unwrap().send(line.to_owned()).await.unwrap();
    }

    /// Waits for a line shown with this in it.
    async fn shows(&mut self, part: &str) -> String {
        let found = async {
            loop {
                let line = self.screen.next_line().await.unwrap().expect("the conversation ended");
                if line.contains(part) {
                    return line;
                }
            }
        };
        timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("never shown: {part}"))
    }

    /// Takes one HTTP request and answers it; gives back its head.
    async fn answer(&self, status: &str, body: &Value) -> String {
        let (mut stream, _) = timeout(LIMIT, self.listener.accept()).await.unwrap().unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.unwrap() > 0);
        }
        let body = body.to_string();
        let head_back = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head_back}{body}").as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    }

    fn offer(&self, validation_key: &str) -> Value {
        let ws_url = format!("ws://{}/v1/connect", self.listener.local_addr().unwrap());
        json!({ "node_id": "srv", "ws_url": ws_url, "validation_key": validation_key, "pending": 0 })
    }

    /// Takes one WebSocket; gives it back with the address it was opened with.
    #[expect(clippy::result_large_err, reason = "the handshake's callback is given this type")]
    async fn accept(&self) -> (WebSocketStream<TcpStream>, String) {
        let (stream, _) = timeout(LIMIT, self.listener.accept()).await.unwrap().unwrap();
        let mut asked = String::new();
        let socket = tokio_tungstenite::accept_hdr_async(
            stream,
            |request: &tungstenite::handshake::server::Request, response| {
                asked = request.uri().to_string();
                Ok(response)
            },
        );
        let socket = socket.await.unwrap();
        (socket, asked)
    }

    async fn let_in(&self) -> WebSocketStream<TcpStream> {
        self.answer("200 OK", &self.offer("fresh")).await;
        self.accept().await.0
    }
}

async fn hear(socket: &mut WebSocketStream<TcpStream>) -> Value {
    let message = timeout(LIMIT, socket.next()).await.unwrap().unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

async fn say(socket: &mut WebSocketStream<TcpStream>, frame: Value) {
    socket.send(Message::text(frame.to_string())).await.unwrap();
}

#[tokio::test]
async fn it_asks_connects_talks_and_leaves_when_all_is_confirmed() {
    let mut scene = Scene::open().await;
    let head = scene.answer("200 OK", &scene.offer("once")).await;
    assert!(head.starts_with("GET /v1/connect-info HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer the.key.given"), "{head}");
    let (mut socket, asked) = scene.accept().await;
    assert_eq!(asked, "/v1/connect?auth_key=the.key.given&validation_key=once&inbox=auto");

    scene.write("hello?").await;
    scene.shows("to whom?").await;
    scene.write("@bob hi").await;
    let first = hear(&mut socket).await;
    assert_eq!((&first["dest_id"], &first["payload"]), (&json!("bob"), &json!("hi")));
    scene.write("and again").await;
    let second = hear(&mut socket).await;
    assert_eq!(second["dest_id"], "bob", "a plain line goes to the last recipient");

    say(&mut socket, json!({ "type": 1, "src_id": "bob", "payload": "\u{1b}[31mred" })).await;
    assert_eq!(scene.shows("bob:").await, "bob: [31mred");
    for (id, payload) in [("1", "once"), ("1", "once"), ("2", "twice")] {
        say(&mut socket, json!({ "type": 1, "src_id": "bob", "id": id, "payload": payload })).await;
    }
    assert_eq!(scene.shows("bob:").await, "bob: once");
    assert_eq!(scene.shows("bob:").await, "bob: twice", "a repetition is not shown");
    scene.type_in = None;
    for (sent, status) in [(first, "delivered"), (second, "stored")] {
        say(&mut socket, json!({ "type": -7, "reference": sent["reference"], "status": status, status: 1 })).await;
        scene.shows(&format!("{status} ")).await;
    }
    assert!(timeout(LIMIT, scene.end).await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn what_is_unconfirmed_is_sent_again_with_the_same_id_and_the_offer_given_is_taken() {
    let mut scene = Scene::open().await;
    let mut socket = scene.let_in().await;
    scene.write("#room one").await;
    let sent = hear(&mut socket).await;
    say(&mut socket, json!({ "type": -9, "reconnect_after_ms": 1, "offer": scene.offer("handed-on") })).await;
    let (mut next, asked) = scene.accept().await;
    assert!(asked.contains("validation_key=handed-on"), "{asked}");
    assert_eq!(hear(&mut next).await, sent);

    // A refusal settles it too.
    say(&mut next, json!({ "type": -5, "dest_session_id": "room", "id": sent["id"], "reference": sent["id"] })).await;
    scene.shows("not a member of #room").await;
    drop(next);
    scene.shows("trying again").await;
    let mut third = scene.let_in().await;
    scene.write("@bob two").await;
    assert_eq!(hear(&mut third).await["payload"], "two", "and nothing before it");
    scene.write("/quit").await;
    let left = timeout(LIMIT, scene.end).await.unwrap().unwrap();
    assert!(matches!(left, Err(ClientError::Unconfirmed(1))), "{left:?}");
}

#[tokio::test]
async fn a_stale_offer_is_no_reason_to_give_up() {
    let mut scene = Scene::open().await;
    let mut socket = scene.let_in().await;
    say(&mut socket, json!({ "type": -9, "reconnect_after_ms": 0, "offer": scene.offer("stale") })).await;
    let (mut refused, _) = scene.accept().await;
    refused.close(Some(CloseFrame { code: 4401.into(), reason: "used".into() })).await.unwrap();
    let _socket = scene.let_in().await;
    scene.shows("again").await;
    scene.type_in = None;
    assert!(timeout(LIMIT, scene.end).await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn a_bad_key_ends_it_and_a_full_server_does_not() {
    let scene = Scene::open().await;
    let refusal = |code: &str| json!({ "error": { "code": code, "message": "the key has expired" } });
    scene.answer("503 Service Unavailable", &refusal("full")).await;
    let (mut socket, _) = {
        scene.answer("200 OK", &scene.offer("v")).await;
        scene.accept().await
    };
    socket.close(Some(CloseFrame { code: 4401.into(), reason: "expired".into() })).await.unwrap();
    let end = timeout(LIMIT, scene.end).await.unwrap().unwrap();
    assert!(matches!(&end, Err(ClientError::Closed { code: 4401, .. })), "{end:?}");

    let scene = Scene::open().await;
    scene.answer("401 Unauthorized", &refusal("unauthorized")).await;
    let end = timeout(LIMIT, scene.end).await.unwrap().unwrap();
    assert!(matches!(&end, Err(ClientError::Refused { status: 401, .. })), "{end:?}");
}

#[tokio::test]
async fn commands_are_calls_and_their_refusals_are_shown() {
    let mut scene = Scene::open().await;
    let _socket = scene.let_in().await;
    scene.write("/join room as fox").await;
    let head =
        scene.answer("200 OK", &json!({ "session_id": "room", "node_id": "alice", "anonymous_id": "fox" })).await;
    assert!(head.starts_with("POST /v1/sessions/room/join "), "{head}");
    scene.shows("you are in #room as fox").await;
    scene.write("/info room").await;
    scene.answer("404 Not Found", &json!({ "error": { "code": "not_found", "message": "no session room" } })).await;
    scene.shows("404 not_found): no session room").await;
    scene.write("/nonsense").await;
    scene.shows("no command /nonsense").await;
    scene.write("/quit").await;
    assert!(timeout(LIMIT, scene.end).await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn nobody_there_at_first_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (_type_in, lines) = mpsc::channel(1);
    let input = Input::new(lines, AtEnd::Leave);
    let (key, screen) = (Credentials::Key("k".to_owned()), Screen::new(tokio::io::sink()));
    let door = Door::at(&address).unwrap();
    let mut conversation = Conversation::new(door, key, InboxMode::Auto, input, screen, Outgoing::new(1));
    let end = timeout(LIMIT, conversation.run(&"alice".parse().unwrap())).await.unwrap();
    assert!(end.unwrap_err().to_string().contains("is it running?"));
}
