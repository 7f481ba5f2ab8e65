//! WebSocket frames as a client writes and reads them.

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) enum Frame {
    Text(String),
    Ping(Bytes),
    Close,
}

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const MASKED: u8 = 0x80;

/// A server writes each frame by itself.
pub(crate) fn read(chunk: &Bytes) -> Frame {
    let (head, len) = match chunk[1] {
        126 => (4, u16::from_be_bytes([chunk[2], chunk[3]]) as usize),
        127 => (10, u64::from_be_bytes(chunk[2..10].try_into().unwrap()) as usize),
        len => (2, len as usize),
    };
    assert_eq!(chunk.len(), head + len, "one whole frame");
    let payload = chunk.slice(head..);
    match chunk[0] {
        TEXT => Frame::Text(String::from_utf8(payload.to_vec()).unwrap()),
        PING => Frame::Ping(payload),
        CLOSE => Frame::Close,
        other => panic!("a server writes no {other:#x}"),
    }
}

/// With a mask of zero.
fn frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 14);
    out.put_u8(kind);
    match payload.len() {
        len @ 0..126 => out.put_u8(MASKED | len as u8),
        len @ 126..=0xFFFF => {
            out.put_u8(MASKED | 0x7E);
            out.put_u16(len as u16);
        }
        len => {
            out.put_u8(MASKED | 0x7F);
            out.put_u64(len as u64);
        }
    }
    out.put_u32(0);
    out.put_slice(payload);
    out.freeze()
}

pub(crate) fn text(text: &str) -> Bytes {
    frame(TEXT, text.as_bytes())
}

pub(crate) fn pong(payload: &[u8]) -> Bytes {
    frame(PONG, payload)
}

pub(crate) fn close() -> Bytes {
    frame(CLOSE, &1000_u16.to_be_bytes())
}
