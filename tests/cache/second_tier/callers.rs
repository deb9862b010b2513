//! What one caller got by one gateway is served to no other by another.

use super::fleet::{BOTH, Fleet, REDIS, numbered};
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
