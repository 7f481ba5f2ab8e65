//! The way in for servers: `GET /v1/link`, a WebSocket upgrade on the main address.
//!
//! The upgrade is answered to anybody; who is there, the greeting finds out. Until then a stranger costs a connection, a
//! small buffer and ten seconds.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::actor::Link;
use super::connection::{BUDGET, Connection};
use super::greeting::Greeting;
use super::meeting::{Failure, greet};
use super::{Dialled, Links};
use crate::config::Permission;
use crate::metrics;
use crate::model::codes::{Code, Refusal};
use crate::tls::link::ShownCertificate;
use crate::view::{LINK_QUEUE_LIMIT, LinkQueue, Taken};
use crate::wire::carrier::Masking;

/// How long a server that is refused has to take the reason.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes handed to the HTTP side at a time: what it has of them goes out in one write.
const CHUNK: usize = 64 * 1024;

/// Lets a server in; the answer completes the WebSocket handshake.
///
/// # Errors
/// `bad_request` for something that is no WebSocket handshake, `forbidden` without the certificate that is demanded.
pub fn open(links: &Arc<Links>, request: &HttpRequest, payload: web::Payload) -> Result<HttpResponse, Refusal> {
    let key = handshake_key(request)?;
    let from = request.peer_addr().map_or_else(|| "?".to_owned(), |address| address.ip().to_string());
    if links.without_certificate == Permission::Refused && request.conn_data::<ShownCertificate>().is_none() {
        metrics::LINK_FAILURES.with_label_values(&["certificate"]).inc();
        links.complain(&from, &"it shows no client certificate, and this server demands one (--link-demand-cert)");
        return Err(Refusal::new(Code::Forbidden, "servers that link up must show a client certificate here"));
    }
    let queue = Arc::new(LinkQueue::to_stranger(LINK_QUEUE_LIMIT));
    let connection = Connection::accepted(payload, queue.clone());
    actix::spawn(meet(links.clone(), connection, from));
    Ok(HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS)
        .upgrade("websocket")
        .insert_header((header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes())))
        .body(Body { queue, out: BytesMut::new() }))
}

/// What the answer to the handshake is made of.
fn handshake_key(request: &HttpRequest) -> Result<&str, Refusal> {
    let has = |name: header::HeaderName, word: &str| {
        let values = request.headers().get_all(name).filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let good = has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    key.filter(|key| good && key.len() <= 64)
        .ok_or_else(|| Refusal::new(Code::BadRequest, "this path is for servers: a WebSocket handshake of version 13"))
}

async fn meet(links: Arc<Links>, mut connection: Connection, from: String) {
    let mut greeting = Greeting::accept(links.keys.clone(), links.own.clone(), rand::random());
    let greeted = greet(&links, &mut connection, &mut greeting).await;
    let failure = match greeted {
        Ok(theirs) => {
            links.content_with(&from);
            // A refusal: the other link to that server stays.
            let _ = Link::begin(&links, connection, theirs, Dialled::ByThem).await;
            return;
        }
        Err(failure) => failure,
    };
    metrics::LINK_FAILURES.with_label_values(&[failure.word()]).inc();
    match (&failure, greeting.peer()) {
        // Somebody who looks at the port, or whose link another one has overtaken.
        (Failure::Broken(_) | Failure::Timeout, None) => log::debug!("no link with {from}: {failure}"),
        // The side of this server that dials says so.
        (_, Some(peer)) if *peer == links.own => log::debug!("this server has dialled itself"),
        (failure, None) => links.complain(&from, failure),
        (failure, Some(peer)) => links.complain(&format!("{from} ({peer})"), failure),
    }
    connection.queue().close();
    // What was said last is not lost to a reset: the other side ends first, if it will.
    let _ = tokio::time::timeout(LAST_WORDS, std::future::poll_fn(|cx| connection.poll_discard(cx))).await;
}

/// The way out of a link that was dialled to us: what its queue holds, as the body of the handshake's response. The HTTP
/// side stops asking while its own buffer is full; the link is read on meanwhile.
struct Body {
    queue: Arc<LinkQueue>,
    out: BytesMut,
}

impl MessageBody for Body {
    type Error = actix_web::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        match this.queue.take(CHUNK.min(BUDGET), Masking::Server, cx.waker(), &mut this.out) {
            Taken::Nothing => {
                // What was handed over last is written by now: its memory serves again, unless it is too much.
                if this.out.capacity() > BUDGET {
                    this.out = BytesMut::new();
                }
                Poll::Pending
            }
            Taken::End if this.out.is_empty() => Poll::Ready(None),
            Taken::Frames | Taken::End => Poll::Ready(Some(Ok(this.out.split().freeze()))),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // Nobody writes any more.
        self.queue.abort();
    }
}
