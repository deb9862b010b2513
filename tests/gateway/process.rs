//! The process under signals and load. What a person sees of the command is in `cli.rs`.

use std::{
    io::{BufRead, BufReader, Lines, Read, Write},
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::support::{self, Events, FrameClient, Load, Origin, Process, Raw, Streams, eventually};

/// A gateway in front of a server, with drain times in milliseconds.
fn forwarding(url: &str, delay: u32, grace: u32) -> String {
    format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n\
         [server]\nworkers = 2\nlisten = [\"127.0.0.1:0\"]\n\
         [server.drain]\ndelay = \"{delay}ms\"\ngrace = \"{grace}ms\"\ndeadline = \"1h\"\n\
         [routes.all]\nupstream = \"{url}\"\n"
    )
}

#[tokio::test]
async fn sigterm_under_load_loses_no_request_and_no_log_line() {
    let origin = Origin::ok().await;
    let mut first = Process::start(&forwarding(&origin.url(), 200, 200)).await;
    let second = Process::start(&forwarding(&origin.url(), 0, 0)).await;
    let places = [first.address(), second.address()];
    let mut load = Load::new();
    for _ in 0..4 {
        load.http1(&places, "/");
    }
    load.http2(&places, "/", 8).await;
    load.progress(5).await;
    first.signal("TERM");
    let status = first.ended().await;
    load.progress(5).await;

    let (answers, failures) = load.stop().await;
    assert_eq!(failures, [""; 0]);
    assert_eq!(status.code(), Some(0));
    let lines = || [first.log(), second.log()].concat();
    eventually(|| lines().len() >= answers).await;
    let lines = lines();
    assert_eq!(lines.len(), answers);
    let bad = |line: &&serde_json::Value| line["status"] != 200 || line["complete"] == false;
    assert_eq!(lines.iter().find(bad), None);
}

#[tokio::test]
async fn a_storm_of_sighup_under_load_fails_no_request() {
    let origin = Origin::ok().await;
    let process = Process::start(&forwarding(&origin.url(), 0, 0)).await;
    let mut load = Load::new();
    load.http1(&[process.address()], "/");
    load.http2(&[process.address()], "/", 4).await;
    for _ in 0..20 {
        process.signal("HUP");
        load.progress(1).await;
    }
    let (_, failures) = load.stop().await;
    assert_eq!(failures, [""; 0]);
    process.says("the configuration was reloaded").await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_what_it_cuts_is_logged() {
    let origin = Streams::start().await;
    let mut process = Process::start(&forwarding(&origin.server.url(), 0, 0)).await;
    let mut events = Events::connect(process.address(), &origin).await;
    process.signal("INT");
    process.says("draining").await;
    events.pass("data: still there\n\n").await;
    process.signal("TERM");
    let status = process.ended().await;
    assert_eq!(status.code(), Some(1), "{:#?}", process.said());
    events.cut().await;
    eventually(|| process.log().len() == 1).await;
    assert_eq!(process.log()[0]["complete"], false);
}

#[tokio::test]
async fn a_drain_refuses_readiness_and_reloads() {
    let origin = Streams::start().await;
    let mut process = Process::start(&forwarding(&origin.server.url(), 0, 0)).await;
    let mut events = Events::connect(process.address(), &origin).await;
    process.signal("TERM");
    process.says("draining").await;
    let probe = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = Raw::ask(process.admin(), probe).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["status"], "draining");
    process.signal("HUP");
    process.says("not reloading: draining").await;
    events.pass("data: still there\n\n").await;
    drop(events);
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_unix_socket_of_a_killed_process_is_taken_over_and_a_drain_removes_ours() {
    let text = "[admin]\nlisten = \"127.0.0.1:0\"\n\
                [server]\nlisten = [\"unix:${folder}/gateway.sock\"]\n\
                [server.drain]\ndelay = \"0s\"\ngrace = \"0s\"\n\
                [routes.all]\nrespond = { body = \"here\" }\n";
    let mut killed = Process::start(text).await;
    killed.signal("KILL");
    assert_eq!(killed.ended().await.signal(), Some(9));
    let socket = killed.path("gateway.sock");
    assert!(socket.exists(), "nobody could remove it");

    let text = text.replace("${folder}/gateway.sock", &socket.display().to_string());
    let mut next = Process::start(&text).await;
    assert!(UnixStream::connect(&socket).is_ok());
    next.signal("TERM");
    assert_eq!(next.ended().await.code(), Some(0));
    assert!(!socket.exists());
}

/// Does not outlive its test.
struct Killed(Child);

impl Killed {
    /// Asks it to end and waits for that.
    async fn terminated(&mut self) -> ExitStatus {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(sent.expect("there is a kill").success());
        let mut status = None;
        eventually(|| {
            status = self.0.try_wait().expect("our child");
            status.is_some()
        })
        .await;
        status.expect("it has ended")
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_standard_error_that_nobody_reads_stops_nothing() {
    let (mut full, _reader) = UnixStream::pair().expect("a pair of sockets");
    full.set_nonblocking(true).expect("a socket");
    while full.write(&[b'x'; 4096]).is_ok() {}
    full.set_nonblocking(false).expect("a socket");

    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("gateway.sock");
    let text = format!(
        "[server]\nworkers = 1\nlisten = [\"unix:{}\"]\n\
         [server.drain]\ndelay = \"0s\"\ngrace = \"0s\"\n[routes.all]\nrespond = {{}}\n",
        socket.display()
    );
    let file = directory.path().join("gateway.toml");
    std::fs::write(&file, text).expect("a file can be written");
    let child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("--config")
        .arg(file)
        .stdout(Stdio::null())
        .stderr(OwnedFd::from(full))
        .spawn();
    let mut child = Killed(child.expect("it was built"));
    eventually(|| UnixStream::connect(&socket).is_ok()).await;
    // Each is logged.
    for _ in 0..5 {
        let mut client = UnixStream::connect(&socket).expect("it listens");
        let patience = Some(Duration::from_secs(10));
        client.set_read_timeout(patience).expect("a socket");
        client.write_all(b"\0\r\n\r\n").expect("it is open");
        let mut answer = [0; 12];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 400");
    }
    child.terminated().await;
}

/// A gateway whose output is read up to where it listens and no further.
struct Unread {
    child: Killed,
    address: SocketAddr,
    admin: SocketAddr,
    /// Closed, it would refuse lines instead of letting them wait.
    _said: Lines<BufReader<ChildStderr>>,
}

impl Unread {
    fn start(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("gateway.toml");
        std::fs::write(&file, text).expect("a file can be written");
        let child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .arg("--config")
            .arg(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = Killed(child.expect("it was built"));
        let mut said = BufReader::new(child.0.stderr.take().expect("a pipe")).lines();
        let mut place = |message: &str, field: &str| -> SocketAddr {
            loop {
                let line = said.next().expect("it lives").expect("UTF-8");
                let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                if line["message"] == message {
                    let place = line[field].as_str().expect("a text");
                    return place.parse().expect("an address");
                }
            }
        };
        let address = place("listening", "address");
        let admin = place("admin listening", "admin");
        Self {
            child,
            address,
            admin,
            _said: said,
        }
    }

    /// Whether a counter of lost lines has counted any.
    async fn has_lost(&self, counter: &str) -> bool {
        let scrape = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let metrics = Raw::ask(self.admin, scrape).await;
        let mut counts = metrics
            .text()
            .lines()
            .filter_map(|line| line.strip_prefix(counter)?.strip_prefix(' '));
        counts.any(|count| count != "0")
    }
}

#[tokio::test]
async fn lines_of_the_log_that_nobody_takes_are_lost_and_counted() {
    let gateway = Unread::start(
        "[log]\nlevel = \"trace\"\n[log.access]\nenabled = false\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[server]\nlisten = [\"127.0.0.1:0\"]\n\
         [routes.all]\nrespond = {}\n",
    );
    // h2 tells a lot about each request at this level.
    let mut client = FrameClient::connect(gateway.address).await;
    let fields: [(&str, &[u8]); 4] = [
        (":method", b"GET"),
        (":scheme", b"http"),
        (":path", b"/"),
        (":authority", b"a"),
    ];
    let (headers, whole) = (1, 5);
    for number in 0..5000 {
        let stream = 2 * number + 1;
        client
            .send(headers, whole, stream, &support::encode(&fields))
            .await;
        client.outcome().await;
        if number % 100 == 99 && gateway.has_lost("tollgate_log_lines_dropped_total").await {
            return;
        }
    }
    panic!("nothing was lost, or nobody counted it");
}

#[tokio::test]
async fn lines_of_the_access_log_that_nobody_takes_are_lost_and_counted() {
    let mut gateway = Unread::start(
        "[admin]\nlisten = \"127.0.0.1:0\"\n\
         [server]\nworkers = 1\nlisten = [\"127.0.0.1:0\"]\n\
         [server.drain]\ndelay = \"0s\"\ngrace = \"0s\"\n\
         [routes.all]\nrespond = {}\n",
    );
    let mut client = Raw::connect(gateway.address).await;
    // The longer a line, the sooner buffers are full.
    let path = "a".repeat(8000);
    let request = format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let counter = "tollgate_access_log_lines_dropped_total";
    let mut sent = 0;
    while !gateway.has_lost(counter).await {
        assert!(sent < 20_000, "nothing was lost, or nobody counted it");
        for _ in 0..200 {
            client.send(&request).await;
            assert_eq!(client.answer().await.status, 200);
        }
        sent += 200;
    }
    assert_eq!(gateway.child.terminated().await.code(), Some(0));
}

#[tokio::test]
async fn what_the_parser_refuses_is_one_line_of_the_log() {
    let process = Process::start(&forwarding("http://127.0.0.1:1", 0, 0)).await;
    let answer = Raw::ask(process.address(), "\0\r\n\r\n").await;
    assert_eq!(answer.refusal(), (400, "http.malformed".to_owned()));
    let message = "a connection was refused";
    process.says(message).await;
    let said = process.said();
    let lines: Vec<_> = said.iter().filter(|line| line.contains(message)).collect();
    assert_eq!(lines.len(), 1, "{said:#?}");
    let line: serde_json::Value = serde_json::from_str(lines[0]).expect("JSON");
    assert_eq!(line["message"], message);
    assert_eq!(line["reason"], "http.malformed");
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(process.log().len(), 0, "it was no request");
}

#[tokio::test]
async fn its_threads_are_the_configured_workers_and_have_names() {
    let process = Process::start(&forwarding("http://127.0.0.1:1", 0, 0)).await;
    let tasks = format!("/proc/{}/task", process.id());
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        let comm = task.expect("it lives").path().join("comm");
        let name = std::fs::read_to_string(comm).expect("it lives");
        name.trim_end().to_owned()
    };
    let names = || -> Vec<_> {
        let tasks = std::fs::read_dir(&tasks).expect("Linux");
        tasks.map(name).collect()
    };
    // The kernel keeps 15 bytes of a name.
    let count = |wanted: &str| names().iter().filter(|name| *name == wanted).count();
    // A thread gives itself its name, which may be a moment after it was begun.
    eventually(|| count("tollgate-worker") >= 2 && count("tollgate-contro") == 1).await;
    assert_eq!(count("tollgate-worker"), 2, "{:?}", names());
}
