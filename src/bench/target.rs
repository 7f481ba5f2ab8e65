//! What is loaded: a server's address, the secret to mint its devices' keys from, and its process where it is known.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use reqwest::Url;
use tokio::time::timeout;

use super::BenchError;
use super::meter::Meter;
use super::socket::LoadSocket;
use crate::auth::key::Role;
use crate::client::key::{Holder, Minter};
use crate::client::offer::{Door, InboxMode};
use crate::model::ids::NodeId;
use crate::process::Process;

/// Handshakes under way at a time; a server of ours takes as many as come.
const AT_ONCE: usize = 64;
/// Connections from one local address; the system has some 28 000 ports for each.
const PER_SOURCE: usize = 20_000;

/// How often a line is asked whether it is one.
const POLL: Duration = Duration::from_millis(50);

/// A server under load.
pub(super) struct Target {
    door: Door,
    /// The last server of a line, and how many there are in it.
    far: Option<(Door, usize)>,
    minter: Minter,
    /// Tells the devices of this run from those of any other: inboxes outlive a run.
    run: u32,
    pub(super) process: Option<Process>,
    /// Opening all connections of a measurement takes no longer.
    limit: Duration,
}

impl Target {
    pub(super) fn new(
        url: &str,
        minter: Minter,
        process: Option<Process>,
        limit: Duration,
    ) -> Result<Self, BenchError> {
        Ok(Self { door: Door::at(url)?, far: None, minter, run: rand::random(), process, limit })
    }

    /// Devices with odd numbers connect there.
    pub(super) fn with_far_end(mut self, url: &str, servers: usize) -> Result<Self, BenchError> {
        self.far = Some((Door::at(url)?, servers));
        Ok(self)
    }

    /// Waits until both ends of a line know of `devices`, and of all servers that they serve.
    pub(super) async fn meet(&self, devices: usize) -> Result<(), BenchError> {
        let Some((far, servers)) = &self.far else { return Ok(()) };
        let key = self.key(&self.name("admin", 0), Role::Admin);
        let all = async {
            for door in [&self.door, far] {
                while !knows(door, &key, *servers, devices).await? {
                    tokio::time::sleep(POLL).await;
                }
            }
            Ok(())
        };
        let late = BenchError::Unfit(format!("{servers} servers did not find each other within {:?}", self.limit));
        timeout(self.limit, all).await.unwrap_or(Err(late))
    }

    /// The id of a device or session of this run.
    pub(super) fn name(&self, what: &str, index: usize) -> String {
        format!("load-{:08x}-{what}-{index}", self.run)
    }

    /// Opens `count` connections of devices called `what`, and gives each on as soon as it is open, with its index and
    /// how long it took (offer, what that says to wait, and handshake, in nanoseconds).
    pub(super) async fn open_all(
        &self,
        what: &str,
        count: usize,
        inbox: InboxMode,
        meter: &Meter,
        mut take: impl FnMut(usize, LoadSocket, u64),
    ) -> Result<(), BenchError> {
        let opening = stream::iter(0..count).map(async |index| {
            let begin = meter.now();
            let socket = self.open(what, index, inbox).await?;
            Ok::<_, BenchError>((index, socket, meter.now() - begin))
        });
        let mut opening = std::pin::pin!(opening.buffer_unordered(AT_ONCE));
        let mut open = 0;
        let all = async {
            while let Some(opened) = opening.next().await {
                let (index, socket, took) = opened?;
                take(index, socket, took);
                open += 1;
            }
            Ok(())
        };
        timeout(self.limit, all).await.unwrap_or(Err(BenchError::Slow { open, count, limit: self.limit }))
    }

    /// All connections, in order, none of them read from yet.
    pub(super) async fn open_in_order(
        &self,
        what: &str,
        count: usize,
        meter: &Rc<Meter>,
    ) -> Result<Vec<LoadSocket>, BenchError> {
        let mut sockets: Vec<(usize, LoadSocket)> = Vec::with_capacity(count);
        self.open_all(what, count, InboxMode::Manual, meter, |index, socket, _| sockets.push((index, socket))).await?;
        sockets.sort_unstable_by_key(|(index, _)| *index);
        Ok(sockets.into_iter().map(|(_, socket)| socket).collect())
    }

    async fn open(&self, what: &str, index: usize, inbox: InboxMode) -> Result<LoadSocket, BenchError> {
        let device = self.name(what, index);
        let key = self.key(&device, Role::Device);
        let address = match &self.far {
            None => {
                let offer = self.door.offer(&key).await?;
                tokio::time::sleep(Duration::from_millis(offer.start_after_ms)).await;
                offer.address(&key, inbox)?
            }
            Some((far, _)) => directly(if index.is_multiple_of(2) { &self.door } else { far }, &key),
        };
        let source = (index / PER_SOURCE) as u8;
        let source = (source > 0).then(|| Ipv4Addr::new(127, 0, 0, source.saturating_add(1)));
        let opened = LoadSocket::open(&address, source).await;
        opened.map_err(|error| BenchError::Open { device, why: error.to_string() })
    }

    /// One HTTP call as an app.
    pub(super) async fn call_as_app(&self, path: &[&str], body: &serde_json::Value) -> Result<Vec<u8>, BenchError> {
        let key = self.key(&self.name("app", 0), Role::App);
        Ok(self.door.call(reqwest::Method::POST, path, &key, Some(body)).await?)
    }

    fn key(&self, name: &str, role: Role) -> String {
        let node: NodeId = name.parse().expect("names of this run are made of the alphabet of ids");
        self.minter.mint(&Holder { node, client: None, role })
    }
}

/// The address of a server's socket for whoever wants this server and no other.
fn directly(door: &Door, key: &str) -> Url {
    let mut url = door.base().clone();
    url.set_path("connectV2");
    url.query_pairs_mut().append_pair("auth_key", key);
    url.set_scheme("ws").expect("http becomes ws");
    url
}

#[derive(serde::Deserialize)]
struct Mesh {
    servers: Vec<Server>,
}

#[derive(serde::Deserialize)]
struct Server {
    attachments: usize,
    standing: String,
}

async fn knows(door: &Door, key: &str, servers: usize, devices: usize) -> Result<bool, BenchError> {
    let body = door.call(reqwest::Method::GET, &["v1", "mesh"], key, None).await?;
    let mesh: Mesh = serde_json::from_slice(&body).map_err(std::io::Error::from)?;
    let attached: usize = mesh.servers.iter().map(|server| server.attachments).sum();
    let all_serve = mesh.servers.iter().all(|server| server.standing == "serving");
    Ok(mesh.servers.len() == servers && all_serve && attached >= devices)
}
