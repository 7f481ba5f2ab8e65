//! The way out: what waits in an edge's outbox, as the body of its handshake's response.
//!
//! Each frame is handed over as it is, so that an envelope's bytes are shared by all recipients up to the socket's own
//! buffer, where those of one write come together. The server's HTTP side stops asking while that buffer is full: this is
//! the backpressure, and nothing is written by a second task.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use crate::model::ids::ConnectionId;
use crate::view::{Device, Taken, View};

/// Bytes taken from the outbox at a time.
const BUDGET: usize = 64 * 1024;

/// See the module's header.
pub struct Body {
    view: Arc<View>,
    device: Arc<Device>,
    connection: ConnectionId,
    batch: VecDeque<Bytes>,
    /// The body that the handshake made. It is never read; when it is dropped, the stream of incoming frames ends.
    _handshake: BoxBody,
}

impl Body {
    pub fn new(view: Arc<View>, device: Arc<Device>, connection: ConnectionId, handshake: BoxBody) -> Self {
        Self { view, device, connection, batch: VecDeque::new(), _handshake: handshake }
    }
}

impl MessageBody for Body {
    type Error = Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let this = self.get_mut();
        if let Some(frame) = this.batch.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match this.view.take(&this.device, this.connection, BUDGET, cx.waker(), &mut this.batch) {
            Taken::Frames => Poll::Ready(this.batch.pop_front().map(Ok)),
            Taken::Nothing => {
                // An idle edge keeps no buffer.
                this.batch = VecDeque::new();
                Poll::Pending
            }
            Taken::End => Poll::Ready(None),
        }
    }
}
