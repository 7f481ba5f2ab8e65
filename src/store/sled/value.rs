//! How a value lies in `sled`, which must never be given one of more than 4 KiB (from 8 KiB on it keeps values in files
//! that it never deletes).
//!
//! A **head**, under the value's own key, so that keys keep their order: length, generation, CRC-32 of key and value
//! (4 bytes each, big-endian), then as much of the value as fits. What is left lies in **chunks** of a second tree, under
//! key, generation (4 bytes), number (2 bytes). Chunks are written before their head, and under another generation than
//! those of the value that they replace; the head is one write; the old chunks go after it. So a crash at any point
//! leaves the old value or the new one, and perhaps chunks that no head names: they are removed at the next opening.

/// Longest value given to `sled`.
pub(super) const PIECE: usize = 4096;
const HEADER: usize = 12;
const SUFFIX: usize = 6;

const _: () = assert!(super::super::MAX_VALUE.div_ceil(PIECE) <= u16::MAX as usize, "a chunk's number is a u16");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) len: u32,
    pub(super) generation: u32,
    pub(super) crc: u32,
}

impl Head {
    pub(super) fn of(key: &[u8], value: &[u8], generation: u32) -> Self {
        Self { len: value.len() as u32, generation, crc: checksum(key, value) }
    }

    /// The head's bytes, with the beginning of its value.
    pub(super) fn encode(self, value: &[u8]) -> Vec<u8> {
        let inline = &value[..value.len().min(PIECE - HEADER)];
        let mut raw = Vec::with_capacity(HEADER + inline.len());
        for field in [self.len, self.generation, self.crc] {
            raw.extend_from_slice(&field.to_be_bytes());
        }
        raw.extend_from_slice(inline);
        raw
    }

    /// `None` for what [`Head::encode`] never wrote.
    pub(super) fn decode(raw: &[u8]) -> Option<(Self, &[u8])> {
        let (header, inline) = raw.split_first_chunk::<HEADER>()?;
        let field = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let head = Self { len: field(0), generation: field(4), crc: field(8) };
        let expected = (head.len as usize).min(PIECE - HEADER);
        (inline.len() == expected && head.len as usize <= super::super::MAX_VALUE).then_some((head, inline))
    }

    /// The part of a head's bytes that says what its value is.
    pub(super) fn header(raw: &[u8]) -> &[u8] {
        &raw[..raw.len().min(HEADER)]
    }

    /// How many chunks its value has.
    pub(super) fn chunks(self) -> u16 {
        (self.len as usize).saturating_sub(PIECE - HEADER).div_ceil(PIECE) as u16
    }

    pub(super) fn is_of(self, key: &[u8], value: &[u8]) -> bool {
        self.len as usize == value.len() && self.crc == checksum(key, value)
    }
}

/// The pieces of `value` behind its head, in order.
pub(super) fn chunks(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.get(PIECE - HEADER..).unwrap_or_default().chunks(PIECE)
}

pub(super) fn chunk_key(key: &[u8], generation: u32, number: u16) -> Vec<u8> {
    [key, &generation.to_be_bytes(), &number.to_be_bytes()].concat()
}

/// Key, generation and number; the suffix has a fixed length, so this is never ambiguous.
pub(super) fn split_chunk_key(raw: &[u8]) -> Option<(&[u8], u32, u16)> {
    let (key, suffix) = raw.split_last_chunk::<SUFFIX>()?;
    let generation = u32::from_be_bytes([suffix[0], suffix[1], suffix[2], suffix[3]]);
    Some((key, generation, u16::from_be_bytes([suffix[4], suffix[5]])))
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole_and_none_is_longer_than_allowed() {
        for len in [0, 1, PIECE - HEADER, PIECE - HEADER + 1, 2 * PIECE - HEADER, 2 * PIECE - HEADER + 1, 1 << 20] {
            let value = vec![7; len];
            let head = Head::of(b"k", &value, 3);
            let raw = head.encode(&value);
            let (decoded, inline) = Head::decode(&raw).unwrap();
            assert_eq!(decoded, head);
            assert!(raw.len() <= PIECE && chunks(&value).all(|chunk| !chunk.is_empty() && chunk.len() <= PIECE));
            assert_eq!(chunks(&value).count(), usize::from(head.chunks()));
            assert_eq!(inline.len() + chunks(&value).map(<[u8]>::len).sum::<usize>(), len);
            assert!(head.is_of(b"k", &value) && !head.is_of(b"j", &value));
        }
    }

    #[test]
    fn what_is_no_head_is_not_taken_for_one() {
        let raw = Head::of(b"k", b"value", 0).encode(b"value");
        assert!(Head::decode(&raw[..raw.len() - 1]).is_none(), "cut short");
        assert!(Head::decode(&[raw.as_slice(), b"x"].concat()).is_none(), "too long");
        assert!(Head::decode(&raw[..HEADER - 1]).is_none());
        assert!(Head::decode(&[0xff; PIECE]).is_none(), "longer than any value");
    }

    #[test]
    fn chunk_keys_can_be_read_back() {
        assert_eq!(split_chunk_key(&chunk_key(b"key", 9, 513)), Some((b"key".as_slice(), 9, 513)));
        assert_eq!(split_chunk_key(&chunk_key(b"", 0, 0)), Some((b"".as_slice(), 0, 0)));
        assert_eq!(split_chunk_key(b"short"), None);
    }
}
