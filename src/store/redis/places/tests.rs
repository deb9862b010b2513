use std::time::Instant;

use super::*;
use crate::{
    config::Config,
    store::{
        Decision, KeyHasher, SharedAsk, SharedTaken, Window, redis::quota::server::RedisServer,
    },
    telemetry::Metrics,
};

/// A gateway's way to a server, which is asked from here alone.
fn gateway(server: &RedisServer) -> Arc<Redis> {
    let text = format!(
        "[redis]\nurl = '{}'\ntimeout = '5s'\n[routes.all]\nrespond = {{}}",
        server.url()
    );
    let config = Config::parse("places.toml", &text).unwrap().config;
    let metrics = Metrics::new().redis();
    Redis::new(&config.redis.unwrap(), 1, metrics, &Handle::current())
}

fn key() -> KeyHash {
    KeyHasher::shared().hash(b"key")
}

fn place(redis: &Arc<Redis>) -> Arc<Place> {
    redis.place(0, &"slots".into(), key())
}

async fn take(redis: &Arc<Redis>, place: &Place, quota: u64) -> SharedTaken {
    take_called(redis, place.name(), quota).await
}

async fn take_called(redis: &Arc<Redis>, place: u64, quota: u64) -> SharedTaken {
    let ask = SharedAsk {
        limit: "slots",
        key: key(),
        algorithm: SharedAlgorithm::InFlight,
        windows: &[Window::held(quota)],
        largest: 1,
        cost: 1,
        want: 1,
        enforced: true,
        place,
    };
    redis.take(0, &[ask]).await.unwrap()[0]
}

fn is_granted(taken: &SharedTaken) -> bool {
    matches!(taken.decision, Decision::Granted { .. })
}

/// What the key's set says to a command.
async fn set(redis: &Arc<Redis>, name: &str, arguments: &[&[u8]]) -> Value {
    let limit = "slots".into();
    let mut command = redis::cmd(name);
    command.arg(redis.key_of(&Seat { limit, key: key() }));
    command.arg(arguments);
    redis.ask(0, &command).await.unwrap()
}

async fn counted(redis: &Arc<Redis>) -> usize {
    match set(redis, "ZCARD", &[]).await {
        Value::Int(count) => usize::try_from(count).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn comes_to(redis: &Arc<Redis>, count: usize) {
    let began = Instant::now();
    while counted(redis).await != count {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_place_that_is_asked_for_twice_is_one() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    let first = place(&redis);
    // The answer was lost, and the call was made again.
    for _ in 0..2 {
        assert!(is_granted(&take(&redis, &first, 1).await));
    }
    let second = place(&redis);
    let refused = take(&redis, &second, 1).await;
    let Decision::Refused { refusal, .. } = refused.decision else {
        panic!("there is one place");
    };
    assert_eq!((refusal.wait, refused.got), (None, 0), "nobody knows when");
    assert_eq!(counted(&redis).await, 1);
    drop(first);
    comes_to(&redis, 0).await;
    assert!(is_granted(&take(&redis, &second, 1).await));
}

#[tokio::test]
async fn the_last_owner_gives_a_place_back_and_who_was_refused_nothing() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    let (one, other) = (place(&redis), place(&redis));
    assert!(is_granted(&take(&redis, &one, 1).await));
    let asking = Arc::clone(&one);
    drop(one);
    other.refused();
    drop(other);
    assert_eq!(counted(&redis).await, 1);
    drop(asking);
    comes_to(&redis, 0).await;
    assert_eq!(server.calls("zrem"), 1);
}

#[tokio::test]
async fn redis_is_told_again_of_what_it_has_lost() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    let held: Vec<_> = (0..3).map(|_| place(&redis)).collect();
    for place in &held {
        assert!(is_granted(&take(&redis, place, 3).await));
    }
    server.run("FLUSHALL");
    assert!(redis.tell_of_places(0).await, "there are some");
    assert_eq!(counted(&redis).await, 3);
    let Value::Int(lives) = set(&redis, "PTTL", &[]).await else {
        panic!("it is there");
    };
    assert!((20_000..=31_000).contains(&lives), "{lives}");
    let late = place(&redis);
    assert!(!is_granted(&take(&redis, &late, 3).await));
    drop((held, late));
    comes_to(&redis, 0).await;
    assert!(!redis.tell_of_places(0).await, "there are none");
}

#[tokio::test]
async fn many_places_are_told_of_in_several_calls() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    let held: Vec<_> = (0..2 * MOST + 50).map(|_| place(&redis)).collect();
    assert!(redis.tell_of_places(0).await);
    assert_eq!(counted(&redis).await, held.len());
    // A key of another program's costs no other place anything.
    let strange = KeyHasher::shared().hash(b"strange");
    let limit: Arc<str> = "slots".into();
    let seat = Seat {
        limit: Arc::clone(&limit),
        key: strange,
    };
    let mut write = redis::cmd("SET");
    write.arg(redis.key_of(&seat)).arg("text");
    redis.ask(0, &write).await.unwrap();
    let _beside = redis.place(0, &limit, strange);
    set(&redis, "DEL", &[]).await;
    assert!(redis.tell_of_places(0).await);
    assert_eq!(counted(&redis).await, held.len());
}

#[tokio::test]
async fn a_place_that_was_given_back_while_redis_was_told_of_it_is_given_back_behind_that() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    let gone = (
        Seat {
            limit: "slots".into(),
            key: key(),
        },
        7,
    );
    let held = place(&redis);
    let told = [
        gone,
        (
            Seat {
                limit: "slots".into(),
                key: key(),
            },
            held.name(),
        ),
    ];
    redis.tell_of(0, &told).await;
    assert_eq!(counted(&redis).await, 1);
}

#[tokio::test]
async fn what_a_gateway_held_that_died_lapses() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    let Value::Array(time) = redis.ask(0, &redis::cmd("TIME")).await.unwrap() else {
        panic!("it has a clock");
    };
    let number = |value: &Value| match value {
        Value::BulkString(digits) => str::from_utf8(digits).unwrap().parse::<u64>().unwrap(),
        other => panic!("{other:?}"),
    };
    let soon = number(&time[0]) * 1_000_000 + number(&time[1]) + 300_000;
    let dead = 5_u64.to_be_bytes();
    set(&redis, "ZADD", &[soon.to_string().as_bytes(), &dead]).await;
    let next = place(&redis);
    assert!(
        !is_granted(&take(&redis, &next, 1).await),
        "it is not known to be dead"
    );
    let began = Instant::now();
    while !is_granted(&take(&redis, &next, 1).await) {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(counted(&redis).await, 1, "it is gone");
}

#[tokio::test(start_paused = true)]
async fn a_task_tells_of_places_while_there_are_any() {
    let redis = gateway_to_nobody();
    let kept = |redis: &Arc<Redis>| redis.lock_places(0).is_kept;
    let first = place(&redis);
    assert!(kept(&redis));
    tokio::time::sleep(3 * TOLD).await;
    assert!(kept(&redis), "it is held");
    drop(first);
    tokio::time::sleep(2 * TOLD).await;
    assert!(!kept(&redis));
    let _second = place(&redis);
    assert!(kept(&redis));
}

fn gateway_to_nobody() -> Arc<Redis> {
    let text = "[redis]\nurl = 'redis://127.0.0.1:1'\n[routes.all]\nrespond = {}";
    let config = Config::parse("places.toml", text).unwrap().config;
    let metrics = Metrics::new().redis();
    Redis::new(&config.redis.unwrap(), 1, metrics, &Handle::current())
}
