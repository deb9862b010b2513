//! What a limited client is told.

use serde_json::Value;

use super::Limited;
use crate::support::{Origin, Raw, empty, eventually, http2, read, request};

#[tokio::test]
async fn a_refusal_says_when_to_come_again_and_never_too_early() {
    let limited = Limited::by("key = 'client_ip'\nquota = '2/1m'\nbucket = 1");
    let first = limited.get().await;
    assert_eq!(first.header("ratelimit-policy"), Some("\"one\";q=2;w=60"));
    let told = first.header("ratelimit").expect("told");
    assert!(
        ["\"one\";r=0;t=30", "\"one\";r=0;t=29"].contains(&told),
        "{told}"
    );
    assert_eq!(first.header("retry-after"), None);
    let refused = limited.get().await;
    assert_eq!(refused.refusal(), (429, "limit.exceeded".to_owned()));
    let wait: u64 = refused
        .header("retry-after")
        .expect("told")
        .parse()
        .expect("seconds");
    assert_eq!(
        refused.header("ratelimit"),
        Some(&*format!("\"one\";r=0;t={wait}"))
    );
    let json = refused.json();
    assert_eq!(json["error"]["code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(json["error"]["details"]["limit"], "one");
    limited.clock.advance(std::time::Duration::from_secs(wait));
    assert_eq!(limited.get().await.status, 200, "never early");
}

#[tokio::test]
async fn the_older_fields_are_sent_when_asked_for() {
    let limited = Limited::by(
        "key = 'client_ip'\nquota = '5/1m'\nheaders = 'legacy'\nalgorithm = 'fixed_window'",
    );
    let answer = limited.get().await;
    assert_eq!(answer.header("x-ratelimit-limit"), Some("5"));
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("4"));
    let reset: u64 = answer
        .header("x-ratelimit-reset")
        .expect("told")
        .parse()
        .expect("seconds");
    assert!((50..=60).contains(&reset));
    assert_eq!(answer.header("ratelimit"), None);
    let both = Limited::by("key = 'client_ip'\nquota = '5/1m'\nheaders = 'both'");
    let answer = both.get().await;
    assert!(answer.header("ratelimit").is_some() && answer.header("x-ratelimit-limit").is_some());
    let off = Limited::by("key = 'client_ip'\nquota = '1/1m'\nheaders = 'off'");
    assert_eq!(off.passed(1, "").await, 1);
    let answer = off.get().await;
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").is_some());
    let names = ["ratelimit", "ratelimit-policy", "x-ratelimit-limit"];
    assert!(names.iter().all(|name| answer.header(name).is_none()));
}

#[tokio::test]
async fn limits_with_other_fields_on_one_route_are_told_each_in_its_own() {
    let limited = Limited::answering(
        "['new', 'old']",
        "[rate_limits.new]\nkey = 'client_ip'\nquota = '9/1h'\n\
         [rate_limits.old]\nkey = 'client_ip'\nquota = '2/1h'\nheaders = 'legacy'\n",
    );
    for left in [1, 0] {
        let passed = limited.get().await;
        assert_eq!(passed.status, 200);
        assert_eq!(passed.all("ratelimit-policy"), ["\"new\";q=9;w=3600"]);
        let told = passed.header("ratelimit").expect("told");
        let expected = format!("\"new\";r={};t=", left + 7);
        assert!(told.starts_with(&expected), "{told}");
        assert_eq!(passed.header("x-ratelimit-limit"), Some("2"));
        let remaining = passed.header("x-ratelimit-remaining");
        assert_eq!(remaining, Some(&*left.to_string()));
    }
    let refused = limited.get().await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["details"]["limit"], "old");
    assert_eq!(refused.all("ratelimit-policy"), ["\"new\";q=9;w=3600"]);
    assert_eq!(refused.header("ratelimit"), None, "it has not counted this");
    assert_eq!(refused.header("x-ratelimit-limit"), Some("2"));
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn a_refusal_tells_what_a_stage_before_has_counted_in_other_fields() {
    let limited = Limited::answering(
        "['new', 'old']",
        "[rate_limits.new]\nkey = 'client_ip'\nquota = '9/1h'\n\
         [rate_limits.old]\nkey = 'caller'\nquota = '1/1h'\nheaders = 'legacy'\n",
    );
    assert_eq!(limited.passed(1, "").await, 1);
    let refused = limited.get().await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["details"]["limit"], "old");
    let told = refused.header("ratelimit").expect("told");
    assert!(told.starts_with("\"new\";r=7;t="), "{told}");
    assert_eq!(refused.header("x-ratelimit-limit"), Some("1"));
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
}

#[tokio::test]
async fn several_windows_are_told_by_their_times() {
    let limited =
        Limited::by("key = 'client_ip'\nquota = ['2/1s', '50/1h']\nalgorithm = 'fixed_window'");
    let answer = limited.get().await;
    let policy = answer.header("ratelimit-policy").expect("told");
    assert_eq!(policy, "\"one-1s\";q=2;w=1, \"one-1h\";q=50;w=3600");
    assert_eq!(answer.header("ratelimit"), Some("\"one-1s\";r=1;t=1"));
}

#[tokio::test]
async fn problem_details_and_grpc_callers_are_told_in_their_form() {
    let limited = Limited::by("key = 'client_ip'\nquota = '1/1h'");
    assert_eq!(limited.get().await.status, 200);
    let problem = limited.with("Accept: application/problem+json\r\n").await;
    assert_eq!(
        problem.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(problem.json()["limit"], "one");
    let mut client = http2(limited.gateway.address()).await;
    let call = request("POST", "/").header("content-type", "application/grpc");
    let call = call.body(empty()).expect("a request");
    let answer = read(client.send_request(call).await.expect("an answer")).await;
    let status = (answer.status(), answer.header("grpc-status"));
    assert_eq!(status, (200, Some("14")));
    assert_eq!(answer.header("retry-after"), Some("3600"));
}

/// They go into heads in two ways, by whether there is a body.
#[tokio::test]
async fn the_fields_stand_once_on_every_answer_whatever_the_server_says_there() {
    for (method, version, end) in [
        ("GET", "1.1", "200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", "1.0", "200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", "1.1", "200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HEAD", "1.1", "200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("GET", "1.1", "204 No Content\r\n\r\n"),
        ("GET", "1.1", "304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
    ] {
        let (status, rest) = end.split_once("\r\n").expect("a head");
        let theirs = format!(
            "HTTP/1.1 {status}\r\nRateLimit: \"x\";r=9\r\nRateLimit-Policy: \"x\";q=9\r\n\
             X-RateLimit-Limit: 9\r\n{rest}"
        );
        let origin = Origin::answering(theirs).await;
        let limited = Limited::start(&format!(
            "[routes.all]\nupstream = '{}'\nrate_limits = ['one']\n\
             [rate_limits.one]\nkey = 'client_ip'\nquota = '7/1h'\n",
            origin.url()
        ));
        let ask = format!("{method} / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = Raw::ask_and_close(limited.gateway.address(), ask).await;
        let told = answer.all("ratelimit");
        assert!(
            told.len() == 1 && told[0].starts_with("\"one\";r=6;t="),
            "{end:?}: {told:?}"
        );
        assert_eq!(answer.all("ratelimit-policy"), ["\"one\";q=7;w=3600"]);
        assert_eq!(answer.all("x-ratelimit-limit"), ["9"], "not ours to say");
    }
}

#[tokio::test]
async fn a_refusal_shows_nothing_of_the_request() {
    let limited = Limited::by("key = 'client_ip'\nquota = '1/1h'");
    assert_eq!(limited.get().await.status, 200);
    let lines = "Authorization: Bearer s3cret\r\nCookie: a=s3cret\r\nCookie: b=s3cret\r\n";
    let refused = limited.with(lines).await;
    assert_eq!(refused.status, 429);
    let names: Vec<_> = refused.fields.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        names,
        [
            "content-type",
            "cache-control",
            "x-request-id",
            "ratelimit-policy",
            "ratelimit",
            "retry-after",
            "content-length",
            "connection",
            "date"
        ]
    );
    let head = "HEAD / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let head = Raw::ask_and_close(limited.gateway.address(), head).await;
    assert_eq!((head.status, head.all("retry-after").len()), (429, 1));
    assert_eq!(
        head.header("content-length"),
        refused.header("content-length")
    );
}

#[tokio::test]
async fn what_a_limit_decided_stands_in_the_log_and_in_the_metrics() {
    let limited = Limited::by("key = 'client_ip'\nquota = '1/1h'");
    assert_eq!(limited.passed(3, "").await, 1);
    let lines = limited.gateway.log_lines(3).await;
    assert_eq!(
        (&lines[2]["reason"], &lines[2]["limit"]),
        (&"limit.exceeded".into(), &"one".into())
    );
    let expected = ["one allow 0", "one deny null", "one deny null"];
    assert_eq!(decisions(&limited, 3).await, expected);
    let counted = |decision: &str| {
        let labels = [
            "route=\"all\"",
            "limit=\"one\"",
            &format!("decision=\"{decision}\""),
        ];
        limited
            .gateway
            .metric("tollgate_rate_limit_decisions_total", &labels)
    };
    assert_eq!((counted("allow"), counted("deny")), (1.0, 2.0));
    assert_eq!(
        limited
            .gateway
            .metric("tollgate_rate_limit_keys", &["limit=\"one\""]),
        1.0
    );
    limited.later(7200.0);
    // Idle keys leave by themselves.
    eventually(|| {
        limited
            .gateway
            .metric("tollgate_rate_limit_keys", &["limit=\"one\""])
            == 0.0
    })
    .await;
}

#[tokio::test]
async fn the_log_names_the_tightest_limit_of_a_request_that_was_let_through() {
    // Of the stages before and behind authentication.
    let limited = Limited::answering(
        "['early', 'late']",
        "[rate_limits.early]\nkey = 'client_ip'\nquota = '9/1h'\n\
         [rate_limits.late]\nkey = 'caller'\nquota = '2/1h'\n",
    );
    let expected = ["late allow 1", "late allow 0", "late deny null"];
    assert_eq!(limited.passed(3, "").await, 2);
    assert_eq!(decisions(&limited, 3).await, expected);
    // Also one that answers tell nothing of.
    let hidden = Limited::by("key = 'client_ip'\nquota = '5/1h'\nheaders = 'off'");
    assert_eq!(hidden.get().await.header("ratelimit"), None);
    assert_eq!(decisions(&hidden, 1).await, ["one allow 4"]);
    // And one that only watches.
    let watched = Limited::answering(
        "['all', 'watches']",
        "[rate_limits.all]\nkey = 'client_ip'\nquota = '9/1h'\n\
         [rate_limits.watches]\nkey = 'client_ip'\nquota = '1/1h'\nenforce = false\n",
    );
    assert_eq!(watched.passed(2, "").await, 2);
    let expected = ["watches allow 0", "watches shadow_deny null"];
    assert_eq!(decisions(&watched, 2).await, expected);
}

/// What so many lines of the log tell of limits: name, decision, what remains.
async fn decisions(limited: &Limited, lines: usize) -> Vec<String> {
    let lines = limited.gateway.log_lines(lines).await;
    let word = |line: &Value, field: &str| line[field].as_str().unwrap_or("none").to_owned();
    let decision = |line: &Value| {
        let (limit, decision) = (word(line, "limit"), word(line, "limit_decision"));
        format!("{limit} {decision} {}", line["limit_remaining"])
    };
    lines.iter().map(decision).collect()
}
