//! Active health checks: each server is asked, on the control runtime, whether it is well.
//!
//! Unknown is usable: a server takes requests until checks say otherwise. While it is unknown the
//! checks come fast, so that a server which is down at start is left out within a second.

use std::{future::poll_fn, sync::Arc, time::Duration};

use http::{Method, Request, StatusCode, header::USER_AGENT};
use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};

use super::{
    connect, http1,
    registry::UpstreamGroup,
    server::{Health, Server},
};
use crate::{
    config::{HealthCheck, UpstreamProtocol},
    exchange::{Body, BoxError, http1::Framing},
};

/// Checks the servers of an upstream for ever; the caller drops the future to stop.
pub async fn watch(group: Arc<UpstreamGroup>) {
    let Some(check) = &group.config.health_check else {
        return;
    };
    let watches = group
        .servers
        .iter()
        .map(|server| watch_server(&group.config.name, server, check));
    futures_util::future::join_all(watches).await;
}

async fn watch_server(upstream: &str, server: &Arc<Server>, check: &HealthCheck) {
    let mut history = History::default();
    loop {
        let outcome = probe(server, check).await;
        if let Some(healthy) = history.record(outcome.is_ok(), check) {
            report(upstream, server, healthy, outcome);
        }
        sleep(pause(check, &history)).await;
    }
}

fn report(upstream: &str, server: &Server, healthy: bool, outcome: Result<(), BoxError>) {
    let health = if healthy {
        Health::Healthy
    } else {
        Health::Unhealthy
    };
    if !server.set_health(health) {
        return;
    }
    match outcome {
        Ok(()) => tracing::info!(upstream, server = %server.name, "server is healthy"),
        Err(cause) => {
            tracing::warn!(upstream, server = %server.name, %cause, "server is unhealthy");
        }
    }
}

/// A tenth more or less, so that many gateways do not check in step.
fn pause(check: &HealthCheck, history: &History) -> Duration {
    let pause = match history.healthy {
        Some(_) => check.interval,
        None => check.interval.min(FIRST_INTERVAL),
    };
    pause.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// Asks a server once, on a connection of its own.
///
/// # Errors
///
/// When it can't be reached, does not answer in time, or answers other than 200 to 399.
async fn probe(server: &Arc<Server>, check: &HealthCheck) -> Result<(), BoxError> {
    let status = timeout(check.timeout, ask(server, check))
        .await
        .map_err(|_| "no answer in time")??;
    match status.as_u16() {
        200..=399 => Ok(()),
        _ => Err(format!("answered {status}").into()),
    }
}

async fn ask(server: &Arc<Server>, check: &HealthCheck) -> Result<StatusCode, BoxError> {
    let host = check.host.clone().unwrap_or_else(|| server.authority());
    match server.protocol() {
        UpstreamProtocol::Http1 => ask_http1(server, check, &host).await,
        UpstreamProtocol::Http2 => ask_http2(server, check, &host).await,
    }
}

async fn ask_http1(
    server: &Arc<Server>,
    check: &HealthCheck,
    host: &str,
) -> Result<StatusCode, BoxError> {
    let mut connection = connect::http1(server, check.timeout).await?;
    let (path, agent) = (&check.path, PROBE_AGENT);
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {agent}\r\n\r\n");
    connection.output().extend_from_slice(head.as_bytes());
    let (framing, body) = (Framing::Empty, Body::empty());
    let mut exchange = http1::Exchange::new(connection, Method::GET, framing, body);
    let head = poll_fn(|cx| exchange.poll(cx, &drop)).await;
    let head = head.map_err(|error| format!("{error:?}"))?;
    read_out(exchange.answer(&head, None)?).await;
    Ok(head.status)
}

async fn ask_http2(
    server: &Arc<Server>,
    check: &HealthCheck,
    host: &str,
) -> Result<StatusCode, BoxError> {
    let target = format!("http://{host}{}", check.path);
    let request = Request::get(target).header(USER_AGENT, PROBE_AGENT);
    let connection = connect::http2(server, check.timeout).await?;
    let mut stream = connection.stream().ok_or("no stream allowed")?;
    let response = stream.sender.send_request(request.body(Body::empty())?);
    let (head, body) = response.await?.into_parts();
    read_out(body).await;
    Ok(head.status)
}

/// Some servers log an error when a client leaves before the end; a long answer is not awaited.
async fn read_out<B: http_body::Body<Error: Into<BoxError>>>(body: B) {
    let _ = http_body_util::Limited::new(body, LONGEST_ANSWER)
        .collect()
        .await;
}

/// What the checks of one server have said so far.
#[derive(Debug, Default)]
struct History {
    /// `None` until enough checks agree.
    healthy: Option<bool>,
    successes: u32,
    failures: u32,
}

impl History {
    /// Adds one result; tells the state when it has changed.
    fn record(&mut self, passed: bool, check: &HealthCheck) -> Option<bool> {
        if passed {
            self.successes += 1;
            self.failures = 0;
        } else {
            self.failures += 1;
            self.successes = 0;
        }
        // One success is enough for a server that nobody has doubted yet.
        let rise = if self.healthy.is_none() {
            1
        } else {
            check.rise
        };
        let state = match passed {
            true if self.successes >= rise => true,
            false if self.failures >= check.fall => false,
            _ => return None,
        };
        let changed = self.healthy != Some(state);
        self.healthy = Some(state);
        changed.then_some(state)
    }
}

const FIRST_INTERVAL: Duration = Duration::from_millis(250);
const LONGEST_ANSWER: usize = 64 << 10;
const PROBE_AGENT: &str = concat!("tollgate-health/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    fn record(history: &mut History, results: &[bool]) -> Vec<Option<bool>> {
        let check = HealthCheck::default();
        results
            .iter()
            .map(|passed| history.record(*passed, &check))
            .collect()
    }

    #[test]
    fn one_failed_check_does_not_make_a_healthy_server_unhealthy() {
        let mut history = History::default();
        let states = record(&mut history, &[true, false, false, true, false, false]);
        assert_eq!(states, [Some(true), None, None, None, None, None]);
    }

    #[test]
    fn an_unhealthy_server_rises_only_after_enough_successes_in_a_row() {
        let mut history = History::default();
        let states = record(
            &mut history,
            &[false, false, false, true, false, true, true],
        );
        assert_eq!(
            states,
            [None, None, Some(false), None, None, None, Some(true)]
        );
    }
}
