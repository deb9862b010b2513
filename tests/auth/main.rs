//! Who calls: tokens with real keys of every algorithm, what is done to them, and what a route
//! makes of several ways to authenticate. The other ways, the keys of issuers, and who may do what are
//! modules of their own.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

mod access;
mod algorithms;
mod api_keys;
mod attacks;
mod basic;
mod claims;
mod docs;
mod external;
mod fail_closed;
mod failures;
mod identity;
mod jwks;
mod memory;
mod places;
mod rules;
mod signer;
mod tunnels;

#[path = "../support/mod.rs"]
mod support;

use signer::Signer;
use support::{Answer, Gateway, Origin, Raw};
use tollgate::exchange::Clock;

/// A gateway whose only route asks for a token, and the origin behind it.
struct Site {
    gateway: Gateway,
    origin: Origin,
    clock: Clock,
}

impl Site {
    /// With these tables, and these keys of the route beside its upstream. `ORIGIN` stands for the
    /// origin's URL.
    /// Failures are not limited: tests make many.
    async fn with(tables: &str, route: &str) -> Self {
        let tables = format!("{tables}\n[auth]\nfailures = \"off\"\n");
        Self::limited(&tables, route).await
    }

    /// As [`Site::with`], with a limit on failures.
    async fn limited(tables: &str, route: &str) -> Self {
        let origin = Origin::ok().await;
        let clock = Clock::movable();
        let text = format!("{tables}\n[routes.all]\nupstream = \"ORIGIN\"\n{route}\n");
        let gateway = Gateway::start_at(&text.replace("ORIGIN", &origin.url()), clock.clone());
        Self {
            gateway,
            origin,
            clock,
        }
    }

    /// With one issuer, `jwt.main`, that the route asks for.
    async fn of(signer: &Signer, more: &str) -> Self {
        let keys = signer.keys();
        let tables = format!("[auth.jwt.main]\n{keys}\n{more}\n");
        Self::with(&tables, "auth = \"jwt.main\"").await
    }

    /// The answer to a GET with these header fields.
    async fn get(&self, fields: &str) -> Answer {
        self.ask("GET / HTTP/1.1", fields).await
    }

    /// The answer to a request without a body.
    async fn ask(&self, line: &str, fields: &str) -> Answer {
        let request = format!("{line}\r\nHost: gateway.test\r\n{fields}\r\n");
        Raw::ask(self.gateway.address(), request).await
    }

    /// The answer to a GET with a token.
    async fn bearer(&self, token: &str) -> Answer {
        self.get(&bearer(token)).await
    }

    /// Status and reason of the answer to a GET with a token.
    async fn refusal(&self, token: &str) -> (u16, String) {
        self.bearer(token).await.refusal()
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn let_in() -> (u16, String) {
    (200, String::new())
}

fn refused(reason: &str) -> (u16, String) {
    (401, reason.to_owned())
}
