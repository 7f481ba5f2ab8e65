//! Which web pages may talk to this server from a browser.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `https://app.example.com`, with a port where it is not the scheme's own, or `*` for any page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: write scheme and host, as https://app.example.com or http://localhost:3000, or * for any")]
pub struct OriginError(String);

impl Origin {
    /// Whether a browser that sends `Origin: <sent>` may come in.
    pub fn allows(&self, sent: &str) -> bool {
        self.0 == "*" || self.0.eq_ignore_ascii_case(sent)
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let bare = text.strip_suffix('/').unwrap_or(text);
        if bare == "*" {
            return Ok(Self(bare.to_owned()));
        }
        let (scheme, host) = bare.split_once("://").ok_or_else(|| OriginError(text.to_owned()))?;
        let in_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let in_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if scheme.is_empty() || host.is_empty() || !scheme.chars().all(in_scheme) || !host.chars().all(in_host) {
            return Err(OriginError(text.to_owned()));
        }
        // Browsers leave out the scheme's own port.
        let own_port = match scheme.to_ascii_lowercase().as_str() {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        let host = host.strip_suffix(own_port).unwrap_or(host);
        Ok(Self(format!("{scheme}://{host}").to_ascii_lowercase()))
    }
}

impl TryFrom<String> for Origin {
    type Error = OriginError;

    fn try_from(text: String) -> Result<Self, OriginError> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_allows_itself_only() {
        let cases = [
            ("https://app.example.com", "https://app.example.com", true),
            ("https://App.example.com/", "https://app.example.com", true),
            ("https://app.example.com:443", "https://app.example.com", true),
            ("https://app.example.com", "http://app.example.com", false),
            ("https://app.example.com", "https://app.example.com.evil.org", false),
            ("http://localhost:3000", "http://localhost:3001", false),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("*", "https://anything.example", true),
            ("https://app.example.com", "null", false),
        ];
        for (allowed, sent, yes) in cases {
            assert_eq!(allowed.parse::<Origin>().unwrap().allows(sent), yes, "{allowed} {sent}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in ["", "example.com", "https://", "://x", "https://a/b", "https://*.example.com", "https://a b"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
