//! The address a request really comes from, when trusted proxies stand in between.
//!
//! Reads `X-Forwarded-For` and `Forwarded` (RFC 7239) only when the peer itself is a trusted proxy, and then from the
//! right: each trusted hop vouches for the one before it, and the first that is not trusted is the client. What stands
//! further left is what the client claims. When both headers are there and disagree, one of them is the client's own
//! invention, and nobody can say which: then it is the proxy's address that counts.

use std::net::{IpAddr, SocketAddr};

use crate::config::cidr::Cidr;

/// The address headers of one request, each in the order of its lines.
#[derive(Debug, Clone, Default)]
pub struct AddressHeaders<'a> {
    pub x_forwarded_for: Vec<&'a str>,
    pub forwarded: Vec<&'a str>,
}

/// Whom to count a failed attempt against.
pub fn client_address(peer: IpAddr, headers: &AddressHeaders<'_>, trusted: &[Cidr]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let listed = headers.x_forwarded_for.iter().flat_map(|line| line.split(',')).map(address).collect::<Vec<_>>();
    let named = headers.forwarded.iter().flat_map(|line| split(line, ',')).map(forwarded_for).collect::<Vec<_>>();
    match (listed.is_empty(), named.is_empty()) {
        (true, true) => peer,
        (false, true) => client(peer, &listed, trusted),
        (true, false) => client(peer, &named, trusted),
        (false, false) => {
            let found = client(peer, &listed, trusted);
            if found == client(peer, &named, trusted) { found } else { peer }
        }
    }
}

fn is_trusted(address: IpAddr, trusted: &[Cidr]) -> bool {
    trusted.iter().any(|cidr| cidr.contains(address))
}

/// From right to left the first hop that is not trusted; a hop that cannot be read ends the search at the one that
/// reported it.
fn client(peer: IpAddr, hops: &[Option<IpAddr>], trusted: &[Cidr]) -> IpAddr {
    let mut last = peer;
    for hop in hops.iter().rev() {
        let Some(hop) = *hop else { return last };
        last = hop;
        if !is_trusted(hop, trusted) {
            break;
        }
    }
    last
}

/// An address with or without brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let found = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    found.map(|address: IpAddr| address.to_canonical())
}

/// The `for` of one element of a `Forwarded` header: `for="[2001:db8::1]:80";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = split(element, ';').filter_map(|pair| pair.split_once('='));
    let (_, value) = { pairs }.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(value.trim().trim_matches('"'))
}

/// Splits at each `at` outside of double quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == at && !quoted
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn trusted() -> Vec<Cidr> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    fn found(peer: &str, x_forwarded_for: &[&str], forwarded: &[&str]) -> String {
        let headers = AddressHeaders { x_forwarded_for: x_forwarded_for.to_vec(), forwarded: forwarded.to_vec() };
        client_address(ip(peer), &headers, &trusted()).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(found("192.0.2.1", &["198.51.100.1"], &["for=198.51.100.1"]), "192.0.2.1");
        assert_eq!(found("10.0.0.1", &["198.51.100.1"], &[]), "198.51.100.1");
        assert_eq!(found("::ffff:10.0.0.1", &["198.51.100.1"], &[]), "198.51.100.1");
        assert_eq!(found("10.0.0.1", &[], &[]), "10.0.0.1");
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        let cases: &[(&[&str], &str)] = &[
            (&["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            (&["1.1.1.1", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
            (&["10.0.0.9,10.0.0.2"], "10.0.0.9"),
            (&["198.51.100.1:4711"], "198.51.100.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["2001:db8::1, fd00::7"], "2001:db8::1"),
            (&["198.51.100.1, nonsense, 10.0.0.2"], "10.0.0.2"),
            (&["nonsense"], "10.0.0.1"),
            (&[""], "10.0.0.1"),
        ];
        for (lines, expected) in cases {
            assert_eq!(found("10.0.0.1", lines, &[]), *expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_says() {
        let cases: &[(&[&str], &str)] = &[
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60"),
            (&[r#"For="[2001:db8:cafe::17]:4711""#], "2001:db8:cafe::17"),
            (&["for=1.1.1.1, for=198.51.100.17;by=10.0.0.2, for=10.0.0.2"], "198.51.100.17"),
            (&[r#"by="a,b;for=9.9.9.9";for=198.51.100.17"#], "198.51.100.17"),
            (&["for=1.1.1.1, for=unknown"], "10.0.0.1"),
            (&["for=1.1.1.1, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
            (&["proto=https"], "10.0.0.1"),
        ];
        for (lines, expected) in cases {
            assert_eq!(found("10.0.0.1", &[], lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn headers_that_disagree_are_not_believed() {
        assert_eq!(found("10.0.0.1", &["198.51.100.1"], &["for=198.51.100.1"]), "198.51.100.1");
        assert_eq!(found("10.0.0.1", &["198.51.100.1"], &["for=1.1.1.1"]), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn no_header_harms(list in ".{0,80}", named in ".{0,80}") {
            let _ = found("10.0.0.1", &[&list], &[&named]);
        }
    }
}
