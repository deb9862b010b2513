//! The cache's policy on header fields of any names and values: no panic, and no answer that forbids
//! it is stored.

#![no_main]

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use tollgate::pipeline::cache::policy::{
    Answer, Asked, Failure, Incoming, Merged, Moment, Options, RangeSet, Reuse, Scope, Selected,
    Url, invalidated, judge, make_conditional, merge, parse_http_date, reuse, select,
    stale_instead,
};

const NOW: Moment = Moment::from_millis(1_783_000_000_000);
const URL: Url<'_> = Url {
    scheme: "http",
    authority: "a.test",
    target: "/a/b?c",
};

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_http_date(bytes, NOW);
    // The request, an empty line, the answer.
    let split = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (request, answer) = bytes.split_at(split.unwrap_or(bytes.len()));
    let (mut request, answer) = (parse(request), parse(answer));
    for path in invalidated(&URL, StatusCode::CREATED, &answer) {
        assert!(path.starts_with('/'), "{path}");
    }
    for options in options() {
        exchange(&mut request, &answer, &options);
    }
});

fn options() -> [Options; 2] {
    let willing = Options {
        scope: Scope::Principal,
        default_ttl: Some(Duration::from_secs(10)),
        heuristics: true,
        store_set_cookie: true,
        request_directives: true,
        ..Options::default()
    };
    [Options::default(), willing]
}

fn exchange(request: &mut HeaderMap, headers: &HeaderMap, options: &Options) {
    let incoming = Incoming {
        method: &Method::GET,
        headers: request,
        has_body: false,
        upgrade: false,
        odd_names: false,
        principal: false,
    };
    let asked = Asked::read(&incoming, options);
    let mut answer = Answer {
        status: StatusCode::OK,
        headers,
        requested: NOW,
        received: NOW,
    };
    let Ok(verdict) = judge(&asked, &URL, &answer, options) else {
        return;
    };
    let key = verdict.nominated.key(request);
    assert!(key.as_bytes().len() <= 16 * 130);
    let head = verdict.store(StatusCode::OK, headers.clone());
    let useless = head.facts.useful_until().plus(Duration::from_millis(1));
    let unwished = Asked {
        wants: Default::default(),
        ..asked
    };
    assert_eq!(reuse(&unwished, &head.facts, useless), Reuse::Validate);
    assert!(!stale_instead(&unwished, &head.facts, useless, Failure::Unreachable));
    if let Selected::Part(range) = select(&asked, request, &head, Some(10), NOW) {
        assert!(range.first <= range.last && range.last < 10);
    }
    let _ = RangeSet::of(request, u64::MAX);
    make_conditional(request, &head);
    answer.status = StatusCode::NOT_MODIFIED;
    if let Some(Merged { headers, .. }) = merge(&head, &asked, &URL, &answer, options) {
        assert_eq!(
            headers.get("content-length"),
            head.headers.get("content-length")
        );
    }
}

/// Lines of `name:value`; lines that are no header field are left out.
fn parse(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
