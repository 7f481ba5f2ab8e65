//! Servers that have nothing but links, over real sockets, each with a node that remembers what it hears; and a wire
//! between two of them that can be cut or stopped.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_web::dev::{Extensions, ServerHandle};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use sparkmesh::auth::key::Keyring;
use sparkmesh::auth::secrets::Secrets;
use sparkmesh::config::Permission;
use sparkmesh::config::peers::{LinkPlan, PeerUrl};
use sparkmesh::link::{
    Dialled, Dialler, Heard, Host, Introduce, Introduction, LinkDown, LinkId, LinkStop, LinkUp, Links, Measured, Meet,
    Setup, Stays, accept, which_stays,
};
use sparkmesh::model::codes::{Code, Refusal};
use sparkmesh::model::frames::{Carry, Hop, Stop};
use sparkmesh::model::ids::{Incarnation, NodeId};
use sparkmesh::model::lane::Delivery;
use sparkmesh::model::members::Members;
use sparkmesh::model::topology::Address;
use sparkmesh::tls::Reloader;
use sparkmesh::tls::link::{DialTls, ShownCertificate};
use sparkmesh::view::{LinkQueue, Receiver, Urgency};
use sparkmesh::wire::link;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const SECRET: &str = "the-secret-of-tests";
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

/// What one server has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) up: HashMap<LinkId, (NodeId, Dialled, Arc<LinkQueue>, Recipient<LinkStop>)>,
    pub(crate) ups: usize,
    pub(crate) downs: Vec<LinkId>,
    pub(crate) met: usize,
    pub(crate) heard: Vec<Hop>,
    pub(crate) measured: Vec<(u32, i64)>,
    pub(crate) carried: Vec<(NodeId, u64, usize)>,
    pub(crate) flushes: usize,
}

pub(crate) type Log = Arc<Mutex<Seen>>;

struct FakeNode {
    own: NodeId,
    log: Log,
    forgotten: Option<NodeId>,
}

impl FakeNode {
    fn introduction(&self) -> Introduction {
        Introduction {
            node: self.own.clone(),
            incarnation: Incarnation(1),
            address: Address::default(),
            cluster: [7; 32],
            members: Members::first(self.own.clone()),
            blank: true,
            pins: 0,
        }
    }
}

impl Actor for FakeNode {
    type Context = Context<Self>;
}

impl Handler<Introduce> for FakeNode {
    type Result = MessageResult<Introduce>;
    fn handle(&mut self, _: Introduce, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.introduction())
    }
}

impl Handler<Meet> for FakeNode {
    type Result = Result<Introduction, Refusal>;
    fn handle(&mut self, meet: Meet, _: &mut Self::Context) -> Self::Result {
        assert!(meet.theirs.members.is_member(&meet.theirs.node), "the members come whole");
        if self.forgotten.as_ref() == Some(&meet.theirs.node) {
            return Err(Refusal::new(Code::Forbidden, format!("{} was forgotten", meet.theirs.node)));
        }
        self.log.lock().unwrap().met += 1;
        Ok(self.introduction())
    }
}

impl Handler<LinkUp> for FakeNode {
    type Result = Result<(), Refusal>;
    fn handle(&mut self, new: LinkUp, _: &mut Self::Context) -> Self::Result {
        let mut seen = self.log.lock().unwrap();
        let old = seen.up.iter().find(|(_, link)| link.0 == new.peer).map(|(id, link)| (*id, link.1));
        if let Some((old_id, dialled)) = old {
            let life = new.incarnation;
            if which_stays(&self.own, &new.peer, (life, dialled), (life, new.dialled)) == Stays::Old {
                return Err(Refusal::new(Code::Conflict, "another link stays"));
            }
            seen.up.remove(&old_id).unwrap().3.do_send(LinkStop);
        }
        seen.ups += 1;
        seen.up.insert(new.id, (new.peer, new.dialled, new.queue, new.stop));
        Ok(())
    }
}

impl Handler<LinkDown> for FakeNode {
    type Result = ();
    fn handle(&mut self, down: LinkDown, _: &mut Self::Context) {
        let mut seen = self.log.lock().unwrap();
        seen.up.remove(&down.id);
        assert!(!seen.downs.contains(&down.id), "it goes down once");
        seen.downs.push(down.id);
    }
}

impl Handler<Heard> for FakeNode {
    type Result = ();
    fn handle(&mut self, heard: Heard, _: &mut Self::Context) {
        self.log.lock().unwrap().heard.push(heard.hop.clone());
    }
}

impl Handler<Measured> for FakeNode {
    type Result = ();
    fn handle(&mut self, measured: Measured, _: &mut Self::Context) {
        self.log.lock().unwrap().measured.push((measured.rtt_us, measured.clock_offset_ms));
    }
}

struct Ear(Log);

impl Receiver for Ear {
    fn receive(&self, from: &NodeId, hop: Hop) {
        if let Hop::Carry(carry) = hop {
            self.0.lock().unwrap().carried.push((from.clone(), carry.stops[0].number, carry.body.len()));
        }
    }

    fn flush(&self) {
        self.0.lock().unwrap().flushes += 1;
    }
}

/// How a server is to be.
pub(crate) struct Plan<'a> {
    pub(crate) name: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) named: Vec<String>,
    pub(crate) links: LinkPlan,
    pub(crate) forgets: Option<&'a str>,
    /// Certificate and key of the listening side.
    pub(crate) tls: Option<&'a Path>,
    pub(crate) ca: Option<&'a Path>,
    pub(crate) shows: Option<&'a Path>,
    pub(crate) demands: Permission,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(name: &'a str) -> Self {
        Self {
            name,
            secret: SECRET,
            named: Vec::new(),
            links: LinkPlan::Full,
            forgets: None,
            tls: None,
            ca: None,
            shows: None,
            demands: Permission::Granted,
        }
    }

    pub(crate) fn dials(mut self, port: u16) -> Self {
        self.named.push(format!("ws://127.0.0.1:{port}"));
        self
    }

    /// Starts to listen, and to dial.
    pub(crate) fn start(self) -> Server {
        let log = Log::default();
        let forgotten = self.forgets.map(id);
        let node = FakeNode { own: id(self.name), log: log.clone(), forgotten }.start();
        let pair = |path: &Path| (path.with_extension("crt"), path.with_extension("key"));
        let setup = Setup {
            own: id(self.name),
            host: Host::of(&node),
            receiver: Arc::new(Ear(log.clone())),
            tls: DialTls::new(self.ca.map(Path::to_owned), self.shows.map(pair)),
            without_certificate: self.demands,
        };
        let keyring = Keyring::new(Secrets::parse(self.secret, "test").unwrap());
        let links = Arc::new(Links::new(setup, &keyring));
        let shared = links.clone();
        let server = HttpServer::new(move || {
            shared.offer_thread();
            App::new().app_data(web::Data::from(shared.clone())).route("/v1/link", web::get().to(open))
        })
        .workers(1)
        .on_connect(|connection: &dyn std::any::Any, known: &mut Extensions| {
            use actix_tls::accept::rustls_0_23::TlsStream;
            let tls = connection.downcast_ref::<TlsStream<actix_web::rt::net::TcpStream>>();
            if tls.is_some_and(|tls| tls.get_ref().1.peer_certificates().is_some()) {
                known.insert(ShownCertificate);
            }
        })
        .client_disconnect_timeout(Duration::from_millis(600))
        .shutdown_timeout(1)
        .disable_signals();
        let mut reloader = None;
        let server = match self.tls.map(pair) {
            None => server.bind("127.0.0.1:0").unwrap(),
            Some((cert, key)) => {
                let ca = self.ca.filter(|_| self.demands == Permission::Refused);
                let (tls, of_tls) = sparkmesh::tls::server_config_with(&cert, &key, ca).unwrap();
                reloader = Some(of_tls);
                server.bind_rustls_0_23("127.0.0.1:0", tls).unwrap()
            }
        };
        let port = server.addrs()[0].port();
        let server = server.run();
        let handle = server.handle();
        actix::spawn(server);
        let named: Vec<PeerUrl> = self.named.iter().map(|url| url.parse().unwrap()).collect();
        let dialler = Dialler::begin(&links, self.links, named);
        Server { name: id(self.name), port, log, dialler, reloader, handle }
    }
}

async fn open(links: web::Data<Links>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    accept::open(&links.into_inner(), &request, payload)
        .unwrap_or_else(|refusal| HttpResponse::Forbidden().body(refusal.message))
}

pub(crate) struct Server {
    pub(crate) name: NodeId,
    pub(crate) port: u16,
    pub(crate) log: Log,
    pub(crate) dialler: Addr<Dialler>,
    /// Of the listening side, where it speaks TLS.
    pub(crate) reloader: Option<Reloader>,
    handle: ServerHandle,
}

impl Server {
    pub(crate) async fn until(&self, what: &str, fits: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !fits(&self.log.lock().unwrap()) {
            assert!(Instant::now() < deadline, "{}: {what} within {} s", self.name, PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn until_linked(&self, to: &Server) {
        self.until("linked", |seen| seen.up.values().any(|link| link.0 == to.name)).await;
    }

    pub(crate) fn queue(&self) -> Arc<LinkQueue> {
        self.log.lock().unwrap().up.values().next().expect("there is a link").2.clone()
    }

    /// One envelope for the neighbour.
    pub(crate) fn send(&self, number: u64, body: usize) -> Delivery {
        send(&self.queue(), &self.name, number, body)
    }

    pub(crate) async fn stop(self) {
        self.handle.stop(false).await;
    }
}

pub(crate) fn send(queue: &LinkQueue, from: &NodeId, number: u64, body: usize) -> Delivery {
    let stop = Stop { server: id("somewhere"), generation: 1, number, head: Bytes::from_static(b"head") };
    let carry = Carry {
        hops: 0,
        origin: from.clone(),
        incarnation: Incarnation(1),
        stops: vec![stop],
        body: vec![7; body].into(),
    };
    let mut chunks = Vec::new();
    link::encode(&Hop::Carry(carry), &mut chunks);
    queue.push(&chunks, Urgency::Data)
}

pub(crate) fn say(queue: &LinkQueue, hop: &Hop) {
    let mut chunks = Vec::new();
    link::encode(hop, &mut chunks);
    assert_eq!(queue.push(&chunks, Urgency::Control), Delivery::Queued);
}

const OPEN: u8 = 0;
const STOPPED: u8 = 1;
const CUT: u8 = 2;

/// Something between two servers.
pub(crate) struct Wire {
    pub(crate) port: u16,
    to_server: Arc<AtomicU8>,
    to_dialler: Arc<AtomicU8>,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            to_server: Arc::new(AtomicU8::new(OPEN)),
            to_dialler: Arc::new(AtomicU8::new(OPEN)),
        };
        let (to_server, to_dialler) = (wire.to_server.clone(), wire.to_dialler.clone());
        actix::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if to_server.load(Ordering::Relaxed) == CUT {
                    continue;
                }
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                actix::spawn(pass(near_in, far_out, to_server.clone()));
                actix::spawn(pass(far_in, near_out, to_dialler.clone()));
            }
        });
        wire
    }

    /// Nothing more gets through, and nobody is told.
    pub(crate) fn stop(&self) {
        self.to_server.store(STOPPED, Ordering::Relaxed);
        self.to_dialler.store(STOPPED, Ordering::Relaxed);
    }

    /// Nothing more gets through from the side that has dialled.
    pub(crate) fn stop_to_server(&self) {
        self.to_server.store(STOPPED, Ordering::Relaxed);
    }

    /// Nothing more gets through from the side that was dialled.
    pub(crate) fn stop_to_dialler(&self) {
        self.to_dialler.store(STOPPED, Ordering::Relaxed);
    }

    /// Connections are dropped, and no new ones taken.
    pub(crate) fn cut(&self) {
        self.to_server.store(CUT, Ordering::Relaxed);
        self.to_dialler.store(CUT, Ordering::Relaxed);
    }

    pub(crate) fn heal(&self) {
        self.to_server.store(OPEN, Ordering::Relaxed);
        self.to_dialler.store(OPEN, Ordering::Relaxed);
    }
}

async fn pass(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, state: Arc<AtomicU8>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match state.load(Ordering::Relaxed) {
            CUT => return,
            STOPPED => tokio::time::sleep(Duration::from_millis(5)).await,
            _ => match tokio::time::timeout(Duration::from_millis(5), from.read(&mut buffer)).await {
                Err(_) => {}
                Ok(Ok(read)) if read > 0 => {
                    if to.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
                Ok(_) => return,
            },
        }
    }
}
