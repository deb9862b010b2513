//! `tollgate demo`: a backend to play with and the gateway in front of it, in one process.

mod backend;
mod callers;
mod tour;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    path::Path,
    time::Duration,
};

pub use backend::Backend;

use callers::Callers;

use super::{
    DEFAULT_FILE,
    output::{self, Failure, Outcome},
    signals::Signals,
};
use crate::{
    config::{Address, Config, ServerUrl, UpstreamProtocol, UpstreamServer},
    gateway::Gateway,
    telemetry,
};

pub(super) fn run(file: &Path) -> Outcome {
    let (mut config, origin) = configuration(file)?;
    let mut signals = Signals::listen()?;
    // A clone is kept to the end: dropping the last writes what was logged last.
    let level = telemetry::init(&config.log);
    let backend = Backend::start().map_err(|error| Failure::run("demo backend", &error))?;
    point_to(backend.address(), &mut config);
    let wanted = addresses(&config);
    use_free_ports(&mut config);
    // Nobody balances load in front of a demo, so nobody has to be told before it ends.
    config.server.drain.delay = Duration::ZERO;
    let gateway = Gateway::start(config, None, Some(level.clone()))?;
    output::say(&tour::text(&gateway, backend.address(), &wanted, &origin))?;
    signals.obey(&gateway)
}

/// Where the configuration came from.
struct Origin {
    name: String,
    /// Who calls, where it is the shipped one, which the printed lines fit.
    callers: Option<Callers>,
}

/// The file's configuration, or the shipped one when nothing lies at the default place.
fn configuration(file: &Path) -> Result<(Config, Origin), Failure> {
    if file == Path::new(DEFAULT_FILE) && !file.exists() {
        return shipped("the gateway.toml that Tollgate ships");
    }
    let name = file.display().to_string();
    if std::fs::read_to_string(file).is_ok_and(|text| text == SHIPPED) {
        return shipped(&name);
    }
    let origin = Origin {
        name,
        callers: None,
    };
    output::load(file).map(|loaded| (loaded.config, origin))
}

fn shipped(name: &str) -> Result<(Config, Origin), Failure> {
    let (config, callers) = Callers::beside(DEFAULT_FILE, SHIPPED)?;
    let origin = Origin {
        name: format!("{name}, and callers"),
        callers: Some(callers),
    };
    Ok((config, origin))
}

/// Puts the backend in the place of every server of every upstream.
fn point_to(backend: SocketAddr, config: &mut Config) {
    let server = UpstreamServer {
        url: ServerUrl::Tcp {
            protocol: UpstreamProtocol::Http1,
            host: backend.ip().to_string().into(),
            port: backend.port(),
        },
        name: format!("http://{backend}").into(),
        weight: NonZeroU32::MIN,
    };
    for upstream in config.upstreams.values_mut() {
        upstream.servers = vec![server.clone()];
    }
}

/// Where the file wants to listen: clients, then admin.
fn addresses(config: &Config) -> Vec<Address> {
    let admin = config.admin.listen.map(Address::Tcp);
    config.server.listen.iter().cloned().chain(admin).collect()
}

/// A demo beside another program on the same port should work: it takes a free port then.
fn use_free_ports(config: &mut Config) {
    let clients = config.server.listen.iter_mut();
    let clients = clients.filter_map(|address| match address {
        Address::Tcp(address) => Some(address),
        Address::Unix(_) => None,
    });
    for address in clients.chain(&mut config.admin.listen) {
        let tried = TcpListener::bind(*address);
        if tried.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
            address.set_port(0);
        }
    }
}

/// What `tollgate demo` runs where no `gateway.toml` lies.
const SHIPPED: &str = include_str!("../../gateway.toml");

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped_config() -> Config {
        shipped("gateway.toml").unwrap().0
    }

    #[test]
    fn the_shipped_file_has_no_findings() {
        let loaded = Config::parse("gateway.toml", SHIPPED).unwrap();
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }

    #[test]
    fn what_the_shipped_file_has_in_comments_can_be_used() {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::write(folder.path().join("api-keys.toml"), "").unwrap();
        let is_toml = |line: &str| {
            let key = line.split_once(" = ").map_or("", |(key, _)| key);
            let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            is_key || line.starts_with('[')
        };
        let lines = SHIPPED.lines().map(|line| match line.strip_prefix("# ") {
            Some(inner) if is_toml(inner) => format!("{inner}\n"),
            _ => format!("{line}\n"),
        });
        let text = lines.collect::<String>();
        let text = text.replace("${env:JWT_SECRET}", &"s".repeat(32));
        let name = folder.path().join("gateway.toml").display().to_string();
        let loaded = Config::parse(&name, &text).unwrap_or_else(|findings| panic!("{findings}"));
        assert_eq!(loaded.config.auth.api_keys.len(), 1);
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }

    #[test]
    fn every_upstream_leads_to_the_backend() {
        let mut config = shipped_config();
        point_to(SocketAddr::from(([127, 0, 0, 1], 4000)), &mut config);
        assert!(!config.upstreams.is_empty());
        for upstream in config.upstreams.values() {
            assert_eq!(&*upstream.servers[0].name, "http://127.0.0.1:4000");
            assert_eq!(upstream.servers.len(), 1);
        }
    }

    #[test]
    fn a_taken_port_is_left_to_its_owner() {
        let owner = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = owner.local_addr().unwrap();
        let mut config = shipped_config();
        config.server.listen = vec![Address::Tcp(taken)];
        config.admin.listen = Some(taken);
        use_free_ports(&mut config);
        assert_eq!(
            addresses(&config),
            [([127, 0, 0, 1], 0); 2].map(|free| Address::Tcp(free.into()))
        );
    }

    #[test]
    fn a_free_port_is_kept() {
        let free = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap();
        let mut config = shipped_config();
        config.admin.listen = Some(free);
        use_free_ports(&mut config);
        assert_eq!(config.admin.listen, Some(free));
    }
}
