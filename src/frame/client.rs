//! Who the client is: the one resolver, used by the log, limits, conditions and forwarding alike.
//!
//! Forwarding headers are claims. They are believed only as far as trusted proxies made them: the
//! walk starts at the peer and goes from the right to the left of the list, past trusted hops, and
//! ends at the first that is not trusted. From an untrusted peer nothing is believed at all.
//!
//! Hazard: there are two families of such fields, and most proxies write one of them and let the
//! other one pass as the client sent it. nginx, Envoy and Traefik read one that is named, and so do
//! we where the configuration names one. Where it does not, a request that has both is taken only if
//! they agree on the client: to choose one would let clients choose, and to believe neither would
//! make a client pass for the proxy, whose address may be one that rules allow.

mod forwarded;

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use ipnet::IpNet;

use crate::{
    config::TrustedHeaders,
    exchange::{
        fields::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, list},
        host::Host,
    },
};

/// Who is believed, and what.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The networks of proxies.
    pub networks: Vec<IpNet>,
    /// The fields that they write.
    pub headers: TrustedHeaders,
}

/// A proxy's claims can be read in more than one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction;

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
///
/// # Errors
///
/// What the fields say can't be told: see [`Contradiction`].
pub fn behind_proxy(
    peer: IpAddr,
    scheme: &'static str,
    headers: &HeaderMap,
    trust: &Trust,
) -> Result<Client, Contradiction> {
    let claims = Claims::read(headers, peer, trust)?;
    Ok(Client {
        address: claims.client(peer, &trust.networks),
        hops: claims.value(),
        scheme: claims.scheme.unwrap_or(scheme),
        host: claims.host,
    })
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
    fn read(headers: &'a HeaderMap, peer: IpAddr, trust: &Trust) -> Result<Self, Contradiction> {
        let trusted = &trust.networks;
        match trust.headers {
            TrustedHeaders::XForwarded => Ok(Self::from_x_forwarded(headers)),
            TrustedHeaders::Forwarded => Self::from_forwarded(headers, peer, trusted),
            TrustedHeaders::Auto if !headers.contains_key(FORWARDED) => {
                Ok(Self::from_x_forwarded(headers))
            }
            TrustedHeaders::Auto => {
                let standard = Self::from_forwarded(headers, peer, trusted)?;
                match X_FORWARDED.iter().any(|name| headers.contains_key(name)) {
                    true => Self::from_x_forwarded(headers).agreed(&standard, peer, trusted),
                    false => Ok(standard),
                }
            }
        }
    }

    /// What both families say. Of scheme and host a proxy may well write one only; then nobody can
    /// tell that it was the proxy.
    fn agreed(self, other: &Self, peer: IpAddr, trusted: &[IpNet]) -> Result<Self, Contradiction> {
        if self.client(peer, trusted) != other.client(peer, trusted) {
            return Err(Contradiction);
        }
        Ok(Self {
            scheme: self.scheme.filter(|scheme| other.scheme == Some(scheme)),
            host: self.host.filter(|host| other.host.as_ref() == Some(host)),
            hops: self.hops,
        })
    }

    fn client(&self, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
        rightmost_untrusted(peer, &self.hops, trusted)
    }

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
    fn from_forwarded(
        headers: &'a HeaderMap,
        peer: IpAddr,
        trusted: &[IpNet],
    ) -> Result<Self, Contradiction> {
        let mut claims = Self::default();
        let mut writer = Some(peer);
        for element in forwarded::elements(headers)?.into_iter().rev() {
            let believed = writer.is_some_and(|writer| is_trusted(writer, trusted));
            if believed {
                // The leftmost that is believed stands nearest to the client.
                claims.scheme = element.proto.and_then(known_scheme).or(claims.scheme);
                let host = element.host.and_then(valid_host);
                claims.host = host.or(claims.host.take());
            }
            writer = parse_hop(element.hop).filter(|_| believed);
            claims.hops.push(element.hop);
        }
        claims.hops.reverse();
        Ok(claims)
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

const X_FORWARDED: [HeaderName; 3] = [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST];

/// Hops beyond this many are not looked at.
const MOST_HOPS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trust(headers: TrustedHeaders) -> Trust {
        Trust {
            networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            headers,
        }
    }

    fn told(
        headers: TrustedHeaders,
        peer: &str,
        lines: &[(&str, &str)],
    ) -> Result<Client, Contradiction> {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        behind_proxy(peer.parse().unwrap(), "http", &fields, &trust(headers))
    }

    fn resolve(peer: &str, lines: &[(&str, &str)]) -> Client {
        told(TrustedHeaders::Auto, peer, lines).unwrap()
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
    fn of_two_families_that_disagree_none_is_chosen() {
        let proxys = ("forwarded", "for=203.0.113.7;proto=http");
        for clients in [
            ("x-forwarded-for", "10.9.9.9"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.test"),
        ] {
            let lines = [proxys, clients];
            let auto = told(TrustedHeaders::Auto, "10.0.0.1", &lines);
            assert_eq!(auto, Err(Contradiction), "{clients:?}");
            let named = told(TrustedHeaders::Forwarded, "10.0.0.1", &lines).unwrap();
            assert_eq!(named.address.to_string(), "203.0.113.7");
            assert_eq!((named.scheme, named.host), ("http", None));
        }
        let lines = [
            ("x-forwarded-for", "203.0.113.7"),
            (
                "forwarded",
                "for=10.9.9.9;host=evil.test;proto=https, for=\"",
            ),
        ];
        assert_eq!(
            told(TrustedHeaders::Auto, "10.0.0.1", &lines),
            Err(Contradiction)
        );
        let named = told(TrustedHeaders::XForwarded, "10.0.0.1", &lines).unwrap();
        assert_eq!(named.address.to_string(), "203.0.113.7");
        assert_eq!((named.scheme, named.host), ("http", None));
    }

    #[test]
    fn of_two_families_that_agree_on_the_client_only_what_both_say_is_believed() {
        let with = |proto, host| {
            let forwarded = format!("for=203.0.113.7;proto=https;host={host}");
            let lines = [
                ("x-forwarded-for", "1.2.3.4, 203.0.113.7"),
                ("x-forwarded-proto", proto),
                ("x-forwarded-host", "a.example"),
                ("forwarded", &*forwarded),
            ];
            let client = resolve("10.0.0.1", &lines);
            assert_eq!(client.address.to_string(), "203.0.113.7");
            (client.scheme, client.host.is_some())
        };
        assert_eq!(with("https", "a.example"), ("https", true));
        assert_eq!(with("http", "b.example"), ("http", false));
    }

    #[test]
    fn a_hop_that_a_proxy_keeps_to_itself_ends_the_walk() {
        let hidden = [("forwarded", "for=1.2.3.4, proto=https, for=10.1.1.1")];
        assert_eq!(address("10.0.0.1", &hidden), "10.1.1.1");
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

        /// In `Forwarded` it may at most make the field unreadable.
        #[test]
        fn what_stands_on_the_left_of_forwarded_chooses_nobody(left in "[ -~]{0,40}|(for=|\"|;|,|\\\\|a){0,12}") {
            let value = format!("{left},for=203.0.113.7;proto=https");
            let lines = [("forwarded", &*value)];
            if let Ok(client) = told(TrustedHeaders::Auto, "10.0.0.1", &lines) {
                prop_assert_eq!(client.address.to_string(), "203.0.113.7");
                prop_assert_eq!(client.scheme, "https");
            }
        }
    }
}
