//! Routes out of their keys, their group's and the defaults, with all names resolved.

mod access;
mod check;
mod limits;
mod odd_names;
mod roles;

use std::{
    collections::{BTreeMap, HashSet},
    num::NonZeroU32,
    sync::Arc,
};

use super::{
    Access, AuthRule, CacheRule, Cors, HostPattern, PathPattern, PathSegment, RateLimit, Route,
    RouteSources, Target, Upstream, UpstreamServer, auth,
    cache::CacheUse,
    cors::CorsUse,
    decode::{Entry, Set, nearest, quoted_key},
    diagnostic::Finding,
    document::Document,
    role::{self, Roles},
    route::{DEFAULT_MAX_BODY, PathCase, RouteKeys},
    share::Layers,
    source::Place,
    target::Reference,
    upstream::UpstreamKeys,
};
use check::Checker;
pub(super) use roles::named_roles;

/// A route and what is needed to judge it.
#[derive(Debug)]
pub(super) struct Built {
    /// The route.
    pub(super) route: Route,
    /// Where its name stands.
    pub(super) place: Place,
    /// Where its keys come from.
    pub(super) sources: RouteSources,
    /// Whether everything that matching depends on could be read.
    pub(super) matchable: bool,
}

impl Built {
    /// The route; and by its name where its keys come from.
    pub(super) fn parts(self) -> (Route, (Arc<str>, RouteSources)) {
        let name = Arc::clone(&self.route.name);
        (self.route, (name, self.sources))
    }
}

/// What routes are built from.
pub(super) struct Builder<'a> {
    document: &'a Document,
    /// All upstreams; those of inline URLs are added as routes name them.
    pub(super) upstreams: BTreeMap<Arc<str>, Upstream>,
    /// All roles with what they include.
    pub(super) roles: Roles,
    /// The upstreams and groups that a route uses.
    used: HashSet<Arc<str>>,
    used_groups: HashSet<Arc<str>>,
    used_cors: HashSet<Arc<str>>,
    used_limits: HashSet<Arc<str>>,
    /// What there may be to say of limits by what not every route has.
    limit_gaps: limits::Gaps,
    /// All limits.
    pub(super) rate_limits: BTreeMap<Arc<str>, RateLimit>,
    /// The `[cache_rules.*]`, and which of them a route uses.
    cache_rules: BTreeMap<Arc<str>, Arc<CacheRule>>,
    used_cache_rules: HashSet<Arc<str>>,
    /// The full names of `[auth.*]`, and those that a route uses.
    callers: Vec<(Arc<str>, Place)>,
    used_callers: HashSet<Arc<str>>,
    /// What was found.
    pub(super) findings: Vec<Finding>,
}

impl<'a> Builder<'a> {
    /// Starts with the named upstreams.
    pub(super) fn new(document: &'a Document) -> Self {
        let named = |(name, entry): (&Arc<str>, &Entry<UpstreamKeys>)| {
            (
                Arc::clone(name),
                entry.value.clone().named(Arc::clone(name)),
            )
        };
        let mut findings = Vec::new();
        Self {
            document,
            roles: role::resolve(&document.roles, &mut findings),
            upstreams: document.upstreams.iter().map(named).collect(),
            used: HashSet::new(),
            used_groups: HashSet::new(),
            used_cors: HashSet::new(),
            used_limits: HashSet::new(),
            limit_gaps: limits::Gaps::default(),
            rate_limits: limits::named(document),
            cache_rules: cache_rules(document),
            used_cache_rules: HashSet::new(),
            callers: document.auth.names(),
            used_callers: HashSet::new(),
            findings,
        }
    }

    /// Builds all routes, in the order of their names.
    pub(super) fn build(&mut self) -> Vec<Built> {
        let document = self.document;
        let routes = document.routes.iter();
        let built: Vec<Built> = routes
            .filter_map(|(name, entry)| self.route(name, entry))
            .collect();
        self.warn_of_unknown_roles();
        self.check_principals();
        // A route that could not be built may be the one for which such a limit is there.
        if built.len() == document.routes.len() {
            self.tell_inherited_gaps();
        }
        built
    }

    fn route(&mut self, name: &Arc<str>, entry: &'a Entry<RouteKeys>) -> Option<Built> {
        let own = &entry.value;
        let target = self.target(name, entry);
        let group = self.group(own)?;
        let defaults = self
            .document
            .defaults
            .as_ref()
            .and_then(|set| set.value.as_ref());
        let layers = Layers {
            layers: [Some(own), group, defaults.map(|defaults| &defaults.0)],
        };
        let target = target?;
        let hosts = layers.list(|keys| &keys.hosts, &mut self.findings);
        let methods = layers.list(|keys| &keys.methods, &mut self.findings);
        let found = self.findings.len();
        let auth = self.auth(name, entry.place, layers);
        // What is wrong with it is told once, and not again by what depends on it.
        let knows_callers =
            found == self.findings.len() && is_right(layers.pick(|keys| &keys.auth));
        let cors = self.cors(layers);
        let mut route = assemble(name, layers, target, hosts.unwrap_or_default(), methods);
        route.auth = auth;
        route.cors = cors;
        route.rate_limits = self.limits(&route, layers, knows_callers);
        route.cache = self.cache_rule(layers);
        let mut checker = Checker {
            findings: &mut self.findings,
        };
        checker.check(&route, entry.place, layers);
        route.access = self.access(&route, layers);
        self.warn_of_overrides(&route, layers);
        self.check_odd_names(&route, layers);
        Some(Built {
            route,
            place: entry.place,
            sources: RouteSources::of(layers),
            matchable: is_matchable(layers),
        })
    }

    /// The group's keys; `None` only when there is no group of that name.
    fn group(&mut self, own: &RouteKeys) -> Option<Option<&'a RouteKeys>> {
        let Some(set) = &own.group else {
            return Some(None);
        };
        let name = set.value.as_deref()?;
        if let Some((name, group)) = self.document.groups.get_key_value(name) {
            self.used_groups.insert(Arc::clone(name));
            return Some(Some(&group.value.0));
        }
        let known = self.document.groups.keys().map(|name| &**name);
        let finding = unknown_name("group", name, set.place, known, "groups");
        self.findings.push(finding);
        None
    }

    /// The cache rule that the route, its group or the defaults name.
    fn cache_rule(&mut self, layers: Layers<'_>) -> Option<Arc<CacheRule>> {
        let set = layers.pick(|keys| &keys.cache)?;
        let name = match set.value.as_ref()? {
            CacheUse::Off => return None,
            CacheUse::Own(rule) => {
                if rule.is_shared() && self.document.redis.is_none() {
                    let message = "answers are to be kept in Redis, and there is no `[redis]`";
                    let finding = Finding::error(set.place, message);
                    let help = "write `[redis]` with `url = \"redis://127.0.0.1:6379\"`";
                    self.findings.push(finding.help(help));
                }
                return Some(Arc::new((**rule).clone()));
            }
            CacheUse::Named(name) => name.as_str(),
        };
        if let Some((name, rule)) = self.cache_rules.get_key_value(name) {
            self.used_cache_rules.insert(Arc::clone(name));
            return Some(Arc::clone(rule));
        }
        let known = self.cache_rules.keys().map(|name| &**name);
        let finding = unknown_name("cache rule", name, set.place, known, "cache_rules");
        self.findings.push(finding);
        None
    }

    /// Resolves the name of a `[cors.*]` table.
    fn cors(&mut self, layers: Layers<'_>) -> Option<Cors> {
        match layers.value(|keys| &keys.cors).flatten()? {
            CorsUse::Own(cors) => Some(cors),
            CorsUse::Named(name, place) => {
                let document = self.document;
                if let Some((name, entry)) = document.cors.get_key_value(&*name) {
                    self.used_cors.insert(Arc::clone(name));
                    return Some(entry.value.clone());
                }
                let known = document.cors.keys().map(|name| &**name);
                let finding = unknown_name("`cors` table", &name, place, known, "cors");
                self.findings.push(finding);
                None
            }
        }
    }

    /// Who may call. As soon as there is any way to authenticate, a route that asks for none has to
    /// say so: one that was forgotten would be open to everybody.
    fn auth(&mut self, name: &str, place: Place, layers: Layers<'_>) -> Option<AuthRule> {
        let set = layers.pick(|keys| &keys.auth);
        if set.is_none() && !self.callers.is_empty() {
            self.findings.push(no_auth(name, place, &self.callers));
        }
        let members = layers.list(|keys| &keys.auth, &mut self.findings)?;
        let names: Vec<_> = self
            .callers
            .iter()
            .map(|(name, _)| Arc::clone(name))
            .collect();
        let rule = auth::resolve(&members, &names, &mut self.findings)?;
        self.used_callers.extend(rule.methods().cloned());
        Some(rule)
    }

    fn target(&mut self, name: &str, entry: &Entry<RouteKeys>) -> Option<Target> {
        let keys = &entry.value;
        let set = [
            keys.upstream.as_ref().map(|set| ("upstream", set.key)),
            keys.split.as_ref().map(|set| ("split", set.key)),
            keys.respond.as_ref().map(|set| ("respond", set.key)),
            keys.redirect.as_ref().map(|set| ("redirect", set.key)),
        ];
        let set: Vec<_> = set.into_iter().flatten().collect();
        match set.as_slice() {
            [_] => {}
            [] => {
                self.findings.push(no_target(name, entry.place));
                return None;
            }
            [(first, first_place), (second, place), ..] => {
                let message = format!(
                    "a route leads to one place: `{first}` and `{second}` can't stand together"
                );
                let finding =
                    Finding::error(*place, message).related(*first_place, "the other one");
                self.findings.push(finding.help("keep one of them"));
                return None;
            }
        }
        self.only_target(keys)
    }

    fn only_target(&mut self, keys: &RouteKeys) -> Option<Target> {
        if let Some(set) = &keys.upstream {
            return Some(Target::Upstream(self.upstream(set.value.as_ref()?)?));
        }
        if let Some(set) = &keys.split {
            let parts = set.value.as_ref()?.iter();
            let parts: Vec<_> = parts
                .map(|(reference, weight)| Some((self.upstream(reference)?, *weight)))
                .collect();
            return Some(Target::Split(parts.into_iter().collect::<Option<_>>()?));
        }
        let respond = keys.respond.as_ref().and_then(|set| set.value.clone());
        let redirect = keys.redirect.as_ref().and_then(|set| set.value.clone());
        respond
            .map(Target::Respond)
            .or(redirect.map(Target::Redirect))
    }

    /// Resolves the name of an upstream; a URL becomes one of its own.
    fn upstream(&mut self, reference: &Reference) -> Option<Arc<str>> {
        let name = &reference.name;
        if let Some(url) = &reference.url {
            let server = UpstreamServer {
                url: url.clone(),
                name: Arc::clone(name),
                weight: NonZeroU32::MIN,
            };
            self.upstreams
                .entry(Arc::clone(name))
                .or_insert_with(|| Upstream::new(Arc::clone(name), vec![server]));
        } else if !self.upstreams.contains_key(name) {
            let known = self.document.upstreams.keys().map(|name| &**name);
            let finding = unknown_name("upstream", name, reference.place, known, "upstreams");
            self.findings.push(finding);
            return None;
        }
        self.used.insert(Arc::clone(name));
        Some(Arc::clone(name))
    }

    /// Warns of what no route uses. Only to be asked when all routes could be built.
    pub(super) fn warn_of_unused(&mut self) {
        let document = self.document;
        for (name, entry) in &document.upstreams {
            if !self.used.contains(name) {
                let message = format!("no route uses the upstream `{name}`");
                self.findings.push(Finding::warning(entry.place, message));
            }
        }
        self.warn_of_unused_limits();
        for (name, entry) in &document.cache_rules {
            if !self.used_cache_rules.contains(name) {
                let message = format!("no route uses the cache rule `{name}`");
                self.findings.push(Finding::warning(entry.place, message));
            }
        }
        for (name, place) in &self.callers {
            if !self.used_callers.contains(name) {
                let message = format!("no route uses `[auth.{name}]`");
                self.findings.push(Finding::warning(*place, message));
            }
        }
        for (name, entry) in &document.groups {
            if !self.used_groups.contains(name) {
                let message = format!("no route uses the group `{name}`");
                self.findings.push(Finding::warning(entry.place, message));
            }
        }
        for (name, entry) in &document.cors {
            if !self.used_cors.contains(name) {
                let message = format!("no route uses the `cors` table `{name}`");
                self.findings.push(Finding::warning(entry.place, message));
            }
        }
    }
}

fn cache_rules(document: &Document) -> BTreeMap<Arc<str>, Arc<CacheRule>> {
    let rules = document.cache_rules.iter();
    let rules = rules.map(|(name, entry)| (Arc::clone(name), Arc::new(entry.value.clone())));
    rules.collect()
}

fn assemble(
    name: &Arc<str>,
    layers: Layers<'_>,
    target: Target,
    hosts: Vec<HostPattern>,
    methods: Option<Vec<http::Method>>,
) -> Route {
    Route {
        name: Arc::clone(name),
        hosts: without_doubles(hosts),
        paths: layers.value(|keys| &keys.path).unwrap_or_else(everything),
        ignore_case: layers.value(|keys| &keys.path_case) == Some(PathCase::Insensitive),
        methods: methods.map(without_doubles),
        match_headers: layers.value(|keys| &keys.match_headers).unwrap_or_default(),
        match_query: layers.value(|keys| &keys.match_query).unwrap_or_default(),
        priority: layers.value(|keys| &keys.priority).unwrap_or_default(),
        target,
        rewrite: layers.value(|keys| &keys.rewrite).unwrap_or_default(),
        max_body: layers
            .value(|keys| &keys.max_body)
            .unwrap_or(Some(DEFAULT_MAX_BODY)),
        max_body_is_own: layers.layers[0].is_some_and(|own| own.max_body.is_some()),
        timeouts: layers.value(|keys| &keys.timeouts).unwrap_or_default(),
        rate_limits: Vec::new(),
        cost: layers.value(|keys| &keys.cost).unwrap_or(1),
        encoded_slash: layers.value(|keys| &keys.encoded_slash).unwrap_or_default(),
        override_headers: layers
            .value(|keys| &keys.override_headers)
            .unwrap_or_default(),
        odd_header_names: layers
            .value(|keys| &keys.odd_header_names)
            .unwrap_or_default(),
        upgrade: layers.value(|keys| &keys.upgrade).unwrap_or(true),
        // Rules are resolved by the builder, which knows their names.
        cache: None,
        cors: None,
        security_headers: layers.value(|keys| &keys.security_headers).flatten(),
        request_headers: layers
            .value(|keys| &keys.request_headers)
            .unwrap_or_default(),
        response_headers: layers
            .value(|keys| &keys.response_headers)
            .unwrap_or_default(),
        validation: layers.value(|keys| &keys.validation).flatten(),
        validation_is_own: layers.layers[0].is_some_and(|own| own.validation.is_some()),
        auth: None,
        forward_credentials: layers.value(|keys| &keys.forward_credentials),
        close_on_token_expiry: layers
            .value(|keys| &keys.close_on_token_expiry)
            .unwrap_or_default(),
        origins: layers.value(|keys| &keys.origins),
        access: Access::default(),
    }
}

/// `/**`.
pub(super) fn everything() -> Vec<PathPattern> {
    vec![PathPattern {
        text: "/**".into(),
        segments: Vec::new(),
        rest: Some(None),
    }]
}

/// The route that takes everything to one upstream.
pub(super) fn route_to(name: &Arc<str>, upstream: Arc<str>) -> Route {
    let none = Layers { layers: [None; 3] };
    assemble(name, none, Target::Upstream(upstream), Vec::new(), None)
}

fn without_doubles<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    let mut kept: Vec<T> = Vec::with_capacity(list.len());
    for item in list {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

fn is_matchable(layers: Layers<'_>) -> bool {
    is_right(layers.pick(|keys| &keys.hosts))
        && is_right(layers.pick(|keys| &keys.path))
        && is_right(layers.pick(|keys| &keys.path_case))
        && is_right(layers.pick(|keys| &keys.methods))
        && is_right(layers.pick(|keys| &keys.match_headers))
        && is_right(layers.pick(|keys| &keys.match_query))
        && is_right(layers.pick(|keys| &keys.priority))
}

/// Whether a key could be read, or is not set.
fn is_right<T>(set: Option<&Set<T>>) -> bool {
    set.is_none_or(|set| set.value.is_some())
}

/// What two paths have in common when no request can tell them apart.
pub(super) fn shape(path: &PathPattern, ignore_case: bool) -> String {
    let mut shape = String::with_capacity(path.text.len() + 2);
    for segment in &path.segments {
        shape.push('/');
        match segment {
            PathSegment::Literal(text) if ignore_case => shape.push_str(&text.to_ascii_lowercase()),
            PathSegment::Literal(text) => shape.push_str(text),
            // Braces can't stand in a literal's normal form.
            PathSegment::Capture(_) => shape.push_str("{}"),
        }
    }
    if path.rest.is_some() {
        shape.push_str("/{*}");
    }
    shape
}

fn no_target(name: &str, place: Place) -> Finding {
    Finding::error(place, format!("the route `{name}` leads nowhere"))
        .label("no `upstream`, `split`, `respond` or `redirect`")
        .help("write for example `upstream = \"http://127.0.0.1:3000\"`")
}

fn no_auth(name: &str, place: Place, callers: &[(Arc<str>, Place)]) -> Finding {
    let first = callers.first().map_or("jwt.NAME", |(name, _)| name);
    Finding::error(place, format!("the route `{name}` does not say who may call it"))
        .label("no `auth`")
        .help(format!(
            "write for example `auth = \"{first}\"`, or `auth = \"public\"` for everybody; `[defaults]` can say it for all routes"
        ))
}

/// The finding about a name that nothing defines.
pub(super) fn unknown_name<'n>(
    what: &str,
    name: &str,
    place: Place,
    known: impl Iterator<Item = &'n str> + Clone,
    table: &str,
) -> Finding {
    let finding = Finding::error(place, format!("there is no {what} `{name}`"));
    if let Some(near) = nearest(name, known.clone()) {
        return finding
            .label(format!("did you mean `{near}`?"))
            .help(format!("write `\"{near}\"`"));
    }
    let known: Vec<_> = known
        .take(MOST_NAMES)
        .map(|name| format!("`{name}`"))
        .collect();
    let name = quoted_key(name);
    match known.is_empty() {
        true => finding.help(format!("define it: `[{table}.{name}]`")),
        false => finding.help(format!(
            "define it as `[{table}.{name}]`, or write one of {}",
            known.join(", ")
        )),
    }
}

const MOST_NAMES: usize = 10;
