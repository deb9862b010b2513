//! The command as a process of its own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

use super::eventually;

/// A gateway process. It does not outlive the test.
pub struct Process {
    child: Child,
    directory: TempDir,
    /// Lines of its standard error: the application log.
    said: Arc<Mutex<Vec<String>>>,
    /// Lines of its standard output: the access log.
    logged: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts a gateway with a configuration and waits until it listens. `${folder}` stands for
    /// its directory.
    pub async fn start(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let text = text.replace("${folder}", &directory.path().display().to_string());
        let file = directory.path().join("gateway.toml");
        std::fs::write(&file, text).expect("a file can be written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .arg("--config")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was built");
        let said = collect(child.stderr.take().expect("a pipe"));
        let logged = collect(child.stdout.take().expect("a pipe"));
        let process = Self {
            child,
            directory,
            said,
            logged,
        };
        process.says("admin listening").await;
        process
    }

    /// Waits until the application log has a line with this text.
    #[track_caller]
    pub fn says(&self, text: &str) -> impl Future<Output = ()> {
        eventually(move || self.said().iter().any(|line| line.contains(text)))
    }

    /// The application log so far.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().expect("nobody panicked").clone()
    }

    /// The access log so far.
    pub fn log(&self) -> Vec<Value> {
        let lines = self.logged.lock().expect("nobody panicked");
        let line = |line: &String| serde_json::from_str(line).expect("a line is JSON");
        lines.iter().map(line).collect()
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.field("listening", "address")
    }

    /// The admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.field("admin listening", "admin")
    }

    fn field(&self, message: &str, name: &str) -> SocketAddr {
        let lines = self.said().into_iter();
        let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line).expect("JSON"));
        let line = lines.find(|line| line["message"] == message);
        let address = line.expect("it listens")[name].as_str().map(str::parse);
        address.expect("a text").expect("an address")
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.expect("there is a kill").success());
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(&mut self) -> impl Future<Output = ExitStatus> {
        let mut status = None;
        async move {
            eventually(|| {
                status = self.child.try_wait().expect("it is our child");
                status.is_some()
            })
            .await;
            status.expect("it has ended")
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines for as long as there are some.
fn collect(stream: impl std::io::Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let kept = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            kept.lock().expect("nobody panicked").push(line);
        }
    });
    lines
}
