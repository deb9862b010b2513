//! Where what runs is made of a configuration: for the start as for every reload.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    config::Config,
    exchange::{Blocking, Clock, FileWatch},
    frame::Snapshot,
    pipeline::{Policies, Tools},
    telemetry::Metrics,
    upstream::{Registry, UpstreamGroup, Via},
};

use super::{
    control::{Checks, Control},
    routes::{Materials, RouteBook},
    subrequest::OwnClient,
};

/// The configuration in force and what was built from it.
#[derive(Default)]
pub(super) struct Running {
    pub(super) config: Config,
    pub(super) upstreams: BTreeMap<Arc<str>, Arc<UpstreamGroup>>,
    pub(super) policies: Policies,
    pub(super) routes: RouteBook,
    /// Stops the health checks of each upstream.
    pub(super) checks: BTreeMap<Arc<str>, Checks>,
}

/// What outlives configurations, and what they need to be built.
pub(super) struct Workshop {
    pub(super) registry: Registry,
    pub(super) client: Arc<OwnClient>,
    metrics: Arc<Metrics>,
    via: Via,
    tools: Tools,
    pseudonym: String,
}

impl Workshop {
    pub(super) fn new(
        config: &Config,
        clock: Clock,
        control: &Control,
        workers: usize,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let client = Arc::new(OwnClient::new(&config.subrequests, control.handle()));
        let pseudonym = pseudonym();
        Self {
            registry: Registry::new(workers, Arc::clone(metrics)),
            metrics: Arc::clone(metrics),
            // Letters, digits and a hyphen are always valid in a header field.
            via: Via::new(&pseudonym).expect("the pseudonym is a valid field value"),
            tools: Tools {
                clock,
                metrics: Arc::clone(metrics),
                control: control.handle(),
                subrequest: client.clone(),
                files: FileWatch::new(control.handle()),
                blocking: Blocking::for_this_machine(),
                workers,
                redis: None,
            },
            client,
            pseudonym,
        }
    }

    /// Builds what is new or changed and takes over the rest. Nobody checks upstreams yet.
    pub(super) fn build(&self, config: Config, before: &Running) -> Running {
        let upstreams = self.registry.build(&config.upstreams, &before.upstreams);
        let policies = Policies::build(&config, &self.tools, &before.policies);
        let materials = Materials {
            upstreams: &upstreams,
            policies: &policies,
            via: &self.via,
            metrics: &self.metrics,
        };
        let routes = RouteBook::build(&config, &materials, &before.routes);
        Running {
            config,
            upstreams,
            policies,
            routes,
            checks: BTreeMap::new(),
        }
    }

    /// What every request is judged and routed by.
    pub(super) fn snapshot(&self, running: &Running) -> Snapshot {
        Snapshot::new(
            &running.config.server,
            running.routes.router(&running.config),
            running.policies.identity(),
            &self.pseudonym,
        )
    }
}

/// A name for this process that tells nothing about it.
fn pseudonym() -> String {
    format!("tollgate-{:08x}", fastrand::u32(..))
}
