//! Whether an answer may be stored, for whom and for how long (RFC 9111 3).

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{AGE, CONTENT_LOCATION, DATE, ETAG, LAST_MODIFIED, SET_COOKIE},
};
use smallvec::SmallVec;

use super::{
    Asked, Audience, Class, Facts, Moment, Nominated, Options, Scope, StoredHead, Unkeyed, Url,
    date::format_http_date,
    directives::ResponseDirectives,
    freshness::{Basis, Lifetime, date_field, date_of, initial_age, told_age},
    invalidate::resolve,
    reuse::each_validates,
    targeted::Said,
};
use crate::exchange::fields;

/// An answer's head, and when it was asked for and came.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: StatusCode,
    /// The header fields as they came.
    pub headers: &'a HeaderMap,
    /// When the request was sent.
    pub requested: Moment,
    /// When the head came.
    pub received: Moment,
}

/// Why an answer is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// It answers a method whose answers are not stored.
    Method,
    /// It is a part, and parts are not put together.
    Partial,
    /// It is not final, or speaks of its own request alone.
    Status,
    /// It must be understood and its status is not (RFC 9111 5.2.2.3).
    NotUnderstood,
    /// The client does not want it stored (RFC 9111 5.2.1.5).
    RequestNoStore,
    /// `no-store`.
    NoStore,
    /// `private`.
    Private,
    /// It was given to a known caller, and nothing allows others to have it (RFC 9111 3.5).
    Authorization,
    /// It sets cookies.
    SetCookie,
    /// It varies by everything, or by what no key can hold.
    Vary(Unkeyed),
    /// Only `default_ttl` or a guess makes it fresh, which is not for requests with cookies.
    Cookie,
    /// Nothing makes it fresh.
    NoFreshness,
    /// It came stale, and nothing can make it useful again.
    Expired,
    /// It must always be validated, and there is nothing to validate it by.
    NoValidator,
}

impl NotStored {
    /// One word for `Cache-Status` and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Partial => "partial",
            Self::Status => "status",
            Self::NotUnderstood => "not-understood",
            Self::RequestNoStore => "request-no-store",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::Vary(unkeyed) => unkeyed.as_str(),
            Self::Cookie => "cookie",
            Self::NoFreshness => "no-freshness",
            Self::Expired => "expired",
            Self::NoValidator => "no-validator",
        }
    }
}

/// That an answer may be stored, and how.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// For whom.
    pub audience: Audience,
    /// By which request fields it varies.
    pub nominated: Nominated,
    /// What decides on its reuse.
    pub facts: Facts,
    /// Whether each request has to validate it, and so those that follow it, as the upstream tells: how slow
    /// that was says nothing of the next one.
    pub each_validates: bool,
    /// The fields that are not stored, beside those of one hop.
    withheld: SmallVec<[HeaderName; 2]>,
}

impl Verdict {
    /// The fields that only who asked gets, as trailers too.
    #[must_use]
    pub fn withheld(&self) -> &[HeaderName] {
        &self.withheld
    }

    /// Makes the stored head of an answer's own (RFC 9111 3.1).
    ///
    /// Whoever else reads the same fetch gets this head too: an answer may name fields that are
    /// for its first reader only.
    #[must_use]
    pub fn store(self, status: StatusCode, mut headers: HeaderMap) -> StoredHead {
        fields::remove_hop_by_hop(&mut headers, true);
        // Ours to tell from now on; `Facts::initial_age` has taken it in.
        headers.remove(AGE);
        // For the next hop alone (RFC 9111 3.1).
        headers.remove(PROXY_AUTHENTICATION_INFO);
        fields::withhold(&mut headers, &self.withheld);
        // A recipient adds what is missing (RFC 9110 6.6.1).
        if !headers.contains_key(DATE) {
            headers.insert(DATE, format_http_date(self.facts.received));
        }
        StoredHead {
            status,
            headers,
            facts: self.facts,
        }
    }
}

/// Decides whether the answer to a request may be stored.
///
/// `url` is the one that was asked for: the answer of a POST is stored only when it says that it is
/// what a GET of that URL would get (RFC 9110 9.3.3).
///
/// # Errors
///
/// Why it may not.
pub fn judge(
    asked: &Asked,
    url: &Url<'_>,
    answer: &Answer<'_>,
    options: &Options,
) -> Result<Verdict, NotStored> {
    final_and_whole(answer.status)?;
    // RFC 9111 5.2.1.5, where clients are obeyed.
    if asked.wants.no_store {
        return Err(NotStored::RequestNoStore);
    }
    let said = Said::by(answer.headers, &options.targeted);
    method(asked, url, answer.headers, &said)?;
    permitted(answer.status, &said.directives)?;
    let set_cookie = sets_cookie(answer.headers, &said.directives);
    // RFC 9111 7.3 would let us keep it, but then everybody gets the cookie that was set for one.
    if set_cookie && !options.store_set_cookie {
        return Err(NotStored::SetCookie);
    }
    let nominated = Nominated::by(answer.headers, options).map_err(NotStored::Vary)?;
    let audience = match nominated.by_identity {
        true => own(asked, options).ok_or(NotStored::Vary(Unkeyed::Identity))?,
        false => audience(asked, &said.directives, options)?,
    };
    let basis = Basis {
        status: answer.status,
        headers: answer.headers,
        said: &said,
        received: answer.received,
        options,
        set_cookie,
        cookie: asked.cookie,
    };
    let facts = facts(&basis, answer)?;
    let came = told_age(answer.headers, answer.requested, answer.received);
    Ok(Verdict {
        each_validates: each_validates(&facts, came),
        audience,
        nominated,
        facts,
        withheld: said.directives.withheld,
    })
}

/// RFC 9111 3: a final status; of the answers that speak of their own request, none.
fn final_and_whole(status: StatusCode) -> Result<(), NotStored> {
    match status.as_u16() {
        206 => Err(NotStored::Partial),
        // Above 599 is no status of HTTP (RFC 9110 15).
        100..=199 | 304 | 600.. => Err(NotStored::Status),
        _ if is_of_one_request(status) => Err(NotStored::Status),
        _ => Ok(()),
    }
}

/// Whether an answer speaks of its own request or client, and of nothing that others get under the URL: of
/// conditions, ranges, sizes and expectations, of how often it asks, of its connection or network. Whatever
/// lifetime such an answer has, one client could have it kept for all. RFC 6585 forbids it of 428, 429, 431
/// and 511. (414 is not among them: it speaks of the URL.)
fn is_of_one_request(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        412 | 413 | 416 | 417 | 421 | 425 | 428 | 429 | 431 | 511
    )
}

/// Whether an answer that is not kept says nothing of what others get under the URL: it speaks of its own
/// request, or finds fault with that, with what it accepts or with its content. Answers of the latter kind are
/// kept where the upstream says so.
#[must_use]
pub fn says_nothing_of_others(status: StatusCode) -> bool {
    is_of_one_request(status) || matches!(status.as_u16(), 400 | 406 | 415 | 422)
}

/// RFC 9111 3: the method is understood. Of a POST that is what RFC 9110 9.3.3 says: explicit
/// freshness, and a `Content-Location` that is the URL itself.
fn method(asked: &Asked, url: &Url<'_>, headers: &HeaderMap, said: &Said) -> Result<(), NotStored> {
    match asked.class {
        Class::Get => return Ok(()),
        Class::Unsafe if asked.post => {}
        _ => return Err(NotStored::Method),
    }
    let location = headers.get(CONTENT_LOCATION);
    let located = location.and_then(|location| resolve(url, location.as_bytes()));
    let explicit = said.directives.max_age.is_some()
        || said.directives.s_maxage.is_some()
        || !said.targeted && headers.contains_key(http::header::EXPIRES);
    match located {
        Some(target) if explicit && target == url.target => Ok(()),
        _ => Err(NotStored::Method),
    }
}

/// RFC 9111 5.2.2.5, 5.2.2.7 and 5.2.2.3: who understands the status may forget about `no-store`.
fn permitted(status: StatusCode, directives: &ResponseDirectives) -> Result<(), NotStored> {
    if directives.must_understand && !is_understood(status) {
        return Err(NotStored::NotUnderstood);
    }
    if directives.no_store && !directives.must_understand {
        return Err(NotStored::NoStore);
    }
    match directives.private {
        true => Err(NotStored::Private),
        false => Ok(()),
    }
}

fn sets_cookie(headers: &HeaderMap, directives: &ResponseDirectives) -> bool {
    [SET_COOKIE, SET_COOKIE2]
        .iter()
        .any(|name| headers.contains_key(name) && !directives.withheld.contains(name))
}

/// RFC 9111 3.5. Whoever authentication knows counts like `Authorization`, by whatever field the
/// credential came. Under `Scope::Principal` callers whom only the upstream knows have no store of
/// their own.
fn audience(
    asked: &Asked,
    directives: &ResponseDirectives,
    options: &Options,
) -> Result<Audience, NotStored> {
    if directives.shareable() {
        return Ok(Audience::Everyone);
    }
    match options.scope {
        Scope::Shared if !asked.is_known_caller() => Ok(Audience::Everyone),
        _ => own(asked, options).ok_or(NotStored::Authorization),
    }
}

/// The caller alone, where callers have a store of their own. Beside a principal an `Authorization` that
/// is none of its credentials is a part of who the caller is (RFC 9111 3.5): authentication sees to that.
fn own(asked: &Asked, options: &Options) -> Option<Audience> {
    let told_apart = asked.principal || !asked.authorization;
    (options.scope == Scope::Principal && told_apart).then_some(Audience::Caller)
}

fn facts(basis: &Basis<'_>, answer: &Answer<'_>) -> Result<Facts, NotStored> {
    let directives = &basis.said.directives;
    let lifetime = lifetime(basis)?;
    let never_stale = directives.forbids_stale();
    let window = |span: Duration| if never_stale { Duration::ZERO } else { span };
    let stated = |said: Option<Duration>, ours: Duration| window(said.unwrap_or(ours));
    let options = basis.options;
    let has_validator =
        answer.headers.contains_key(ETAG) || answer.headers.contains_key(LAST_MODIFIED);
    let received = answer.received;
    let modified = date_field(answer.headers, &LAST_MODIFIED, received);
    let facts = Facts {
        received,
        initial_age: initial_age(answer.headers, answer.requested, received),
        lifetime,
        while_revalidate: stated(
            directives.stale_while_revalidate,
            options.stale_while_revalidate,
        ),
        if_error: stated(directives.stale_if_error, options.stale_if_error),
        if_unreachable: window(options.stale_if_unreachable),
        keep: if has_validator {
            options.keep
        } else {
            Duration::ZERO
        },
        always_validate: directives.no_cache,
        never_stale,
        modified: modified.unwrap_or_else(|| date_of(answer.headers, received)),
    };
    useful(&facts, has_validator).map(|()| facts)
}

/// RFC 9111 3: something must say that the answer may be stored. `no-cache` does not say for how
/// long it is fresh, but what to do with it.
fn lifetime(basis: &Basis<'_>) -> Result<Duration, NotStored> {
    match basis.lifetime() {
        Lifetime::Stated(span)
        | Lifetime::Overridden(span)
        | Lifetime::Default(span)
        | Lifetime::Heuristic(span) => Ok(span),
        Lifetime::None if basis.said.directives.no_cache => Ok(Duration::ZERO),
        Lifetime::None if basis.only_cookies_forbid() => Err(NotStored::Cookie),
        Lifetime::None => Err(NotStored::NoFreshness),
    }
}

/// What could never be served is not worth its place.
fn useful(facts: &Facts, has_validator: bool) -> Result<(), NotStored> {
    if has_validator {
        return Ok(());
    }
    if facts.always_validate {
        return Err(NotStored::NoValidator);
    }
    let windows = facts.while_revalidate.max(facts.if_error);
    match facts.is_fresh(facts.received) || facts.staleness(facts.received) < windows {
        true => Ok(()),
        false => Err(NotStored::Expired),
    }
}

/// The statuses whose caching is understood: the final ones of IANA's registry.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=208 | 226 | 300..=305 | 307 | 308 | 400..=417 | 421..=426 | 428 | 429 | 431 | 451
            | 500..=508 | 511
    )
}

const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");
/// `Set-Cookie2` (RFC 2965), as sensitive as what took its place.
const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");
