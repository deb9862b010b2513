//! A gateway in this process that reads a file, as the command does.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tempfile::TempDir;
use tollgate::{
    config::{Address, Config},
    gateway::Gateway,
};
use tracing_subscriber::fmt::MakeWriter;

/// A running gateway with its configuration in a file.
pub struct FileGateway {
    inner: Arc<Gateway>,
    directory: TempDir,
}

impl FileGateway {
    /// Starts with a configuration, which is written as by [`FileGateway::write`].
    #[track_caller]
    pub fn start(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = write(&directory, text);
        let config = Config::load(&file).unwrap_or_else(|findings| panic!("{findings}"));
        let inner = Gateway::start(config.config, Some(file), None).expect("it starts");
        Self {
            inner: Arc::new(inner),
            directory,
        }
    }

    /// Writes another configuration; nothing reads it yet. `${folder}` stands for the directory.
    pub fn write(&self, text: &str) {
        write(&self.directory, text);
    }

    /// Reloads away from the runtime, as a signal does.
    pub async fn reload(&self) -> Result<(), String> {
        let gateway = Arc::clone(&self.inner);
        let reload = tokio::task::spawn_blocking(move || gateway.reload());
        reload.await.expect("no panic")
    }

    /// Writes another configuration and reloads it.
    pub async fn switch_to(&self, text: &str) {
        self.write(text);
        self.reload().await.expect("it is taken over");
    }

    /// Where clients connect: the first TCP address.
    pub fn address(&self) -> SocketAddr {
        let tcp = |address| match address {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        };
        let mut addresses = self.inner.addresses().into_iter().filter_map(tcp);
        addresses.next().expect("it listens on TCP")
    }

    /// The admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.inner.admin_address().expect("it has an admin address")
    }

    /// The gateway itself.
    pub fn inner(&self) -> &Arc<Gateway> {
        &self.inner
    }

    /// A path in the gateway's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The line of a series in `/metrics`, if it is there.
    pub fn series(&self, start: &str) -> Option<String> {
        let text = self.inner.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(start))?;
        Some(line.trim().to_owned())
    }
}

fn write(directory: &TempDir, text: &str) -> PathBuf {
    let folder = directory.path().display().to_string();
    let file = directory.path().join("gateway.toml");
    let text = text.replace("${folder}", &folder);
    std::fs::write(&file, text).expect("a file can be written");
    file
}

/// What is logged on this thread while it is there.
#[derive(Clone, Default)]
pub struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    /// Runs something and returns what it logged.
    pub fn during<T>(run: impl FnOnce() -> T) -> (T, String) {
        let logged = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(logged.clone())
            .with_ansi(false)
            .finish();
        let value = tracing::subscriber::with_default(subscriber, run);
        let bytes = logged.0.lock().expect("nobody panicked").clone();
        (value, String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logged {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
