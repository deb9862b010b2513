//! Table and property tests of the normal form, against a slow reference.

use http::uri::PathAndQuery;
use proptest::prelude::*;

use super::{Normalised, TargetError, normalise, without_parameters};

fn target(text: &str) -> PathAndQuery {
    text.parse().unwrap()
}

/// The normal form, whether it is new or not.
fn normal(text: &str) -> Result<String, TargetError> {
    let target = target(text);
    let normalised = normalise(&target)?;
    Ok(normalised.changed.unwrap_or(target).as_str().to_owned())
}

fn assert_table(table: &[(&str, &str)]) {
    for (came, expected) in table {
        assert_eq!(normal(came).as_deref(), Ok(*expected), "{came}");
    }
}

#[track_caller]
fn assert_refused(error: TargetError, targets: &[&str]) {
    for text in targets {
        assert_eq!(normal(text), Err(error), "{text}");
    }
}

#[test]
fn a_normal_target_is_left_as_it_is() {
    let targets = [
        "/",
        "/a/b/",
        "/a?b=/../%2e//%zz&c=\\",
        "/?",
        "/.well-known/x",
        "/...",
        "/a../..b/c.d/.e",
        "/a%20b/%C3%A9/%25/%3F%23",
        "/a;v=1/b;c",
        "/;jsessionid=1",
        "/!$&'()*+,;=:@-._~",
        "/%252e%252e/%252F",
    ];
    for text in targets {
        assert_eq!(
            normalise(&target(text)),
            Ok(Normalised::default()),
            "{text}"
        );
    }
}

#[test]
fn parameters_are_cut_off_where_there_are_any() {
    for (path, cut) in [
        ("/admin;x", "/admin"),
        ("/admin;x/users;y=1;z", "/admin/users"),
        ("/admin%3Bx/users", "/admin/users"),
        ("/;/admin", "/admin"),
        ("/a/;x/b", "/a/b"),
        ("/admin/;x", "/admin/"),
        ("/admin;x/", "/admin/"),
        ("/;", "/"),
    ] {
        assert_eq!(without_parameters(path).as_deref(), Some(cut), "{path}");
    }
    for path in ["/", "/a/b", "/a%20b", "/a%3A"] {
        assert_eq!(without_parameters(path), None, "{path}");
    }
}

#[test]
fn characters_have_one_spelling() {
    assert_table(&[
        ("/%61%41%30%2d%5F%7e", "/aA0-_~"),
        ("/%c3%a9%3f", "/%C3%A9%3F"),
        ("/%3a%40", "/%3A%40"),
        ("/{id}|[x]^\"y\"", "/%7Bid%7D%7C%5Bx%5D%5E%22y%22"),
        ("/%7bid%7D", "/%7Bid%7D"),
        ("/a%2eb?%61={}", "/a.b?%61={}"),
    ]);
}

#[test]
fn dot_segments_and_empty_segments_are_removed() {
    assert_table(&[
        ("/.", "/"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/a/./b/../c", "/a/c"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/%2e/a", "/a"),
        ("//", "/"),
        ("///a////b//", "/a/b/"),
        ("/a//../b", "/b"),
        ("/a/b/../../c?x=/../", "/c?x=/../"),
        ("/public/%2e%2e/admin", "/admin"),
    ]);
}

#[test]
fn an_empty_path_becomes_a_slash() {
    let uri: http::Uri = "http://example.com?a=b".parse().unwrap();
    let normalised = normalise(uri.path_and_query().unwrap()).unwrap();
    assert_eq!(normalised.changed.unwrap(), "/?a=b");
    let uri: http::Uri = "http://example.com".parse().unwrap();
    let normalised = normalise(uri.path_and_query().unwrap()).unwrap();
    assert_eq!(normalised.changed, None);
}

#[test]
fn the_way_above_the_root_is_refused() {
    let targets = [
        "/..",
        "/../a",
        "/a/../..",
        "/a/../../b",
        "/./../a",
        "//..",
        "/%2e%2e/a",
    ];
    assert_refused(TargetError::AboveRoot, &targets);
}

#[test]
fn what_must_be_escaped_is_refused() {
    assert_refused(
        TargetError::ForbiddenByte,
        &["/a\\b", "/\\..\\a", "/é", "/a?é"],
    );
    assert_refused(TargetError::NotAPath, &["*"]);
}

#[test]
fn malformed_escapes_are_refused() {
    let targets = [
        "/%", "/%2", "/%2/a", "/%zz", "/%u002e", "/%%32e", "/a%?b", "/%+1",
    ];
    assert_refused(TargetError::MalformedEscape, &targets);
}

#[test]
fn escaped_control_characters_are_refused() {
    assert_refused(
        TargetError::ControlEscape,
        &[
            "/%00",
            "/a%00.jpg",
            "/%0d%0aSet-Cookie:x",
            "/%1F",
            "/%7f",
            "/%09",
        ],
    );
}

#[test]
fn overlong_utf8_is_refused_and_latin1_is_not() {
    assert_refused(
        TargetError::OverlongEscape,
        &[
            "/%c0%ae%c0%ae/a",
            "/a%C0%AFb",
            "/%c1%9c",
            "/%e0%80%af",
            "/%f0%80%80%af",
        ],
    );
    let allowed = [
        "/%E9t%E9",
        "/%C0",
        "/%C0a",
        "/%C0%20",
        "/%E0%A0%80",
        "/%F0%9F%8D%95",
    ];
    for text in allowed {
        assert_eq!(normal(text).as_deref(), Ok(text));
    }
}

#[test]
fn encoded_slashes_stay_and_are_reported() {
    for (came, expected) in [("/a%2fb", "/a%2Fb"), ("/a%5cb", "/a%5Cb"), ("/%2F", "/%2F")] {
        let normalised = normalise(&target(came)).unwrap();
        assert!(normalised.encoded_slash, "{came}");
        assert_eq!(normal(came).as_deref(), Ok(expected));
    }
    assert!(!normalise(&target("/a%252fb?%2F")).unwrap().encoded_slash);
    // One that is gone from the path still makes servers disagree about it.
    assert!(normalise(&target("/a%2Fb/../c")).unwrap().encoded_slash);
}

#[test]
fn hidden_dot_segments_are_refused() {
    assert_refused(
        TargetError::HiddenDotSegment,
        &[
            "/public/..;/admin",
            "/public/..;a=b/admin",
            "/public/.;/admin",
            "/public/%2e%2e;/admin",
            "/public/..%3b/admin",
            "/public/..%2fadmin",
            "/public/..%5Cadmin",
            "/a%2f..%2Fb",
            "/a%2F..",
            "/a%2F%2e%2e;x%5cb",
            "/x/../..;/y",
        ],
    );
}

#[test]
fn a_target_that_grows_too_long_is_refused() {
    let text = format!("/{}", "{".repeat(40_000));
    assert_eq!(normal(&text), Err(TargetError::TooLong));
}

/// The same rules, one after the other and without care for cost: split, decode each segment into
/// bytes, spell it anew, and fold the segments over a stack.
fn reference(text: &str) -> Option<String> {
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    if !path.starts_with('/') || !text.is_ascii() || path.contains('\\') {
        return None;
    }
    let segments: Vec<String> = path.split('/').map(respelt).collect::<Option<_>>()?;
    let mut stack: Vec<&str> = Vec::new();
    for segment in &segments {
        match segment.as_str() {
            "" | "." => {}
            ".." => drop(stack.pop()?),
            other => stack.push(other),
        }
    }
    let last = segments.last()?.as_str();
    let mut out: String = stack.iter().map(|segment| format!("/{segment}")).collect();
    if matches!(last, "" | "." | "..") {
        out.push('/');
    }
    Some(out + &query.map(|query| format!("?{query}")).unwrap_or_default())
}

/// One segment in its one spelling; `None` when it is to be refused.
fn respelt(segment: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = segment;
    while let Some(character) = rest.chars().next() {
        rest = &rest[1..];
        let mut byte = u8::try_from(character).ok()?;
        let escaped = byte == b'%';
        if escaped {
            let digits = rest
                .get(..2)
                .filter(|it| it.chars().all(|it| it.is_ascii_hexdigit()))?;
            byte = u8::from_str_radix(digits, 16).ok()?;
            rest = &rest[2..];
        }
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let raw = unreserved || (!escaped && b"!$&'()*+,;=:@".contains(&byte));
        match byte {
            _ if byte.is_ascii_control() => return None,
            _ if raw => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    let is_dots = |text: &str| text == "." || text == "..";
    let separated = out
        .replace("%2F", "/")
        .replace("%5C", "/")
        .replace("%3B", ";");
    let mut stems = separated.split('/').map(|it| it.split(';').next().unwrap());
    let hidden = !is_dots(&out) && stems.any(is_dots);
    let overlong = [
        "%C0%8 %C0%9 %C0%A %C0%B",
        "%C1%8 %C1%9 %C1%A %C1%B",
        "%E0%8 %E0%9 %F0%8",
    ];
    let mut overlong = overlong.iter().flat_map(|it| it.split(' '));
    let refused = overlong.any(|it| out.contains(it)) || hidden;
    (!refused).then_some(out)
}

/// Targets made of the pieces that matter, and some of anything.
fn a_target() -> impl Strategy<Value = PathAndQuery> {
    let pieces = prop::sample::select(&[
        "/", "/", "/", ".", "..", "%2e", "%2E", ";", "%3b", "%2F", "%2f", "%5c", "%25", "%252e",
        "a", "B", "%61", "%c3%A9", "%20", "%", "%0", "{", "|", ":", "%3A", "%C0%AE", "%E0", "%80",
        "%00", "é", "\\", "?", "?x=/../",
    ]);
    let pieces = prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat());
    let text = prop_oneof![4 => pieces, 1 => "[ -~]{0,20}", 1 => "\\PC{0,20}"];
    text.prop_filter_map("not a target", |text| format!("/{text}").parse().ok())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_normal_form_is_what_the_reference_says(came in a_target()) {
        let normalised = normalise(&came);
        let expected = reference(came.as_str());
        match normalised {
            Ok(Normalised { changed: Some(new), .. }) => {
                prop_assert_ne!(new.as_str(), came.as_str());
                prop_assert_eq!(Some(new.as_str()), expected.as_deref());
            }
            Ok(Normalised { changed: None, .. }) => {
                prop_assert_eq!(Some(came.as_str()), expected.as_deref());
            }
            Err(error) => prop_assert_eq!(None, expected, "{}", error),
        }
    }

    #[test]
    fn the_normal_form_is_its_own_normal_form(came in a_target()) {
        if let Ok(Normalised { changed: Some(new), .. }) = normalise(&came) {
            let again = normalise(&new);
            prop_assert!(matches!(again, Ok(Normalised { changed: None, .. })), "{new}: {again:?}");
        }
    }

    #[test]
    fn nothing_is_left_that_a_server_could_resolve(came in a_target()) {
        let Ok(normalised) = normalise(&came) else { return Ok(()) };
        let path = normalised.changed.unwrap_or(came).path().to_owned();
        prop_assert!(path.starts_with('/') && !path.contains("//"), "{path}");
        let decoded = path.replace("%2F", "/").replace("%5C", "/").replace("%3B", ";");
        let stems = decoded.split('/').map(|it| it.split(';').next().unwrap());
        prop_assert!(stems.clone().all(|it| it != "." && it != ".."), "{path}");
        prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");
    }

    #[test]
    fn what_is_left_without_parameters_is_normal_too(came in a_target()) {
        let Ok(normalised) = normalise(&came) else { return Ok(()) };
        let path = normalised.changed.unwrap_or(came).path().to_owned();
        if let Some(cut) = without_parameters(&path) {
            prop_assert_eq!(normal(&cut), Ok(cut.clone()), "{}", path);
            prop_assert_eq!(without_parameters(&cut), None, "{}", path);
        }
    }

    /// One round of decoding yields the same bytes before and after, wherever no segment is removed:
    /// a server that decodes sees what the client meant.
    #[test]
    fn the_meaning_of_a_segment_never_changes(segment in "[a-zA-Z0-9%:;{}|~-]{1,20}") {
        let Ok(came) = format!("/{segment}").parse::<PathAndQuery>() else { return Ok(()) };
        let Ok(normalised) = normalise(&came) else { return Ok(()) };
        let new = normalised.changed.unwrap_or(came.clone());
        let decode = |text: &PathAndQuery| {
            percent_encoding::percent_decode_str(text.path()).collect::<Vec<u8>>()
        };
        prop_assert_eq!(decode(&new), decode(&came));
    }
}
