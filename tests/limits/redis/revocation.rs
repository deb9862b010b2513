//! Tokens that a set in Redis takes back.

use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tollgate::exchange::Clock;

use crate::support::{Gateway, Raw, RedisServer, free_port, within};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn gateway(url: &str, clock: &Clock) -> Gateway {
    let text = format!(
        "[redis]\nurl = '{url}'\n\
         [auth.jwt.main]\nsecret = '{SECRET}'\n\
         revocation = {{ redis_set = 'revoked', refresh = '10s', max_stale = '1h' }}\n\
         [routes.all]\nrespond = {{ body = 'ok' }}\nauth = 'jwt.main'"
    );
    Gateway::start_at(&text, clock.clone())
}

fn token(id: &str, subject: &str, clock: &Clock) -> String {
    let now = clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let claims = json!({"jti": id, "sub": subject, "exp": now.as_secs() + 86_400});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

async fn ask(gateway: &Gateway, token: &str) -> (u16, String) {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let answer = Raw::ask(gateway.address(), request).await;
    match answer.status {
        200 => (200, String::new()),
        _ => answer.refusal(),
    }
}

async fn becomes(gateway: &Gateway, token: &str, expected: (u16, &str)) {
    let expected = (expected.0, expected.1.to_owned());
    within(async { while ask(gateway, token).await != expected {} }).await;
}

const REVOKED: (u16, &str) = (401, "auth.jwt.revoked");
const UNKNOWN: (u16, &str) = (503, "auth.jwt.revocation_unknown");

#[tokio::test]
async fn what_is_added_to_the_set_is_refused_after_the_next_look() {
    let redis = RedisServer::start();
    // More than a page.
    let many: Vec<_> = (0..3_000).map(|number| format!("id-{number}")).collect();
    redis.run(&format!("SADD revoked {} sub:mallory", many.join(" ")));
    let clock = Clock::movable();
    let gateway = gateway(&redis.url(), &clock);
    let (good, bad) = (
        token("a", "alice", &clock),
        token("id-2999", "alice", &clock),
    );
    becomes(&gateway, &good, (200, "")).await;
    assert_eq!(ask(&gateway, &bad).await, (REVOKED.0, REVOKED.1.to_owned()));
    becomes(&gateway, &token("b", "mallory", &clock), REVOKED).await;
    redis.run("SADD revoked a");
    assert_eq!(ask(&gateway, &good).await.0, 200, "it is not looked at yet");
    clock.advance(Duration::from_secs(10));
    becomes(&gateway, &good, REVOKED).await;
}

#[tokio::test]
async fn while_redis_is_away_the_last_list_serves_and_then_nobody_is_let_in() {
    let mut redis = RedisServer::start();
    redis.run("SADD revoked bad");
    let clock = Clock::movable();
    let gateway = gateway(&redis.url(), &clock);
    let (good, bad) = (
        token("good", "alice", &clock),
        token("bad", "alice", &clock),
    );
    becomes(&gateway, &good, (200, "")).await;
    redis.kill();
    clock.advance(Duration::from_secs(3_500));
    assert_eq!(ask(&gateway, &good).await.0, 200);
    assert_eq!(ask(&gateway, &bad).await.1, REVOKED.1);
    clock.advance(Duration::from_secs(200));
    assert_eq!(
        ask(&gateway, &good).await,
        (UNKNOWN.0, UNKNOWN.1.to_owned())
    );
    assert_eq!(
        ask(&gateway, &bad).await.1,
        REVOKED.1,
        "what is known is known"
    );
    redis.restart();
    becomes(&gateway, &good, (200, "")).await;
}

#[tokio::test]
async fn before_the_first_list_nobody_is_let_in() {
    let clock = Clock::movable();
    let gateway = gateway(&format!("redis://127.0.0.1:{}", free_port()), &clock);
    let good = token("good", "alice", &clock);
    assert_eq!(
        ask(&gateway, &good).await,
        (UNKNOWN.0, UNKNOWN.1.to_owned())
    );
}
