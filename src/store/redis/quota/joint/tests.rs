use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::store::{
    Decision, KeyHash, KeyHasher, SharedAlgorithm, SharedLimit, Window,
    redis::{quota::server::RedisServer, tests::way_to},
};

/// A gateway's way to a server.
fn gateway(url: &str) -> Arc<Redis> {
    way_to(url, "5s")
}

fn hour(quota: u64) -> [Window; 1] {
    [Window::new(quota, Duration::from_secs(3600), None)]
}

fn ask<'a>(key: &str, windows: &'a [Window]) -> SharedAsk<'a> {
    ask_of(SharedAlgorithm::FixedWindow, key, windows)
}

fn ask_of<'a>(algorithm: SharedAlgorithm, key: &str, windows: &'a [Window]) -> SharedAsk<'a> {
    let limit = SharedLimit {
        name: "one",
        algorithm,
        windows,
        largest: 1,
    };
    limit.take(key_of(key), (1, 1))
}

fn key_of(name: &str) -> KeyHash {
    KeyHasher::shared().hash(name.as_bytes())
}

fn is_granted(taken: &[SharedTaken]) -> bool {
    matches!(taken[0].decision, Decision::Granted { .. })
}

#[tokio::test]
async fn what_is_asked_at_once_goes_to_redis_in_few_calls_and_each_hears_its_own() {
    let server = RedisServer::start();
    let redis = gateway(&server.url());
    let windows = hour(60);
    // It makes the script known.
    redis.take(0, &[ask("first", &windows)]).await.unwrap();
    let before = server.calls("evalsha");
    let asks = [[ask("many", &windows)], [ask("few", &windows)]];
    let taken = (0..100).map(|index| redis.take(0, &asks[usize::from(index % 10 == 0)]));
    let taken = join_all(taken).await;
    let granted = |few: bool| {
        let own = taken.iter().enumerate();
        let own = own.filter(|(index, _)| (index % 10 == 0) == few);
        own.filter(|(_, taken)| is_granted(taken.as_ref().unwrap()))
            .count()
    };
    assert_eq!((granted(false), granted(true)), (60, 10));
    assert_eq!(
        server.calls("evalsha") - before,
        4,
        "three of 32, and the rest"
    );
}

#[tokio::test]
async fn who_leaves_takes_from_nobody_else_what_was_asked_with_it() {
    let server = RedisServer::start();
    let redis = gateway(&server.url());
    let windows = hour(3);
    let asks = [ask("caller", &windows)];
    let mut leaves = Box::pin(redis.take(0, &asks));
    assert!(leaves.as_mut().now_or_never().is_none());
    drop(leaves);
    let taken = join_all((0..3).map(|_| redis.take(0, &asks))).await;
    let granted: Vec<_> = taken
        .iter()
        .map(|taken| is_granted(taken.as_ref().unwrap()))
        .collect();
    assert_eq!(granted, [true, true, false], "its own was taken");
}

#[tokio::test]
async fn a_question_that_comes_to_an_error_keeps_no_other_from_its_answer() {
    let server = RedisServer::start();
    let redis = gateway(&server.url());
    let windows = hour(100);
    let (broken, fine) = ([ask("broken", &windows)], [ask("fine", &windows)]);
    let key = String::from_utf8(redis.key(&broken[0])).unwrap();
    server.run(&format!("SET {key} foreign"));
    for round in 0..20 {
        let (failed, taken) = tokio::join!(redis.take(0, &broken), redis.take(0, &fine));
        assert_eq!(failed.map(|_| ()), Err(Away::Refused));
        let Decision::Granted { standing, .. } = taken.unwrap()[0].decision else {
            panic!("there is enough");
        };
        assert_eq!(standing.remaining, 99 - round, "it was taken once");
    }
}

#[tokio::test]
async fn of_a_call_that_fails_everybody_hears() {
    let mut server = RedisServer::start();
    let redis = gateway(&server.url());
    let windows = hour(100);
    let asks = [ask("caller", &windows)];
    redis.take(0, &asks).await.unwrap();
    server.kill();
    let taken = join_all((0..40).map(|_| redis.take(0, &asks))).await;
    let away: Vec<_> = taken.into_iter().map(|taken| taken.map(|_| ())).collect();
    assert_eq!(away, [Err(Away::Unreachable); 40]);
    let taken = redis.take(0, &asks).await;
    assert_eq!(taken.map(|_| ()), Err(Away::Open));
}

#[tokio::test]
async fn an_answer_of_another_length_is_nobody_s() {
    let redis = gateway("redis://127.0.0.1:1");
    for length in [0, ANSWER, 2 * ANSWER - 1, 2 * ANSWER + 1, 3 * ANSWER] {
        let (callers, said): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (answer, said) = oneshot::channel();
                (Caller { limits: 1, answer }, said)
            })
            .unzip();
        redis.tell(callers, Ok(Value::BulkString(vec![1; length])));
        for said in said {
            assert_eq!(said.await.unwrap(), Err(Away::Garbage), "{length}");
        }
    }
}

/// What so many requests at once come to.
async fn at_once(redis: &Arc<Redis>, asks: &[SharedAsk<'_>], requests: usize) -> Vec<Option<Away>> {
    let taken = join_all((0..requests).map(|_| redis.take(0, asks))).await;
    taken.into_iter().map(Result::err).collect()
}

#[tokio::test]
async fn of_a_call_that_is_not_answered_every_request_counts() {
    let server = RedisServer::start();
    let redis = way_to(&server.url(), "300ms");
    let windows = hour(100);
    let asks = [ask("caller", &windows)];
    assert_eq!(at_once(&redis, &asks, 1).await, [None]);
    server.freeze();
    assert_eq!(at_once(&redis, &asks, 5).await, [Some(Away::Timeout); 5]);
    assert_eq!(at_once(&redis, &asks, 1).await, [Some(Away::Open)]);
    server.thaw();
}

#[tokio::test]
async fn a_full_redis_is_left_alone_also_where_it_is_asked_for_several_at_once() {
    for requests in [2, 4] {
        let server = RedisServer::start();
        let redis = gateway(&server.url());
        let windows = hour(100);
        let asks = [ask("caller", &windows)];
        assert_eq!(at_once(&redis, &asks, 1).await, [None]);
        server.run("CONFIG SET maxmemory 1");
        let mut rounds = 0;
        while at_once(&redis, &asks, requests).await[0] != Some(Away::Open) {
            rounds += 1;
            assert!(rounds <= 3, "{requests}");
        }
    }
}

#[tokio::test]
async fn a_full_redis_takes_up_no_new_key_however_it_counts() {
    let server = RedisServer::start();
    server.run("CONFIG SET maxmemory 1");
    let windows = hour(100);
    for algorithm in [
        SharedAlgorithm::TokenBucket,
        SharedAlgorithm::FixedWindow,
        SharedAlgorithm::SlidingWindow,
        SharedAlgorithm::SlidingLog,
    ] {
        let redis = gateway(&server.url());
        let asks = [ask_of(algorithm, "caller", &windows)];
        for requests in [1, 2] {
            let refused = vec![Some(Away::Refused); requests];
            assert_eq!(at_once(&redis, &asks, requests).await, refused);
        }
        assert!(server.run("DBSIZE").contains(":0"), "{algorithm:?}");
    }
}

#[tokio::test]
async fn who_has_slots_behind_one_url_is_asked_for_each_by_itself() {
    let server = RedisServer::with(&["--cluster-enabled", "yes"]);
    server.run("CLUSTER ADDSLOTSRANGE 0 16383");
    let redis = gateway(&server.url());
    let windows = hour(100);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while redis.take(0, &[ask("first", &windows)]).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "it is no cluster yet");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let names: Vec<_> = (0..100).map(|index| index.to_string()).collect();
    for _ in 0..3 {
        let asks: Vec<_> = names.iter().map(|name| [ask(name, &windows)]).collect();
        // Several calls find it out at the same time.
        let taken = asks.iter().enumerate();
        let taken = join_all(taken.map(|(at, asks)| redis.take(at % 2, asks))).await;
        assert!(
            taken
                .iter()
                .all(|taken| is_granted(taken.as_ref().unwrap()))
        );
    }
}

#[tokio::test]
async fn what_is_much_work_goes_in_more_calls() {
    let server = RedisServer::start();
    let redis = gateway(&server.url());
    let windows = hour(100);
    let asks = [ask_of(SharedAlgorithm::SlidingLog, "caller", &windows)];
    assert_eq!(at_once(&redis, &asks, 1).await, [None]);
    let before = server.calls("evalsha");
    assert_eq!(at_once(&redis, &asks, 8).await, [None; 8]);
    assert_eq!(server.calls("evalsha") - before, 2);
}

#[test]
fn what_was_gathered_on_a_runtime_that_ends_keeps_nobody_waiting() {
    let runtime = || {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let server = RedisServer::start();
    let control = runtime();
    let redis = control.block_on(async { gateway(&server.url()) });
    let windows = hour(100);
    let asks = [ask("caller", &windows)];
    for _ in 0..3 {
        let mut take = Box::pin(redis.take(0, &asks));
        let told = runtime().block_on(async { take.as_mut().now_or_never() });
        assert!(told.is_none(), "it waits");
    }
    let taken = runtime().block_on(redis.take(0, &asks)).unwrap();
    let Decision::Granted { standing, .. } = taken[0].decision else {
        panic!("there is enough");
    };
    assert_eq!(standing.remaining, 99, "nothing else was asked");
}

/// A server that says the same to everything.
async fn who_says(answer: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 65_536];
                while let Ok(1..) = stream.read(&mut asked).await {
                    // One for each command at least: what comes beside it is nobody's.
                    let commands = asked.iter().filter(|byte| **byte == b'*').count();
                    asked.fill(0);
                    stream.write_all(&answer.repeat(commands)).await.unwrap();
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn who_answers_something_else_is_left_alone_after_five_requests() {
    let windows = hour(100);
    let asks = [ask("caller", &windows)];
    for (answer, away) in [
        (&b"+OK\r\n"[..], Away::Garbage),
        (b"$3\r\nabc\r\n", Away::Garbage),
        (b"-NOSCRIPT gone\r\n", Away::Refused),
    ] {
        let url = who_says(answer).await;
        let alone = gateway(&url);
        for _ in 0..5 {
            assert_eq!(at_once(&alone, &asks, 1).await, [Some(away)]);
        }
        assert_eq!(at_once(&alone, &asks, 1).await, [Some(Away::Open)]);
        let together = gateway(&url);
        assert_eq!(at_once(&together, &asks, 5).await, [Some(away); 5]);
        assert_eq!(at_once(&together, &asks, 1).await, [Some(Away::Open)]);
    }
}
