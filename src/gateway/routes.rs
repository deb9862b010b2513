//! Routes as they run, interned by what they were made from.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    config::{Config, Route as RouteConfig, Target},
    frame::Route,
    pipeline::{self, Held, Policies},
    router::Router,
    telemetry::Metrics,
    upstream::{Forward, ForwardOptions, UpstreamGroup, Via},
};

type Upstreams = BTreeMap<Arc<str>, Arc<UpstreamGroup>>;

/// What routes are made with.
pub(super) struct Materials<'a> {
    pub(super) upstreams: &'a Upstreams,
    pub(super) policies: &'a Policies,
    pub(super) via: &'a Via,
    pub(super) metrics: &'a Metrics,
}

/// The routes of one configuration by their names.
#[derive(Default)]
pub(super) struct RouteBook(HashMap<Arc<str>, Entry>);

struct Entry {
    /// The route's whole resolved configuration as text: equal text, equal route.
    made_from: String,
    /// The upstreams that it holds; a changed upstream is another object.
    groups: Vec<Arc<UpstreamGroup>>,
    /// The policies that it holds, likewise.
    held: Vec<Held>,
    route: Arc<Route>,
}

impl RouteBook {
    /// Builds what is new or changed and takes over the rest from the running configuration.
    pub(super) fn build(config: &Config, materials: &Materials<'_>, running: &Self) -> Self {
        let entries = config.routes.iter().map(|route| {
            let forwarded = config.server.forwarded;
            let made_from = format!("{route:?} forwarded={forwarded}");
            let targets = targets(&route.target, materials.upstreams);
            let held = materials.policies.held_by(route);
            let entry = running
                .unchanged(&route.name, &made_from, &targets, &held)
                .unwrap_or_else(|| {
                    let options = options(route, forwarded, materials.via);
                    let groups = targets.iter().map(|(group, _)| Arc::clone(group)).collect();
                    let forward = || Forward::new(targets, options);
                    let metrics = materials.metrics.route(&route.name);
                    let service = pipeline::fold(route, materials.policies, &metrics, forward);
                    Entry {
                        made_from,
                        groups,
                        held,
                        route: Arc::new(Route {
                            name: Arc::clone(&route.name),
                            service,
                            metrics,
                            encoded_slash: route.encoded_slash,
                            override_headers: route.override_headers,
                            odd_names: pipeline::odd_names(route, materials.policies),
                            preflights: route.cors.is_some(),
                            decorations: pipeline::decorations(route),
                        }),
                    }
                });
            (Arc::clone(&route.name), entry)
        });
        Self(entries.collect())
    }

    fn unchanged(
        &self,
        name: &str,
        made_from: &str,
        targets: &[(Arc<UpstreamGroup>, u32)],
        held: &[Held],
    ) -> Option<Entry> {
        let known = self.0.get(name)?;
        let same_groups = known.groups.len() == targets.len()
            && (known.groups.iter().zip(targets)).all(|(a, (b, _))| Arc::ptr_eq(a, b));
        let same_policies = known.held.len() == held.len()
            && (known.held.iter().zip(held)).all(|(a, b)| Arc::ptr_eq(a, b));
        (same_groups && same_policies && known.made_from == made_from).then(|| Entry {
            made_from: known.made_from.clone(),
            groups: known.groups.clone(),
            held: known.held.clone(),
            route: Arc::clone(&known.route),
        })
    }

    /// The router over these routes.
    pub(super) fn router(&self, config: &Config) -> Router<Arc<Route>> {
        Router::build(config.routes.iter().filter_map(|route| {
            let entry = self.0.get(&route.name)?;
            Some((route, Arc::clone(&entry.route)))
        }))
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Names in a checked configuration resolve.
fn targets(target: &Target, upstreams: &Upstreams) -> Vec<(Arc<UpstreamGroup>, u32)> {
    let group = |name: &Arc<str>, weight| Some((Arc::clone(upstreams.get(name)?), weight));
    match target {
        Target::Upstream(name) => group(name, 1).into_iter().collect(),
        Target::Split(parts) => parts
            .iter()
            .filter_map(|(name, weight)| group(name, *weight))
            .collect(),
        Target::Respond(_) | Target::Redirect(_) => Vec::new(),
    }
}

fn options(route: &RouteConfig, forwarded: bool, via: &Via) -> ForwardOptions {
    ForwardOptions {
        timeouts: route.timeouts.clone(),
        host: route.rewrite.host.clone(),
        forwarded,
        upgrade: route.upgrade,
        close_on_token_expiry: route.close_on_token_expiry,
        via: via.clone(),
    }
}
