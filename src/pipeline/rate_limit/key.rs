//! A request's key: what it is counted by.
//!
//! The parts are written one behind the other, each with its length, and hashed: no two lists of parts
//! make the same bytes.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv6Addr},
};

use http::{Method, header::COOKIE};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use crate::{
    config::LimitKey,
    exchange::{Context, Principal, Request},
    store::{KeyHash, KeyHasher},
};

/// The bytes of a key.
pub(super) type KeyBytes = SmallVec<[u8; 128]>;

/// One part of a request's key.
pub(super) enum Part<'a> {
    /// An address, masked.
    Address(IpAddr),
    /// Any other value.
    Bytes(&'a [u8]),
    /// A value that had to be made.
    Made(Vec<u8>),
    /// There is none.
    Missing,
}

/// What the parts of a key are taken from.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) request: &'a Request,
    pub(super) context: &'a Context,
    /// How many bits of an IPv6 address count.
    pub(super) ipv6_prefix: u8,
    /// Whether the route takes upper and lower case in paths for the same.
    pub(super) ignore_case: bool,
}

impl<'a> Subject<'a> {
    /// The client's address as far as it counts.
    pub(super) fn address(self) -> Part<'a> {
        Part::Address(masked(self.context.client, self.ipv6_prefix))
    }

    /// What a hasher makes of a key that is the address alone.
    pub(super) fn address_hash(self, hasher: &KeyHasher) -> KeyHash {
        let address = masked(self.context.client, self.ipv6_prefix);
        let make = || {
            let mut bytes = KeyBytes::new();
            Part::Address(address).write(&mut bytes);
            hasher.hash(&bytes).to_bits()
        };
        let known = &self.context.connection.address_hash;
        KeyHash::from_bits(known.get_or_make(hasher.id(), address, make))
    }

    /// One part of the key.
    pub(super) fn part(self, key: &'a LimitKey) -> Part<'a> {
        let context = self.context;
        let principal = context.principal().map(|principal| &**principal);
        match key {
            LimitKey::ClientIp => self.address(),
            LimitKey::Caller => match principal {
                Some(principal) => Part::text(Some(&principal.name)),
                None => self.address(),
            },
            LimitKey::Principal => Part::text(principal.map(|it| &*it.name)),
            LimitKey::ApiKey => {
                let key = principal.filter(|it| it.method.starts_with(API_KEYS));
                Part::text(key.map(|it| &*it.name))
            }
            LimitKey::Role => Part::text(principal.and_then(|it| it.roles.first()).map(|it| &**it)),
            LimitKey::Claim(name) => {
                let path = std::slice::from_ref(name);
                principal.map_or(Part::Missing, |it| claim(it, path))
            }
            LimitKey::Header(name) => match self.request.headers().get(name) {
                Some(value) => Part::Bytes(value.as_bytes()),
                None => Part::Missing,
            },
            LimitKey::Cookie(name) => self.cookie(name),
            LimitKey::Host => match &context.head.host {
                Some(host) => Part::host(host.to_str().unwrap_or_default()),
                None => Part::Missing,
            },
            LimitKey::Capture(name) if name.starts_with("host.") => {
                context.capture(name).map_or(Part::Missing, Part::lower)
            }
            LimitKey::Capture(name) => {
                let of_path = |text| Part::of_path(text, self.ignore_case);
                context.capture(name).map_or(Part::Missing, of_path)
            }
            LimitKey::Route => Part::text(context.route().map(|route| &**route)),
            LimitKey::Method => Part::Bytes(method(&context.head.method)),
        }
    }

    fn cookie(self, name: &str) -> Part<'a> {
        let lines = self.request.headers().get_all(COOKIE).into_iter();
        let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        let value = pairs.find_map(|pair| {
            let pair = pair.trim_ascii();
            let rest = pair.strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=")
        });
        value.map_or(Part::Missing, Part::Bytes)
    }
}

impl<'a> Part<'a> {
    fn text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Missing, |text| Self::Bytes(text.as_bytes()))
    }

    fn made(value: &impl ToString) -> Self {
        Self::Made(value.to_string().into_bytes())
    }

    /// The host by which the router chose the route, in the one spelling that it knows: without the
    /// port, without the dot of a complete name, an address in its shortest form. What a proxy says
    /// was asked for is not looked at: some pass on whatever a client says.
    fn host(text: &'a str) -> Self {
        if let Some((address, _)) = text.strip_prefix('[').and_then(|it| it.split_once(']')) {
            let parsed = address.parse::<Ipv6Addr>();
            return parsed.map_or(Self::lower(text), |it| Self::made(&it));
        }
        let name = text.split_once(':').map_or(text, |(name, _)| name);
        Self::lower(name.strip_suffix('.').unwrap_or(name))
    }

    /// A part of a path, which may be spelt in several ways.
    fn of_path(text: &'a str, ignore_case: bool) -> Self {
        let decoded: Cow<'a, [u8]> = percent_decode_str(text).into();
        match (decoded, ignore_case) {
            (bytes, true) => Self::Made(bytes.to_ascii_lowercase()),
            (Cow::Borrowed(bytes), false) => Self::Bytes(bytes),
            (Cow::Owned(bytes), false) => Self::Made(bytes),
        }
    }

    /// Names of hosts have no case.
    fn lower(text: &'a str) -> Self {
        match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Self::Made(text.to_ascii_lowercase().into_bytes()),
            false => Self::Bytes(text.as_bytes()),
        }
    }

    /// Whether there is none.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// Adds the part to a key. An address is told from a name that spells the same bytes.
    pub(super) fn write(&self, key: &mut KeyBytes) {
        match self {
            Self::Address(IpAddr::V4(address)) => write_address(key, b'4', &address.octets()),
            Self::Address(IpAddr::V6(address)) => write_address(key, b'6', &address.octets()),
            Self::Bytes(bytes) => write(key, b'=', bytes),
            Self::Made(bytes) => write(key, b'=', bytes),
            Self::Missing => write(key, b'-', b""),
        }
    }

    /// Adds the part to what the operator is shown.
    pub(super) fn show(&self, text: &mut String) {
        match self {
            Self::Address(address) => text.push_str(&address.to_string()),
            Self::Bytes(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
            Self::Made(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
            Self::Missing => text.push('-'),
        }
    }
}

/// The key of a value that the operator wrote: an address for a limit that counts by them, else as it
/// stands.
pub(super) fn key_of_text(key: &LimitKey, text: &str, ipv6_prefix: u8) -> KeyBytes {
    let by_address = matches!(key, LimitKey::ClientIp | LimitKey::Caller);
    let address = by_address.then(|| text.parse::<IpAddr>().ok()).flatten();
    let part = match (address, key) {
        (Some(address), _) => Part::Address(masked(address.to_canonical(), ipv6_prefix)),
        (None, LimitKey::Host) => Part::host(text),
        (None, _) => Part::Bytes(text.as_bytes()),
    };
    let mut bytes = KeyBytes::new();
    part.write(&mut bytes);
    bytes
}

fn write(key: &mut KeyBytes, tag: u8, bytes: &[u8]) {
    key.extend_from_slice(&begin(tag, bytes.len()));
    key.extend_from_slice(bytes);
}

/// The same of what most keys are made of, at once: growing the key costs more than what is written.
fn write_address<const N: usize>(key: &mut KeyBytes, tag: u8, octets: &[u8; N]) {
    let mut part = [0; BEGIN + 16];
    part[..BEGIN].copy_from_slice(&begin(tag, N));
    part[BEGIN..BEGIN + N].copy_from_slice(octets);
    key.extend_from_slice(&part[..BEGIN + N]);
}

/// What a part begins with: of which kind it is, and how long.
fn begin(tag: u8, length: usize) -> [u8; BEGIN] {
    let mut begin = [tag; BEGIN];
    begin[1..].copy_from_slice(&(length as u64).to_le_bytes());
    begin
}

/// Text, numbers and truth values; a list or an object is no key.
fn claim<'a>(principal: &'a Principal, path: &[Box<str>]) -> Part<'a> {
    use serde_json::Value;
    match principal.claim(path) {
        Some(Value::String(text)) => Part::Bytes(text.as_bytes()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Part::made(value),
        _ => Part::Missing,
    }
}

/// A client may invent methods: those that are not standard count as one.
fn method(method: &Method) -> &'static [u8] {
    match *method {
        Method::GET => b"GET",
        Method::HEAD => b"HEAD",
        Method::POST => b"POST",
        Method::PUT => b"PUT",
        Method::DELETE => b"DELETE",
        Method::PATCH => b"PATCH",
        Method::OPTIONS => b"OPTIONS",
        _ => b"OTHER",
    }
}

/// The first bits of an IPv6 address; an IPv4 one as a whole.
fn masked(address: IpAddr, ipv6_prefix: u8) -> IpAddr {
    let IpAddr::V6(address) = address else {
        return address;
    };
    let dropped = 128 - u32::from(ipv6_prefix.min(128));
    let mask = u128::MAX.checked_shl(dropped).unwrap_or(0);
    IpAddr::V6((address.to_bits() & mask).into())
}

const API_KEYS: &str = "api_keys.";
/// A kind, and a length.
const BEGIN: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(part: &Part<'_>) -> KeyBytes {
        let mut key = KeyBytes::new();
        part.write(&mut key);
        key
    }

    #[test]
    fn a_host_has_one_spelling() {
        for text in ["A.test", "a.test.", "a.TEST.:8080", "a.test:1"] {
            assert_eq!(written(&Part::host(text)), written(&Part::Bytes(b"a.test")));
        }
        for text in ["[::1]", "[0:0::1]:80", "[0:0:0:0:0:0:0:1]"] {
            assert_eq!(written(&Part::host(text)), written(&Part::Bytes(b"::1")));
        }
    }

    #[test]
    fn a_part_of_a_path_has_one_spelling() {
        let at = b"a@b";
        for text in ["a@b", "a%40b", "%61%40%62"] {
            let part = Part::of_path(text, false);
            assert_eq!(written(&part), written(&Part::Bytes(at)));
        }
        let (upper, lower) = (Part::of_path("A%40b", true), Part::of_path("a%40B", true));
        assert_eq!(written(&upper), written(&lower));
        assert_ne!(written(&Part::of_path("A@b", false)), written(&lower));
    }

    fn address(text: &str, prefix: u8) -> String {
        masked(text.parse().unwrap(), prefix).to_string()
    }

    #[test]
    fn an_ipv6_address_counts_by_its_prefix() {
        assert_eq!(address("2001:db8:1:2:3:4:5:6", 64), "2001:db8:1:2::");
        assert_eq!(address("2001:db8:1:2:3:4:5:6", 128), "2001:db8:1:2:3:4:5:6");
        assert_eq!(address("2001:db8:1:2:3:4:5:6", 1), "::");
        assert_eq!(address("192.0.2.77", 64), "192.0.2.77");
    }

    #[test]
    fn no_two_lists_of_parts_make_the_same_key() {
        let key = |parts: &[Part<'_>]| {
            let mut key = KeyBytes::new();
            parts.iter().for_each(|part| part.write(&mut key));
            key
        };
        let (ab, a, b) = (Part::Bytes(b"ab"), Part::Bytes(b"a"), Part::Bytes(b"b"));
        assert_ne!(key(&[ab, Part::Bytes(b"")]), key(&[a, b]));
        let address = Part::Address("97.98.99.100".parse().unwrap());
        assert_ne!(key(&[address]), key(&[Part::Bytes(b"abcd")]));
    }

    #[test]
    fn an_operator_finds_a_key_by_what_it_is() {
        let mut expected = KeyBytes::new();
        Part::Address("2001:db8::".parse().unwrap()).write(&mut expected);
        assert_eq!(
            key_of_text(&LimitKey::ClientIp, "2001:db8::1", 64),
            expected
        );
        assert_ne!(
            key_of_text(&LimitKey::Principal, "2001:db8::1", 64),
            expected
        );
    }
}
