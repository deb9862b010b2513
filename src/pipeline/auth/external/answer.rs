//! What an answer of external auth means. Pure.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response as Answer, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, LOCATION, SET_COOKIE,
        WWW_AUTHENTICATE,
    },
};

use super::super::method::Grant;
use crate::{
    config::External,
    exchange::{Body, Principal, Reason, Response, fields::list},
};

/// What became of a question.
pub(super) enum Outcome {
    /// The request may pass.
    Allowed(Arc<Grant>),
    /// It may not, and this is what the client gets.
    Denied(Reason, Box<Response>),
    /// The answer says neither; what is wrong with it is for the log.
    Unusable(&'static str),
}

/// Judges an answer. `caller` names the caller where the service is not asked to.
pub(super) fn judge(config: &External, caller: &str, answer: Answer<Bytes>) -> Outcome {
    let status = answer.status();
    match status {
        status if status.is_success() => match grant(config, caller, answer.headers()) {
            Ok(grant) => Outcome::Allowed(Arc::new(grant)),
            Err(why) => Outcome::Unusable(why),
        },
        StatusCode::UNAUTHORIZED => denied(config, Reason::ExternalUnauthorized, answer),
        StatusCode::FORBIDDEN => denied(config, Reason::ExternalForbidden, answer),
        status if status.is_redirection() && config.pass_redirects => {
            match answer.headers().contains_key(LOCATION) {
                true => denied(config, Reason::ExternalRedirected, answer),
                false => Outcome::Unusable("the service answered with a redirect to nowhere"),
            }
        }
        _ => Outcome::Unusable("the service answered with another status than 2xx, 401 and 403"),
    }
}

fn grant(config: &External, caller: &str, headers: &HeaderMap) -> Result<Grant, &'static str> {
    let subject = match &config.subject_header {
        Some(name) => subject(headers, name)?,
        None => caller,
    };
    let mut principal = Principal::new(&config.name, subject);
    if let Some(name) = &config.roles_header {
        principal.roles = list(headers, name).map(Into::into).collect();
    }
    let forwarded = config.forward_headers.iter();
    let forwarded: Box<_> = forwarded
        .filter_map(|name| Some((name.clone(), joined(headers, name)?)))
        .collect();
    Ok(Grant {
        principal: Arc::new(principal),
        headers: forwarded,
    })
}

/// A caller without a name would share it with others: their limits, and what is cached for them.
fn subject<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, &'static str> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err("the service did not say, once, who the caller is");
    };
    let text = value
        .to_str()
        .map_err(|_| "the caller's name is not plain text")?;
    match text.len() {
        1..=LONGEST_SUBJECT => Ok(text),
        _ => Err("the caller's name is empty or too long"),
    }
}

/// All lines of a field in one, as RFC 9110 5.3 allows.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let mut rest = values.peekable();
    if rest.peek().is_none() {
        return Some(first.clone());
    }
    let mut all = first.as_bytes().to_vec();
    for value in rest {
        all.extend_from_slice(b", ");
        all.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&all).ok()
}

/// The service's answer with the fields that concern the client. Its cookies belong to a login, which
/// a service has only when its redirects are passed on.
fn denied(config: &External, reason: Reason, answer: Answer<Bytes>) -> Outcome {
    let (head, body) = answer.into_parts();
    let mut response = Response::new(Body::full(body).own());
    *response.status_mut() = head.status;
    let login: &[_] = if config.pass_redirects { &LOGIN } else { &[] };
    for name in PASSED.iter().chain(login) {
        for value in head.headers.get_all(name) {
            response.headers_mut().append(name, value.clone());
        }
    }
    let headers = response.headers_mut();
    // RFC 9110 15.5.2: a 401 has a challenge. What the service wants it alone knows.
    if head.status == StatusCode::UNAUTHORIZED && !headers.contains_key(WWW_AUTHENTICATE) {
        headers.insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Outcome::Denied(reason, Box::new(response))
}

const PASSED: [HeaderName; 4] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    WWW_AUTHENTICATE,
];
const CHALLENGE: HeaderValue = HeaderValue::from_static("External realm=\"tollgate\"");
const LOGIN: [HeaderName; 2] = [LOCATION, SET_COOKIE];
const LONGEST_SUBJECT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config(keys: &str) -> External {
        let text = format!(
            "[auth.external.sso]\nurl = \"http://127.0.0.1:1\"\n{keys}\n\
             [routes.all]\nauth = \"external.sso\"\nrespond = {{}}\n"
        );
        let loaded = Config::parse("gateway.toml", &text).unwrap();
        loaded.config.auth.external["external.sso"].clone()
    }

    fn answer(status: u16, fields: &[(&'static str, &'static str)]) -> Answer<Bytes> {
        let mut answer = Answer::new(Bytes::from_static(b"why"));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            let value = HeaderValue::from_static(value);
            answer.headers_mut().append(*name, value);
        }
        answer
    }

    fn allowed(keys: &str, fields: &[(&'static str, &'static str)]) -> Option<Arc<Grant>> {
        match judge(&config(keys), "caller", answer(204, fields)) {
            Outcome::Allowed(grant) => Some(grant),
            _ => None,
        }
    }

    #[test]
    fn any_2xx_allows_and_names_the_caller() {
        let grant = allowed("", &[("x-user", "alice")]).unwrap();
        assert_eq!(&*grant.principal.name, "external.sso:caller");
        assert!(grant.headers.is_empty());
        let keys = "subject_header = 'x-user'\nroles_header = 'x-roles'\nforward_headers = ['x-user-id', 'x-none']";
        let fields = [
            ("x-user", "alice"),
            ("x-user-id", "7"),
            ("x-user-id", "8"),
            ("x-roles", "a, b"),
            ("x-roles", "c"),
        ];
        let grant = allowed(keys, &fields).unwrap();
        assert_eq!(&*grant.principal.name, "external.sso:alice");
        assert_eq!(grant.principal.roles.len(), 3);
        assert_eq!(grant.headers.len(), 1);
        assert_eq!(grant.headers[0].1, "7, 8");
    }

    #[test]
    fn a_caller_that_should_have_a_name_and_has_none_is_not_let_through() {
        let keys = "subject_header = 'x-user'";
        assert!(allowed(keys, &[]).is_none());
        assert!(allowed(keys, &[("x-user", "")]).is_none());
        assert!(allowed(keys, &[("x-user", "a"), ("x-user", "b")]).is_none());
        assert!(allowed(keys, &[("x-user", "a")]).is_some());
    }

    #[test]
    fn a_refusal_is_passed_on_without_what_is_not_the_clients() {
        let fields = [
            ("www-authenticate", "Basic"),
            ("set-cookie", "a=b"),
            ("x-internal", "1"),
            ("transfer-encoding", "chunked"),
            ("cache-control", "max-age=60"),
        ];
        let outcome = judge(&config(""), "caller", answer(401, &fields));
        let Outcome::Denied(Reason::ExternalUnauthorized, response) = outcome else {
            panic!("not denied");
        };
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["www-authenticate", "cache-control"]);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert!(response.body().is_own());
    }

    #[test]
    fn a_401_has_a_challenge_whoever_wrote_it() {
        let challenges = |status, fields: &[(&'static str, &'static str)]| {
            let Outcome::Denied(_, response) = judge(&config(""), "caller", answer(status, fields))
            else {
                panic!("not denied");
            };
            let all = response.headers().get_all(WWW_AUTHENTICATE).iter();
            all.map(|it| it.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(challenges(401, &[]), ["External realm=\"tollgate\""]);
        assert_eq!(challenges(401, &[("www-authenticate", "Basic")]), ["Basic"]);
        assert!(challenges(403, &[]).is_empty());
    }

    #[test]
    fn a_redirect_is_passed_on_only_where_it_is_wanted() {
        let fields = [("location", "/login"), ("set-cookie", "a=b")];
        let outcome = judge(&config(""), "caller", answer(302, &fields));
        assert!(matches!(outcome, Outcome::Unusable(_)));
        let config = config("pass_redirects = true");
        let Outcome::Denied(_, response) = judge(&config, "caller", answer(302, &fields)) else {
            panic!("not denied");
        };
        assert_eq!(response.headers()[LOCATION], "/login");
        assert!(response.headers().contains_key(SET_COOKIE));
        let nowhere = judge(&config, "caller", answer(302, &[]));
        assert!(matches!(nowhere, Outcome::Unusable(_)));
    }

    #[test]
    fn every_other_status_is_no_verdict() {
        for status in [100, 304, 400, 404, 407, 429, 500, 503] {
            let outcome = judge(&config(""), "caller", answer(status, &[]));
            assert!(matches!(outcome, Outcome::Unusable(_)), "{status}");
        }
    }
}
