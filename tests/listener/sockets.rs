//! Binding, accepting, unix sockets, spread and reload.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::Command,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use socket2::{Domain, Socket, Type};
use tollgate::{
    config::{Address, Server},
    exchange::Reason,
    listener::{BindError, Listeners},
};

use crate::support::{Client, Front, PATIENCE, Told, config, eventually, loopback, millis, start};

fn listen(server: &Server) -> Result<Listeners, BindError> {
    let told = Arc::new(Told::default());
    Listeners::start(server, Arc::new(Front(Arc::default())), told)
}

fn listening_on(address: Address) -> Result<Listeners, BindError> {
    listen(&Server {
        listen: vec![address],
        ..config()
    })
}

#[test]
fn an_address_in_use_is_an_error_that_helps() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = listening_on(Address::Tcp(address)).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("can't listen on {address}:")),
        "{error}"
    );
    assert!(
        error.contains("help: another process listens there"),
        "{error}"
    );
}

#[test]
fn several_addresses_are_served_under_their_real_ports() {
    let running = start(|server| server.listen = vec![loopback(), loopback()]);
    let addresses = running.listeners().addresses();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        let Address::Tcp(address) = address else {
            panic!("{address:?}")
        };
        assert_ne!(address.port(), 0);
        assert_eq!(Client::new(address).get("/").answer().1, b"ok");
    }
}

#[test]
fn the_unspecified_ipv6_address_serves_ipv4_too() {
    let any = Address::Tcp("[::]:0".parse().unwrap());
    let Ok(listeners) = listening_on(any) else {
        return;
    };
    let Address::Tcp(bound) = listeners.addresses()[0].clone() else {
        panic!()
    };
    let v4 = SocketAddr::from(([127, 0, 0, 1], bound.port()));
    assert_eq!(Client::new(v4).get("/").answer().1, b"ok");
    listeners.stop();
}

fn ask(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_unix_socket_is_served_for_owner_and_group_and_removed_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gate.sock");
    let listeners = listening_on(Address::Unix(path.clone())).unwrap();
    assert!(ask(&path).ends_with("ok"));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    listeners.stop();
    assert!(!path.exists());
}

#[test]
fn a_dead_process_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gate.sock");
    drop(UnixListener::bind(&path).unwrap());
    let listeners = listening_on(Address::Unix(path.clone())).unwrap();
    assert!(ask(&path).ends_with("ok"));
    listeners.stop();
}

#[test]
fn a_living_process_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gate.sock");
    let _other = UnixListener::bind(&path).unwrap();
    let error = listening_on(Address::Unix(path.clone())).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    fs::write(&path, "data").unwrap();
    assert!(listening_on(Address::Unix(path.clone())).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
}

#[test]
fn a_socket_that_another_process_put_in_our_place_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gate.sock");
    let listeners = listening_on(Address::Unix(path.clone())).unwrap();
    // The successor's file gets another inode while ours is still in use.
    let other = directory.path().join("other.sock");
    let _other = UnixListener::bind(&other).unwrap();
    fs::rename(&other, &path).unwrap();
    listeners.stop();
    assert!(path.exists());
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted() {
    let running = start(|server| server.limits.max_connections = 2);
    let mut kept = [running.connect(), running.connect()];
    for client in &mut kept {
        client.get("/").answer();
    }
    let mut refused = running.connect();
    assert_eq!(refused.rest(), "");
    assert_eq!(
        *running.told.refused.lock().unwrap(),
        [Reason::TooManyConnections]
    );
    drop(kept);
    eventually("there is room again", || running.connections() == 0);
    assert_eq!(running.connect().get("/").answer().1, b"ok");
}

#[test]
fn connections_of_one_client_beyond_its_limit_are_closed_and_counted() {
    let running = start(|server| server.limits.max_connections_per_client = Some(2));
    let mut kept = [running.connect(), running.connect()];
    for client in &mut kept {
        client.get("/").answer();
    }
    let mut refused = running.connect();
    assert_eq!(refused.rest(), "");
    assert_eq!(
        *running.told.refused.lock().unwrap(),
        [Reason::TooManyClientConnections]
    );
    // All of 127.0.0.0/8 is this machine.
    let mut other = connect_from([127, 0, 0, 2], running.address);
    assert_eq!(other.get("/").answer().1, b"ok");
    let [one, _other] = kept;
    drop(one);
    eventually("there is room again", || running.connections() == 2);
    assert_eq!(running.connect().get("/").answer().1, b"ok");
}

#[test]
fn a_tunnel_is_one_of_its_clients_connections() {
    let running = start(|server| server.limits.max_connections_per_client = Some(1));
    let mut client = running.connect();
    client
        .send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .answer();
    assert_eq!(running.connect().rest(), "");
    drop(client);
    eventually("the tunnel has ended", || running.connections() == 0);
    assert_eq!(running.connect().get("/").answer().1, b"ok");
}

#[test]
fn a_trusted_proxy_has_as_many_connections_as_it_likes() {
    let running = start(|server| {
        server.limits.max_connections_per_client = Some(1);
        server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let mut clients = [running.connect(), running.connect()];
    for client in &mut clients {
        assert_eq!(client.get("/").answer().1, b"ok");
    }
}

/// A client at another address of this machine.
fn connect_from(ip: [u8; 4], address: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from((ip, 0));
    socket.bind(&from.into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    Client(socket.into())
}

#[test]
fn connections_are_spread_evenly() {
    let running = start(|server| server.workers = Some(3.try_into().unwrap()));
    let mut clients: Vec<_> = (0..9).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.get("/").answer();
    }
    let workers = running.listeners().workers();
    assert!(
        workers.iter().all(|worker| worker.connections == 3),
        "{workers:?}"
    );
}

#[test]
fn a_reload_opens_closes_and_keeps_connections() {
    let running = start(|_| {});
    let mut client = running.connect();
    client.get("/").answer();
    let old = running.listeners().addresses()[0].clone();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let added = free.local_addr().unwrap();
    drop(free);

    let mut server = config();
    server.listen = vec![Address::Tcp(added)];
    server.workers = Some(2.try_into().unwrap());
    let done = running.listeners().reconfigure(&server).unwrap();
    assert_eq!(done.added, [Address::Tcp(added)]);
    assert_eq!(done.removed, [old]);
    assert!(done.restart_needed);

    assert_eq!(Client::new(added).get("/").answer().1, b"ok");
    assert_eq!(client.get("/").answer().1, b"ok", "open connections stay");
    eventually("the old address is closed", || {
        std::net::TcpStream::connect(running.address).is_err()
    });
}

#[test]
fn a_reload_that_can_not_bind_changes_nothing() {
    let running = start(|_| {});
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = config();
    server.listen = vec![Address::Tcp(taken.local_addr().unwrap())];
    assert!(running.listeners().reconfigure(&server).is_err());
    assert_eq!(running.connect().get("/").answer().1, b"ok");
}

#[test]
fn new_limits_hold_for_new_connections() {
    let running = start(|_| {});
    let mut old = running.connect();
    old.get("/").answer();
    let mut server = config();
    server.limits.keep_alive = millis(50);
    let done = running.listeners().reconfigure(&server).unwrap();
    assert_eq!(
        (done.added.len(), done.removed.len(), done.restart_needed),
        (0, 0, false)
    );
    let mut new = running.connect();
    new.get("/").answer();
    assert_eq!(new.rest(), "");
    assert!(old.is_open());
}

/// The limit on descriptors is a process's, so the test runs in one of its own.
#[test]
fn accepting_recovers_from_a_lack_of_descriptors() {
    let this = std::env::current_exe().unwrap();
    let script = "ulimit -n 128 && exec \"$0\" --exact sockets::starved_of_descriptors --ignored";
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(this)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by accepting_recovers_from_a_lack_of_descriptors under a limit"]
fn starved_of_descriptors() {
    let running = start(|_| {});
    let mut hoard = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        hoard.push(file);
    }
    // One descriptor for the client, none for the gateway's side.
    hoard.pop();
    let mut client = running.connect();
    client.get("/");
    std::thread::sleep(millis(100));
    assert_eq!(running.told.opened.load(SeqCst), 0);
    hoard.clear();
    assert_eq!(client.answer().1, b"ok");
}

#[test]
fn stopping_ends_the_threads_and_frees_the_port() {
    let running = start(|server| server.workers = Some(3.try_into().unwrap()));
    let address = running.address;
    let mut client = running.connect();
    client.get("/hang");
    running.wait_begun(1);
    drop(running);
    assert_eq!(client.rest(), "");
    assert!(TcpListener::bind(address).is_ok());
}
