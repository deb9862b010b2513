//! What one caller got by one gateway is served to no other by another.

use super::fleet::{BOTH, Fleet, REDIS, answer, numbered, text};
use crate::{
    support::{RedisServer, eventually},
    whose::{Asked, RULES, Trials, answered, bearer, configuration},
};

/// Random answers to random requests of random callers at random gateways.
#[tokio::test]
async fn two_users_of_two_gateways_never_see_each_others_answers() {
    let Trials { mut random, cases } = Trials::of(6, 400);
    for (rule, store) in RULES.iter().zip([REDIS, BOTH].iter().cycle()) {
        let rule = &format!("{rule}\n{store}");
        let redis = RedisServer::start();
        let fleet = Fleet::over(redis, 2, &configuration(rule), |_, seen| {
            answered(&seen.target, |name| seen.header(name))
        })
        .await;
        for _ in 0..cases {
            let (asked, gateway) = (Asked::random(&mut random), random.usize(..2));
            let fields = asked.fields();
            let sent = fleet
                .send(gateway, asked.method, &asked.path, &fields)
                .await;
            asked.check(&sent, rule);
            if random.u8(..20) == 0 {
                fleet.later(61);
            }
        }
        let found = fleet.looked(0, "hit") + fleet.looked(1, "hit");
        assert!(found > 0.0, "nothing was served out of Redis: {rule}");
    }
}

#[tokio::test]
async fn a_callers_stale_answer_in_redis_gives_way_to_a_newer_one_for_all() {
    let rule = format!("scope = 'principal'\n{REDIS}");
    let text = configuration(&rule);
    let fleet = Fleet::over(RedisServer::start(), 1, &text, |count, _| {
        let control = match count {
            1 => "max-age=1",
            _ => "public, max-age=600",
        };
        numbered(count, &[("cache-control", control), ("etag", "\"e\"")])
    })
    .await;
    let alice = bearer("alice");
    let fields = [("authorization", alice.as_str())];
    for body in ["1", "2"] {
        let before = fleet.stored(0);
        assert_eq!(fleet.get_with(0, "/a", &fields).await.body, body);
        eventually(|| fleet.stored(0) > before).await;
        fleet.later(2);
    }
    assert_eq!(fleet.get_with(0, "/a", &fields).await.body, "2");
    assert_eq!(fleet.count(), 2);
}

#[tokio::test]
async fn a_caller_asks_about_its_own_stale_answer_in_redis_however_new_the_one_of_others_is() {
    let text = configuration(&format!("scope = 'principal'\n{REDIS}"));
    let (alice, bob) = (bearer("alice"), bearer("bob"));
    let own = alice.clone();
    let fleet = Fleet::over(RedisServer::start(), 1, &text, move |count, seen| {
        let is_own = seen.header("authorization") == Some(own.as_str());
        let (control, etag) = match is_own {
            true => ("max-age=1", "\"own\""),
            false => ("public, max-age=1", "\"all\""),
        };
        numbered(count, &[("cache-control", control), ("etag", etag)])
    })
    .await;
    for caller in [&alice, &bob, &alice] {
        let before = fleet.stored(0);
        let fields = [("authorization", caller.as_str())];
        fleet.get_with(0, "/a", &fields).await;
        eventually(|| fleet.stored(0) > before).await;
        fleet.later(2);
    }
    let asked = fleet.seen().pop().expect("a request");
    assert_eq!(asked.header("if-none-match"), Some("\"own\""));
}

const ALLOWS: &str = "public, max-age=1, stale-if-error=600";

/// A gateway that has an answer for all in its memory, and a caller's own beside it; another has brought a newer
/// one for all, before or behind that. The caller's own is in Redis no more, and the upstream fails.
async fn with_a_newer_one_for_all_elsewhere(newest: &'static str, own_is_last: bool) -> Fleet {
    let text = configuration(&format!("scope = 'principal'\n{BOTH}"));
    let (alice, bob) = (bearer("alice"), bearer("bob"));
    let own = alice.clone();
    let fleet = Fleet::over(RedisServer::start(), 2, &text, move |count, seen| {
        let is_own = seen.header("authorization") == Some(own.as_str());
        let control = match (count, is_own) {
            (4.., _) => return answer(503, &[], ""),
            (_, true) => "max-age=1",
            (1, false) => ALLOWS,
            (_, false) => newest,
        };
        numbered(count, &[("cache-control", control), ("etag", "\"e\"")])
    })
    .await;
    let ask = |gateway: usize, caller: &str| {
        let (fleet, caller) = (&fleet, caller.to_owned());
        async move {
            let before = fleet.stored(gateway);
            fleet
                .get_with(gateway, "/a", &[("authorization", &caller)])
                .await;
            eventually(|| fleet.stored(gateway) > before).await;
        }
    };
    ask(0, &bob).await;
    fleet.later(2);
    fleet.gate.forget_permits(1_000_000);
    // Neither finds what the other brings.
    let (first, second) = match own_is_last {
        true => ((1, &bob), (0, &alice)),
        false => ((0, &alice), (1, &bob)),
    };
    let known = fleet.answers();
    let asking = async {
        tokio::join!(ask(first.0, first.1), async {
            eventually(|| fleet.count() == 2).await;
            ask(second.0, second.1).await;
        })
    };
    let answering = async {
        eventually(|| fleet.count() == 3).await;
        for gateway in [first.0, second.0] {
            let before = fleet.stored(gateway);
            fleet.gate.add_permits(1);
            eventually(|| fleet.stored(gateway) > before).await;
            fleet.later(2);
        }
    };
    tokio::join!(asking, answering);
    fleet.gate.add_permits(1_000_000);
    // A caller's own lapses there before those for all.
    for own in fleet.answers().iter().filter(|key| !known.contains(key)) {
        fleet.redis.run(&format!("DEL {own}"));
    }
    fleet
}

#[tokio::test]
async fn what_is_newer_for_all_in_redis_stands_in_for_a_callers_own_or_forbids_it() {
    let alice = bearer("alice");
    let fields = [("authorization", alice.as_str())];
    for own_is_last in [true, false] {
        let forbids = "public, max-age=1, must-revalidate";
        let fleet = with_a_newer_one_for_all_elsewhere(forbids, own_is_last).await;
        let sent = fleet.get_with(0, "/a", &fields).await;
        assert_eq!(sent.status(), 503, "{own_is_last}: {sent:?}");
        let fleet = with_a_newer_one_for_all_elsewhere(ALLOWS, own_is_last).await;
        let sent = fleet.get_with(0, "/a", &fields).await;
        assert_eq!(sent.status(), 200, "{own_is_last}: {sent:?}");
        let newest = if own_is_last { "2" } else { "3" };
        assert_eq!(text(&sent), newest, "{own_is_last}");
    }
}
