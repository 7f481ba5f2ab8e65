//! The bytes of one link, whichever side has opened it: messages in, and what its queue holds out.
//!
//! A link that we have dialled has its socket here, and is read and written by one task. One that was dialled to us
//! belongs to the HTTP server: its payload is read here, and `Body` in [`super::accept`] writes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::web;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;

use crate::view::{LinkQueue, Taken};
use crate::wire::carrier::{CarrierError, Deframer, Masking, Message};

/// Bytes taken from the queue for one message, and read at a time.
pub(super) const BUDGET: usize = 256 * 1024;
/// Room for one read.
const READ: usize = 64 * 1024;

/// Why nothing more comes from the other side.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the other side has closed it")]
    Closed,
    #[error("the connection is lost")]
    Lost,
    #[error("the connection is lost: {0}")]
    Io(#[from] io::Error),
    #[error("the other side sends {0}")]
    Carrier(#[from] CarrierError),
    #[error("the other side sends a word of {0} bytes")]
    Long(usize),
}

enum Transport {
    Socket(Socket),
    Payload(web::Payload),
}

struct Socket {
    stream: Box<MaybeTlsStream<TcpStream>>,
    read: BytesMut,
    out: BytesMut,
    flushed: Flushed,
}

/// Whether all that the stream has taken is on its way.
#[derive(PartialEq, Eq)]
enum Flushed {
    Yes,
    No,
}

/// See the module's header.
pub(super) struct Connection {
    transport: Transport,
    deframer: Deframer,
    queue: Arc<LinkQueue>,
    /// What has come of the message at hand.
    rest: Bytes,
}

impl Connection {
    pub(super) fn dialled(stream: MaybeTlsStream<TcpStream>, queue: Arc<LinkQueue>) -> Self {
        let socket =
            Socket { stream: Box::new(stream), read: BytesMut::new(), out: BytesMut::new(), flushed: Flushed::Yes };
        Self::new(Transport::Socket(socket), Masking::Server, queue)
    }

    pub(super) fn accepted(payload: web::Payload, queue: Arc<LinkQueue>) -> Self {
        Self::new(Transport::Payload(payload), Masking::Client, queue)
    }

    fn new(transport: Transport, theirs: Masking, queue: Arc<LinkQueue>) -> Self {
        Self { transport, deframer: Deframer::new(theirs, 0), queue, rest: Bytes::new() }
    }

    pub(super) fn queue(&self) -> &Arc<LinkQueue> {
        &self.queue
    }

    /// Most bytes in one message of the other side, from now on.
    pub(super) fn allow(&mut self, max: usize) {
        self.deframer.allow(max);
    }

    /// The next message that is whole, of those whose bytes have been read.
    pub(super) fn message(&mut self) -> Result<Option<Bytes>, Broken> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        loop {
            match self.deframer.next()? {
                Some(Message::Binary(bytes)) => return Ok(Some(bytes)),
                Some(Message::Life) => {}
                Some(Message::Close) => return Err(Broken::Closed),
                None => return Ok(None),
            }
        }
    }

    /// The next word of a greeting, of at most `limit` bytes; without its length. Writes what is to be written meanwhile.
    pub(super) async fn word(&mut self, limit: usize) -> Result<Bytes, Broken> {
        std::future::poll_fn(|cx| self.poll_word(limit, cx)).await
    }

    fn poll_word(&mut self, limit: usize, cx: &mut Context<'_>) -> Poll<Result<Bytes, Broken>> {
        loop {
            if let Poll::Ready(result) = self.poll_write(cx) {
                return Poll::Ready(Err(result.err().map_or(Broken::Lost, Broken::Io)));
            }
            if let Some(mut message) = self.message()? {
                // Each word stands in one message, which may hold what follows it.
                let Some(len) = message.try_get_u32().ok().map(|len| len as usize) else {
                    return Poll::Ready(Err(Broken::Long(0)));
                };
                if len > limit || len > message.len() {
                    return Poll::Ready(Err(Broken::Long(len)));
                }
                let word = message.split_to(len);
                self.rest = message;
                return Poll::Ready(Ok(word));
            }
            ready!(self.poll_read(cx))?;
        }
    }

    /// Reads what has come, once; [`Connection::message`] gives it. Ready with the number of bytes.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        let chunk = ready!(self.poll_chunk(cx))?;
        let bytes = chunk.len();
        self.deframer.feed(chunk);
        Poll::Ready(Ok(bytes))
    }

    /// Reads, and keeps nothing. Ready when nothing more can come.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while ready!(self.poll_chunk(cx)).is_ok() {}
        Poll::Ready(())
    }

    /// Never empty.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Broken>> {
        let chunk = match &mut self.transport {
            Transport::Socket(socket) => ready!(socket.poll_read(cx))?,
            Transport::Payload(payload) => match ready!(Pin::new(payload).poll_next(cx)) {
                Some(Ok(chunk)) => chunk,
                Some(Err(_)) | None => Bytes::new(),
            },
        };
        Poll::Ready(if chunk.is_empty() { Err(Broken::Lost) } else { Ok(chunk) })
    }

    /// Writes what waits, as far as the socket takes it. Ready when the queue has ended and all is written. The task is
    /// woken when there is more to write, or more room.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Socket(socket) => socket.poll_write(&self.queue, cx),
            Transport::Payload(_) => Poll::Pending,
        }
    }

    /// This task asks the queue again before it rests: nobody need wake it for what it pushes itself.
    pub(super) fn attend(&self) {
        if matches!(self.transport, Transport::Socket(_)) {
            self.queue.attend();
        }
    }
}

impl Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.read.capacity() < READ / 4 {
            self.read.reserve(READ);
        }
        // This future has no state of its own: what it has read is in the buffer.
        ready!(std::pin::pin!(self.stream.read_buf(&mut self.read)).poll(cx))?;
        Poll::Ready(Ok(self.read.split().freeze()))
    }

    fn poll_write(&mut self, queue: &LinkQueue, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = loop {
            while !self.out.is_empty() {
                match ready!(Pin::new(&mut *self.stream).poll_write(cx, &self.out))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => self.out.advance(written),
                }
                self.flushed = Flushed::No;
            }
            match queue.take(BUDGET, Masking::Client, cx.waker(), &mut self.out) {
                Taken::Nothing => break false,
                Taken::End if self.out.is_empty() => break true,
                Taken::Frames | Taken::End => {}
            }
        };
        if self.flushed == Flushed::No {
            ready!(Pin::new(&mut *self.stream).poll_flush(cx))?;
            self.flushed = Flushed::Yes;
        }
        if self.out.capacity() > BUDGET {
            self.out = BytesMut::new();
        }
        if ended { Pin::new(&mut *self.stream).poll_shutdown(cx) } else { Poll::Pending }
    }
}
