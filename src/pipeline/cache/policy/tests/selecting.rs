//! What of a stored answer a client gets.

use super::*;

fn selected(request: Lines<'_>, stored: &StoredHead) -> Selected {
    let request = headers(request);
    let incoming = Incoming {
        method: &Method::GET,
        headers: &request,
        has_body: false,
        upgrade: false,
        principal: false,
        odd_names: false,
    };
    let asked = Asked::read(&incoming, &Options::default());
    select(&asked, &request, stored, Some(10), NOW)
}

fn with_etag(etag: &str) -> StoredHead {
    let modified = date(-3000);
    stored(&[
        ("cache-control", "max-age=60"),
        ("etag", etag),
        ("last-modified", &modified),
    ])
}

fn part(first: u64, last: u64) -> Selected {
    let whole = 10;
    Selected::Part(ByteRange { first, last, whole })
}

#[test]
fn a_listed_entity_tag_is_answered_with_a_304() {
    for list in [
        "\"abc\"",
        "\"1\", \"abc\", \"2\"",
        "\"1\",W/\"abc\"",
        "\"a,b\", \"abc\"",
        "*",
    ] {
        let selected = selected(&[("if-none-match", list)], &with_etag("\"abc\""));
        assert_eq!(selected, Selected::NotModified, "{list}");
    }
    for list in ["\"abcd\"", "\"x, \\\"abc\\\"\"", "abc", ""] {
        let selected = selected(&[("if-none-match", list)], &with_etag("\"abc\""));
        assert_eq!(selected, Selected::Whole, "{list}");
    }
    let weak = selected(&[("if-none-match", "\"abc\"")], &with_etag("W/\"abc\""));
    assert_eq!(weak, Selected::NotModified);
}

#[test]
fn a_condition_counts_for_an_answer_that_is_not_stored_too() {
    let (modified, later, earlier) = (date(-3000), date(-2000), date(-4000));
    let answer: Lines<'_> = &[("etag", "W/\"abc\""), ("last-modified", &modified)];
    let has = |request: Lines<'_>, status: u16, answer: Lines<'_>| {
        let status = StatusCode::from_u16(status).unwrap();
        has_already(&headers(request), status, &headers(answer), NOW)
    };
    let listed: Lines<'_> = &[("if-none-match", "\"1\", \"abc\"")];
    assert!(has(listed, 200, answer));
    assert!(!has(listed, 404, answer) && !has(listed, 304, answer));
    assert!(!has(listed, 200, &[("etag", "\"abcd\"")]) && !has(listed, 200, &[]));
    assert!(has(&[("if-modified-since", &later)], 200, answer));
    assert!(!has(&[("if-modified-since", &earlier)], 200, answer));
    assert!(!has(&[("if-modified-since", &later)], 200, &[]));
    let both: Lines<'_> = &[("if-none-match", "\"1\""), ("if-modified-since", &later)];
    assert!(!has(both, 200, answer), "the entity tag rules");
}

#[test]
fn the_same_date_or_a_later_one_is_answered_with_a_304() {
    let (same, later, earlier) = (date(-3000), date(-2000), date(-3001));
    let head = with_etag("\"abc\"");
    for (since, expected) in [
        (same.as_str(), Selected::NotModified),
        (&later, Selected::NotModified),
        (&earlier, Selected::Whole),
        ("yesterday", Selected::Whole),
    ] {
        assert_eq!(selected(&[("if-modified-since", since)], &head), expected);
    }
}

#[test]
fn without_last_modified_the_date_is_compared() {
    let (now, before) = (date(0), date(-1));
    let head = stored(&[("cache-control", "max-age=60"), ("date", &now)]);
    let since = |since: &str| selected(&[("if-modified-since", since)], &head);
    assert_eq!(since(&now), Selected::NotModified);
    assert_eq!(since(&before), Selected::Whole);
}

#[test]
fn if_none_match_rules_over_if_modified_since() {
    let later = date(0);
    let lines: Lines<'_> = &[("if-none-match", "\"x\""), ("if-modified-since", &later)];
    assert_eq!(selected(lines, &with_etag("\"abc\"")), Selected::Whole);
}

#[test]
fn conditions_and_ranges_are_for_successes_only() {
    let mut head = with_etag("\"abc\"");
    head.status = StatusCode::NOT_FOUND;
    assert_eq!(selected(&[("if-none-match", "*")], &head), Selected::Whole);
    assert_eq!(selected(&[("range", "bytes=0-1")], &head), Selected::Whole);
}

#[test]
fn a_range_is_cut_out_of_the_whole() {
    let head = with_etag("\"abc\"");
    let range = |range| selected(&[("range", range)], &head);
    assert_eq!(range("bytes=0-1"), part(0, 1));
    assert_eq!(range("bytes=-1"), part(9, 9));
    assert_eq!(range("bytes=10-"), Selected::Unsatisfiable(10));
    assert_eq!(range("bytes=0-1,5-6"), Selected::Whole);
    let both: Lines<'_> = &[("range", "bytes=0-1"), ("if-none-match", "\"abc\"")];
    assert_eq!(selected(both, &head), Selected::NotModified);
}

#[test]
fn a_range_of_what_is_not_whole_yet_is_ignored() {
    let request = headers(&[("range", "bytes=0-1")]);
    let head = with_etag("\"abc\"");
    let asked = get(&[("range", "bytes=0-1")]);
    assert_eq!(select(&asked, &request, &head, None, NOW), Selected::Whole);
}

#[test]
fn a_head_has_no_ranges() {
    let request = headers(&[("range", "bytes=0-1")]);
    let asked = asked_by("HEAD", &[("range", "bytes=0-1")], &Options::default());
    let selected = select(&asked, &request, &with_etag("\"abc\""), Some(10), NOW);
    assert_eq!(selected, Selected::Whole);
}

#[test]
fn if_range_needs_the_very_same_bytes() {
    let (modified, later) = (date(-3000), date(-2999));
    let ranged = |condition: &str, head: &StoredHead| {
        selected(&[("range", "bytes=0-1"), ("if-range", condition)], head)
    };
    let strong = with_etag("\"abc\"");
    assert_eq!(ranged("\"abc\"", &strong), part(0, 1));
    assert_eq!(ranged("\"x\"", &strong), Selected::Whole);
    assert_eq!(ranged(&modified, &strong), part(0, 1));
    assert_eq!(ranged(&later, &strong), Selected::Whole);
    let weak = with_etag("W/\"abc\"");
    assert_eq!(ranged("W/\"abc\"", &weak), Selected::Whole);
    // A date of the same second as the answer tells nothing apart.
    let now = date(0);
    let young = stored(&[
        ("cache-control", "max-age=60"),
        ("date", &now),
        ("last-modified", &now),
    ]);
    assert_eq!(ranged(&now, &young), Selected::Whole);
}

#[test]
fn the_heads_say_what_they_send() {
    let head = stored(&[
        ("cache-control", "max-age=60"),
        ("etag", "\"abc\""),
        ("vary", "foo"),
        ("content-type", "text/plain"),
        ("content-length", "10"),
        ("x-own", "1"),
    ]);
    let short = not_modified(&head.headers);
    let mut names: Vec<_> = short.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "date", "etag", "vary", "x-own"]);
    let mut whole = head.headers.clone();
    let (first, last) = (2, 4);
    partial(
        &mut whole,
        ByteRange {
            first,
            last,
            whole: 10,
        },
    );
    assert_eq!(whole["content-range"], "bytes 2-4/10");
    assert_eq!(whole["content-length"], "3");
    assert_eq!(unsatisfiable(10)["content-range"], "bytes */10");
}
