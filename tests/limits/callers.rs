//! Limits by caller: persons and not tokens, tiers, and who brings its own quota.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{Limited, admin};
use crate::support::KeysFile;

const SECRET: &str = "a secret of at least 32 bytes, for tests";

/// A header line with a token.
fn token(claims: Value) -> String {
    let mut claims = claims;
    claims["exp"] = json!(4_000_000_000_u64);
    claims["iss"] = json!("https://id.test/");
    claims["aud"] = json!("api");
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = encode(&Header::default(), &claims, &key).expect("it signs");
    format!("Authorization: Bearer {token}\r\n")
}

fn of(subject: &str) -> String {
    token(json!({ "sub": subject }))
}

/// The same of somebody with roles.
pub(super) fn with_roles(subject: &str, roles: &[&str]) -> String {
    token(json!({ "sub": subject, "roles": roles }))
}

/// How tokens are checked.
pub(super) fn checked() -> String {
    format!(
        "[auth.jwt.main]\nissuer = 'https://id.test/'\naudience = 'api'\nsecret = '{SECRET}'\nroles_claim = 'roles'\n"
    )
}

/// A route behind tokens, or without a credential, with limits.
fn behind(limits: &str, tables: &str) -> Limited {
    Limited::start(&text(limits, tables))
}

fn text(limits: &str, tables: &str) -> String {
    format!(
        "{}[routes.all]\nrespond = {{ body = 'ok' }}\nauth = ['jwt.main', 'anonymous']\nrate_limits = {limits}\n{tables}",
        checked()
    )
}

fn by(keys: &str) -> Limited {
    behind("['one']", &one(keys))
}

fn one(keys: &str) -> String {
    format!("[rate_limits.one]\n{keys}")
}

/// A limit of callers, and the quota of those who have the role.
fn tiers(algorithm: &str, quota: &str, gold: &str) -> String {
    one(&format!(
        "key = 'caller'\nquota = '{quota}'\n{algorithm}\n[rate_limits.one.overrides]\n'role:gold' = '{gold}'\n"
    ))
}

/// Each algorithm, and how many quotas it may let into a stretch as long as the window.
const ALGORITHMS: [(&str, usize); 4] = [
    ("algorithm = 'token_bucket'", 2),
    ("algorithm = 'fixed_window'", 2),
    ("algorithm = 'sliding_window'", 2),
    (EXACT, 1),
];
const EXACT: &str = "algorithm = 'sliding_window'\nexact = true\nmax_keys = 1000";

#[tokio::test]
async fn two_tokens_of_one_person_share_a_limit() {
    let limited = by("key = 'caller'\nquota = '3/1h'");
    let (one, other) = (of("alice"), token(json!({ "sub": "alice", "jti": "2" })));
    assert_ne!(one, other);
    assert_eq!(limited.passed(2, &one).await, 2);
    assert_eq!(limited.passed(3, &other).await, 1);
    assert_eq!(limited.passed(1, &of("bob")).await, 1);
}

#[tokio::test]
async fn a_limit_by_principal_leaves_others_to_their_address() {
    let limited = by("key = 'principal'\nquota = '2/1h'");
    assert_eq!(limited.passed(3, &of("alice")).await, 2);
    assert_eq!(limited.passed(3, &of("bob")).await, 2);
    assert_eq!(limited.passed(3, "").await, 2);
    let skipping = by("key = 'principal'\nquota = '2/1h'\non_missing_key = 'skip'");
    assert_eq!(skipping.passed(3, &of("alice")).await, 2);
    assert_eq!(skipping.passed(5, "").await, 5);
}

#[tokio::test]
async fn who_is_not_known_is_counted_by_its_address() {
    let limited = by("key = 'caller'\nquota = '5/1h'\nanonymous = '2/1h'");
    assert_eq!(limited.passed(4, "").await, 2);
    assert_eq!(limited.passed(7, &of("alice")).await, 5);
}

#[tokio::test]
async fn principals_and_roles_have_quotas_of_their_own() {
    let limited = by("key = 'caller'\nquota = '1/1h'\n\
         [rate_limits.one.overrides]\n'jwt.main:carol' = '4/1h'\n'role:silver' = '2/1h'\n'role:gold' = '3/1h'\n");
    let with = |subject: &str, roles: &[&str]| token(json!({ "sub": subject, "roles": roles }));
    assert_eq!(limited.passed(6, &with("alice", &[])).await, 1);
    assert_eq!(limited.passed(6, &with("bob", &["silver"])).await, 2);
    assert_eq!(
        limited.passed(6, &with("dave", &["silver", "gold"])).await,
        3
    );
    assert_eq!(limited.passed(6, &with("carol", &["silver"])).await, 4);
}

#[tokio::test]
async fn exempt_principals_and_roles_are_not_limited() {
    let limited = by("key = 'caller'\nquota = '1/1h'\nexempt = ['jwt.main:alice', 'role:admin']");
    assert_eq!(limited.passed(3, &of("alice")).await, 3);
    let admin = token(json!({ "sub": "x", "roles": ["admin"] }));
    assert_eq!(limited.passed(3, &admin).await, 3);
    assert_eq!(limited.passed(3, &of("bob")).await, 1);
}

#[tokio::test]
async fn claims_and_roles_are_keys() {
    let limited = by("key = 'claim:tenant'\nquota = '2/1h'");
    let with = |subject: &str, tenant: Value| token(json!({ "sub": subject, "tenant": tenant }));
    assert_eq!(limited.passed(1, &with("alice", json!("t1"))).await, 1);
    assert_eq!(limited.passed(3, &with("bob", json!("t1"))).await, 1);
    assert_eq!(limited.passed(3, &with("bob", json!(2))).await, 2);
    // No tenant, or none that could be a key: by address.
    assert_eq!(limited.passed(1, &with("bob", json!({ "a": 1 }))).await, 1);
    assert_eq!(limited.passed(3, &of("carol")).await, 1);
    let roles = by("key = 'role'\nquota = '2/1h'\non_missing_key = 'refuse'");
    let gold = |subject: &str| token(json!({ "sub": subject, "roles": ["gold", "x"] }));
    assert_eq!(roles.passed(1, &gold("alice")).await, 1);
    assert_eq!(roles.passed(3, &gold("bob")).await, 1);
    assert_eq!(
        roles.with(&of("carol")).await.refusal().1,
        "limit.key_missing"
    );
}

#[tokio::test]
async fn a_limit_by_address_spares_authentication() {
    let limited = behind(
        "['guessing', 'one']",
        "[rate_limits.guessing]\nkey = 'client_ip'\nquota = '3/1h'\n\
         [rate_limits.one]\nkey = 'caller'\nquota = '100/1h'\n",
    );
    let guess = "Authorization: Bearer nonsense\r\n";
    let mut reasons = Vec::new();
    for _ in 0..5 {
        let answer = limited.with(guess).await;
        assert!(
            answer
                .header("ratelimit")
                .expect("a field")
                .starts_with("\"guessing\";r=")
        );
        reasons.push(answer.status);
    }
    assert_eq!(reasons, [401, 401, 401, 429, 429]);
    assert_eq!(limited.with(&of("alice")).await.status, 429);
}

#[tokio::test]
async fn a_key_brings_its_own_quota() {
    let mut file = KeysFile::new();
    let (plain, bringing) = (
        file.add("plain", ""),
        file.add("bringing", "quota = ['4/1h', '100/1d']"),
    );
    let named = file.add("named", "quota = '4/1h'");
    let limited = Limited::start(&format!(
        "[auth.api_keys.partners]\nkeys_file = '{}'\n\
         [routes.all]\nrespond = {{ body = 'ok' }}\nauth = 'api_keys.partners'\nrate_limits = ['one', 'slots']\n\
         [rate_limits.one]\nkey = 'api_key'\nquota = '2/1h'\n\
         [rate_limits.one.overrides]\n'api_keys.partners:named' = '3/1h'\n\
         [rate_limits.slots]\nkey = 'caller'\nquota = 100\nalgorithm = 'concurrency'\n",
        file.path().display()
    ));
    let with = |key: &str| format!("X-Api-Key: {key}\r\n");
    assert_eq!(limited.passed(6, &with(&plain)).await, 2);
    assert_eq!(limited.passed(3, &with(&named)).await, 3);
    let answer = limited.with(&with(&bringing)).await;
    let policies = answer.all("ratelimit-policy").join(", ");
    assert!(
        policies.starts_with("\"one-1h\";q=4;w=3600, \"one-1d\";q=100;w=86400"),
        "{policies}"
    );
    assert_eq!(limited.passed(6, &with(&bringing)).await, 3);
}

#[tokio::test]
async fn a_limit_by_api_key_does_not_count_who_shows_a_token() {
    let mut file = KeysFile::new();
    let (one, other) = (file.add("one", ""), file.add("other", ""));
    let limited = Limited::start(&format!(
        "[auth.jwt.main]\nissuer = 'https://id.test/'\naudience = 'api'\nsecret = '{SECRET}'\n\
         [auth.api_keys.partners]\nkeys_file = '{}'\n\
         [routes.all]\nrespond = {{ body = 'ok' }}\nauth = ['jwt.main', 'api_keys.partners']\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'api_key'\nquota = '2/1h'\non_missing_key = 'skip'\n",
        file.path().display()
    ));
    for key in [&one, &other] {
        let line = format!("X-Api-Key: {key}\r\n");
        assert_eq!(limited.passed(4, &line).await, 2);
    }
    assert_eq!(limited.passed(4, &of("alice")).await, 4);
}

#[tokio::test]
async fn who_is_refused_before_a_limit_by_caller_is_not_charged_there() {
    let limited = Limited::start(&format!(
        "[auth.jwt.main]\nissuer = 'https://id.test/'\naudience = 'api'\nsecret = '{SECRET}'\nroles_claim = 'roles'\n\
         [roles.reader]\n[routes.all]\nrespond = {{ body = 'ok' }}\nauth = 'jwt.main'\nroles = 'reader'\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'caller'\nquota = '2/1h'\n"
    ));
    let reader = token(json!({ "sub": "alice", "roles": ["reader"] }));
    for _ in 0..4 {
        let guess = limited.with("Authorization: Bearer nonsense\r\n").await;
        assert_eq!((guess.status, guess.header("ratelimit")), (401, None));
        let denied = limited.with(&of("alice")).await;
        assert_eq!((denied.status, denied.header("ratelimit")), (403, None));
    }
    assert_eq!(limited.passed(4, &reader).await, 2);
}

#[tokio::test]
async fn who_shares_a_key_with_callers_of_a_faster_quota_pays_its_own_debt() {
    let with = |subject: &str, roles: &[&str]| {
        token(json!({ "sub": subject, "tenant": "t1", "roles": roles }))
    };
    let (alice, gold) = (with("alice", &[]), with("bob", &["gold"]));
    for algorithm in ["token_bucket", "fixed_window", "sliding_window"] {
        let limited = by(&format!(
            "key = 'claim:tenant'\nquota = '2/1h'\nalgorithm = '{algorithm}'\n\
             [rate_limits.one.overrides]\n'role:gold' = '100/1s'\n"
        ));
        assert_eq!(limited.passed(4, &alice).await, 2, "{algorithm}");
        for _ in 0..3 {
            assert_eq!(limited.passed(1, &gold).await, 1, "{algorithm}");
            limited.later(2.0);
            assert_eq!(limited.passed(1, &alice).await, 0, "{algorithm}");
        }
    }
}

#[tokio::test]
async fn a_key_that_callers_share_is_reset_for_all_of_them() {
    let with = |subject: &str, roles: &[&str]| {
        token(json!({ "sub": subject, "tenant": "t1", "roles": roles }))
    };
    let (alice, gold) = (with("alice", &[]), with("bob", &["gold"]));
    let limited = by("key = 'claim:tenant'\nquota = '2/1h'\n\
         [rate_limits.one.overrides]\n'role:gold' = '5/1h'\n");
    let path = "/api/limits/one/keys/t1";
    assert_eq!(limited.passed(6, &gold).await, 5);
    // Nobody has used anything of the limit's own quota.
    let window = admin::get(&limited, path).await["data"]["windows"][0].clone();
    assert_eq!(
        (&window["quota"], &window["remaining"]),
        (&json!(5), &json!(0))
    );
    assert_eq!(limited.passed(1, &alice).await, 1);
    let window = admin::get(&limited, path).await["data"]["windows"][0].clone();
    assert_eq!(
        (&window["quota"], &window["remaining"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(admin::ask(&limited, "DELETE", path).await.status, 204);
    assert_eq!(limited.passed(6, &gold).await, 5);
    assert_eq!(limited.passed(3, &alice).await, 2);
}

#[tokio::test]
async fn a_key_brings_no_more_to_an_exact_window_than_one_may_keep() {
    let mut file = KeysFile::new();
    let key = file.add("much", "quota = '5000000/1h'");
    let limited = Limited::start(&format!(
        "[auth.api_keys.partners]\nkeys_file = '{}'\n\
         [routes.all]\nrespond = {{ body = 'ok' }}\nauth = 'api_keys.partners'\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'api_key'\nquota = '2/1h'\nalgorithm = 'sliding_window'\nexact = true\nmax_keys = 1000\n",
        file.path().display()
    ));
    let answer = limited.with(&format!("X-Api-Key: {key}\r\n")).await;
    let policy = answer.header("ratelimit-policy");
    assert_eq!(policy, Some("\"one\";q=1000;w=3600"));
}

#[tokio::test]
async fn a_tier_of_a_short_time_frees_nothing_of_one_of_a_long_time() {
    let (gold, plain) = (with_roles("alice", &["gold"]), of("alice"));
    for (algorithm, _) in ALGORITHMS {
        let limited = behind("['one']", &tiers(algorithm, "10/1s", "8/1d"));
        assert_eq!(limited.passed(12, &gold).await, 8, "{algorithm}");
        for _ in 0..3 {
            assert_eq!(limited.passed(1, &plain).await, 1, "{algorithm}");
            limited.later(4.0);
            assert_eq!(limited.passed(2, &gold).await, 0, "{algorithm}");
        }
    }
}

#[tokio::test]
async fn each_of_two_tiers_keeps_its_quota_however_requests_under_them_come() {
    const TIERS: [(usize, Duration); 2] =
        [(5, Duration::from_secs(1)), (9, Duration::from_secs(20))];
    let callers = [of("alice"), with_roles("alice", &["gold"])];
    for (algorithm, quotas) in ALGORITHMS {
        let limited = behind("['one']", &tiers(algorithm, "5/1s", "9/20s"));
        let mut random = fastrand::Rng::with_seed(7);
        // When each was sent, and when it was answered: between the two it was counted.
        let mut passed = [Vec::new(), Vec::new()];
        for _ in 0..150 {
            if random.u8(..) < 80 {
                limited.later(random.f64() * 0.7);
            }
            let which = random.usize(..2);
            let sent = limited.clock.now();
            if limited.passed(1, &callers[which]).await == 1 {
                passed[which].push((sent, limited.clock.now()));
            }
        }
        for (passed, (quota, per)) in passed.iter().zip(TIERS) {
            let within = passed.iter().map(|(begin, _)| {
                let ends = passed.iter().filter(|(sent, _)| sent >= begin);
                ends.filter(|(_, end)| *end - *begin < per).count()
            });
            let most = within.max().unwrap_or(0);
            assert!(most <= quotas * quota, "{algorithm}: {most} of {quota}");
        }
    }
}

#[tokio::test]
async fn tiers_of_the_same_time_are_one_counter() {
    let (gold, plain) = (with_roles("alice", &["gold"]), of("alice"));
    for (algorithm, _) in ALGORITHMS {
        let limited = behind("['one']", &tiers(algorithm, "3/1d", "8/1d"));
        assert_eq!(limited.passed(6, &gold).await, 6, "{algorithm}");
        assert_eq!(limited.passed(1, &plain).await, 0, "{algorithm}");
        assert_eq!(limited.passed(4, &gold).await, 2, "{algorithm}");
    }
}

#[tokio::test]
async fn tiers_of_the_same_time_that_is_not_the_limit_s_own_are_one_counter() {
    let of = |role: &str| with_roles("alice", &[role]);
    let limited = by("key = 'caller'\nquota = '2/1s'\n\
         [rate_limits.one.overrides]\n'role:gold' = '8/1d'\n'role:silver' = '3/1d'\n");
    assert_eq!(limited.passed(6, &of("gold")).await, 6);
    assert_eq!(limited.passed(1, &of("silver")).await, 0);
    assert_eq!(limited.passed(4, &of("gold")).await, 2);
}

#[tokio::test]
async fn an_address_that_callers_of_several_tiers_share_frees_nothing_by_one_of_them() {
    let limited = by("key = 'api_key'\nquota = '10/1s'\nanonymous = '3/1d'\n");
    assert_eq!(limited.passed(5, "").await, 3);
    assert_eq!(limited.passed(1, &of("alice")).await, 1);
    limited.later(4.0);
    assert_eq!(limited.passed(1, "").await, 0);
}

#[tokio::test]
async fn who_has_no_api_key_pays_its_own_debt_at_an_address_that_it_shares_with_a_faster_quota() {
    let (bob, gold) = (of("bob"), with_roles("alice", &["gold"]));
    for algorithm in ["token_bucket", "fixed_window", "sliding_window"] {
        let limited = by(&format!(
            "key = 'api_key'\nquota = '5/1h'\nalgorithm = '{algorithm}'\n\
             [rate_limits.one.overrides]\n'role:gold' = '36000/1h'\n"
        ));
        // Nor does the faster one use up what is the other's.
        assert_eq!(limited.passed(6, &gold).await, 6, "{algorithm}");
        assert_eq!(limited.passed(7, &bob).await, 5, "{algorithm}");
        for _ in 0..5 {
            assert_eq!(limited.passed(1, &gold).await, 1, "{algorithm}");
            limited.later(0.2);
            assert_eq!(limited.passed(1, &bob).await, 0, "{algorithm}");
        }
    }
}

#[tokio::test]
async fn an_address_that_stands_for_callers_without_an_api_key_is_seen_and_reset_for_all_of_them() {
    let limited = by("key = 'api_key'\nquota = '3/1h'\nanonymous = '2/1h'\n\
         [rate_limits.one.overrides]\n'role:gold' = '5/1h'\n'jwt.main:carol' = '4/1h'\n");
    let gold = with_roles("alice", &["gold"]);
    let path = "/api/limits/one/keys/127.0.0.1";
    let seen = async || {
        let window = admin::get(&limited, path).await["data"]["windows"][0].clone();
        (window["quota"].clone(), window["remaining"].clone())
    };
    for _ in 0..2 {
        assert_eq!(admin::ask(&limited, "GET", path).await.status, 404);
        assert_eq!(limited.passed(6, &of("carol")).await, 4);
        assert_eq!(seen().await, (json!(4), json!(0)));
        assert_eq!(limited.passed(6, &gold).await, 5);
        assert_eq!(seen().await, (json!(5), json!(0)));
        assert_eq!(limited.passed(1, &of("bob")).await, 1);
        assert_eq!(seen().await, (json!(3), json!(2)));
        assert_eq!(limited.passed(3, &of("dave")).await, 2);
        assert_eq!(limited.passed(3, "").await, 2);
        assert_eq!(seen().await, (json!(2), json!(0)));
        assert_eq!(admin::ask(&limited, "DELETE", path).await.status, 204);
    }
}

#[tokio::test]
async fn a_tier_of_another_time_keeps_what_was_used_when_its_quota_changes() {
    let gold = with_roles("alice", &["gold"]);
    let with = |quota: &str| text("['one']", &tiers("", "10/1s", quota));
    let limited = Limited::start(&with("5/1d"));
    assert_eq!(limited.passed(6, &gold).await, 5);
    limited.gateway.apply(&with("7/1d"));
    assert_eq!(limited.passed(4, &gold).await, 2);
    // Another time is another counter.
    limited.gateway.apply(&with("7/2d"));
    assert_eq!(limited.passed(8, &gold).await, 7);
}

#[tokio::test]
async fn a_caller_is_seen_and_reset_under_each_of_its_tiers() {
    let (gold, plain) = (with_roles("alice", &["gold"]), of("alice"));
    let limited = behind("['one']", &tiers("", "2/1h", "5/1d"));
    let path = "/api/limits/one/keys/jwt.main:alice";
    let seen = async || {
        let window = admin::get(&limited, path).await["data"]["windows"][0].clone();
        (window["quota"].clone(), window["remaining"].clone())
    };
    assert_eq!(limited.passed(6, &gold).await, 5);
    assert_eq!(seen().await, (json!(5), json!(0)));
    assert_eq!(limited.passed(1, &plain).await, 1);
    assert_eq!(seen().await, (json!(2), json!(1)));
    assert_eq!(admin::ask(&limited, "DELETE", path).await.status, 204);
    assert_eq!(admin::ask(&limited, "GET", path).await.status, 404);
    assert_eq!(limited.passed(6, &gold).await, 5);
    assert_eq!(limited.passed(3, &plain).await, 2);
}

#[tokio::test]
async fn a_caller_of_whom_a_quota_was_said_is_seen_by_that_one() {
    let limited = by("key = 'caller'\nquota = '2/1h'\nanonymous = '3/1m'\n\
         [rate_limits.one.overrides]\n'role:gold' = '5/1d'\n'jwt.main:alice' = '7/1d'\n");
    let quota = async |name: &str| {
        let path = format!("/api/limits/one/keys/{name}");
        admin::get(&limited, &path).await["data"]["windows"][0]["quota"].clone()
    };
    assert_eq!(limited.passed(1, &of("alice")).await, 1);
    assert_eq!(limited.passed(1, "").await, 1);
    assert_eq!(quota("jwt.main:alice").await, json!(7));
    assert_eq!(quota("127.0.0.1").await, json!(3));
}
