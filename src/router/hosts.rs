//! Hosts to the trees of paths that they may use, the most specific first.

use std::{collections::HashMap, hash::BuildHasherDefault};

use super::tree::{Fnv, NodeId, Tree};
use crate::config::HostPattern;

type Map<V> = HashMap<Box<str>, V, BuildHasherDefault<Fnv>>;

/// The roots of the path trees by host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: Map<NodeId>,
    /// By what follows the wildcard and its dot.
    wildcards: Map<Wildcards>,
    any: Option<NodeId>,
    /// The longest key of `wildcards`, so that a host of many labels is not looked up label by label.
    longest_suffix: usize,
}

/// The wildcards before one suffix.
#[derive(Debug, Default)]
struct Wildcards {
    /// `*.suffix` and `{name}.suffix`: they match the same hosts.
    one_label: Option<NodeId>,
    /// `**.suffix`.
    any_depth: Option<NodeId>,
}

impl Hosts {
    /// The root of a pattern's tree, planted when it is new; `None` is any host.
    pub(super) fn root(&mut self, pattern: Option<&HostPattern>, tree: &mut Tree) -> NodeId {
        let root = match pattern {
            None => &mut self.any,
            Some(HostPattern::Exact(host)) => {
                return *self
                    .exact
                    .entry(host.clone())
                    .or_insert_with(|| tree.plant());
            }
            Some(HostPattern::OneLabel(suffix) | HostPattern::Capture { suffix, .. }) => {
                &mut self.wildcards(suffix).one_label
            }
            Some(HostPattern::AnyDepth(suffix)) => &mut self.wildcards(suffix).any_depth,
        };
        *root.get_or_insert_with(|| tree.plant())
    }

    fn wildcards(&mut self, suffix: &str) -> &mut Wildcards {
        self.longest_suffix = self.longest_suffix.max(suffix.len());
        self.wildcards.entry(suffix.into()).or_default()
    }

    /// The roots whose patterns match a host: exact, then wildcards by falling length of what they
    /// spell out, one label before any depth, then any host.
    pub(super) fn matching<'h>(&'h self, host: &'h str) -> impl Iterator<Item = NodeId> + 'h {
        let exact = self.exact.get(host).copied();
        exact
            .into_iter()
            .chain(self.matching_wildcards(host))
            .chain(self.any)
    }

    fn matching_wildcards<'h>(&'h self, host: &'h str) -> impl Iterator<Item = NodeId> + 'h {
        let first_dot = host.find('.').filter(|_| !self.wildcards.is_empty());
        // A host that begins with a dot has no label in front that a wildcard could stand for.
        let first_dot = first_dot.filter(|dot| *dot > 0);
        let dots = first_dot.into_iter().flat_map(move |first| {
            let behind = host[first..].match_indices('.');
            behind.map(move |(offset, _)| (offset == 0, &host[first + offset + 1..]))
        });
        dots.filter(|(_, suffix)| suffix.len() <= self.longest_suffix)
            .filter_map(|(is_first, suffix)| Some((is_first, self.wildcards.get(suffix)?)))
            .flat_map(|(is_first, wildcards)| {
                let one_label = wildcards.one_label.filter(|_| is_first);
                [one_label, wildcards.any_depth].into_iter().flatten()
            })
    }
}
