//! The dialect of servers: a [`Hop`] as bytes, and back. No IO.
//!
//! A frame is a length of four bytes (big end first, without itself), a version, a kind, and the fields. It is written as
//! chunks, of which the long ones are shared with whoever else has them: the body of a [`Carry`] is never copied, nor is a
//! long head that a relay passes on. A version that is not ours is refused, not guessed at; so is a frame with a byte too
//! many or too few.
//!
//! A peer has proved that it knows the cluster's secret, and is believed what it says; but nothing it sends makes this
//! panic, or take memory out of proportion to the bytes that came.

use bytes::{Buf, Bytes};

use crate::model::frames::{Carry, Hop, MAX_HOPS, Stop};
use crate::model::ids::IdError;

mod control;
mod dispatch;
mod field;
#[cfg(test)]
mod tests;

use self::field::{Field, Reader, put_number};

pub use self::dispatch::{dispatch_of, head_of};

/// Of frames and of what is in them; both ends of a link have the same.
pub const VERSION: u8 = 2;
/// Most bytes that a frame announces. Whoever makes a [`Carry`] keeps below it: 100 000 recipients with the longest ids
/// and a body of 32 MiB do.
pub const MAX_FRAME: usize = 64 * 1024 * 1024;
/// Of the length in front.
const LENGTH: usize = 4;
/// What is shorter than this is copied into its neighbours' chunk: a chunk of its own costs more.
const COPIED: usize = 256;

/// Why the bytes of a peer are no frame. The link ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("it speaks version {0} of the links' frames, this server speaks {VERSION}")]
    Version(u8),
    #[error("a frame of {0} bytes is announced; {MAX_FRAME} are allowed")]
    TooLong(usize),
    #[error("a frame ends before its fields do")]
    Cut,
    #[error("{0} bytes are left behind the last field")]
    Trailing(usize),
    #[error("a number is larger than its field")]
    Number,
    #[error("there is no {what} {tag}")]
    Unknown { what: &'static str, tag: u8 },
    #[error("a text is not UTF-8")]
    Text,
    #[error("an id is none: {0}")]
    Id(#[from] IdError),
    #[error("there is no such error code")]
    Code,
    #[error("the body is not what its head says")]
    Body,
}

mod kind {
    pub(super) const PING: u8 = 1;
    pub(super) const PONG: u8 = 2;
    pub(super) const RECORD: u8 = 3;
    pub(super) const DELTA: u8 = 4;
    pub(super) const DIGESTS: u8 = 5;
    pub(super) const SNAPSHOT: u8 = 6;
    pub(super) const MEMBERS: u8 = 7;
    pub(super) const CARRY: u8 = 8;
    pub(super) const ACKED: u8 = 9;
}

/// Appends one whole frame to `chunks`.
pub fn encode(hop: &Hop, chunks: &mut Vec<Bytes>) {
    let mut frame = Frame::new(match hop {
        Hop::Carry(carry) => room_for(carry),
        Hop::Record(_) | Hop::Delta(_) | Hop::Digests(_) | Hop::Snapshot(_) | Hop::Members(_) => 512,
        Hop::Ping { .. } | Hop::Pong { .. } | Hop::Acked { .. } => 96,
    });
    let out = &mut frame.bytes;
    match hop {
        Hop::Ping { counter } => {
            out.push(kind::PING);
            counter.put(out);
        }
        Hop::Pong { counter, clock } => {
            out.push(kind::PONG);
            counter.put(out);
            clock.put(out);
        }
        Hop::Record(record) => {
            out.push(kind::RECORD);
            record.put(out);
        }
        Hop::Delta(delta) => {
            out.push(kind::DELTA);
            delta.put(out);
        }
        Hop::Digests(digests) => {
            out.push(kind::DIGESTS);
            digests.put(out);
        }
        Hop::Snapshot(snapshot) => {
            out.push(kind::SNAPSHOT);
            snapshot.put(out);
        }
        Hop::Members(members) => {
            out.push(kind::MEMBERS);
            members.put(out);
        }
        Hop::Carry(carry) => {
            out.push(kind::CARRY);
            carry.hops.put(out);
            carry.origin.put(out);
            carry.incarnation.put(out);
            put_number(out, carry.stops.len() as u64);
            for stop in &carry.stops {
                let out = &mut frame.bytes;
                stop.server.put(out);
                stop.generation.put(out);
                stop.number.put(out);
                put_number(out, stop.head.len() as u64);
                frame.share(&stop.head);
            }
            frame.share(&carry.body);
        }
        Hop::Acked { hops, to, by, incarnation, generation, number } => {
            out.push(kind::ACKED);
            hops.put(out);
            to.put(out);
            by.put(out);
            incarnation.put(out);
            generation.put(out);
            number.put(out);
        }
    }
    frame.finish(chunks);
}

/// Of the fields, and of what is copied between them.
fn room_for(carry: &Carry) -> usize {
    let copied = |bytes: &Bytes| if bytes.len() < COPIED { bytes.len() } else { 0 };
    let stops = carry.stops.iter().map(|stop| stop.server.as_str().len() + 24 + copied(&stop.head));
    LENGTH + 24 + carry.origin.as_str().len() + stops.sum::<usize>() + copied(&carry.body)
}

/// A frame being written.
struct Frame {
    /// All but what is shared.
    bytes: Vec<u8>,
    /// With the place in `bytes` before which each belongs.
    shared: Vec<(usize, Bytes)>,
}

impl Frame {
    fn new(room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room);
        bytes.extend_from_slice(&[0; LENGTH]);
        bytes.push(VERSION);
        Self { bytes, shared: Vec::new() }
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < COPIED {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.shared.push((self.bytes.len(), bytes.clone()));
        }
    }

    fn finish(mut self, chunks: &mut Vec<Bytes>) {
        let shared: usize = self.shared.iter().map(|(_, bytes)| bytes.len()).sum();
        let len = self.bytes.len() - LENGTH + shared;
        debug_assert!(len <= MAX_FRAME, "no frame is longer than a peer takes");
        self.bytes[..LENGTH].copy_from_slice(&(len as u32).to_be_bytes());
        let mut rest = Bytes::from(self.bytes);
        let mut written = 0;
        for (at, bytes) in self.shared {
            if at > written {
                chunks.push(rest.split_to(at - written));
                written = at;
            }
            chunks.push(bytes);
        }
        if !rest.is_empty() {
            chunks.push(rest);
        }
    }
}

/// Bytes of the first frame in `bytes`, with the length in front. `None`: that is not here yet.
pub fn announced(bytes: &[u8]) -> Result<Option<usize>, LinkError> {
    let Some(length) = bytes.first_chunk::<LENGTH>() else { return Ok(None) };
    let len = u32::from_be_bytes(*length) as usize;
    if len > MAX_FRAME { Err(LinkError::TooLong(len)) } else { Ok(Some(LENGTH + len)) }
}

/// Takes the first frame off `bytes`. `None`: it is not whole yet, and nothing is taken. Heads and body are shared with
/// `bytes`. After an error nothing that follows means anything.
pub fn decode(bytes: &mut Bytes) -> Result<Option<Hop>, LinkError> {
    let Some(len) = announced(bytes)?.filter(|len| *len <= bytes.len()) else { return Ok(None) };
    let mut frame = bytes.split_to(len);
    frame.advance(LENGTH);
    let mut from = Reader::new(&frame);
    match from.byte()? {
        VERSION => {}
        other => return Err(LinkError::Version(other)),
    }
    let hop = match from.byte()? {
        kind::PING => Hop::Ping { counter: from.read()? },
        kind::PONG => Hop::Pong { counter: from.read()?, clock: from.read()? },
        kind::RECORD => Hop::Record(from.read()?),
        kind::DELTA => Hop::Delta(from.read()?),
        kind::DIGESTS => Hop::Digests(from.read()?),
        kind::SNAPSHOT => Hop::Snapshot(from.read()?),
        kind::MEMBERS => Hop::Members(from.read()?),
        kind::CARRY => Hop::Carry(Carry {
            hops: read_hops(&mut from)?,
            origin: from.read()?,
            incarnation: from.read()?,
            stops: from.list(read_stop)?,
            body: from.remainder(),
        }),
        kind::ACKED => Hop::Acked {
            hops: read_hops(&mut from)?,
            to: from.read()?,
            by: from.read()?,
            incarnation: from.read()?,
            generation: from.read()?,
            number: from.read()?,
        },
        tag => return Err(LinkError::Unknown { what: "Hop", tag }),
    };
    from.finish()?;
    Ok(Some(hop))
}

/// One more never overflows.
fn read_hops(from: &mut Reader<'_>) -> Result<u8, LinkError> {
    from.read().and_then(|hops| if hops > MAX_HOPS { Err(LinkError::Number) } else { Ok(hops) })
}

fn read_stop(from: &mut Reader<'_>) -> Result<Stop, LinkError> {
    Ok(Stop { server: from.read()?, generation: from.read()?, number: from.read()?, head: from.shared()? })
}
