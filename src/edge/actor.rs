//! The actor of one edge: hears what its socket says, and ends it.
//!
//! Owns the incoming side and the life of the connection. Invariant: whatever ends the edge, its [`Attached`] is dropped
//! with it, which detaches its lane.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_web::error::PayloadError;
use actix_ws::{AggregatedMessage, AggregatedMessageStream, ProtocolError};

use super::{Newcomer, Site};
use crate::metrics;
use crate::model::codes::{Close, Code, Refusal};
use crate::model::decide::Sender;
use crate::model::ids::ConnectionId;
use crate::model::rate::{Bucket, Limits};
use crate::node::Attached;
use crate::view::{Device, EdgeStop, steady};
use crate::wire::frame;
use crate::wire::notice::{About, ErrorNotice, Notice};

/// How long a peer has to take the close frame and to answer it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// See the module's header.
pub struct Edge {
    pub(super) site: Arc<Site>,
    pub(super) sender: Sender,
    pub(super) device: Arc<Device>,
    pub(super) connection: ConnectionId,
    /// What is dropped last: the place in the lane.
    _attached: Attached,
    bucket: Bucket,
    ending: Ending,
}

/// As buckets count time.
fn moment() -> Duration {
    Duration::from_millis(steady().0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// The close frame is on its way; nothing that still comes counts.
    Closing,
}

impl Edge {
    pub(super) fn new(
        site: Arc<Site>,
        newcomer: Newcomer,
        attached: Attached,
        stream: AggregatedMessageStream,
        ctx: &mut Context<Self>,
    ) -> Self {
        ctx.add_stream(stream);
        let limits = Limits { frames: site.limits.rate_frames, bytes: site.limits.rate_bytes };
        let bucket = site.spent().resume(&newcomer.sender.node, limits, moment());
        Self {
            site,
            sender: newcomer.sender,
            device: attached.device.clone(),
            connection: attached.connection,
            _attached: attached,
            bucket,
            ending: Ending::No,
        }
    }

    /// Puts an ERROR before all that waits, and closes where the code says so.
    pub(super) fn refuse(&mut self, refusal: &Refusal, about: About<'_>, ctx: &mut Context<Self>) {
        metrics::REFUSED.with_label_values(&[refusal.code.word()]).inc();
        let error = ErrorNotice::of(refusal, about).encode();
        self.site.view.control(&self.device, self.connection, error.frame().clone());
        if let Some(close) = refusal.code.close() {
            self.end(close, ctx);
        }
    }

    /// Ends the edge once all that waits is written, or without that after a while.
    pub(super) fn end(&mut self, close: Close, ctx: &mut Context<Self>) {
        if self.ending == Ending::Closing {
            return;
        }
        self.ending = Ending::Closing;
        metrics::CLOSED.with_label_values(&[close.reason]).inc();
        log::info!("{} closed ({}): {}", self.sender.node, self.connection.0, close.reason);
        self.site.view.end(&self.device, self.connection, close);
        ctx.run_later(CLOSE_PATIENCE, |_, ctx| ctx.stop());
    }

    fn hear(&mut self, message: AggregatedMessage, ctx: &mut Context<Self>) {
        match message {
            AggregatedMessage::Text(text) => self.inbound(&text, ctx),
            AggregatedMessage::Binary(_) => {
                self.refuse(
                    &Refusal::new(Code::BinaryFrame, "messages are JSON in text frames"),
                    About::default(),
                    ctx,
                );
            }
            AggregatedMessage::Ping(payload) => {
                self.site.view.control(&self.device, self.connection, frame::pong(&payload));
            }
            AggregatedMessage::Pong(payload) => {
                if let Some(counter) = frame::ping_counter(&payload) {
                    self.site.view.on(&self.device, |lane, now, out| lane.pong(self.connection, counter, now, out));
                }
            }
            AggregatedMessage::Close(_) => self.end(Close::NORMAL, ctx),
        }
    }
}

impl Actor for Edge {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.device.stop_by(self.connection, ctx.address().recipient());
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.site.spent().keep(&self.sender.node, &self.bucket, moment());
        if self.ending == Ending::No {
            metrics::CLOSED.with_label_values(&["connection lost"]).inc();
            log::info!("{} lost its connection ({})", self.sender.node, self.connection.0);
        }
    }
}

impl StreamHandler<Result<AggregatedMessage, ProtocolError>> for Edge {
    fn handle(&mut self, item: Result<AggregatedMessage, ProtocolError>, ctx: &mut Self::Context) {
        if self.ending == Ending::Closing {
            // Only the answer to our close is awaited.
            if matches!(item, Ok(AggregatedMessage::Close(_))) {
                ctx.stop();
            }
            return;
        }
        match item {
            Ok(message) => {
                let bytes = size_of(&message);
                let admitted = self.bucket.take(bytes, moment());
                match admitted {
                    Ok(()) => self.hear(message, ctx),
                    Err(exceeded) => {
                        // Now: it may be back before this edge has ended.
                        self.site.spent().keep(&self.sender.node, &self.bucket, moment());
                        let message = format!("{exceeded}; slow down and connect again");
                        self.refuse(&Refusal::new(Code::RateLimited, message), About::default(), ctx);
                    }
                }
            }
            Err(error) => self.refuse_stream(&error, ctx),
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Edge {
    /// The stream of frames has an error; nothing more can be read after it.
    fn refuse_stream(&mut self, error: &ProtocolError, ctx: &mut Context<Self>) {
        // The decoder would find the same fault again and again: it is not asked any more. It is not dropped either, or the
        // connection would end before our last words are written.
        ctx.wait(tokio::time::sleep(CLOSE_PATIENCE).into_actor(self).map(|(), _, ctx| ctx.stop()));
        let limit = self.site.limits.max_message_bytes;
        match error {
            error if is_too_long(error) => {
                let message = format!("a message has at most {limit} bytes");
                self.refuse(&Refusal::new(Code::TooLarge, message), About::default(), ctx);
            }
            ProtocolError::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
                self.refuse(&Refusal::new(Code::BadUtf8, "a text frame is not UTF-8"), About::default(), ctx);
            }
            ProtocolError::Io(_) => ctx.stop(),
            other => {
                metrics::REFUSED.with_label_values(&["protocol"]).inc();
                log::debug!("{} broke the WebSocket protocol: {other}", self.sender.node);
                self.end(Close::PROTOCOL, ctx);
            }
        }
    }
}

/// The library's own word for a frame or for fragments, or that of our guard before it.
fn is_too_long(error: &ProtocolError) -> bool {
    match error {
        ProtocolError::Overflow => true,
        ProtocolError::Io(io) => {
            match io.get_ref().map(|cause| cause.downcast_ref::<PayloadError>()) {
                Some(Some(PayloadError::Overflow)) => true,
                // The connection broke.
                Some(Some(_)) | None => false,
                // The library's words for a message of too many fragments.
                Some(None) => io.kind() == std::io::ErrorKind::Other,
            }
        }
        _ => false,
    }
}

fn size_of(message: &AggregatedMessage) -> usize {
    match message {
        AggregatedMessage::Text(text) => text.len(),
        AggregatedMessage::Binary(bytes) | AggregatedMessage::Ping(bytes) | AggregatedMessage::Pong(bytes) => {
            bytes.len()
        }
        AggregatedMessage::Close(_) => 0,
    }
}

impl Handler<EdgeStop> for Edge {
    type Result = ();

    fn handle(&mut self, EdgeStop(close): EdgeStop, ctx: &mut Self::Context) {
        self.end(close, ctx);
        if close == Close::SILENT {
            // Nobody is there to take a close frame.
            ctx.stop();
        }
    }
}
