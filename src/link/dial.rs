//! One attempt to link up with a server: address, TCP, TLS, WebSocket handshake, greeting, and the node's consent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::{Connector, MaybeTlsStream, client_async_tls_with_config};

use super::actor::Link;
use super::connection::Connection;
use super::greeting::Greeting;
use super::meeting::{Failure, greet};
use super::{Dialled, Links};
use crate::config::peers::PeerUrl;
use crate::model::ids::NodeId;
use crate::model::topology::Scheme;
use crate::view::{LINK_QUEUE_LIMIT, LinkQueue};

/// Where servers let each other in.
const PATH: &str = "/v1/link";
/// A connection is made within this time, up to the greeting.
const PATIENCE: Duration = Duration::from_secs(5);
/// A socket that takes nothing for this long is given up by the kernel.
const STUCK_SOCKET: Duration = Duration::from_secs(6);

/// Dials `url`, where `wanted` is expected if it is known who is there; returns when the link is up, with whom. The link
/// lives on the calling thread.
pub(super) async fn dial(links: &Arc<Links>, url: &PeerUrl, wanted: Option<NodeId>) -> Result<NodeId, Failure> {
    let stream = timeout(PATIENCE, connect(links, url)).await.unwrap_or_else(|_| Err(unreachable("no answer")))?;
    let queue = Arc::new(LinkQueue::to_stranger(LINK_QUEUE_LIMIT));
    let mut connection = Connection::dialled(stream, queue);
    let (mut greeting, hello) = Greeting::dial(links.keys.clone(), links.own.clone(), wanted, rand::random());
    // Nothing else is in the queue: it has room.
    let _ = connection.queue().push(&[hello], crate::view::Urgency::Heartbeat);
    let greeted = greet(links, &mut connection, &mut greeting).await;
    let theirs = match greeted {
        Ok(theirs) => theirs,
        Err(failure) => {
            connection.queue().close();
            // The reason is written if the socket takes it; nobody waits for more.
            let _ = timeout(PATIENCE, std::future::poll_fn(|cx| connection.poll_write(cx))).await;
            return Err(failure);
        }
    };
    let peer = theirs.node.clone();
    match Link::begin(links, connection, theirs, Dialled::ByUs).await {
        Ok(()) => Ok(peer),
        Err(refusal) => Err(Failure::Unwanted(peer, refusal)),
    }
}

fn unreachable(why: impl fmt::Display) -> Failure {
    Failure::Unreachable(why.to_string())
}

async fn connect(links: &Links, url: &PeerUrl) -> Result<MaybeTlsStream<TcpStream>, Failure> {
    let tcp = tcp(url).await?;
    let connector = match url.scheme {
        Scheme::Plain => Connector::Plain,
        Scheme::Tls => {
            let tls = links.tls.clone();
            // Reads files.
            let config = tokio::task::spawn_blocking(move || tls.config()).await.map_err(|_| Failure::GoingAway)?;
            Connector::Rustls(config.map_err(|error| unreachable(chain(&error)))?)
        }
    };
    let handshake = client_async_tls_with_config(format!("{url}{PATH}"), tcp, None, Some(connector)).await;
    match handshake {
        // The other side says nothing before we do: nothing has been read beyond the handshake.
        Ok((socket, _)) => Ok(socket.into_inner()),
        Err(Error::Http(response)) => {
            let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
            let body: String = body.chars().filter(|c| !c.is_control()).take(200).collect();
            Err(unreachable(format!("it answers {} {body}", response.status())))
        }
        Err(error) => Err(unreachable(chain(&error))),
    }
}

async fn tcp(url: &PeerUrl) -> Result<TcpStream, Failure> {
    let mut failure = unreachable("its name has no address");
    for address in lookup_host((url.host.as_str(), url.port)).await.map_err(unreachable)? {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                let socket = SockRef::from(&tcp);
                // A socket that is gone already fails here, and is noticed by whoever reads it.
                let _ = socket.set_tcp_nodelay(true);
                let _ = socket.set_tcp_user_timeout(Some(STUCK_SOCKET));
                return Ok(tcp);
            }
            Err(error) => failure = unreachable(error),
        }
    }
    Err(failure)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
