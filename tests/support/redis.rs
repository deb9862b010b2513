//! A Redis of the test's own.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A `redis-server` on a free port, which ends with its value.
pub struct RedisServer {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    directory: TempDir,
}

impl RedisServer {
    /// Starts one that keeps everything in memory.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with more arguments.
    #[track_caller]
    pub fn with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let arguments: Vec<_> = arguments.iter().map(|&text| text.to_owned()).collect();
        let child = spawn(port, directory.path(), &arguments);
        let server = Self {
            child,
            port,
            arguments,
            directory,
        };
        server.ready();
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The URL of a proxy that holds back what it answers by so much.
    pub async fn behind_delay(&self, by: Duration) -> String {
        let millis = u64::try_from(by.as_millis()).expect("a short while");
        self.behind_changing_delay(&Arc::new(AtomicU64::new(millis)))
            .await
    }

    /// The same, by as many milliseconds as it is at the time.
    pub async fn behind_changing_delay(&self, millis: &Arc<AtomicU64>) -> String {
        let millis = Arc::clone(millis);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let url = format!("redis://{}", listener.local_addr().expect("it is bound"));
        let behind = self.port;
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = tokio::net::TcpStream::connect(("127.0.0.1", behind)).await;
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.expect("Redis is there").into_split();
                tokio::spawn(delayed(from_client, to_server, Arc::default()));
                tokio::spawn(delayed(from_server, to_client, Arc::clone(&millis)));
            }
        });
        url
    }

    /// Kills it as nothing else does.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is there to be killed");
        self.child.wait().expect("it ends");
    }

    /// Starts it again, empty, on its port.
    #[track_caller]
    pub fn restart(&mut self) {
        self.child = spawn(self.port, self.directory.path(), &self.arguments);
        self.ready();
    }

    /// The same as a node of a cluster that has forgotten all others, and who it was itself.
    #[track_caller]
    pub fn restart_as_stranger(&mut self) {
        let known = self.directory.path().join("nodes.conf");
        std::fs::remove_file(known).expect("a node writes down what it knows");
        self.restart();
    }

    /// Stops it: it holds its connections and answers nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// A command, as one types it; what comes back, as it came.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).expect("a timeout");
        // What comes behind the answer to QUIT is nothing.
        let all = format!("{command}\r\nQUIT\r\n");
        stream.write_all(all.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// How often a command was called.
    pub fn calls(&self, command: &str) -> u64 {
        let stats = self.run("INFO commandstats");
        let line = format!("cmdstat_{command}:calls=");
        let calls = stats
            .split(&line)
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        calls.map_or(0, |calls| calls.parse().expect("a number"))
    }

    #[track_caller]
    fn ready(&self) {
        let began = Instant::now();
        loop {
            let answers = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            if answers {
                return;
            }
            assert!(
                began.elapsed() < super::PATIENCE,
                "redis-server did not start"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.expect("kill is there").success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have been killed already; a frozen one dies too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody had a moment ago. Below the range that systems give to whoever connects, and
/// so that a cluster's second port (10,000 above) exists too.
pub fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(12_000..30_000);
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return port;
        }
    }
}

fn spawn(port: u16, directory: &Path, arguments: &[String]) -> Child {
    let port = port.to_string();
    Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "no", "--daemonize", "no", "--dir"])
        .arg(directory)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

async fn delayed(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    millis: Arc<AtomicU64>,
) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        tokio::time::sleep(Duration::from_millis(millis.load(Relaxed))).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
