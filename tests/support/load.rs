//! Clients that keep gateways busy and remember what failed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use tokio::task::JoinSet;

use super::{BoxBody, empty, eventually, http1, http2};

/// Clients that ask without a pause, each for its answer before its next question.
///
/// A client begins at the first of its places and goes to the next one when it is told to leave:
/// by `Connection: close`, or by GOAWAY. Any other end is a failure.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<Arc<AtomicUsize>>,
    tasks: JoinSet<Result<(), String>>,
}

#[derive(Clone)]
struct Client {
    path: &'static str,
    places: Vec<SocketAddr>,
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

/// Why a request on HTTP/2 got no answer.
enum Unanswered {
    /// It was not sent: it may be sent elsewhere.
    Unsent,
    Failed(String),
}

impl Load {
    /// No clients yet.
    pub fn new() -> Self {
        Self {
            stop: Arc::default(),
            clients: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Adds a client with a keep-alive connection of HTTP/1.1.
    pub fn http1(&mut self, places: &[SocketAddr], path: &'static str) {
        let client = self.client(places, path);
        self.tasks.spawn(client.http1());
    }

    /// Adds a client that keeps a number of streams busy on one connection of HTTP/2.
    pub async fn http2(&mut self, places: &[SocketAddr], path: &'static str, streams: usize) {
        let connection = http2(places[0]).await;
        for _ in 0..streams {
            let client = self.client(places, path);
            self.tasks.spawn(client.http2(connection.clone()));
        }
    }

    fn client(&mut self, places: &[SocketAddr], path: &'static str) -> Client {
        let answered = Arc::<AtomicUsize>::default();
        self.clients.push(Arc::clone(&answered));
        Client {
            path,
            places: places.to_vec(),
            answered,
            stop: Arc::clone(&self.stop),
        }
    }

    /// Waits until every client has got so many more answers.
    #[track_caller]
    pub fn progress(&mut self, more: usize) -> impl Future<Output = ()> {
        let count = |client: &Arc<AtomicUsize>| client.load(SeqCst);
        let goals: Vec<_> = self.clients.iter().map(|it| count(it) + more).collect();
        eventually(move || {
            if let Some(ended) = self.tasks.try_join_next() {
                panic!("a client ended early: {ended:?}");
            }
            self.clients
                .iter()
                .zip(&goals)
                .all(|(client, goal)| count(client) >= *goal)
        })
    }

    /// Lets every client end after its answer; the number of answers, and what failed.
    pub async fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, SeqCst);
        let ended = super::within(self.tasks.join_all()).await;
        let answers = self.clients.iter().map(|client| client.load(SeqCst));
        (
            answers.sum(),
            ended.into_iter().filter_map(Result::err).collect(),
        )
    }
}

impl Client {
    fn is_stopped(&self) -> bool {
        self.stop.load(SeqCst)
    }

    async fn http1(self) -> Result<(), String> {
        for place in &self.places {
            let mut connection = http1(*place).await;
            let mut told = false;
            while !told {
                if self.is_stopped() {
                    return Ok(());
                }
                let ready = connection.ready().await;
                ready.map_err(|error| format!("closed without a word: {error}"))?;
                let request = Request::get(self.path).header("host", "gateway.test");
                let request = request.body(empty()).expect("a request");
                let answer = connection.send_request(request).await;
                let answer = answer.map_err(|error| format!("no answer: {error:?}"))?;
                told = answer
                    .headers()
                    .get("connection")
                    .is_some_and(|it| it == "close");
                self.read(answer).await?;
            }
        }
        Err("sent away and nowhere to go".to_owned())
    }

    async fn http2(self, first: SendRequest<BoxBody>) -> Result<(), String> {
        let mut connection = first;
        let mut places = self.places.iter().skip(1);
        while !self.is_stopped() {
            match self.ask(&mut connection).await {
                Ok(()) => {}
                Err(Unanswered::Failed(error)) => return Err(error),
                Err(Unanswered::Unsent) => {
                    let next = places.next().ok_or("sent away and nowhere to go")?;
                    connection = http2(*next).await;
                }
            }
        }
        Ok(())
    }

    async fn ask(&self, connection: &mut SendRequest<BoxBody>) -> Result<(), Unanswered> {
        let ready = connection.ready().await;
        ready.map_err(|_| Unanswered::Unsent)?;
        let request = super::request("GET", self.path).body(empty());
        let sent = connection.try_send_request(request.expect("a request"));
        let answer = sent.await.map_err(|mut error| match error.take_message() {
            Some(_) => Unanswered::Unsent,
            None => unanswered(&error.into_error()),
        })?;
        self.read(answer).await.map_err(Unanswered::Failed)
    }

    async fn read(&self, answer: http::Response<Incoming>) -> Result<(), String> {
        let status = answer.status();
        let body = answer.into_body().collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error:?}"))?;
        if status != StatusCode::OK {
            return Err(format!("{status}: {:?}", body.to_bytes()));
        }
        self.answered.fetch_add(1, SeqCst);
        Ok(())
    }
}

/// A client may repeat what a GOAWAY says was not served (RFC 9113 6.8). h2 says the same of a
/// stream that breaks off behind a GOAWAY, so a test that drains also compares the clients' answers
/// with the log.
fn unanswered(error: &hyper::Error) -> Unanswered {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    match cause {
        Some(cause) if cause.is_go_away() && cause.reason() == Some(h2::Reason::NO_ERROR) => {
            Unanswered::Unsent
        }
        _ => Unanswered::Failed(format!("no answer: {error:?}")),
    }
}
