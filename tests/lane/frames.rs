//! The frames of the simulated wire: one letter for the kind, a number, a place in the inbox, filling.

use bytes::Bytes;
use sparkmesh::model::envelope::Encoded;
use sparkmesh::model::ids::Seq;

const HEAD: usize = 17;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Frame {
    Envelope { envelope: usize, seq: Option<Seq> },
    Ping(u64),
    Own,
    Close,
}

fn frame(kind: u8, number: u64, seq: u64, fill: usize) -> Bytes {
    let mut bytes = vec![kind];
    bytes.extend(number.to_le_bytes());
    bytes.extend(seq.to_le_bytes());
    bytes.resize(HEAD + fill, b'.');
    bytes.into()
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("frames have a head"))
}

pub(crate) fn envelope(envelope: usize, fill: usize) -> Encoded {
    Encoded::new(frame(b'I', envelope as u64, 0, fill), 0)
}

pub(crate) fn with_seq(of: &Bytes, seq: Seq) -> Encoded {
    Encoded::new(frame(b'I', number_at(of, 1), seq.0, of.len() - HEAD), 0)
}

pub(crate) fn envelope_of(bytes: &Bytes) -> usize {
    number_at(bytes, 1) as usize
}

pub(crate) fn ping(counter: u64) -> Bytes {
    frame(b'P', counter, 0, 0)
}

pub(crate) fn own(fill: usize) -> Encoded {
    Encoded::new(frame(b'N', 0, 0, fill), 0)
}

pub(crate) fn close() -> Bytes {
    frame(b'E', 0, 0, 0)
}

pub(crate) fn decode(bytes: &Bytes) -> Frame {
    match bytes[0] {
        b'I' => Frame::Envelope {
            envelope: envelope_of(bytes),
            seq: Some(number_at(bytes, 9)).filter(|seq| *seq > 0).map(Seq),
        },
        b'P' => Frame::Ping(number_at(bytes, 1)),
        b'N' => Frame::Own,
        _ => Frame::Close,
    }
}
