//! `[cache]`, `[cache_rules.*]` and the key `cache` of routes.

use std::time::Duration;

use tollgate::config::{CacheQuery, CacheRule, CacheScope, Config};

use super::{ROUTE, error, error_in, only, valid, warning};

/// A route whose key `cache` is this.
fn route(cache: &str) -> String {
    format!("[routes.a]\nupstream = \"http://127.0.0.1:3000\"\ncache = {cache}\n")
}

fn rule(config: &Config, at: usize) -> Option<&CacheRule> {
    config.routes[at].cache.as_deref()
}

#[test]
fn a_route_names_a_rule_or_has_its_own() {
    let rules = "[cache_rules.api]\ndefault_ttl = \"10s\"\n";
    let named = valid(&format!("{rules}{}", route("\"api\"")));
    let ten = Some(Duration::from_secs(10));
    assert_eq!(rule(&named, 0).unwrap().default_ttl, ten);
    let own = valid(&route("{ default_ttl = \"10s\", query = [\"q\"] }"));
    let own = rule(&own, 0).unwrap();
    assert_eq!(own.default_ttl, ten);
    assert_eq!(own.query, CacheQuery::Only(Box::new(["q".into()])));
    assert_eq!(rule(&valid(&route("{}")), 0), Some(&CacheRule::default()));
    assert_eq!(rule(&valid(&route("\"off\"")), 0), None);
}

#[test]
fn a_route_may_switch_its_groups_cache_off() {
    let config = valid(
        "[groups.g]\ncache = { scope = \"principal\" }\n\
         [routes.a]\ngroup = \"g\"\npath = \"/a\"\nupstream = \"http://127.0.0.1:1\"\n\
         [routes.b]\ngroup = \"g\"\npath = \"/b\"\nupstream = \"http://127.0.0.1:1\"\ncache = \"off\"\n",
    );
    let scope = rule(&config, 0).unwrap().scope;
    assert_eq!(
        (scope, rule(&config, 1)),
        (Some(CacheScope::Principal), None)
    );
}

#[test]
fn names_that_do_not_exist_and_keys_that_are_misspelt_get_a_suggestion() {
    let rules = "[cache_rules.api]\n";
    let (message, help) = error(&format!("{rules}{}{}", route("\"apis\""), ""));
    assert!(
        message.ends_with("there is no cache rule `apis`"),
        "{message}"
    );
    assert_eq!(help, "write `\"api\"`");
    let (message, help) = error(&route("{ default_tll = \"1s\" }"));
    assert!(message.contains("default_tll"), "{message}");
    assert!(help.contains("default_ttl"), "{help}");
    let (message, _) = error_in("cache_rules.api", "stale_if_eror = \"1s\"");
    assert!(message.contains("stale_if_eror"), "{message}");
    let (message, help) = error(&route("true"));
    assert!(
        message.contains("expected the name of a cache rule"),
        "{message}"
    );
    assert!(help.contains("cache = {}"), "{help}");
    let (_, help) = error(&route("{ query = \"sortd\" }"));
    assert_eq!(help, "did you mean \"sorted\"?");
    let (_, help) = error(&route("{ query = \"page\" }"));
    assert_eq!(help, "one parameter: `[\"page\"]`");
}

#[test]
fn a_lifetime_where_callers_are_known_says_for_whom() {
    let auth = "[auth.jwt.t]\nsecret = \"a secret of thirty-two bytes or more\"\n";
    let with = |auth_key: &str, cache: &str| {
        let route = route(cache);
        format!(
            "{auth}{route}auth = {auth_key}\n[routes.b]\npath = \"/b\"\nauth = \"jwt.t\"\nrespond = {{}}\n"
        )
    };
    for ttl in [
        "default_ttl = \"1s\"",
        "override_ttl = \"1s\"",
        "heuristics = true",
    ] {
        let finding = only(&with("\"jwt.t\"", &format!("{{ {ttl} }}")));
        assert!(
            finding.message.contains("but not for whom"),
            "{}",
            finding.message
        );
        assert!(finding.help.unwrap().contains("scope = \"principal\""));
        for scope in ["principal", "shared"] {
            valid(&with(
                "\"jwt.t\"",
                &format!("{{ {ttl}, scope = \"{scope}\" }}"),
            ));
        }
        valid(&with("\"public\"", &format!("{{ {ttl} }}")));
    }
    valid(&with("\"jwt.t\"", "{}"));
}

#[test]
fn one_answer_takes_a_quarter_of_the_memory_at_most() {
    let (message, help) = error_in("cache", "memory = \"16MiB\"");
    assert!(message.contains("a quarter of `memory`"), "{message}");
    assert!(help.contains("\"4MiB\""), "{help}");
    let (message, _) = error_in("cache", "memory = \"8MiB\"\nmax_object = \"3MiB\"");
    assert!(message.starts_with("3:14 "), "{message}");
    let text = format!(
        "[cache]\nmemory = \"8MiB\"\nmax_object = \"2MiB\"\n{}",
        route("{}")
    );
    valid(&text);
}

#[test]
fn credentials_are_no_part_of_a_key() {
    let (message, help) = error_in("cache_rules.api", "key_headers = [\"Authorization\"]");
    assert!(message.contains("kept out of keys"), "{message}");
    assert!(help.contains("scope = \"principal\""), "{help}");
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let (message, _) = warning(&format!("[cache_rules.api]\n{ROUTE}"));
    assert!(
        message.contains("no route uses the cache rule `api`"),
        "{message}"
    );
    let text = "[routes.a]\nrespond = {}\ncache = {}\n";
    assert!(only(text).message.contains("the gateway answers itself"));
    let both = route("{ default_ttl = \"1s\", override_ttl = \"1s\" }");
    assert!(
        only(&both)
            .message
            .contains("no effect beside `override_ttl`")
    );
}
