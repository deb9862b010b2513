//! Which keys an operator sees of a limit that several gateways count together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::{get_as, is_open, limited_by};
use crate::support::{Answer, Gateway, Raw, RedisServer, within};

/// A limit of each caller, with these keys, beside one that is none.
fn each(keys: &str) -> String {
    format!(
        "[rate_limits.each]\nkey = 'header:x-who'\nstore = 'redis'\n{keys}\n\
         [rate_limits.all]\nkey = 'client_ip'\nquota = '1000000/1d'"
    )
}

/// A gateway under that limit whose deadline a busy machine does not miss.
fn patient(redis: &RedisServer, keys: &str) -> Gateway {
    let url = format!("['{}']\ntimeout = '20s'", redis.url());
    limited_by(&url, &each(keys), "['each', 'all']")
}

async fn uses(gateway: &Gateway, who: &str, times: usize) {
    for _ in 0..times {
        assert_eq!(get_as(gateway, who).await.status, 200);
    }
}

fn request(method: &str, path: &str) -> String {
    format!("{method} /api/limits{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

async fn ask(gateway: &Gateway, method: &str, path: &str) -> Answer {
    Raw::ask(gateway.admin(), request(method, path)).await
}

/// Has the next list be made anew: to reset a key does that, whether or not it is there.
pub(super) async fn forget_list(gateway: &Gateway) {
    ask(gateway, "DELETE", "/each/keys/nobody").await;
}

async fn see(gateway: &Gateway, path: &str) -> Value {
    let answer = ask(gateway, "GET", path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The list of a limit's keys, once it is as it is to be: a busy machine may not get to the end at first.
pub(super) async fn listed(
    gateway: &Gateway,
    limit: &str,
    is_right: impl Fn(&Value) -> bool,
) -> Value {
    let path = format!("/{limit}/keys");
    within(async {
        loop {
            let answer = ask(gateway, "GET", &path).await;
            let list = answer.json();
            if answer.status == 200 && is_right(&list) {
                return list;
            }
            // It is kept for a while.
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

pub(super) fn is_whole(list: &Value) -> bool {
    list["meta"]["store"] == "redis" && list["meta"]["sample"] == false
}

/// What is left to each key, in the order of the list.
pub(super) fn remaining(list: &Value) -> Vec<u64> {
    let keys = list["data"].as_array().unwrap().iter();
    keys.map(|key| key["windows"][0]["remaining"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn an_operator_sees_the_busiest_keys_of_all_gateways() {
    let redis = RedisServer::start();
    let gateways = [(); 2].map(|()| patient(&redis, "quota = ['50/1h', '100/1d']"));
    let [one, other] = &gateways;
    uses(one, "alice", 3).await;
    uses(other, "bob", 1).await;
    uses(one, "carl", 1).await;
    uses(other, "carl", 1).await;
    for gateway in &gateways {
        let list = listed(gateway, "each", is_whole).await;
        assert_eq!(list["meta"]["total"], 3);
        assert_eq!(remaining(&list), [47, 48, 49]);
        let busiest = &list["data"][0];
        assert_eq!(
            (&busiest["store"], &busiest["key"]),
            (&json!("redis"), &Value::Null)
        );
        assert_eq!(busiest["windows"][1]["remaining"], 97);
    }
    let list = listed(one, "each", is_whole).await;
    let hash = list["data"][0]["hash"].as_str().unwrap();
    let alice = see(one, "/each/keys/alice").await;
    assert_eq!(alice["data"]["hash"], hash, "one name wherever it is told");
    let first = see(one, "/each/keys?limit=2").await;
    assert_eq!(remaining(&first), [47, 48]);
    let cursor = first["meta"]["cursor"].as_str().unwrap();
    let rest = see(one, &format!("/each/keys?limit=2&cursor={cursor}")).await;
    assert_eq!(remaining(&rest), [49]);
    let reset = ask(other, "DELETE", &format!("/each/keys/{hash}")).await;
    assert_eq!(reset.status, 204);
    let list = listed(other, "each", is_whole).await;
    assert_eq!(remaining(&list), [48, 49]);
    // A gateway that has listed them of late goes on to show that for a few seconds.
    let is_as_well = |list: &Value| is_whole(list) && remaining(list) == [48, 49];
    listed(one, "each", is_as_well).await;
}

#[tokio::test]
async fn a_limit_over_redis_tells_where_it_counts_and_no_number_of_keys_that_it_does_not_know() {
    let redis = RedisServer::start();
    let gateway = patient(&redis, "quota = '50/1h'\nlease = 5");
    uses(&gateway, "alice", 1).await;
    let limits = see(&gateway, "").await;
    let told = |limit: &Value| {
        let names = ["name", "store", "lease", "keys"];
        names.map(|name| limit.get(name).cloned().unwrap())
    };
    let all = told(&limits["data"][0]);
    assert_eq!(all, [json!("all"), json!("memory"), Value::Null, json!(1)]);
    let each = told(&limits["data"][1]);
    assert_eq!(each, [json!("each"), json!("redis"), json!(5), Value::Null]);
}

#[tokio::test]
async fn keys_in_redis_are_listed_whatever_counts_them() {
    for algorithm in [
        "'token_bucket'",
        "'fixed_window'",
        "'sliding_window'",
        "'sliding_window'\nexact = true\nmax_keys = 1000",
    ] {
        let redis = RedisServer::start();
        let gateway = patient(&redis, &format!("quota = '50/1d'\nalgorithm = {algorithm}"));
        uses(&gateway, "bob", 1).await;
        uses(&gateway, "alice", 3).await;
        let list = listed(&gateway, "each", is_whole).await;
        assert_eq!(remaining(&list), [47, 49], "{algorithm}");
        // Looking takes nothing.
        forget_list(&gateway).await;
        let list = listed(&gateway, "each", is_whole).await;
        assert_eq!(remaining(&list), [47, 49], "{algorithm}");
    }
}

#[tokio::test]
async fn a_gateway_shows_those_keys_in_the_clear_that_it_has_seen_and_may_show() {
    let redis = RedisServer::start();
    let [one, other] = [(); 2].map(|()| patient(&redis, "quota = '50/1h'\nshow_keys = true"));
    uses(&one, "alice", 3).await;
    uses(&other, "bob", 1).await;
    let list = listed(&one, "each", is_whole).await;
    assert_eq!(remaining(&list), [47, 49]);
    assert_eq!(list["data"][0]["key"], "alice");
    assert_eq!(list["data"][1]["key"], Value::Null);
}

#[tokio::test]
async fn only_keys_of_that_limit_and_of_those_gateways_are_listed() {
    let redis = RedisServer::start();
    let start = |prefix: &str| {
        let url = format!("['{}']\ntimeout = '20s'\nprefix = '{prefix}'", redis.url());
        let limit = "key = 'client_ip'\nquota = '9/1d'\nstore = 'redis'";
        let tables = format!("[rate_limits.'w*[x]?']\n{limit}\n[rate_limits.'wx[x]x']\n{limit}");
        limited_by(&url, &tables, "['w*[x]?', 'wx[x]x']")
    };
    let (odd, plain) = (start("a*[b]?:"), start("ax[b]x:"));
    uses(&odd, "", 2).await;
    uses(&plain, "", 5).await;
    for limit in ["w%2A%5Bx%5D%3F", "wx%5Bx%5Dx"] {
        let list = listed(&odd, limit, is_whole).await;
        assert_eq!(remaining(&list), [7], "{limit}");
        let list = listed(&plain, limit, is_whole).await;
        assert_eq!(remaining(&list), [4], "{limit}");
    }
}

#[tokio::test]
async fn where_there_are_too_many_keys_to_look_at_the_list_says_that_it_is_a_sample() {
    let redis = RedisServer::start();
    let gateway = patient(&redis, "quota = '50/1h'");
    let named = "'tollgate:limit:{' .. string.format('%032x', number) .. '}:t:each'";
    let fill = format!("for number = 1, 12000 do redis.call('HSET', {named}, 'x', 1) end");
    let filled = redis.run(&format!("EVAL \"{fill}\" 0"));
    assert!(filled.starts_with("$-1"), "{filled}");
    let list = see(&gateway, "/each/keys").await;
    assert_eq!(list["meta"]["store"], "redis");
    assert_eq!(list["meta"]["sample"], true);
    let total = list["meta"]["total"].as_u64().unwrap();
    assert!((1..12_000).contains(&total), "{total}");
    assert_eq!(remaining(&list), [50; 100]);
    assert_eq!(list["meta"]["cursor"], "100");
}

#[tokio::test]
async fn a_key_that_another_program_has_taken_hides_no_other() {
    let redis = RedisServer::start();
    let gateway = patient(&redis, "quota = '50/1h'");
    uses(&gateway, "alice", 3).await;
    uses(&gateway, "bob", 1).await;
    let foreign = format!("tollgate:limit:{{{}}}:t:each", "0".repeat(32));
    assert!(redis.run(&format!("SET {foreign} x")).starts_with("+OK"));
    let list = listed(&gateway, "each", |list| list["meta"]["total"] == 3).await;
    assert_eq!(remaining(&list), [47, 49]);
    assert_eq!(list["meta"]["sample"], true);
}

#[tokio::test]
async fn a_call_that_holds_nothing_but_such_keys_ends_no_list() {
    let redis = RedisServer::start();
    let exact = "quota = '50/1d'\nalgorithm = 'sliding_window'\nexact = true\nmax_keys = 1000";
    let gateway = patient(&redis, exact);
    uses(&gateway, "alice", 3).await;
    uses(&gateway, "bob", 1).await;
    // A call reads three logs: the first one has these alone, and the last one another.
    let low = (0..3).map(|number| format!("{number:032x}"));
    let high = ["e", "f"].map(|last| format!("{}{last}", "f".repeat(31)));
    for hash in low.chain(high) {
        let set = redis.run(&format!("SET tollgate:limit:{{{hash}}}:e:each x"));
        assert!(set.starts_with("+OK"), "{set}");
    }
    let list = listed(&gateway, "each", |list| list["meta"]["total"] == 7).await;
    assert_eq!(list["meta"]["store"], "redis");
    assert_eq!(remaining(&list), [47, 49]);
    assert_eq!(list["meta"]["sample"], true);
}

#[tokio::test]
async fn one_slow_call_loses_nothing_of_what_was_found() {
    let redis = RedisServer::start();
    let named = "'tollgate:limit:{' .. string.format('%032x', number) .. '}:t:each'";
    let fill = format!("for number = 1, 2000 do redis.call('HSET', {named}, 'x', 1) end");
    let filled = redis.run(&format!("EVAL \"{fill}\" 0"));
    assert!(filled.starts_with("$-1"), "{filled}");
    let scans = Arc::<AtomicU32>::default();
    // Longer than a call may take.
    let url = behind_slow_scan(&redis, Duration::from_millis(1_300), &scans).await;
    let url = format!("['{url}']\ntimeout = '1s'");
    let gateway = limited_by(&url, &each("quota = '50/1h'"), "['each', 'all']");
    let list = see(&gateway, "/each/keys").await;
    assert_eq!(list["meta"]["store"], "redis");
    assert_eq!(list["meta"]["total"], 2000);
    assert!(scans.load(SeqCst) > 4, "it has asked again");
}

/// The URL of a proxy that holds back the second `SCAN` for so long; `scans` counts all.
async fn behind_slow_scan(redis: &RedisServer, by: Duration, scans: &Arc<AtomicU32>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let (port, scans) = (redis.port(), Arc::clone(scans));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(relay(client, server, by, Arc::clone(&scans)));
        }
    });
    url
}

async fn relay(mut client: TcpStream, mut server: TcpStream, by: Duration, scans: Arc<AtomicU32>) {
    let (mut asked, mut told) = (vec![0_u8; 65_536], vec![0_u8; 65_536]);
    loop {
        let is_relayed = tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let is_scan = asked[..length].windows(6).any(|bytes| bytes == b"\r\nSCAN");
                if is_scan && scans.fetch_add(1, SeqCst) == 1 {
                    sleep(by).await;
                }
                server.write_all(&asked[..length]).await
            }
            read = server.read(&mut told) => {
                let Ok(length @ 1..) = read else { return };
                client.write_all(&told[..length]).await
            }
        };
        if is_relayed.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn all_who_ask_for_a_list_within_seconds_share_one_search() {
    let redis = RedisServer::start();
    let gateway = patient(&redis, "quota = '50/1h'");
    uses(&gateway, "alice", 3).await;
    uses(&gateway, "bob", 1).await;
    let lists = (0..30).map(|_| see(&gateway, "/each/keys"));
    for list in join_all(lists).await {
        assert_eq!(remaining(&list), [47, 49]);
    }
    assert_eq!(redis.calls("scan"), 1);
    uses(&gateway, "alice", 1).await;
    let reset = ask(&gateway, "DELETE", "/each/keys/bob").await;
    assert_eq!(reset.status, 204);
    let list = see(&gateway, "/each/keys").await;
    assert_eq!(remaining(&list), [46], "it tells of no key that was reset");
    assert_eq!(redis.calls("scan"), 2);
}

#[tokio::test]
async fn nobody_waits_for_long_until_others_have_their_list() {
    let redis = RedisServer::start();
    let gateway = patient(&redis, "quota = '50/1h'");
    uses(&gateway, "alice", 3).await;
    // It is connected for that, and has no list any more.
    see(&gateway, "/each/keys").await;
    forget_list(&gateway).await;
    redis.freeze();
    // Who leaves before there is a list takes nobody's turn.
    let mut leaver = Raw::connect(gateway.admin()).await;
    leaver.send(request("GET", "/each/keys")).await;
    sleep(Duration::from_millis(300)).await;
    leaver.reset();
    sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    let asks = (0..8).map(|_| async {
        let refusal = ask(&gateway, "GET", "/each/keys").await.refusal();
        (refusal, began.elapsed())
    });
    let refusals = join_all(asks).await;
    let away = (503, "admin.store_unavailable".to_owned());
    assert!(refusals.iter().all(|(refusal, _)| *refusal == away));
    let searched = |waited: Duration| waited > Duration::from_millis(2_700);
    let searches = refusals.iter().filter(|(_, waited)| searched(*waited));
    assert_eq!(searches.count(), 1, "the others waited: {refusals:?}");
    redis.thaw();
    let list = listed(&gateway, "each", is_whole).await;
    assert_eq!(remaining(&list), [47]);
}

#[tokio::test]
async fn while_redis_is_away_what_the_gateway_counts_by_itself_is_listed() {
    let mut redis = RedisServer::start();
    let gateway = patient(&redis, "quota = '50/1h'");
    uses(&gateway, "alice", 3).await;
    redis.kill();
    let refusal = ask(&gateway, "GET", "/each/keys").await.refusal();
    let away = (503, "admin.store_unavailable".to_owned());
    assert_eq!(refusal, away, "nothing here is not nothing there");
    uses(&gateway, "bob", 1).await;
    let list = see(&gateway, "/each/keys").await;
    assert_eq!(list["meta"]["store"], "memory");
    assert_eq!(list["meta"]["sample"], true, "others count others");
    assert_eq!(list["data"][0]["store"], "memory");
    assert_eq!(remaining(&list), [49]);
    redis.restart();
    let list = listed(&gateway, "each", is_whole).await;
    assert_eq!(list["meta"]["total"], 0, "it has lost what it had");
}

#[tokio::test]
async fn who_may_not_look_for_keys_takes_no_limit_out_of_redis() {
    let redis = RedisServer::start();
    let rights = "~tollgate:* &tollgate:* +@all -@admin -@dangerous";
    let start = |user: &str, rights: &str| {
        let made = redis.run(&format!("ACL SETUSER {user} on >s3cret {rights}"));
        assert!(made.starts_with("+OK"), "{made}");
        let url = format!("redis://{user}:s3cret@127.0.0.1:{}", redis.port());
        let url = format!("['{url}']\ntimeout = '20s'");
        limited_by(&url, &each("quota = '50/1h'"), "['each', 'all']")
    };
    let (may, may_not) = (
        start("gate", rights),
        start("blind", &format!("{rights} -scan")),
    );
    uses(&may, "alice", 3).await;
    let list = listed(&may, "each", is_whole).await;
    assert_eq!(
        remaining(&list),
        [47],
        "what the documentation names is enough"
    );
    for _ in 0..10 {
        assert_eq!(ask(&may_not, "GET", "/each/keys").await.status, 503);
    }
    assert!(!is_open(&may_not));
    uses(&may_not, "alice", 1).await;
    forget_list(&may).await;
    let list = listed(&may, "each", is_whole).await;
    assert_eq!(remaining(&list), [46]);
}
