//! Where in a request a credential stands.

use std::fmt;

use http::HeaderName;

use crate::config::{
    decode::{Format, Node, Problem, Reader, Show, quoted},
    header::{in_plain_letters, is_hop_by_hop},
};

/// A place of `from`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CredentialPlace {
    /// `"header:authorization"`.
    Header(HeaderName),
    /// `"cookie:session"`: the value of one cookie.
    Cookie(Box<str>),
    /// `"query:access_token"`: the value of one query parameter, decoded.
    Query(Box<str>),
}

/// As it is written in the file.
impl fmt::Display for CredentialPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}

/// The format of a [`CredentialPlace`].
pub(in crate::config) struct From;

impl Format for From {
    type Value = CredentialPlace;

    fn expected() -> String {
        "a place such as \"header:authorization\", \"cookie:session\" or \"query:access_token\""
            .to_owned()
    }

    fn example() -> String {
        "\"header:authorization\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<CredentialPlace> {
        reader.parse(node, &Self::expected(), place)
    }
}

impl Show for From {
    fn show(value: &CredentialPlace) -> String {
        quoted(&value.to_string())
    }
}

fn place(text: &str) -> Result<CredentialPlace, Problem> {
    let (kind, name) = text.split_once(':').ok_or_else(|| bare(text))?;
    match kind {
        "header" => header(name),
        "cookie" if is_token(name) => Ok(CredentialPlace::Cookie(name.into())),
        "query" if !name.is_empty() && name.is_ascii() => Ok(CredentialPlace::Query(name.into())),
        _ => Err(Problem::plain()),
    }
}

fn bare(text: &str) -> Problem {
    match HeaderName::try_from(text) {
        Ok(name) => Problem::plain().help(format!("for a header write `\"header:{name}\"`")),
        Err(_) => Problem::plain(),
    }
}

fn header(name: &str) -> Result<CredentialPlace, Problem> {
    let name = HeaderName::try_from(name).map_err(|_| Problem::plain())?;
    if name == http::header::COOKIE {
        return Err(Problem::what("a cookie is named itself").help("write `\"cookie:NAME\"`"));
    }
    if is_hop_by_hop(&name) || name == http::header::HOST {
        return Err(Problem::what("this header belongs to the connection"));
    }
    if let Some(plain) = in_plain_letters(name.as_str()) {
        let what = "only headers of letters, digits and hyphens are accepted as credentials";
        return Err(Problem::what(what).help(format!("write `\"header:{plain}\"`")));
    }
    Ok(CredentialPlace::Header(name))
}

/// RFC 6265 4.1.1: the name of a cookie is a token.
fn is_token(name: &str) -> bool {
    HeaderName::try_from(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_written_alike() {
        for text in ["header:x-api-key", "cookie:Session", "query:access_token"] {
            assert_eq!(place(text).unwrap().to_string(), text);
        }
        assert_eq!(
            place("authorization").unwrap_err().help.as_deref(),
            Some("for a header write `\"header:authorization\"`")
        );
        for text in [
            "header:",
            "header:cookie",
            "cookie:a b",
            "body:token",
            "header:x_key",
            "",
        ] {
            assert!(place(text).is_err(), "{text}");
        }
    }
}
