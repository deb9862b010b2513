//! The top level of a file, and all files together.

use std::{collections::BTreeMap, sync::Arc};

use toml::de::DeTable;

use super::{
    Admin, Cache, CacheRule, Cors, Log, Server,
    access::IpSetKeys,
    auth::AuthTables,
    decode::{
        Entry, Format, Keyed, Named, Node, OneOrList, Reader, Scope, Set, Style, Sub, Table,
        read_keys, table,
    },
    diagnostic::Finding,
    rate_limit::RateLimitKeys,
    role::RoleKeys,
    route::{Key, RouteKeys},
    share::{DefaultKeys, GroupKeys},
    source::{Place, Sources},
    subrequests::Subrequests,
    upstream::UpstreamKeys,
};

type Names<T> = BTreeMap<Arc<str>, Entry<T>>;

table! {
    /// The file: its tables, in any order. Only `[routes.*]` is needed.
    #[derive(Clone, Debug)]
    pub(super) struct Document [""] {
        /// `include`: more files.
        pub(super) include: Key<Include> => Keyed<Sub<Include>> = None; "none",
        /// `server`: where clients connect.
        pub(super) server: Key<Server> => Keyed<Sub<Server>> = None; "see there",
        /// `admin`: health, metrics and state.
        pub(super) admin: Key<Admin> => Keyed<Sub<Admin>> = None; "see there",
        /// `log`: application and access log.
        pub(super) log: Key<Log> => Keyed<Sub<Log>> = None; "see there",
        /// `cache`: the memory in which answers are kept.
        pub(super) cache: Key<Cache> => Keyed<Sub<Cache>> = None; "see there",
        /// `cache_rules`: what is kept of upstreams' answers.
        pub(super) cache_rules: Names<CacheRule> => Named<CacheRule> = Names::new(); "none",
        /// `cors`: pages of which other origins may call, by name.
        pub(super) cors: Names<Cors> => Named<Cors> = Names::new(); "none",
        /// `auth`: how callers show who they are.
        pub(super) auth: AuthTables => Sub<AuthTables> = AuthTables::default(); "none",
        /// `roles`: what callers may do.
        pub(super) roles: Names<RoleKeys> => Named<RoleKeys> = Names::new(); "none",
        /// `ip_sets`: networks by name.
        pub(super) ip_sets: Names<IpSetKeys> => Named<IpSetKeys> = Names::new(); "none",
        /// `subrequests`: the gateway's own requests.
        pub(super) subrequests: Key<Subrequests> => Keyed<Sub<Subrequests>> = None; "see there",
        /// `upstreams`: the servers behind the gateway.
        pub(super) upstreams: Names<UpstreamKeys> => Named<UpstreamKeys> = Names::new(); "none",
        /// `rate_limits`: how much who may ask for.
        pub(super) rate_limits: Names<RateLimitKeys> => Named<RateLimitKeys> = Names::new(); "none",
        /// `defaults`: keys of all routes.
        pub(super) defaults: Key<DefaultKeys> => Keyed<Sub<DefaultKeys>> = None; "none",
        /// `groups`: keys that routes share.
        pub(super) groups: Names<GroupKeys> => Named<GroupKeys> = Names::new(); "none",
        /// `routes`: what to do with which requests.
        pub(super) routes: Names<RouteKeys> => Named<RouteKeys> = Names::new(); "needed",
    }
}

table! {
    /// `[include]`: more files with tables of this one's kinds. A name may be defined once over all
    /// files.
    #[derive(Clone, Debug)]
    pub(super) struct Include ["include"] {
        /// `files`: relative to this file; `*` in a file name stands for any characters. They are
        /// read in the order of their names.
        pub(super) files: Vec<Option<Set<String>>> => OneOrList<Keyed<FileName>> = Vec::new(); "none",
    }
}

/// The name of a file, perhaps a pattern.
struct FileName;

impl Format for FileName {
    type Value = String;

    fn expected() -> String {
        "the name of a file such as \"conf.d/*.toml\"".to_owned()
    }

    fn example() -> String {
        "\"conf.d/*.toml\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        reader.parse(node, &Self::expected(), |text| Ok(text.to_owned()))
    }
}

/// Reads the tree of one file.
pub(super) fn read(tree: &DeTable<'_>, reader: &mut Reader<'_>) -> Document {
    let scope = Scope {
        header: String::new(),
        place: reader.place(0..0),
        keys: Document::KEYS,
        style: Style::Root,
        parent: None,
    };
    read_keys(tree, &scope, reader)
}

impl Document {
    /// Takes in what another file says.
    pub(super) fn merge(&mut self, other: Self, sources: &Sources, findings: &mut Vec<Finding>) {
        let doubles = &mut Doubles { sources, findings };
        doubles.table("server", &mut self.server, other.server);
        doubles.table("admin", &mut self.admin, other.admin);
        doubles.table("log", &mut self.log, other.log);
        doubles.table("cache", &mut self.cache, other.cache);
        doubles.names("cache_rules", &mut self.cache_rules, other.cache_rules);
        doubles.table("subrequests", &mut self.subrequests, other.subrequests);
        doubles.table("defaults", &mut self.defaults, other.defaults);
        doubles.names("cors", &mut self.cors, other.cors);
        doubles.names("rate_limits", &mut self.rate_limits, other.rate_limits);
        self.auth.merge(other.auth, doubles);
        doubles.names("roles", &mut self.roles, other.roles);
        doubles.names("ip_sets", &mut self.ip_sets, other.ip_sets);
        doubles.names("upstreams", &mut self.upstreams, other.upstreams);
        doubles.names("groups", &mut self.groups, other.groups);
        doubles.names("routes", &mut self.routes, other.routes);
        if let Some(include) = other.include {
            let finding = Finding::error(include.key, "an included file can't include others")
                .help("list all files in the main one");
            doubles.findings.push(finding);
        }
    }
}

/// Reports what two files define.
pub(super) struct Doubles<'a> {
    sources: &'a Sources,
    findings: &'a mut Vec<Finding>,
}

impl Doubles<'_> {
    /// Takes in what stands once.
    pub(super) fn table<T>(&mut self, header: &str, all: &mut Key<T>, other: Key<T>) {
        match (&all, other) {
            (Some(first), Some(second)) => self.report(header, first.key, second.key),
            (None, other) => *all = other,
            (Some(_), None) => {}
        }
    }

    /// Takes in named tables of one kind.
    pub(super) fn names<T>(&mut self, kind: &str, all: &mut Names<T>, other: Names<T>) {
        for (name, entry) in other {
            if let Some(first) = all.get(&name) {
                self.report(&format!("{kind}.{name}"), first.place, entry.place);
                continue;
            }
            all.insert(name, entry);
        }
    }

    fn report(&mut self, header: &str, first: Place, second: Place) {
        let message = format!(
            "`[{header}]` is defined in two files, first at {}",
            self.sources.name(first)
        );
        let finding = Finding::error(second, message)
            .label("again here")
            .related(first, "first defined here")
            .help("keep one of them, or rename one");
        self.findings.push(finding);
    }
}
