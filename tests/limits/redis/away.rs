//! Redis is killed, hangs, is slow, is full, talks nonsense: no request fails for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Counts, Storm, degraded, get, get_as, is_open, limited, limited_by, recovery, storm};
use crate::support::{Gateway, RedisServer, eventually, free_port, within};

#[tokio::test]
async fn a_redis_that_is_killed_under_load_costs_no_request_and_is_used_again_when_it_is_back() {
    let mut redis = RedisServer::start();
    let gateway = limited(&redis.url(), "quota = '1000000/1h'");
    let load = Storm::over(gateway.address());
    eventually(|| redis.calls("evalsha") > 100).await;
    redis.kill();
    eventually(|| is_open(&gateway) && degraded(&gateway) > 200.0).await;
    redis.restart();
    let took = recovery(&gateway).await;
    eventually(|| redis.calls("evalsha") > 100).await;
    let (counts, slowest) = load.end().await;
    println!("recovered in {took:?}, the slowest request took {slowest:?}, {counts:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&200]);
}

/// Several gateways under load from several clients each, while their Redis is killed and comes back.
async fn killed_under_load(on_store_error: &str) -> Counts {
    let mut redis = RedisServer::start();
    let limit = format!("quota = '1000000/1h'\non_store_error = '{on_store_error}'");
    let gateways = [(); 3].map(|()| limited(&redis.url(), &limit));
    let places = gateways.iter().map(Gateway::address);
    let loads: Vec<_> = places
        .flat_map(|place| [place; 4])
        .map(Storm::over)
        .collect();
    eventually(|| redis.calls("evalsha") > 300).await;
    redis.kill();
    let away = |gateway: &Gateway| is_open(gateway) && degraded(gateway) > 200.0;
    eventually(|| gateways.iter().all(away)).await;
    redis.restart();
    for gateway in &gateways {
        let took = recovery(gateway).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    eventually(|| redis.calls("evalsha") > 300).await;
    let mut all = Counts::new();
    for load in loads {
        let (counts, _) = load.end().await;
        for (status, count) in counts {
            *all.entry(status).or_default() += count;
        }
    }
    println!("{on_store_error}: {all:?}");
    all
}

#[tokio::test]
async fn a_redis_that_is_killed_under_load_refuses_nothing_where_requests_are_to_pass() {
    let counts = killed_under_load("allow").await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&200]);
}

#[tokio::test]
async fn a_redis_that_is_killed_under_load_is_told_and_nothing_else_where_requests_are_refused() {
    let counts = killed_under_load("deny").await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&200, &503]);
}

#[tokio::test]
async fn without_redis_the_same_limit_counts_here() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let gateway = limited(&url, "quota = '5/1d'");
    let counts = storm(&[gateway.address()], 1, 20).await;
    assert_eq!(counts, Counts::from([(200, 5), (429, 15)]));
    assert_eq!(degraded(&gateway), 20.0);
    assert_eq!(gateway.metric("tollgate_redis_up", &[]), 0.0);
}

#[tokio::test]
async fn the_figures_tell_of_another_redis_when_a_reload_takes_effect() {
    let owner = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = owner.local_addr().unwrap();
    let url = format!("redis://127.0.0.1:{}", free_port());
    let gateway = limited(&url, "quota = '5/1d'");
    assert_eq!(get(&gateway).await.status, 200);
    let told = || {
        let up = gateway.metric("tollgate_redis_up", &[]);
        (up, is_open(&gateway))
    };
    assert_eq!(told(), (0.0, true));
    let redis = RedisServer::start();
    let with = |listen: &str| {
        format!(
            "[server]\nlisten = [{listen}]\n[redis]\nurl = '{}'\n\
             [routes.all]\nrespond = {{ body = 'ok' }}\nrate_limits = ['one']\n\
             [rate_limits.one]\nkey = 'client_ip'\nstore = 'redis'\nquota = '5/1d'\n",
            redis.url()
        )
    };
    gateway.refuse(&with(&format!("'127.0.0.1:0', '{taken}'")));
    assert_eq!(told(), (0.0, true), "the one that is away goes on");
    gateway.apply(&with("'127.0.0.1:0'"));
    assert_eq!(told(), (1.0, false));
}

#[tokio::test]
async fn without_redis_everything_passes_where_that_is_asked_for() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let gateway = limited(&url, "quota = '5/1d'\non_store_error = 'allow'");
    let counts = storm(&[gateway.address()], 1, 20).await;
    assert_eq!(
        (counts, degraded(&gateway)),
        (Counts::from([(200, 20)]), 20.0)
    );
}

#[tokio::test]
async fn without_redis_everything_is_refused_where_that_is_asked_for() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let gateway = limited(&url, "quota = '5/1d'\non_store_error = 'deny'");
    let refused = get(&gateway).await.refusal();
    assert_eq!(refused, (503, "limit.store_unavailable".to_owned()));
    assert_eq!(degraded(&gateway), 1.0);
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_few_deadlines_and_then_nothing() {
    let redis = RedisServer::start();
    let gateway = limited(&redis.url(), "quota = '1000000/1h'");
    assert_eq!(get(&gateway).await.status, 200);
    redis.freeze();
    let load = Storm::over(gateway.address());
    eventually(|| is_open(&gateway)).await;
    let before = degraded(&gateway);
    eventually(|| degraded(&gateway) > before + 300.0).await;
    redis.thaw();
    let took = recovery(&gateway).await;
    let (counts, slowest) = load.end().await;
    println!("recovered in {took:?}, the slowest request took {slowest:?}");
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&200]);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[tokio::test]
async fn a_redis_that_is_slow_is_left_alone() {
    let redis = RedisServer::start();
    let url = redis.behind_delay(Duration::from_millis(150)).await;
    let gateway = limited(&url, "quota = '1000000/1h'");
    let load = Storm::over(gateway.address());
    eventually(|| is_open(&gateway)).await;
    let (counts, _) = load.end().await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&200]);
    assert_eq!(degraded(&gateway), f64::from(counts[&200]));
}

#[tokio::test]
async fn a_redis_that_was_slow_is_used_again_when_it_is_quick() {
    let redis = RedisServer::start();
    let delay = Arc::new(AtomicU64::new(150));
    let url = redis.behind_changing_delay(&delay).await;
    let gateway = limited(&url, "quota = '1000000/1h'");
    let load = Storm::over(gateway.address());
    eventually(|| is_open(&gateway)).await;
    let before = redis.calls("evalsha");
    delay.store(0, Relaxed);
    let took = recovery(&gateway).await;
    eventually(|| redis.calls("evalsha") > before + 100).await;
    let (counts, slowest) = load.end().await;
    println!("recovered in {took:?}, the slowest request took {slowest:?}");
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&200]);
    assert!(f64::from(counts[&200]) > degraded(&gateway));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_redis_that_is_full_is_left_alone_until_it_has_room() {
    let redis = RedisServer::with(&["--maxmemory-policy", "noeviction"]);
    let gateway = limited(&redis.url(), "quota = '1000000/1h'");
    assert_eq!(get(&gateway).await.status, 200);
    assert!(redis.run("CONFIG SET maxmemory 1").starts_with("+OK"));
    let counts = storm(&[gateway.address()], 1, 100).await;
    assert_eq!(counts, Counts::from([(200, 100)]));
    assert_eq!(degraded(&gateway), 100.0);
    assert!(is_open(&gateway));
    assert!(redis.run("CONFIG SET maxmemory 0").starts_with("+OK"));
    let took = recovery(&gateway).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_redis_that_a_script_keeps_busy_is_left_alone_until_that_is_killed() {
    let redis = RedisServer::with(&["--lua-time-limit", "50"]);
    let gateway = limited(&redis.url(), "quota = '1000000/1h'");
    assert_eq!(get(&gateway).await.status, 200);
    let load = Storm::over(gateway.address());
    let mut operator = TcpStream::connect(("127.0.0.1", redis.port()))
        .await
        .unwrap();
    let endless = b"EVAL \"while true do end\" 0\r\n";
    operator.write_all(endless).await.unwrap();
    eventually(|| is_open(&gateway)).await;
    assert!(redis.run("PING").starts_with("-BUSY"));
    let before = degraded(&gateway);
    eventually(|| degraded(&gateway) > before + 100.0).await;
    assert!(redis.run("SCRIPT KILL").starts_with("+OK"));
    let took = recovery(&gateway).await;
    let (counts, slowest) = load.end().await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&200]);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// Two limits with a deadline: one by whoever a request says it is from, and the one that this needs
/// beside it.
fn by_name(url: &str, timeout: &str, quota: &str) -> Gateway {
    let tables = format!(
        "[server]\nworkers = 1\n\
         [rate_limits.each]\nkey = 'header:x-who'\nquota = '{quota}'\nstore = 'redis'\n\
         [rate_limits.all]\nkey = 'client_ip'\nquota = '1000000/1h'"
    );
    let url = format!("'{url}'\ntimeout = '{timeout}'");
    limited_by(&url, &tables, "['each', 'all']")
}

#[tokio::test]
async fn a_key_that_another_program_has_taken_takes_no_other_caller_out_of_redis() {
    let redis = RedisServer::start();
    let gateway = by_name(&redis.url(), "20s", "1000/1d");
    assert_eq!(get_as(&gateway, "mallory").await.status, 200);
    let keys = redis.run("KEYS *:t:each");
    let key = keys.lines().nth(2).expect("it is counted");
    assert!(redis.run(&format!("SET {key} x")).starts_with("+OK"));
    for _ in 0..10 {
        assert_eq!(get_as(&gateway, "mallory").await.status, 200);
    }
    assert!(!is_open(&gateway));
    assert_eq!(degraded(&gateway), 10.0);
    assert_eq!(get_as(&gateway, "alice").await.status, 200);
    assert_eq!(degraded(&gateway), 10.0);
}

#[tokio::test]
async fn what_redis_answers_too_late_is_no_answer_to_the_next_question() {
    let redis = RedisServer::start();
    let delay = Arc::new(AtomicU64::new(0));
    let url = redis.behind_changing_delay(&delay).await;
    let gateway = by_name(&url, "1s", "3/1d");
    for status in [200, 200, 200, 429] {
        assert_eq!(get_as(&gateway, "mallory").await.status, status);
    }
    delay.store(1_200, Relaxed);
    // Redis refuses, and is not heard in time.
    assert_eq!(get_as(&gateway, "mallory").await.status, 200);
    assert_eq!(degraded(&gateway), 1.0);
    delay.store(0, Relaxed);
    // The late refusal comes on the same connection, before the answer.
    let answer = get_as(&gateway, "alice").await;
    assert_eq!(answer.status, 200);
    let told = answer.header("ratelimit").unwrap();
    assert!(told.starts_with("\"each\";r=2;"), "{told}");
    assert_eq!(get_as(&gateway, "mallory").await.status, 429);
    assert_eq!(degraded(&gateway), 1.0);
}

#[tokio::test]
async fn a_password_that_redis_does_not_take_is_told_from_a_redis_that_is_not_there() {
    let redis = RedisServer::with(&["--requirepass", "right"]);
    for who in ["", ":wrong@", "nobody:right@"] {
        let url = format!("redis://{who}127.0.0.1:{}", redis.port());
        let gateway = limited(&url, "quota = '5/1d'");
        let counts = storm(&[gateway.address()], 1, 20).await;
        assert_eq!(counts, Counts::from([(200, 5), (429, 15)]), "{who}");
        assert!(is_open(&gateway), "{who}");
        let errors = |cause| gateway.metric("tollgate_redis_errors_total", &[cause]);
        assert!(errors("refused") >= 1.0, "{who}");
        assert_eq!(errors("unreachable"), 0.0, "{who}");
    }
}

#[tokio::test]
async fn whatever_answers_in_the_place_of_redis_no_request_fails() {
    for answer in [
        "\0\0\0\0garbage\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "+OK\r\n",
        ":1\r\n",
        "*-1\r\n",
        "*5\r\n:1\r\n:0\r\n:99999999999\r\n:1\r\n:1\r\n",
        "*5\r\n:1\r\n:7\r\n:1\r\n:1\r\n:1\r\n",
        "*1000000\r\n:1\r\n",
        "$99999999999\r\nx",
        "-ERR no\r\n",
        "-MOVED 1 127.0.0.1:1\r\n",
        "-ASK 1 127.0.0.1:1\r\n",
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        "-CLUSTERDOWN The cluster is down\r\n",
        "-NOSCRIPT No matching script. Please use EVAL.\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-BUSY Redis is busy running a script.\r\n",
        "-READONLY You can't write against a read only replica.\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
        "-NOAUTH Authentication required.\r\n",
        "-NOPERM this user has no permissions\r\n",
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        "",
    ] {
        let gateway = limited(&nonsense(answer).await, "quota = '5/1d'");
        let counts = within(storm(&[gateway.address()], 1, 20)).await;
        assert_eq!(counts, Counts::from([(200, 5), (429, 15)]), "{answer:?}");
        assert_eq!(degraded(&gateway), 20.0, "{answer:?}");
    }
}

/// A server that greets as Redis does, and then says one thing to every command.
async fn nonsense(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 16384];
                while let Ok(length @ 1..) = client.read(&mut buffer).await {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    let greetings = text.matches("SETINFO").count();
                    let answer = match greetings {
                        0 => answer.to_owned(),
                        more => "+OK\r\n".repeat(more),
                    };
                    if client.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read_on_when_redis_counts_as_away() {
    let (url, first) = endless().await;
    let gateway = limited(&url, "quota = '1000000/1d'");
    within(async {
        while !is_open(&gateway) {
            assert_eq!(get(&gateway).await.status, 200);
        }
        first.await.unwrap();
    })
    .await;
}

/// A server that greets as Redis does, and answers the next command without an end; and the end of its
/// first connection.
async fn endless() -> (String, tokio::sync::oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let (over, first) = tokio::sync::oneshot::channel();
    let mut over = Some(over);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let over = over.take();
            tokio::spawn(async move {
                talk_on(client).await;
                if let Some(over) = over {
                    over.send(()).unwrap();
                }
            });
        }
    });
    (url, first)
}

/// Talks until the client has gone.
async fn talk_on(mut client: TcpStream) {
    let mut buffer = [0; 16384];
    let mut greetings = 1;
    while greetings > 0 {
        let Ok(length @ 1..) = client.read(&mut buffer).await else {
            return;
        };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        greetings = text.matches("SETINFO").count();
        let answer = "+OK\r\n".repeat(greetings);
        if client.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
    let mut part = b"$500000000\r\n".to_vec();
    while client.write_all(&part).await.is_ok() {
        part = vec![b'x'; 1_000];
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn connections_that_take_longer_than_the_deadline_are_made_once_and_used() {
    let redis = RedisServer::start();
    let (url, proxy) = greeting_late(redis.port(), Duration::from_millis(300)).await;
    let gateway = Gateway::start(&format!(
        "[server]\nworkers = 4\n[redis]\nurl = '{url}'\n\
         [routes.all]\nrespond = {{}}\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '1000000/1d'\nstore = 'redis'\n"
    ));
    let loads = [(); 8].map(|()| Storm::over(gateway.address()));
    // All workers are connected, whatever the others' requests have waited for in vain.
    let decided = || gateway.metric("tollgate_redis_duration_seconds_count", &[]);
    let mut before = (decided(), degraded(&gateway));
    within(async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = (decided(), degraded(&gateway));
            if now.0 > before.0 && now.1 == before.1 {
                return;
            }
            before = now;
        }
    })
    .await;
    for load in loads {
        let (counts, slowest) = load.end().await;
        assert_eq!(counts.keys().collect::<Vec<_>>(), [&200]);
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    }
    proxy.abort();
}

/// A Redis that takes its time with the first answer of each connection.
async fn greeting_late(behind: u16, late: Duration) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let proxy = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                let server = TcpStream::connect(("127.0.0.1", behind)).await;
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server.unwrap()).await;
            });
        }
    });
    (url, proxy)
}
