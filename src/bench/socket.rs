//! A WebSocket that costs a load client as little as can be: one read a wake-up into the thread's shared buffer, frames
//! parsed in place, and everything to say (messages, the answer to the last ping) in one write.
//!
//! Owns the handshake, the framing and the pings. What is said and counted is a [`Peer`]'s.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine as _;
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use super::frame::{self, Frame, FrameError, Parsed};
use super::meter::Meter;

/// Longest head of an answer to the handshake, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// A handshake takes no longer; nor does a close.
const PATIENCE: Duration = Duration::from_secs(20);
/// A write buffer that grew beyond this is given back when it is empty, in bytes.
const KEEP: usize = 64 << 10;

/// Why a connection came to nothing, or to an end.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("{0} is not ws://HOST:PORT/PATH; load is made over plain connections only")]
    Address(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the handshake was refused: {0}")]
    Refused(String),
    #[error("no answer to the handshake within {} s", PATIENCE.as_secs())]
    Silent,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the server closed it ({0}): {1}")]
    Closed(u16, String),
    #[error("the server dropped it")]
    Dropped,
}

/// What a connection says, and what it makes of what it hears.
pub(super) trait Peer {
    /// Adds what there is to say unasked; called on every wake-up, before reading.
    fn wake(&mut self, cx: &mut Context<'_>, meter: &Meter, out: &mut Vec<u8>);
    /// One text message that came, at `now` on the meter's clock.
    fn hear(&mut self, text: &[u8], now: u64, meter: &Meter, out: &mut Vec<u8>);
}

/// One open connection.
pub(super) struct LoadSocket {
    stream: TcpStream,
    /// The beginning of a frame whose end was not yet read.
    rest: Vec<u8>,
    out: Vec<u8>,
    written: usize,
}

impl LoadSocket {
    /// Connects and upgrades; `source` is the local address, for more connections than one has ports.
    pub(super) async fn open(url: &Url, source: Option<Ipv4Addr>) -> Result<Self, SocketError> {
        timeout(PATIENCE, Self::handshake(url, source)).await.unwrap_or(Err(SocketError::Silent))
    }

    async fn handshake(url: &Url, source: Option<Ipv4Addr>) -> Result<Self, SocketError> {
        let bad = || SocketError::Address(format!("{}://{}", url.scheme(), url.authority()));
        let (Some(host), Some(port), "ws") = (url.host_str(), url.port_or_known_default(), url.scheme()) else {
            return Err(bad());
        };
        let address = lookup_host((host.trim_matches(['[', ']']), port)).await?.next().ok_or_else(bad)?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let (Some(source), true) = (source, address.ip().is_loopback() && address.is_ipv4()) {
            socket.bind(SocketAddr::from((source, 0)))?;
        }
        let mut stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {}?{} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
            url.path(),
            url.query().unwrap_or_default(),
            base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 16]>()),
        );
        stream.write_all(request.as_bytes()).await?;
        let rest = read_head(&mut stream).await?;
        Ok(Self { stream, rest, out: Vec::new(), written: 0 })
    }

    /// Lets `peer` speak and hear until the meter stops or the connection ends, and gives it back.
    pub(super) async fn drive<P: Peer>(mut self, mut peer: P, meter: Rc<Meter>) -> P {
        let broken = tokio::select! {
            biased;
            () = meter.stopped() => None,
            error = poll_fn(|cx| self.poll(&mut peer, &meter, cx)) => Some(error),
        };
        match broken {
            Some(error) => meter.broke(&error.to_string()),
            None => self.close().await,
        }
        peer
    }

    /// Says goodbye and waits for the other side's, so that the server knows of the end when this returns.
    pub(super) async fn close(mut self) {
        frame::close(&mut self.out);
        let goodbye = async {
            self.stream.write_all(&self.out[self.written..]).await?;
            let mut read = [0; 4096];
            while self.stream.read(&mut read).await? > 0 {}
            std::io::Result::Ok(())
        };
        // Whatever fails here, the connection is at its end.
        let _ = timeout(PATIENCE, goodbye).await;
    }

    fn poll<P: Peer>(&mut self, peer: &mut P, meter: &Meter, cx: &mut Context<'_>) -> Poll<SocketError> {
        loop {
            peer.wake(cx, meter, &mut self.out);
            if let Err(error) = self.poll_flush(cx) {
                return Poll::Ready(error.into());
            }
            match ready!(self.poll_read(peer, meter, cx)) {
                Ok(()) => {}
                Err(error) => return Poll::Ready(error),
            }
        }
    }

    /// Writes what the socket takes now; the rest is tried again when it takes more.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        while self.written < self.out.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..]) {
                Poll::Ready(written) => self.written += written?,
                Poll::Pending => return Ok(()),
            }
        }
        self.out.clear();
        self.written = 0;
        if self.out.capacity() > KEEP {
            self.out = Vec::new();
        }
        Ok(())
    }

    fn poll_read<P: Peer>(
        &mut self,
        peer: &mut P,
        meter: &Meter,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SocketError>> {
        let mut buffer = meter.buffer.borrow_mut();
        let kept = self.rest.len();
        // A whole handshake's surplus may wait in `rest` without anything more to read, so it is looked at first.
        if let Some(missing) = self.missing(&buffer)? {
            let len = buffer.len();
            buffer.resize(len.max(missing), 0);
            let mut space = ReadBuf::new(&mut buffer[kept..]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
            let read = space.filled().len();
            if read == 0 {
                return Poll::Ready(Err(SocketError::Dropped));
            }
            buffer[..kept].copy_from_slice(&self.rest);
            self.rest.clear();
            let bytes = &buffer[..kept + read];
            let taken = take(bytes, peer, meter, &mut self.out)?;
            self.rest.extend_from_slice(&bytes[taken..]);
        } else {
            let bytes = std::mem::take(&mut self.rest);
            let taken = take(&bytes, peer, meter, &mut self.out)?;
            self.rest.extend_from_slice(&bytes[taken..]);
        }
        Poll::Ready(Ok(()))
    }

    /// How long a buffer the frame in `rest` needs; `None` when it is whole.
    fn missing(&self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        if self.rest.is_empty() {
            return Ok(Some(buffer.len()));
        }
        match frame::parse(&self.rest)? {
            Parsed::Whole(..) => Ok(None),
            Parsed::Needs(bytes) => Ok(Some(bytes)),
        }
    }
}

/// Hears all whole frames in `bytes` and says how far they reach.
fn take<P: Peer>(bytes: &[u8], peer: &mut P, meter: &Meter, out: &mut Vec<u8>) -> Result<usize, SocketError> {
    let now = meter.now();
    let mut at = 0;
    let mut ping = None;
    while at < bytes.len() {
        let Parsed::Whole(frame, len) = frame::parse(&bytes[at..])? else { break };
        match frame {
            Frame::Text(text) => peer.hear(text, now, meter, out),
            // Of several pings only the last must be answered (RFC 6455, 5.5.3).
            Frame::Ping(payload) => ping = Some(payload),
            Frame::Pong => {}
            Frame::Close(code, reason) => {
                return Err(SocketError::Closed(code, String::from_utf8_lossy(reason).into_owned()));
            }
        }
        at += len;
    }
    if let Some(payload) = ping {
        frame::pong(out, payload);
    }
    Ok(at)
}

/// Reads the answer to the handshake; gives back what came behind it.
async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, SocketError> {
    let mut bytes = Vec::with_capacity(512);
    let end = loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() > MAX_HEAD {
            return Err(SocketError::Refused(format!("its answer has more than {MAX_HEAD} bytes of headers")));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(SocketError::Dropped);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    if head.split_whitespace().nth(1) == Some("101") {
        return Ok(bytes.split_off(end));
    }
    let status = head.lines().next().unwrap_or_default();
    // The words of a refusal usually come with its head; waiting for more of them is not worth it.
    let words = String::from_utf8_lossy(&bytes[end..]);
    Err(SocketError::Refused(format!("{status} {words}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo {
        heard: Vec<Vec<u8>>,
    }

    impl Peer for Echo {
        fn wake(&mut self, _: &mut Context<'_>, _: &Meter, _: &mut Vec<u8>) {}
        fn hear(&mut self, text: &[u8], now: u64, meter: &Meter, out: &mut Vec<u8>) {
            self.heard.push(text.to_vec());
            frame::text(out, text);
            meter.advance(now, 0);
        }
    }

    fn server_text(len: usize) -> Vec<u8> {
        let mut frame = vec![0x81, 127];
        frame.extend_from_slice(&(len as u64).to_be_bytes());
        frame.extend(std::iter::repeat_n(b'a', len));
        frame
    }

    /// A server of one connection: says `says` after the handshake in pieces, then collects what it hears.
    async fn serve(says: Vec<Vec<u8>>) -> (Url, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("ws://{}/v1/connect?k=v", listener.local_addr().unwrap())).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            assert!(head.starts_with(b"GET /v1/connect?k=v HTTP/1.1\r\n"));
            for piece in says {
                stream.write_all(&piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let mut heard = Vec::new();
            while stream.read_buf(&mut heard).await.unwrap() > 0 {
                if heard.ends_with(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xE8]) {
                    break;
                }
            }
            heard
        });
        (url, server)
    }

    async fn hear(says: Vec<Vec<u8>>, goal: u64) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (url, server) = serve(says).await;
        let meter = Rc::new(Meter::new(goal));
        let socket = LoadSocket::open(&url, Some(Ipv4Addr::new(127, 0, 0, 2))).await.unwrap();
        meter.opened();
        let end = async {
            meter.end(Duration::from_secs(10)).await;
            meter.stop();
        };
        let (peer, ()) = tokio::join!(socket.drive(Echo { heard: Vec::new() }, meter.clone()), end);
        (peer.heard, server.await.unwrap())
    }

    const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    #[tokio::test]
    async fn frames_cut_anywhere_and_longer_than_the_buffer_arrive_whole() {
        let frame = server_text(300_000);
        let small = server_text(3);
        let says = vec![
            [UPGRADED, &small, &frame[..1]].concat(),
            frame[1..12].to_vec(),
            [&frame[12..], &small[..], &small[..5]].concat(),
            small[5..].to_vec(),
        ];
        let (heard, _) = hear(says, 4).await;
        assert_eq!(heard.iter().map(Vec::len).collect::<Vec<_>>(), [3, 300_000, 3, 3]);
    }

    #[tokio::test]
    async fn of_several_pings_the_last_is_answered_behind_the_messages() {
        let says = vec![[UPGRADED, &[0x89, 1, b'1'], &server_text(2), &[0x89, 1, b'2']].concat()];
        let (_, said) = hear(says, 1).await;
        let mut expected = Vec::new();
        frame::text(&mut expected, b"aa");
        frame::pong(&mut expected, b"2");
        frame::close(&mut expected);
        assert_eq!(said, expected);
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_servers_words() {
        let (url, server) = serve(vec![b"HTTP/1.1 401 Unauthorized\r\n\r\nno such key".to_vec()]).await;
        let Err(error) = LoadSocket::open(&url, None).await else { panic!("it was opened") };
        assert!(error.to_string().contains("401 Unauthorized no such key"), "{error}");
        server.await.unwrap();
    }
}
