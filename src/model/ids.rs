//! The identifiers of the mesh, each a type of its own.
//!
//! Owns the alphabet of `DESIGN` 2: 1-128 characters of `A-Z a-z 0-9 _ - . : @`, the same for nodes, clients and
//! sessions. An id that exists is valid: the only ways in are `FromStr` and `Deserialize`, which check it.
//! Ids are cheap to clone (one reference count) and borrow as `str`, so that maps can be asked without an allocation.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest id in bytes, which for this alphabet is also characters.
pub const MAX_ID: usize = 128;
/// Longest `id` of an envelope, in characters.
pub const MAX_ENVELOPE_ID: usize = 64;
/// Longest `reference` of an envelope, in bytes.
pub const MAX_REFERENCE: usize = 256;
/// Longest `collapse_key` of an envelope, in bytes.
pub const MAX_COLLAPSE_KEY: usize = 64;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("an id must not be empty")]
    Empty,
    #[error("an id has at most {max} characters, this one has {len}")]
    TooLong { len: usize, max: usize },
    #[error("an id is made of A-Z a-z 0-9 _ - . : @, not {0:?}")]
    Alphabet(char),
}

fn check_alphabet(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID {
        return Err(IdError::TooLong { len: text.chars().count(), max: MAX_ID });
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.:@".contains(byte);
    if text.as_bytes().iter().all(allowed) {
        return Ok(());
    }
    let odd = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_-.:@".contains(*c)));
    Err(IdError::Alphabet(odd.unwrap_or(char::REPLACEMENT_CHARACTER)))
}

fn check_envelope_id(text: &str) -> Result<(), IdError> {
    let len = text.chars().count();
    match len {
        0 => Err(IdError::Empty),
        len if len > MAX_ENVELOPE_ID => Err(IdError::TooLong { len, max: MAX_ENVELOPE_ID }),
        _ => Ok(()),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                $check(text)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A vertex of the graph: a server or a device. Also the anonymous id by which a session shows a member.
    NodeId, check_alphabet
);
text_id!(
    /// A user, who owns one or more devices.
    ClientId, check_alphabet
);
text_id!(
    /// A named group of devices.
    SessionId, check_alphabet
);
text_id!(
    /// Names an envelope among those of its sender; 1-64 characters of any kind.
    EnvelopeId, check_envelope_id
);

/// One connection of one device to this server; never used twice within a server's incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Place in a device's inbox, from 1. Means something only within its [`Epoch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The life of a store: a store that was lost and started anew has another one, so that nobody takes its sequence
/// numbers for those of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Which life of a server: one more at each start. What was said in an earlier one means nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// Milliseconds since 1970 on this server's clock. The model never reads a clock: it is given these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// Time passed since `earlier`; zero when the clock went back.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_the_designs() {
        for good in ["a", "A-Z_09.:@", "alice__x1", &"x".repeat(128)] {
            assert!(good.parse::<NodeId>().is_ok(), "{good}");
        }
        assert_eq!("".parse::<NodeId>(), Err(IdError::Empty));
        assert_eq!("x".repeat(129).parse::<NodeId>(), Err(IdError::TooLong { len: 129, max: 128 }));
        for (bad, odd) in [("a b", ' '), ("a/b", '/'), ("né", 'é'), ("a\u{0}", '\u{0}')] {
            assert_eq!(bad.parse::<NodeId>(), Err(IdError::Alphabet(odd)));
        }
    }

    #[test]
    fn an_envelope_id_counts_characters() {
        assert!("é".repeat(64).parse::<EnvelopeId>().is_ok());
        assert!("é".repeat(65).parse::<EnvelopeId>().is_err());
    }
}
