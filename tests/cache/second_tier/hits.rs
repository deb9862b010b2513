//! What one gateway has fetched, another serves by the same rules as its own.

use super::fleet::{BOTH, Fleet, REDIS, answer, numbered, text};
use crate::support::eventually;

const HOUR: &[(&str, &str)] = &[("cache-control", "max-age=3600"), ("x-kept", "a")];

#[tokio::test]
async fn an_answer_of_one_gateway_is_a_hit_on_another_and_then_in_its_memory() {
    let fleet = Fleet::with(2, BOTH, HOUR).await;
    assert_eq!(fleet.fill(0, "/a?b").await, "1");
    assert_eq!(fleet.logged(0, 1).await, ("miss".into(), String::new()));
    fleet.later(7);
    let sent = fleet.get(1, "/a?b").await;
    assert_eq!(
        (text(&sent), sent.header("x-kept")),
        ("1".into(), Some("a"))
    );
    assert_eq!(sent.header("age"), Some("7"));
    assert_eq!(
        sent.header("cache-status"),
        Some("tollgate; hit; ttl=3593; detail=redis")
    );
    assert_eq!(fleet.logged(1, 1).await, ("hit".into(), "redis".into()));
    fleet.later(1);
    let sent = fleet.get(1, "/a?b").await;
    assert_eq!((text(&sent), sent.header("age")), ("1".into(), Some("8")));
    assert_eq!(fleet.logged(1, 2).await, ("hit".into(), String::new()));
    assert_eq!(fleet.count(), 1);
    let state = fleet.admin(1, "/api/cache").await;
    let (looks, all) = (&state["data"]["redis"], &state["data"]["hit_ratio"]);
    assert_eq!(
        (looks["hits"].as_u64(), looks["misses"].as_u64()),
        (Some(1), Some(0))
    );
    assert_eq!(
        (looks["hit_ratio"].as_f64(), all.as_f64()),
        (Some(1.0), Some(1.0))
    );
}

#[tokio::test]
async fn a_rule_may_keep_answers_in_redis_alone() {
    let fleet = Fleet::with(2, REDIS, HOUR).await;
    fleet.fill(0, "/").await;
    for gateway in [0, 1, 0] {
        assert_eq!(fleet.body(gateway, "/").await, "1");
    }
    assert_eq!(fleet.looked(0, "hit") + fleet.looked(1, "hit"), 3.0);
    assert_eq!(fleet.gateways[0].metric("tollgate_cache_objects", &[]), 0.0);
    assert_eq!(fleet.count(), 1);
}

#[tokio::test]
async fn head_conditions_ranges_and_only_if_cached_are_answered_out_of_redis() {
    let rule = format!("{REDIS}\nrequest_directives = true");
    let fleet = Fleet::start(2, &rule, |_, _| {
        answer(
            200,
            &[("cache-control", "max-age=60"), ("etag", "\"e\"")],
            "0123456789",
        )
    })
    .await;
    fleet.fill(0, "/").await;
    let head = fleet.send(1, "HEAD", "/", &[]).await;
    assert_eq!(
        (head.header("content-length"), head.body.len()),
        (Some("10"), 0)
    );
    let same = fleet.get_with(1, "/", &[("if-none-match", "\"e\"")]).await;
    assert_eq!(same.status(), 304);
    let part = fleet.get_with(1, "/", &[("range", "bytes=2-4")]).await;
    assert_eq!((part.status(), text(&part)), (206, "234".into()));
    let only = fleet
        .get_with(1, "/", &[("cache-control", "only-if-cached")])
        .await;
    assert_eq!(only.status(), 200);
    let none = fleet
        .get_with(1, "/other", &[("cache-control", "only-if-cached")])
        .await;
    assert_eq!(none.status(), 504);
    assert_eq!(fleet.count(), 1);
}

#[tokio::test]
async fn variants_are_told_apart_by_what_the_answer_varies_by() {
    let fleet = Fleet::start(2, BOTH, |count, seen| {
        let language = seen.header("accept-language").unwrap_or("none").to_owned();
        answer(
            200,
            &[("cache-control", "max-age=60"), ("vary", "accept-language")],
            format!("{language}{count}"),
        )
    })
    .await;
    let ask = async |gateway, language: &str| {
        let sent = fleet
            .get_with(gateway, "/", &[("accept-language", language)])
            .await;
        text(&sent)
    };
    for (language, body) in [("de", "de1"), ("en", "en2")] {
        let before = fleet.stored(0);
        assert_eq!(ask(0, language).await, body);
        eventually(|| fleet.stored(0) > before).await;
    }
    assert_eq!(ask(1, "en").await, "en2");
    assert_eq!(ask(1, "de").await, "de1");
    assert_eq!(ask(1, "fr").await, "fr3");
    assert_eq!(fleet.body(1, "/").await, "none4");
    assert_eq!(fleet.count(), 4);
}

#[tokio::test]
async fn what_one_gateway_has_validated_is_up_to_date_for_all() {
    let fleet = Fleet::start(2, BOTH, |count, seen| {
        let fields = [("cache-control", "max-age=10"), ("etag", "\"e\"")];
        match seen.header("if-none-match") {
            Some("\"e\"") => answer(304, &fields, ""),
            _ => numbered(count, &fields),
        }
    })
    .await;
    fleet.fill(0, "/").await;
    fleet.later(11);
    // This one has nothing but what the other stored, stale by now.
    let before = fleet.stored(1);
    assert_eq!(fleet.body(1, "/").await, "1");
    assert_eq!(fleet.logged(1, 1).await.0, "revalidated");
    eventually(|| fleet.stored(1) > before).await;
    assert_eq!(fleet.count(), 2);
    // And this one's own is stale, but Redis has it as the other has validated it.
    let sent = fleet.get(0, "/").await;
    assert_eq!((text(&sent), sent.header("age")), ("1".into(), Some("0")));
    assert_eq!(fleet.logged(0, 2).await, ("hit".into(), "redis".into()));
    assert_eq!(fleet.count(), 2);
}

#[tokio::test]
async fn a_stale_answer_of_another_is_served_while_one_fetches_and_in_the_place_of_failures() {
    let rule = format!("{BOTH}\nstale_while_revalidate = '20s'\nstale_if_error = '1m'");
    let fleet = Fleet::start(2, &rule, |count, _| match count {
        3 => answer(503, &[], "down"),
        _ => numbered(count, &[("cache-control", "max-age=10")]),
    })
    .await;
    fleet.fill(0, "/").await;
    fleet.later(15);
    let before = fleet.stored(1);
    assert_eq!(fleet.body(1, "/").await, "1");
    assert_eq!(
        fleet.logged(1, 1).await,
        ("stale".into(), "while-revalidate".into())
    );
    eventually(|| fleet.stored(1) > before).await;
    assert_eq!((fleet.body(1, "/").await, fleet.count()), ("2".into(), 2));
    fleet.later(35);
    // The other has the first answer, out of all windows, and Redis the second.
    assert_eq!(fleet.body(0, "/").await, "2");
    assert_eq!(
        fleet.logged(0, 2).await,
        ("stale".into(), "upstream-failed".into())
    );
    assert_eq!(fleet.count(), 3);
}

#[tokio::test]
async fn what_memory_would_not_store_is_not_in_redis() {
    let fleet = Fleet::start(1, BOTH, |_, seen| match seen.target.as_str() {
        "/cookie" => answer(
            200,
            &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
            "x",
        ),
        "/private" => answer(200, &[("cache-control", "private, max-age=60")], "x"),
        "/large" => answer(200, &[("cache-control", "max-age=60")], vec![b'x'; 1 << 20]),
        _ => answer(200, &[("cache-control", "no-store")], "x"),
    })
    .await;
    for path in ["/cookie", "/private", "/no", "/large"] {
        fleet.get(0, path).await;
    }
    // One over a megabyte stays in memory.
    fleet.get(0, "/large").await;
    assert_eq!(fleet.count(), 4);
    assert_eq!(fleet.answers(), Vec::<String>::new());
    assert_eq!(fleet.stored(0), 0.0);
}

#[tokio::test]
async fn a_look_into_redis_is_timed() {
    let fleet = Fleet::with(2, BOTH, HOUR).await;
    fleet.fill(0, "/").await;
    let timed = || {
        let name = "tollgate_redis_duration_seconds_count";
        fleet.gateways[1].metric(name, &["use=\"answers\""])
    };
    let before = timed();
    assert_eq!(fleet.body(1, "/").await, "1");
    assert_eq!(fleet.looked(1, "hit"), 1.0);
    eventually(|| timed() > before).await;
}
