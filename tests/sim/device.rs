//! One device: a client of an app that connects to some server, says what it is told to, and reads at its own pace.
//!
//! Any WebSocket client could be it: it answers pings, and knows the frames of `docs/protocol.md`. Its connection goes through
//! the real handshake to the real edge.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::Payload;
use actix_web::test::TestRequest;
use actix_web::{FromRequest, web};
use futures_util::stream;
use serde_json::{Value, json};
use sparkmesh::edge::{Newcomer, handshake};
use sparkmesh::model::decide::Sender;
use sparkmesh::model::ids::{ClientId, NodeId};
use sparkmesh::model::lane::Replay;
use sparkmesh::model::outbox::Acks;
use sparkmesh::model::session::Role;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::frames::{self, Frame};
use crate::history::{Class, Dest, Event, How, Number, Receipt, Status};
use crate::pipe::{Pipe, Reader, Writer};
use crate::random::Random;
use crate::server::Life;
use crate::time::sleep;
use crate::world::World;

/// Milliseconds between two frames of a device that reads nothing.
pub(crate) const NEVER: u64 = u64::MAX;

/// A server that says nothing for so long is given up; it would have sent a ping.
const SILENCE: Duration = Duration::from_secs(45);

/// How a device wants to be served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) acks: Acks,
    pub(crate) replay: Replay,
}

/// How a connection ends on the device's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// The socket is closed.
    Torn,
    /// The device is suddenly elsewhere, and the server is not told.
    Silent,
}

struct Connection {
    number: u64,
    up: Pipe,
    down: Pipe,
}

/// See the module's header.
pub(crate) struct Device {
    pub(crate) at: usize,
    pub(crate) id: NodeId,
    pub(crate) client: Option<usize>,
    pub(crate) manner: Manner,
    /// Milliseconds for each frame that it reads.
    pub(crate) pace: Cell<u64>,
    /// Where it goes next.
    pub(crate) wanted: Cell<Option<usize>>,
    pub(crate) is_away: Cell<bool>,
    outgoing: RefCell<VecDeque<Number>>,
    more: Notify,
    leave: Notify,
    how: Cell<Leave>,
    connection: RefCell<Option<Connection>>,
    random: RefCell<Random>,
}

impl Device {
    pub(crate) fn new(at: usize, client: Option<usize>, manner: Manner, random: Random) -> Self {
        Self {
            at,
            id: format!("d{at}").parse().unwrap(),
            client,
            manner,
            pace: Cell::new(0),
            wanted: Cell::new(None),
            is_away: Cell::new(false),
            outgoing: RefCell::default(),
            more: Notify::new(),
            leave: Notify::new(),
            how: Cell::new(Leave::Torn),
            connection: RefCell::default(),
            random: RefCell::new(random),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.borrow().is_some()
    }

    pub(crate) fn has_said_all(&self) -> bool {
        self.keeps() == 0
    }

    pub(crate) fn keeps(&self) -> usize {
        self.outgoing.borrow().len()
    }

    /// It says this as soon as it is connected.
    pub(crate) fn say(&self, envelope: Number) {
        self.outgoing.borrow_mut().push_back(envelope);
        self.more.notify_one();
    }

    pub(crate) fn leaves(&self, how: Leave) {
        if self.is_connected() {
            self.how.set(how);
            self.leave.notify_one();
        }
    }

    fn chance<T>(&self, ask: impl FnOnce(&mut Random) -> T) -> T {
        ask(&mut self.random.borrow_mut())
    }

    /// Its whole life.
    pub(crate) async fn live(self: Rc<Self>, world: Rc<World>) {
        loop {
            if self.is_away.get() {
                sleep(self.chance(|random| random.within(20, 100))).await;
                continue;
            }
            let at = self.wanted.take().unwrap_or_else(|| self.chance(|random| random.pick(world.size())));
            let Some(life) = world.life(at) else {
                sleep(self.chance(|random| random.within(20, 200))).await;
                continue;
            };
            let delay = world.delay();
            let room = self.chance(|random| [4, 16, 64][random.pick(3)]);
            let (up, down) = self.chance(|r| (Pipe::new(64, delay, r.fork()), Pipe::new(room, delay, r.fork())));
            life.holds(&up);
            life.holds(&down);
            let opened = self.open(&life, up.clone(), down.clone());
            match timeout(Duration::from_secs(8), opened).await {
                Ok(Ok(Ok(()))) => {
                    let number = world.next_connection();
                    world.note(Event::Connected { device: self.at, server: at, connection: number });
                    *self.connection.borrow_mut() = Some(Connection { number, up, down });
                    self.serve(&world).await;
                    self.connection.borrow_mut().take();
                    world.note(Event::Gone { device: self.at, connection: number });
                }
                _ => {
                    up.tear();
                    down.tear();
                    sleep(self.chance(|random| random.within(50, 300))).await;
                }
            }
        }
    }

    fn open(&self, life: &Rc<Life>, up: Pipe, down: Pipe) -> oneshot::Receiver<Result<(), String>> {
        let client: Option<ClientId> = self.client.map(World::client);
        let sender = Sender { node: self.id.clone(), client, role: Role::Device };
        let newcomer = Newcomer { sender, replay: self.manner.replay, acks: self.manner.acks };
        let (opened, answer) = oneshot::channel();
        let site = life.site.clone();
        life.spawn(async move {
            let out = Writer(down);
            let request = TestRequest::get()
                .insert_header(("upgrade", "websocket"))
                .insert_header(("connection", "upgrade"))
                .insert_header(("sec-websocket-version", "13"))
                .insert_header(("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="))
                .to_http_request();
            let chunks = stream::unfold(Reader(up), |read| async {
                let chunk = read.0.read().await?;
                Some((Ok(chunk), read))
            });
            let mut payload: Payload = Payload::Stream { payload: Box::pin(chunks) };
            let payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
            let body = match handshake::open(&site, newcomer, &request, payload).await {
                Ok(response) => response.into_body(),
                Err(refusal) => return drop(opened.send(Err(refusal.to_string()))),
            };
            // Who has given up waiting has broken the pipes.
            let _ = opened.send(Ok(()));
            let mut body = pin!(body);
            while let Some(Ok(chunk)) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
                if !out.0.write(chunk).await {
                    break;
                }
            }
        });
        answer
    }

    async fn serve(self: &Rc<Self>, world: &Rc<World>) {
        let (number, up, down) = {
            let connection = self.connection.borrow();
            let Connection { number, up, down, .. } = connection.as_ref().unwrap();
            (*number, up.clone(), down.clone())
        };
        let talks = tokio::task::spawn_local(self.clone().talk(world.clone(), number, up.clone()));
        let how = tokio::select! {
            biased;
            () = self.leave.notified() => self.how.get(),
            () = self.listen(world, number, &up, &down) => Leave::Torn,
        };
        talks.abort();
        match how {
            Leave::Torn => [&up, &down].into_iter().for_each(Pipe::tear),
            Leave::Silent => [&up, &down].into_iter().for_each(Pipe::hold),
        }
    }

    async fn talk(self: Rc<Self>, world: Rc<World>, connection: u64, up: Pipe) {
        let manual = self.manner.replay == Replay::Manual;
        let mut fetches_at = world.now();
        loop {
            let next = self.outgoing.borrow().front().copied();
            if let Some(envelope) = next {
                if !up.write(frames::text(&Self::frame(&world, envelope))).await {
                    return;
                }
                self.outgoing.borrow_mut().pop_front();
                world.note(Event::Sent { envelope, connection });
                continue;
            }
            if manual && world.now() >= fetches_at {
                fetches_at = world.now() + self.chance(|random| random.within(300, 2_000));
                up.write(frames::text(&fetch())).await;
            }
            let patience = if manual { 300 } else { 60_000 };
            let _ = timeout(Duration::from_millis(patience), self.more.notified()).await;
        }
    }

    fn frame(world: &World, number: Number) -> String {
        let envelope = world.envelope(number);
        let mut frame = json!({
            "type": i64::from(envelope.class == Class::Reliable),
            "reference": number.to_string(),
            "payload": { "n": number, "fill": ".".repeat(envelope.fill) },
        });
        match envelope.dest {
            Dest::Device(device) => frame["dest_id"] = json!(format!("d{device}")),
            Dest::Client(client) => frame["dest_client_id"] = json!(World::client(client).as_str()),
            Dest::Session(session) => frame["dest_session_id"] = json!(World::session(session).as_str()),
            Dest::Member(session, member) => {
                frame["dest_session_id"] = json!(World::session(session).as_str());
                frame["dest_id"] = json!(world.shown(session, member));
            }
        }
        if let Some(id) = &envelope.id {
            frame["id"] = json!(id);
        }
        frame.to_string()
    }

    async fn listen(&self, world: &World, connection: u64, up: &Pipe, down: &Pipe) {
        while let Ok(Some(chunk)) = timeout(SILENCE, down.read()).await {
            while self.pace.get() == NEVER {
                sleep(100).await;
            }
            if self.pace.get() > 0 {
                sleep(self.pace.get()).await;
            }
            let goes_on = match frames::read(&chunk) {
                Frame::Text(text) => self.hear(world, connection, &text, up).await,
                Frame::Ping(payload) => up.write(frames::pong(&payload)).await,
                Frame::Close => {
                    up.write(frames::close()).await;
                    false
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    async fn hear(&self, world: &World, connection: u64, text: &str, up: &Pipe) -> bool {
        let frame: Value = serde_json::from_str(text).unwrap();
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<Number>().ok());
        match frame["type"].as_i64().unwrap_or(0) {
            -7 => {
                let status = match frame["status"].as_str() {
                    Some("delivered") => Status::Delivered,
                    Some("stored") => Status::Stored,
                    _ => Status::Dropped,
                };
                let envelope = number(&frame["reference"]).unwrap();
                world.note(Event::Told { device: self.at, envelope, status });
                true
            }
            -8 => {
                let (envelope, code) = (number(&frame["reference"]), frame["code"].as_str().unwrap().to_owned());
                world.note(Event::Refused { device: self.at, envelope, code });
                true
            }
            -9 => false,
            -102 => self.fetched(world, connection, &frame["payload"], up).await,
            0..100 => {
                if self.manner.acks == Acks::Application {
                    // What the app has not done with when it ends is as if it had not come.
                    sleep(self.chance(|random| random.within(0, 30))).await;
                }
                let receipt = self.receipt(connection, &frame, How::Sent);
                let (src_id, id, seq) = (receipt.src_id.clone(), receipt.id.clone(), receipt.seq);
                world.note(Event::Received(receipt));
                if self.manner.acks == Acks::Transport {
                    return true;
                }
                let to = seq.filter(|_| self.manner.replay == Replay::Auto && self.chance(|r| r.percent(20)));
                let ack = match to {
                    Some(seq) => json!({"type": -6, "seq": seq}),
                    None => json!({"type": -6, "src_id": src_id, "id": id}),
                };
                up.write(frames::text(&ack.to_string())).await
            }
            _ => true,
        }
    }

    fn receipt(&self, connection: u64, frame: &Value, how: How) -> Receipt {
        let text = |field: &str| frame[field].as_str().unwrap_or_default().to_owned();
        let order = frame["session_epoch"].as_u64().zip(frame["session_seq"].as_u64());
        Receipt {
            device: self.at,
            connection,
            envelope: frame["payload"]["n"].as_u64().unwrap() as usize,
            src_id: text("src_id"),
            id: text("id"),
            seq: frame["seq"].as_u64(),
            order,
            how,
        }
    }

    async fn fetched(&self, world: &World, connection: u64, page: &Value, up: &Pipe) -> bool {
        let messages = page["messages"].as_array().cloned().unwrap_or_default();
        for message in messages.iter().filter(|message| message["payload"].is_object()) {
            world.note(Event::Received(self.receipt(connection, message, How::Fetched)));
        }
        let Some(to) = page["to_seq"].as_u64().filter(|_| !messages.is_empty()) else { return true };
        if !up.write(frames::text(&json!({"type": -6, "seq": to}).to_string())).await {
            return false;
        }
        page["more"] != true || up.write(frames::text(&fetch())).await
    }
}

fn fetch() -> String {
    json!({"type": -101, "payload": {"fetch_inbox_messages": true, "limit": 50}}).to_string()
}
