//! A quota as it runs: its windows, and what answers say about them.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;

use crate::{
    config::{LimitAlgorithm, Quota},
    store::Window,
};

/// The quota of some callers of a limit.
#[derive(Debug)]
pub(super) struct Tier {
    /// One window at least.
    pub(super) windows: Box<[Window]>,
    /// The `RateLimit-Policy` list of all windows.
    pub(super) policy: HeaderValue,
    /// The beginning of a `RateLimit` item by window: `"name";r=`.
    pub(super) items: Box<[Box<str>]>,
}

impl Tier {
    /// The tier of a limit's name, algorithm and quotas.
    pub(super) fn new(
        name: &str,
        algorithm: LimitAlgorithm,
        quotas: &[Quota],
        bucket: Option<u32>,
    ) -> Arc<Self> {
        let windows: Box<[Window]> = quotas.iter().map(|quota| window(quota, bucket)).collect();
        let single = quotas.len() == 1;
        let names: Vec<_> = quotas
            .iter()
            .map(|quota| policy_name(name, quota, single))
            .collect();
        let held = algorithm == LimitAlgorithm::Concurrency;
        let policies: Vec<_> = quotas
            .iter()
            .zip(&names)
            .map(|(quota, name)| policy(name, quota, held))
            .collect();
        Arc::new(Self {
            windows,
            // Names are made printable, and the rest is digits.
            policy: HeaderValue::from_str(&policies.join(", "))
                .unwrap_or(HeaderValue::from_static("\"limit\"")),
            items: names
                .iter()
                .map(|name| format!("\"{name}\";r=").into())
                .collect(),
        })
    }

    /// How many requests a day the narrowest window lets through: what makes a tier better.
    pub(super) fn generosity(&self) -> u128 {
        let daily =
            |window: &Window| u128::from(window.quota) * DAY.as_nanos() / u128::from(window.per);
        self.windows.iter().map(daily).min().unwrap_or(0)
    }
}

fn window(quota: &Quota, bucket: Option<u32>) -> Window {
    match quota.per {
        Some(per) => Window::new(quota.count.into(), per, bucket.map(u64::from)),
        None => Window::held(quota.count.into()),
    }
}

/// The name of a policy as the inside of a structured field's String (RFC 9651 3.3.3). Several
/// windows of one limit are told apart by their time.
fn policy_name(name: &str, quota: &Quota, single: bool) -> String {
    let mut safe = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '"' | '\\' => safe.extend(['\\', character]),
            ' '..='~' => safe.push(character),
            _ => safe.push('?'),
        }
    }
    match quota.time() {
        Some(time) if !single => format!("{safe}-{time}"),
        _ => safe,
    }
}

/// Draft-ietf-httpapi-ratelimit-headers-11 3.1: `w` is in whole seconds; another time is left out.
fn policy(name: &str, quota: &Quota, held: bool) -> String {
    let count = quota.count;
    match quota.per {
        _ if held => format!("\"{name}\";q={count};qu=\"concurrent-requests\""),
        Some(per) if per.subsec_nanos() == 0 && per.as_secs() > 0 => {
            format!("\"{name}\";q={count};w={}", per.as_secs())
        }
        _ => format!("\"{name}\";q={count}"),
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_of(name: &str, quotas: &[(u32, Option<u64>)]) -> (String, Vec<String>) {
        let quotas: Vec<_> = quotas
            .iter()
            .map(|&(count, millis)| Quota {
                count,
                per: millis.map(Duration::from_millis),
            })
            .collect();
        let algorithm = match quotas[0].per {
            Some(_) => LimitAlgorithm::TokenBucket,
            None => LimitAlgorithm::Concurrency,
        };
        let tier = Tier::new(name, algorithm, &quotas, None);
        let items = tier.items.iter().map(ToString::to_string).collect();
        (tier.policy.to_str().unwrap().to_owned(), items)
    }

    #[test]
    fn a_policy_tells_quota_and_window() {
        let (policy, items) = policy_of("burst", &[(100, Some(60_000))]);
        assert_eq!(policy, r#""burst";q=100;w=60"#);
        assert_eq!(items, [r#""burst";r="#]);
        let (policy, items) = policy_of("api", &[(20, Some(1_000)), (5_000, Some(3_600_000))]);
        assert_eq!(policy, r#""api-1s";q=20;w=1, "api-1h";q=5000;w=3600"#);
        assert_eq!(items, [r#""api-1s";r="#, r#""api-1h";r="#]);
        assert_eq!(policy_of("fast", &[(5, Some(250))]).0, r#""fast";q=5"#);
        let (policy, _) = policy_of("slots", &[(5, None)]);
        assert_eq!(policy, r#""slots";q=5;qu="concurrent-requests""#);
    }

    #[test]
    fn a_name_is_a_string_whatever_it_holds() {
        let (policy, _) = policy_of("a\"b\\c\u{e4}", &[(1, Some(1_000))]);
        assert_eq!(policy, r#""a\"b\\c?";q=1;w=1"#);
    }

    #[test]
    fn the_narrowest_window_decides_how_generous_a_tier_is() {
        let tier = |quotas: &[(u32, u64)]| {
            let quotas: Vec<_> = quotas
                .iter()
                .map(|&(count, seconds)| Quota {
                    count,
                    per: Some(Duration::from_secs(seconds)),
                })
                .collect();
            Tier::new("x", LimitAlgorithm::TokenBucket, &quotas, None)
        };
        let narrow = tier(&[(100, 1), (10, 3600)]);
        assert!(narrow.generosity() < tier(&[(1, 60)]).generosity());
    }
}
