//! Pins: ids that the config gives to a server, instead of leaving them to the hash (row L21).
//!
//! Written `PREFIX=SERVER` or `PREFIX[FROM-TO]=SERVER`. Of several that hold an id the first counts whose server is a
//! member. All servers of a mesh must have the same pins in the same order, or they look for a home in different places.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ids::{IdError, NodeId};

/// Those of the prefix, or those of the prefix and a number in the range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin {
    pub prefix: String,
    /// First and last.
    pub range: Option<(u64, u64)>,
    pub server: NodeId,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    #[error("{0:?} is no pin: write PREFIX=SERVER, or PREFIX[FROM-TO]=SERVER for the prefix and a number")]
    Form(String),
    #[error("the pin {0:?} gives every id to one server: write a prefix, or a range of numbers")]
    All(String),
    #[error("the pin {pin:?} has a prefix that no id has")]
    Prefix {
        pin: String,
        #[source]
        source: IdError,
    },
    #[error("the pin {pin:?} names no server")]
    Server {
        pin: String,
        #[source]
        source: IdError,
    },
    #[error("the pin {0:?} has no range of numbers: write [FROM-TO], [FROM-] or [-TO], from the lower to the higher")]
    Range(String),
}

impl Pin {
    /// Whether `id` is one of those.
    pub fn holds(&self, id: &str) -> bool {
        let Some(rest) = id.strip_prefix(self.prefix.as_str()) else { return false };
        let Some((first, last)) = self.range else { return true };
        // `parse` alone would take a sign.
        let digits = rest.bytes().all(|byte| byte.is_ascii_digit());
        digits && rest.parse().is_ok_and(|number: u64| (first..=last).contains(&number))
    }

    /// Whether it holds all that `other` holds.
    pub fn covers(&self, other: &Self) -> bool {
        match (self.range, other.range) {
            (None, _) => other.prefix.starts_with(&self.prefix),
            (Some((first, last)), Some((from, to))) => self.prefix == other.prefix && first <= from && to <= last,
            (Some(_), None) => false,
        }
    }
}

/// What tells one list of pins from another.
pub fn digest(pins: &[Pin]) -> u64 {
    let mut sha = Sha256::new();
    // A line break is in no pin.
    pins.iter().for_each(|pin| sha.update(format!("{pin}\n").as_bytes()));
    let bytes: [u8; 32] = sha.finalize().into();
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let pin = || text.to_owned();
        let (ids, server) = text.split_once('=').ok_or_else(|| PinError::Form(pin()))?;
        let (prefix, range) = match ids.strip_suffix(']') {
            None => (ids, None),
            Some(open) => {
                let (prefix, numbers) = open.split_once('[').ok_or_else(|| PinError::Form(pin()))?;
                (prefix, Some(range(numbers).ok_or_else(|| PinError::Range(pin()))?))
            }
        };
        if prefix.is_empty() && range.is_none() {
            return Err(PinError::All(pin()));
        }
        if !prefix.is_empty() {
            let checked: Result<NodeId, _> = prefix.parse();
            checked.map_err(|source| PinError::Prefix { pin: pin(), source })?;
        }
        let server = server.parse().map_err(|source| PinError::Server { pin: pin(), source })?;
        Ok(Self { prefix: prefix.to_owned(), range, server })
    }
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once('-')?;
    let number = |text: &str, open: u64| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        if text.is_empty() { Some(open) } else { text.parse().ok().filter(|_| digits) }
    };
    let (first, last) = (number(from, 0)?, number(to, u64::MAX)?);
    (first <= last && text != "-").then_some((first, last))
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, range, server } = self;
        match range {
            None => write!(f, "{prefix}={server}"),
            Some((first, u64::MAX)) => write!(f, "{prefix}[{first}-]={server}"),
            Some((first, last)) => write!(f, "{prefix}[{first}-{last}]={server}"),
        }
    }
}

impl TryFrom<String> for Pin {
    type Error = PinError;

    fn try_from(text: String) -> Result<Self, PinError> {
        text.parse()
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(text: &str) -> Pin {
        text.parse().unwrap()
    }

    #[test]
    fn a_pin_is_a_prefix_perhaps_a_range_and_a_server() {
        for (text, prefix, range, shown) in [
            ("eu-=s1", "eu-", None, "eu-=s1"),
            ("user-[10-19]=s1", "user-", Some((10, 19)), "user-[10-19]=s1"),
            ("user-[10-]=s1", "user-", Some((10, u64::MAX)), "user-[10-]=s1"),
            ("user-[-19]=s1", "user-", Some((0, 19)), "user-[0-19]=s1"),
            ("[0007-7]=s1", "", Some((7, 7)), "[7-7]=s1"),
        ] {
            let one = pin(text);
            assert_eq!((one.prefix.as_str(), one.range, one.server.as_str()), (prefix, range, "s1"), "{text}");
            assert_eq!(one.to_string(), shown);
            assert_eq!(pin(shown), one);
        }
    }

    #[test]
    fn what_is_wrong_with_a_pin_is_said() {
        for (text, expected) in [
            ("", "write PREFIX=SERVER"),
            ("user-", "write PREFIX=SERVER"),
            ("user-]=s1", "write PREFIX=SERVER"),
            ("=s1", "every id"),
            ("us er=s1", "that no id has"),
            ("user[1-2=s1", "that no id has"),
            ("user-=", "names no server"),
            ("user-=s 1", "names no server"),
            ("user-=s1=s2", "names no server"),
            ("user-[]=s1", "no range of numbers"),
            ("user-[-]=s1", "no range of numbers"),
            ("user-[7]=s1", "no range of numbers"),
            ("user-[9-7]=s1", "no range of numbers"),
            ("user-[+1-7]=s1", "no range of numbers"),
            ("user-[1-99999999999999999999]=s1", "no range of numbers"),
        ] {
            let error = text.parse::<Pin>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_pin_that_is_held_by_another_is_found() {
        for (one, other) in
            [("a=s1", "a=s2"), ("a=s1", "ab[1-2]=s2"), ("a[1-9]=s1", "a[1-9]=s2"), ("a[-9]=s1", "a[3-4]=s2")]
        {
            assert!(pin(one).covers(&pin(other)), "{one} {other}");
        }
        for (one, other) in
            [("ab=s1", "a=s1"), ("a[1-9]=s1", "a=s1"), ("a[1-9]=s1", "a[0-9]=s1"), ("a[1-9]=s1", "ab[1-9]=s1")]
        {
            assert!(!pin(one).covers(&pin(other)), "{one} {other}");
        }
    }

    #[test]
    fn lists_are_told_apart_by_their_order_too() {
        let (a, b) = (pin("a=s1"), pin("a[1-2]=s2"));
        let lists = [vec![], vec![a.clone()], vec![b.clone()], vec![a.clone(), b.clone()], vec![b, a]];
        for (at, list) in lists.iter().enumerate() {
            let same: Vec<usize> = (0..lists.len()).filter(|other| digest(&lists[*other]) == digest(list)).collect();
            assert_eq!(same, [at]);
        }
    }
}
