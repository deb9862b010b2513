//! What a real browser makes of the gateway's CORS: pages of two origins call it, and tell what they
//! got.
//!
//! It needs Chromium (`scripts/test` installs it where it can; `CHROMIUM` names another one). Without
//! it, or where it does not start, the test is skipped; with `TOLLGATE_BROWSER=required`, as
//! `scripts/test` has it where there is a Chromium, it fails then. The pages say themselves when they
//! are done, so nothing waits for a time to pass.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};

use crate::support::{BoxBody, Gateway, Server, reply};

/// Runs in the page, with `GATEWAY` before it: one call after another, then the report.
const SCRIPT: &str = include_str!("browser/calls.js");

/// What pages tell: that they were loaded, and what their calls came to.
#[derive(Debug)]
enum Told {
    Loaded,
    Done(Value),
}

#[tokio::test]
async fn pages_read_what_their_origin_may_and_nothing_else() {
    let Some(program) = chromium() else {
        return skip("Chromium is not installed: apt-get install chromium");
    };
    let upstream = Server::http1(upstream).await;
    let (teller, mut told) = mpsc::unbounded_channel();
    let friend = page_server(&teller).await;
    let (other_teller, mut other_told) = mpsc::unbounded_channel();
    let stranger = page_server(&other_teller).await;
    let gateway = gateway(&upstream.url(), &friend.url());
    let mut browser = None;
    for (server, told) in [(&friend, &mut told), (&stranger, &mut other_told)] {
        let url = format!("{}/?{}", server.url(), gateway.address());
        // The last one is gone before the next one comes.
        drop(browser.take());
        let running = Browser::open(&program, &url);
        let report = match running.report(told).await {
            Ok(report) => report,
            Err(why) => return skip(&why),
        };
        let expected = if server.url() == friend.url() {
            of_friend()
        } else {
            of_stranger()
        };
        assert_eq!(report, expected, "{report:#}");
        browser = Some(running);
    }
}

/// What the page of an origin that `web` and `session` name gets.
fn of_friend() -> Value {
    json!({
        "plain": "200 cookie= exposed=yes hidden=no",
        "preflighted": "200 cookie=",
        "another_field": "refused",
        "another_method": "refused",
        "credentials_not_allowed": "refused",
        "credentials_allowed": "200 cookie=session=1",
        "credentials_preflighted": "200 cookie=session=1",
        "any_origin": "200 cookie=",
        "any_origin_with_credentials": "refused",
        "no_cors": "refused",
        "refusal_413": "413 request.body_too_large",
        "refusal_405": "405 route.method_not_allowed",
        "refusal_502": "502 upstream.connect_refused",
        "null_origin": "200",
        "null_origin_elsewhere": "refused",
    })
}

fn of_stranger() -> Value {
    let mut expected = of_friend();
    let members = expected.as_object_mut().expect("an object");
    for (name, value) in members {
        if !["any_origin", "null_origin"].contains(&&**name) {
            *value = "refused".into();
        }
    }
    expected
}

fn gateway(upstream: &str, friend: &str) -> Gateway {
    Gateway::start(&format!(
        "[cors.web]
        origins = '{friend}'
        methods = ['GET', 'PUT', 'POST']
        request_headers = ['x-known', 'content-type']
        expose_headers = ['x-exposed']
        [cors.session]
        origins = '{friend}'
        methods = ['PUT']
        credentials = true
        [routes.web]
        path = '/web'
        upstream = '{upstream}'
        max_body = '10B'
        cors = 'web'
        [routes.session]
        path = '/session'
        upstream = '{upstream}'
        cors = 'session'
        [routes.get]
        path = '/get'
        methods = ['GET']
        upstream = '{upstream}'
        cors = 'web'
        [routes.down]
        path = '/down'
        upstream = 'http://127.0.0.1:1'
        cors = 'web'
        [routes.any]
        path = '/any'
        upstream = '{upstream}'
        cors = {{ origins = '*' }}
        [routes.null]
        path = '/null'
        upstream = '{upstream}'
        cors = {{ origins = 'null' }}
        [routes.none]
        path = '/none'
        respond = {{ body = 'no cors' }}"
    ))
}

/// An upstream with CORS of its own, which the gateway has to replace, and a cookie's echo.
async fn upstream(request: Request<Incoming>) -> Response<BoxBody> {
    let cookie = request.headers().get("cookie").cloned();
    let cookie = cookie.as_ref().map_or(&b""[..], |value| value.as_bytes());
    let mut response = reply([b"cookie=", cookie].concat());
    let fields = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("x-exposed", "yes"),
        ("x-hidden", "yes"),
    ];
    for (name, value) in fields {
        response
            .headers_mut()
            .insert(name, http::HeaderValue::from_static(value));
    }
    response
}

/// A page at `/`, which calls the gateway that its query names, and a place for its report.
async fn page_server(teller: &mpsc::UnboundedSender<Told>) -> Server {
    let teller = teller.clone();
    Server::http1(move |request| {
        let teller = teller.clone();
        async move { page(request, &teller).await }
    })
    .await
}

async fn page(
    request: Request<Incoming>,
    teller: &mpsc::UnboundedSender<Told>,
) -> Response<BoxBody> {
    match request.uri().path() {
        "/" => {
            let _ = teller.send(Told::Loaded);
            let gateway = request.uri().query().unwrap_or_default().to_owned();
            let html = format!(
                "<!doctype html><title>calls</title>\
                 <script>const GATEWAY = 'http://{gateway}';\n{SCRIPT}</script>"
            );
            let mut response = reply(html);
            let headers = response.headers_mut();
            headers.insert("content-type", http::HeaderValue::from_static("text/html"));
            // Cookies know no ports: the gateway gets it too.
            headers.insert("set-cookie", http::HeaderValue::from_static("session=1"));
            response
        }
        "/done" => {
            let body = request.into_body().collect().await;
            let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
            let _ = teller.send(Told::Done(
                serde_json::from_slice(&bytes).unwrap_or_default(),
            ));
            reply(Bytes::new())
        }
        _ => reply(Bytes::new()),
    }
}

/// A headless browser with a profile of its own; killed, with its children, when it is dropped.
struct Browser {
    process: Child,
    directory: TempDir,
}

impl Browser {
    fn open(program: &Path, url: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        let errors = File::create(path.join("stderr")).expect("a file");
        let process = Command::new(program)
            .args(FLAGS)
            .arg(format!(
                "--user-data-dir={}",
                path.join("profile").display()
            ))
            .arg(url)
            .env("HOME", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            // A group of its own, to be ended as a whole.
            .process_group(0)
            .spawn()
            .expect("it was found");
        Self { process, directory }
    }

    /// What the page tells; why there is none, when the browser never came so far as to load it.
    async fn report(&self, told: &mut mpsc::UnboundedReceiver<Told>) -> Result<Value, String> {
        let Ok(Some(Told::Loaded)) = timeout(LONGEST_START, told.recv()).await else {
            let errors = std::fs::read_to_string(self.directory.path().join("stderr"));
            return Err(format!(
                "Chromium did not start: {}",
                errors.unwrap_or_default()
            ));
        };
        match timeout(LONGEST_CALLS, told.recv()).await {
            Ok(Some(Told::Done(report))) => Ok(report),
            other => panic!("the page was loaded but did not report: {other:?}"),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

/// A browser on the path, or the one that `CHROMIUM` names.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<_> = std::env::split_paths(&path).collect();
    let known = NAMES
        .iter()
        .flat_map(|name| places.iter().map(move |place| place.join(name)));
    named
        .into_iter()
        .chain(known)
        .find(|program| program.is_file())
}

/// Nobody sees what a test prints that passes: where a browser is known to be there, skipping is failing.
fn skip(why: &str) {
    let required = std::env::var_os("TOLLGATE_BROWSER").is_some_and(|value| value == "required");
    assert!(!required, "the browser test did not run. {why}");
    eprintln!("SKIPPED: the browser test did not run. {why}");
}

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const FLAGS: [&str; 12] = [
    "--headless",
    // As root, and in most containers, it has no sandbox; the pages are our own.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    // Nothing but this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
];
const LONGEST_START: Duration = Duration::from_secs(60);
const LONGEST_CALLS: Duration = Duration::from_secs(60);
