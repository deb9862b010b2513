//! What the configuration says about answers in Redis.

use tollgate::config::{CacheTier, Config};

fn findings(text: &str) -> String {
    match Config::parse("test.toml", text) {
        Ok(_) => panic!("it is taken"),
        Err(findings) => findings.to_string(),
    }
}

fn stores(store: &str) -> Vec<CacheTier> {
    let text = format!(
        "[redis]\nurl = 'redis://a'\n[routes.all]\nupstream = 'http://127.0.0.1:1'\n\
         [routes.all.cache]\n{store}"
    );
    let config = Config::parse("test.toml", &text)
        .expect("it is right")
        .config;
    let rule = config.routes[0].cache.as_ref().expect("a rule");
    rule.store.clone()
}

#[test]
fn answers_in_redis_need_a_redis() {
    let route = "[routes.all]\nupstream = 'http://127.0.0.1:1'\n";
    let named = findings(&format!(
        "{route}cache = 'x'\n[cache_rules.x]\nstore = 'redis'"
    ));
    assert!(named.contains("`x` are kept in Redis"), "{named}");
    assert!(named.contains("test.toml:4"), "{named}");
    let own = findings(&format!("{route}cache = {{ store = ['memory', 'redis'] }}"));
    assert!(own.contains("there is no `[redis]`"), "{own}");
    assert!(own.contains("test.toml:3"), "{own}");
}

#[test]
fn a_rule_names_one_tier_or_both() {
    assert_eq!(stores(""), [CacheTier::Memory]);
    assert_eq!(stores("store = 'redis'"), [CacheTier::Redis]);
    let both = [CacheTier::Memory, CacheTier::Redis];
    assert_eq!(stores("store = ['memory', 'redis']"), both);
}
