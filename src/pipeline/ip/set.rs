//! `[ip_sets.*]` as they run.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::Ranges;
use crate::{
    config::{self, IpRules, LARGEST_NETWORKS, Route, parse_networks},
    exchange::Watched,
    pipeline::Tools,
};

/// The sets of one configuration by their names.
#[derive(Debug, Default)]
pub struct IpSets(BTreeMap<Arc<str>, Arc<IpSet>>);

/// One set.
#[derive(Debug)]
pub struct IpSet {
    made_from: config::IpSet,
    networks: Networks,
}

#[derive(Debug)]
enum Networks {
    Inline(Ranges),
    /// Those of the configuration and of the file together, made anew when the file changes.
    File(Watched<Ranges>),
}

impl IpSets {
    /// Builds what is new or changed and takes over the rest. The files of those are read here.
    #[must_use]
    pub fn build(
        config: &BTreeMap<Arc<str>, config::IpSet>,
        tools: &Tools,
        running: &Self,
    ) -> Self {
        let set = |(name, config): (&Arc<str>, &config::IpSet)| {
            let known = running.get(name).filter(|set| set.made_from == *config);
            let set = known.unwrap_or_else(|| Arc::new(IpSet::new(name, config, tools)));
            (Arc::clone(name), set)
        };
        Self(config.iter().map(set).collect())
    }

    /// The set of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<IpSet>> {
        self.0.get(name).cloned()
    }

    /// The sets that a route names.
    pub fn held_by(&self, route: &Route) -> impl Iterator<Item = Arc<IpSet>> {
        let names = route.access.ip.iter().flat_map(names);
        names.filter_map(|name| self.get(name))
    }
}

fn names(rules: &IpRules) -> impl Iterator<Item = &Arc<str>> {
    let allow = rules.allow.iter().flat_map(|list| &list.sets);
    allow.chain(&rules.deny.sets)
}

impl IpSet {
    fn new(name: &str, config: &config::IpSet, tools: &Tools) -> Self {
        let made_from = config.clone();
        let networks = match &config.file {
            None => Networks::Inline(Ranges::new(config.cidrs.iter().copied())),
            Some(file) => {
                let owner = format!("ip_sets.{name}").into();
                let inline = config.cidrs.clone();
                let parse = move |text: &str| together(&inline, text);
                Networks::File(tools.watch(&owner, file, LARGEST_NETWORKS, parse))
            }
        };
        Self {
            made_from,
            networks,
        }
    }

    /// Whether an address is in the set; `None` as long as its file could not be read.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> Option<bool> {
        match &self.networks {
            Networks::Inline(ranges) => Some(ranges.contains(address)),
            Networks::File(watched) => {
                let ranges = watched.get();
                ranges.as_ref().map(|ranges| ranges.contains(address))
            }
        }
    }
}

fn together(inline: &[IpNet], text: &str) -> Result<Ranges, String> {
    let networks = parse_networks(text)?;
    Ok(Ranges::new(inline.iter().copied().chain(networks)))
}
