//! Other servers as they are named in the settings: `ws://HOST:PORT`, or `wss://` for TLS.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{Permission, TlsFiles};
use crate::model::topology::{Address, Scheme};

/// Which servers a server dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LinkPlan {
    /// Those that are named, and all that it learns of.
    Full,
    /// Those that are named, and no others. Whoever proves the secret is let in all the same.
    Static,
}

/// How this server links up with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSettings {
    pub peers: Vec<PeerUrl>,
    pub plan: LinkPlan,
    /// Who signs the certificates of the other servers; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// What this server shows to those it dials.
    pub certificate: Option<TlsFiles>,
    /// Whether others may come in without a certificate of `ca`.
    pub without_certificate: Permission,
}

impl LinkSettings {
    pub fn demands_certificate(&self) -> bool {
        self.without_certificate == Permission::Refused
    }
}

/// Where a server is dialled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerUrl {
    pub scheme: Scheme,
    /// A name or an IP address, an IPv6 one without brackets.
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no server to link up with: write ws://HOST:PORT, or wss://HOST:PORT")]
pub struct PeerUrlError(String);

impl FromStr for PeerUrl {
    type Err = PeerUrlError;

    fn from_str(text: &str) -> Result<Self, PeerUrlError> {
        let bad = || PeerUrlError(text.to_owned());
        let bare = text.strip_suffix('/').unwrap_or(text);
        let (scheme, rest) = match bare.split_once("://") {
            Some(("ws", rest)) => (Scheme::Plain, rest),
            Some(("wss", rest)) => (Scheme::Tls, rest),
            _ => return Err(bad()),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| bad())?.to_string(),
            None => host.to_owned(),
        };
        Self::checked(scheme, host, port).ok_or_else(bad)
    }
}

impl PeerUrl {
    /// Where a server says it is; `None`: nowhere that can be dialled.
    pub fn of(address: &Address) -> Option<Self> {
        Self::checked(address.scheme, address.host.clone(), address.port)
    }

    fn checked(scheme: Scheme, host: String, port: u16) -> Option<Self> {
        let in_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_name = !host.is_empty() && host.len() <= 253 && host.chars().all(in_name);
        (port != 0 && (is_name || host.parse::<Ipv6Addr>().is_ok())).then_some(Self { scheme, host, port })
    }
}

impl TryFrom<String> for PeerUrl {
    type Error = PeerUrlError;

    fn try_from(text: String) -> Result<Self, PeerUrlError> {
        text.parse()
    }
}

impl From<PeerUrl> for String {
    fn from(url: PeerUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Plain => "ws",
            Scheme::Tls => "wss",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_scheme_host_and_port() {
        for (text, host, shown) in [
            ("ws://192.0.2.1:8080", "192.0.2.1", "ws://192.0.2.1:8080"),
            ("wss://chat.example.com:443/", "chat.example.com", "wss://chat.example.com:443"),
            ("ws://[2001:DB8::1]:1", "2001:db8::1", "ws://[2001:db8::1]:1"),
        ] {
            let url: PeerUrl = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.to_string()), (host, shown.to_owned()));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "192.0.2.1:8080",
            "http://a:1",
            "ws://a",
            "ws://a:0",
            "ws://a:70000",
            "ws://:1",
            "ws://a b:1",
            "ws://a:1/path",
            "ws://a@b:1",
            "ws://[a]:1",
            "ws://2001:db8::1:80000",
        ] {
            assert!(bad.parse::<PeerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_without_host_or_port_cannot_be_dialled() {
        let address = Address { host: "a".to_owned(), port: 8080, ..Address::default() };
        assert_eq!(PeerUrl::of(&address).unwrap().to_string(), "ws://a:8080");
        assert_eq!(PeerUrl::of(&Address { host: String::new(), ..address.clone() }), None);
        assert_eq!(PeerUrl::of(&Address { port: 0, ..address.clone() }), None);
        assert_eq!(PeerUrl::of(&Address { host: "a/b".to_owned(), ..address }), None);
    }
}
