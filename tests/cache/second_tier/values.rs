//! What stands in Redis: for whom, for how long, and what is made of what is not ours.

use http::Response;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::fleet::{BOTH, Fleet, REDIS, answer, numbered, text};
use crate::{
    origin::Seen,
    support::{BoxBody, RedisServer, eventually},
};

const MINUTE: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test]
async fn values_that_are_none_of_ours_are_ignored_and_counted() {
    let fleet = Fleet::with(1, REDIS, MINUTE).await;
    fleet.fill(0, "/").await;
    let [key] = fleet.answers().try_into().expect("one answer");
    let version = format!("SETRANGE {key} 3 \\x09");
    let cut = format!("SETRANGE {key} 40 x");
    let large = format!("SETRANGE {key} 2000000 x");
    let wrongs = [
        format!("SET {key} garbage"),
        format!("SET {key} \"\""),
        format!("APPEND {key} x"),
        version,
        cut,
        large,
    ];
    for (turn, wrong) in wrongs.iter().enumerate() {
        let fetched = fleet.count();
        let wrong = fleet.redis.run(wrong);
        assert!(!wrong.starts_with('-'), "{wrong}");
        assert_eq!(fleet.fill(0, "/").await, (fetched + 1).to_string());
        assert_eq!(fleet.looked(0, "invalid"), 2.0 * (turn + 1) as f64);
    }
    // What is no text is not even seen.
    fleet.redis.run(&format!("DEL {key}"));
    fleet.redis.run(&format!("LPUSH {key} x"));
    let fetched = fleet.count();
    assert_eq!(fleet.fill(0, "/").await, (fetched + 1).to_string());
    assert_eq!(fleet.body(0, "/").await, (fetched + 1).to_string());
    assert_eq!(
        fleet.gateways[0].metric("tollgate_redis_errors_total", &[]),
        0.0
    );
}

#[tokio::test]
async fn an_answer_under_anothers_key_is_served_to_nobody() {
    let fleet = Fleet::with(1, REDIS, MINUTE).await;
    fleet.fill(0, "/secret").await;
    let [secret] = fleet.answers().try_into().expect("one answer");
    fleet.fill(0, "/public").await;
    let public = fleet.answers().into_iter().find(|key| *key != secret);
    let public = public.expect("two answers");
    assert!(
        fleet
            .redis
            .run(&format!("COPY {secret} {public} REPLACE"))
            .starts_with(":1")
    );
    assert_eq!(fleet.body(0, "/public").await, "3");
}

fn bearer(subject: &str) -> String {
    let claims = json!({ "sub": subject, "exp": 99_999_999_999_u64 });
    let key = EncodingKey::from_secret(b"a secret of thirty-two bytes or more");
    let token = encode(&Header::default(), &claims, &key).expect("a token");
    format!("Bearer {token}")
}

fn whom(count: usize, seen: &Seen) -> Response<BoxBody> {
    let whom = seen.header("authorization").unwrap_or("nobody").to_owned();
    answer(200, &[], format!("{count} for {whom}"))
}

#[tokio::test]
async fn no_caller_gets_what_another_got_on_any_gateway() {
    let text_of = "[auth.jwt.t]\nsecret = 'a secret of thirty-two bytes or more'\n\
        [routes.site]\nupstream = 'ORIGIN'\nauth = ['jwt.t', 'anonymous']\n\
        [routes.site.cache]\nstore = ['memory', 'redis']\nscope = 'principal'\ndefault_ttl = '1m'\n";
    let fleet = Fleet::over(RedisServer::start(), 2, text_of, |count, seen| {
        whom(count, &seen)
    })
    .await;
    let callers = [Some(bearer("alice")), Some(bearer("bob")), None];
    let ask = async |gateway, caller: &Option<String>| {
        let fields: Vec<_> = caller
            .iter()
            .map(|token| ("authorization", token.as_str()))
            .collect();
        text(&fleet.get_with(gateway, "/", &fields).await)
    };
    for (turn, caller) in callers.iter().enumerate() {
        let own = ask(0, caller).await;
        assert!(own.starts_with(&format!("{} for", turn + 1)), "{own}");
        eventually(|| fleet.stored(0) > turn as f64).await;
    }
    for (turn, caller) in callers.iter().enumerate() {
        let own = ask(1, caller).await;
        let whom = caller.as_deref().unwrap_or("nobody");
        assert_eq!(own, format!("{} for {whom}", turn + 1));
    }
    assert_eq!((fleet.count(), fleet.looked(1, "hit")), (3, 3.0));
    // One caller's value under another's key is not served either.
    let mut keys = fleet.answers();
    keys.sort();
    let [one, two, three] = keys.try_into().expect("three answers");
    for key in [&two, &three] {
        fleet.redis.run(&format!("COPY {one} {key} REPLACE"));
    }
    let mut fresh = fleet;
    fresh.join();
    fresh.joined().await;
    for caller in &callers {
        let fields: Vec<_> = caller
            .iter()
            .map(|token| ("authorization", token.as_str()))
            .collect();
        let own = text(&fresh.get_with(2, "/", &fields).await);
        let whom = caller.as_deref().unwrap_or("nobody");
        assert!(own.ends_with(&format!(" for {whom}")), "{own}");
    }
}

#[tokio::test]
async fn an_answer_stands_as_long_as_it_is_of_use() {
    let rule = format!("{BOTH}\nstale_if_error = '5m'\nstale_on_error = '1m'");
    let fleet = Fleet::with(1, &rule, MINUTE).await;
    fleet.fill(0, "/").await;
    let [key] = fleet.answers().try_into().expect("one answer");
    let span = |key: &str| {
        let answer = fleet.redis.run(&format!("PTTL {key}"));
        let line = answer.lines().next().expect("a line");
        line[1..].parse::<u64>().expect("a time to live")
    };
    assert!((300_000..=360_000).contains(&span(&key)), "{}", span(&key));
    let [guard] = fleet
        .keys("tollgate:cache:*:guard")
        .try_into()
        .expect("one");
    assert!(span(&guard) >= span(&key));
}

#[tokio::test]
async fn a_new_gateway_finds_what_others_have_stored_before() {
    let mut fleet = Fleet::with(1, BOTH, MINUTE).await;
    fleet.fill(0, "/").await;
    fleet.join();
    fleet.joined().await;
    assert_eq!((fleet.body(1, "/").await, fleet.count()), ("1".into(), 1));
}

#[tokio::test]
async fn a_caller_who_is_known_to_the_upstream_alone_is_kept_out_of_redis() {
    let fleet = Fleet::start(2, BOTH, |count, _| numbered(count, MINUTE)).await;
    let own = fleet
        .get_with(0, "/", &[("authorization", "Basic YTpi")])
        .await;
    assert_eq!(text(&own), "1");
    assert_eq!(fleet.body(1, "/").await, "2");
    assert_eq!(fleet.stored(0), 0.0);
}

/// What is written is charged to the memory of fetches, which here is too small for all its copies.
#[tokio::test]
async fn the_largest_answer_of_a_small_memory_is_stored_in_redis_too() {
    let text = "[cache]\nmemory = '1MiB'\nmax_object = '256KiB'\n\
                [routes.site]\nupstream = 'ORIGIN'\ncache = { store = ['memory', 'redis'] }\n";
    let fleet = Fleet::over(RedisServer::start(), 2, text, |_, _| {
        answer(200, MINUTE, vec![b'x'; 200 << 10])
    })
    .await;
    fleet.fill(0, "/").await;
    assert_eq!(fleet.get(1, "/").await.body.len(), 200 << 10);
    assert_eq!((fleet.count(), fleet.looked(1, "hit")), (1, 1.0));
}
