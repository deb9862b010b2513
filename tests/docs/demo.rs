//! `tollgate demo` with a configuration from a page, and a shell for the lines that the page shows.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::folder;

/// A running demo. It does not outlive the test.
pub(super) struct Demo {
    folder: TempDir,
    child: Child,
    /// Lines of its standard output: where it listens, then the access log.
    said: Arc<Mutex<Vec<String>>>,
    /// What pages write, and what has to stand there for this demo.
    written: Vec<(&'static str, String)>,
}

impl Demo {
    pub(super) fn with(configuration: &str) -> Self {
        let folder = folder();
        let text = format!("{configuration}\n{FREE_PORTS}");
        fs::write(folder.path().join("gateway.toml"), text).unwrap();
        let mut child = Command::new(TOLLGATE)
            .args(["demo", "--config", "gateway.toml"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = collect(child.stdout.take().unwrap());
        let mut demo = Self {
            folder,
            child,
            said,
            written: Vec::new(),
        };
        let (gateway, admin) = (demo.listens("gateway"), demo.listens("admin"));
        let purge = format!(
            "tollgate purge --admin {}",
            admin.trim_start_matches("http://")
        );
        demo.written = vec![
            ("http://127.0.0.1:8080", gateway),
            ("http://127.0.0.1:9901", admin),
            ("tollgate purge", purge),
        ];
        demo
    }

    /// Has lines for `redis-cli` sent to that port.
    pub(super) fn beside_redis(mut self, port: u16) -> Self {
        self.written
            .push(("redis-cli", format!("redis-cli -p {port}")));
        self
    }

    /// What lines of a page print; they must do what they are for.
    #[track_caller]
    pub(super) fn shell(&self, script: &str) -> String {
        let written = self.written.iter();
        let script = written.fold(script.to_owned(), |script, (page, here)| {
            script.replace(page, here)
        });
        let commands = Path::new(TOLLGATE).parent().unwrap().display();
        let others = env::var("PATH").unwrap_or_default();
        let output = Command::new("sh")
            .args(["-c", &script])
            .current_dir(self.folder.path())
            .env("PATH", format!("{commands}:{others}"))
            // Neither a proxy nor a .curlrc of whoever runs the tests.
            .env("NO_PROXY", "*")
            .env("HOME", self.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until the access log has such a line.
    #[track_caller]
    pub(super) fn logs(&self, shown: &str, is_such: impl Fn(&str) -> bool) {
        let found = eventually(|| self.said().iter().any(|line| is_such(line)).then_some(()));
        assert!(found.is_some(), "{shown} is not in {:#?}", self.said());
    }

    fn listens(&self, what: &str) -> String {
        let start = format!("  {what} ");
        let url = |line: &String| {
            let rest = line.strip_prefix(&start)?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        eventually(|| self.said().iter().find_map(url)).expect("the demo starts")
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is there at last; `None` when that takes too long.
pub(super) fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let found = look();
        if found.is_some() {
            return found;
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Reads lines for as long as there are some.
fn collect(stream: ChildStdout) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let kept = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            kept.lock().unwrap().push(line);
        }
    });
    lines
}

const TOLLGATE: &str = env!("CARGO_BIN_EXE_tollgate");
const FREE_PORTS: &str = "\
[server]
listen = [\"127.0.0.1:0\"]
[admin]
listen = \"127.0.0.1:0\"
";
const PATIENCE: Duration = Duration::from_secs(20);
