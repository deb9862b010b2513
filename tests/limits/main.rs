//! Rate limits over real sockets, with a clock that the test moves; and over Redis.

mod admin;
mod algorithms;
mod answers;
mod callers;
mod concurrency;
mod keys;
mod redis;
mod reload;
mod stages;

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use support::{Answer, Gateway, Raw};
use tollgate::exchange::Clock;

/// A gateway, its clock and one connection to it after another.
struct Limited {
    gateway: Gateway,
    clock: Clock,
}

impl Limited {
    /// Starts at the beginning of a minute of the wall clock.
    fn start(text: &str) -> Self {
        let clock = Clock::movable();
        let wall = clock.wall().duration_since(std::time::UNIX_EPOCH);
        let wall = wall.expect("it is later than 1970");
        let minutes = Duration::from_secs(60 * (wall.as_secs() / 60 + 1));
        clock.advance(minutes - wall);
        let gateway = Gateway::start_at(text, clock.clone());
        Self { gateway, clock }
    }

    /// A route `/**` with limits, and the tables of these; the gateway answers itself.
    fn answering(limits: &str, tables: &str) -> Self {
        Self::start(&format!(
            "[routes.all]\nrespond = {{ body = 'ok' }}\nrate_limits = {limits}\n{tables}"
        ))
    }

    /// The same with one limit, `one`.
    fn by(keys: &str) -> Self {
        Self::answering("['one']", &format!("[rate_limits.one]\n{keys}"))
    }

    async fn get(&self) -> Answer {
        self.with("").await
    }

    /// Asks for `/` with more header lines.
    async fn with(&self, lines: &str) -> Answer {
        self.ask("/", lines).await
    }

    async fn ask(&self, path: &str, lines: &str) -> Answer {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{lines}\r\n");
        Raw::ask(self.gateway.address(), request).await
    }

    /// How many of so many requests pass.
    async fn passed(&self, requests: u32, lines: &str) -> u32 {
        let mut passed = 0;
        for _ in 0..requests {
            let answer = self.with(lines).await;
            match answer.status {
                200 => passed += 1,
                _ => assert_eq!(answer.refusal(), (429, "limit.exceeded".to_owned())),
            }
        }
        passed
    }

    fn later(&self, seconds: f64) {
        self.clock.advance(Duration::from_secs_f64(seconds));
    }
}
