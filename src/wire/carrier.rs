//! WebSocket frames as links use them: whole binary messages, written with their head in one buffer and read without a
//! copy where the bytes came in one piece.
//!
//! Owns the framing (RFC 6455, 5.2) of both sides of a link. Bounded: a frame that announces more than is allowed is an
//! error before anything is kept for it, and nothing but the rest of one frame is kept. The mask of a client's frames is
//! zero, which costs neither side anything: masks are there for proxies that take chosen bytes for requests of their
//! own, and what stands between two servers is a proxy that speaks WebSocket, or TLS, or nothing. Every mask is read.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::guard::TooLong;
use crate::model::codes::Close;

const FIN: u8 = 0x80;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const MASKED: u8 = 0x80;
/// Instead of a length: two bytes of it follow.
const LONG: u8 = 0x7E;
/// Instead of a length: eight bytes of it follow.
const HUGE: u8 = 0x7F;
/// Two bytes, up to eight of length, four of mask.
const MAX_HEAD: usize = 14;
/// What is shorter is copied out of the buffer it came in, so that one small frame that is kept does not keep all that
/// came with it.
const SMALL: usize = 2048;

/// Who has written a frame, and so whether it has a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masking {
    /// The side that has opened the connection.
    Client,
    Server,
}

/// Why the bytes of a link are no frames of one. Nothing can be read after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CarrierError {
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("a text frame, a fragment or an unknown frame (first byte {0:#04x})")]
    Kind(u8),
    #[error("a frame with the mask of the other side")]
    Mask,
}

/// One WebSocket message.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Binary(Bytes),
    /// A ping or a pong: a sign of life, and no more between servers.
    Life,
    Close,
}

/// Adds the head of a binary message of `len` bytes.
pub fn put_binary_head(out: &mut BytesMut, len: usize, masking: Masking) {
    put_head(out, BINARY, len, masking);
}

/// Adds a close without complaint.
pub fn put_close(out: &mut BytesMut, masking: Masking) {
    put_head(out, CLOSE, 2, masking);
    out.put_u16(Close::GOING_AWAY.code);
}

fn put_head(out: &mut BytesMut, kind: u8, len: usize, masking: Masking) {
    out.reserve(MAX_HEAD + len);
    let masked = if masking == Masking::Client { MASKED } else { 0 };
    out.put_u8(FIN | kind);
    match len {
        0..126 => out.put_u8(masked | len as u8),
        126..=0xFFFF => {
            out.put_u8(masked | LONG);
            out.put_u16(len as u16);
        }
        _ => {
            out.put_u8(masked | HUGE);
            out.put_u64(len as u64);
        }
    }
    if masking == Masking::Client {
        out.put_u32(0);
    }
}

/// Reads one direction of a link.
#[derive(Debug)]
pub struct Deframer {
    /// The side that writes.
    of: Masking,
    max: u64,
    /// What came last.
    chunk: Bytes,
    /// The beginning of a frame whose end has not come.
    partial: BytesMut,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    kind: u8,
    mask: [u8; 4],
    bytes: usize,
    payload: usize,
}

impl Deframer {
    /// `of`: whose frames they are; `max` bytes in one message.
    pub fn new(of: Masking, max: usize) -> Self {
        Self { of, max: max as u64, chunk: Bytes::new(), partial: BytesMut::new() }
    }

    /// From now on `max` bytes in one message.
    pub fn allow(&mut self, max: usize) {
        self.max = max as u64;
    }

    /// The next bytes of the stream. To be called when [`Deframer::next`] has nothing more.
    pub fn feed(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty());
        self.chunk = chunk;
    }

    /// The next whole message; `None` when more bytes are needed.
    #[expect(clippy::should_implement_trait, reason = "an error ends it, and None does not")]
    pub fn next(&mut self) -> Result<Option<Message>, CarrierError> {
        if self.partial.is_empty() {
            let Some(head) = self.head(&self.chunk)? else {
                self.keep(self.chunk.len());
                return Ok(None);
            };
            if self.chunk.len() >= head.bytes + head.payload {
                self.chunk.advance(head.bytes);
                let payload = self.chunk.split_to(head.payload);
                return message(head, payload).map(Some);
            }
        }
        // The head first, byte by byte at most, then exactly what the frame lacks.
        let head = loop {
            if let Some(head) = self.head(&self.partial)? {
                break head;
            }
            if self.chunk.is_empty() {
                return Ok(None);
            }
            self.keep(1);
        };
        let whole = head.bytes + head.payload;
        let lacks = whole - self.partial.len();
        if self.chunk.len() < lacks {
            if self.partial.capacity() < whole {
                self.partial.reserve(lacks);
            }
            self.keep(self.chunk.len());
            return Ok(None);
        }
        self.keep(lacks);
        let mut payload = std::mem::take(&mut self.partial).freeze();
        payload.advance(head.bytes);
        message(head, payload).map(Some)
    }

    fn keep(&mut self, bytes: usize) {
        self.partial.extend_from_slice(&self.chunk[..bytes]);
        self.chunk.advance(bytes);
    }

    /// `None` until it is whole.
    fn head(&self, bytes: &[u8]) -> Result<Option<Head>, CarrierError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let Some(kind @ (BINARY | CLOSE | PING | PONG)) = first.checked_sub(FIN) else {
            return Err(CarrierError::Kind(first));
        };
        if (second & MASKED != 0) != (self.of == Masking::Client) {
            return Err(CarrierError::Mask);
        }
        let (extra, short) = match second & !MASKED {
            LONG => (2, 0),
            HUGE => (8, 0),
            short => (0, u64::from(short)),
        };
        let mask = if self.of == Masking::Client { 4 } else { 0 };
        if rest.len() < extra + mask {
            return Ok(None);
        }
        let (length, rest) = rest.split_at(extra);
        let announced = length.iter().fold(short, |length, byte| length << 8 | u64::from(*byte));
        if announced > self.max {
            return Err(TooLong { announced, max: self.max }.into());
        }
        let mask = rest[..mask].try_into().unwrap_or_default();
        let bytes = 2 + extra + if self.of == Masking::Client { 4 } else { 0 };
        Ok(Some(Head { kind, mask, bytes, payload: announced as usize }))
    }
}

fn message(head: Head, payload: Bytes) -> Result<Message, CarrierError> {
    match head.kind {
        BINARY if head.mask != [0; 4] => {
            let mut plain = BytesMut::from(&payload[..]);
            for (byte, mask) in plain.iter_mut().zip(head.mask.iter().cycle()) {
                *byte ^= mask;
            }
            Ok(Message::Binary(plain.freeze()))
        }
        BINARY if payload.len() < SMALL => Ok(Message::Binary(Bytes::copy_from_slice(&payload))),
        BINARY => Ok(Message::Binary(payload)),
        CLOSE => Ok(Message::Close),
        PING | PONG => Ok(Message::Life),
        kind => Err(CarrierError::Kind(kind)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: &[u8], masking: Masking) -> BytesMut {
        let mut out = BytesMut::new();
        put_binary_head(&mut out, payload.len(), masking);
        out.extend_from_slice(payload);
        out
    }

    fn all(reader: &mut Deframer, stream: &[u8], step: usize) -> Result<Vec<Message>, CarrierError> {
        let mut found = Vec::new();
        for part in stream.chunks(step) {
            reader.feed(Bytes::copy_from_slice(part));
            while let Some(message) = reader.next()? {
                found.push(message);
            }
        }
        Ok(found)
    }

    #[test]
    fn a_mask_of_somebody_elses_making_is_read() {
        let mut stream = vec![FIN | BINARY, MASKED | 5, 1, 2, 3, 4];
        stream.extend(b"hello".iter().zip([1, 2, 3, 4, 1]).map(|(byte, mask)| byte ^ mask));
        let found = all(&mut Deframer::new(Masking::Client, 10), &stream, 3).unwrap();
        assert_eq!(found, [Message::Binary(Bytes::from_static(b"hello"))]);
    }

    #[test]
    fn what_no_link_sends_is_an_error_at_its_head() {
        for (head, error) in [
            (vec![0x81, 1], CarrierError::Kind(0x81)),
            (vec![0x02, 1], CarrierError::Kind(0x02)),
            (vec![0x80, 1], CarrierError::Kind(0x80)),
            (vec![0x82, 0x81], CarrierError::Mask),
            (vec![0x82, 101], TooLong { announced: 101, max: 100 }.into()),
            (vec![0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255], TooLong { announced: u64::MAX, max: 100 }.into()),
        ] {
            for step in [1, 99] {
                assert_eq!(all(&mut Deframer::new(Masking::Server, 100), &head, step), Err(error), "{head:?}");
            }
        }
        assert_eq!(all(&mut Deframer::new(Masking::Client, 100), &[0x82, 1, 7], 9), Err(CarrierError::Mask));
    }

    #[test]
    fn a_close_and_a_ping() {
        let mut out = BytesMut::new();
        put_close(&mut out, Masking::Client);
        put_head(&mut out, PING, 0, Masking::Client);
        let found = all(&mut Deframer::new(Masking::Client, 10), &out, 99).unwrap();
        assert_eq!(found, [Message::Close, Message::Life]);
    }

    proptest! {
        #[test]
        fn wherever_the_stream_is_cut(
            sizes in proptest::collection::vec(prop_oneof![0usize..300, 65_500usize..66_000], 0..5),
            client: bool,
            step in 1usize..9000,
        ) {
            let masking = if client { Masking::Client } else { Masking::Server };
            let payloads: Vec<Vec<u8>> = sizes.iter().map(|size| (0..*size).map(|n| n as u8).collect()).collect();
            let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload, masking)).collect();
            let mut reader = Deframer::new(masking, 66_000);
            let found = all(&mut reader, &stream, step).unwrap();
            let expected: Vec<_> = payloads.into_iter().map(|payload| Message::Binary(payload.into())).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(reader.partial.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(stream in proptest::collection::vec(any::<u8>(), 0..200), step in 1usize..50) {
            for masking in [Masking::Client, Masking::Server] {
                let mut reader = Deframer::new(masking, 150);
                let _ = all(&mut reader, &stream, step);
                prop_assert!(reader.partial.len() <= stream.len());
            }
        }
    }
}
