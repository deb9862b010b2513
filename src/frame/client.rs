//! Who the client is: the one resolver, used by the log, limits, conditions and forwarding alike.
//!
//! Forwarding headers are claims. They are believed only as far as trusted proxies made them: the
//! walk starts at the peer and goes from the right to the left of the list, past trusted hops, and
//! ends at the first that is not trusted. From an untrusted peer nothing is believed at all.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use ipnet::IpNet;

use crate::exchange::{
    fields::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, list},
    host::Host,
};

/// What is known about the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The rightmost untrusted hop.
    pub address: IpAddr,
    /// The hops that a trusted proxy told, as one `X-Forwarded-For` value.
    pub hops: Option<HeaderValue>,
    /// `http` or `https`, as the caller used it.
    pub scheme: &'static str,
    /// The host that the caller asked for, if a trusted proxy told.
    pub host: Option<HeaderValue>,
}

/// Whether a peer's forwarding headers are believed.
#[must_use]
pub fn is_trusted(peer: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&peer))
}

/// Resolves the caller behind a trusted peer.
#[must_use]
pub fn behind_proxy(
    peer: IpAddr,
    scheme: &'static str,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Client {
    let claims = match headers.contains_key(X_FORWARDED_FOR) {
        true => Claims::from_x_forwarded(headers),
        // RFC 7239, for proxies that speak only that; never both, they may differ.
        false => Claims::from_forwarded(headers, peer, trusted),
    };
    let address = rightmost_untrusted(peer, &claims.hops, trusted);
    Client {
        address,
        hops: claims.value(),
        scheme: claims.scheme.unwrap_or(scheme),
        host: claims.host,
    }
}

/// Walks from the right. A hop that is no address ends the walk at the last one that was.
fn rightmost_untrusted(peer: IpAddr, hops: &[&str], trusted: &[IpNet]) -> IpAddr {
    let mut address = peer;
    for hop in hops.iter().rev().take(MOST_HOPS) {
        if !is_trusted(address, trusted) {
            break;
        }
        match parse_hop(hop) {
            Some(next) => address = next,
            None => break,
        }
    }
    address
}

/// An address, perhaps with a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    without_brackets(hop)
        .parse()
        .or_else(|_| hop.parse::<SocketAddr>().map(|hop| hop.ip()))
        .map(|address: IpAddr| address.to_canonical())
        .ok()
}

/// The brackets around a bare IPv6 address; those before a port belong to it.
fn without_brackets(hop: &str) -> &str {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    bare.unwrap_or(hop)
}

#[derive(Default)]
struct Claims<'a> {
    hops: Vec<&'a str>,
    scheme: Option<&'static str>,
    host: Option<HeaderValue>,
}

impl<'a> Claims<'a> {
    fn from_x_forwarded(headers: &'a HeaderMap) -> Self {
        let last = |name: &HeaderName| list(headers, name).last();
        Self {
            hops: list(headers, &X_FORWARDED_FOR).collect(),
            // The nearest trusted proxy's word is the rightmost.
            scheme: last(&X_FORWARDED_PROTO).and_then(known_scheme),
            host: last(&X_FORWARDED_HOST).and_then(valid_host),
        }
    }

    /// Scheme and host count only from elements that trusted proxies wrote: from the right up to the
    /// one that names the client. What stands further left the client wrote itself.
    fn from_forwarded(headers: &'a HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> Self {
        let mut claims = Self::default();
        let mut writer = Some(peer);
        let elements: Vec<_> = list(headers, &FORWARDED).collect();
        for element in elements.into_iter().rev() {
            let believed = writer.is_some_and(|writer| is_trusted(writer, trusted));
            let hop = claims.read(element, believed);
            writer = hop.and_then(parse_hop).filter(|_| believed);
            claims.hops.extend(hop);
        }
        claims.hops.reverse();
        claims
    }

    /// Reads one element of `Forwarded`; gives its `for`.
    fn read(&mut self, element: &'a str, believed: bool) -> Option<&'a str> {
        let mut hop = None;
        for pair in element.split(';') {
            let Some((name, value)) = pair.trim().split_once('=') else {
                continue;
            };
            let value = value.trim_matches('"');
            match name.to_ascii_lowercase().as_str() {
                "for" => hop = Some(value),
                // The leftmost that is believed stands nearest to the client.
                "proto" if believed => self.scheme = known_scheme(value).or(self.scheme),
                "host" if believed => self.host = valid_host(value).or(self.host.take()),
                _ => {}
            }
        }
        hop
    }

    fn value(&self) -> Option<HeaderValue> {
        if self.hops.is_empty() {
            return None;
        }
        let text = self
            .hops
            .iter()
            .map(|hop| without_brackets(hop))
            .collect::<Vec<_>>()
            .join(", ");
        HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
    }
}

fn known_scheme(scheme: &str) -> Option<&'static str> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some("http"),
        "https" | "wss" => Some("https"),
        _ => None,
    }
}

fn valid_host(host: &str) -> Option<HeaderValue> {
    Host::parse(host).ok()?;
    HeaderValue::from_str(host).ok()
}

/// Hops beyond this many are not looked at.
const MOST_HOPS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    fn resolve(peer: &str, lines: &[(&str, &str)]) -> Client {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        behind_proxy(peer.parse().unwrap(), "http", &headers, &trusted())
    }

    fn address(peer: &str, lines: &[(&str, &str)]) -> String {
        resolve(peer, lines).address.to_string()
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        let spoofed = [("x-forwarded-for", "1.2.3.4, 203.0.113.7, 10.1.1.1")];
        assert_eq!(address("10.0.0.1", &spoofed), "203.0.113.7");
        let two_lines = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "203.0.113.7"),
        ];
        assert_eq!(address("10.0.0.1", &two_lines), "203.0.113.7");
    }

    #[test]
    fn a_hop_that_is_no_address_ends_the_walk() {
        let broken = [("x-forwarded-for", "203.0.113.7, unknown, 10.1.1.1")];
        assert_eq!(address("10.0.0.1", &broken), "10.1.1.1");
    }

    #[test]
    fn addresses_with_ports_and_brackets_are_read() {
        for (hop, expected) in [
            ("203.0.113.7:4711", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
        ] {
            assert_eq!(address("10.0.0.1", &[("x-forwarded-for", hop)]), expected);
        }
    }

    #[test]
    fn forwarded_is_read_when_there_is_no_x_forwarded_for() {
        let client = resolve(
            "10.0.0.1",
            &[(
                "forwarded",
                "for=\"[2001:db8::7]:4711\";proto=https;host=a.example, for=10.1.1.1",
            )],
        );
        assert_eq!(client.address.to_string(), "2001:db8::7");
        assert_eq!(client.scheme, "https");
        assert_eq!(client.host.unwrap(), "a.example");
    }

    #[test]
    fn a_proxys_scheme_and_host_are_believed_only_when_valid() {
        let client = resolve(
            "10.0.0.1",
            &[
                ("x-forwarded-for", "203.0.113.7"),
                ("x-forwarded-proto", "javascript"),
                ("x-forwarded-host", "a b"),
            ],
        );
        assert_eq!((client.scheme, client.host), ("http", None));
    }

    proptest! {
        /// Whatever the caller put on the left, the hop that a trusted proxy appended decides.
        #[test]
        fn what_stands_on_the_left_never_matters(left in "[ -~]{0,60}") {
            let value = format!("{left},203.0.113.7");
            prop_assert_eq!(address("10.0.0.1", &[("x-forwarded-for", &value)]), "203.0.113.7");
        }
    }
}
