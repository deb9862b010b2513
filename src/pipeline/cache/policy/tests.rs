//! The rules of the cache, each by its name.

mod judging;
mod merging;
mod properties;
mod reusing;
mod selecting;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::*;

/// In July 2026, on a whole second.
pub(super) const NOW: Moment = Moment::from_millis(1_783_000_000_000);
pub(super) const URL: Url<'_> = Url {
    scheme: "http",
    authority: "a.test",
    target: "/x?y",
};

pub(super) type Lines<'a> = &'a [(&'a str, &'a str)];

pub(super) fn headers(lines: Lines<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn after(millis: u64) -> Moment {
    NOW.plus(Duration::from_millis(millis))
}

/// The date so many seconds from now.
pub(super) fn date(from_now: i64) -> String {
    let second = u64::try_from(NOW.seconds() + from_now).unwrap();
    let text = format_http_date(Moment::from_millis(second * 1000));
    text.to_str().unwrap().to_owned()
}

pub(super) fn asked_by(method: &str, lines: Lines<'_>, options: &Options) -> Asked {
    let incoming = Incoming {
        method: &Method::from_bytes(method.as_bytes()).unwrap(),
        headers: &headers(lines),
        has_body: false,
        upgrade: false,
        principal: false,
        odd_names: false,
    };
    Asked::read(&incoming, options)
}

pub(super) fn get(lines: Lines<'_>) -> Asked {
    asked_by("GET", lines, &Options::default())
}

/// A request whose wishes count.
pub(super) fn wishing(cache_control: &str) -> Asked {
    let options = Options {
        request_directives: true,
        ..Options::default()
    };
    asked_by("GET", &[("cache-control", cache_control)], &options)
}

pub(super) fn judged(
    asked: &Asked,
    status: u16,
    lines: Lines<'_>,
    options: &Options,
) -> Result<Verdict, NotStored> {
    let answer = Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: &headers(lines),
        requested: NOW,
        received: NOW,
    };
    judge(asked, &URL, &answer, options)
}

/// A plain GET's 200.
pub(super) fn plain(lines: Lines<'_>) -> Result<Verdict, NotStored> {
    judged(&get(&[]), 200, lines, &Options::default())
}

pub(super) fn refusal(verdict: Result<Verdict, NotStored>) -> Option<NotStored> {
    verdict.err()
}

pub(super) fn stored(lines: Lines<'_>) -> StoredHead {
    stored_with(lines, &Options::default())
}

pub(super) fn stored_with(lines: Lines<'_>, options: &Options) -> StoredHead {
    let verdict = judged(&get(&[]), 200, lines, options).unwrap();
    verdict.store(StatusCode::OK, headers(lines))
}
