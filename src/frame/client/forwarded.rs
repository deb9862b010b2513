//! The field `Forwarded` (RFC 7239 4), taken strictly: a proxy quotes what a client sent it (a host),
//! and a comma or a semicolon in there must not pass for the proxy's own.

use http::{HeaderMap, header::FORWARDED};

use super::Contradiction;

/// What one proxy says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'a> {
    /// `for`; [`UNKNOWN`] where the proxy does not say: the walk must not skip its hop.
    pub(super) hop: &'a str,
    pub(super) proto: Option<&'a str>,
    pub(super) host: Option<&'a str>,
}

/// The elements over all lines of the field, from left to right.
///
/// # Errors
///
/// A quoted text that does not end, or a parameter that stands in an element twice (RFC 7239 4): two
/// readers would take it for two things.
pub(super) fn elements(headers: &HeaderMap) -> Result<Vec<Element<'_>>, Contradiction> {
    let mut elements = Vec::new();
    for line in headers.get_all(FORWARDED) {
        for text in unquoted_parts(line.as_bytes(), b',')? {
            if !text.trim_ascii().is_empty() {
                elements.push(element(text)?);
            }
        }
    }
    Ok(elements)
}

fn element(text: &[u8]) -> Result<Element<'_>, Contradiction> {
    let (mut hop, mut proto, mut host) = (None, None, None);
    for pair in unquoted_parts(text, b';')? {
        let Some(equals) = memchr::memchr(b'=', pair) else {
            continue;
        };
        let name = pair[..equals].trim_ascii();
        let place = match () {
            () if name.eq_ignore_ascii_case(b"for") => &mut hop,
            () if name.eq_ignore_ascii_case(b"proto") => &mut proto,
            () if name.eq_ignore_ascii_case(b"host") => &mut host,
            () => continue,
        };
        if place
            .replace(value(pair[equals + 1..].trim_ascii()))
            .is_some()
        {
            return Err(Contradiction);
        }
    }
    Ok(Element {
        hop: hop.unwrap_or(UNKNOWN),
        proto,
        host,
    })
}

/// A token, or the inside of a quoted text; no address, scheme or host has an escape in it.
fn value(text: &[u8]) -> &str {
    let quoted = text
        .strip_prefix(b"\"")
        .and_then(|it| it.strip_suffix(b"\""));
    let plain = std::str::from_utf8(quoted.unwrap_or(text)).ok();
    plain.filter(|text| text.is_ascii()).unwrap_or(UNKNOWN)
}

/// Splits at a byte that stands in no quoted text (RFC 9110 5.6.4).
fn unquoted_parts(text: &[u8], separator: u8) -> Result<Vec<&[u8]>, Contradiction> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match *byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if byte == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if quoted {
        return Err(Contradiction);
    }
    parts.push(&text[start..]);
    Ok(parts)
}

/// RFC 7239 6.2.
pub(super) const UNKNOWN: &str = "unknown";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(lines: &[&'static [u8]]) -> Result<Vec<(String, String)>, Contradiction> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED, HeaderValue::from_bytes(line).unwrap());
        }
        let read = elements(&headers)?.into_iter();
        Ok(read
            .map(|it| (it.hop.to_owned(), it.host.unwrap_or("-").to_owned()))
            .collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, Contradiction> {
        let owned = |(hop, host): &(&str, &str)| ((*hop).to_owned(), (*host).to_owned());
        Ok(pairs.iter().map(owned).collect())
    }

    #[test]
    fn what_a_proxy_quotes_is_its_value_and_nothing_more() {
        assert_eq!(
            read(&[b"for=\"[2001:db8::7]:1\";Host=a.test, FOR = 192.0.2.1;host=\"b,for=1.1.1.1\""]),
            pairs(&[
                ("[2001:db8::7]:1", "a.test"),
                ("192.0.2.1", "b,for=1.1.1.1")
            ])
        );
        assert_eq!(
            read(&[b"for=192.0.2.1;host=\"a\\\";for=1.1.1.1;\""]),
            pairs(&[("192.0.2.1", "a\\\";for=1.1.1.1;")])
        );
    }

    #[test]
    fn a_proxy_that_does_not_say_for_whom_counts_as_a_hop() {
        assert_eq!(
            read(&[b"for=1.1.1.1, proto=https", b" , for=10.0.0.2"]),
            pairs(&[("1.1.1.1", "-"), (UNKNOWN, "-"), ("10.0.0.2", "-")])
        );
        assert_eq!(read(&[b"for=\xff"]), pairs(&[(UNKNOWN, "-")]));
        assert_eq!(
            read(&[b"\xff, for=a"]),
            pairs(&[(UNKNOWN, "-"), ("a", "-")])
        );
    }

    #[test]
    fn what_two_readers_could_read_differently_is_a_contradiction() {
        for line in [
            &b"for=\", for=192.0.2.1"[..],
            b"for=1.1.1.1;for=192.0.2.1",
            b"for=192.0.2.1;host=a;HOST=b",
            b"for=192.0.2.1;host=\"a\\\"",
        ] {
            assert_eq!(read(&[line]), Err(Contradiction));
        }
        // An open quote does not reach into the next line.
        assert_eq!(read(&[b"for=\"", b"for=192.0.2.1"]), Err(Contradiction));
    }
}
