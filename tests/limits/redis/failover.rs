//! A replica takes over, at the address that the gateway knows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};

use super::{Storm, degraded, get, get_as, is_open, limited_by, recovery};
use crate::support::{Gateway, RedisServer, eventually};

/// An address that leads to whichever server it is said to; connections stay where they are.
struct Address {
    url: String,
    leads_to: Arc<AtomicU16>,
    proxy: tokio::task::JoinHandle<()>,
}

impl Address {
    async fn of(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let leads_to = Arc::new(AtomicU16::new(server.port()));
        let port = Arc::clone(&leads_to);
        let proxy = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let place = ("127.0.0.1", port.load(Relaxed));
                tokio::spawn(async move {
                    // Of a server that is gone the connection is closed.
                    let Ok(mut server) = TcpStream::connect(place).await else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            url,
            leads_to,
            proxy,
        }
    }

    fn lead_to(&self, server: &RedisServer) {
        self.leads_to.store(server.port(), Relaxed);
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.proxy.abort();
    }
}

fn follow(replica: &RedisServer, main: &RedisServer) {
    let followed = replica.run(&format!("REPLICAOF 127.0.0.1 {}", main.port()));
    assert!(followed.starts_with("+OK"), "{followed}");
}

async fn pair() -> (RedisServer, RedisServer) {
    // Without the five seconds that a server waits for more replicas.
    let start = || RedisServer::with(&["--repl-diskless-sync-delay", "0"]);
    let servers = (start(), start());
    follow(&servers.1, &servers.0);
    eventually(|| {
        servers
            .1
            .run("INFO replication")
            .contains("master_link_status:up")
    })
    .await;
    servers
}

/// Waits until a replica has heard all that its main server has done.
async fn caught_up(replica: &RedisServer, main: &RedisServer) {
    let offset = |server: &RedisServer| {
        let told = server.run("INFO replication");
        let line = told
            .lines()
            .find(|line| line.starts_with("master_repl_offset:"));
        line.unwrap().trim().to_owned()
    };
    eventually(|| offset(replica) == offset(main)).await;
}

const TABLES: &str = "[rate_limits.wide]\nkey = 'client_ip'\nquota = '1000000/1d'\nstore = 'redis'\n\
     [rate_limits.spent]\nkey = 'header:x-who'\nquota = '3/1d'\nstore = 'redis'\non_missing_key = 'skip'";

fn gateway(address: &Address) -> Gateway {
    // None of these servers hangs, so no deadline matters here but that of a loaded machine.
    let url = format!("'{}'\ntimeout = '1s'", address.url);
    limited_by(&url, TABLES, "['wide', 'spent']")
}

/// Asks as somebody who may ask three times.
async fn ask_as(gateway: &Gateway, who: &str) -> u16 {
    get_as(gateway, who).await.status
}

/// A gateway that has counted to the quota of one caller, and whose server has just become the
/// replica of the other. The connections to the old one stay.
async fn demoted() -> ((RedisServer, RedisServer), Address, Gateway) {
    let (old, new) = pair().await;
    let address = Address::of(&old).await;
    let gateway = gateway(&address);
    for status in [200, 200, 200, 429] {
        assert_eq!(ask_as(&gateway, "mallory").await, status);
    }
    caught_up(&new, &old).await;
    assert!(new.run("REPLICAOF NO ONE").starts_with("+OK"));
    address.lead_to(&new);
    follow(&old, &new);
    ((old, new), address, gateway)
}

#[tokio::test]
async fn a_server_that_has_become_a_replica_is_left_for_the_one_that_has_taken_over() {
    // The old one goes on answering what it need not write.
    let ((_old, new), _address, gateway) = demoted().await;
    let before = new.calls("evalsha") + new.calls("eval");
    let load = Storm::over(gateway.address());
    eventually(|| new.calls("evalsha") + new.calls("eval") > before + 200).await;
    let (counts, _) = load.end().await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&200]);
    let took = recovery(&gateway).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    // What was counted has moved on with it.
    assert_eq!(ask_as(&gateway, "mallory").await, 429);
}

#[tokio::test]
async fn who_is_refused_by_a_replica_does_not_keep_the_others_there() {
    let (_servers, _address, gateway) = demoted().await;
    // A refusal is no write, so the replica goes on refusing: that is no sign of health.
    assert_eq!(get(&gateway).await.status, 200);
    assert!(is_open(&gateway), "one write that was refused is enough");
    assert_eq!(degraded(&gateway), 1.0);
}

#[tokio::test]
async fn a_server_that_dies_is_left_for_its_replica() {
    let (mut old, new) = pair().await;
    let address = Address::of(&old).await;
    let gateway = gateway(&address);
    for status in [200, 200, 200, 429] {
        assert_eq!(ask_as(&gateway, "mallory").await, status);
    }
    caught_up(&new, &old).await;
    let load = Storm::over(gateway.address());
    eventually(|| old.calls("evalsha") > 100).await;
    old.kill();
    eventually(|| degraded(&gateway) > 100.0).await;
    assert!(new.run("REPLICAOF NO ONE").starts_with("+OK"));
    address.lead_to(&new);
    let took = recovery(&gateway).await;
    let (counts, slowest) = load.end().await;
    println!("recovered in {took:?}, the slowest request took {slowest:?}");
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&200]);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(ask_as(&gateway, "mallory").await, 429);
}
