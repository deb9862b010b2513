//! Validation, and what its 304 changes.

use super::*;

fn merged(stored: &StoredHead, lines: Lines<'_>) -> Option<Merged> {
    let answer = Answer {
        status: StatusCode::NOT_MODIFIED,
        headers: &headers(lines),
        requested: after(60_000),
        received: after(60_000),
    };
    merge(stored, &get(&[]), &URL, &answer, &Options::default())
}

/// The merged fields, and the head that is stored again.
fn updated(stored: &StoredHead, lines: Lines<'_>) -> (HeaderMap, Result<StoredHead, NotStored>) {
    let Merged { headers, verdict } = merged(stored, lines).unwrap();
    let again = verdict.map(|verdict| verdict.store(stored.status, headers.clone()));
    (headers, again)
}

#[test]
fn a_request_for_validation_carries_the_stored_validators_to_the_byte() {
    let head = stored(&[
        ("cache-control", "max-age=1"),
        ("etag", "W/\"odd , tag\""),
        ("last-modified", "Some day"),
    ]);
    let mut request = headers(&[
        ("if-none-match", "\"clients\""),
        ("if-modified-since", "x"),
        ("if-range", "x"),
        ("range", "bytes=0-1"),
        ("accept-language", "en"),
    ]);
    make_conditional(&mut request, &head);
    assert_eq!(request["if-none-match"], "W/\"odd , tag\"");
    assert_eq!(request["if-modified-since"], "Some day");
    assert!(!request.contains_key("range") && !request.contains_key("if-range"));
    assert_eq!(request["accept-language"], "en");
    unconditional(&mut request);
    assert_eq!(request.len(), 1);
}

#[test]
fn a_304_replaces_the_fields_that_it_has_and_no_others() {
    let head = stored(&[
        ("cache-control", "max-age=1"),
        ("etag", "\"a\""),
        ("x-one", "1"),
        ("x-one", "2"),
        ("x-two", "2"),
    ]);
    let lines: Lines<'_> = &[
        ("cache-control", "max-age=3600"),
        ("x-one", "new"),
        ("x-new", "3"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
    ];
    let (fields, again) = updated(&head, lines);
    let again = again.unwrap();
    for headers in [&fields, &again.headers] {
        let ones: Vec<_> = headers.get_all("x-one").iter().collect();
        assert_eq!(ones, ["new"]);
        assert_eq!(
            (&headers["x-two"], &headers["x-new"]),
            (&"2".parse().unwrap(), &"3".parse().unwrap())
        );
        assert_eq!(headers["etag"], "\"a\"");
        assert!(!headers.contains_key("x-hop"));
    }
    assert_eq!(again.facts.lifetime, seconds(3600));
    assert_eq!(again.facts.age(after(60_000)), seconds(0));
}

#[test]
fn a_304_does_not_change_what_the_stored_bytes_depend_on() {
    let kept: Lines<'_> = &[
        ("content-length", "36"),
        ("content-encoding", "gzip"),
        ("content-range", "x"),
    ];
    let head = stored(&[&[("cache-control", "max-age=1"), ("etag", "\"a\"")], kept].concat());
    let (fields, _) = updated(
        &head,
        &[
            ("content-length", "10"),
            ("content-encoding", "br"),
            ("content-range", "y"),
            ("content-type", "text/new"),
        ],
    );
    for (name, value) in kept {
        assert_eq!(fields[*name], *value);
    }
    assert_eq!(fields["content-type"], "text/new");
}

#[test]
fn a_304_is_as_old_as_it_says_and_not_as_what_it_validates() {
    let head = stored(&[
        ("cache-control", "max-age=100"),
        ("etag", "\"a\""),
        ("age", "90"),
    ]);
    let (_, again) = updated(&head, &[]);
    assert_eq!(again.unwrap().facts.initial_age, seconds(0));
    let (_, again) = updated(&head, &[("age", "7")]);
    assert_eq!(again.unwrap().facts.initial_age, seconds(7));
}

#[test]
fn a_304_may_end_the_storing() {
    let head = stored(&[("cache-control", "max-age=1"), ("etag", "\"a\"")]);
    let (fields, again) = updated(&head, &[("cache-control", "no-store")]);
    assert_eq!(again.unwrap_err(), NotStored::NoStore);
    assert_eq!(fields["cache-control"], "no-store");
    let (fields, again) = updated(&head, &[("set-cookie", "a=b")]);
    assert_eq!(again.unwrap_err(), NotStored::SetCookie);
    assert_eq!(fields["set-cookie"], "a=b");
}

#[test]
fn a_304_about_another_representation_updates_nothing() {
    let head = stored(&[("cache-control", "max-age=1"), ("etag", "\"a\"")]);
    assert!(merged(&head, &[("etag", "\"b\"")]).is_none());
    for etag in ["\"a\"", "W/\"a\""] {
        assert!(merged(&head, &[("etag", etag)]).is_some());
    }
}

#[test]
fn what_304s_add_does_not_grow_for_ever() {
    let mut head = stored(&[("cache-control", "max-age=1"), ("etag", "\"a\"")]);
    for round in 0..100 {
        let names: Vec<_> = (0..90).map(|at| format!("x-{round}-{at}")).collect();
        let lines: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        if merged(&head, &lines).is_none() {
            assert!(round > 1, "twice as many as an answer has are fine");
            return;
        }
        head = updated(&head, &lines).1.unwrap();
    }
    panic!("{} fields", head.headers.len());
}
