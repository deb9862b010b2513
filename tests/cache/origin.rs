//! An origin that counts what it is asked, and answers when it may.

// Test files are crates of their own: nothing in them is public.
#![allow(unreachable_pub)]

use std::sync::{Arc, Mutex};

use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tollgate::{
    exchange::Clock,
    pipeline::cache::policy::{Moment, format_http_date},
};

use crate::support::{BoxBody, Gateway, Sent, Server, full, http1, read, within};

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// An origin, and what it needs and keeps.
pub struct Counting {
    pub server: Server,
    /// It answers as long as there are permits; there are many unless a test takes them.
    pub gate: Arc<Semaphore>,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl Counting {
    /// An origin that answers so. The closure gets the number of the request, from 1; the date is that
    /// of the gateways' clock.
    pub async fn start<F>(clock: &Clock, answer: F) -> Self
    where
        F: Fn(usize, Seen) -> Response<BoxBody> + Clone + Send + 'static,
    {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let gate = Arc::new(Semaphore::new(1_000_000));
        let (kept, told, passed) = (Arc::clone(&seen), clock.clone(), Arc::clone(&gate));
        let server = Server::http1(move |request: Request<Incoming>| {
            let request = Seen {
                method: request.method().clone(),
                target: request.uri().to_string(),
                headers: request.headers().clone(),
            };
            let count = {
                let mut kept = kept.lock().expect("no panic");
                kept.push(request.clone());
                kept.len()
            };
            let mut answer = answer(count, request);
            let date = format_http_date(Moment::from(told.wall()));
            answer.headers_mut().entry("date").or_insert(date);
            let gate = Arc::clone(&passed);
            async move {
                gate.acquire().await.expect("it is open").forget();
                answer
            }
        })
        .await;
        Self { server, gate, seen }
    }
}

/// Asks a gateway's admin listener to purge.
pub async fn purge(gateway: &Gateway, body: &str) -> Sent {
    let request = Request::post("/api/cache/purges")
        .header("host", "localhost")
        .body(full(body.to_owned()));
    let mut connection = http1(gateway.admin()).await;
    let answer = connection.send_request(request.expect("a request"));
    read(within(answer).await.expect("an answer")).await
}
