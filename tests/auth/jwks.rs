//! Keys of issuers: fetched, refreshed, rotated, and what becomes of requests when the provider
//! dies, hangs or sends garbage; and lists of tokens that were taken back.

#![allow(clippy::unwrap_used, unreachable_pub)] // Helpers of tests are tests.

mod discovery;
mod docs;
mod failures;
mod files;
pub(crate) mod provider;
mod refresh;
mod rotation;

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;
use tollgate::exchange::Clock;

use crate::{
    signer::{Signer, alice_with, now},
    support::{self, Answer, Gateway, Raw, eventually},
};
use provider::Provider;

/// A gateway whose route `/` asks for a token, with a public one beside it.
struct Site {
    gateway: Gateway,
    clock: Clock,
}

impl Site {
    /// With these keys of `[auth.jwt.main]`, and more tables.
    fn with(keys: &str, more: &str) -> Self {
        let clock = Clock::movable();
        let gateway = Gateway::start_at(&text(keys, more), clock.clone());
        Self { gateway, clock }
    }

    /// With the keys at a provider.
    fn of(provider: &Provider, keys: &str) -> Self {
        let url = provider.url();
        Self::with(&format!("jwks_url = '{url}/jwks'\n{keys}"), "")
    }

    async fn get(&self, target: &str, fields: &str) -> Answer {
        let request = format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n");
        Raw::ask(self.gateway.address(), request).await
    }

    /// The answer to a request with a token.
    async fn bearer(&self, token: &str) -> Answer {
        self.get("/", &format!("Authorization: Bearer {token}\r\n"))
            .await
    }

    /// Its status and reason.
    async fn refusal(&self, token: &str) -> (u16, String) {
        self.bearer(token).await.refusal()
    }

    /// A metric of the only issuer.
    fn metric(&self, name: &str, label: &str) -> f64 {
        let issuer = "issuer=\"jwt.main\"";
        self.gateway.metric(name, &[issuer, label])
    }

    fn refreshes(&self, result: &str) -> f64 {
        let label = format!("result=\"{result}\"");
        self.metric("tollgate_jwks_refreshes_total", &label)
    }

    /// How many tokens named an unknown key: those that waited for a fetch, those that came too soon
    /// after one, and those whose key had been looked for.
    fn unknown_keys(&self) -> [f64; 3] {
        ["fetched", "cooldown", "remembered"].map(|result| {
            let label = format!("result=\"{result}\"");
            self.metric("tollgate_jwks_unknown_keys_total", &label)
        })
    }

    /// Waits until so many fetches have failed.
    async fn has_failed(&self, times: f64) {
        eventually(|| self.refreshes("failure") >= times).await;
    }

    /// Waits until so many fetches have succeeded.
    async fn has_fetched(&self, times: f64) {
        eventually(|| self.refreshes("success") >= times).await;
    }
}

fn text(keys: &str, more: &str) -> String {
    format!(
        "[auth.jwt.main]\nalgorithms = 'ES256'\n{keys}\n{more}\n\
         [routes.all]\nauth = 'jwt.main'\nrespond = {{ body = 'in' }}\n\
         [routes.open]\npath = '/open'\nauth = 'public'\nrespond = {{ body = 'open' }}\n"
    )
}

/// A key of a kind that is quickly made.
fn key() -> Signer {
    Signer::new(Algorithm::ES256)
}

/// A token of a key with that name; it is good for a year, whatever the clock says.
fn token(signer: &Signer, id: &str) -> String {
    token_with(signer, id, json!({}))
}

/// The same with more claims.
fn token_with(signer: &Signer, id: &str, more: serde_json::Value) -> String {
    let mut claims = alice_with(more);
    claims["exp"] = (now() + 365 * 86_400).into();
    signer.named(id, &claims)
}

fn let_in() -> (u16, String) {
    (200, String::new())
}

fn unknown_key() -> (u16, String) {
    (401, "auth.jwt.unknown_key".to_owned())
}

fn unavailable() -> (u16, String) {
    (503, "auth.jwt.keys_unavailable".to_owned())
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
