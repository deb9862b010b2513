//! A quota as it runs: its windows, and what answers say about them.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;

use crate::{
    config::{LimitAlgorithm, LimitHeaders, Quota, RateLimit},
    exchange::{LimitPolicy, PolicyWindow},
    store::Window,
};

/// The quota of some callers of a limit.
#[derive(Debug)]
pub(super) struct Tier {
    /// One window at least.
    pub(super) windows: Box<[Window]>,
    /// Tells its windows from others: equal ones have it, whenever the tier was made.
    pub(super) id: u64,
    /// What answers say about it.
    pub(super) policy: Arc<LimitPolicy>,
    /// What is written behind a key that is counted by it, where its times are not those of the
    /// limit's own quota.
    pub(super) apart: Option<Box<[u8]>>,
    /// How much of it may be taken of Redis in advance, whatever the limit says.
    pub(super) largest_lease: u32,
}

/// What all tiers of a limit have in common.
#[derive(Clone, Copy)]
pub(super) struct Common<'l> {
    limit: &'l Arc<str>,
    algorithm: LimitAlgorithm,
    headers: LimitHeaders,
    enforced: bool,
}

impl<'l> From<&'l RateLimit> for Common<'l> {
    fn from(limit: &'l RateLimit) -> Self {
        Self {
            limit: &limit.name,
            algorithm: limit.algorithm,
            // What a limit in shadow mode would say is told to nobody.
            headers: match limit.enforce {
                true => limit.headers,
                false => LimitHeaders::Off,
            },
            enforced: limit.enforce,
        }
    }
}

impl Tier {
    /// The tier of a limit's callers who have these quotas.
    pub(super) fn new(limit: Common<'_>, quotas: &[Quota], bucket: Option<u32>) -> Arc<Self> {
        Arc::new(Self::made(limit, quotas, bucket))
    }

    /// The tier of a caller whose credential brings these quotas. The limit's lease was not made for them:
    /// a gateway that took all of a small one would leave none to the others.
    pub(super) fn brought(limit: Common<'_>, quotas: &[Quota]) -> Arc<Self> {
        let tier = Self::made(limit, quotas, None);
        let least = tier.windows.iter().map(|window| window.bucket).min();
        Arc::new(Self {
            largest_lease: least.unwrap_or(0) / 10,
            ..tier
        })
    }

    /// The tier of callers of whom other quotas were said. Those of other times are counted apart: a
    /// counter knows what counts in its own time, and would forget what a longer one still counts.
    pub(super) fn beside(own: &Self, limit: Common<'_>, quotas: &[Quota]) -> Arc<Self> {
        // The bucket's size belongs to the limit's own quota.
        let tier = Self::made(limit, quotas, None);
        let times = times_of(&tier.windows);
        let apart = (times != times_of(&own.windows)).then_some(times);
        Arc::new(Self { apart, ..tier })
    }

    fn made(limit: Common<'_>, quotas: &[Quota], bucket: Option<u32>) -> Self {
        let windows: Box<[Window]> = quotas.iter().map(|quota| window(quota, bucket)).collect();
        let single = quotas.len() == 1;
        let name = |quota: &Quota| policy_name(limit.limit, quota, single);
        let held = limit.algorithm.is_held();
        let policies: Vec<_> = quotas
            .iter()
            .map(|quota| policy(&name(quota), quota, held))
            .collect();
        let policies = policies.join(", ");
        let told = quotas.iter().zip(&windows).map(|(quota, window)| {
            let item = format!("\"{}\";r=", name(quota));
            PolicyWindow::new(item, &policies, window.quota)
        });
        Self {
            policy: Arc::new(LimitPolicy {
                limit: Arc::clone(limit.limit),
                enforced: limit.enforced,
                draft: limit.headers.draft(),
                legacy: limit.headers.legacy(),
                // Names are made printable, and the rest is digits.
                text: HeaderValue::from_str(&policies)
                    .unwrap_or(HeaderValue::from_static("\"limit\"")),
                windows: told.collect(),
            }),
            id: id_of(&windows),
            windows,
            apart: None,
            largest_lease: u32::MAX,
        }
    }

    /// The time of the shortest window: as long what is taken in advance is good.
    pub(super) fn shortest(&self) -> u64 {
        let times = self.windows.iter().map(|window| window.per);
        times.min().unwrap_or(0)
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

/// Made once for a tier, so that no request has to compare or hash windows.
fn id_of(windows: &[Window]) -> u64 {
    let mut hasher = DefaultHasher::new();
    windows.hash(&mut hasher);
    hasher.finish()
}

/// The times of windows, which are matched by their places.
fn times_of(windows: &[Window]) -> Box<[u8]> {
    let times = windows.iter().flat_map(|window| window.per.to_le_bytes());
    times.collect()
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
pub(super) mod tests {
    use super::*;

    fn common<'l>(limit: &'l Arc<str>, quotas: &[Quota]) -> Common<'l> {
        Common {
            limit,
            algorithm: match quotas[0].per {
                Some(_) => LimitAlgorithm::TokenBucket,
                None => LimitAlgorithm::Concurrency,
            },
            headers: LimitHeaders::Both,
            enforced: true,
        }
    }

    pub(in super::super) fn tier(name: &str, quotas: &[Quota]) -> Arc<Tier> {
        Tier::new(common(&name.into(), quotas), quotas, None)
    }

    pub(in super::super) fn brought(name: &str, quotas: &[Quota]) -> Arc<Tier> {
        Tier::brought(common(&name.into(), quotas), quotas)
    }

    pub(in super::super) fn in_seconds(quotas: &[(u32, u64)]) -> Vec<Quota> {
        let quota = |&(count, seconds): &(u32, u64)| Quota {
            count,
            per: Some(Duration::from_secs(seconds)),
        };
        quotas.iter().map(quota).collect()
    }

    fn policy_of(name: &str, quotas: &[(u32, Option<u64>)]) -> (String, Vec<String>) {
        let quotas: Vec<_> = quotas
            .iter()
            .map(|&(count, millis)| Quota {
                count,
                per: millis.map(Duration::from_millis),
            })
            .collect();
        let policy = &tier(name, &quotas).policy;
        let items = policy.windows.iter().map(|it| it.item.to_string());
        (policy.text.to_str().unwrap().to_owned(), items.collect())
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
        let of = |quotas: &[(u32, u64)]| tier("x", &in_seconds(quotas));
        let narrow = of(&[(100, 1), (10, 3600)]);
        assert!(narrow.generosity() < of(&[(1, 60)]).generosity());
    }

    #[test]
    fn of_a_quota_that_a_credential_brings_a_tenth_may_be_taken_in_advance() {
        let most = |quotas: &[(u32, u64)]| brought("x", &in_seconds(quotas)).largest_lease;
        assert_eq!(most(&[(200, 1), (1_000, 3600)]), 20);
        assert_eq!(most(&[(9, 1)]), 0);
        assert_eq!(tier("x", &in_seconds(&[(9, 1)])).largest_lease, u32::MAX);
    }

    #[test]
    fn equal_windows_have_one_id_and_others_another() {
        let of = |quotas: &[(u32, u64)]| tier("x", &in_seconds(quotas)).id;
        assert_eq!(of(&[(20, 1), (100, 60)]), of(&[(20, 1), (100, 60)]));
        let others = [of(&[(20, 1)]), of(&[(20, 60)]), of(&[(100, 60), (20, 1)])];
        assert!(others.iter().all(|id| *id != of(&[(20, 1), (100, 60)])));
        let quotas = in_seconds(&[(20, 1)]);
        let name: Arc<str> = "x".into();
        let small = Tier::new(common(&name, &quotas), &quotas, Some(5));
        assert_ne!(small.id, others[0], "its bucket is another");
    }

    #[test]
    fn those_of_other_times_are_counted_apart_and_with_each_other() {
        let name: Arc<str> = "x".into();
        let own = tier("x", &in_seconds(&[(20, 1), (100, 60)]));
        let beside = |quotas: &[(u32, u64)]| {
            let quotas = in_seconds(quotas);
            Tier::beside(&own, common(&name, &quotas), &quotas)
        };
        assert_eq!(own.apart, None);
        assert_eq!(beside(&[(5, 1), (7, 60)]).apart, None);
        let (minute, again) = (beside(&[(5, 60)]), beside(&[(9, 60)]));
        assert!(minute.apart.is_some());
        assert_eq!(minute.apart, again.apart);
        let turned = beside(&[(7, 60), (5, 1)]);
        assert!(turned.apart.is_some());
        assert_ne!(turned.apart, minute.apart);
    }
}
