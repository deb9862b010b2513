//! What one limit says against itself.

use std::{collections::HashSet, time::Duration};

use super::{Exempted, LimitAlgorithm, LimitStore, Quota, RateLimitKeys, Reader, who::families};
use crate::config::{decode::TableNode, diagnostic::Finding};

/// Looks at one limit.
pub(super) fn check_limit(limit: &RateLimitKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let mut checker = Checker {
        limit,
        table,
        reader,
    };
    checker.check_needed();
    checker.check_quotas("quota", &limit.quota);
    checker.check_quotas("anonymous", &limit.anonymous);
    for (_, quotas, _) in &limit.overrides {
        checker.check_quotas("overrides", quotas);
    }
    checker.check_options();
    checker.check_exact();
    checker.check_store();
    checker.check_callers();
    checker.check_exempt();
}

struct Checker<'c, 'r, 't> {
    limit: &'c RateLimitKeys,
    table: TableNode<'t>,
    reader: &'c mut Reader<'r>,
}

impl Checker<'_, '_, '_> {
    fn check_needed(&mut self) {
        let needed = [
            ("key", self.limit.key.is_empty(), "key = \"client_ip\""),
            ("quota", self.limit.quota.is_empty(), "quota = \"100/1m\""),
        ];
        for (key, missing, example) in needed {
            if missing && !self.table.has(key) {
                let header = &self.table.node.scope.header;
                let message = format!("`[{header}.{}]` has no `{key}`", self.table.node.name);
                let finding = Finding::error(self.table.node.key, message);
                self.reader
                    .report(finding.help(format!("write for example `{example}`")));
            } else if missing && self.is_empty_list(key) {
                self.refuse(
                    key,
                    "an empty list limits nothing",
                    "leave the limit out of the routes",
                );
            }
        }
    }

    /// An empty list, and not a value that could not be read.
    fn is_empty_list(&self, key: &str) -> bool {
        let place = self.table.value_place(key, self.reader);
        self.reader.sources.quote(place).trim() == "[]"
    }

    fn check_quotas(&mut self, key: &str, quotas: &[Quota]) {
        let concurrency = self.limit.algorithm.is_held();
        let timed = |quota: &&Quota| quota.per.is_some();
        if concurrency && quotas.iter().any(|quota| timed(&quota)) {
            let help = "write how many at a time: `quota = 10`";
            self.refuse(key, "`algorithm = \"concurrency\"` has no time", help);
        }
        if concurrency && quotas.len() > 1 {
            self.refuse(
                key,
                "`algorithm = \"concurrency\"` has one number",
                "keep the smallest",
            );
        }
        if !concurrency && !quotas.iter().all(|quota| timed(&quota)) {
            let help =
                "write so many in such a time: `\"100/1m\"`, or `algorithm = \"concurrency\"`";
            self.refuse(key, "a quota needs a time", help);
        }
        if quotas.len() > MOST_WINDOWS {
            let message = format!("a limit has {MOST_WINDOWS} windows at most");
            self.refuse(key, &message, "keep the shortest and the longest");
        }
        let mut seen = HashSet::new();
        if !concurrency && !quotas.iter().all(|quota| seen.insert(quota.per)) {
            self.refuse(key, "two quotas have the same time", "keep the smaller one");
        }
    }

    fn check_options(&mut self) {
        let algorithm = self.limit.algorithm;
        if self.table.has("bucket") && algorithm != LimitAlgorithm::TokenBucket {
            let help = "leave it out, or write `algorithm = \"token_bucket\"`";
            self.refuse("bucket", "only a token bucket has a size", help);
        }
        if self.limit.bucket.is_some() && self.limit.quota.len() > 1 {
            let help = "leave it out: each bucket is as large as its quota";
            self.refuse(
                "bucket",
                "with several quotas there are several buckets",
                help,
            );
        }
        if self.limit.exact && algorithm != LimitAlgorithm::SlidingWindow {
            let help = "write `algorithm = \"sliding_window\"`";
            self.refuse("exact", "only a sliding window can be exact", help);
        }
        if self.limit.cost_header.is_some() && algorithm.is_held() {
            let message = "a request in flight takes one place, whatever it costs";
            self.refuse("cost_header", message, "leave it out");
        }
        if let (
            Some(bucket),
            [
                Quota {
                    count,
                    per: Some(per),
                },
            ],
        ) = (self.limit.bucket, &*self.limit.quota)
        {
            let fills = per
                .checked_div(*count)
                .unwrap_or_default()
                .saturating_mul(bucket);
            if fills > LONGEST_FILLING {
                self.refuse(
                    "bucket",
                    "the bucket would take more than 100 years to fill",
                    "make it smaller",
                );
            }
        }
    }

    fn check_exact(&mut self) {
        if !self.limit.exact {
            return;
        }
        let overrides = self
            .limit
            .overrides
            .iter()
            .flat_map(|(_, quotas, _)| quotas);
        let quotas = self
            .limit
            .quota
            .iter()
            .chain(&self.limit.anonymous)
            .chain(overrides);
        let counts: Vec<_> = quotas.map(|quota| quota.count).collect();
        let largest = counts.iter().copied().max().unwrap_or(1).max(1);
        if largest > LARGEST_EXACT {
            let message = format!("an exact window keeps every request: {LARGEST_EXACT} at most");
            self.refuse("exact", &message, "leave it out for larger quotas");
            return;
        }
        let windows: usize = self
            .limit
            .quota
            .iter()
            .map(|quota| quota.count as usize)
            .sum();
        let most = MOST_ENTRIES / windows.max(largest as usize);
        if self.limit.max_keys > most {
            let message = format!(
                "an exact window keeps 16 bytes a request: with so many keys that can be {} MiB",
                (self.limit.max_keys * windows.max(largest as usize) * 16) >> 20
            );
            self.refuse(
                "exact",
                &message,
                &format!("write `max_keys = {most}` or less"),
            );
        }
    }

    /// What a limit over Redis alone may say, and what it may not.
    fn check_store(&mut self) {
        if self.limit.store == LimitStore::Memory {
            for key in ["on_store_error", "lease"] {
                if self.table.has(key) {
                    let message = format!("`{key}` is about Redis, and this limit is in memory");
                    self.refuse(key, &message, "write `store = \"redis\"`, or leave it out");
                }
            }
            return;
        }
        let overrides = self
            .limit
            .overrides
            .iter()
            .flat_map(|(_, quotas, _)| quotas);
        let quotas = self.limit.quota.iter().chain(&self.limit.anonymous);
        let counts = quotas.chain(overrides).map(|quota| quota.count);
        let counts = counts.chain(self.limit.bucket);
        let least = counts.min().unwrap_or(u32::MAX);
        if self.limit.lease > 1 && self.limit.lease > least {
            let message = format!("a lease of more than the smallest quota ({least}) takes it all");
            self.refuse("lease", &message, "write a tenth of the quota or less");
        }
        if self.limit.lease > 1 && self.limit.exact {
            let message = "an exact window does not go with leases, which are not exact";
            self.refuse("lease", message, "leave out one of them");
        }
        if self.limit.lease > 1 && self.limit.algorithm.is_held() {
            let message = "what is in flight is given back, so nothing is taken in advance";
            self.refuse("lease", message, "leave it out");
        }
    }

    /// What a limit by caller alone may say.
    fn check_callers(&mut self) {
        let mut keys = self.limit.key.iter();
        if self.limit.key.is_empty() || keys.any(|(key, _)| key.needs_caller()) {
            return;
        }
        let help = "the key decides where the limit stands: one with `caller` stands behind authentication";
        for key in ["anonymous", "overrides"] {
            if self.table.has(key) {
                let message = format!(
                    "`{key}` needs to know the caller, and this limit stands before authentication"
                );
                self.refuse(key, &message, help);
            }
        }
        if self
            .limit
            .exempt
            .iter()
            .any(|(it, _)| matches!(it, Exempted::Who(_)))
        {
            let message = "before authentication only networks can be exempt";
            self.refuse("exempt", message, help);
        }
    }

    /// Whose address is exempt is not limited, whatever it is counted by.
    fn check_exempt(&mut self) {
        let exempt = self.limit.exempt.iter();
        let networks = exempt.filter_map(|(member, _)| match member {
            Exempted::Network(network) => Some(*network),
            Exempted::Who(_) => None,
        });
        let networks: Vec<_> = networks.collect();
        if families(&networks) == (true, true) {
            let help = "leave the limit out of the routes, or watch only: `enforce = false`";
            let message = "every address is exempt: the limit holds nobody";
            self.refuse("exempt", message, help);
        }
    }

    fn refuse(&mut self, key: &str, message: &str, help: &str) {
        let place = self.table.value_place(key, self.reader);
        let finding = Finding::error(place, format!("`{key}`: {message}"));
        self.reader.report(finding.help(help));
    }
}

/// Windows of one limit.
const MOST_WINDOWS: usize = 4;
/// The largest quota of an exact window, which keeps every request.
pub const LARGEST_EXACT: u32 = 1_000;
/// Requests that one exact limit may keep: 256 MiB.
const MOST_ENTRIES: usize = 16 << 20;
const LONGEST_FILLING: Duration = Duration::from_secs(100 * 365 * 86_400);
