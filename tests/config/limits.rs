//! `[rate_limits.*]` and what routes say of them.

use std::time::Duration;

use tollgate::config::{LimitAlgorithm, LimitKey, LimitedWho, Quota};

use super::{error, findings, parse, valid, warning};

/// One route with one limit.
fn limit(keys: &str) -> String {
    format!("[rate_limits.one]\n{keys}\n[routes.all]\nrespond = {{}}\nrate_limits = [\"one\"]\n")
}

fn refused(keys: &str) -> (String, String) {
    error(&limit(keys))
}

/// The same where callers show tokens that bring roles, or nothing.
fn limit_of_callers(keys: &str) -> String {
    format!(
        "{}auth = [\"jwt.main\", \"anonymous\"]\n{}",
        limit(keys),
        token("main")
    )
}

/// `[auth.jwt.NAME]`.
fn token(name: &str) -> String {
    format!(
        "[auth.jwt.{name}]\nsecret = \"a secret of thirty-two bytes or more\"\nroles_claim = \"roles\"\n"
    )
}

#[test]
fn a_limit_needs_a_key_and_a_quota_and_has_defaults_for_the_rest() {
    let config = valid(&limit("key = \"client_ip\"\nquota = \"100/min\""));
    let limit_of = &config.rate_limits["one"];
    let minute = Some(Duration::from_secs(60));
    assert_eq!(
        limit_of.quota,
        [Quota {
            count: 100,
            per: minute
        }]
    );
    assert_eq!(limit_of.key, [LimitKey::ClientIp]);
    assert_eq!(limit_of.algorithm, LimitAlgorithm::TokenBucket);
    assert_eq!(
        (limit_of.max_keys, limit_of.ipv6_prefix, limit_of.enforce),
        (100_000, 64, true)
    );
    assert_eq!(config.routes[0].cost, 1);
    let (message, help) = refused("quota = \"1/s\"");
    assert_eq!(message, "1:14 `[rate_limits.one]` has no `key`");
    assert_eq!(help, "write for example `key = \"client_ip\"`");
    assert!(refused("key = \"client_ip\"").0.ends_with("has no `quota`"));
    assert!(
        refused("key = []\nquota = \"1/s\"")
            .0
            .contains("an empty list")
    );
}

#[test]
fn tiers_are_read() {
    let config = valid(&limit_of_callers(
        "key = [\"caller\", \"route\"]\nquota = [\"20/1s\", \"5000/1h\"]\nanonymous = \"60/1h\"\n\
         exempt = [\"10.0.0.0/8\", \"role:admin\"]\n\
         [rate_limits.one.overrides]\n\"jwt.main:urn:partner-7\" = \"50000/1h\"\n\"role:gold\" = [\"1/s\", \"20000/1h\"]",
    ));
    let limit = &config.rate_limits["one"];
    assert_eq!(limit.overrides.len(), 2);
    let partner = LimitedWho::Principal("jwt.main:urn:partner-7".into());
    assert_eq!(limit.overrides[0].0, partner);
    assert_eq!(limit.overrides[1].0, LimitedWho::Role("gold".into()));
    assert_eq!(limit.overrides[1].1.len(), 2);
    assert_eq!(
        (limit.exempt_networks.len(), limit.exempt_callers.len()),
        (1, 1)
    );
    assert!(limit.is_by_caller());
}

#[test]
fn a_principal_of_an_unknown_way_to_authenticate_is_refused_wherever_a_limit_names_it() {
    let named =
        |keys: &str| limit_of_callers(&format!("key = \"caller\"\nquota = \"5/s\"\n{keys}"));
    let exempt = |who: &str| error(&named(&format!("exempt = [\"10.0.0.0/8\", \"{who}\"]")));
    let (message, help) = error(&named(
        "[rate_limits.one.overrides]\n\"role:gold\" = \"9/s\"\n\"jwt.mian:urn:mallory\" = \"1/m\"",
    ));
    assert_eq!(
        message,
        "6:1 there is no way to authenticate called `jwt.mian`: nobody is `jwt.mian:urn:mallory`"
    );
    assert_eq!(help, "write `\"jwt.main:urn:mallory\"`");
    let (message, help) = exempt("jwt.mains:alice");
    assert!(message.starts_with("4:25 "), "{message}");
    assert_eq!(help, "write `\"jwt.main:alice\"`");
    let (_, help) = exempt("basic.staff:alice");
    assert_eq!(
        help,
        "define it as `[auth.basic.staff]`, or begin the name with one of `jwt.main`"
    );
    let (message, help) =
        refused("key = \"caller\"\nquota = \"5/s\"\nexempt = \"external.sso:alice\"");
    assert!(message.contains("called `external.sso`"), "{message}");
    assert_eq!(help, "define it: `[auth.external.sso]`");
    let both = named("exempt = \"jwt.a:alice\"\noverrides = { \"jwt.b:bob\" = \"1/m\" }");
    assert_eq!(findings(&both).len(), 2);
    valid(&named(
        "exempt = [\"role:admin\", \"jwt.main:alice\"]\noverrides = { \"jwt.main:a:b\" = \"1/m\" }",
    ));
}

#[test]
fn misspelt_keys_get_a_suggestion() {
    let (message, help) = refused("key = \"client_ip\"\nquotas = \"1/s\"\nquota = \"1/s\"");
    assert!(message.contains("`quotas`"), "{message}");
    assert!(help.contains("quota"), "{help}");
    assert_eq!(
        refused("key = \"ip\"\nquota = \"1/s\"").1,
        "write `\"client_ip\"`"
    );
    assert!(
        refused("key = \"client_ip\"\nquota = \"1 per second\"")
            .1
            .contains("`\"100/1m\"`")
    );
    assert!(
        refused("key = \"client_ip\"\nquota = \"1/5min\"")
            .1
            .contains("`\"5m\"`")
    );
    let (_, help) = refused("key = \"client_ip\"\nquota = \"1/s\"\nalgorithm = \"token_buckt\"");
    assert_eq!(help, "did you mean `\"token_bucket\"`?");
    let (message, help) = refused(
        "key = \"caller\"\nquota = \"1/s\"\n[rate_limits.one.overrides]\napi_keys.partners = \"1/s\"",
    );
    assert!(message.contains("api_keys"), "{message}");
    assert!(help.contains("in quotes"), "{help}");
    let (_, help) = refused("key = \"caller\"\nquota = \"1/s\"\noverrides = { gold = \"1/s\" }");
    assert!(help.contains("role:gold"), "{help}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    for (keys, said) in [
        ("quota = 5", "a quota needs a time"),
        (
            "quota = \"5/s\"\nalgorithm = \"concurrency\"",
            "has no time",
        ),
        (
            "quota = [5, 6]\nalgorithm = \"concurrency\"",
            "has one number",
        ),
        (
            "quota = [\"1/s\", \"2/1000ms\"]",
            "two quotas have the same time",
        ),
        (
            "quota = [\"1/s\", \"2/m\", \"3/h\", \"4/d\", \"5/2d\"]",
            "has 4 windows at most",
        ),
        (
            "quota = \"5/s\"\nalgorithm = \"fixed_window\"\nbucket = 5",
            "only a token bucket",
        ),
        ("quota = [\"5/s\", \"9/m\"]\nbucket = 5", "several buckets"),
        ("quota = \"1/3650d\"\nbucket = 100", "more than 100 years"),
        ("quota = \"5/s\"\nexact = true", "only a sliding window"),
        (
            "quota = \"5000/s\"\nexact = true\nalgorithm = \"sliding_window\"",
            "1000 at most",
        ),
        (
            "quota = \"1000/s\"\nexact = true\nalgorithm = \"sliding_window\"",
            "can be 1525 MiB",
        ),
        (
            "quota = 5\nalgorithm = \"concurrency\"\ncost_header = \"x-cost\"",
            "takes one place",
        ),
        (
            "quota = \"5/s\"\nanonymous = \"1/s\"",
            "stands before authentication",
        ),
        (
            "quota = \"5/s\"\noverrides = { \"role:gold\" = \"1/s\" }",
            "stands before authentication",
        ),
        (
            "quota = \"5/s\"\nexempt = \"role:gold\"",
            "only networks can be exempt",
        ),
        (
            "quota = \"5/s\"\nexempt = [\"0.0.0.0/0\", \"::/1\", \"8000::/1\"]",
            "the limit holds nobody",
        ),
    ] {
        let (message, _) = refused(&format!("key = \"client_ip\"\n{keys}"));
        assert!(message.contains(said), "{keys}: {message}");
    }
}

#[test]
fn a_route_names_limits_that_are_there() {
    let text = limit("key = \"client_ip\"\nquota = \"5/s\"");
    let (message, help) = error(&text.replace("[\"one\"]", "[\"on\"]"));
    assert!(message.contains("there is no rate limit `on`"), "{message}");
    assert_eq!(help, "write `\"one\"`");
    let (unused, _) = warning(&text.replace("rate_limits = [\"one\"]", ""));
    assert!(
        unused.contains("no route uses the rate limit `one`"),
        "{unused}"
    );
}

#[test]
fn limits_are_inherited_and_can_be_left_out() {
    let config = valid(
        "[defaults]\nrate_limits = [\"a\"]\n[groups.g]\nrate_limits = [\"inherit\", \"b\"]\ncost = 3\n\
         [rate_limits.a]\nkey = \"client_ip\"\nquota = \"5/s\"\n\
         [rate_limits.b]\nkey = \"client_ip\"\nquota = \"50/m\"\n\
         [routes.both]\ngroup = \"g\"\npath = \"/both\"\nrespond = {}\n\
         [routes.none]\npath = \"/none\"\nrespond = {}\nrate_limits = []\n\
         [routes.one]\nrespond = {}\n",
    );
    let limits: Vec<Vec<&str>> = config
        .routes
        .iter()
        .map(|route| route.rate_limits.iter().map(|name| &**name).collect())
        .collect();
    assert_eq!(limits, [vec!["a", "b"], vec![], vec!["a"]]);
    assert_eq!(config.routes[0].cost, 3);
}

#[test]
fn a_request_must_not_cost_more_than_there_is() {
    let text = limit("key = \"client_ip\"\nquota = \"50/s\"\nbucket = 5");
    let (message, _) = error(&format!("{text}cost = 6\n"));
    assert!(
        message.contains("costs 6, and `one` lets 5 through at most"),
        "{message}"
    );
    valid(&format!("{text}cost = 5\n"));
}

#[test]
fn a_cost_that_the_route_changes_before_it_is_read_is_refused() {
    let text = limit("key = \"client_ip\"\nquota = \"5/s\"\ncost_header = \"x-cost\"");
    let with = |edit: &str| format!("{text}[routes.all.response_headers]\n{edit}\n");
    for edit in ["remove = \"X-Cost\"", "set = { x-cost = \"1\" }"] {
        let (message, help) = error(&with(edit));
        assert!(
            message.contains("changes `x-cost` before the limit `one` of the route `all` reads it"),
            "{message}"
        );
        assert!(help.starts_with("leave the field out"), "{help}");
    }
    valid(&with("remove = \"x-other\"\nadd = { x-more = \"1\" }"));
}

#[test]
fn a_key_that_anybody_makes_up_is_no_limit() {
    for key in [
        "\"header:x-tenant\"",
        "\"cookie:visitor\"",
        "[\"header:x-a\", \"route\"]",
        "\"host\"",
    ] {
        let (message, help) = refused(&format!("key = {key}\nquota = \"5/s\""));
        assert!(
            message.contains("is no limit for the route `all`"),
            "{key}: {message}"
        );
        assert_eq!(help, "put a limit with `key = \"client_ip\"` beside it");
    }
    for (key, matching) in [
        ("\"host.tenant\"", "hosts = \"{tenant}.test\""),
        ("\"path.item\"", "path = \"/{item}\""),
        ("[\"path.item\", \"method\"]", "path = \"/{item}\""),
    ] {
        let text = limit(&format!("key = {key}\nquota = \"5/s\""));
        let (message, help) = error(&format!("{text}{matching}\n"));
        assert!(
            message.contains("is no limit for the route `all`"),
            "{key}: {message}"
        );
        assert_eq!(help, "put a limit with `key = \"client_ip\"` beside it");
    }
    let beside = "[rate_limits.one]\nkey = \"header:x-tenant\"\nquota = \"5/s\"\n\
         [rate_limits.two]\nkey = \"client_ip\"\nquota = \"50/s\"\n\
         [routes.all]\nrespond = {}\nrate_limits = [\"one\", \"two\"]\n";
    valid(beside);
    // In shadow mode it holds nobody.
    let shadow = beside.replace("\"50/s\"", "\"50/s\"\nenforce = false");
    assert!(error(&shadow).0.contains("is no limit"));
    let (mixed, _) = warning(&limit(
        "key = [\"client_ip\", \"header:x-device\"]\nquota = \"5/s\"",
    ));
    assert!(mixed.contains("is never refused"), "{mixed}");
    valid(
        &limit("key = \"host\"\nquota = \"5/s\"").replace("respond", "hosts = \"a.test\"\nrespond"),
    );
}

#[test]
fn who_makes_up_keys_is_held_by_no_limit_that_lets_it_by() {
    let beside = |made_up: &str, other: &str| {
        format!(
            "[rate_limits.one]\nkey = \"header:x-tenant\"\n{made_up}\n\
             [rate_limits.two]\nkey = \"client_ip\"\n{other}\n\
             [routes.all]\nrespond = {{}}\nrate_limits = [\"one\", \"two\"]\n"
        )
    };
    let (timed, slots) = ("quota = \"2/1m\"", "quota = 5\nalgorithm = \"concurrency\"");
    let but = |keys: &str| format!("{timed}\n{keys}");
    for (other, why) in [
        (slots.to_owned(), "it counts only what is in flight"),
        (but("enforce = false"), "it only watches"),
        (but("exempt = \"0.0.0.0/0\""), "it exempts all of IPv4"),
        (but("exempt = [\"8000::/1\", \"::/1\"]"), "all of IPv6"),
    ] {
        let (message, help) = error(&beside(timed, &other));
        assert!(
            message.contains("the limit `one` is no limit for the route `all`"),
            "{message}"
        );
        assert!(help.starts_with("put a limit with `key = \"client_ip\"` beside it; `two`"));
        assert!(help.contains(why), "{help}");
    }
    valid(&beside(slots, slots));
    valid(&beside(slots, timed));
    let watching = but("enforce = false");
    valid(&beside(&watching, &watching));
    valid(&beside(timed, &but("exempt = [\"10.0.0.0/8\", \"::/1\"]")));
    let three = beside(timed, slots).replace("\"two\"]", "\"two\", \"three\"]");
    valid(&format!(
        "{three}[rate_limits.three]\nkey = \"caller\"\nquota = \"9/1s\"\n"
    ));
}

#[test]
fn a_key_that_nobody_has_on_a_public_route_is_told() {
    let (message, help) =
        refused("key = \"principal\"\nquota = \"5/s\"\non_missing_key = \"refuse\"");
    assert!(
        message.contains("which nobody has on the route `all`: it is public"),
        "{message}"
    );
    assert!(help.starts_with("it refuses everybody there"), "{help}");
    assert!(
        refused("key = \"claim:t\"\nquota = \"5/s\"\non_missing_key = \"skip\"")
            .1
            .contains("limits nobody")
    );
    let (counted, _) = warning(&limit("key = \"api_key\"\nquota = \"5/s\""));
    assert!(counted.contains("counts by `api_key`"), "{counted}");
}

#[test]
fn behind_a_proxy_that_is_not_trusted_everybody_is_one_client() {
    let text = limit("key = \"client_ip\"\nquota = \"5/s\"");
    let private = format!("[server]\nlisten = \"10.0.0.1:80\"\n{text}");
    assert!(warning(&private).0.contains("everybody is one client"));
    let trusting = private.replace(
        "[server]\n",
        "[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\n",
    );
    assert!(parse(&trusting).unwrap().warnings.is_empty());
}
