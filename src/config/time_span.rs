//! A length of time as people write it: `90s`, `12h`, `30d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeSpan(Duration);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no length of time: write a whole number and its unit, as 500ms, 90s, 15m, 12h or 30d")]
pub struct TimeSpanError(String);

/// Milliseconds in each unit, the longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl TimeSpan {
    pub fn duration(self) -> Duration {
        self.0
    }

    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl From<Duration> for TimeSpan {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for TimeSpan {
    type Err = TimeSpanError;

    fn from_str(text: &str) -> Result<Self, TimeSpanError> {
        let bad = || TimeSpanError(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let (_, size) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        number.checked_mul(size).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(bad)
    }
}

impl TryFrom<String> for TimeSpan {
    type Error = TimeSpanError;

    fn try_from(text: String) -> Result<Self, TimeSpanError> {
        text.parse()
    }
}

impl From<TimeSpan> for String {
    fn from(span: TimeSpan) -> Self {
        span.to_string()
    }
}

/// In the longest unit that it is a whole number of.
impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.millis();
        let (unit, size) =
            UNITS.into_iter().find(|(_, size)| ms != 0 && ms.is_multiple_of(*size)).unwrap_or(("s", 1000));
        write!(f, "{}{unit}", ms / size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_unit_is_known() {
        for (text, ms) in [("500ms", 500), ("90s", 90_000), ("15m", 900_000), ("12h", 43_200_000), ("0s", 0)] {
            assert_eq!(text.parse::<TimeSpan>().unwrap().millis(), ms, "{text}");
        }
        assert_eq!("30d".parse::<TimeSpan>().unwrap().duration(), Duration::from_secs(30 * 86_400));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["", "s", "10", "-1s", "1.5h", "10 s", "1w", "99999999999999999999s", "999999999999999d", "1s1s"] {
            assert!(bad.parse::<TimeSpan>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(ms in 0_u64..1 << 50) {
            let span = TimeSpan(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse::<TimeSpan>().unwrap(), span);
        }
    }
}
