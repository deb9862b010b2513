//! What is stored, for whom and for how long.

use super::*;

fn lifetime(lines: Lines<'_>) -> u64 {
    plain(lines).unwrap().facts.lifetime.as_secs()
}

fn options(change: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options::default();
    change(&mut options);
    options
}

#[test]
fn any_final_status_with_explicit_freshness_is_stored() {
    let fresh: Lines<'_> = &[("cache-control", "max-age=60")];
    for status in [
        200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 403, 404, 410, 414, 499, 500, 502, 503,
        504, 599,
    ] {
        let verdict = judged(&get(&[]), status, fresh, &Options::default());
        assert!(verdict.is_ok(), "{status}");
    }
    for (status, expected) in [
        (101, NotStored::Status),
        (206, NotStored::Partial),
        (304, NotStored::Status),
        (412, NotStored::Status),
        (413, NotStored::Status),
        (416, NotStored::Status),
        (417, NotStored::Status),
        (421, NotStored::Status),
        (425, NotStored::Status),
        (428, NotStored::Status),
        (429, NotStored::Status),
        (431, NotStored::Status),
        (511, NotStored::Status),
        (999, NotStored::Status),
    ] {
        let verdict = judged(&get(&[]), status, fresh, &Options::default());
        assert_eq!(refusal(verdict), Some(expected), "{status}");
    }
}

#[test]
fn an_answer_that_forbids_it_is_not_stored() {
    for (line, expected) in [
        ("no-store, max-age=60", NotStored::NoStore),
        ("max-age=60, PRIVATE", NotStored::Private),
        ("must-understand, no-store, private", NotStored::Private),
        ("public", NotStored::NoFreshness),
        ("nothing-known", NotStored::NoFreshness),
        ("max-age=0", NotStored::Expired),
        ("max-age='60'", NotStored::Expired),
        ("no-cache", NotStored::NoValidator),
        ("no-cache, max-age=60", NotStored::NoValidator),
    ] {
        let verdict = plain(&[("cache-control", line)]);
        assert_eq!(refusal(verdict), Some(expected), "{line}");
    }
    assert_eq!(refusal(plain(&[])), Some(NotStored::NoFreshness));
    assert_eq!(
        refusal(plain(&[("etag", "\"a\"")])),
        Some(NotStored::NoFreshness)
    );
}

#[test]
fn what_came_stale_is_stored_only_to_be_validated_or_served_stale() {
    let windows = "max-age=0, stale-while-revalidate=5";
    assert!(plain(&[("cache-control", windows)]).is_ok());
    assert!(plain(&[("cache-control", "max-age=0"), ("etag", "\"a\"")]).is_ok());
    let old: Lines<'_> = &[("cache-control", "max-age=60"), ("age", "60")];
    assert_eq!(refusal(plain(old)), Some(NotStored::Expired));
}

#[test]
fn must_understand_beats_no_store_for_a_known_status_only() {
    let lines: Lines<'_> = &[("cache-control", "max-age=60, no-store, must-understand")];
    assert!(plain(lines).is_ok());
    let unknown = judged(&get(&[]), 599, lines, &Options::default());
    assert_eq!(refusal(unknown), Some(NotStored::NotUnderstood));
}

#[test]
fn lifetimes_take_precedence_as_the_rfc_orders_them() {
    let (date, past, ahead) = (date(0), date(-10), date(600));
    let lines = |cdn, cc, expires| {
        let all = [
            ("date", date.as_str()),
            ("cdn-cache-control", cdn),
            ("cache-control", cc),
            ("expires", expires),
        ];
        let given: Vec<_> = all.into_iter().filter(|(_, value)| *value != "-").collect();
        lifetime(&given)
    };
    assert_eq!(lines("max-age=1", "s-maxage=2, max-age=3", &ahead), 1);
    assert_eq!(lines("&", "s-maxage=2, max-age=3", &ahead), 2);
    assert_eq!(lines("-", "max-age=3", &past), 3);
    assert_eq!(lines("-", "-", &ahead), 600);
}

#[test]
fn a_targeted_field_replaces_cache_control_and_expires_wholly() {
    let ahead = date(600);
    let beats: Lines<'_> = &[
        ("cdn-cache-control", "max-age=9"),
        ("cache-control", "no-store"),
    ];
    assert_eq!(lifetime(beats), 9);
    for (cdn, expected) in [
        ("foo", NotStored::NoFreshness),
        ("no-store, max-age=9", NotStored::NoStore),
        ("private", NotStored::Private),
        ("max-age=0", NotStored::Expired),
    ] {
        let lines: Lines<'_> = &[
            ("cdn-cache-control", cdn),
            ("cache-control", "max-age=60"),
            ("expires", &ahead),
        ];
        assert_eq!(refusal(plain(lines)), Some(expected), "{cdn}");
    }
}

#[test]
fn expires_counts_from_the_origins_date_and_not_from_our_clock() {
    let (fast, ahead, slow, between) = (date(3600), date(3660), date(-3600), date(-60));
    let lines: Lines<'_> = &[("date", &fast), ("expires", &ahead)];
    assert_eq!(lifetime(lines), 60);
    // An hour old by its date, it lives for 59 minutes.
    let lines: Lines<'_> = &[("date", &slow), ("expires", &between)];
    assert_eq!(refusal(plain(lines)), Some(NotStored::Expired));
    for wrong in ["0", "-1", "soon", "Thu, 18 Aug 2050 02:01:18 AEST"] {
        let lines: Lines<'_> = &[("expires", wrong)];
        assert_eq!(refusal(plain(lines)), Some(NotStored::Expired), "{wrong}");
    }
}

#[test]
fn a_wrong_date_counts_as_the_time_of_arrival() {
    let ahead = date(60);
    let lines: Lines<'_> = &[("date", "foo"), ("expires", &ahead)];
    let head = stored(lines);
    assert_eq!(head.facts.lifetime, seconds(60));
    assert_eq!(head.headers["date"], "foo");
    let head = stored(&[("cache-control", "max-age=60")]);
    assert_eq!(head.headers["date"], date(0).as_str());
}

#[test]
fn an_answer_is_as_old_as_its_age_its_date_and_its_journey_say() {
    let (past, ahead) = (date(-20), date(30));
    let age = |lines: Lines<'_>, delay: u64| {
        let headers = headers(lines);
        let answer = Answer {
            status: StatusCode::OK,
            headers: &headers,
            requested: NOW,
            received: after(delay),
        };
        let verdict = judge(&get(&[]), &URL, &answer, &Options::default());
        verdict.unwrap().facts.initial_age.as_millis()
    };
    let fresh = ("cache-control", "max-age=999999999");
    assert_eq!(age(&[fresh], 0), 0);
    assert_eq!(age(&[fresh], 1500), 1500);
    assert_eq!(age(&[fresh, ("age", "30")], 500), 30_500);
    assert_eq!(age(&[fresh, ("date", &past)], 0), 20_000);
    assert_eq!(age(&[fresh, ("date", &past), ("age", "30")], 0), 30_000);
    assert_eq!(age(&[fresh, ("date", &ahead)], 0), 0);
}

#[test]
fn each_validates_what_comes_stale_however_fast_it_comes() {
    let past = date(-20);
    let (age, behind) = (("age", "20"), ("date", past.as_str()));
    let each = |control: &str, lines: Lines<'_>, delay: u64| {
        let lines = [lines, &[("cache-control", control), ("etag", "\"a\"")]].concat();
        let headers = headers(&lines);
        let answer = Answer {
            status: StatusCode::OK,
            headers: &headers,
            requested: NOW,
            received: after(delay),
        };
        let verdict = judge(&get(&[]), &URL, &answer, &Options::default());
        verdict.unwrap().each_validates
    };
    for lines in [&[age][..], &[behind], &[age, behind]] {
        assert!(each("max-age=5", lines, 0) && each("max-age=5", lines, 2_000));
        assert!(!each("max-age=60", lines, 0));
        assert!(!each("max-age=5, stale-while-revalidate=60", lines, 0));
    }
    // The next one may be faster.
    assert!(!each("max-age=5", &[], 9_000));
    assert!(each("max-age=0", &[], 0) && each("no-cache, max-age=60", &[], 0));
    assert!(!each("max-age=0, stale-while-revalidate=5", &[], 0));
}

#[test]
fn the_first_valid_age_counts_and_an_invalid_one_does_not() {
    for (age, expected) in [
        ("7200", 7200),
        ("7200, 0", 7200),
        ("0, 7200", 0),
        ("abc", 0),
        ("-7200", 0),
        ("7200.0", 0),
        ("7200;foo=bar", 0),
        ("99999999999999999999", 1 << 31),
    ] {
        let lines: Lines<'_> = &[("cache-control", "max-age=9999999999"), ("age", age)];
        let options = options(|options| options.stale_if_error = seconds(1));
        let lines = [lines, &[("etag", "\"a\"")]].concat();
        let verdict = judged(&get(&[]), 200, &lines, &options).unwrap();
        assert_eq!(verdict.facts.initial_age, seconds(expected), "{age}");
    }
}

#[test]
fn known_callers_answers_are_stored_as_the_origin_allows() {
    let authorized = get(&[("authorization", "x")]);
    let principal = Asked {
        principal: true,
        ..get(&[])
    };
    for asked in [authorized, principal] {
        let verdict = |line| judged(&asked, 200, &[("cache-control", line)], &Options::default());
        assert_eq!(
            refusal(verdict("max-age=60")),
            Some(NotStored::Authorization)
        );
        for line in [
            "max-age=60, public",
            "max-age=60, must-revalidate",
            "s-maxage=60",
        ] {
            assert_eq!(
                verdict(line).unwrap().audience,
                Audience::Everyone,
                "{line}"
            );
        }
    }
}

#[test]
fn scope_principal_stores_for_the_caller_what_others_may_not_have() {
    let options = options(|options| options.scope = Scope::Principal);
    let principal = Asked {
        principal: true,
        ..get(&[("authorization", "x")])
    };
    let audience = |asked: &Asked, line| {
        let verdict = judged(asked, 200, &[("cache-control", line)], &options);
        verdict.map(|verdict| verdict.audience)
    };
    assert_eq!(audience(&principal, "max-age=60"), Ok(Audience::Caller));
    assert_eq!(audience(&get(&[]), "max-age=60"), Ok(Audience::Caller));
    assert_eq!(audience(&principal, "s-maxage=60"), Ok(Audience::Everyone));
    // Whom only the upstream knows we can't tell from others.
    assert_eq!(
        audience(&get(&[("authorization", "x")]), "max-age=60"),
        Err(NotStored::Authorization)
    );
}

#[test]
fn an_answer_that_varies_by_identity_is_for_that_caller_only() {
    let mut options = options(|options| {
        options.identity_fields = [HeaderName::from_static("x-user-id")].into();
    });
    let lines: Lines<'_> = &[("cache-control", "s-maxage=60"), ("vary", "X-User-Id")];
    let principal = Asked {
        principal: true,
        ..get(&[])
    };
    let verdict = judged(&principal, 200, lines, &options);
    assert_eq!(refusal(verdict), Some(NotStored::Vary(Unkeyed::Identity)));
    options.scope = Scope::Principal;
    let verdict = judged(&principal, 200, lines, &options).unwrap();
    assert_eq!(verdict.audience, Audience::Caller);
}

#[test]
fn answers_that_set_cookies_are_stored_by_the_switch_only() {
    let lines: Lines<'_> = &[("cache-control", "max-age=60"), ("set-cookie", "a=b")];
    assert_eq!(refusal(plain(lines)), Some(NotStored::SetCookie));
    let switched = options(|options| options.store_set_cookie = true);
    let head = stored_with(lines, &switched);
    assert_eq!(head.headers["set-cookie"], "a=b");
    // Without the cookie the rest may be stored.
    let lines: Lines<'_> = &[
        ("cache-control", "max-age=60, no-cache=\"Set-Cookie\""),
        ("set-cookie", "a=b"),
    ];
    assert!(!stored(lines).headers.contains_key("set-cookie"));
}

#[test]
fn what_varies_by_everything_is_not_stored() {
    let lines: Lines<'_> = &[("cache-control", "max-age=60"), ("vary", "Foo, *")];
    let expected = NotStored::Vary(Unkeyed::Everything);
    assert_eq!(refusal(plain(lines)), Some(expected));
}

#[test]
fn default_ttl_is_for_answers_that_say_nothing_to_requests_without_cookies() {
    let options = options(|options| options.default_ttl = Some(seconds(10)));
    let ttl = |asked: &Asked, status, lines: Lines<'_>| {
        let verdict = judged(asked, status, lines, &options)?;
        Ok(verdict.facts.lifetime.as_secs())
    };
    assert_eq!(ttl(&get(&[]), 200, &[]), Ok(10));
    assert_eq!(ttl(&get(&[]), 404, &[]), Ok(10));
    let stated: Lines<'_> = &[("cache-control", "max-age=5")];
    assert_eq!(ttl(&get(&[]), 200, stated), Ok(5));
    let cookie = get(&[("cookie", "a=b")]);
    assert_eq!(ttl(&cookie, 200, &[]), Err(NotStored::Cookie));
    assert_eq!(ttl(&cookie, 200, stated), Ok(5));
    for status in [201, 302, 403, 500, 503] {
        let verdict = ttl(&get(&[]), status, &[]);
        assert_eq!(verdict, Err(NotStored::NoFreshness), "{status}");
    }
}

#[test]
fn override_ttl_beats_max_age_and_no_prohibition() {
    let options = options(|options| {
        options.override_ttl = Some(seconds(100));
        options.store_set_cookie = true;
    });
    let ttl = |status, lines: Lines<'_>| {
        let verdict = judged(&get(&[]), status, lines, &options)?;
        Ok(verdict.facts.lifetime.as_secs())
    };
    let line = |line| ttl(200, &[("cache-control", line)]);
    assert_eq!(line("max-age=5"), Ok(100));
    assert_eq!(line("max-age=500"), Ok(100));
    assert_eq!(line("no-store"), Err(NotStored::NoStore));
    assert_eq!(line("private, max-age=5"), Err(NotStored::Private));
    assert_eq!(line("no-cache"), Err(NotStored::NoValidator));
    let cookie: Lines<'_> = &[("cache-control", "max-age=5"), ("set-cookie", "a=b")];
    assert_eq!(ttl(200, cookie), Ok(5));
    assert_eq!(ttl(500, &[("cache-control", "max-age=5")]), Ok(5));
}

#[test]
fn heuristics_are_a_tenth_of_the_age_of_what_did_not_change() {
    let options = options(|options| options.heuristics = true);
    let (day, now) = (date(-86_400), date(0));
    let ttl = |status, line: &str| {
        let lines: Lines<'_> = &[
            ("last-modified", &day),
            ("date", &now),
            ("cache-control", line),
        ];
        let verdict = judged(&get(&[]), status, lines, &options)?;
        Ok(verdict.facts.lifetime.as_secs())
    };
    let cookie = get(&[("cookie", "a=b")]);
    let lines: Lines<'_> = &[("last-modified", &day), ("date", &now)];
    let guessed = judged(&cookie, 200, lines, &options);
    assert_eq!(refusal(guessed), Some(NotStored::Cookie));
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert_eq!(ttl(status, ""), Ok(8640), "{status}");
    }
    for status in [201, 202, 302, 403, 502, 503, 504, 599] {
        assert_eq!(ttl(status, ""), Err(NotStored::NoFreshness), "{status}");
        assert_eq!(ttl(status, "public"), Ok(8640), "{status}");
    }
    // Never when a lifetime is stated.
    assert_eq!(ttl(200, "max-age=5"), Ok(5));
    let lines: Lines<'_> = &[("last-modified", &day)];
    assert_eq!(refusal(plain(lines)), Some(NotStored::NoFreshness));
}

#[test]
fn only_get_is_stored_and_a_post_that_says_it_is_one() {
    let judged_by = |method, lines: Lines<'_>| {
        let options = Options::default();
        refusal(judged(
            &asked_by(method, &[], &options),
            200,
            lines,
            &options,
        ))
    };
    let own: Lines<'_> = &[
        ("cache-control", "max-age=60"),
        ("content-location", "/x?y"),
    ];
    assert_eq!(judged_by("POST", own), None);
    assert_eq!(
        judged_by(
            "POST",
            &[("cache-control", "max-age=60"), ("content-location", "")]
        ),
        None
    );
    for lines in [
        &own[..1],
        &own[1..],
        &[own[0], ("content-location", "/other")],
        &[own[0], ("content-location", "http://b.test/x?y")],
    ] {
        assert_eq!(
            judged_by("POST", lines),
            Some(NotStored::Method),
            "{lines:?}"
        );
    }
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS", "QUERY", "M-SEARCH"] {
        assert_eq!(judged_by(method, own), Some(NotStored::Method), "{method}");
    }
}

#[test]
fn fields_of_one_hop_and_withheld_ones_are_not_stored() {
    let head = stored(&[
        (
            "cache-control",
            "max-age=60, no-cache=\"x-one\", private=x-two",
        ),
        ("connection", "x-hop"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("x-one", "1"),
        ("x-two", "1"),
        ("x-kept", "1"),
        ("content-range", "nonsense"),
        ("age", "3"),
        ("trailer", "x-two, x-sum"),
    ]);
    let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "cache-control",
            "content-range",
            "date",
            "trailer",
            "x-kept"
        ]
    );
    assert_eq!(head.headers["trailer"], "x-sum");
}

#[test]
fn a_client_may_forbid_storing_where_it_is_heard() {
    let fresh: Lines<'_> = &[("cache-control", "max-age=60")];
    let verdict = judged(&wishing("no-store"), 200, fresh, &Options::default());
    assert_eq!(refusal(verdict), Some(NotStored::RequestNoStore));
    let unheard = get(&[("cache-control", "no-store")]);
    assert!(judged(&unheard, 200, fresh, &Options::default()).is_ok());
}

#[test]
fn requests_are_classed_by_method_and_what_they_carry() {
    let class = |method, lines: Lines<'_>| asked_by(method, lines, &Options::default()).class;
    assert_eq!(class("GET", &[]), Class::Get);
    assert_eq!(class("HEAD", &[]), Class::Head);
    for method in ["POST", "PUT", "PATCH", "DELETE", "M-SEARCH", "FOO", "get"] {
        assert_eq!(class(method, &[]), Class::Unsafe, "{method}");
    }
    for method in ["OPTIONS", "TRACE", "QUERY", "PROPFIND"] {
        assert_eq!(
            class(method, &[]),
            Class::Bypass(Bypass::Method),
            "{method}"
        );
    }
    for name in ["if-match", "if-unmodified-since"] {
        let expected = Class::Bypass(Bypass::Precondition);
        assert_eq!(class("GET", &[(name, "x")]), expected, "{name}");
    }
    let fat = Incoming {
        method: &Method::GET,
        headers: &HeaderMap::new(),
        has_body: true,
        upgrade: false,
        principal: false,
        odd_names: false,
    };
    let asked = Asked::read(&fat, &Options::default());
    assert_eq!(asked.class, Class::Bypass(Bypass::Body));
    assert!(!asked.looks_up());
}

#[test]
fn an_unsafe_request_is_one_whether_or_not_it_would_switch_protocols() {
    for (method, class) in [
        (Method::GET, Class::Bypass(Bypass::Upgrade)),
        (Method::HEAD, Class::Bypass(Bypass::Upgrade)),
        (Method::POST, Class::Unsafe),
        (Method::DELETE, Class::Unsafe),
    ] {
        let incoming = Incoming {
            method: &method,
            headers: &HeaderMap::new(),
            has_body: false,
            upgrade: true,
            principal: false,
            odd_names: false,
        };
        let asked = Asked::read(&incoming, &Options::default());
        assert_eq!((asked.class, asked.post), (class, false), "{method}");
    }
}

#[test]
fn what_a_server_may_read_as_another_field_is_neither_looked_up_nor_stored() {
    for (method, class) in [
        (Method::GET, Class::Bypass(Bypass::OddNames)),
        (Method::HEAD, Class::Bypass(Bypass::OddNames)),
        (Method::POST, Class::Unsafe),
    ] {
        let incoming = Incoming {
            method: &method,
            headers: &HeaderMap::new(),
            has_body: false,
            upgrade: false,
            principal: false,
            odd_names: true,
        };
        let asked = Asked::read(&incoming, &Options::default());
        assert_eq!((asked.class, asked.post), (class, false), "{method}");
    }
}

#[test]
fn only_a_get_for_the_whole_leads_a_fill_whatever_its_client_has() {
    let leading: [Lines<'_>; 3] = [
        &[],
        &[("if-none-match", "\"a\"")],
        &[("if-modified-since", "x")],
    ];
    for lines in leading {
        assert!(get(lines).may_lead(), "{lines:?}");
    }
    // What those ask for is a 412, which is the origin's to send.
    for lines in [
        &[("range", "bytes=0-1")],
        &[("if-match", "\"a\"")],
        &[("if-unmodified-since", "x")],
    ] {
        assert!(!get(lines).may_lead(), "{lines:?}");
    }
    let head = asked_by("HEAD", &[], &Options::default());
    assert!(!head.may_lead());
    assert!(!wishing("no-store").may_lead());
    let range = get(&[("range", "bytes=0-1")]);
    assert!(head.may_follow() && range.may_follow() && !get(&[]).may_follow());
}
