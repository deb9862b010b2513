//! A gateway in this process.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tollgate::{
    config::{Address, Config},
    exchange::Clock,
};
use toml::Table;

use super::eventually;

/// A running gateway on a free port, with its access log in a file of its own.
///
/// Unless the text says otherwise it has one worker, so that all connections share one pool.
pub struct Gateway {
    inner: tollgate::gateway::Gateway,
    directory: TempDir,
}

impl Gateway {
    /// Starts with a configuration in which listeners, admin address and access log are filled in
    /// where they are missing.
    #[track_caller]
    pub fn start(text: &str) -> Self {
        Self::start_at(text, Clock::system())
    }

    /// Starts like [`start`](Self::start), with a clock that the test moves: [`Clock::movable`].
    #[track_caller]
    pub fn start_at(text: &str, clock: Clock) -> Self {
        Self::start_after(text, clock, || {})
    }

    /// Starts like [`start_at`](Self::start_at), after what happens between the check of the
    /// configuration and the start.
    #[track_caller]
    pub fn start_after(text: &str, clock: Clock, meanwhile: impl FnOnce()) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = parse(&complete(text, &directory));
        meanwhile();
        let inner = tollgate::gateway::Gateway::start_at(config, None, None, clock);
        let inner = inner.expect("it starts");
        Self { inner, directory }
    }

    /// One route that forwards everything to one server.
    #[track_caller]
    pub fn to(url: &str) -> Self {
        Self::start(&format!("[routes.all]\nupstream = \"{url}\"\n"))
    }

    /// Swaps another configuration in.
    pub fn apply(&self, text: &str) {
        let config = parse(&complete(text, &self.directory));
        self.inner.apply(config).expect("it is taken over");
    }

    /// Tries to swap another configuration in, which is refused: why.
    pub fn refuse(&self, text: &str) -> String {
        let config = parse(&complete(text, &self.directory));
        self.inner.apply(config).expect_err("it is refused")
    }

    /// Where clients connect: the first TCP address.
    pub fn address(&self) -> SocketAddr {
        let mut addresses = self.inner.addresses().into_iter();
        addresses
            .find_map(|address| match address {
                Address::Tcp(address) => Some(address),
                Address::Unix(_) => None,
            })
            .expect("it listens on TCP")
    }

    /// The admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.inner.admin_address().expect("it has an admin address")
    }

    /// The gateway itself.
    pub fn inner(&self) -> &tollgate::gateway::Gateway {
        &self.inner
    }

    /// The sum of a metric over the series whose text contains all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.inner.metrics();
        text.lines()
            .filter(|line| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// The requests to servers that ended so.
    pub fn outcomes(&self, outcome: &str) -> f64 {
        let label = format!("outcome=\"{outcome}\"");
        self.metric("tollgate_upstream_requests_total", &[&*label])
    }

    /// A directory that lives as long as the gateway.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The access log so far.
    pub fn log(&self) -> Vec<Value> {
        // The writer is woken to reopen its file, and writes what is buffered.
        self.inner.reopen_logs();
        let text = std::fs::read_to_string(log_file(&self.directory)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let line = |line: &str| serde_json::from_str(line).expect("a line is JSON");
        whole.lines().map(line).collect()
    }

    /// What the cache did and why, by the last of so many lines.
    pub async fn cache_logged(&self, lines: usize) -> (String, String) {
        let lines = self.log_lines(lines).await;
        let last = lines.last().expect("a line");
        let word = |key: &str| last[key].as_str().unwrap_or_default().to_owned();
        (word("cache"), word("cache_detail"))
    }

    /// The access log once it has a number of lines.
    #[track_caller]
    pub fn log_lines(&self, count: usize) -> impl Future<Output = Vec<Value>> {
        let waited = eventually(move || self.log().len() >= count);
        async move {
            waited.await;
            let lines = self.log();
            assert_eq!(lines.len(), count, "{lines:#?}");
            lines
        }
    }

    /// The only line of the access log.
    #[track_caller]
    pub fn log_line(&self) -> impl Future<Output = Value> {
        let lines = self.log_lines(1);
        async move { lines.await.remove(0) }
    }
}

#[track_caller]
fn parse(text: &str) -> Config {
    match Config::parse("test.toml", text) {
        Ok(loaded) => loaded.config,
        Err(findings) => panic!("{findings}\n{text}"),
    }
}

fn log_file(directory: &TempDir) -> PathBuf {
    directory.path().join("access.log")
}

fn complete(text: &str, directory: &TempDir) -> String {
    let mut table: Table = text.parse().expect("the text is TOML");
    default(&mut table, "server", "listen", vec!["127.0.0.1:0"].into());
    default(&mut table, "server", "workers", 1.into());
    default(&mut table, "admin", "listen", "127.0.0.1:0".into());
    let file = log_file(directory).display().to_string();
    let log = sub(&mut table, "log");
    default(log, "access", "file", file.into());
    toml::to_string(&table).expect("the table is TOML")
}

fn default(table: &mut Table, name: &str, key: &str, value: toml::Value) {
    sub(table, name).entry(key).or_insert(value);
}

fn sub<'a>(table: &'a mut Table, name: &str) -> &'a mut Table {
    let value = table.entry(name).or_insert_with(|| Table::new().into());
    value.as_table_mut().expect("it is a table")
}
