//! External auth: another service decides, and nobody else's word counts.

#![allow(clippy::unwrap_used, unreachable_pub)] // Helpers of tests are tests.

mod docs;
mod failures;
mod guesses;
mod memory;
mod verdicts;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, Request, Response, request::Parts};
use hyper::body::Incoming;
use tollgate::exchange::Clock;

use crate::support::{self, Answer, BoxBody, Gateway, Origin, Raw, Server, full};

/// A service that answers as it is told and keeps what it was asked.
struct Service {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answer: Mutex<Option<Says>>,
    asked: Mutex<Vec<Parts>>,
}

/// Makes the answer to a question.
type Says = Arc<dyn Fn(&Parts) -> Response<BoxBody> + Send + Sync>;

impl Service {
    /// Lets everything through.
    async fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let told = Arc::clone(&shared);
        let server = Server::http1(move |request: Request<Incoming>| {
            let told = Arc::clone(&told);
            async move {
                let (head, _) = request.into_parts();
                let says = told.answer.lock().unwrap().clone();
                let answer = says.map_or_else(|| answer(200, &[], ""), |says| says(&head));
                told.asked.lock().unwrap().push(head);
                answer
            }
        })
        .await;
        Self { server, shared }
    }

    /// Decides by looking at the question.
    fn decides(&self, says: impl Fn(&Parts) -> Response<BoxBody> + Send + Sync + 'static) {
        *self.shared.answer.lock().unwrap() = Some(Arc::new(says));
    }

    /// Answers everything alike.
    fn says(
        &self,
        status: u16,
        fields: &'static [(&'static str, &'static str)],
        body: &'static str,
    ) {
        self.decides(move |_| answer(status, fields, body));
    }

    fn asked(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    /// The header fields of the only question.
    #[track_caller]
    fn question(&self) -> (String, HeaderMap) {
        let asked = self.shared.asked.lock().unwrap();
        assert_eq!(asked.len(), 1, "{asked:#?}");
        let line = format!("{} {}", asked[0].method, asked[0].uri);
        (line, asked[0].headers.clone())
    }
}

fn answer(status: u16, fields: &[(&str, &str)], body: &'static str) -> Response<BoxBody> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(full(body)).unwrap()
}

/// A gateway that asks a service about `/`, with a public route beside it, and an origin behind
/// both.
struct Site {
    service: Service,
    origin: Origin,
    gateway: Gateway,
    clock: Clock,
}

impl Site {
    /// With these keys of `[auth.external.sso]` beside its `url`.
    async fn with(keys: &str) -> Self {
        Self::with_route(keys, "").await
    }

    /// The same, with keys of the route.
    async fn with_route(keys: &str, route: &str) -> Self {
        let service = Service::start().await;
        let url = format!("{}/auth", service.server.url());
        Self::routed(service, &url, keys, route).await
    }

    /// With a service at a URL.
    async fn asking(service: Service, url: &str, keys: &str) -> Self {
        Self::routed(service, url, keys, "").await
    }

    async fn routed(service: Service, url: &str, keys: &str, route: &str) -> Self {
        let (origin, clock) = (Origin::ok().await, Clock::movable());
        let upstream = origin.url();
        let text = format!(
            "[auth.external.sso]\nurl = '{url}'\n{keys}\n\
             [routes.all]\nauth = 'external.sso'\nupstream = '{upstream}'\n{route}\n\
             [routes.open]\npath = '/open'\nauth = 'public'\nupstream = '{upstream}'\n"
        );
        let gateway = Gateway::start_at(&text, clock.clone());
        Self {
            service,
            origin,
            gateway,
            clock,
        }
    }

    async fn get(&self, target: &str, fields: &str) -> Answer {
        let request = format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n");
        Raw::ask(self.gateway.address(), request).await
    }

    fn results(&self, result: &str) -> f64 {
        let name = "tollgate_external_auth_requests_total";
        let result = format!("result=\"{result}\"");
        self.gateway
            .metric(name, &["service=\"external.sso\"", &result])
    }
}

fn unavailable() -> (u16, String) {
    (503, "auth.external.unavailable".to_owned())
}

const SECOND: Duration = Duration::from_secs(1);
