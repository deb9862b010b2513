//! A bug in a middleware is one failed request.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use tollgate::{
    config::{Address, Config, EncodedSlash, OverrideHeaders},
    exchange::{
        BoxFuture, Connection, Context, Handle, OddNames, Reason, Request, Response, RouteService,
    },
    frame::{Frame, Recorder, Route, Snapshot, access_log::LineOptions},
    listener::{Listeners, Observer},
    router::Router,
    telemetry::{AccessLogWriter, Metrics},
};

use crate::support::{Raw, eventually};

struct Faulty;

impl Handle for Faulty {
    fn handle(&self, request: Request, _: &Arc<Context>) -> BoxFuture<Response> {
        let early = request.uri().path() == "/early";
        assert!(!early, "before there is a future");
        Box::pin(async { panic!("inside the future") })
    }
}

struct Silent;

impl Observer for Silent {
    fn opened(&self, _: &str) {}
    fn closed(&self, _: &str) {}
    fn refused(&self, _: &str, _: Reason) {}
    fn malformed(&self, _: &Connection, _: Reason, _: &dyn Display) {}
}

struct Site {
    listeners: Listeners,
    address: SocketAddr,
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.listeners.abort();
    }
}

fn site() -> Site {
    let text = "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n[routes.all]\nrespond = { body = \"\" }";
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access.log");
    let mut config = Config::parse("test.toml", text)
        .expect("it is valid")
        .config;
    config.log.access.file = Some(log.clone());
    let metrics = Metrics::new();
    let writer = AccessLogWriter::start(&config.log.access, 1, metrics.access_log_dropped());
    let options = LineOptions::from(&config.log.access);
    let writer = writer.expect("a log");
    let recorder = Recorder::new(Arc::clone(&metrics), Some(writer), options);
    let router = Router::build(config.routes.iter().map(|route| {
        let faulty = Route {
            name: Arc::clone(&route.name),
            service: RouteService::new(Faulty),
            metrics: metrics.route(&route.name),
            encoded_slash: EncodedSlash::Refuse,
            override_headers: OverrideHeaders::default(),
            odd_names: OddNames::Drop,
            preflights: false,
            decorations: Box::default(),
        };
        (route, Arc::new(faulty))
    }));
    let snapshot = Snapshot::new(&config.server, router, &Arc::default(), "tollgate-test");
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
    let frame = Arc::new(Frame::new(
        snapshot,
        Arc::new(recorder),
        tollgate::exchange::Clock::system(),
    ));
    let listeners = Listeners::start(&config.server, frame, Arc::new(Silent)).expect("it starts");
    let Some(Address::Tcp(address)) = listeners.addresses().pop() else {
        panic!("it listens on TCP");
    };
    Site {
        listeners,
        address,
        log,
        _directory: directory,
    }
}

#[tokio::test]
async fn a_panic_is_answered_logged_and_over() {
    let site = site();
    for (count, path) in ["/early", "/late"].into_iter().enumerate() {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = Raw::ask_and_close(site.address, request).await;
        assert_eq!(
            answer.refusal(),
            (500, "gateway.panic".to_owned()),
            "{path}"
        );
        assert_eq!(answer.json()["error"]["code"], "INTERNAL_ERROR");
        assert!(!answer.text().contains("future"), "{}", answer.text());
        let lines = || std::fs::read_to_string(&site.log).unwrap_or_default();
        eventually(|| lines().lines().count() > count).await;
        let last = lines().lines().last().expect("a line").to_owned();
        let line: serde_json::Value = serde_json::from_str(&last).expect("JSON");
        assert_eq!(line["reason"], "gateway.panic");
        assert_eq!(
            (&line["status"], &line["level"]),
            (&500.into(), &"error".into())
        );
    }
}
