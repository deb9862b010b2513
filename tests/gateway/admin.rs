//! What the admin listener tells of a gateway with real traffic. How it answers in detail is tested
//! beside it, in `src/admin`.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use http::StatusCode;
use serde_json::Value;

use crate::support::{
    Answer, Gateway, Load, Origin, Raw, Server, Streams, WebSocket, empty, eventually, http2, read,
    release, reply, request, within,
};

async fn admin(gateway: &Gateway, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    Raw::ask(gateway.admin(), request).await
}

async fn state(gateway: &Gateway) -> Value {
    let answer = admin(gateway, "/api/state").await;
    assert_eq!(answer.status, 200);
    let mut envelope = answer.json();
    assert_eq!(envelope["success"], true);
    envelope["data"].take()
}

/// Waits until the state is as wanted.
async fn state_with(gateway: &Gateway, wanted: impl Fn(&Value) -> bool) -> Value {
    within(async {
        loop {
            let state = state(gateway).await;
            if wanted(&state) {
                return state;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A server whose health the test decides.
async fn moody() -> (Server, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let shown = Arc::clone(&well);
    let server = Server::http1(move |_| {
        let well = shown.load(SeqCst);
        async move {
            let mut response = reply("ok");
            if !well {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        }
    })
    .await;
    (server, well)
}

#[tokio::test]
async fn readiness_follows_the_health_of_the_upstreams_and_names_the_server() {
    let (one, one_well) = moody().await;
    let (other, other_well) = moody().await;
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"app\"\n\
         [upstreams.app]\nservers = [\"{}\", \"{}\"]\n\
         [upstreams.app.health_check]\ninterval = \"10ms\"\nfall = 1\nrise = 1\n",
        one.url(),
        other.url()
    ));
    let ready = |status: u16, word: &'static str| {
        let gateway = &gateway;
        within(async move {
            loop {
                let answer = admin(gateway, "/health/ready").await;
                let body = answer.json();
                if (answer.status, &body["status"]) == (status, &word.into()) {
                    return body["checks"]["upstream.app"].clone();
                }
                tokio::task::yield_now().await;
            }
        })
    };
    // Before their first check they are usable, and the status is the same.
    let known = |check: &Value| {
        let health = |origin: &Server| &check["servers"][origin.url()];
        health(&one) == "healthy" && health(&other) == "healthy"
    };
    within(async { while !known(&ready(200, "ok").await) {} }).await;

    one_well.store(false, SeqCst);
    let check = ready(200, "degraded").await;
    assert_eq!(check["servers"][one.url()], "unhealthy", "{check:#}");
    assert_eq!(check["servers"][other.url()], "healthy", "{check:#}");
    for _ in 0..4 {
        assert_eq!(Raw::ask(gateway.address(), ASK).await.status, 200);
    }

    other_well.store(false, SeqCst);
    let check = ready(503, "unavailable").await;
    assert_eq!(check["status"], "unavailable");
    assert_eq!(check["required"], true);
    let refusal = Raw::ask(gateway.address(), ASK).await.refusal();
    assert_eq!(refusal, (503, "upstream.no_healthy_server".into()));
    let alive = admin(&gateway, "/health").await;
    assert_eq!((alive.status, &alive.json()["status"]), (200, &"ok".into()));

    one_well.store(true, SeqCst);
    other_well.store(true, SeqCst);
    ready(200, "ok").await;
    assert_eq!(Raw::ask(gateway.address(), ASK).await.status, 200);
}

#[tokio::test]
async fn an_upstream_that_is_not_required_only_degrades() {
    let (server, well) = moody().await;
    well.store(false, SeqCst);
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"app\"\n[upstreams.app]\nservers = [\"{}\"]\n\
         [upstreams.app.health_check]\ninterval = \"10ms\"\nfall = 1\nrequired = false\n",
        server.url()
    ));
    eventually(|| gateway.metric("tollgate_upstream_server_healthy", &[]) < 1.0).await;
    let answer = admin(&gateway, "/health/ready").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["status"], "degraded");
}

#[tokio::test]
async fn metrics_tell_everything_after_some_traffic() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"app\"\n[upstreams.app]\nservers = [\"{}\"]\n\
         [upstreams.app.health_check]\ninterval = \"1h\"\n\
         [routes.down]\npath = \"/down\"\nupstream = \"http://127.0.0.1:1\"\n",
        origin.url()
    ));
    let address = gateway.address();
    let post = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    assert_eq!(Raw::ask(address, post).await.status, 200);
    assert_eq!(Raw::ask(address, ASK).await.status, 200);
    let down = ASK.replace("GET /", "GET /down");
    assert_eq!(Raw::ask(address, down).await.status, 502);
    assert_eq!(
        Raw::ask(address, "GET / HTTP/1.1\r\nbad header\r\n\r\n")
            .await
            .status,
        400
    );
    gateway.log_lines(3).await;
    eventually(|| gateway.metric("tollgate_malformed_requests_total", &[]) > 0.0).await;
    eventually(|| gateway.metric("tollgate_listener_connections_open", &[]) < 1.0).await;
    // The health check has a connection of its own, for a moment.
    eventually(|| gateway.metric("tollgate_upstream_connections_open", &[]) <= 1.0).await;
    // The figure is taken when the pools are swept.
    eventually(|| gateway.metric("tollgate_upstream_connections_idle", &[]) > 0.0).await;

    let answer = admin(&gateway, "/metrics").await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = answer.text();
    let url = origin.url();
    let server = format!("server=\"{url}\",upstream=\"app\"");
    let listener = format!("listener=\"{address}\"");
    let nobody = "server=\"http://127.0.0.1:1\",upstream=\"http://127.0.0.1:1\"";
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        r#"tollgate_requests_total{method="GET",route="all",status="200"} 1"#.to_owned(),
        r#"tollgate_requests_total{method="POST",route="all",status="200"} 1"#.to_owned(),
        r#"tollgate_requests_total{method="GET",route="down",status="502"} 1"#.to_owned(),
        r#"tollgate_rejections_total{reason="upstream.connect_refused",route="down"} 1"#.to_owned(),
        r#"tollgate_request_duration_seconds_bucket{route="all",le="0.0005"} "#.to_owned(),
        r#"tollgate_request_duration_seconds_bucket{route="all",le="+Inf"} 2"#.to_owned(),
        r#"tollgate_request_duration_seconds_count{route="all"} 2"#.to_owned(),
        r#"tollgate_requests_in_flight{route="all"} 0"#.to_owned(),
        r#"tollgate_request_body_bytes_total{route="all"} 3"#.to_owned(),
        r#"tollgate_response_body_bytes_total{route="all"} 4"#.to_owned(),
        format!("tollgate_upstream_requests_total{{outcome=\"ok\",{server}}} 2"),
        format!("tollgate_upstream_requests_total{{outcome=\"connect_error\",{nobody}}} 1"),
        format!("tollgate_upstream_request_duration_seconds_count{{{server}}} 2"),
        format!("tollgate_upstream_connections_open{{{server}}} 1"),
        format!("tollgate_upstream_connections_idle{{{server}}} 1"),
        format!("tollgate_upstream_connect_errors_total{{{nobody}}} 1"),
        format!("tollgate_upstream_connect_errors_total{{{server}}} 0"),
        format!("tollgate_upstream_body_errors_total{{{server}}} 0"),
        format!("tollgate_upstream_server_healthy{{{server}}} 1"),
        format!("tollgate_listener_connections_accepted_total{{{listener}}} 4"),
        format!("tollgate_listener_connections_open{{{listener}}} 0"),
        format!("tollgate_malformed_requests_total{{{listener},reason=\"http.malformed\"}} 1"),
        "tollgate_access_log_lines_dropped_total 0".to_owned(),
        "tollgate_trailers_dropped_total 0".to_owned(),
        "tollgate_metric_series_overflow_total 0".to_owned(),
        "tollgate_config_generation 1".to_owned(),
        "tollgate_config_last_reload_successful 1".to_owned(),
        format!("tollgate_build_info{{version=\"{version}\"}} 1"),
        "tollgate_uptime_seconds ".to_owned(),
        "process_cpu_seconds_total ".to_owned(),
        "process_resident_memory_bytes ".to_owned(),
        "process_open_fds ".to_owned(),
    ] {
        let there = text.lines().any(|there| match line.ends_with(' ') {
            true => there.starts_with(&line),
            false => there == line,
        });
        assert!(there, "{line} is missing in\n{text}");
    }
    lint(text);
}

/// `scripts/test` sees to it that promtool is there, and sets `TOLLGATE_PROMTOOL=required`; without
/// that, a machine that has none skips this.
fn lint(text: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error) => {
            let required = std::env::var_os("TOLLGATE_PROMTOOL");
            let required = required.is_some_and(|value| value == "required");
            assert!(!required, "promtool can't be run: {error}");
            return;
        }
    };
    let mut input = promtool.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[tokio::test]
async fn labels_come_from_the_configuration_and_never_from_a_request() {
    let gateway =
        Gateway::start("[routes.one]\npath = \"/one/{id}\"\nrespond = { status = 204 }\n");
    for number in 0..20 {
        let ask = format!(
            "BREW{number} /one/{number}?q={number} HTTP/1.1\r\nHost: host-{number}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(Raw::ask(gateway.address(), ask).await.status, 204);
        let ask = ASK.replace(" / ", &format!(" /none/{number} "));
        assert_eq!(Raw::ask(gateway.address(), ask).await.status, 404);
    }
    gateway.log_lines(40).await;
    let text = gateway.inner().metrics();
    let counted: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("tollgate_requests_total{"))
        .collect();
    assert_eq!(
        counted,
        [
            r#"tollgate_requests_total{method="GET",route="_none",status="404"} 20"#,
            r#"tollgate_requests_total{method="OTHER",route="one",status="204"} 20"#,
        ]
    );
}

#[tokio::test]
async fn the_state_shows_what_runs_and_what_is_open() {
    let origin = Streams::start().await;
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"app\"\n[upstreams.app]\nservers = [\"{}\"]\n\
         [routes.here]\nhosts = [\"*.example.com\"]\npath = [\"/a\", \"/b/{{x}}\"]\n\
         methods = [\"GET\", \"PUT\"]\nrespond = {{ status = 204 }}\n",
        origin.server.url()
    ));
    let address = gateway.address();
    let waiting = tokio::spawn(Raw::ask(address, ASK.replace(" / ", " /wait ")));
    let feed = origin.feed().await;
    let mut socket = WebSocket::connect(address).await;
    socket.echo("open").await;

    let state = state(&gateway).await;
    assert_eq!(
        (&state["generation"], &state["draining"]),
        (&1.into(), &false.into())
    );
    assert_eq!(state["connections"], 2, "{state:#}");
    assert_eq!(state["listeners"][0]["address"], address.to_string());
    assert_eq!(state["listeners"][0]["connections"], 2);
    assert_eq!(
        state["workers"],
        serde_json::json!([{ "index": 0, "connections": 2 }])
    );
    let routes = state["routes"].as_array().expect("a list");
    let all = routes
        .iter()
        .find(|route| route["name"] == "all")
        .expect("it is there");
    assert_eq!(all["in_flight"], 2, "{all:#}");
    assert_eq!(all["target"], "upstream app");
    let here = routes
        .iter()
        .find(|route| route["name"] == "here")
        .expect("it is there");
    assert_eq!(here["hosts"], serde_json::json!(["*.example.com"]));
    assert_eq!(here["paths"], serde_json::json!(["/a", "/b/{x}"]));
    assert_eq!(here["methods"], serde_json::json!(["GET", "PUT"]));
    let server = &state["upstreams"][0]["servers"][0];
    assert_eq!(server["name"], origin.server.url());
    assert_eq!(
        (&server["connections"], &server["idle"]),
        (&2.into(), &0.into())
    );

    release(feed).await;
    waiting.await.expect("no panic");
    drop(socket);
    let state = state_with(&gateway, |state| state["connections"] == 0).await;
    assert_eq!(state["routes"][0]["in_flight"], 0, "{state:#}");
}

#[tokio::test]
async fn routes_tell_which_table_their_keys_come_from() {
    let gateway = Gateway::start(
        "[defaults]\nmax_body = '1MiB'\nupgrade = false\n\
         [groups.api]\nmax_body = '2MiB'\nhosts = ['api.example.com']\n\
         [routes.grouped]\ngroup = 'api'\npath = '/x'\nhosts = ['inherit', 'b.example.com']\n\
         respond = {}\n\
         [routes.plain]\nrespond = {}\n",
    );
    let routes = admin(&gateway, "/api/routes").await.json();
    let (grouped, plain) = (&routes["data"][0], &routes["data"][1]);
    assert_eq!(
        (&grouped["group"], &plain["group"]),
        (&"api".into(), &Value::Null)
    );
    assert_eq!(
        grouped["sources"],
        serde_json::json!({
            "hosts": "route",
            "max_body": "group",
            "path": "route",
            "respond": "route",
            "upgrade": "defaults",
        })
    );
    assert_eq!(
        plain["sources"],
        serde_json::json!({ "max_body": "defaults", "respond": "route", "upgrade": "defaults" })
    );
}

#[tokio::test]
async fn long_lived_http2_connections_are_spread_over_all_workers() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[server]\nworkers = 4\n[routes.all]\nupstream = \"{}\"\n",
        origin.url()
    ));
    let loads = |state: &Value| {
        let workers = state["workers"].as_array().expect("a list").iter();
        workers
            .map(|worker| worker["connections"].as_u64().expect("a number"))
            .collect::<Vec<_>>()
    };
    let mut connections = Vec::new();
    for open in 1..=8 {
        let mut connection = http2(gateway.address()).await;
        let asked = request("GET", "/").body(empty()).expect("a request");
        let answer = within(connection.send_request(asked)).await;
        let answer = read(answer.expect("an answer")).await;
        assert_eq!(answer.status(), 200);
        connections.push(connection);
        // Others come and go meanwhile.
        for _ in 0..3 {
            assert_eq!(Raw::ask(gateway.address(), ASK).await.status, 200);
        }
        let state = state_with(&gateway, |state| state["connections"] == open).await;
        match open {
            4 => assert_eq!(loads(&state), [1, 1, 1, 1]),
            8 => assert_eq!(loads(&state), [2, 2, 2, 2]),
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_admin_listener_answers_while_every_worker_is_busy() {
    let gateway = Gateway::start("[routes.all]\nrespond = { body = \"ok\" }\n");
    let mut load = Load::new();
    for _ in 0..16 {
        load.http1(&[gateway.address()], "/");
    }
    load.progress(10).await;
    assert_eq!(admin(&gateway, "/health/ready").await.status, 200);
    assert_eq!(admin(&gateway, "/metrics").await.status, 200);
    assert_eq!(load.stop().await.1, [""; 0]);
}
