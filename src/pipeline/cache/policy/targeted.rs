//! Targeted cache control (RFC 9213): `CDN-Cache-Control` and its kin, strict structured fields.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, FieldType, ListEntry, Parser, Version};

use super::directives::{ResponseDirectives, clamped};

/// What an answer says to us: by the first targeted field that is valid and not empty, which then
/// replaces `Cache-Control` and `Expires` wholly (RFC 9213 2.2), else by `Cache-Control`.
pub(super) struct Said {
    pub(super) directives: ResponseDirectives,
    /// Whether a targeted field said it.
    pub(super) targeted: bool,
}

impl Said {
    pub(super) fn by(headers: &HeaderMap, targeted: &[HeaderName]) -> Self {
        let directives = targeted.iter().find_map(|name| read(headers, name));
        Self {
            targeted: directives.is_some(),
            directives: directives.unwrap_or_else(|| ResponseDirectives::read(headers)),
        }
    }
}

/// Reads one targeted field; `None` when it is absent, empty or wrong in any member.
fn read(headers: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let mut lines = headers.get_all(name).iter();
    let mut text = lines.next()?.as_bytes().to_vec();
    for line in lines {
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    let parser = Parser::new(&text).with_version(Version::Rfc8941);
    let members = Dictionary::parse(parser).ok()?;
    (!members.is_empty()).then_some(())?;
    let mut read = ResponseDirectives::default();
    for (key, entry) in &members {
        take(&mut read, key.as_str(), entry)?;
    }
    Some(read)
}

/// Takes a member; `None` when its value is of another type than the directive has, which voids
/// the field like an error of syntax: a half-read field could allow what the other half forbids.
fn take(read: &mut ResponseDirectives, key: &str, entry: &ListEntry) -> Option<()> {
    let item = match entry {
        ListEntry::Item(item) => Some(&item.bare_item),
        ListEntry::InnerList(_) => None,
    };
    match key {
        "max-age" => read.max_age = Some(seconds(item?)?),
        "s-maxage" => read.s_maxage = Some(seconds(item?)?),
        "stale-while-revalidate" => read.stale_while_revalidate = Some(seconds(item?)?),
        "stale-if-error" => read.stale_if_error = Some(seconds(item?)?),
        "no-cache" => read.no_cache = !withheld(read, item?)?,
        "private" => read.private = !withheld(read, item?)?,
        _ => {
            // An unknown directive may have any value.
            if let Some(flag) = read.flag(key.as_bytes()) {
                *flag = boolean(item?)?;
            }
        }
    }
    Some(())
}

/// Whether nothing but named fields, or nothing at all (`?0`), is meant.
fn withheld(read: &mut ResponseDirectives, item: &BareItem) -> Option<bool> {
    match item {
        BareItem::Boolean(whole) => Some(!whole),
        BareItem::String(names) => Some(read.withhold(Some(names.as_str().as_bytes()))),
        BareItem::Token(name) => Some(read.withhold(Some(name.as_str().as_bytes()))),
        _ => None,
    }
}

fn boolean(item: &BareItem) -> Option<bool> {
    match item {
        BareItem::Boolean(value) => Some(*value),
        _ => None,
    }
}

/// A number of seconds; a negative one is zero, which is stale.
fn seconds(item: &BareItem) -> Option<Duration> {
    match item {
        BareItem::Integer(number) => {
            let number = i64::from(*number);
            Some(clamped(u64::try_from(number).unwrap_or_default()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");

    fn cdn(line: &str) -> Option<ResponseDirectives> {
        let mut headers = HeaderMap::new();
        headers.insert(CDN, HeaderValue::from_str(line).unwrap());
        read(&headers, &CDN)
    }

    #[test]
    fn a_valid_field_is_read() {
        let read = cdn("foobar, max-age=3600, private, x=(a b);c").unwrap();
        assert_eq!(read.max_age, Some(Duration::from_secs(3600)));
        assert!(read.private && !read.no_store);
        let read = cdn("max-age=99999999999, no-cache=\"a\", no-store=?0").unwrap();
        assert_eq!(read.max_age, Some(Duration::from_secs(1 << 31)));
        assert!(!read.no_cache && !read.no_store);
        assert_eq!(read.withheld.as_slice(), ["a"]);
        assert_eq!(cdn("max-age=-1").unwrap().max_age, Some(Duration::ZERO));
    }

    #[test]
    fn any_fault_voids_the_field() {
        for line in [
            "",
            "max-age=10000, &&&&&",
            "max-age=\"10000\"",
            "max-age=1.5",
            "max-age=(1 2)",
            "max-age",
            "max-age =100",
            "max-age= 100",
            "MaX-aGe=3600",
            "max-age=100,",
            "no-store=1",
            "no-cache=1",
        ] {
            assert_eq!(cdn(line), None, "{line}");
        }
    }

    #[test]
    fn lines_are_one_field_and_the_last_of_two_members_counts() {
        // RFC 8941 4.2.2: a later member of a dictionary takes the place of an earlier one.
        let mut headers = HeaderMap::new();
        headers.append(CDN, HeaderValue::from_static("max-age=1"));
        headers.append(CDN, HeaderValue::from_static("max-age=2, no-cache"));
        let read = read(&headers, &CDN).unwrap();
        assert_eq!(read.max_age, Some(Duration::from_secs(2)));
        assert!(read.no_cache);
    }

    #[test]
    fn the_first_valid_field_replaces_cache_control() {
        let own = HeaderName::from_static("tollgate-cache-control");
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", HeaderValue::from_static("no-store"));
        headers.insert(&own, HeaderValue::from_static("max-age="));
        headers.insert(CDN, HeaderValue::from_static("max-age=5"));
        let said = Said::by(&headers, &[own.clone(), CDN]);
        assert!(said.targeted && !said.directives.no_store);
        let said = Said::by(&headers, &[own]);
        assert!(!said.targeted && said.directives.no_store);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(0x20_u8..=0x7e, 0..60)) {
            let mut headers = HeaderMap::new();
            headers.insert(CDN, HeaderValue::from_bytes(&bytes).unwrap());
            let _ = read(&headers, &CDN);
        }
    }
}
