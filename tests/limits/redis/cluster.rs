//! Real nodes on loopback.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    Counts, Storm, degraded, get, get_as, is_open, limited_by,
    listing::{forget_list, is_whole, listed, remaining},
    recovery, storm,
};
use crate::support::{
    Gateway, Raw, RedisCluster, RedisServer, Streams, eventually, release, within,
};

#[tokio::test]
async fn a_cluster_counts_each_key_on_its_node() {
    let cluster = RedisCluster::start().await;
    let urls = format!("{}\ntimeout = '2s'", cluster.urls());
    let tables = "[rate_limits.all]\nkey = 'route'\nquota = '400/1d'\nstore = 'redis'\n\
                  [rate_limits.one]\nkey = 'client_ip'\nquota = '100/1d'\nstore = 'redis'\n\
                  [rate_limits.wide]\nkey = 'client_ip'\nquota = '500/1d'\nstore = 'redis'";
    let start = || limited_by(&urls, tables, "['all', 'one', 'wide']");
    let gateways = [start(), start()];
    let places: Vec<_> = gateways.iter().map(Gateway::address).collect();
    let counts = storm(&places, 5, 30).await;
    assert_eq!(counts, Counts::from([(200, 100), (429, 200)]));
    assert_eq!(gateways.iter().map(degraded).sum::<f64>(), 0.0);
}

#[tokio::test]
async fn a_cluster_has_the_places_of_each_key_on_its_node() {
    let (cluster, origin) = (RedisCluster::start().await, Streams::start().await);
    let text = format!(
        "[redis]\nurl = {}\ntimeout = '2s'\n\
         [routes.all]\nupstream = '{}'\nrate_limits = ['all', 'one']\n\
         [rate_limits.all]\nkey = 'route'\nquota = 4\nalgorithm = 'concurrency'\nstore = 'redis'\n\
         [rate_limits.one]\nkey = ['client_ip', 'header:x-who']\nquota = 2\nalgorithm = 'concurrency'\n\
         store = 'redis'",
        cluster.urls(),
        origin.server.url()
    );
    let gateways = [Gateway::start(&text), Gateway::start(&text)];
    let mut held = Vec::new();
    for (gateway, who) in [(0, "ann"), (1, "ann"), (1, "bob")] {
        let mut client = Raw::connect(gateways[gateway].address()).await;
        let wait = format!("GET /wait HTTP/1.1\r\nHost: a.test\r\nX-Who: {who}\r\n\r\n");
        client.send(wait).await;
        held.push((client, origin.feed().await));
    }
    assert_eq!(get_as(&gateways[0], "ann").await.status, 429);
    // What the limit of the route gave is given back.
    within(async { while get_as(&gateways[0], "cid").await.status != 200 {} }).await;
    for (mut client, feed) in held {
        release(feed).await;
        assert_eq!(client.answer().await.status, 200);
    }
    within(async { while get_as(&gateways[0], "ann").await.status != 200 {} }).await;
    assert_eq!(gateways.iter().map(degraded).sum::<f64>(), 0.0);
}

#[tokio::test]
async fn a_server_with_slots_behind_one_url_counts_limits_of_different_keys() {
    let server = RedisServer::with(&["--cluster-enabled", "yes"]);
    server.run("CLUSTER ADDSLOTSRANGE 0 16383");
    let is_ready = || server.run("CLUSTER INFO").contains("cluster_state:ok");
    eventually(is_ready).await;
    let url = format!("'{}'\ntimeout = '2s'", server.url());
    let tables = "[rate_limits.all]\nkey = 'route'\nquota = '400/1d'\nstore = 'redis'\n\
                  [rate_limits.one]\nkey = 'client_ip'\nquota = '100/1d'\nstore = 'redis'";
    let gateway = limited_by(&url, tables, "['all', 'one']");
    // It finds out by this one, which is counted in memory.
    assert_eq!(get(&gateway).await.status, 200);
    let found_out = degraded(&gateway);
    let counts = storm(&[gateway.address()], 5, 40).await;
    assert_eq!(counts, Counts::from([(200, 100), (429, 100)]));
    assert_eq!(degraded(&gateway), found_out);
    assert!(!is_open(&gateway));
}

#[tokio::test]
async fn what_a_limit_of_another_node_took_is_given_back_when_one_refuses() {
    let cluster = RedisCluster::start().await;
    let urls = format!("{}\ntimeout = '2s'", cluster.urls());
    let tables = "[rate_limits.all]\nkey = 'route'\nquota = '400/1d'\nstore = 'redis'\n\
                  [rate_limits.one]\nkey = 'client_ip'\nquota = '20/1d'\nstore = 'redis'";
    let gateway = limited_by(&urls, tables, "['all', 'one']");
    let counts = storm(&[gateway.address()], 5, 40).await;
    assert_eq!(counts, Counts::from([(200, 20), (429, 180)]));
    assert_eq!(degraded(&gateway), 0.0);
    let request =
        "GET /api/limits/all/keys/all HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    // What is given back goes behind the answers.
    within(async {
        loop {
            let seen = Raw::ask(gateway.admin(), request).await.json();
            assert_eq!(seen["data"]["store"], "redis");
            let left = seen["data"]["windows"][0]["remaining"].as_u64();
            assert!(left <= Some(380), "{left:?}");
            if left == Some(380) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn of_limits_on_several_nodes_that_refuse_the_one_that_takes_longest_has_the_word() {
    let cluster = RedisCluster::start().await;
    let urls = format!("{}\ntimeout = '2s'", cluster.urls());
    let tables = "[rate_limits.all]\nkey = 'route'\nquota = '3/3h'\nstore = 'redis'\n\
                  [rate_limits.one]\nkey = 'client_ip'\nquota = '3/3d'\nstore = 'redis'";
    for (limits, passed) in [("['all', 'one']", 3), ("['one', 'all']", 0)] {
        let gateway = limited_by(&urls, tables, limits);
        for _ in 0..passed {
            assert_eq!(get(&gateway).await.status, 200);
        }
        let refused = get(&gateway).await;
        assert_eq!(refused.json()["error"]["details"]["limit"], "one");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(wait > 3 * 3600, "a day or so: {wait}");
        assert_eq!(degraded(&gateway), 0.0);
    }
}

/// Callers and the nodes that count them, the last by another than the first.
async fn callers(gateway: &Gateway, nodes: &[RedisServer]) -> Vec<(usize, String)> {
    let keys = || -> Vec<_> {
        let keys = nodes.iter().map(|node| node.run("KEYS *limit:*"));
        keys.map(|keys| keys.matches("limit:").count()).collect()
    };
    let mut callers: Vec<(usize, String)> = Vec::new();
    while callers.iter().all(|(node, _)| *node == callers[0].0) {
        let (before, who) = (keys(), callers.len().to_string());
        assert_eq!(get_as(gateway, &who).await.status, 200);
        let after = keys();
        let node = (0..nodes.len()).find(|&node| after[node] > before[node]);
        callers.push((node.unwrap(), who));
    }
    callers
}

/// Three nodes that go on when one of them is away.
async fn that_goes_on() -> RedisCluster {
    let cluster = RedisCluster::start().await;
    for node in &cluster.0 {
        let set = node.run("CONFIG SET cluster-require-full-coverage no");
        assert!(set.starts_with("+OK"), "{set}");
    }
    cluster
}

/// A limit of each caller, beside one that is none.
const EACH: &str = "[rate_limits.each]\nkey = 'header:x-who'\nquota = '1000/1d'\nstore = 'redis'\n\
                    [rate_limits.all]\nkey = 'client_ip'\nquota = '1000000/1d'";

#[tokio::test]
async fn an_operator_sees_the_busiest_keys_of_all_nodes() {
    let cluster = that_goes_on().await;
    let urls = format!("{}\ntimeout = '2s'", cluster.urls());
    let mut nodes = cluster.0;
    let gateway = limited_by(&urls, EACH, "['each', 'all']");
    let callers = callers(&gateway, &nodes).await;
    let (first, busiest) = &callers[0];
    assert_eq!(get_as(&gateway, busiest).await.status, 200);
    let list = listed(&gateway, "each", is_whole).await;
    let mut expected = vec![999; callers.len()];
    expected[0] = 998;
    assert_eq!(remaining(&list), expected);
    nodes[*first].kill();
    forget_list(&gateway).await;
    let elsewhere = callers.iter().filter(|(node, _)| node != first).count();
    let is_part = |list: &serde_json::Value| {
        list["meta"]["store"] == "redis" && list["meta"]["sample"] == true
    };
    let list = listed(&gateway, "each", is_part).await;
    assert_eq!(remaining(&list), vec![999; elsewhere]);
}

#[tokio::test]
async fn keys_of_a_server_with_slots_behind_one_url_are_listed_as_a_sample() {
    let server = RedisServer::with(&["--cluster-enabled", "yes"]);
    server.run("CLUSTER ADDSLOTSRANGE 0 16383");
    eventually(|| server.run("CLUSTER INFO").contains("cluster_state:ok")).await;
    let url = format!("'{}'\ntimeout = '2s'", server.url());
    let gateway = limited_by(&url, EACH, "['each', 'all']");
    for who in ["alice", "alice", "bob"] {
        assert_eq!(get_as(&gateway, who).await.status, 200);
    }
    // The first one may find out that there are slots, and reads its keys all the same.
    for _ in 0..2 {
        let list = listed(&gateway, "each", |list| list["meta"]["store"] == "redis").await;
        assert_eq!(remaining(&list), [998, 999]);
        forget_list(&gateway).await;
    }
    let list = listed(&gateway, "each", |list| list["meta"]["sample"] == true).await;
    assert_eq!(
        list["meta"]["total"], 2,
        "there may be other servers behind it"
    );
    assert!(!is_open(&gateway));
}

/// Waits until one caller is counted ten times in a row while another is not.
async fn counted_beside(gateway: &Gateway, mallory: &str, alice: &str) {
    within(async {
        let mut counted = 0;
        while counted < 10 {
            let before = degraded(gateway);
            assert_eq!(get_as(gateway, mallory).await.status, 200);
            let between = degraded(gateway);
            assert!(between > before, "nobody is there to count this one");
            assert_eq!(get_as(gateway, alice).await.status, 200);
            let whole = degraded(gateway) == between;
            counted = if whole { counted + 1 } else { 0 };
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_dead_takes_no_keys_of_the_others_out_of_redis() {
    let cluster = that_goes_on().await;
    let urls = format!("{}\ntimeout = '500ms'", cluster.urls());
    let mut nodes = cluster.0;
    let gateway = limited_by(&urls, EACH, "['each', 'all']");
    let callers = callers(&gateway, &nodes).await;
    let (dead, mallory) = &callers[0];
    let (_, alice) = &callers[callers.len() - 1];
    nodes[*dead].kill();
    counted_beside(&gateway, mallory, alice).await;
}

#[tokio::test]
async fn a_node_that_hangs_takes_no_keys_of_the_others_out_of_redis() {
    let cluster = that_goes_on().await;
    let urls = format!("{}\ntimeout = '200ms'", cluster.urls());
    let nodes = &cluster.0;
    // Each worker finds out by itself.
    let tables = &format!("{EACH}\n[server]\nworkers = 1");
    let gateway = limited_by(&urls, tables, "['each', 'all']");
    let callers = callers(&gateway, nodes).await;
    let (hangs, mallory) = &callers[0];
    let (_, alice) = &callers[callers.len() - 1];
    nodes[*hangs].freeze();
    // So many in a row would be enough to leave a single server alone.
    for _ in 0..12 {
        assert_eq!(get_as(&gateway, mallory).await.status, 200);
    }
    counted_beside(&gateway, mallory, alice).await;
    assert!(!is_open(&gateway));
    // Who comes now finds the others, too.
    let late = limited_by(&urls, tables, "['each', 'all']");
    counted_beside(&late, mallory, alice).await;
    nodes[*hangs].thaw();
    within(async {
        loop {
            let before = degraded(&gateway);
            assert_eq!(get_as(&gateway, mallory).await.status, 200);
            if degraded(&gateway) == before {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_is_gone_is_left_alone_until_it_is_back() {
    let cluster = that_goes_on().await;
    let urls = format!("{}\ntimeout = '200ms'", cluster.urls());
    let gateway = limited_by(&urls, EACH, "['each', 'all']");
    let nodes = &cluster.0;
    let callers = callers(&gateway, nodes).await;
    let ask = async || {
        for (_, who) in &callers {
            assert_eq!(get_as(&gateway, who).await.status, 200);
        }
    };
    nodes.iter().for_each(RedisServer::freeze);
    within(async {
        while !is_open(&gateway) {
            ask().await;
        }
    })
    .await;
    nodes.iter().for_each(RedisServer::thaw);
    within(async {
        loop {
            let before = degraded(&gateway);
            ask().await;
            if degraded(&gateway) == before && !is_open(&gateway) {
                return;
            }
        }
    })
    .await;
}

/// The node that holds a limit's counters, another one, and the names of those counters.
fn holder(cluster: &RedisCluster) -> (&RedisServer, &RedisServer, Vec<String>) {
    let keys = |node: &RedisServer| {
        let keys = node.run("KEYS *limit:*");
        let keys = keys.lines().filter(|line| line.contains("limit:"));
        keys.map(str::to_owned).collect::<Vec<_>>()
    };
    let holds = |node: &&RedisServer| !keys(node).is_empty();
    let holder = cluster.0.iter().find(holds).unwrap();
    let other = cluster.0.iter().find(|node| !holds(node)).unwrap();
    (holder, other, keys(holder))
}

/// The second line of what comes back: a text, behind its length.
fn text_of(answer: &str) -> String {
    answer.lines().nth(1).unwrap().to_owned()
}

/// A slot on its way from one node to another.
struct Move<'c> {
    nodes: (&'c RedisServer, &'c RedisServer),
    slot: String,
}

impl<'c> Move<'c> {
    fn begin(nodes: (&'c RedisServer, &'c RedisServer), key: &str) -> Self {
        let (from, to) = nodes;
        let told = from.run(&format!("CLUSTER KEYSLOT {key}"));
        let slot = told.lines().next().unwrap().trim_start_matches(':');
        let moved = Self {
            nodes,
            slot: slot.to_owned(),
        };
        moved.set(to, &format!("IMPORTING {}", moved.id(from)));
        moved.set(from, &format!("MIGRATING {}", moved.id(to)));
        moved
    }

    fn key(&self, key: &str) {
        let (from, to) = self.nodes;
        let moved = from.run(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port()));
        assert!(moved.starts_with("+OK"), "{moved}");
    }

    fn end(self) {
        let (from, to) = self.nodes;
        for node in [to, from] {
            self.set(node, &format!("NODE {}", self.id(to)));
        }
    }

    fn id(&self, node: &RedisServer) -> String {
        text_of(&node.run("CLUSTER MYID"))
    }

    fn set(&self, node: &RedisServer, to: &str) {
        let set = node.run(&format!("CLUSTER SETSLOT {} {to}", self.slot));
        assert!(set.starts_with("+OK"), "{set}");
    }
}

#[tokio::test]
async fn a_key_that_moves_to_another_node_is_counted_on() {
    let cluster = RedisCluster::start().await;
    let urls = format!("{}\ntimeout = '2s'", cluster.urls());
    let tables = "[rate_limits.one]\nkey = 'client_ip'\nquota = '12/1d'\nstore = 'redis'";
    let gateway = limited_by(&urls, tables, "['one']");
    let passing = async |requests: usize| storm(&[gateway.address()], 1, requests).await;
    assert_eq!(passing(3).await, Counts::from([(200, 3)]));
    let (from, to, keys) = holder(&cluster);
    let moved = Move::begin((from, to), &keys[0]);
    assert_eq!(passing(3).await, Counts::from([(200, 3)]));
    moved.key(&keys[0]);
    // The old node says whom to ask, each time.
    assert_eq!(passing(3).await, Counts::from([(200, 3)]));
    moved.end();
    assert_eq!(passing(6).await, Counts::from([(200, 3), (429, 3)]));
    assert_eq!(degraded(&gateway), 0.0);
}

#[tokio::test]
async fn a_key_that_moves_to_a_node_without_slots_is_counted_on() {
    let cluster = RedisCluster::start().await;
    let new = cluster.another().await;
    let urls = format!("{}\ntimeout = '2s'", cluster.urls());
    let tables = "[rate_limits.one]\nkey = 'client_ip'\nquota = '6/1d'\nstore = 'redis'";
    let gateway = limited_by(&urls, tables, "['one']");
    let passing = async |requests: usize| storm(&[gateway.address()], 1, requests).await;
    assert_eq!(passing(3).await, Counts::from([(200, 3)]));
    let (from, _, keys) = holder(&cluster);
    let moved = Move::begin((from, &new), &keys[0]);
    moved.key(&keys[0]);
    // No map has that one yet.
    assert_eq!(passing(6).await, Counts::from([(200, 3), (429, 3)]));
    assert_eq!(degraded(&gateway), 0.0);
    moved.end();
    recovery(&gateway).await;
    assert!(!is_open(&gateway));
}

#[tokio::test]
async fn limits_whose_keys_are_on_two_nodes_for_a_while_take_no_others_out_of_redis() {
    let cluster = RedisCluster::start().await;
    let urls = format!("{}\ntimeout = '2s'", cluster.urls());
    let tables = "[rate_limits.one]\nkey = 'client_ip'\nquota = '100/1d'\nstore = 'redis'\n\
                  [rate_limits.two]\nkey = 'client_ip'\nquota = '90/1d'\nstore = 'redis'";
    let gateway = limited_by(&urls, tables, "['one', 'two']");
    let passing = async |requests: usize| storm(&[gateway.address()], 1, requests).await;
    assert_eq!(passing(5).await, Counts::from([(200, 5)]));
    let (from, to, keys) = holder(&cluster);
    assert_eq!(keys.len(), 2, "{keys:?}");
    let moved = Move::begin((from, to), &keys[0]);
    moved.key(&keys[0]);
    // No node has both, and each call is sent twice more.
    assert_eq!(passing(10).await, Counts::from([(200, 10)]));
    assert_eq!(degraded(&gateway), 20.0);
    assert_eq!(scattered(from) + scattered(to), 30);
    assert!(!is_open(&gateway));
    moved.key(&keys[1]);
    moved.end();
    assert_eq!(passing(5).await, Counts::from([(200, 5)]));
    assert_eq!(degraded(&gateway), 20.0);
}

/// How often a node has said that it has not all keys of a slot that moves.
fn scattered(node: &RedisServer) -> u32 {
    let told = node.run("INFO errorstats");
    let count = told.split("errorstat_TRYAGAIN:count=").nth(1);
    let count = count.and_then(|rest| rest.lines().next());
    count.map_or(0, |count| count.parse().unwrap())
}

/// A cluster of one node behind an address that says of so many calls that their slot moves, as a node
/// does while it has one of their keys and not the other.
struct Moving {
    _node: RedisServer,
    urls: String,
    refused: Arc<AtomicU32>,
}

impl Moving {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = RedisServer::with(&["--cluster-enabled", "yes"]);
        node.run("CLUSTER ADDSLOTSRANGE 0 16383");
        let set = node.run(&format!(
            "CONFIG SET cluster-announce-port {}",
            address.port()
        ));
        assert!(set.starts_with("+OK"), "{set}");
        let is_at_the_address = || {
            let told = node.run("CLUSTER SLOTS");
            told.contains(&format!(":{}\r", address.port()))
                && node.run("CLUSTER INFO").contains("cluster_state:ok")
        };
        eventually(is_at_the_address).await;
        let (refused, port) = (Arc::new(AtomicU32::new(0)), node.port());
        let refusing = Arc::clone(&refused);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(pass_on(client, server, Arc::clone(&refusing)));
            }
        });
        Self {
            _node: node,
            urls: format!("['redis://{address}', 'redis://{address}']"),
            refused,
        }
    }

    /// Refuses so many calls from now on.
    fn refuse(&self, calls: u32) {
        self.refused.store(calls, SeqCst);
    }

    /// How many of them have not come yet.
    fn left(&self) -> u32 {
        self.refused.load(SeqCst)
    }
}

async fn pass_on(mut client: TcpStream, mut server: TcpStream, refused: Arc<AtomicU32>) {
    let (mut asked, mut told) = ([0; 16_384], [0; 16_384]);
    loop {
        let passed = tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let one_less = |left: u32| left.checked_sub(1);
                let is_call = asked[..length].windows(7).any(|name| name == b"EVALSHA");
                if is_call && refused.fetch_update(SeqCst, SeqCst, one_less).is_ok() {
                    client.write_all(TRY_AGAIN).await
                } else {
                    server.write_all(&asked[..length]).await
                }
            }
            read = server.read(&mut told) => {
                let Ok(length @ 1..) = read else { return };
                client.write_all(&told[..length]).await
            }
        };
        if passed.is_err() {
            return;
        }
    }
}

const TRY_AGAIN: &[u8] = b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n";

#[tokio::test]
async fn a_call_whose_keys_are_on_two_nodes_for_a_moment_is_sent_again() {
    let moving = Moving::start().await;
    let urls = format!("{}\ntimeout = '2s'", moving.urls);
    let tables = "[rate_limits.one]\nkey = 'client_ip'\nquota = '3/1d'\nstore = 'redis'";
    let gateway = limited_by(&urls, tables, "['one']");
    for status in [200, 200, 200, 429] {
        moving.refuse(2);
        assert_eq!(get(&gateway).await.status, status);
        assert_eq!((moving.left(), degraded(&gateway)), (0, 0.0));
    }
    // One that stays where it is is waited for no longer, and takes nobody else out of Redis.
    moving.refuse(4);
    assert_eq!(get(&gateway).await.status, 200);
    assert_eq!((moving.left(), degraded(&gateway)), (1, 1.0));
    assert!(!is_open(&gateway));
}

#[tokio::test]
async fn a_call_is_not_sent_again_when_its_time_is_over() {
    let moving = Moving::start().await;
    // Less than the first pause: whatever comes of it, there is no second call.
    let urls = format!("{}\ntimeout = '4ms'", moving.urls);
    let tables = "[rate_limits.one]\nkey = 'client_ip'\nquota = '3/1d'\nstore = 'redis'";
    let gateway = limited_by(&urls, tables, "['one']");
    moving.refuse(2);
    assert_eq!(get(&gateway).await.status, 200);
    assert_eq!(degraded(&gateway), 1.0);
    assert!(moving.left() > 0, "it was sent once at most");
}

/// Three nodes, of which each has a replica.
async fn with_replicas() -> RedisCluster {
    let cluster = RedisCluster::with_replicas(1).await;
    let whole = |node: &RedisServer| {
        let replicas = node.run("CLUSTER NODES").matches("slave ").count();
        replicas == 3 && node.run("CLUSTER INFO").contains("cluster_state:ok")
    };
    eventually(|| cluster.0.iter().all(whole)).await;
    cluster
}

/// A limit that is never reached, of one key.
const ONE: &str = "[rate_limits.one]\nkey = 'client_ip'\nquota = '1000000/1d'\n\
                   algorithm = 'sliding_window'\nstore = 'redis'";

fn counts(node: &RedisServer) -> bool {
    node.run("KEYS *").contains("limit:")
}

fn is_main(node: &RedisServer) -> bool {
    node.run("INFO replication").contains("role:master")
}

/// A gateway whose limit one node and its replica know.
async fn counted_by(urls: &str, nodes: &[RedisServer]) -> Gateway {
    let gateway = limited_by(urls, ONE, "['one']");
    assert_eq!(get(&gateway).await.status, 200);
    recovery(&gateway).await;
    eventually(|| nodes.iter().filter(|node| counts(node)).count() == 2).await;
    gateway
}

/// Takes the node that counts out of them.
fn counting_main(nodes: &mut Vec<RedisServer>) -> RedisServer {
    let main = nodes.iter().position(|node| counts(node) && is_main(node));
    nodes.remove(main.expect("one counts"))
}

/// A node that counts is stopped, with a replica: gateways count on there, also one that comes later.
async fn goes_on_when(stop: impl FnOnce(&mut RedisServer)) {
    let cluster = with_replicas().await;
    let urls = cluster.urls();
    let mut nodes = cluster.0;
    let gateway = counted_by(&urls, &nodes).await;
    let mut main = counting_main(&mut nodes);
    let load = Storm::over(gateway.address());
    stop(&mut main);
    eventually(|| nodes.iter().any(|node| counts(node) && is_main(node))).await;
    let took = recovery(&gateway).await;
    let (answers, slowest) = load.end().await;
    println!("recovered in {took:?} after the failover, the slowest request took {slowest:?}");
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&200]);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let took = recovery(&limited_by(&urls, ONE, "['one']")).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn when_a_node_dies_its_replica_goes_on_counting() {
    goes_on_when(RedisServer::kill).await;
}

#[tokio::test]
async fn when_a_node_hangs_its_replica_goes_on_counting() {
    goes_on_when(|main| main.freeze()).await;
}

#[tokio::test]
async fn a_node_that_hands_over_to_its_replica_under_load_costs_no_decision() {
    let cluster = with_replicas().await;
    let nodes = &cluster.0;
    // Replicas are told of as soon as it is known how far they are.
    let tells_all = |node: &RedisServer| {
        let told = node.run("CLUSTER SLOTS");
        let mut ports = nodes.iter().map(|node| format!(":{}\r\n", node.port()));
        ports.all(|port| told.contains(&port))
    };
    eventually(|| nodes.iter().all(tells_all)).await;
    let urls = format!("{}\ntimeout = '2s'", cluster.urls());
    let gateway = counted_by(&urls, nodes).await;
    let replica = nodes.iter().find(|node| counts(node) && !is_main(node));
    let replica = replica.unwrap();
    let before = degraded(&gateway);
    let load = Storm::over(gateway.address());
    let told = replica.run("CLUSTER FAILOVER");
    assert!(told.starts_with("+OK"), "{told}");
    eventually(|| is_main(replica) && replica.calls("evalsha") > 100).await;
    let (answers, slowest) = load.end().await;
    println!("the slowest request took {slowest:?}");
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&200]);
    assert_eq!(degraded(&gateway), before, "each was counted in Redis");
}

#[tokio::test]
async fn when_a_node_comes_back_and_knows_nobody_its_replica_goes_on_counting() {
    let cluster = with_replicas().await;
    for node in &cluster.0 {
        let set = node.run("CONFIG SET cluster-require-full-coverage no");
        assert!(set.starts_with("+OK"), "{set}");
    }
    let urls = format!("{}\ntimeout = '500ms'", cluster.urls());
    let mut nodes = cluster.0;
    let gateway = counted_by(&urls, &nodes).await;
    let mut main = counting_main(&mut nodes);
    let replica = nodes.iter().position(counts).unwrap();
    main.kill();
    main.restart_as_stranger();
    // It is reached again, and says that nobody has that slot.
    let refused = || gateway.metric("tollgate_redis_errors_total", &["refused"]);
    within(async {
        while refused() == 0.0 && !is_main(&nodes[replica]) {
            assert_eq!(get(&gateway).await.status, 200);
        }
    })
    .await;
    // It may have done so by itself.
    nodes[replica].run("CLUSTER FAILOVER TAKEOVER");
    eventually(|| is_main(&nodes[replica])).await;
    recovery(&gateway).await;
    assert_eq!(get(&gateway).await.status, 200);
    eventually(|| counts(&nodes[replica])).await;
}

#[tokio::test]
async fn a_cluster_whose_nodes_are_not_where_it_says_counts_as_away() {
    let cluster = RedisCluster::start().await;
    let urls = format!("{}\ntimeout = '500ms'", cluster.urls());
    // Nobody listens where that port was found.
    let nowhere = crate::support::free_port();
    for node in &cluster.0 {
        let set = node.run(&format!("CONFIG SET cluster-announce-port {nowhere}"));
        assert!(set.starts_with("+OK"), "{set}");
    }
    let elsewhere = |node: &RedisServer| {
        let told = node.run("CLUSTER SLOTS");
        told.matches(&format!(":{nowhere}\r")).count() == 3
    };
    eventually(|| cluster.0.iter().all(elsewhere)).await;
    let gateway = limited_by(&urls, EACH, "['each', 'all']");
    within(async {
        while !is_open(&gateway) {
            assert_eq!(get_as(&gateway, "alice").await.status, 200);
        }
    })
    .await;
    assert_eq!(gateway.metric("tollgate_redis_up", &[]), 0.0);
}
