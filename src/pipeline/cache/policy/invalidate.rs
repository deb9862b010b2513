//! What an unsafe request has changed (RFC 9111 4.4), and the references in its answer.

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_LOCATION, LOCATION},
};
use smallvec::SmallVec;

/// A URL that was asked for, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// `http` or `https`, lower case.
    pub scheme: &'a str,
    /// The host, with a port where there is one.
    pub authority: &'a str,
    /// Path and query.
    pub target: &'a str,
}

/// The paths with queries, of the URL's own origin, that a success has made stale: the URL itself
/// first, then what `Location` and `Content-Location` name.
///
/// None when the request failed: any status but 2xx and 3xx (RFC 9111 4.4). References to other
/// origins count for nothing, or one site could empty another's cache. Paths are without dot
/// segments but else as the answer spells them: the store's own normal form is still to be made.
#[must_use]
pub fn invalidated(url: &Url<'_>, status: StatusCode, answer: &HeaderMap) -> SmallVec<[String; 3]> {
    let mut paths = SmallVec::new();
    if !status.is_success() && !status.is_redirection() {
        return paths;
    }
    paths.push(url.target.to_owned());
    for name in [LOCATION, CONTENT_LOCATION] {
        if let Some(path) = referred(url, answer, &name)
            && !paths.contains(&path)
        {
            paths.push(path);
        }
    }
    paths
}

fn referred(url: &Url<'_>, answer: &HeaderMap, name: &HeaderName) -> Option<String> {
    resolve(url, answer.get(name)?.as_bytes())
}

/// The path and query that a reference names (RFC 3986 5.2), when it is of the base's origin.
pub(super) fn resolve(base: &Url<'_>, reference: &[u8]) -> Option<String> {
    let reference = std::str::from_utf8(reference)
        .ok()?
        .trim_matches([' ', '\t']);
    let reference = reference.split('#').next().unwrap_or_default();
    let relative = match split_scheme(reference) {
        Some((scheme, rest)) => {
            scheme.eq_ignore_ascii_case(base.scheme).then_some(())?;
            // Without an authority it is no http URL.
            rest.strip_prefix("//").map(|_| rest)?
        }
        None => reference,
    };
    match relative.strip_prefix("//") {
        Some(rest) => absolute(base, rest),
        None => Some(relative_to(base, relative)),
    }
}

/// `authority[/path][?query]`
fn absolute(base: &Url<'_>, rest: &str) -> Option<String> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    same_authority(base, authority).then_some(())?;
    let slash = if target.starts_with('/') { "" } else { "/" };
    Some(normal(&format!("{slash}{target}")))
}

/// A reference without a scheme and an authority.
fn relative_to(base: &Url<'_>, reference: &str) -> String {
    let path_end = base.target.find('?').unwrap_or(base.target.len());
    let path = &base.target[..path_end];
    match reference.as_bytes().first() {
        None => base.target.to_owned(),
        Some(b'?') => format!("{path}{reference}"),
        Some(b'/') => normal(reference),
        Some(_) => {
            let directory = path.rfind('/').map_or("/", |slash| &path[..=slash]);
            normal(&format!("{directory}{reference}"))
        }
    }
}

/// The scheme and what follows its colon.
fn split_scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let mut characters = scheme.chars();
    let is_scheme = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && characters.all(|next| next.is_ascii_alphanumeric() || "+-.".contains(next));
    is_scheme.then_some((scheme, rest))
}

fn same_authority(base: &Url<'_>, other: &str) -> bool {
    let port = if base.scheme == "https" {
        ":443"
    } else {
        ":80"
    };
    let without_port = |authority: &str| -> usize {
        let bare = authority.strip_suffix(port).or(authority.strip_suffix(':'));
        bare.map_or(authority.len(), str::len)
    };
    let (one, two) = (base.authority, other);
    one[..without_port(one)].eq_ignore_ascii_case(&two[..without_port(two)])
}

/// Takes the dot segments out of a path with a query (RFC 3986 5.2.4).
fn normal(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut segments: Vec<&str> = Vec::new();
    // The path begins with a slash: the first part is empty.
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let last = parts.len().saturating_sub(1);
    for (at, part) in parts.into_iter().enumerate() {
        match part {
            "." | ".." => {
                if part == ".." {
                    segments.pop();
                }
                // The directory itself is named.
                if at == last {
                    segments.push("");
                }
            }
            _ => segments.push(part),
        }
    }
    format!("/{}{query}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const BASE: Url<'_> = Url {
        scheme: "http",
        authority: "a.test",
        target: "/b/c/d?q=1",
    };

    fn resolved(reference: &str) -> Option<String> {
        resolve(&BASE, reference.as_bytes())
    }

    #[test]
    fn references_are_resolved_as_rfc_3986_does() {
        for (reference, expected) in [
            ("", "/b/c/d?q=1"),
            ("#x", "/b/c/d?q=1"),
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d?y"),
            ("g?y", "/b/c/g?y"),
            ("g#s", "/b/c/g"),
            ("g;x=1/./y", "/b/c/g;x=1/y"),
            (".", "/b/c/"),
            ("..", "/b/"),
            ("../g", "/b/g"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("http://a.test", "/"),
            ("HTTP://A.test:80/g?h", "/g?h"),
            ("//a.test?x", "/?x"),
            ("a/b:c", "/b/c/a/b:c"),
        ] {
            assert_eq!(
                resolved(reference).as_deref(),
                Some(expected),
                "{reference}"
            );
        }
    }

    #[test]
    fn other_origins_are_not_ours_to_invalidate() {
        for reference in [
            "http://b.test/g",
            "https://a.test/g",
            "http://a.test:81/g",
            "//b.test/g",
            "//a.test@b.test/g",
            "mailto:a@a.test",
            "http:g",
        ] {
            assert_eq!(resolved(reference), None, "{reference}");
        }
    }

    #[test]
    fn a_success_invalidates_the_url_and_what_it_names() {
        let mut answer = HeaderMap::new();
        answer.insert(LOCATION, HeaderValue::from_static("/new"));
        answer.insert(CONTENT_LOCATION, HeaderValue::from_static("../e"));
        let paths = |status: u16| {
            invalidated(&BASE, StatusCode::from_u16(status).unwrap(), &answer).to_vec()
        };
        for status in [200, 204, 303, 308] {
            assert_eq!(paths(status), ["/b/c/d?q=1", "/new", "/b/e"]);
        }
        for status in [400, 404, 500, 599] {
            assert!(paths(status).is_empty());
        }
    }

    proptest! {
        #[test]
        fn what_any_reference_names_begins_with_a_slash(reference in "[ -~]{0,40}") {
            if let Some(path) = resolved(&reference) {
                prop_assert!(path.starts_with('/'), "{path}");
            }
        }
    }
}
