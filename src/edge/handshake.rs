//! The way in: from an accepted key to an edge.
//!
//! The device is attached before its handshake is answered, so that a peer who writes to it at once finds it (row A77).
//! Whose key it is, and whether it may come in, has been decided by the caller.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use actix_web::body::MessageBody;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use actix_ws::AggregatedMessageStream;
use futures_util::StreamExt;

use super::actor::Edge;
use super::body::Body;
use super::{Newcomer, Site};
use crate::model::codes::{Code, Refusal};
use crate::model::ids::ConnectionId;
use crate::model::lane::Options;
use crate::node::{Attach, Attached};
use crate::view::{Device, steady};
use crate::wire::guard::Guard;
use crate::wire::notice::{About, ErrorNotice, Notice};

/// Whether the request asks for a WebSocket.
pub fn is_websocket(request: &HttpRequest) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("websocket")))
}

/// Attaches the newcomer and starts its edge; the answer completes the WebSocket handshake.
///
/// # Errors
/// `full` and `draining` when the server takes nobody, `unavailable` when the device cannot be registered, `bad_request`
/// for something that is no WebSocket handshake.
pub async fn open(
    site: &Arc<Site>,
    newcomer: Newcomer,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let ear = Ear::default();
    let payload = guarded(request, payload, site.limits.max_message_bytes, ear.clone()).await?;
    // The library's own way out is not used: what is written goes through `Body`.
    let (response, _, stream) = actix_ws::handle(request, payload).map_err(|error| {
        Refusal::new(Code::BadRequest, format!("this is no WebSocket handshake of version 13: {error}"))
    })?;
    let sender = &newcomer.sender;
    let registered = site.home.register(sender.node.clone(), sender.client.clone()).await;
    registered.map_err(|_| Refusal::new(Code::Unavailable, "the device cannot be registered now; try again later"))?;
    let options = Options { acks: newcomer.acks, replay: newcomer.replay, limit: site.view.outbox_limit(), number: 0 };
    let attach = Attach { node: sender.node.clone(), client: sender.client.clone(), options };
    let attached =
        site.node.send(attach).await.map_err(|_| Refusal::new(Code::Draining, "the server is going away"))??;
    let lost = site.home.tell_lost(sender.node.clone()).await;
    // Nothing is written before the handshake is answered, so this comes first.
    report_losses(site, &attached, lost);
    let stream = incoming(stream, site.limits.max_message_bytes);
    let (device, connection) = (attached.device.clone(), attached.connection);
    // It is empty: nothing else sets it.
    let _ = ear.set((site.clone(), device.clone(), connection));
    let site_of_edge = site.clone();
    let name = sender.node.clone();
    Edge::create(move |ctx| Edge::new(site_of_edge, newcomer, attached, stream, ctx));
    log::info!("{name} connected ({})", connection.0);
    Ok(response.map_body(|_, handshake| Body::new(site.view.clone(), device, connection, handshake).boxed()))
}

/// Says, before anything else, how many envelopes a limit has pushed out of the inbox since the device was told.
fn report_losses(site: &Site, attached: &Attached, lost: u64) {
    if lost > 0 {
        let message = format!("{lost} messages were pushed out of the inbox by its limit, oldest first");
        let refusal = Refusal::new(Code::InboxOverflow, message);
        let error = ErrorNotice::of(&refusal, About::default()).encode();
        site.view.control(&attached.device, attached.connection, error.frame().clone());
    }
}

/// Whose signs of life the incoming bytes are; set once the device is attached.
type Ear = Rc<OnceCell<(Arc<Site>, Arc<Device>, ConnectionId)>>;

/// The incoming bytes: each of them is a sign of life, and where a frame announces more than a message may have they end
/// in an error.
async fn guarded(request: &HttpRequest, payload: web::Payload, max: usize, ear: Ear) -> Result<web::Payload, Refusal> {
    let mut guard = Guard::new(max as u64);
    let admitted = payload.into_inner().map(move |chunk| {
        let chunk = chunk?;
        if let Some((site, device, connection)) = ear.get() {
            site.view.received(device, *connection, steady());
        }
        guard.admit(&chunk).map(|()| chunk).map_err(|_| PayloadError::Overflow)
    });
    let mut admitted: Payload = Payload::Stream { payload: Box::pin(admitted) };
    let taken = web::Payload::from_request(request, &mut admitted).await;
    taken.map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))
}

/// The bound is that of a whole message, in one frame or in many.
fn incoming(stream: actix_ws::MessageStream, max_message_bytes: usize) -> AggregatedMessageStream {
    stream.max_frame_size(max_message_bytes).aggregate_continuations().max_continuation_size(max_message_bytes)
}
