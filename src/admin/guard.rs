//! Who may ask what.
//!
//! With a token, everything but the health endpoints needs it as `Authorization: Bearer`. Without
//! one the listener is on loopback, and the danger is a web page in the operator's browser: by DNS
//! rebinding it reaches loopback under a name of its own, so names other than `localhost` are
//! refused as `Host`; and it can send a POST that it can't read the answer of (CSRF), which is
//! known by its `Origin`.

use std::net::IpAddr;

use http::{
    HeaderMap, Method,
    header::{AUTHORIZATION, HOST, ORIGIN},
};
use subtle::ConstantTimeEq;

use crate::config::Secret;

use super::answer::Refusal;

/// Whether the caller showed the token; without a configured token everybody has.
pub(super) fn is_authorized(token: Option<&Secret>, headers: &HeaderMap) -> bool {
    let Some(token) = token else { return true };
    let shown = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let Some((scheme, rest)) = shown.and_then(|value| value.split_at_checked(BEARER.len())) else {
        return false;
    };
    // The comparison's time tells nothing of the token but its length.
    scheme.eq_ignore_ascii_case(BEARER) && bool::from(rest.ct_eq(token.expose().as_bytes()))
}

/// Keeps web pages out of a listener without a token.
pub(super) fn check_browser(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    if !headers
        .get_all(HOST)
        .iter()
        .all(|host| is_local(host.as_bytes()))
    {
        return Err(Refusal::host());
    }
    if !method.is_safe() && headers.contains_key(ORIGIN) {
        return Err(Refusal::origin());
    }
    Ok(())
}

/// `localhost` or an address, with or without a port. No name can be rebound to those.
fn is_local(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let name = bare.unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

const BEARER: &[u8] = b"bearer ";

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn authorized(value: &'static str) -> bool {
        let token = Secret::new("s3cret");
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
        is_authorized(Some(&token), &headers)
    }

    #[test]
    fn only_the_whole_token_opens() {
        assert!(authorized("Bearer s3cret"));
        assert!(authorized("bearer s3cret"));
        for wrong in [
            "Bearer s3cre",
            "Bearer s3crets",
            "Basic s3cret",
            "s3cret",
            "",
            "Bearer ",
        ] {
            assert!(!authorized(wrong), "{wrong:?}");
        }
        assert!(!is_authorized(Some(&Secret::new("x")), &HeaderMap::new()));
        assert!(is_authorized(None, &HeaderMap::new()));
    }

    #[test]
    fn only_localhost_and_addresses_are_local() {
        let local = [
            "localhost",
            "LOCALHOST:9901",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]:9901",
        ];
        for host in local {
            assert!(is_local(host.as_bytes()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9901",
            "localhost.evil.example",
            "",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_local(host.as_bytes()), "{host}");
        }
    }
}
