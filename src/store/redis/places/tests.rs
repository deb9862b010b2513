use std::time::Instant as Clock;

use tokio::task::JoinHandle;

use super::{
    super::{Failure, breaker::Weight, quota::server::RedisServer, tests::way_to},
    *,
};
use crate::store::{Decision, KeyHasher, SharedAsk, SharedLimit, SharedTaken, Window};

/// A gateway's way to a server.
fn gateway(server: &RedisServer) -> Arc<Redis> {
    way_to(&server.url(), "5s")
}

/// The same with a deadline as gateways have it.
fn hasty(server: &RedisServer) -> Arc<Redis> {
    way_to(&server.url(), "50ms")
}

fn seat() -> Seat {
    let key = KeyHasher::shared().hash(b"key");
    let limit = "slots".into();
    Seat { key, limit }
}

fn place(redis: &Arc<Redis>) -> Arc<Place> {
    let Seat { key, limit } = seat();
    redis.place(0, &limit, key)
}

/// So many places that Redis has given, as far as the gateway knows.
fn given(redis: &Arc<Redis>, count: usize) -> Vec<Arc<Place>> {
    let given = || {
        let place = place(redis);
        place.given();
        place
    };
    std::iter::repeat_with(given).take(count).collect()
}

/// The task that sees to places, where the test has kept the gateway from starting one.
fn kept(redis: &Arc<Redis>, every: Duration) -> JoinHandle<()> {
    tokio::spawn(Keeper::new(Arc::clone(redis), 0, every).run())
}

async fn ended(keeper: JoinHandle<()>) {
    let ended = timeout(Duration::from_secs(10), keeper).await;
    ended.unwrap().unwrap();
}

/// Whether Redis has heard of all places.
async fn told(redis: &Arc<Redis>) -> bool {
    redis.tell_of_places(0, None).await.is_empty()
}

fn ask(place: u64, windows: &[Window]) -> SharedAsk<'_> {
    SharedAsk {
        place,
        ..SharedLimit {
            name: "slots",
            algorithm: SharedAlgorithm::InFlight,
            windows,
            largest: 1,
        }
        .take(seat().key, (1, 1))
    }
}

/// What another limit is asked under the same key.
fn few_by_window(windows: &[Window]) -> SharedAsk<'_> {
    let few = SharedLimit {
        name: "few",
        algorithm: SharedAlgorithm::FixedWindow,
        windows,
        largest: 1,
    };
    few.take(seat().key, (1, 1))
}

async fn take(redis: &Arc<Redis>, place: &Place, quota: u64) -> SharedTaken {
    let windows = [Window::held(quota)];
    redis.take(0, &[ask(place.name(), &windows)]).await.unwrap()[0]
}

fn is_granted(taken: &SharedTaken) -> bool {
    matches!(taken.decision, Decision::Granted { .. })
}

/// What the key's set says to a command.
async fn set(redis: &Arc<Redis>, name: &str, arguments: &[&[u8]]) -> Value {
    let mut command = redis::cmd(name);
    command.arg(redis.key_of(&seat())).arg(arguments);
    redis.ask(0, &command).await.unwrap()
}

async fn number(redis: &Arc<Redis>, name: &str) -> i64 {
    match set(redis, name, &[]).await {
        Value::Int(number) => number,
        other => panic!("{other:?}"),
    }
}

async fn counted(redis: &Arc<Redis>) -> usize {
    usize::try_from(number(redis, "ZCARD").await).unwrap()
}

async fn comes_to(redis: &Arc<Redis>, count: usize) {
    let began = Clock::now();
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
    first.given();
    let lives = number(&redis, "PTTL").await;
    assert!((20_000..=31_000).contains(&lives), "{lives}");
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
async fn what_is_refused_when_it_is_asked_for_again_is_not_held_on() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    let (slots, few) = (
        [Window::held(5)],
        [Window::new(1, Duration::from_secs(3600), None)],
    );
    let place = place(&redis);
    let asks = [ask(place.name(), &slots), few_by_window(&few)];
    assert!(redis.take(0, &asks).await.unwrap().iter().all(is_granted));
    assert_eq!(counted(&redis).await, 1);
    let again = redis.take(0, &asks).await.unwrap();
    assert_eq!((again[0].got, again[1].got), (0, 0), "few has no more");
    assert_eq!(counted(&redis).await, 0);
}

#[tokio::test]
async fn the_last_owner_gives_a_place_back_and_who_was_refused_nothing() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    let (one, other) = (place(&redis), place(&redis));
    assert!(is_granted(&take(&redis, &one, 1).await));
    one.given();
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
async fn redis_is_told_again_of_what_it_has_lost_and_not_of_what_it_has_not_given() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    let held = given(&redis, 3);
    for place in &held {
        assert!(is_granted(&take(&redis, place, 3).await));
    }
    let asked = place(&redis);
    server.run("FLUSHALL");
    assert!(told(&redis).await);
    assert_eq!(counted(&redis).await, 3);
    let lives = number(&redis, "PTTL").await;
    assert!((20_000..=31_000).contains(&lives), "{lives}");
    assert!(!is_granted(&take(&redis, &asked, 3).await));
    asked.refused();
    drop((held, asked));
    comes_to(&redis, 0).await;
}

#[tokio::test]
async fn a_task_tells_of_places_while_there_are_any() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    redis.places(0).locked().is_kept = true;
    let held = given(&redis, 2);
    let keeper = kept(&redis, Duration::from_millis(20));
    for _ in 0..3 {
        comes_to(&redis, 2).await;
        server.run("FLUSHALL");
    }
    drop(held);
    comes_to(&redis, 0).await;
    ended(keeper).await;
    assert!(!redis.places(0).locked().is_kept);
    // The next one has another.
    drop(given(&redis, 1));
    comes_to(&redis, 0).await;
}

#[tokio::test]
async fn a_task_that_ends_with_its_runtime_keeps_no_place_from_being_given_back() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    let (ended, redis) = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        (runtime.block_on(async { given(&redis, 1) }), redis)
    })
    .await
    .unwrap();
    assert!(!redis.places(0).locked().is_kept);
    assert!(told(&redis).await);
    assert_eq!(counted(&redis).await, 1);
    drop(ended);
    comes_to(&redis, 0).await;
}

#[tokio::test]
async fn many_places_are_told_of_in_several_calls_whatever_one_key_holds() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    let held = given(&redis, SAID_AT_ONCE + 50);
    // Another program has taken a key.
    let strange = Seat {
        key: KeyHasher::shared().hash(b"strange"),
        ..seat()
    };
    let mut write = redis::cmd("SET");
    write.arg(redis.key_of(&strange)).arg("text");
    redis.ask(0, &write).await.unwrap();
    let beside = redis.place(0, &strange.limit, strange.key);
    beside.given();
    assert!(told(&redis).await);
    assert_eq!(counted(&redis).await, held.len());
    drop((held, beside));
    comes_to(&redis, 0).await;
}

#[tokio::test]
async fn in_a_cluster_places_of_different_keys_are_told_of_apart() {
    let server = RedisServer::with(&["--cluster-enabled", "yes"]);
    server.run("CLUSTER ADDSLOTSRANGE 0 16383");
    let began = Clock::now();
    while !server.run("CLUSTER INFO").contains("cluster_state:ok") {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let redis = gateway(&server);
    redis
        .has_slots
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let mut held = given(&redis, 3);
    for name in 0..20_u8 {
        let place = redis.place(0, &seat().limit, KeyHasher::shared().hash(&[name]));
        place.given();
        held.push(place);
    }
    assert!(told(&redis).await);
    assert_eq!(counted(&redis).await, 3);
    assert!(server.run("DBSIZE").starts_with(":21\r\n"));
    drop(held);
    redis.all_given_back().await;
    assert!(server.run("DBSIZE").starts_with(":0\r\n"));
}

#[tokio::test]
async fn thousands_that_end_at_once_are_all_given_back() {
    let server = RedisServer::start();
    let redis = hasty(&server);
    let held = given(&redis, 5_000);
    assert!(told(&redis).await);
    assert_eq!(counted(&redis).await, 5_000);
    drop(held);
    redis.all_given_back().await;
    assert_eq!(counted(&redis).await, 0);
}

#[tokio::test]
async fn what_ended_while_redis_was_away_is_given_back_when_it_is_there_again() {
    let server = RedisServer::start();
    let redis = hasty(&server);
    let held = given(&redis, 3);
    assert!(told(&redis).await);
    server.freeze();
    drop(held);
    let began = Clock::now();
    while !redis.counts.breaker.is_open() {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody asks it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.thaw();
    let is_held = || server.run("KEYS *").contains("}:h:");
    while is_held() {
        assert!(began.elapsed() < Duration::from_secs(10), "they are owed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_was_held_while_redis_was_away_it_is_told_of_and_what_has_ended_then_it_is_not() {
    let mut server = RedisServer::start();
    let redis = hasty(&server);
    server.kill();
    let asked = take_in_vain(&redis).await;
    assert_eq!(asked, Away::Unreachable);
    assert_eq!(take_in_vain(&redis).await, Away::Open);
    let unasked = || {
        let place = place(&redis);
        place.unasked();
        place
    };
    let (held, ended) = (unasked(), unasked());
    drop(ended);
    assert!(redis.places(0).locked().owed.is_empty());
    server.restart();
    let began = Clock::now();
    while !server.run("KEYS *").contains("}:h:") {
        assert!(began.elapsed() < Duration::from_secs(5), "before it is due");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(counted(&redis).await, 1);
    drop(held);
    comes_to(&redis, 0).await;
}

/// Why a place is not to be had.
async fn take_in_vain(redis: &Arc<Redis>) -> Away {
    let windows = [Window::held(1)];
    redis.take(0, &[ask(1, &windows)]).await.unwrap_err()
}

#[tokio::test]
async fn a_redis_that_has_lost_all_behind_a_hang_is_told_at_once() {
    let server = RedisServer::start();
    let redis = hasty(&server);
    // Its task has nothing to do for a while.
    let held = given(&redis, 2);
    assert!(told(&redis).await);
    server.run("FLUSHALL");
    // Others have found that it was away.
    redis.weigh(Lane::Counts, Failure::new(Away::Unreachable, Weight::Opens));
    let began = Clock::now();
    while !server.run("KEYS *").contains("}:h:") {
        assert!(began.elapsed() < Duration::from_secs(5), "before it is due");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(held);
}

#[tokio::test]
async fn what_comes_to_nothing_is_tried_again_until_redis_has_heard_of_it() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    redis.places(0).locked().is_kept = true;
    let mut held = given(&redis, 2);
    assert!(told(&redis).await);
    drop(held.pop());
    {
        // As a call leaves it that has failed.
        let mut state = redis.places(0).locked();
        let owed = std::mem::take(&mut state.owed);
        state.again.extend(owed);
    }
    let keeper = kept(&redis, TOLD);
    comes_to(&redis, 1).await;
    drop(held);
    comes_to(&redis, 0).await;
    ended(keeper).await;
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
    let first = take(&redis, &next, 1).await;
    assert!(!is_granted(&first), "it is not known to be dead");
    let began = Clock::now();
    while !is_granted(&take(&redis, &next, 1).await) {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(counted(&redis).await, 1, "it is gone");
}

#[tokio::test]
async fn what_has_lapsed_goes_when_others_are_told_of() {
    let server = RedisServer::start();
    let redis = gateway(&server);
    set(&redis, "ZADD", &[b"1", b"dead"]).await;
    let _held = given(&redis, 1);
    assert!(told(&redis).await);
    assert_eq!(counted(&redis).await, 1);
}
