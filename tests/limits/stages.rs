//! Several limits at once: all or none, the tightest told, shadow mode, costs that answers tell.

use super::{Limited, admin};
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::support::{Origin, Raw, Server, Streams, eventually, reply};

const THREE: &str = "[rate_limits.a]\nkey = 'client_ip'\nquota = '5/1h'\n\
     [rate_limits.b]\nkey = 'header:x-b'\nquota = '2/1h'\n\
     [rate_limits.c]\nkey = 'header:x-c'\nquota = '3/1h'\n";

#[tokio::test]
async fn none_is_charged_when_another_refuses() {
    let limited = Limited::answering("['a', 'b', 'c']", THREE);
    assert_eq!(limited.passed(2, "X-B: 1\r\nX-C: 1\r\n").await, 2);
    // Ten refusals by `b` take nothing from `a` and `c`.
    assert_eq!(limited.passed(10, "X-B: 1\r\nX-C: 1\r\n").await, 0);
    assert_eq!(limited.passed(2, "X-B: 2\r\nX-C: 1\r\n").await, 1);
    assert_eq!(limited.passed(5, "X-B: 3\r\nX-C: 2\r\n").await, 2);
}

#[tokio::test]
async fn the_tightest_is_told_and_all_policies() {
    let limited = Limited::answering("['a', 'b', 'c']", THREE);
    let answer = limited.with("X-B: 1\r\nX-C: 1\r\n").await;
    assert!(
        answer
            .header("ratelimit")
            .expect("told")
            .starts_with("\"b\";r=1;t=")
    );
    let policies = answer.all("ratelimit-policy").join(", ");
    assert_eq!(
        policies,
        "\"a\";q=5;w=3600, \"b\";q=2;w=3600, \"c\";q=3;w=3600"
    );
    assert_eq!(limited.passed(1, "X-B: 1\r\nX-C: 1\r\n").await, 1);
    let answer = limited.with("X-B: 1\r\nX-C: 1\r\n").await;
    assert_eq!(answer.json()["error"]["details"]["limit"], "b");
    assert!(
        answer
            .header("ratelimit")
            .expect("told")
            .starts_with("\"b\";r=0;t=")
    );
    assert_eq!(answer.all("ratelimit-policy").join(", "), policies);
}

#[tokio::test]
async fn who_is_refused_need_not_wait_for_a_limit_that_only_watches() {
    let limited = Limited::answering(
        "['watches', 'short']",
        "[rate_limits.watches]\nkey = 'client_ip'\nquota = '2/1h'\nenforce = false\n\
         algorithm = 'fixed_window'\n\
         [rate_limits.short]\nkey = 'caller'\nquota = '1/10s'\nalgorithm = 'fixed_window'\n",
    );
    assert_eq!(limited.passed(1, "").await, 1);
    let refused = limited.get().await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused
        .header("retry-after")
        .expect("told")
        .parse()
        .expect("seconds");
    assert!(wait <= 10, "{wait}");
}

#[tokio::test]
async fn a_limit_in_shadow_mode_counts_and_logs_only() {
    let limited = Limited::answering(
        "['a', 'shadow']",
        "[rate_limits.a]\nkey = 'client_ip'\nquota = '100/1h'\n\
         [rate_limits.shadow]\nkey = 'client_ip'\nquota = '1/1h'\nenforce = false\n",
    );
    assert_eq!(limited.passed(3, "").await, 3);
    let answer = limited.get().await;
    assert!(
        answer
            .header("ratelimit")
            .expect("told")
            .starts_with("\"a\"")
    );
    assert_eq!(answer.all("ratelimit-policy"), ["\"a\";q=100;w=3600"]);
    let lines = limited.gateway.log_lines(4).await;
    assert!(lines[0].get("shadow").is_none());
    assert_eq!(
        (&lines[3]["shadow"], &lines[3]["limit"]),
        (&"limit.exceeded".into(), &"shadow".into())
    );
    let decisions = |decision: &str| {
        let labels = ["limit=\"shadow\"", &format!("decision=\"{decision}\"")];
        limited
            .gateway
            .metric("tollgate_rate_limit_decisions_total", &labels)
    };
    assert_eq!(
        (
            decisions("allow"),
            decisions("shadow_deny"),
            decisions("deny")
        ),
        (1.0, 3.0, 0.0)
    );
}

#[tokio::test]
async fn a_limit_in_shadow_mode_refuses_nobody_for_want_of_a_key() {
    let limited = Limited::answering(
        "['shadow', 'address']",
        "[rate_limits.shadow]\nkey = 'header:x-tenant'\nquota = '1/1h'\nenforce = false\n\
         on_missing_key = 'refuse'\n\
         [rate_limits.address]\nkey = 'client_ip'\nquota = '100/1h'\n",
    );
    assert_eq!(limited.passed(2, "").await, 2);
    let lines = limited.gateway.log_lines(2).await;
    assert_eq!(lines[1]["shadow"], "limit.key_missing");
    let labels = ["limit=\"shadow\"", "decision=\"shadow_deny\""];
    let counted = limited
        .gateway
        .metric("tollgate_rate_limit_decisions_total", &labels);
    assert_eq!(counted, 2.0);
}

#[tokio::test]
async fn a_limit_in_shadow_mode_is_not_charged_either_when_another_refuses() {
    let limited = Limited::answering(
        "['shadow', 'address']",
        "[rate_limits.shadow]\nkey = 'client_ip'\nquota = '9/1h'\nenforce = false\n\
         [rate_limits.address]\nkey = 'client_ip'\nquota = '2/1h'\n",
    );
    assert_eq!(limited.passed(20, "").await, 2);
    let key = admin::get(&limited, "/api/limits/shadow/keys/127.0.0.1").await;
    assert_eq!(key["data"]["windows"][0]["remaining"], 7);
    // And one that would refuse keeps nobody from being charged by the other.
    let limited = Limited::answering(
        "['shadow', 'address']",
        "[rate_limits.shadow]\nkey = 'client_ip'\nquota = '1/1h'\nenforce = false\n\
         [rate_limits.address]\nkey = 'client_ip'\nquota = '5/1h'\n",
    );
    assert_eq!(limited.passed(9, "").await, 5);
}

#[tokio::test]
async fn a_cost_that_the_answer_tells_is_charged_afterwards_and_may_go_into_debt() {
    let server = Server::http1(|request| async move {
        let cost = request.headers()["x-ask"].clone();
        let mut response = reply("ok");
        response.headers_mut().insert("x-cost", cost);
        response
    })
    .await;
    let limited = Limited::start(&format!(
        "[routes.all]\nupstream = '{}'\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '60/1m'\ncost_header = 'x-cost'\n",
        server.url()
    ));
    let remaining = async |cost: &str| {
        let answer = limited.with(&format!("X-Ask: {cost}\r\n")).await;
        let told = answer.header("ratelimit").expect("told").to_owned();
        let (_, rest) = told.split_once("r=").expect("a number");
        rest.split(';')
            .next()
            .expect("a number")
            .parse::<u32>()
            .expect("a number")
    };
    assert!(remaining("20").await >= 40);
    assert!(remaining("0").await >= 40, "nothing was charged");
    assert!(remaining("nonsense").await >= 39, "one, as ever");
    assert_eq!(remaining("99").await, 0);
    let answer = limited.with("X-Ask: 1\r\n").await;
    assert_eq!(answer.refusal().0, 429);
    // 119 of 60 and one more: a minute of debt.
    let wait: u64 = answer
        .header("retry-after")
        .expect("told")
        .parse()
        .expect("a number");
    assert!((55..=62).contains(&wait), "{wait}");
    limited.later(62.0);
    assert_eq!(limited.with("X-Ask: 1\r\n").await.status, 200);
}

#[tokio::test]
async fn fields_of_the_upstream_give_way_to_ours() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRateLimit: \"theirs\";r=9999\r\n\
         RateLimit-Policy: \"theirs\";q=9999\r\nRateLimit-Policy: \"more\";q=1\r\nX-RateLimit-Limit: 9999\r\n\r\nok",
    )
    .await;
    let limited = Limited::start(&format!(
        "[routes.all]\nupstream = '{}'\nrate_limits = ['a', 'b']\n\
         [rate_limits.a]\nkey = 'client_ip'\nquota = '5/1h'\nheaders = 'both'\n\
         [rate_limits.b]\nkey = 'caller'\nquota = '4/1h'\nheaders = 'both'\n\
         [routes.off]\npath = '/off'\nupstream = '{}'\nrate_limits = ['off']\n\
         [rate_limits.off]\nkey = 'client_ip'\nquota = '5/1h'\nheaders = 'off'\n",
        origin.url(),
        origin.url()
    ));
    let answer = limited.get().await;
    assert_eq!(answer.all("ratelimit").len(), 1);
    assert!(
        answer
            .header("ratelimit")
            .expect("told")
            .starts_with("\"b\";r=3;t=")
    );
    assert_eq!(answer.all("x-ratelimit-limit"), ["4"]);
    assert_eq!(answer.all("x-ratelimit-remaining"), ["3"]);
    let mut policies = answer.all("ratelimit-policy");
    policies.sort_unstable();
    assert_eq!(policies, ["\"a\";q=5;w=3600", "\"b\";q=4;w=3600"]);
    let answer = limited.ask("/off", "").await;
    assert_eq!(answer.header("ratelimit"), Some("\"theirs\";r=9999"));
}

#[tokio::test]
async fn a_refusal_behind_authentication_tells_the_limits_before_it_too() {
    let limited = Limited::answering(
        "['early', 'late']",
        "[rate_limits.early]\nkey = 'client_ip'\nquota = '100/1h'\n\
         [rate_limits.late]\nkey = 'caller'\nquota = '1/1h'\n",
    );
    assert_eq!(limited.get().await.status, 200);
    let answer = limited.get().await;
    assert_eq!(answer.refusal(), (429, "limit.exceeded".to_owned()));
    assert!(
        answer
            .header("ratelimit")
            .expect("told")
            .starts_with("\"late\";r=0;t=")
    );
    assert_eq!(answer.all("ratelimit-policy").len(), 2);
    assert_eq!(answer.header("retry-after"), Some("3600"));
}

#[tokio::test]
async fn limits_that_race_let_no_more_through_than_their_quota() {
    let gateway = Limited::start(
        "[server]\nworkers = 4\n[routes.all]\nrespond = {}\nrate_limits = ['a', 'b']\n\
         [rate_limits.a]\nkey = 'client_ip'\nquota = '100/1h'\n\
         [rate_limits.b]\nkey = 'method'\nquota = '60/1h'\nalgorithm = 'fixed_window'\n",
    );
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let address = gateway.gateway.address();
        tasks.spawn(async move {
            let mut connection = crate::support::Raw::connect(address).await;
            let mut passed = 0;
            for _ in 0..40 {
                connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                passed += u32::from(connection.answer().await.status == 200);
            }
            passed
        });
    }
    let passed: u32 = tasks.join_all().await.into_iter().sum();
    assert_eq!(passed, 60);
    // What `b` refused was given back to `a`: 40 are left there.
    let request =
        "GET /api/limits/a/keys/127.0.0.1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let seen = Raw::ask(gateway.gateway.admin(), request).await.json();
    assert_eq!(seen["data"]["windows"][0]["remaining"], 40);
    let lines = gateway.gateway.metric(
        "tollgate_rate_limit_decisions_total",
        &["decision=\"deny\"", "limit=\"b\""],
    );
    assert_eq!(lines, 260.0);
    eventually(|| {
        gateway
            .gateway
            .metric("tollgate_rate_limit_keys", &["limit=\"a\""])
            == 1.0
    })
    .await;
}

#[tokio::test]
async fn who_comes_when_told_is_let_in_by_all() {
    // Of one stage, and of two.
    for second in ["client_ip", "caller"] {
        let limited = Limited::answering(
            "['short', 'long']",
            &format!(
                "[rate_limits.short]\nkey = '{second}'\nquota = '3/10s'\nalgorithm = 'fixed_window'\n\
                 [rate_limits.long]\nkey = 'client_ip'\nquota = '3/1h'\nalgorithm = 'fixed_window'\n"
            ),
        );
        assert_eq!(limited.passed(3, "").await, 3);
        let answer = limited.get().await;
        assert_eq!(answer.status, 429, "{second}");
        let wait = answer.header("retry-after").expect("told");
        let wait: u64 = wait.parse().expect("a number");
        let told = answer.header("ratelimit").expect("told");
        assert!(told.ends_with(&format!(";r=0;t={wait}")), "{told}");
        limited.clock.advance(std::time::Duration::from_secs(wait));
        assert_eq!(limited.get().await.status, 200, "{second}");
    }
}

#[tokio::test]
async fn the_stage_before_authentication_draws_the_wait_of_the_one_behind_it_out() {
    let limited = Limited::answering(
        "['short', 'long']",
        "[rate_limits.short]\nkey = 'caller'\nquota = '2/10s'\nalgorithm = 'fixed_window'\n\
         [rate_limits.long]\nkey = 'client_ip'\nquota = '3/1m'\nalgorithm = 'fixed_window'\n",
    );
    assert_eq!(limited.passed(2, "").await, 2);
    // Refused behind, and the last of three before: nothing more before the minute is over.
    let answer = limited.get().await;
    assert_eq!(answer.json()["error"]["details"]["limit"], "short");
    let wait: u64 = answer
        .header("retry-after")
        .expect("told")
        .parse()
        .expect("a number");
    assert!(wait > 40, "{wait}");
    assert_eq!(
        answer.header("ratelimit"),
        Some(&*format!("\"long\";r=0;t={wait}"))
    );
}

/// An origin that says a request has cost what it asked for with `X-Ask`; `/slow` answers when it may.
async fn costing() -> (Server, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let server = Server::http1(move |request| {
        let waits = Arc::clone(&waits);
        async move {
            if request.uri().path() == "/slow" {
                waits.acquire().await.expect("it is open").forget();
            }
            let mut response = reply("ok");
            let cost = request.headers()["x-ask"].clone();
            response.headers_mut().insert("x-cost", cost);
            response
        }
    });
    (server.await, gate)
}

#[tokio::test]
async fn what_is_given_back_of_a_window_that_has_passed_is_no_gift_to_the_next() {
    let (server, gate) = costing().await;
    let limited = Limited::start(&format!(
        "[routes.all]\nupstream = '{url}'\nrate_limits = ['one']\n\
         [routes.slow]\npath = '/slow'\nupstream = '{url}'\nrate_limits = ['one']\ncost = 5\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '10/1m'\nalgorithm = 'fixed_window'\ncost_header = 'x-cost'\n",
        url = server.url()
    ));
    limited.later(40.0);
    let mut slow = Raw::connect(limited.gateway.address()).await;
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\nX-Ask: 0\r\n\r\n")
        .await;
    let charged = || {
        let labels = ["limit=\"one\"", "route=\"slow\"", "decision=\"allow\""];
        limited
            .gateway
            .metric("tollgate_rate_limit_decisions_total", &labels)
    };
    eventually(|| charged() == 1.0).await;
    limited.later(20.0);
    assert_eq!(limited.passed(12, "X-Ask: 1\r\n").await, 10);
    gate.add_permits(1);
    assert_eq!(slow.answer().await.status, 200);
    assert_eq!(limited.passed(3, "X-Ask: 1\r\n").await, 0);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_has_paid() {
    let origin = Streams::start().await;
    let limited = Limited::start(&format!(
        "[routes.all]\nupstream = '{}'\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '2/1h'\ncost_header = 'x-cost'\n",
        origin.server.url()
    ));
    let mut feeds = Vec::new();
    for _ in 0..2 {
        let mut client = Raw::connect(limited.gateway.address()).await;
        client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await;
        feeds.push(origin.feed().await);
        client.reset();
    }
    limited.gateway.log_lines(2).await;
    assert_eq!(limited.get().await.status, 429);
}

#[tokio::test]
async fn the_tightest_is_told_also_where_an_answer_gives_back() {
    let (server, _) = costing().await;
    let limited = Limited::start(&format!(
        "[routes.all]\nupstream = '{}'\nrate_limits = ['costs', 'other']\n\
         [rate_limits.costs]\nkey = 'client_ip'\nquota = '3/1h'\ncost_header = 'x-cost'\n\
         [rate_limits.other]\nkey = 'client_ip'\nquota = '3/1h'\n",
        server.url()
    ));
    let answer = limited.with("X-Ask: 0\r\n").await;
    let told = answer.header("ratelimit").expect("told");
    assert!(told.starts_with("\"other\";r=2;"), "{told}");
    // What is whole again is told too.
    let alone = Limited::start(&format!(
        "[routes.all]\nupstream = '{}'\nrate_limits = ['costs']\n\
         [rate_limits.costs]\nkey = 'client_ip'\nquota = '3/1h'\ncost_header = 'x-cost'\n",
        server.url()
    ));
    let answer = alone.with("X-Ask: 0\r\n").await;
    assert_eq!(answer.header("ratelimit"), Some("\"costs\";r=3;t=0"));
}

#[tokio::test]
async fn what_a_limit_in_shadow_mode_is_told_to_cost_is_told_to_nobody() {
    let (server, _) = costing().await;
    let limited = Limited::start(&format!(
        "[routes.all]\nupstream = '{}'\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '9/1h'\ncost_header = 'x-cost'\nenforce = false\n",
        server.url()
    ));
    let answer = limited.with("X-Ask: 3\r\n").await;
    assert_eq!(answer.header("ratelimit"), None);
    assert_eq!(answer.header("ratelimit-policy"), None);
}

#[tokio::test]
async fn a_cost_is_a_whole_number_however_large() {
    let (server, _) = costing().await;
    let with = || {
        Limited::start(&format!(
            "[routes.all]\nupstream = '{}'\nrate_limits = ['one']\n\
             [rate_limits.one]\nkey = 'client_ip'\nquota = '9/1h'\ncost_header = 'x-cost'\n",
            server.url()
        ))
    };
    let limited = with();
    for odd in ["-5", "+5", "1.5", "1e3", "0x10", "5, 5"] {
        let answer = limited.with(&format!("X-Ask: {odd}\r\n")).await;
        assert_eq!(answer.status, 200, "{odd}: it costs one, as ever");
    }
    for large in ["4294967296", "99999999999999999999999999"] {
        let limited = with();
        assert_eq!(
            limited.with(&format!("X-Ask: {large}\r\n")).await.status,
            200
        );
        assert_eq!(limited.with("X-Ask: 1\r\n").await.status, 429, "{large}");
    }
}
