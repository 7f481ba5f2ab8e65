//! How one value stands among the bytes of a frame: the trait, the reader, and the values of one kind each.
//!
//! Numbers are varints of at most ten bytes, little end first, seven bits a byte; texts and lists have their length in
//! front. A value read is checked: an id is an id, a choice is one of those there are.
//!
//! What a reader takes in memory is in proportion to the bytes that are there, whatever lengths they claim.

use std::mem;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use super::LinkError;
use crate::model::ids::{ClientId, EnvelopeId, IdError, Incarnation, Millis, NodeId, Seq, SessionId};
use crate::model::seen::Key;

/// A value that can be written and read.
pub(super) trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError>;
}

/// Reads one value after the other.
pub(super) struct Reader<'a> {
    whole: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(whole: &'a Bytes) -> Self {
        Self { whole, rest: whole }
    }

    pub(super) fn read<T: Field>(&mut self) -> Result<T, LinkError> {
        T::get(self)
    }

    pub(super) fn byte(&mut self) -> Result<u8, LinkError> {
        let (first, rest) = self.rest.split_first().ok_or(LinkError::Cut)?;
        self.rest = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, LinkError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut number = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            // Nine bytes hold 63 bits.
            if shift == 63 && byte > 1 {
                return Err(LinkError::Number);
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(LinkError::Number)
    }

    /// A length of what follows, which cannot be longer than what is there.
    fn len(&mut self) -> Result<usize, LinkError> {
        let len = usize::try_from(self.number()?).map_err(|_| LinkError::Cut)?;
        if len > self.rest.len() { Err(LinkError::Cut) } else { Ok(len) }
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], LinkError> {
        let (slice, rest) = self.rest.split_at_checked(len).ok_or(LinkError::Cut)?;
        self.rest = rest;
        Ok(slice)
    }

    fn text(&mut self) -> Result<&'a str, LinkError> {
        let len = self.len()?;
        std::str::from_utf8(self.slice(len)?).map_err(|_| LinkError::Text)
    }

    fn id<T: FromStr<Err = IdError>>(&mut self) -> Result<T, LinkError> {
        Ok(self.text()?.parse()?)
    }

    /// Bytes with their length in front, shared with the frame.
    pub(super) fn shared(&mut self) -> Result<Bytes, LinkError> {
        let len = self.len()?;
        Ok(self.whole.slice_ref(self.slice(len)?))
    }

    /// A list with its length in front, each value as `one` reads it.
    pub(super) fn list<T>(&mut self, one: impl Fn(&mut Self) -> Result<T, LinkError>) -> Result<Vec<T>, LinkError> {
        // No value takes less than a byte.
        let len = self.len()?;
        // No more room in advance than the input takes itself.
        let mut list = Vec::with_capacity(len.min(1 + self.rest.len() / size_of::<T>().max(1)));
        for _ in 0..len {
            list.push(one(self)?);
        }
        Ok(list)
    }

    /// All that is left, shared with the frame.
    pub(super) fn remainder(&mut self) -> Bytes {
        self.whole.slice_ref(mem::take(&mut self.rest))
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), LinkError> {
        if self.rest.is_empty() { Ok(()) } else { Err(LinkError::Trailing(self.rest.len())) }
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// A struct is its fields, in the order given here.
macro_rules! fields {
    ($name:ty { $($field:ident),+ $(,)? }) => {
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)+
            }
            fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
                Ok(Self { $($field: from.read()?),+ })
            }
        }
    };
}

/// A choice is one byte.
macro_rules! choice {
    ($name:ident { $($case:ident = $tag:literal),+ $(,)? }) => {
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $(Self::$case => $tag),+ });
            }
            fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
                match from.byte()? {
                    $($tag => Ok(Self::$case),)+
                    tag => Err(LinkError::Unknown { what: stringify!($name), tag }),
                }
            }
        }
    };
}

pub(super) use {choice, fields};

impl Field for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, *self);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        from.number()
    }
}

/// Numbers that are narrower in memory, and the same on the wire.
macro_rules! narrow {
    ($($name:ty),+) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                put_number(out, u64::from(*self));
            }
            fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
                from.number()?.try_into().map_err(|_| LinkError::Number)
            }
        }
    )+};
}

narrow!(u8, u16, u32);

/// Small ones of either sign are short.
impl Field for i64 {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, ((self << 1) ^ (self >> 63)) as u64);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        let number = from.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }
}

macro_rules! numbers {
    ($($name:ident),+) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                put_number(out, self.0);
            }
            fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
                from.number().map(Self)
            }
        }
    )+};
}

numbers!(Incarnation, Millis, Seq);

/// A hash has no short values.
impl Field for Key {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        let bytes = from.slice(size_of::<u128>())?.try_into().map_err(|_| LinkError::Cut)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}

macro_rules! ids {
    ($($name:ident),+) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                put_text(out, self.as_str());
            }
            fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
                from.id()
            }
        }
    )+};
}

ids!(NodeId, ClientId, SessionId, EnvelopeId);

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(out, self);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        from.text().map(str::to_owned)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        match from.byte()? {
            0 => Ok(None),
            1 => from.read().map(Some),
            tag => Err(LinkError::Unknown { what: "Option", tag }),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.len() as u64);
        for value in self {
            value.put(out);
        }
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        from.list(Reader::read)
    }
}

impl<T: Field> Field for Arc<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        from.read().map(Self::new)
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        Ok((from.read()?, from.read()?))
    }
}
