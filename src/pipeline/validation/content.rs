//! The media type of a request's body.

use http::{
    HeaderMap, HeaderValue, Method,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use crate::config::MediaRange;

/// What the media type may be.
pub(super) struct ContentTypes {
    /// Empty with a schema: any JSON.
    ranges: Box<[MediaRange]>,
    /// A schema is to judge the bytes, so they must be those of the text.
    plain: bool,
    accepted: HeaderValue,
}

impl ContentTypes {
    /// `None` when anything goes.
    pub(super) fn from_config(ranges: &[MediaRange], schema: bool) -> Option<Self> {
        if ranges.is_empty() && !schema {
            return None;
        }
        let texts: Vec<_> = ranges.iter().map(text).collect();
        let accepted = match texts.as_slice() {
            [] => "application/json".to_owned(),
            texts => texts.join(", "),
        };
        Some(Self {
            ranges: ranges.into(),
            plain: schema,
            // Tokens and slashes are a valid value.
            accepted: HeaderValue::try_from(accepted).unwrap_or(HeaderValue::from_static("*/*")),
        })
    }

    /// For `Accept` of the refusal (RFC 9110 15.5.16).
    pub(super) fn accepted(&self) -> HeaderValue {
        self.accepted.clone()
    }

    /// What is wrong, if anything is.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let mut values = headers.get_all(CONTENT_TYPE).iter();
        let value = values.next().ok_or("is missing")?;
        if values.next().is_some() {
            return Err("stands more than once");
        }
        let value = value.to_str().unwrap_or_default();
        let media = value.split(';').next().unwrap_or_default();
        let (kind, subtype) = media.trim().split_once('/').ok_or("is not a media type")?;
        if !self.takes(kind, subtype) {
            return Err("is not accepted");
        }
        if self.plain && !is_utf8(value) {
            return Err("must say UTF-8, or no charset");
        }
        let coded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
        match self.plain && headers.get_all(CONTENT_ENCODING).iter().any(coded) {
            true => Err("must come without a content coding"),
            false => Ok(()),
        }
    }

    fn takes(&self, kind: &str, subtype: &str) -> bool {
        if self.ranges.is_empty() {
            return is_json(kind, subtype);
        }
        self.ranges.iter().any(|range| {
            let subtypes = range.subtype.as_deref();
            range.kind.eq_ignore_ascii_case(kind)
                && subtypes.is_none_or(|known| known.eq_ignore_ascii_case(subtype))
        })
    }
}

/// RFC 8259 8.1: JSON is UTF-8, and has no charset. A server that goes by one all the same would read
/// another text than was judged: in UTF-7 a plus sign begins what may be a quotation mark. Some look
/// for the word wherever it stands, so it may stand nowhere but in a name.
fn is_utf8(content_type: &str) -> bool {
    content_type.split(';').all(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim().trim_matches('"');
        match names_charset(name) {
            true => UTF_8.iter().any(|label| value.eq_ignore_ascii_case(label)),
            false => !names_charset(value),
        }
    })
}

fn names_charset(text: &str) -> bool {
    text.to_ascii_lowercase().contains("charset")
}

/// Whether a method says something by its body: without one there is nothing that could fit a
/// schema.
pub(super) fn needs_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

/// RFC 8259 and RFC 6839 3.1.
fn is_json(kind: &str, subtype: &str) -> bool {
    let subtype = subtype.to_ascii_lowercase();
    kind.eq_ignore_ascii_case("application") && (subtype == "json" || subtype.ends_with("+json"))
}

fn text(range: &MediaRange) -> String {
    format!("{}/{}", range.kind, range.subtype.as_deref().unwrap_or("*"))
}

/// Its name, and the label by which clients know it too (WHATWG Encoding 4.2).
const UTF_8: [&str; 2] = ["utf-8", "utf8"];

#[cfg(test)]
mod tests {
    use super::*;

    fn range(kind: &str, subtype: Option<&str>) -> MediaRange {
        MediaRange {
            kind: kind.into(),
            subtype: subtype.map(Into::into),
        }
    }

    fn check(content: &ContentTypes, lines: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        content.check(&headers).is_ok()
    }

    #[test]
    fn a_type_is_compared_without_its_parameters_and_case() {
        let ranges = [range("application", Some("json")), range("image", None)];
        let content = ContentTypes::from_config(&ranges, false).unwrap();
        for right in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "image/png",
        ] {
            assert!(check(&content, &[("content-type", right)]), "{right}");
        }
        for wrong in [
            "text/plain",
            "application/json, text/plain",
            "application/jsonx",
            "json",
            "",
        ] {
            assert!(!check(&content, &[("content-type", wrong)]), "{wrong}");
        }
        assert!(!check(&content, &[]));
        let twice = [
            ("content-type", "application/json"),
            ("content-type", "image/png"),
        ];
        assert!(!check(&content, &twice));
    }

    #[test]
    fn a_schema_asks_for_plain_json() {
        let content = ContentTypes::from_config(&[], true).unwrap();
        assert!(check(
            &content,
            &[("content-type", "application/merge-patch+json")]
        ));
        assert!(!check(&content, &[("content-type", "text/json")]));
        let coded = [
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ];
        assert!(!check(&content, &coded));
    }

    #[test]
    fn a_schema_judges_no_other_text_than_that_of_utf_8() {
        let content = ContentTypes::from_config(&[], true).unwrap();
        let check = |parameters: &str| {
            let media = format!("application/json{parameters}");
            let media = HeaderValue::try_from(media).unwrap();
            content.check(&HeaderMap::from_iter([(CONTENT_TYPE, media)]))
        };
        for right in [
            "; charset=UTF-8",
            ";charset=\"utf-8\"; v=1",
            "; charset=utf8",
            "; charset=\"UTF8\"",
            "; v=utf-7",
            ";",
        ] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for wrong in [
            "; charset=utf-7",
            "; Charset = utf-16",
            "; charset=utf-8; charset=utf-7",
            "; v=\"a;b\"; charset=ibm500",
            "; charset*=utf-8''utf-7",
            "; charset",
            "; charset=utf-8 charset=utf-16",
            "; x=charset=utf-16",
            "; x=\"Charset=utf-16\"",
            ", charset=utf-16+json",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
