//! Whom a request is for: exactly one valid host.
//!
//! A request with two hosts, or with one that programs read differently, is routed by one and served
//! by the other. So there is one host or a refusal, of characters that mean the same everywhere.

use std::{borrow::Cow, net::Ipv6Addr};

use http::{HeaderMap, HeaderValue, Uri, Version, header::HOST};

/// The longest host with its port, in bytes; names end at 253 (RFC 1035 section 2.3.4).
pub const MAX_LENGTH: usize = 255;

/// A valid host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// The name as the router matches it: lower case, no port, no dot at the end; an IPv6 address in
    /// brackets and in its shortest form (RFC 5952). Borrowed when it came so.
    pub name: Cow<'a, str>,
    /// The port, when one is given.
    pub port: Option<u16>,
}

/// Why there is no single valid host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is none, or it is empty.
    #[error("the request has no Host")]
    Missing,
    /// There are several, or `Host` and `:authority` differ.
    #[error("the request has more than one Host")]
    Several,
    /// It is longer than [`MAX_LENGTH`].
    #[error("the request's Host is too long")]
    TooLong,
    /// It is neither a name nor an address, or its port is none.
    #[error("the request's Host is not a host")]
    Invalid,
}

impl<'a> Host<'a> {
    /// The host of a request.
    ///
    /// HTTP/1: one `Host`, always (RFC 9112 section 3.2); the authority of an absolute-form target
    /// replaces it (section 3.2.2). HTTP/2: `:authority`, or else `Host`; both only when they agree
    /// (RFC 9113 section 8.3.1).
    ///
    /// # Errors
    ///
    /// A [`HostError`] when there is not exactly one, or it is not valid.
    pub fn of(
        version: Version,
        target: &'a Uri,
        headers: &'a HeaderMap,
    ) -> Result<Self, HostError> {
        let authority = target.authority().map(|it| Self::parse(it.as_str()));
        let mut fields = headers.get_all(HOST).iter();
        let field = fields.next().map(Self::from_value);
        if fields.next().is_some() {
            return Err(HostError::Several);
        }
        match (authority, field) {
            (None, None) => Err(HostError::Missing),
            (None, Some(field)) => field,
            (Some(authority), None) if version == Version::HTTP_2 => authority,
            (Some(_), None) => Err(HostError::Missing),
            (Some(authority), Some(field)) => match (authority?, field?) {
                (authority, field) if version != Version::HTTP_2 || authority == field => {
                    Ok(authority)
                }
                _ => Err(HostError::Several),
            },
        }
    }

    /// Reads `host[:port]` (RFC 9110 section 7.2) without userinfo.
    ///
    /// Stricter than RFC 3986 where programs disagree: a name is made of letters, digits, `-`, `_`
    /// and single dots, without escapes; a colon is followed by a port.
    ///
    /// # Errors
    ///
    /// A [`HostError`] when it is empty, too long or not valid.
    pub fn parse(text: &'a str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Missing);
        }
        if text.len() > MAX_LENGTH {
            return Err(HostError::TooLong);
        }
        match text.strip_prefix('[') {
            Some(inside) => Self::bracketed(text, inside),
            None => Self::named(text),
        }
    }

    fn from_value(value: &'a HeaderValue) -> Result<Self, HostError> {
        Self::parse(value.to_str().map_err(|_| HostError::Invalid)?)
    }

    fn named(text: &'a str) -> Result<Self, HostError> {
        let (name, port) = match memchr::memchr(b':', text.as_bytes()) {
            Some(colon) => (&text[..colon], Some(parse_port(&text[colon + 1..])?)),
            None => (text, None),
        };
        // `example.com.` is the same name, said to be complete (RFC 1034 section 3.1).
        let name = name.strip_suffix('.').unwrap_or(name);
        if !is_name(name.as_bytes()) {
            return Err(HostError::Invalid);
        }
        Ok(Self {
            name: lower_case(name),
            port,
        })
    }

    fn bracketed(text: &'a str, inside: &'a str) -> Result<Self, HostError> {
        let (address, behind) = inside.split_once(']').ok_or(HostError::Invalid)?;
        let port = match behind.strip_prefix(':') {
            Some(port) => Some(parse_port(port)?),
            None if behind.is_empty() => None,
            None => return Err(HostError::Invalid),
        };
        let parsed: Ipv6Addr = address.parse().map_err(|_| HostError::Invalid)?;
        let canonical = format!("[{parsed}]");
        let name = match text.get(..canonical.len()) {
            Some(came) if came == canonical => Cow::Borrowed(came),
            _ => Cow::Owned(canonical),
        };
        Ok(Self { name, port })
    }
}

/// A host with its port in its one form; what is no host stays as it is.
#[must_use]
pub fn plain(text: &str) -> String {
    match Host::parse(text) {
        Ok(Host { name, port: None }) => name.into_owned(),
        Ok(Host {
            name,
            port: Some(port),
        }) => format!("{name}:{port}"),
        Err(_) => text.to_owned(),
    }
}

/// Labels between single dots, in one pass.
fn is_name(name: &[u8]) -> bool {
    let mut before = b'.';
    for &byte in name {
        let fits = match byte {
            b'.' => before != b'.',
            _ => byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_',
        };
        if !fits {
            return false;
        }
        before = byte;
    }
    before != b'.'
}

fn parse_port(text: &str) -> Result<u16, HostError> {
    // `u16::from_str` takes a plus sign.
    if text.is_empty() || text.len() > 5 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostError::Invalid);
    }
    text.parse().map_err(|_| HostError::Invalid)
}

fn lower_case(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    Cow::Borrowed(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<(String, Option<u16>), HostError> {
        Host::parse(text).map(|host| (host.name.into_owned(), host.port))
    }

    fn of(version: Version, target: &str, hosts: &[&'static str]) -> Result<String, HostError> {
        let target: Uri = target.parse().unwrap();
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_static(host));
        }
        Host::of(version, &target, &headers).map(|host| host.name.into_owned())
    }

    #[test]
    fn names_and_addresses_are_hosts() {
        let name = |name: &str, port| Ok((name.to_owned(), port));
        assert_eq!(parsed("example.com"), name("example.com", None));
        assert_eq!(parsed("Example.COM.:8080"), name("example.com", Some(8080)));
        assert_eq!(parsed("my_service"), name("my_service", None));
        assert_eq!(
            parsed("xn--bcher-kva.example"),
            name("xn--bcher-kva.example", None)
        );
        assert_eq!(parsed("127.0.0.1:1"), name("127.0.0.1", Some(1)));
        assert_eq!(parsed("[::1]:65535"), name("[::1]", Some(65535)));
        assert_eq!(
            parsed("[2001:DB8:0:0:0:0:0:1]"),
            name("[2001:db8::1]", None)
        );
        assert_eq!(parsed("[::FFFF:1.2.3.4]"), name("[::ffff:1.2.3.4]", None));
    }

    #[test]
    fn a_host_has_one_form_whatever_it_came_in() {
        for (came, plain_form) in [
            ("A.Test.", "a.test"),
            ("a.test.:0080", "a.test:80"),
            ("[2001:DB8:0::1]:8080", "[2001:db8::1]:8080"),
            ("a.test", "a.test"),
            ("a b", "a b"),
        ] {
            assert_eq!(plain(came), plain_form);
        }
    }

    #[test]
    fn a_host_in_its_own_form_is_not_copied() {
        for text in ["example.com", "example.com:80", "example.com.", "[::1]:80"] {
            let host = Host::parse(text).unwrap();
            assert!(matches!(host.name, Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn what_programs_read_differently_is_no_host() {
        let texts = [
            "user@example.com",
            "user:pass@example.com",
            "a b",
            "a,b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a%2eb",
            "*",
            ".",
            "..",
            ".a",
            "a..b",
            "a..",
            "a:",
            "a:x",
            "a:65536",
            "a:+80",
            "a:-1",
            "a:80:80",
            "a:000080",
            ":80",
            "::1",
            "[::1",
            "[]",
            "[::1]x",
            "[::1]:",
            "[::1]80",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "[127.0.0.1]",
            "[[::1]]",
            "b\u{fc}cher.example",
            "a\tb",
            "a;b",
            "a'b",
        ];
        for text in texts {
            assert_eq!(parsed(text), Err(HostError::Invalid), "{text}");
        }
        assert_eq!(parsed(""), Err(HostError::Missing));
    }

    #[test]
    fn a_host_has_a_length() {
        assert!(parsed(&"a".repeat(MAX_LENGTH)).is_ok());
        assert_eq!(parsed(&"a".repeat(MAX_LENGTH + 1)), Err(HostError::TooLong));
    }

    #[test]
    fn http1_needs_one_host_field_whatever_the_target() {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(of(version, "/", &["a"]), Ok("a".to_owned()));
            assert_eq!(of(version, "/", &[]), Err(HostError::Missing));
            assert_eq!(of(version, "/", &["a", "a"]), Err(HostError::Several));
            assert_eq!(of(version, "/", &["a, b"]), Err(HostError::Invalid));
            assert_eq!(of(version, "http://b/", &[]), Err(HostError::Missing));
            assert_eq!(
                of(version, "http://b/", &["a", "b"]),
                Err(HostError::Several)
            );
            assert_eq!(of(version, "http://b/", &["@"]), Err(HostError::Invalid));
        }
    }

    #[test]
    fn the_authority_of_an_absolute_target_replaces_the_field() {
        assert_eq!(
            of(Version::HTTP_11, "http://b/", &["a"]),
            Ok("b".to_owned())
        );
        assert_eq!(
            of(Version::HTTP_11, "http://u@b/", &["b"]),
            Err(HostError::Invalid)
        );
    }

    #[test]
    fn http2_takes_either_and_both_when_they_agree() {
        let h2 = Version::HTTP_2;
        assert_eq!(of(h2, "http://b/", &[]), Ok("b".to_owned()));
        assert_eq!(of(h2, "/", &["a"]), Ok("a".to_owned()));
        assert_eq!(of(h2, "http://B:80/", &["b:80"]), Ok("b".to_owned()));
        assert_eq!(of(h2, "http://b/", &["a"]), Err(HostError::Several));
        assert_eq!(of(h2, "http://b/", &["b:80"]), Err(HostError::Several));
        assert_eq!(of(h2, "/", &[]), Err(HostError::Missing));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_name_is_its_own_name(text in "[a-zA-Z0-9._:@%\\[\\]-]{0,30}|\\PC{0,10}") {
            if let Ok(host) = Host::parse(&text) {
                let again = Host::parse(&host.name).unwrap();
                prop_assert_eq!(&again.name, &host.name);
                prop_assert_eq!(again.port, None);
                prop_assert!(!host.name.bytes().any(|byte| byte.is_ascii_uppercase()));
            }
        }
    }
}
