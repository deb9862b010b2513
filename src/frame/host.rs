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
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(parse_port(port)?)),
            None => (text, None),
        };
        // `example.com.` is the same name, said to be complete (RFC 1034 section 3.1).
        let name = name.strip_suffix('.').unwrap_or(name);
        if !name.split('.').all(is_label) {
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

fn is_label(label: &str) -> bool {
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !label.is_empty() && label.bytes().all(sane)
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
