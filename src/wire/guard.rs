//! Looks at the heads of incoming WebSocket frames before the library does, for what it would let through: a frame that
//! announces more bytes than a message may have. The library notices that only when all of them have come, and keeps them
//! in memory until then.
//!
//! Pure: bytes in, verdict out. It only counts; everything else about a frame is the library's.

/// A frame announces more than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {announced} bytes is announced; {max} are allowed")]
pub struct TooLong {
    pub announced: u64,
    pub max: u64,
}

/// RFC 6455, 5.2: two bytes, up to eight of length, four of mask.
const MAX_HEAD: usize = 14;

/// Follows one direction of a connection.
#[derive(Debug)]
pub struct Guard {
    max: u64,
    head: [u8; MAX_HEAD],
    /// Bytes of the head at hand.
    have: usize,
    /// Bytes of the payload that are still to come.
    rest: u64,
}

impl Guard {
    /// `max` bytes of payload in one frame.
    pub fn new(max: u64) -> Self {
        Self { max, head: [0; MAX_HEAD], have: 0, rest: 0 }
    }

    /// The next bytes of the stream, cut anywhere.
    pub fn admit(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = usize::try_from(self.rest).map_or(bytes.len(), |rest| rest.min(bytes.len()));
                self.rest -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if let Some(announced) = self.announced() {
                if announced > self.max {
                    return Err(TooLong { announced, max: self.max });
                }
                self.have = 0;
                self.rest = announced;
            }
        }
        Ok(())
    }

    /// The length of the payload, once the head is whole.
    fn announced(&self) -> Option<u64> {
        let second = *self.head[..self.have].get(1)?;
        let (extra, mask) = match second & 0x7f {
            126 => (2, usize::from(second >> 7) * 4),
            127 => (8, usize::from(second >> 7) * 4),
            _ => (0, usize::from(second >> 7) * 4),
        };
        if self.have < 2 + extra + mask {
            return None;
        }
        let long = self.head[2..2 + extra].iter().fold(0u64, |length, byte| length << 8 | u64::from(*byte));
        Some(if extra == 0 { u64::from(second & 0x7f) } else { long })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x81];
        match payload {
            0..=125 => frame.push(mask | payload as u8),
            126..=65_535 => {
                frame.push(mask | 0x7e);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 0x7f);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend(vec![7; payload + if masked { 4 } else { 0 }]);
        frame
    }

    #[test]
    fn the_head_alone_is_enough() {
        let mut guard = Guard::new(1000);
        let head = &frame(1001, true)[..8];
        assert_eq!(guard.admit(head), Err(TooLong { announced: 1001, max: 1000 }));
        let endless = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert!(Guard::new(1000).admit(&endless).is_err());
    }

    proptest! {
        #[test]
        fn wherever_the_stream_is_cut(
            sizes in proptest::collection::vec((0usize..70_000, any::<bool>()), 1..6),
            over in proptest::option::of(0usize..6),
            step in 1usize..9000,
        ) {
            let mut stream = Vec::new();
            for (at, (size, masked)) in sizes.iter().enumerate() {
                let size = if over == Some(at) { 70_000 + size } else { *size };
                stream.extend(frame(size, *masked));
            }
            let mut guard = Guard::new(69_999);
            let verdict = stream.chunks(step).try_for_each(|part| guard.admit(part));
            prop_assert_eq!(verdict.is_err(), over.is_some_and(|at| at < sizes.len()));
        }
    }
}
