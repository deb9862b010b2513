//! API keys: who is let in, where and when, and a file that changes under a running gateway.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use tollgate::exchange::Clock;

use crate::{
    signer::{Signer, alice},
    support::{Answer, Gateway, KeysFile, Origin, Raw, eventually, new_key},
};

const DAY: Duration = Duration::from_secs(86_400);

/// A gateway with keys in a file and a route `orders`, and these further keys of the method.
fn start(file: &KeysFile, keys: &str) -> Gateway {
    start_at(file, keys, Clock::system())
}

fn start_at(file: &KeysFile, keys: &str, clock: Clock) -> Gateway {
    let path = file.path();
    let text = format!(
        "[auth.api_keys.partners]\nkeys_file = '{}'\n{keys}\n\
         [routes.orders]\nauth = 'api_keys.partners'\nrespond = {{ body = 'here' }}\n\
         [routes.other]\npath = '/other'\nauth = 'api_keys.partners'\nrespond = {{ body = 'there' }}\n",
        path.display()
    );
    Gateway::start_at(&text, clock)
}

async fn ask(gateway: &Gateway, path: &str, fields: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    Raw::ask(gateway.address(), request).await
}

async fn with_key(gateway: &Gateway, key: &str) -> Answer {
    ask(gateway, "/", &format!("X-Api-Key: {key}\r\n")).await
}

/// Status and reason of a request with a key.
async fn outcome(gateway: &Gateway, key: &str) -> (u16, String) {
    with_key(gateway, key).await.refusal()
}

fn refused(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

fn let_in() -> (u16, String) {
    refused(200, "")
}

#[tokio::test]
async fn a_key_lets_in_and_names_the_caller() {
    let mut file = KeysFile::new();
    let key = file.add("partner-7", "");
    let gateway = start(&file, "");
    assert_eq!(with_key(&gateway, &key).await.text(), "here");
    let line = gateway.log_line().await;
    assert_eq!(line["principal"], "api_keys.partners:partner-7");
    assert!(!line.to_string().contains(&key[4..]));
}

#[tokio::test]
async fn a_request_without_a_key_is_challenged() {
    let gateway = start(&KeysFile::new(), "");
    let answer = ask(&gateway, "/", "").await;
    assert_eq!(answer.refusal(), refused(401, "auth.missing"));
    assert_eq!(
        answer.header("www-authenticate"),
        Some("ApiKey realm=\"tollgate\"")
    );
}

#[tokio::test]
async fn a_mistyped_key_is_malformed_and_one_of_elsewhere_is_unknown() {
    let mut file = KeysFile::new();
    let key = file.add("a", "");
    let gateway = start(&file, "");
    let swapped = format!(
        "{}{}",
        &key[..52],
        if key.ends_with('x') { 'y' } else { 'x' }
    );
    for wrong in [&swapped, "secret", "tgk_", &key[..52]] {
        let expected = refused(401, "auth.api_key.malformed");
        assert_eq!(outcome(&gateway, wrong).await, expected, "{wrong}");
    }
    let (elsewhere, _) = new_key();
    let expected = refused(401, "auth.api_key.unknown");
    assert_eq!(outcome(&gateway, &elsewhere).await, expected);
}

#[tokio::test]
async fn times_of_a_key_are_checked_at_each_use() {
    let mut file = KeysFile::new();
    let clock = Clock::movable();
    let date = |days: u32| tollgate::config::date_of(clock.wall() + DAY * days);
    let from = file.add("from", &format!("not_before = {}", date(2)));
    let until = file.add("until", &format!("expires = {}", date(2)));
    let (old, hash) = new_key();
    let lines = format!("previous = [{{ hash = \"{hash}\", until = {} }}]", date(2));
    let new = file.add("rotated", &lines);
    let revoked = file.add("revoked", &format!("revoked = {}", date(0)));
    let gateway = start_at(&file, "", clock.clone());
    let not_yet = refused(401, "auth.api_key.not_yet_valid");
    let expired = refused(401, "auth.api_key.expired");
    let gone = refused(401, "auth.api_key.revoked");
    let keys = [&from, &until, &old, &new, &revoked];
    for expected in [
        [&not_yet, &let_in(), &let_in(), &let_in(), &gone],
        [&let_in(), &expired, &expired, &let_in(), &gone],
    ] {
        for (key, expected) in keys.iter().zip(expected) {
            assert_eq!(outcome(&gateway, key).await, *expected);
        }
        clock.advance(DAY * 3);
    }
}

#[tokio::test]
async fn a_key_is_good_on_its_routes_and_from_its_networks_only() {
    let mut file = KeysFile::new();
    let orders = file.add("orders", "routes = 'orders'");
    let near = file.add("near", "cidrs = ['127.0.0.0/8']");
    let mapped = file.add("mapped", "cidrs = ['::ffff:127.0.0.0/104']");
    let far = file.add("far", "cidrs = ['192.0.2.0/24', '2001:db8::/32']");
    let gateway = start(&file, "");
    assert_eq!(outcome(&gateway, &orders).await, let_in());
    assert_eq!(outcome(&gateway, &near).await, let_in());
    assert_eq!(outcome(&gateway, &mapped).await, let_in());
    let forbidden = refused(403, "auth.api_key.not_allowed_here");
    assert_eq!(outcome(&gateway, &far).await, forbidden);
    let other = ask(&gateway, "/other", &format!("X-Api-Key: {orders}\r\n")).await;
    assert_eq!(other.refusal(), forbidden);
}

#[tokio::test]
async fn a_key_may_do_what_its_roles_or_its_own_permissions_grant() {
    let mut file = KeysFile::new();
    let by_role = file.add("by-role", "roles = 'viewer'");
    let own = file.add("own", "permissions = 'orders:*'");
    let neither = file.add("neither", "");
    let others = file.add("others", "roles = 'clerk'\npermissions = 'invoices:*'");
    let gateway = Gateway::start(&format!(
        "[auth.api_keys.partners]\nkeys_file = '{}'\n\
         [roles.viewer]\npermissions = 'orders:read'\n\
         [roles.clerk]\npermissions = 'invoices:read'\n\
         [routes.orders]\nauth = 'api_keys.partners'\npermissions = 'orders:read'\n\
         respond = {{ body = 'here' }}\n",
        file.path().display()
    ));
    for key in [&by_role, &own] {
        assert_eq!(outcome(&gateway, key).await, let_in());
    }
    for key in [&neither, &others] {
        let expected = refused(403, "rbac.denied");
        assert_eq!(outcome(&gateway, key).await, expected);
    }
}

#[tokio::test]
async fn a_key_is_found_in_each_place_that_is_configured() {
    let mut file = KeysFile::new();
    let key = file.add("a", "");
    let from = "from = ['header:x-api-key', 'header:authorization', 'query:key']";
    let gateway = start(&file, from);
    assert_eq!(outcome(&gateway, &key).await, let_in());
    for fields in [
        format!("Authorization: ApiKey {key}\r\n"),
        format!("authorization: apikey  {key}\r\n"),
    ] {
        assert_eq!(ask(&gateway, "/", &fields).await.status, 200, "{fields}");
    }
    let answer = ask(&gateway, &format!("/?key={key}"), "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let bearer = ask(&gateway, "/", &format!("Authorization: Bearer {key}\r\n")).await;
    assert_eq!(bearer.refusal(), refused(401, "auth.missing"));
}

#[tokio::test]
async fn a_key_can_stand_behind_bearer_where_that_is_said() {
    let mut file = KeysFile::new();
    let key = file.add("a", "");
    let gateway = start(&file, "from = 'header:authorization'\nscheme = 'Bearer'");
    let of = |value: String| format!("Authorization: {value}\r\n");
    let answer = ask(&gateway, "/", &of(format!("Bearer {key}"))).await;
    assert_eq!(answer.status, 200);
    let wrong = ask(&gateway, "/", &of("Bearer x".to_owned())).await;
    assert_eq!(wrong.refusal(), refused(401, "auth.api_key.malformed"));
    assert!(
        wrong
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer realm=")
    );
}

#[tokio::test]
async fn two_keys_in_one_request_are_refused_even_if_both_are_good() {
    let mut file = KeysFile::new();
    let (one, two) = (file.add("a", ""), file.add("b", ""));
    let gateway = start(&file, "from = ['header:x-api-key', 'query:key']");
    let double = format!("X-Api-Key: {one}\r\nX-Api-Key: {two}\r\n");
    let ambiguous = refused(400, "auth.ambiguous");
    assert_eq!(ask(&gateway, "/", &double).await.refusal(), ambiguous);
    let single = format!("X-Api-Key: {one}\r\n");
    let both = ask(&gateway, &format!("/?key={one}"), &single).await;
    assert_eq!(both.refusal(), ambiguous);
}

#[tokio::test]
async fn the_upstream_does_not_get_the_key_where_it_should_not() {
    let mut file = KeysFile::new();
    let key = file.add("a", "");
    let origin = Origin::ok().await;
    let text = format!(
        "[auth.api_keys.partners]\nkeys_file = '{}'\nfrom = ['header:x-api-key', 'query:key']\n\
         [defaults]\nauth = 'api_keys.partners'\n",
        file.path().display()
    );
    let routes = format!(
        "[routes.kept]\npath = '/kept'\nupstream = '{0}'\n\
         [routes.taken]\npath = '/taken'\nforward_credentials = false\nupstream = '{0}'\n",
        origin.url()
    );
    let gateway = Gateway::start(&format!("{text}{routes}"));
    let field = format!("X-Api-Key: {key}\r\n");
    assert_eq!(ask(&gateway, "/kept", &field).await.status, 200);
    assert_eq!(ask(&gateway, "/taken", &field).await.status, 200);
    assert_eq!(
        ask(&gateway, &format!("/taken?key={key}&x=1"), "")
            .await
            .status,
        200
    );
    let requests = origin.requests();
    assert_eq!(requests[0].header("x-api-key"), Some(&*key));
    assert_eq!(requests[1].header("x-api-key"), None);
    assert_eq!(requests[2].target(), "/taken?x=1");
}

/// An Authorization of another scheme is no key of ours: it is for the upstream.
#[tokio::test]
async fn a_key_is_taken_out_of_authorization_and_what_has_another_scheme_is_not() {
    let mut file = KeysFile::new();
    let key = file.add("a", "");
    let signer = Signer::new(Algorithm::HS256);
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[auth.api_keys.partners]\nkeys_file = '{}'\nfrom = 'header:authorization'\n\
         forward_credentials = false\n\
         [auth.jwt.main]\n{}\nfrom = 'cookie:t'\n\
         [routes.all]\nauth = ['api_keys.partners', 'jwt.main']\nupstream = '{}'\n",
        file.path().display(),
        signer.keys(),
        origin.url()
    ));
    let cookie = format!("Cookie: t={}\r\n", signer.token(&alice()));
    for (fields, passed) in [
        (format!("Authorization: ApiKey {key}\r\n"), None),
        (format!("{cookie}Authorization: apikey  {key}\r\n"), None),
        (
            format!("{cookie}Authorization: Basic YTpi\r\n"),
            Some("Basic YTpi"),
        ),
    ] {
        assert_eq!(ask(&gateway, "/", &fields).await.refusal(), let_in());
        let requests = origin.requests();
        let seen = requests.last().unwrap();
        assert_eq!(seen.header("authorization"), passed, "{fields}");
    }
    assert!(!origin.received().contains(&key));
}

/// Whoever reaches the proxy may write what it likes to the left of what the proxy itself has seen.
#[tokio::test]
async fn the_networks_of_a_key_are_about_the_client_behind_trusted_proxies() {
    let mut file = KeysFile::new();
    let key = file.add("far", "cidrs = ['192.0.2.0/24']");
    let gateway = start(&file, "[server]\ntrusted_proxies = ['127.0.0.1']");
    let forbidden = refused(403, "auth.api_key.not_allowed_here");
    for (forwarded, expected) in [
        ("", &forbidden),
        ("X-Forwarded-For: 192.0.2.7\r\n", &let_in()),
        ("X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n", &let_in()),
        ("X-Forwarded-For: 192.0.2.7, 203.0.113.9\r\n", &forbidden),
        (
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 203.0.113.9\r\n",
            &forbidden,
        ),
    ] {
        let fields = format!("{forwarded}X-Api-Key: {key}\r\n");
        let answer = ask(&gateway, "/", &fields).await;
        assert_eq!(answer.refusal(), *expected, "{forwarded}");
    }
}

#[tokio::test]
async fn a_changed_file_takes_effect_without_a_reload() {
    let mut file = KeysFile::new();
    let first = file.add("first", "");
    let gateway = start(&file, "");
    assert_eq!(outcome(&gateway, &first).await, let_in());
    let second = file.add("second", "");
    was_read(&gateway, 2.0).await;
    assert_eq!(outcome(&gateway, &second).await, let_in());
    file.replace("");
    was_read(&gateway, 3.0).await;
    let unknown = refused(401, "auth.api_key.unknown");
    assert_eq!(outcome(&gateway, &first).await, unknown);
}

/// Waits until the file was read so often.
fn was_read(gateway: &Gateway, times: f64) -> impl Future<Output = ()> {
    let labels = ["owner=\"api_keys.partners\"", "success"];
    eventually(move || gateway.metric("tollgate_file_reads_total", &labels) >= times)
}

#[tokio::test]
async fn a_broken_file_keeps_the_old_keys_and_says_so() {
    let mut file = KeysFile::new();
    let key = file.add("a", "");
    let gateway = start(&file, "");
    let owner = "owner=\"api_keys.partners\"";
    let good = || gateway.metric("tollgate_file_last_read_successful", &[owner]);
    let failed = || gateway.metric("tollgate_file_reads_total", &[owner, "failure"]);
    assert_eq!((good(), failed()), (1.0, 0.0));
    file.replace("[keys.a]\nhash = 'nonsense'\n");
    eventually(|| failed() == 1.0).await;
    assert_eq!(good(), 0.0);
    assert_eq!(outcome(&gateway, &key).await, let_in());
    file.replace(file.text());
    eventually(|| good() == 1.0).await;
    assert_eq!(outcome(&gateway, &key).await, let_in());
}

#[tokio::test]
async fn made_up_keys_are_limited_by_address_and_good_ones_are_not() {
    let mut file = KeysFile::new();
    let key = file.add("a", "");
    let clock = Clock::movable();
    let gateway = start_at(&file, "[auth]\nfailures = '3/1m'", clock.clone());
    for _ in 0..3 {
        assert_eq!(outcome(&gateway, "wrong").await.0, 401);
    }
    let answer = with_key(&gateway, "wrong").await;
    assert_eq!(answer.refusal(), refused(429, "auth.too_many_failures"));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(answer.header("www-authenticate"), None);
    assert_eq!(outcome(&gateway, &key).await, let_in());
    assert_eq!(
        ask(&gateway, "/", "").await.refusal(),
        refused(401, "auth.missing")
    );
    clock.advance(Duration::from_secs(wait));
    assert_eq!(outcome(&gateway, "wrong").await.0, 401);
    assert_eq!(outcome(&gateway, "wrong").await.0, 429);
}

#[tokio::test]
async fn expired_keys_and_missing_ones_are_no_failures() {
    let mut file = KeysFile::new();
    let expired = file.add("a", "expires = 2001-01-01");
    let gateway = start(&file, "[auth]\nfailures = '2/1m'");
    for _ in 0..5 {
        assert_eq!(outcome(&gateway, &expired).await.0, 401);
        assert_eq!(ask(&gateway, "/", "").await.status, 401);
    }
}

/// As with two issuers: one of the route's files knows it, and the other's word does not count.
#[tokio::test]
async fn a_key_that_another_file_does_not_know_is_no_failure() {
    let (one, mut other) = (KeysFile::new(), KeysFile::new());
    let expired = other.add("a", "expires = 2001-01-01");
    let gateway = Gateway::start(&format!(
        "[auth.api_keys.one]\nkeys_file = '{}'\n[auth.api_keys.other]\nkeys_file = '{}'\n\
         [auth]\nfailures = '2/1m'\n\
         [routes.all]\nauth = ['api_keys.one', 'api_keys.other']\nrespond = {{ body = 'here' }}\n",
        one.path().display(),
        other.path().display()
    ));
    for _ in 0..5 {
        assert_eq!(outcome(&gateway, &expired).await.0, 401);
    }
    let (unknown, _) = new_key();
    for _ in 0..2 {
        let expected = refused(401, "auth.api_key.unknown");
        assert_eq!(outcome(&gateway, &unknown).await, expected);
    }
    assert_eq!(outcome(&gateway, &unknown).await.0, 429);
}

#[tokio::test]
async fn the_limit_can_be_off() {
    let gateway = start(&KeysFile::new(), "[auth]\nfailures = 'off'");
    for _ in 0..30 {
        assert_eq!(outcome(&gateway, "wrong").await.0, 401);
    }
}

#[tokio::test]
async fn twenty_failures_a_minute_are_the_default() {
    let gateway = start(&KeysFile::new(), "");
    for _ in 0..20 {
        assert_eq!(outcome(&gateway, "wrong").await.0, 401);
    }
    assert_eq!(outcome(&gateway, "wrong").await.0, 429);
}

#[tokio::test]
async fn the_admin_listener_shows_keys_and_their_last_use() {
    let mut file = KeysFile::new();
    let used = file.add("used", "roles = ['editor']\nexpires = 2999-01-01");
    file.add("unused", "");
    let gateway = start(&file, "");
    assert_eq!(outcome(&gateway, &used).await, let_in());
    let list = "GET /api/keys HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = Raw::ask(gateway.admin(), list).await;
    let json = answer.json();
    assert_eq!(json["success"], true);
    assert_eq!(json["meta"]["total"], 2);
    let (unused, used) = (&json["data"][0], &json["data"][1]);
    assert_eq!(used["name"], "api_keys.partners:used");
    assert_eq!(used["id"], "used");
    assert_eq!(used["roles"][0], "editor");
    assert_eq!(used["expires"], "2999-01-01T00:00:00Z");
    assert!(
        used["last_used"].is_string() && unused["last_used"].is_null(),
        "{json}"
    );
    assert!(!answer.text().contains("sha256") && !answer.text().contains("hash"));
}

#[tokio::test]
async fn the_last_use_outlives_a_reading_of_the_file() {
    let mut file = KeysFile::new();
    let used = file.add("used", "");
    let gateway = start(&file, "");
    assert_eq!(outcome(&gateway, &used).await, let_in());
    file.add("later", "");
    was_read(&gateway, 2.0).await;
    let list = "GET /api/keys?name=:used HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = Raw::ask(gateway.admin(), list).await.json();
    assert_eq!(answer["data"].as_array().unwrap().len(), 1, "{answer}");
    assert!(answer["data"][0]["last_used"].is_string(), "{answer}");
}
