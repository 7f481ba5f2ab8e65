//! WebSocket frames as a server sends them: whole, unmasked, never fragmented.
//!
//! Owns the framing bytes (RFC 6455, 5.2) and the counter that a ping carries. A frame is written once, in one buffer
//! with its header, and from then on shared. Reading frames, and masks, are left to the WebSocket library.

use bytes::{Buf, Bytes};
use serde::Serialize;

use crate::model::codes::Close;
use crate::model::envelope::Encoded;

const FIN: u8 = 0x80;
const TEXT: u8 = FIN | 0x1;
const CLOSE: u8 = FIN | 0x8;
const PING: u8 = FIN | 0x9;
const PONG: u8 = FIN | 0xA;

/// Most bytes that the payload of a ping, a pong or a close may have.
pub const MAX_CONTROL: usize = 125;
/// Longest header of an unmasked frame.
const MAX_HEADER: usize = 10;

/// A text frame being written. Room for the longest header is kept in front, so that the length need not be known
/// before the text is.
pub(super) struct TextFrame(Vec<u8>);

impl TextFrame {
    /// `len`: the expected bytes of the text; more are taken too.
    pub(super) fn with_capacity(len: usize) -> Self {
        let mut buffer = Vec::with_capacity(MAX_HEADER + len);
        buffer.resize(MAX_HEADER, 0);
        Self(buffer)
    }

    pub(super) fn push(&mut self, text: &[u8]) -> &mut Self {
        self.0.extend_from_slice(text);
        self
    }

    /// Writes `value` as JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) -> &mut Self {
        json_into(&mut self.0, value);
        self
    }

    /// Opens the object just written again, for more members.
    pub(super) fn reopen_object(&mut self) -> &mut Self {
        debug_assert_eq!(self.0.last(), Some(&b'}'));
        self.0.pop();
        self
    }

    pub(super) fn finish(mut self) -> Encoded {
        let len = self.0.len() - MAX_HEADER;
        let header = match len {
            0..=125 => 2,
            126..=0xFFFF => 4,
            _ => MAX_HEADER,
        };
        let start = MAX_HEADER - header;
        self.0[start] = TEXT;
        match header {
            2 => self.0[start + 1] = len as u8,
            4 => {
                self.0[start + 1] = 126;
                self.0[start + 2..MAX_HEADER].copy_from_slice(&(len as u16).to_be_bytes());
            }
            _ => {
                self.0[start + 1] = 127;
                self.0[start + 2..MAX_HEADER].copy_from_slice(&(len as u64).to_be_bytes());
            }
        }
        let mut frame = Bytes::from(self.0);
        frame.advance(start);
        Encoded::new(frame, header as u8)
    }
}

/// Appends `value` as JSON.
pub(super) fn json_into(buffer: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(buffer, value)
        .expect("a Vec takes every byte, and no type of the wire has a map whose keys are not strings");
}

/// A text frame of JSON that is ready, such as an inbox keeps.
pub fn text(json: impl AsRef<[u8]>) -> Encoded {
    let json = json.as_ref();
    let mut frame = TextFrame::with_capacity(json.len());
    frame.push(json);
    frame.finish()
}

/// Bytes before the text, if `frame` is one whole text frame as a server writes it.
pub fn header_of(frame: &[u8]) -> Option<u8> {
    let (header, len) = match *frame {
        [TEXT, len @ 0..=125, ..] => (2, u64::from(len)),
        [TEXT, 126, a, b, ..] => (4, u64::from(u16::from_be_bytes([a, b]))),
        [TEXT, 127, a, b, c, d, e, f, g, h, ..] => (MAX_HEADER, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => return None,
    };
    ((frame.len() - header) as u64 == len).then_some(header as u8)
}

/// A ping whose pong proves that all written before it has reached the client's WebSocket stack.
pub fn ping(counter: u64) -> Bytes {
    control(PING, &[&counter.to_be_bytes()])
}

/// The counter in the payload of a pong. `None`: not one of our pings. Whether this counter was ever sent is for the
/// caller to know; one that was not is no more than a sign of life.
pub fn ping_counter(pong: &[u8]) -> Option<u64> {
    pong.try_into().ok().map(u64::from_be_bytes)
}

/// The answer to a client's ping. What is longer than a ping may be ([`MAX_CONTROL`]) is cut.
pub fn pong(payload: &[u8]) -> Bytes {
    control(PONG, &[&payload[..payload.len().min(MAX_CONTROL)]])
}

pub fn close(close: Close) -> Bytes {
    let mut end = close.reason.len().min(MAX_CONTROL - 2);
    while !close.reason.is_char_boundary(end) {
        end -= 1;
    }
    control(CLOSE, &[&close.code.to_be_bytes(), &close.reason.as_bytes()[..end]])
}

/// `parts` are together at most [`MAX_CONTROL`] bytes: every caller sees to it.
fn control(opcode: u8, parts: &[&[u8]]) -> Bytes {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(len <= MAX_CONTROL);
    let mut frame = Vec::with_capacity(2 + len);
    frame.extend_from_slice(&[opcode, len as u8]);
    for part in parts {
        frame.extend_from_slice(part);
    }
    Bytes::from(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_takes_as_few_bytes_as_it_can() {
        for (len, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xFF, 0xFF]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let json = "x".repeat(len);
            let encoded = text(&json);
            assert_eq!(encoded.frame()[..header.len()], header, "{len}");
            assert_eq!(encoded.frame().len(), header.len() + len);
            assert_eq!(encoded.text(), json);
            assert_eq!(header_of(encoded.frame()), Some(header.len() as u8));
            assert_eq!(header_of(&encoded.frame()[..header.len() + len - 1]), None, "cut at {len}");
        }
    }

    #[test]
    fn only_a_whole_text_frame_has_a_header() {
        for other in
            [&b""[..], &[0x81], &[0x81, 1], &[0x81, 0, 0], &[0x89, 0], &[0x81, 0x80], &[0x81, 127, 0, 0], &[1, 0]]
        {
            assert_eq!(header_of(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_pong_gives_the_counter_back() {
        for counter in [0, 1, u64::MAX] {
            let frame = ping(counter);
            assert_eq!(frame[..2], [0x89, 8]);
            assert_eq!(ping_counter(&frame[2..]), Some(counter));
        }
        for foreign in [&b""[..], b"1234567", b"123456789"] {
            assert_eq!(ping_counter(foreign), None);
        }
    }

    #[test]
    fn control_frames_are_never_longer_than_they_may_be() {
        assert_eq!(pong(b"hi")[..], [0x8A, 2, b'h', b'i']);
        assert_eq!(pong(&[7; 200]).len(), 2 + MAX_CONTROL);
        for all in Close::ALL {
            let frame = close(all);
            assert_eq!(frame[0], 0x88);
            assert_eq!(usize::from(frame[1]), frame.len() - 2);
            assert_eq!(frame[2..4], all.code.to_be_bytes());
            assert_eq!(&frame[4..], all.reason.as_bytes());
        }
        let long = Close { reason: Box::leak("é".repeat(100).into_boxed_str()), ..Close::NORMAL };
        let frame = close(long);
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
