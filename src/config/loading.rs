//! From files to a checked [`Config`]: reading with a cap, includes, and all findings at once.

mod disk;

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Address, Auth, Cache, Config, Diagnostics, LimitKey, LimitStore, RateLimit, Redis,
    RevocationSource, Upstream, UpstreamServer,
    access::ip_sets,
    address::overlap,
    auth::OneKey,
    conflicts,
    decode::{Environment, Reader, Set, parse_tree},
    diagnostic::{self, Finding},
    document::{self, Document},
    key_quotas, key_routes, log,
    routes::{Builder, Built, named_roles, route_to},
    server_url::server_url,
    source::{Source, Sources},
};
use disk::{LARGEST, expand, read_capped, too_large};

/// A configuration that can be used, and what came to light on the way.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Findings that are no errors.
    pub warnings: Diagnostics,
    /// Every file that was read, the included and those of `${file:}` too: what to watch for a
    /// reload.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Reads a file and those that it includes.
    ///
    /// # Errors
    ///
    /// All findings at once when one of them is an error; a file that can't be read is one.
    pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
        let mut loader = Loader::new(Environment::of_process());
        loader.add_file(path);
        loader.finish()
    }

    /// Reads a text as if it stood in a file of that name, which need not exist. What the text
    /// includes is looked for beside it.
    ///
    /// # Errors
    ///
    /// All findings at once when one of them is an error.
    pub fn parse(name: &str, text: &str) -> Result<Loaded, Diagnostics> {
        let mut loader = Loader::new(Environment::of_process());
        loader.add_text(name.to_owned(), text.to_owned());
        loader.finish()
    }

    /// The files of `[auth.api_keys.*]`, by the full names of those. They need not exist: the first
    /// key makes the file.
    ///
    /// # Errors
    ///
    /// All findings at once when one of them is an error.
    pub fn keys_files(path: &Path) -> Result<Vec<(Arc<str>, PathBuf)>, Diagnostics> {
        let mut loader = Loader::new(Environment::of_process());
        loader.without_files = true;
        loader.add_file(path);
        let keys = loader.finish()?.config.auth.api_keys.into_values();
        Ok(keys.map(|keys| (keys.name, keys.keys_file)).collect())
    }

    /// What there is to say of one key of a file, by the routes, limits and roles of the configuration
    /// at a path; nothing where that does not name the file.
    ///
    /// # Errors
    ///
    /// All findings at once when one of them is an error.
    pub fn warnings_of_key(path: &Path, keys: &Path, id: &str) -> Result<Diagnostics, Diagnostics> {
        let mut loader = Loader::new(Environment::of_process());
        loader.only_key = Some(OneKey::new(keys, id));
        loader.add_file(path);
        Ok(loader.finish()?.warnings)
    }

    /// The configuration of `tollgate run --to URL`: one route, `all`, to one server.
    ///
    /// # Errors
    ///
    /// When the URL is not one of a server.
    pub fn to_upstream(url: &str) -> Result<Self, Diagnostics> {
        let server = server_url(url).map_err(|problem| wrong_url(url, problem))?;
        let name: Arc<str> = url.into();
        let server = UpstreamServer {
            url: server,
            name: Arc::clone(&name),
            weight: NonZeroU32::MIN,
        };
        let upstream = Upstream::new(Arc::clone(&name), vec![server]);
        Ok(Self {
            routes: vec![route_to(&"all".into(), Arc::clone(&name))],
            upstreams: BTreeMap::from([(name, upstream)]),
            ..Self::default()
        })
    }
}

/// Reads a file beside the configuration; the error tells what is wrong with it.
pub(super) fn read_whole(path: &Path, cap: usize) -> Result<String, String> {
    read_capped(path, cap).map_err(|unreadable| unreadable.message)
}

fn wrong_url(url: &str, problem: super::decode::Problem) -> Diagnostics {
    let mut sources = Sources::default();
    let file = sources.add(Source::new("--to", url));
    let message = problem
        .what
        .unwrap_or_else(|| "this is not the URL of a server".to_owned());
    let help = problem
        .help
        .or_else(|| Some("write for example `http://127.0.0.1:3000`".to_owned()));
    let place = sources.place(file, 0..url.len());
    diagnostic::resolve(
        vec![Finding::error(place, message).maybe_help(help)],
        &sources,
    )
}

/// What has been read so far.
struct Loader {
    environment: Environment,
    sources: Sources,
    findings: Vec<Finding>,
    document: Document,
    /// What may still be read, of [`LARGEST`].
    room: usize,
    files: Vec<PathBuf>,
    /// Whether a file could not be understood: then what it may have defined is not missed.
    incomplete: bool,
    /// Whether files of keys and users are left unchecked.
    without_files: bool,
    /// The key that all warnings are to be about, if only one is of interest.
    only_key: Option<OneKey>,
}

impl Loader {
    fn new(environment: Environment) -> Self {
        Self {
            environment,
            sources: Sources::default(),
            findings: Vec::new(),
            document: Document::default(),
            room: LARGEST,
            files: Vec::new(),
            incomplete: false,
            without_files: false,
            only_key: None,
        }
    }

    fn add_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        match read_capped(path, self.room) {
            Ok(text) => {
                self.files.push(path.to_owned());
                self.add_text(name, text);
            }
            Err(unreadable) => {
                let file = self.sources.add(Source::new(name, unreadable.text));
                let at = unreadable.at.unwrap_or_default();
                let place = self.sources.place(file, at..at + 1);
                let finding = match unreadable.at {
                    Some(_) => Finding::error(place, unreadable.message),
                    None => Finding::about_file(place, unreadable.message),
                };
                self.findings.push(finding.maybe_help(unreadable.help));
                self.incomplete = true;
            }
        }
    }

    fn add_text(&mut self, name: String, text: String) {
        if text.len() > self.room {
            let file = self.sources.add(Source::new(name, ""));
            let place = self.sources.place(file, 0..0);
            self.findings.push(Finding::about_file(place, too_large()));
            self.incomplete = true;
            return;
        }
        self.room -= text.len();
        let is_main = self.sources.is_empty();
        let file = self.sources.add(Source::new(name, text));
        let Some(document) = self.read(file) else {
            self.incomplete = true;
            return;
        };
        if is_main {
            self.document = document;
            self.include(file);
        } else {
            self.document
                .merge(document, &self.sources, &mut self.findings);
        }
    }

    fn read(&mut self, file: usize) -> Option<Document> {
        let tree = parse_tree(&self.sources, file, &mut self.findings)?;
        if tree.is_empty() && self.sources.len() == 1 {
            let place = self.sources.place(file, 0..0);
            let finding = Finding::about_file(place, "the configuration is empty");
            self.findings.push(finding.help(SMALLEST));
            return None;
        }
        let mut reader = Reader {
            sources: &self.sources,
            file,
            environment: &mut self.environment,
            findings: Vec::new(),
        };
        let document = document::read(&tree, &mut reader);
        let mut findings = reader.findings;
        self.findings.append(&mut findings);
        Some(document)
    }

    fn include(&mut self, main: usize) {
        let include = self.document.include.as_ref();
        let patterns = include.and_then(|set| set.value.clone());
        let directory = self.sources.get(main).directory.clone();
        let own = fs::canonicalize(&self.sources.get(main).name).ok();
        let mut seen: Vec<_> = own.into_iter().collect();
        for pattern in patterns
            .into_iter()
            .flat_map(|include| include.files)
            .flatten()
        {
            let Set {
                place,
                value: Some(text),
                ..
            } = &pattern
            else {
                continue;
            };
            match expand(&directory, text) {
                Ok(files) => {
                    for file in files {
                        let same = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
                        if !seen.contains(&same) {
                            seen.push(same);
                            self.add_file(&file);
                        }
                    }
                }
                Err(message) => self.findings.push(Finding::error(*place, message)),
            }
        }
    }

    fn finish(mut self) -> Result<Loaded, Diagnostics> {
        let config = (!self.incomplete).then(|| self.check());
        let failed = self.findings.iter().any(Finding::is_error);
        let diagnostics = diagnostic::resolve(self.findings, &self.sources);
        match config {
            Some(config) if !failed => {
                self.files.append(&mut self.environment.files);
                Ok(Loaded {
                    config,
                    warnings: diagnostics,
                    files: self.files,
                })
            }
            _ => Err(diagnostics),
        }
    }

    /// Puts everything together and checks what concerns several tables.
    fn check(&mut self) -> Config {
        let mut builder = Builder::new(&self.document);
        let built = builder.build();
        let errors = self.findings.iter().chain(&builder.findings);
        if !errors.into_iter().any(Finding::is_error) {
            builder.warn_of_unused();
        }
        let upstreams = builder.upstreams;
        let rate_limits = builder.rate_limits;
        let roles = builder.roles;
        self.findings.append(&mut builder.findings);
        conflicts::check(&built, &mut self.findings);
        if self.document.routes.is_empty() {
            let place = self.sources.place(0, 0..0);
            let finding = Finding::about_file(place, "there is no route");
            self.findings.push(finding.help(SMALLEST));
        }
        let document = std::mem::take(&mut self.document);
        self.check_listeners(&document);
        document.auth.check_names(&mut self.findings);
        self.check_one_bucket(&document, &rate_limits);
        self.check_redis(&document, &rate_limits);
        if !self.without_files {
            self.check_files(&document, &built, &rate_limits);
        }
        let auth = self.with_redis(document.auth.build(), document.redis.as_ref());
        log::check_credentials(document.log.as_ref(), &auth, &mut self.findings);
        let (routes, route_sources) = built.into_iter().map(Built::parts).unzip();
        let mut config = Config {
            server: document
                .server
                .and_then(|set| set.value)
                .unwrap_or_default(),
            admin: document.admin.and_then(|set| set.value).unwrap_or_default(),
            log: document.log.and_then(|set| set.value).unwrap_or_default(),
            cache: document.cache.and_then(|set| set.value).unwrap_or_default(),
            auth,
            roles,
            ip_sets: ip_sets(&document.ip_sets),
            subrequests: document
                .subrequests
                .and_then(|set| set.value)
                .unwrap_or_default(),
            redis: document.redis.and_then(|set| set.value),
            upstreams,
            rate_limits,
            routes,
            route_sources,
        };
        config.guard_origins();
        config
    }

    /// Checks the files of keys and users, and what the routes make of the keys.
    fn check_files(
        &mut self,
        document: &Document,
        built: &[Built],
        limits: &BTreeMap<Arc<str>, RateLimit>,
    ) {
        let only = self.only_key.as_ref();
        if only.is_some() {
            self.findings.retain(Finding::is_error);
        }
        let (roles, findings) = (named_roles(document), &mut self.findings);
        let auth = &document.auth;
        let keys = auth.check_files(roles.as_ref(), only, &mut self.sources, findings);
        // A route or a limit that could not be read may be the one that is missed.
        if !findings.iter().any(Finding::is_error) {
            key_quotas::check(&keys, built, limits, findings);
            key_routes::check(&keys, built, findings);
        }
    }

    /// Tells lists of revoked tokens in which Redis they are.
    fn with_redis(&mut self, mut auth: Auth, redis: Option<&Set<Redis>>) -> Auth {
        let redis = redis.and_then(|set| set.value.as_ref());
        for jwt in auth.jwt.values_mut() {
            let source = jwt.revocation.as_mut().map(|list| &mut list.source);
            if let Some(RevocationSource::RedisSet { redis: known, .. }) = source {
                *known = redis.cloned();
                if redis.is_none() {
                    let message = format!(
                        "`{}` has its revoked tokens in Redis, and there is no `[redis]`",
                        jwt.name
                    );
                    let place = self.sources.place(0, 0..0);
                    self.miss_redis(Finding::about_file(place, message));
                }
            }
        }
        auth
    }

    fn miss_redis(&mut self, finding: Finding) {
        let help = "write `[redis]` with `url = \"redis://127.0.0.1:6379\"`";
        self.findings.push(finding.help(help));
    }

    /// What is to be shared needs a place.
    fn check_redis(&mut self, document: &Document, limits: &BTreeMap<Arc<str>, RateLimit>) {
        if document.redis.is_some() {
            return;
        }
        let cache = document.cache.as_ref();
        let shares = |cache: &Cache| cache.share_purges;
        if let Some(set) = cache.filter(|set| set.value.as_ref().is_some_and(shares)) {
            let message = "purges are shared over Redis, and there is no `[redis]`";
            self.miss_redis(Finding::error(set.key, message));
        }
        for (name, entry) in &document.cache_rules {
            if entry.value.is_shared() {
                let message = format!(
                    "answers of the cache rule `{name}` are kept in Redis, and there is no `[redis]`"
                );
                self.miss_redis(Finding::error(entry.place, message));
            }
        }
        let shared = limits
            .iter()
            .filter(|(_, limit)| limit.store == LimitStore::Redis);
        for (name, entry) in shared.filter_map(|(name, _)| document.rate_limits.get_key_value(name))
        {
            let message =
                format!("the limit `{name}` is counted in Redis, and there is no `[redis]`");
            self.miss_redis(Finding::error(entry.place, message));
        }
    }

    /// Behind a proxy that is not trusted all clients have one address, the proxy's.
    fn check_one_bucket(&mut self, document: &Document, limits: &BTreeMap<Arc<str>, RateLimit>) {
        let server = document.server.as_ref().and_then(|set| set.value.clone());
        let server = server.unwrap_or_default();
        let local = |address: &Address| match address {
            Address::Tcp(address) => is_local(address.ip()),
            Address::Unix(_) => true,
        };
        if !server.trusted_proxies.is_empty() || !server.listen.iter().all(local) {
            return;
        }
        let by_address = |key: &LimitKey| matches!(key, LimitKey::ClientIp | LimitKey::Caller);
        let limit = limits
            .iter()
            .find(|(_, limit)| limit.key.iter().any(by_address));
        let entry = limit.and_then(|(name, _)| Some((name, document.rate_limits.get(name)?)));
        if let Some((name, entry)) = entry {
            let message = format!(
                "`{name}` counts by the client's address, the gateway listens on a private address and trusts no proxy: behind one, everybody is one client"
            );
            let help = "if there is a proxy in front, name it: `[server]` with `trusted_proxies = [\"10.0.0.0/8\"]`";
            let finding = Finding::warning(entry.place, message);
            self.findings.push(finding.help(help));
        }
    }

    fn check_listeners(&mut self, document: &Document) {
        let server = document.server.as_ref();
        let admin = document.admin.as_ref();
        let listen = server
            .and_then(|set| set.value.clone())
            .unwrap_or_default()
            .listen;
        let own = admin
            .and_then(|set| set.value.clone())
            .unwrap_or_default()
            .listen;
        let Some(own) = own.map(Address::Tcp) else {
            return;
        };
        if listen.iter().any(|address| overlap(address, &own)) {
            let place = admin.map(|set| set.key).or(server.map(|set| set.key));
            let place = place.unwrap_or_else(|| self.sources.place(0, 0..0));
            let message = "`[admin]` listens on an address of `[server]`";
            let finding = Finding::error(place, message).help("give each its own `listen`");
            self.findings.push(finding);
        }
    }
}

/// Whether only this machine or a private network reaches an address.
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

const SMALLEST: &str =
    "the smallest configuration is\n[routes.all]\nupstream = \"http://127.0.0.1:3000\"";
