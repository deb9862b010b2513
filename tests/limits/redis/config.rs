//! What the configuration says about Redis.

use tollgate::config::Config;

fn findings(text: &str) -> String {
    match Config::parse("test.toml", text) {
        Ok(loaded) => panic!("it is taken: {:?}", loaded.config.redis),
        Err(findings) => findings.to_string(),
    }
}

const ROUTE: &str = "[routes.all]\nrespond = {}\nrate_limits = ['one']\n";

#[test]
fn a_limit_in_redis_needs_a_redis() {
    let limit = "[rate_limits.one]\nkey = 'client_ip'\nquota = '5/1m'\nstore = 'redis'";
    let found = findings(&format!("{ROUTE}{limit}"));
    assert!(found.contains("there is no `[redis]`"), "{found}");
}

#[test]
fn what_does_not_go_with_redis_is_refused() {
    let found = |keys: &str| {
        findings(&format!(
            "[redis]\nurl = 'redis://a'\n{ROUTE}[rate_limits.one]\nkey = 'client_ip'\n{keys}"
        ))
    };
    let held = found("quota = 5\nalgorithm = 'concurrency'\nstore = 'redis'\nlease = 2");
    assert!(held.contains("nothing is taken in advance"), "{held}");
    let large = found("quota = '5/1m'\nlease = 6\nstore = 'redis'");
    assert!(large.contains("smallest quota (5)"), "{large}");
    let overridden = found(
        "quota = '500/1m'\nlease = 50\nstore = 'redis'\noverrides = { 'role:trial' = '5/1m' }",
    );
    assert!(overridden.contains("smallest quota (5)"), "{overridden}");
    let local = found("quota = '5/1m'\nlease = 5\non_store_error = 'deny'");
    assert_eq!(
        local.matches("this limit is in memory").count(),
        2,
        "{local}"
    );
    let exact =
        "quota = '5/1m'\nalgorithm = 'sliding_window'\nexact = true\nlease = 2\nstore = 'redis'";
    assert!(found(exact).contains("not exact"));
}

#[test]
fn a_cluster_has_no_numbered_databases() {
    let text = |last: &str| {
        format!("[redis]\nurl = ['redis://a/0', 'redis://b{last}']\n[routes.all]\nrespond = {{}}")
    };
    for fine in ["", "/", "/0"] {
        assert!(Config::parse("test.toml", &text(fine)).is_ok(), "{fine}");
    }
    let found = findings(&text("/2"));
    assert!(found.contains("database 0 alone"), "{found}");
}

#[test]
fn a_cluster_is_asked_about_one_key_at_a_time_anyway() {
    let text = "[redis]\nurl = ['redis://a', 'redis://b']\none_key_per_call = true\n[routes.all]\nrespond = {}";
    let warnings = Config::parse("test.toml", text)
        .unwrap()
        .warnings
        .to_string();
    assert!(
        warnings.contains("`one_key_per_call` has no effect"),
        "{warnings}"
    );
}

#[test]
fn a_password_is_never_shown() {
    for url in [
        "redis://user:hidden@host:99999",
        "redis://:hid/hidden#hidden@host",
        "http://:hidden@host",
        "redis+sentinel://:hidden@host",
    ] {
        let found = findings(&format!(
            "[redis]\nurl = '{url}'\n[routes.all]\nrespond = {{}}"
        ));
        assert!(!found.contains("hidden"), "{found}");
        assert!(found.contains("url"), "{found}");
    }
}

#[test]
fn a_password_may_come_from_the_environment_or_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "hidden").unwrap();
    let text = format!(
        "[redis]\nurl = 'redis://:${{file:{}}}@host'\n[routes.all]\nrespond = {{}}",
        file.display()
    );
    let loaded = Config::parse("test.toml", &text).unwrap();
    let redis = loaded.config.redis.unwrap();
    assert_eq!(redis.url[0].url.expose(), "redis://:hidden@host");
    assert!(!format!("{redis:?}").contains("hidden"));
}
