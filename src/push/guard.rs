//! Keeps requests to addresses that users named (Web Push, webhooks) away from what only this machine can reach.
//!
//! Invariant: the addresses that a name resolves to are checked here, and the connection goes to a checked one: there is
//! no second look-up that could answer otherwise. Names that are addresses never reach a resolver, so
//! [`Guard::check`] looks at those. The operator's own endpoints do not pass through here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Who may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    PublicOnly,
    /// `--allow-private-push`.
    Anybody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Forbidden {
    #[error("its address is a private one (see --allow-private-push)")]
    Private,
    #[error("its address is not https (see --allow-private-push)")]
    Plain,
    #[error("its address names no host")]
    NoHost,
}

impl Guard {
    /// Everything that can be said of a URL before its name is resolved.
    pub(super) fn check(self, url: &Url) -> Result<(), Forbidden> {
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(Forbidden::NoHost)?;
        if self == Self::Anybody {
            return Ok(());
        }
        if url.scheme() != "https" {
            return Err(Forbidden::Plain);
        }
        // The URL parser has already turned every way to write an IPv4 address into the dotted one.
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if literal.is_ok_and(|address| !is_public(address)) { Err(Forbidden::Private) } else { Ok(()) }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let some = !found.is_empty();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| guard == Self::Anybody || is_public(address.ip())).collect();
            if some && allowed.is_empty() {
                return Err(Forbidden::Private.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether anybody on the internet would reach the same machine under this address.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    /// IANA's registry of special-purpose addresses, multicast, the reserved rest, and Azure's host (168.63.129.16),
    /// which answers guests with their secrets.
    const SPECIAL: &[([u8; 4], u32)] = &[
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([168, 63, 129, 16], 32),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 3),
    ];
    let bits = u32::from(address);
    !SPECIAL.iter().any(|(network, length)| (bits ^ u32::from_be_bytes(*network)) >> (32 - length) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let part = address.segments();
    // Both carry an IPv4 address that a translator connects to in our stead.
    let embedded = Ipv4Addr::from((u32::from(part[6]) << 16) | u32::from(part[7]));
    if part[..6] == [0, 0, 0, 0, 0, 0xffff] || part[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_public_v4(embedded);
    }
    let special = match part[0] {
        // Protocols (Teredo, ORCHID, benchmarks), and documentation.
        0x2001 => part[1] < 0x0200 || part[1] == 0x0db8,
        // 6to4: an IPv4 address in disguise.
        0x2002 => true,
        // Documentation.
        0x3fff => part[1] < 0x1000,
        _ => false,
    };
    let global = part[0] & 0xe000 == 0x2000;
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_reaches_is_not_public() {
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn the_internet_is_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "168.63.129.15",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.169.0.0",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00::1",
            "3fff:1000::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn an_address_in_disguise_is_seen_before_any_look_up() {
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://017700000001/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]:8443/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest",
            "https://user@10.0.0.1/",
        ] {
            assert_eq!(Guard::PublicOnly.check(&url.parse().unwrap()), Err(Forbidden::Private), "{url}");
            assert_eq!(Guard::Anybody.check(&url.parse().unwrap()), Ok(()), "{url}");
        }
        assert_eq!(Guard::PublicOnly.check(&"http://example.org/".parse().unwrap()), Err(Forbidden::Plain));
        assert_eq!(Guard::PublicOnly.check(&"https://example.org/".parse().unwrap()), Ok(()));
        assert_eq!(Guard::Anybody.check(&"data:text,x".parse().unwrap()), Err(Forbidden::NoHost));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_this_machine_is_refused() {
        let refused = Guard::PublicOnly.resolve("localhost".parse().unwrap()).await;
        let error = refused.err().expect("localhost is no public host");
        assert_eq!(error.downcast_ref::<Forbidden>(), Some(&Forbidden::Private));
        assert!(Guard::Anybody.resolve("localhost".parse().unwrap()).await.unwrap().count() > 0);
    }
}
