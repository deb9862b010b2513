//! `/health/ready`: whether requests should come here.

use std::collections::BTreeMap;

use serde::Serialize;

/// The answer of `/health/ready`.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// The sum of the checks.
    pub status: ReadinessStatus,
    /// Each dependency by name, such as `upstream.orders`.
    pub checks: BTreeMap<String, Check>,
}

/// Whether requests should come here.
///
/// In the order of weight: the worst check decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadinessStatus {
    /// Yes.
    Ok,
    /// Yes, but something does not work as it should.
    Degraded,
    /// No: something that is needed does not work.
    Unavailable,
    /// No: the gateway is stopping.
    Draining,
}

/// One dependency.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// How it is.
    pub status: CheckStatus,
    /// Whether requests should stay away when it is unavailable.
    pub required: bool,
    /// The servers of an upstream by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<String, ServerStatus>,
}

/// How a dependency is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// All of it works.
    Ok,
    /// A part of it works.
    Degraded,
    /// Nothing of it works.
    Unavailable,
}

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerStatus {
    /// Its health check succeeds.
    Healthy,
    /// Its health check fails: it gets no requests.
    Unhealthy,
    /// Not checked, or not yet: it gets requests.
    Unknown,
}

impl Readiness {
    /// Sums up.
    #[must_use]
    pub fn new(draining: bool, checks: BTreeMap<String, Check>) -> Self {
        let worst = checks.values().map(Check::weight).max();
        let status = match worst.unwrap_or(ReadinessStatus::Ok) {
            _ if draining => ReadinessStatus::Draining,
            worst => worst,
        };
        Self { status, checks }
    }

    /// Whether requests should come: 200, or 503.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.status, ReadinessStatus::Ok | ReadinessStatus::Degraded)
    }

    /// The same without the servers, for who must not see the inside.
    pub(super) fn without_servers(mut self) -> Self {
        for check in self.checks.values_mut() {
            check.servers.clear();
        }
        self
    }
}

impl Check {
    /// The check of an upstream: unavailable when every server is unhealthy.
    #[must_use]
    pub fn of_servers(required: bool, servers: BTreeMap<String, ServerStatus>) -> Self {
        let unhealthy = |status: &&ServerStatus| **status == ServerStatus::Unhealthy;
        let status = match servers.values().filter(unhealthy).count() {
            0 => CheckStatus::Ok,
            count if count == servers.len() => CheckStatus::Unavailable,
            _ => CheckStatus::Degraded,
        };
        Self {
            status,
            required,
            servers,
        }
    }

    /// What the check alone makes of the whole.
    fn weight(&self) -> ReadinessStatus {
        match self.status {
            CheckStatus::Ok => ReadinessStatus::Ok,
            CheckStatus::Unavailable if self.required => ReadinessStatus::Unavailable,
            CheckStatus::Degraded | CheckStatus::Unavailable => ReadinessStatus::Degraded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ServerStatus::{Healthy, Unhealthy, Unknown};

    fn check(required: bool, servers: &[ServerStatus]) -> Check {
        let named = servers.iter().enumerate();
        Check::of_servers(
            required,
            named
                .map(|(index, status)| (index.to_string(), *status))
                .collect(),
        )
    }

    fn ready(draining: bool, checks: Vec<Check>) -> Readiness {
        let named = checks.into_iter().enumerate();
        Readiness::new(
            draining,
            named
                .map(|(index, check)| (index.to_string(), check))
                .collect(),
        )
    }

    #[test]
    fn an_upstream_is_unavailable_only_when_every_server_is_unhealthy() {
        let status = |servers: &[ServerStatus]| check(true, servers).status;
        assert_eq!(status(&[Healthy, Unknown]), CheckStatus::Ok);
        assert_eq!(status(&[Healthy, Unhealthy]), CheckStatus::Degraded);
        assert_eq!(status(&[Unknown, Unhealthy]), CheckStatus::Degraded);
        assert_eq!(status(&[Unhealthy, Unhealthy]), CheckStatus::Unavailable);
        assert_eq!(status(&[]), CheckStatus::Ok);
    }

    #[test]
    fn readiness_fails_for_a_required_check_and_for_a_drain() {
        let failing = |required| check(required, &[Unhealthy]);
        let cases = [
            (ready(false, vec![]), ReadinessStatus::Ok),
            (
                ready(false, vec![failing(false)]),
                ReadinessStatus::Degraded,
            ),
            (
                ready(false, vec![failing(true), check(true, &[Healthy])]),
                ReadinessStatus::Unavailable,
            ),
            (ready(true, vec![failing(true)]), ReadinessStatus::Draining),
        ];
        for (readiness, status) in cases {
            assert_eq!(readiness.status, status);
            let serves = matches!(status, ReadinessStatus::Ok | ReadinessStatus::Degraded);
            assert_eq!(readiness.is_ready(), serves);
        }
    }
}
