//! What one caller got is not served to another, whatever is sent and answered.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use http::Response;

use crate::{
    origin::Seen,
    site::{Site, answer, numbered},
    support::{BoxBody, KeysFile, Sent, empty, eventually, within},
    whose::{
        AUTH, Asked, RULES, Trials, answered, bearer, bearer_for, bearer_until, configuration,
    },
};

const SSO: &str = "[auth.external.sso]\nurl = 'ORIGIN/auth'\nsubject_header = 'x-auth-user'\n";

fn route(cache: &str) -> String {
    format!(
        "{AUTH}[routes.site]\nupstream = 'ORIGIN'\nauth = ['jwt.t', 'anonymous']\n\
         [routes.site.cache]\n{cache}\n"
    )
}

#[tokio::test]
async fn a_known_callers_answer_is_shared_only_where_the_upstream_says_so() {
    for (control, shared) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("s-maxage=60", true),
        ("max-age=60, must-revalidate", true),
        ("max-age=60, private", false),
    ] {
        for scope in ["", "scope = 'shared'"] {
            let site = Site::configured(&route(scope), move |count, _| {
                numbered(count, &[("cache-control", control)])
            })
            .await;
            let (alice, bob) = (bearer("alice"), bearer("bob"));
            assert_eq!(
                site.get_with("/", &[("authorization", &alice)]).await.body,
                "1"
            );
            let other = site.get_with("/", &[("authorization", &bob)]).await.body;
            assert_eq!(other == "1", shared, "{control} {scope}");
        }
    }
}

#[tokio::test]
async fn callers_can_have_answers_of_their_own() {
    let site = Site::configured(
        &route("scope = 'principal'\ndefault_ttl = '1m'"),
        |count, _| numbered(count, &[]),
    )
    .await;
    let (alice, bob) = (bearer("alice"), bearer("bob"));
    for _ in 0..2 {
        assert_eq!(
            site.get_with("/", &[("authorization", &alice)]).await.body,
            "1"
        );
        assert_eq!(
            site.get_with("/", &[("authorization", &bob)]).await.body,
            "2"
        );
        assert_eq!(
            site.get("/").await.body,
            "3",
            "nobody has a store of their own too"
        );
    }
    // A purge reaches all of them.
    site.purge(r#"{"url": "http://a.test/"}"#).await;
    assert_eq!(
        site.get_with("/", &[("authorization", &alice)]).await.body,
        "4"
    );
    assert_eq!(site.get("/").await.body, "5");
}

/// By a digest: neither who it is nor what showed that.
#[tokio::test]
async fn the_key_that_is_shown_tells_callers_apart_and_names_none() {
    let site = Site::configured(
        &route("scope = 'principal'\nshow_key = true"),
        |count, seen| {
            let control = match &*seen.target {
                "/all" => "public, max-age=60",
                _ => "max-age=60",
            };
            numbered(count, &[("cache-control", control)])
        },
    )
    .await;
    let (alice, bob) = (bearer("alice"), bearer("bob"));
    let ask = async |path: &str, token: Option<&str>| {
        let fields = token.map(|token| ("authorization", token));
        let sent = site.get_with(path, fields.as_slice()).await;
        let status = sent.header("cache-status").expect("a status").to_owned();
        for hidden in ["alice", "bob", alice.trim_start_matches("Bearer ")] {
            assert!(!status.contains(hidden), "{status}");
        }
        let (before, key) = status.split_once("; key=").expect("a key");
        (before.contains("; hit"), key.to_owned())
    };
    let objects = || site.gateway.metric("tollgate_cache_objects", &[]);
    let callers = [Some(alice.as_str()), Some(bob.as_str()), None];
    let mut own = Vec::new();
    for (caller, kept) in callers.into_iter().zip([1.0, 2.0, 3.0]) {
        let (is_hit, key) = ask("/own", caller).await;
        assert!(!is_hit, "{key}");
        assert!(key.contains("http://a.test/own caller="), "{key}");
        eventually(|| objects() == kept).await;
        assert_eq!(ask("/own", caller).await, (true, key.clone()));
        own.push(key);
    }
    assert!(own[2].ends_with(" caller=nobody\""), "{own:?}");
    own.dedup();
    assert_eq!(own.len(), 3, "{own:?}");
    // What is for all is kept, and shown, under one key.
    for (index, caller) in callers.into_iter().enumerate() {
        let (is_hit, key) = ask("/all", caller).await;
        assert_eq!(is_hit, index > 0);
        assert!(key.ends_with("http://a.test/all\""), "{key}");
        eventually(|| objects() == 4.0).await;
    }
}

#[tokio::test]
async fn a_callers_stale_answer_gives_way_to_a_newer_one_for_all() {
    let route = route("scope = 'principal'");
    let site = Site::configured(&route, |count, _| {
        let control = match count {
            1 => "max-age=1",
            _ => "public, max-age=600",
        };
        numbered(count, &[("cache-control", control), ("etag", "\"e\"")])
    })
    .await;
    let alice = bearer("alice");
    let fields = [("authorization", alice.as_str())];
    for (body, kept) in [("1", 1.0), ("2", 2.0)] {
        assert_eq!(site.get_with("/", &fields).await.body, body);
        eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == kept).await;
        site.later(2);
    }
    let sent = site.get_with("/", &fields).await;
    assert_eq!(sent.body, "2");
    assert_eq!(sent.header("cache-status"), Some("tollgate; hit"));
    assert_eq!(site.count(), 2);
}

#[tokio::test]
async fn a_caller_asks_about_its_own_stale_answer_however_new_the_one_of_others_is() {
    let (alice, bob) = (bearer("alice"), bearer("bob"));
    let own = alice.clone();
    let site = Site::configured(&route("scope = 'principal'"), move |count, seen| {
        match seen.header("authorization") == Some(own.as_str()) {
            true => tagged(count, &seen, ("\"own\"", "max-age=1")),
            false => tagged(count, &seen, ("\"all\"", "public, max-age=1")),
        }
    })
    .await;
    let objects = || site.gateway.metric("tollgate_cache_objects", &[]);
    for round in 0..4 {
        for (caller, body, etag, kept) in
            [(&alice, "1", "\"own\"", 1.0), (&bob, "2", "\"all\"", 2.0)]
        {
            let fields = [("authorization", caller.as_str())];
            assert_eq!(site.get_with("/", &fields).await.body, body);
            let asked = site.seen().pop().expect("a request");
            let condition = (round > 0).then_some(etag);
            assert_eq!(asked.header("if-none-match"), condition, "{round}");
            eventually(|| objects() >= kept).await;
            site.later(1);
        }
    }
    assert_eq!(site.count(), 8);
}

#[tokio::test]
async fn a_callers_stale_answer_hides_none_for_all_that_may_stand_in_for_a_failure() {
    let (alice, bob) = (bearer("alice"), bearer("bob"));
    let own = alice.clone();
    let site = Site::configured(&route("scope = 'principal'"), move |count, seen| {
        match (count, seen.header("authorization") == Some(own.as_str())) {
            (3.., _) => answer(503, &[], ""),
            (_, true) => numbered(count, &[("cache-control", "max-age=1")]),
            (_, false) => {
                let control = "public, max-age=1, stale-if-error=600";
                numbered(count, &[("cache-control", control)])
            }
        }
    })
    .await;
    let objects = || site.gateway.metric("tollgate_cache_objects", &[]);
    for (caller, kept) in [(&alice, 1.0), (&bob, 2.0)] {
        let fields = [("authorization", caller.as_str())];
        assert_eq!(site.get_with("/", &fields).await.status(), 200);
        eventually(|| objects() == kept).await;
    }
    site.later(100);
    let sent = site
        .get_with("/", &[("authorization", alice.as_str())])
        .await;
    assert_eq!(sent.status(), 200);
    assert_eq!(sent.body, "2");
}

/// The newest answer says what holds now, whoever it is for (RFC 9111 4).
#[tokio::test]
async fn what_the_newest_answer_forbids_an_older_one_does_not_allow() {
    const ALLOWS: &str = "max-age=1, stale-if-error=600";
    let (alice, bob) = (bearer("alice"), bearer("bob"));
    for forbids in ["no-cache", "max-age=1, proxy-revalidate"] {
        for own_is_newer in [true, false] {
            let own = alice.clone();
            let site = Site::configured(&route("scope = 'principal'"), move |count, seen| {
                let is_own = seen.header("authorization") == Some(own.as_str());
                let control = match is_own == own_is_newer {
                    true => forbids,
                    false => ALLOWS,
                };
                let control = match is_own {
                    true => control.to_owned(),
                    false => format!("public, {control}"),
                };
                match count {
                    3.. => answer(503, &[], ""),
                    _ => numbered(count, &[("cache-control", &control), ("etag", "\"e\"")]),
                }
            })
            .await;
            let objects = || site.gateway.metric("tollgate_cache_objects", &[]);
            let mut callers = [&bob, &alice];
            if !own_is_newer {
                callers.reverse();
            }
            for (caller, kept) in callers.into_iter().zip([1.0, 2.0]) {
                let fields = [("authorization", caller.as_str())];
                assert_eq!(site.get_with("/", &fields).await.status(), 200);
                eventually(|| objects() == kept).await;
                site.later(2);
            }
            let fields = [("authorization", alice.as_str())];
            let sent = site.get_with("/", &fields).await;
            assert_eq!(sent.status(), 503, "{forbids}, {own_is_newer}");
        }
    }
}

#[tokio::test]
async fn what_stands_in_for_a_failure_is_the_variant_that_each_who_waits_selects() {
    let (alice, bob) = (bearer("alice"), bearer("bob"));
    let own = alice.clone();
    let site = Site::configured(&route("scope = 'principal'"), move |count, seen| {
        match (count, seen.header("authorization") == Some(own.as_str())) {
            (4.., _) => answer(503, &[], ""),
            (_, true) => numbered(count, &[("cache-control", "max-age=1")]),
            (_, false) => {
                let control = "public, max-age=1, stale-if-error=600";
                let fields = [("cache-control", control), ("vary", "accept-language")];
                answer(
                    200,
                    &fields,
                    seen.header("accept-language").unwrap_or("-").to_owned(),
                )
            }
        }
    })
    .await;
    let asking = async |caller: &str, language: &str| {
        let fields = [("authorization", caller), ("accept-language", language)];
        site.get_with("/", &fields).await
    };
    let objects = || site.gateway.metric("tollgate_cache_objects", &[]);
    assert_eq!(asking(&alice, "en").await.body, "1");
    eventually(|| objects() == 1.0).await;
    for language in ["de", "en"] {
        let is_hit =
            async || asking(&bob, language).await.header("cache-status") == Some("tollgate; hit");
        within(async { while !is_hit().await {} }).await;
    }
    site.later(100);
    let all = join_all(["de", "en", "de"].map(|language| asking(&alice, language)));
    let sent = site.meeting(3, all).await;
    let bodies: Vec<_> = sent.iter().map(|sent| sent.body.clone()).collect();
    assert_eq!(bodies, ["de", "en", "de"]);
    assert_eq!(site.count(), 4);
}

#[tokio::test]
async fn a_caller_whose_last_answer_was_for_all_asks_about_that() {
    let site = Site::configured(&route("scope = 'principal'"), |count, seen| match count {
        1 => tagged(count, &seen, ("\"own\"", "max-age=1")),
        _ => tagged(count, &seen, ("\"all\"", "public, max-age=1")),
    })
    .await;
    let alice = bearer("alice");
    let fields = [("authorization", alice.as_str())];
    for (body, condition, kept) in [
        ("1", None, 1.0),
        ("2", Some("\"own\""), 2.0),
        ("2", Some("\"all\""), 2.0),
        ("2", Some("\"all\""), 2.0),
    ] {
        assert_eq!(site.get_with("/", &fields).await.body, body);
        let asked = site.seen().pop().expect("a request");
        assert_eq!(asked.header("if-none-match"), condition);
        eventually(|| site.gateway.metric("tollgate_cache_objects", &[]) == kept).await;
        site.later(2);
    }
}

/// An answer with a tag, or that it is right still.
fn tagged(count: usize, seen: &Seen, (etag, control): (&str, &str)) -> Response<BoxBody> {
    let fields = [("etag", etag), ("cache-control", control)];
    match seen.header("if-none-match") == Some(etag) {
        true => answer(304, &fields, ""),
        false => numbered(count, &fields),
    }
}

/// That the last one was nobody else's is noted under the caller's key, and the answer stands under another.
#[tokio::test]
async fn an_answer_for_all_has_a_callers_requests_wait_for_each_other_again() {
    let route = route("scope = 'principal'");
    let site = Site::configured(&route, |count, _| {
        let control = match count {
            2 => "no-store",
            _ => "public, max-age=600",
        };
        numbered(count, &[("cache-control", control), ("etag", "\"e\"")])
    })
    .await;
    let alice = bearer("alice");
    let fields = [("authorization", alice.as_str())];
    let ask = || site.get_with("/", &fields);
    let objects = || site.gateway.metric("tollgate_cache_objects", &[]);
    for (body, kept) in [("1", 1.0), ("2", 2.0), ("3", 1.0)] {
        assert_eq!(ask().await.body, body);
        eventually(|| objects() == kept).await;
        if body != "2" {
            site.later(601);
        }
    }
    let sent = site.meeting(4, join_all((0..4).map(|_| ask()))).await;
    let bodies: Vec<_> = sent
        .iter()
        .map(|sent| (sent.body.clone(), sent.header("cache-status")))
        .collect();
    assert!(bodies.iter().all(|(body, _)| body == "4"), "{bodies:?}");
    assert_eq!(site.count(), 4);
}

#[tokio::test]
async fn a_credential_that_only_the_upstream_knows_counts_too() {
    for (scope, control, kept) in [
        ("", "max-age=60", false),
        ("", "max-age=60, public", true),
        ("scope = 'principal'", "max-age=60", false),
    ] {
        let site = Site::start(scope, move |count, _| {
            numbered(count, &[("cache-control", control)])
        })
        .await;
        let fields = [("authorization", "Basic YTpi")];
        site.get_with("/", &fields).await;
        let again = site.get_with("/", &fields).await.body;
        assert_eq!(again == "1", kept, "{scope} {control}");
    }
}

#[tokio::test]
async fn answers_that_vary_by_who_calls_are_nobody_elses() {
    let text = format!(
        "{AUTH}forward_claims = {{ x-user = 'sub' }}\n\
         [routes.site]\nupstream = 'ORIGIN'\nauth = 'jwt.t'\n[routes.site.cache]\nscope = 'shared'\n"
    );
    let site = Site::configured(&text, |_, seen| {
        let user = seen.header("x-user").unwrap_or("nobody").to_owned();
        answer(
            200,
            &[("cache-control", "public, max-age=60"), ("vary", "x-user")],
            user,
        )
    })
    .await;
    for user in ["alice", "bob", "alice"] {
        let sent = site
            .get_with("/", &[("authorization", &bearer(user))])
            .await;
        assert_eq!(sent.body, user);
    }
}

/// The upstream is told who calls, and by each claim it may answer otherwise.
#[tokio::test]
async fn one_subject_who_calls_for_two_tenants_is_two_callers() {
    let text = format!(
        "{AUTH}forward_claims = {{ x-tenant = 'tenant' }}\n\
         [routes.site]\nupstream = 'ORIGIN'\nauth = 'jwt.t'\n\
         [routes.site.cache]\nscope = 'principal'\ndefault_ttl = '1m'\n"
    );
    for vary in [&[][..], &[("vary", "x-tenant")]] {
        let site = Site::configured(&text, move |_, seen| {
            let tenant = seen.header("x-tenant").unwrap_or("none").to_owned();
            answer(200, vary, tenant)
        })
        .await;
        for tenant in ["one", "two", "one", "two"] {
            let token = bearer_for("alice", tenant);
            let sent = site.get_with("/", &[("authorization", &token)]).await;
            assert_eq!(sent.body, tenant);
        }
        assert_eq!(site.count(), 2, "each has its own");
    }
}

/// The upstream gets the token, and may read of it what the gateway tells nobody.
#[tokio::test]
async fn two_tokens_of_one_subject_that_say_something_else_are_two_callers() {
    let text = format!(
        "{AUTH}[routes.site]\nupstream = 'ORIGIN'\nauth = 'jwt.t'\n\
         [routes.site.cache]\nscope = 'principal'\ndefault_ttl = '1m'\n"
    );
    let site = Site::configured(&text, |_, seen| {
        let token = seen.header("authorization").unwrap_or("none").to_owned();
        answer(200, &[], token)
    })
    .await;
    for tenant in ["one", "two", "one", "two"] {
        let token = bearer_for("alice", tenant);
        let sent = site.get_with("/", &[("authorization", &token)]).await;
        assert_eq!(sent.body, token);
    }
    assert_eq!(site.count(), 2, "each has its own");
}

/// To the upstream each caller has a URL of its own, so it may well say that the answer is for all.
#[tokio::test]
async fn a_path_that_is_rewritten_for_each_caller_is_kept_for_each() {
    let text = format!(
        "{AUTH}[server]\ntrusted_proxies = ['127.0.0.1']\n\
         [routes.here]\nupstream = 'ORIGIN'\npath = '/here'\nauth = 'public'\ncache = {{}}\n\
         rewrite = {{ path = '/at/${{client_ip}}' }}\n"
    );
    let site = Site::configured(&text, |_, seen| {
        answer(200, &[("cache-control", "public, max-age=60")], seen.target)
    })
    .await;
    for _ in 0..2 {
        for address in ["192.0.2.1", "192.0.2.2"] {
            let own = site
                .get_with("/here", &[("x-forwarded-for", address)])
                .await;
            assert_eq!(own.body, format!("/at/{address}"));
        }
    }
    assert_eq!(site.count(), 2, "and each has its own");
}

/// `all`: the first of two credentials names the caller, and the other may be another person's.
#[tokio::test]
async fn of_two_credentials_both_tell_callers_apart() {
    let text = format!(
        "{AUTH}[auth.jwt.partner]\nsecret = 'a secret of thirty-two bytes or more'\n\
         from = 'header:x-partner'\n\
         [routes.site]\nupstream = 'ORIGIN'\nauth = [{{ all = ['jwt.partner', 'jwt.t'] }}]\n\
         [routes.site.cache]\nscope = 'principal'\ndefault_ttl = '1m'\n"
    );
    let site = Site::configured(&text, |count, _| numbered(count, &[])).await;
    let partner = bearer("shop");
    for (user, body) in [("alice", "1"), ("bob", "2"), ("alice", "1"), ("bob", "2")] {
        let token = bearer(user);
        let fields = [("x-partner", &*partner), ("authorization", &token)];
        assert_eq!(site.get_with("/", &fields).await.body, body, "{user}");
    }
}

/// Two requests with one API key, each with its own field beside it: the upstream tells them apart by that.
async fn with_one_key(text: &str, name: &'static str, values: [&str; 2]) -> Site {
    let mut file = KeysFile::new();
    let key = file.add("shop", "");
    let keys_file = file.path().display().to_string();
    let site = Site::configured(&text.replace("KEYS", &keys_file), move |_, seen| {
        let told = seen.header(name).unwrap_or("none").to_owned();
        answer(200, &[("cache-control", "max-age=60")], told)
    })
    .await;
    for value in [values[0], values[1], values[0], values[1]] {
        let fields = [("x-api-key", &*key), (name, value)];
        assert_eq!(site.get_with("/", &fields).await.body, value);
    }
    site
}

/// RFC 9111 3.5: the upstream answers to an Authorization that the gateway asks nothing about.
#[tokio::test]
async fn an_authorization_beside_a_known_key_is_part_of_who_calls() {
    let text = "[auth.api_keys.k]\nkeys_file = 'KEYS'\n\
                [routes.site]\nupstream = 'ORIGIN'\nauth = 'api_keys.k'\n\
                [routes.site.cache]\nscope = 'principal'\n";
    let site = with_one_key(text, "authorization", ["Bearer a", "Bearer b"]).await;
    assert_eq!(site.count(), 2, "each has its own");
}

/// Who waits for another's fetch is served what that one gets.
#[tokio::test]
async fn one_key_with_two_authorizations_at_once_is_two_fetches() {
    let mut file = KeysFile::new();
    let key = file.add("shop", "");
    let text = format!(
        "[auth.api_keys.k]\nkeys_file = '{}'\n\
         [routes.site]\nupstream = 'ORIGIN'\nauth = 'api_keys.k'\n\
         [routes.site.cache]\nscope = 'principal'\n",
        file.path().display()
    );
    let site = Site::configured(&text, |_, seen| {
        let told = seen.header("authorization").unwrap_or("none").to_owned();
        answer(200, &[("cache-control", "max-age=60")], told)
    })
    .await;
    let values = ["Bearer a", "Bearer b", "Bearer a", "Bearer b"];
    let fields = values.map(|value| [("x-api-key", &*key), ("authorization", value)]);
    let all = join_all(fields.iter().map(|fields| site.get_with("/", fields)));
    for (value, sent) in values.iter().zip(site.meeting(values.len(), all).await) {
        assert_eq!(sent.body, *value);
    }
    assert_eq!(site.count(), 2, "one for each");
}

/// The key is enough, and the token goes on all the same.
#[tokio::test]
async fn a_token_beside_a_key_that_was_enough_is_part_of_who_calls() {
    let text = format!(
        "{AUTH}[auth.api_keys.k]\nkeys_file = 'KEYS'\n\
         [routes.site]\nupstream = 'ORIGIN'\nauth = ['api_keys.k', 'jwt.t']\n\
         [routes.site.cache]\nscope = 'principal'\n"
    );
    let (alice, bob) = (bearer("alice"), bearer("bob"));
    let site = with_one_key(&text, "authorization", [&alice, &bob]).await;
    assert_eq!(site.count(), 2, "each has its own");
}

#[tokio::test]
async fn a_token_in_a_cookie_beside_a_key_that_was_enough_is_part_of_who_calls() {
    let text = format!(
        "{AUTH}from = 'cookie:session'\n[auth.api_keys.k]\nkeys_file = 'KEYS'\n\
         [routes.site]\nupstream = 'ORIGIN'\nauth = ['api_keys.k', 'jwt.t']\n\
         [routes.site.cache]\nscope = 'principal'\n"
    );
    let session = |user| bearer(user).replace("Bearer ", "session=");
    let (alice, bob) = (session("alice"), session("bob"));
    let site = with_one_key(&text, "cookie", [&alice, &bob]).await;
    assert_eq!(site.count(), 2, "each has its own");
}

/// A service tells one subject for two tokens, which may be of two tenants: the upstream reads them too,
/// unless the route keeps them from it.
#[tokio::test]
async fn what_a_service_has_read_of_a_credential_is_part_of_who_calls_if_the_upstream_gets_it() {
    for (route, kept) in [
        ("", None),
        ("forward_credentials = false\n", Some("none")),
        (
            "request_headers = { remove = ['authorization'] }\n",
            Some("none"),
        ),
        (
            "request_headers = { set = { authorization = 'Basic us' } }\n",
            Some("Basic us"),
        ),
    ] {
        let text = format!(
            "{SSO}[routes.site]\nupstream = 'ORIGIN'\nauth = 'external.sso'\n{route}\
             [routes.site.cache]\nscope = 'principal'\n"
        );
        let site = Site::configured(&text, |_, seen| match &*seen.target {
            "/auth" => answer(200, &[("x-auth-user", "alice")], ""),
            _ => {
                let told = seen.header("authorization").unwrap_or("none").to_owned();
                answer(200, &[("cache-control", "max-age=60")], told)
            }
        })
        .await;
        for token in ["Bearer one", "Bearer two", "Bearer one", "Bearer two"] {
            let sent = site.get_with("/", &[("authorization", token)]).await;
            assert_eq!(sent.body, kept.unwrap_or(token), "{route}");
        }
        let answers = if kept.is_some() { 1 } else { 2 };
        assert_eq!(pages(&site), answers, "{route}");
    }
}

/// What the origin was asked but for who calls.
fn pages(site: &Site) -> usize {
    let seen = site.seen().into_iter();
    seen.filter(|seen| seen.target == "/").count()
}

/// A service that names who has the session, and cookies of which each page view has others.
#[tokio::test]
async fn cookies_make_no_other_caller_of_whom_a_service_has_named() {
    let services = format!("{SSO}{}", SSO.replace("sso", "other"));
    for (auth, answers) in [
        ("'external.sso'", 2),
        ("[{ all = ['external.sso', 'external.other'] }]", 4),
    ] {
        let text = format!(
            "{services}[routes.site]\nupstream = 'ORIGIN'\nauth = {auth}\n\
             [routes.site.cache]\nscope = 'principal'\n"
        );
        let site = Site::configured(&text, |_, seen| {
            let cookies = seen.header("cookie").unwrap_or("none");
            let user = cookies.split(';').next().unwrap_or("none").to_owned();
            match &*seen.target {
                "/auth" => answer(200, &[("x-auth-user", &user)], ""),
                _ => answer(200, &[("cache-control", "max-age=60")], user),
            }
        })
        .await;
        for (user, view) in [("alice", 1), ("bob", 1), ("alice", 2), ("bob", 2)] {
            let user = format!("session={user}");
            let cookies = format!("{user}; view={view}");
            let sent = site.get_with("/", &[("cookie", &cookies)]).await;
            assert_eq!(sent.body, user, "{auth}");
        }
        assert_eq!(pages(&site), answers, "{auth}");
    }
}

/// Nobody was asked whose session it is.
#[tokio::test]
async fn cookies_of_a_service_beside_a_key_that_was_enough_are_part_of_who_calls() {
    let text = format!(
        "{SSO}[auth.api_keys.k]\nkeys_file = 'KEYS'\n\
         [routes.site]\nupstream = 'ORIGIN'\nauth = ['api_keys.k', 'external.sso']\n\
         [routes.site.cache]\nscope = 'principal'\n"
    );
    let site = with_one_key(&text, "cookie", ["session=a", "session=b"]).await;
    assert_eq!(site.count(), 2, "each has its own");
}

/// Who renews a token that says the same finds what the last one has left.
#[tokio::test]
async fn the_token_that_granted_is_no_part_of_who_calls_by_its_letters() {
    let text = format!(
        "{AUTH}[routes.site]\nupstream = 'ORIGIN'\nauth = 'jwt.t'\n\
         [routes.site.cache]\nscope = 'principal'\ndefault_ttl = '1m'\n"
    );
    let site = Site::configured(&text, |count, _| numbered(count, &[])).await;
    for expires in [99_999_999_998, 99_999_999_999] {
        let token = bearer_until("alice", expires);
        let sent = site.get_with("/", &[("authorization", &token)]).await;
        assert_eq!(sent.body, "1");
    }
}

/// RFC 6750 5.3: nobody behind the gateway may store what a token in a URL or a cookie got, whatever
/// the upstream tells caches of one make.
#[tokio::test]
async fn no_other_cache_is_told_to_store_what_an_exposed_token_got() {
    const FIELDS: &[(&str, &str)] = &[
        ("cache-control", "public, max-age=60"),
        ("cdn-cache-control", "public, max-age=60"),
        ("example-cdn-cache-control", "public, max-age=60"),
        ("surrogate-control", "max-age=60"),
        ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
    ];
    let text = format!(
        "{AUTH}from = ['cookie:session', 'query:access_token']\n\
         [routes.site]\nupstream = 'ORIGIN'\nauth = 'jwt.t'\n\
         forward_credentials = false\ncache = {{}}\n"
    );
    let site = Site::configured(&text, |count, _| numbered(count, FIELDS)).await;
    let token = bearer("alice");
    let token = token.trim_start_matches("Bearer ");
    let cookie = format!("session={token}");
    let query = format!("/?access_token={token}");
    for _ in 0..2 {
        for sent in [
            site.get_with("/", &[("cookie", &cookie)]).await,
            site.get(&query).await,
        ] {
            assert_eq!(sent.body, "1", "it is for all, and kept without the token");
            assert_eq!(sent.header("cache-control"), Some("no-store"));
            for (name, _) in &FIELDS[1..4] {
                assert_eq!(sent.header(name), None, "{name}");
            }
        }
    }
    site.purge(r#"{"url": "http://a.test/"}"#).await;
    assert_eq!(site.get(&query).await.body, "2");
}

/// Random answers to random requests of random callers: whose answer is served to whom.
#[tokio::test]
async fn two_users_never_see_each_others_answers() {
    let Trials { mut random, cases } = Trials::of(5, 600);
    for rule in RULES {
        let site = Site::configured(&configuration(rule), |_, seen| {
            answered(&seen.target, |name| seen.header(name))
        })
        .await;
        for _ in 0..cases {
            let asked = Asked::random(&mut random);
            asked.check(&ask(&site, &asked).await, rule);
            if random.u8(..20) == 0 {
                site.later(61);
            }
        }
        assert!(site.count() < cases, "nothing was served again: {rule}");
    }
}

/// The same while many ask for one URL at once: whose answer is read along by whom.
#[tokio::test]
async fn two_users_who_ask_at_once_never_see_each_others_answers() {
    // Some twenty requests of each URL.
    let Trials { mut random, cases } = Trials::of(7, 4500);
    let mut crowds: BTreeMap<String, Vec<Asked>> = BTreeMap::new();
    for _ in 0..cases {
        let asked = Asked::random(&mut random);
        crowds.entry(asked.path.clone()).or_default().push(asked);
    }
    for (index, rule) in RULES.iter().enumerate() {
        let site = Site::configured(&configuration(rule), |_, seen| {
            answered(&seen.target, |name| seen.header(name))
        })
        .await;
        // Under each rule others of the URLs, of all kinds.
        for crowd in crowds.values().skip(2 * index).step_by(11) {
            let all = join_all(crowd.iter().map(|asked| ask(&site, asked)));
            for (asked, sent) in crowd.iter().zip(site.meeting(crowd.len(), all).await) {
                asked.check(&sent, rule);
            }
        }
        let name = "tollgate_cache_requests_total";
        let coalesced = site.gateway.metric(name, &["result=\"coalesced\""]);
        assert!(coalesced > 0.0, "nobody read along: {rule}");
    }
}

async fn ask(site: &Site, asked: &Asked) -> Sent {
    site.send(asked.method, &asked.path, &asked.fields(), empty())
        .await
}

/// However a caller is known, what it got is for others only where the upstream says so.
#[tokio::test]
async fn callers_known_by_any_credential_share_what_the_upstream_lets_them() {
    const USERS: [&str; 2] = ["alice", "bob"];
    let mut file = KeysFile::new();
    let keys = USERS.map(|user| file.add(user, ""));
    let folder = tempfile::tempdir().expect("a temporary directory");
    let users = folder.path().join("users");
    let hash = bcrypt::hash_with_result("secret", 5).expect("a hash");
    let hash = hash.format_for_version(bcrypt::Version::TwoY);
    std::fs::write(&users, format!("alice:{hash}\nbob:{hash}\n")).expect("it can be written");
    let secret = AUTH.trim_start_matches("[auth.jwt.t]\n");
    let tokens = USERS.map(|user| bearer(user).trim_start_matches("Bearer ").to_owned());
    let basic = |user: &str| {
        let pair = BASE64_STANDARD.encode(format!("{user}:secret"));
        format!("Basic {pair}")
    };
    let methods = [
        (
            "api_keys.k",
            format!("keys_file = '{}'", file.path().display()),
            keys.map(|key| ("/a".to_owned(), "x-api-key", key)),
        ),
        (
            "jwt.t",
            format!("{secret}from = 'cookie:session'"),
            tokens
                .each_ref()
                .map(|token| ("/a".to_owned(), "cookie", format!("session={token}"))),
        ),
        (
            "jwt.t",
            format!("{secret}from = 'query:token'"),
            tokens
                .each_ref()
                .map(|token| (format!("/a?token={token}"), "accept", "*/*".to_owned())),
        ),
        (
            "basic.b",
            format!("users_file = '{}'", users.display()),
            USERS.map(|user| ("/a".to_owned(), "authorization", basic(user))),
        ),
    ];
    for (name, method, callers) in &methods {
        let text = format!(
            "[auth.{name}]\n{method}\n[routes.site]\nupstream = 'ORIGIN'\nauth = '{name}'\n\
             forward_credentials = false\ncache = {{}}\n"
        );
        for (control, bodies) in [
            ("max-age=60", ["1", "2"]),
            ("public, max-age=60", ["1", "1"]),
        ] {
            let site = Site::configured(&text, move |count, _| {
                numbered(count, &[("cache-control", control)])
            })
            .await;
            for ((path, field, value), body) in callers.iter().zip(bodies) {
                let sent = site.get_with(path, &[(*field, value.as_str())]).await;
                assert_eq!(sent.status(), 200, "{method}");
                assert_eq!(sent.body, body, "{method} {control}");
            }
        }
    }
}

/// The same of whom a service names. It is asked again for each of them.
#[tokio::test]
async fn callers_known_by_a_service_share_what_the_upstream_lets_them() {
    let text = format!(
        "{SSO}[routes.site]\nupstream = 'ORIGIN'\nauth = 'external.sso'\n\
         forward_credentials = false\n[routes.site.cache]\nscope = 'shared'\n"
    );
    for (control, answers) in [
        ("max-age=60", 4),
        ("private, max-age=60", 4),
        ("public, max-age=60", 1),
        ("max-age=60, must-revalidate", 1),
    ] {
        let site = Site::configured(&text, move |count, seen| match &*seen.target {
            "/auth" => {
                let told = seen.header("authorization").unwrap_or("none");
                let user = told.trim_start_matches("Bearer ");
                answer(200, &[("x-auth-user", user)], "")
            }
            _ => numbered(count, &[("cache-control", control)]),
        })
        .await;
        let mut bodies = Vec::new();
        for token in ["Bearer alice", "Bearer bob", "Bearer alice", "Bearer bob"] {
            let sent = site.get_with("/", &[("authorization", token)]).await;
            assert_eq!(sent.status(), 200, "{token}");
            bodies.push(sent.body);
        }
        assert_eq!(pages(&site), answers, "{control}");
        bodies.dedup();
        assert_eq!(bodies.len(), answers, "{control}: {bodies:?}");
    }
}
