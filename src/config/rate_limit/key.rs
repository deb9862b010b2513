//! `key`: by what callers are told apart.

use std::fmt;

use http::HeaderName;

use super::{Format, Node, Place, Problem, Reader};
use crate::config::decode::nearest;

/// A part of a limit's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// `"caller"`: the principal, or the client's address where there is none.
    Caller,
    /// `"client_ip"`: the client's address, an IPv6 one by its prefix.
    ClientIp,
    /// `"principal"`: who was authenticated.
    Principal,
    /// `"api_key"`: the key that was shown.
    ApiKey,
    /// `"role"`: the first role of the credential.
    Role,
    /// `"claim:NAME"`: a claim of the token.
    Claim(Box<str>),
    /// `"header:NAME"`: a field of the request.
    Header(HeaderName),
    /// `"cookie:NAME"`: a cookie of the request.
    Cookie(Box<str>),
    /// `"host"`: the host that was asked for.
    Host,
    /// `"host.NAME"` or `"path.NAME"`: what a pattern of the route captured.
    Capture(Box<str>),
    /// `"route"`: the route's name.
    Route,
    /// `"method"`: the method.
    Method,
}

impl LimitKey {
    /// Whether it is known only behind authentication.
    #[must_use]
    pub fn needs_caller(&self) -> bool {
        matches!(self, Self::Caller) || self.needs_principal()
    }

    /// Whether it is there only for callers that were authenticated.
    #[must_use]
    pub fn needs_principal(&self) -> bool {
        matches!(
            self,
            Self::Principal | Self::ApiKey | Self::Role | Self::Claim(_)
        )
    }

    /// Whether it is another for each caller, where it is there. An address in its place is not.
    #[must_use]
    pub fn tells_callers_apart(&self) -> bool {
        matches!(self, Self::Caller | Self::Principal | Self::ApiKey)
    }

    /// Whether a caller may make up as many values as it likes.
    #[must_use]
    pub fn is_made_up(&self) -> bool {
        matches!(
            self,
            Self::Header(_) | Self::Cookie(_) | Self::Host | Self::Capture(_)
        )
    }
}

/// As it is written.
impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(name) => write!(f, "claim:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Capture(name) => f.write_str(name),
            word => {
                let known = WORDS.iter().find(|(_, key)| key == word);
                f.write_str(known.map_or("", |(word, _)| word))
            }
        }
    }
}

/// The format of a [`LimitKey`], with where it stands.
pub(super) struct KeyName;

impl Format for KeyName {
    type Value = (LimitKey, Place);

    fn expected() -> String {
        "a key such as \"caller\", \"client_ip\" or \"header:x-tenant\"".to_owned()
    }

    fn example() -> String {
        "\"caller\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let key = reader.parse(node, &Self::expected(), key)?;
        Some((key, node.place))
    }
}

fn key(text: &str) -> Result<LimitKey, Problem> {
    if let Some(key) = WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(key.1.clone());
    }
    if text.starts_with("host.") || text.starts_with("path.") {
        return Ok(LimitKey::Capture(text.into()));
    }
    match text.split_once(':') {
        Some(("claim", name)) if !name.is_empty() => Ok(LimitKey::Claim(name.into())),
        Some(("cookie", name)) if !name.is_empty() => Ok(LimitKey::Cookie(name.into())),
        Some(("header", name)) => HeaderName::try_from(name)
            .map(LimitKey::Header)
            .map_err(|_| Problem::what("this is not the name of a header field")),
        _ => Err(unknown(text)),
    }
}

fn unknown(text: &str) -> Problem {
    let meant = match text {
        "ip" | "remote_addr" | "client" | "address" => Some("client_ip"),
        "user" | "sub" | "subject" | "consumer" => Some("principal"),
        text => nearest(text, WORDS.iter().map(|(word, _)| *word)),
    };
    match meant {
        Some(meant) => Problem::plain().help(format!("write `\"{meant}\"`")),
        None => Problem::plain().help(
            "known are caller, client_ip, principal, api_key, role, claim:NAME, header:NAME, \
             cookie:NAME, host, host.NAME, path.NAME, route and method",
        ),
    }
}

const WORDS: [(&str, LimitKey); 8] = [
    ("caller", LimitKey::Caller),
    ("client_ip", LimitKey::ClientIp),
    ("principal", LimitKey::Principal),
    ("api_key", LimitKey::ApiKey),
    ("role", LimitKey::Role),
    ("host", LimitKey::Host),
    ("route", LimitKey::Route),
    ("method", LimitKey::Method),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_words_or_named_parts() {
        assert_eq!(key("caller"), Ok(LimitKey::Caller));
        assert_eq!(key("claim:tenant"), Ok(LimitKey::Claim("tenant".into())));
        assert_eq!(
            key("host.tenant"),
            Ok(LimitKey::Capture("host.tenant".into()))
        );
        assert!(matches!(key("header:X-Tenant"), Ok(LimitKey::Header(name)) if name == "x-tenant"));
        let help = |text| key(text).unwrap_err().help.unwrap();
        assert_eq!(help("ip"), "write `\"client_ip\"`");
        assert_eq!(help("principle"), "write `\"principal\"`");
        assert!(help("everything").starts_with("known are"));
        assert!(key("header:").is_err() && key("claim:").is_err());
    }
}
