//! Reloads: what changes, what must not, and what a bad file does.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use crate::support::{
    self, Events, FileGateway, Load, Logged, Origin, Raw, Server, Streams, WebSocket, eventually,
    reply, within,
};

/// What no configuration here says otherwise.
const SERVER: &str = r#"
[admin]
listen = "127.0.0.1:0"
[log.access]
file = "${folder}/access.log"
[server]
workers = 2
listen = ["127.0.0.1:0"]
"#;

fn all(url: &str) -> String {
    format!("{SERVER}[routes.all]\nupstream = \"{url}\"\n")
}

async fn get(gateway: &FileGateway, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = Raw::ask(gateway.address(), request).await;
    (answer.status, answer.text().to_owned())
}

#[tokio::test]
async fn a_hundred_reloads_under_load_fail_no_request_and_disturb_no_stream() {
    let origin = Streams::start().await;
    let (url, events_url) = (origin.server.url(), origin.server.url());
    let base = format!(
        "{}[routes.live]\npath = \"/events\"\nupstream = \"{events_url}\"\n",
        all(&url)
    );
    // The other one has a route, an upstream and a listener more, other limits and another log.
    let other = format!(
        "{}{}",
        base.replace(
            "[\"127.0.0.1:0\"]",
            "[\"127.0.0.1:0\", \"unix:${folder}/more.sock\"]"
        )
        .replace("[server]", "sample = 0.5\n[server]"),
        "[routes.more]\npath = \"/more/**\"\nupstream = \"more\"\n\
         [upstreams.more]\nservers = [\"http://127.0.0.1:1\"]\npool_max_idle = 1\n\
         [server.limits]\nkeep_alive = \"60s\"\n",
    );
    let gateway = FileGateway::start(&base);
    let address = gateway.address();
    let mut load = Load::new();
    for _ in 0..4 {
        load.http1(&[address], "/");
    }
    load.http2(&[address], "/", 4).await;
    load.http2(&[address], "/", 4).await;
    let mut socket = WebSocket::connect(address).await;
    let mut events = Events::connect(address, &origin).await;
    load.progress(1).await;

    for turn in 0..100 {
        gateway
            .switch_to(if turn % 2 == 0 { &other } else { &base })
            .await;
        load.progress(1).await;
        socket.echo(&format!("message {turn}")).await;
        events.pass(&format!("data: {turn}\n\n")).await;
    }

    let (answers, failures) = load.stop().await;
    assert_eq!(failures, [""; 0]);
    assert!(answers >= 1_200, "{answers}");
    assert_eq!(
        gateway.series("tollgate_config_generation "),
        Some("101".into())
    );
    let reloads = gateway.series(r#"tollgate_config_reloads_total{result="success"} "#);
    assert_eq!(reloads, Some("100".into()));
    let more = gateway.series(r#"tollgate_requests_in_flight{route="more"}"#);
    assert_eq!(more, None, "the last configuration has no such route");
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_configuration_and_says_why() {
    let gateway = FileGateway::start(&format!(
        "{SERVER}[routes.a]\nrespond = {{ body = \"old\" }}\n"
    ));
    let successful = || gateway.series("tollgate_config_last_reload_successful ");
    assert_eq!(successful(), Some("1".into()));

    gateway.write(&format!(
        "{SERVER}[routes.a]\nrespnd = {{ body = \"new\" }}\n"
    ));
    let (refused, logged) = Logged::during(|| gateway.inner().reload());

    let findings = refused.expect_err("a misspelt key");
    assert!(
        findings.contains("respnd") && findings.contains("gateway.toml:10"),
        "{findings}"
    );
    assert!(
        logged.contains("ERROR") && logged.contains("respnd"),
        "{logged}"
    );
    assert_eq!(get(&gateway, "/").await, (200, "old".into()));
    assert_eq!(successful(), Some("0".into()));
    assert_eq!(
        gateway.series("tollgate_config_generation "),
        Some("1".into())
    );
    let failed = gateway.series(r#"tollgate_config_reloads_total{result="failure"} "#);
    assert_eq!(failed, Some("1".into()));

    gateway
        .switch_to(&format!(
            "{SERVER}[routes.a]\nrespond = {{ body = \"new\" }}\n"
        ))
        .await;
    assert_eq!(get(&gateway, "/").await, (200, "new".into()));
    assert_eq!(successful(), Some("1".into()));
}

#[tokio::test]
async fn what_waits_for_the_next_start_is_told() {
    let route = "[routes.a]\nrespond = { body = \"a\" }\n";
    let gateway = FileGateway::start(&format!("{SERVER}{route}"));
    let changed = SERVER
        .replace("[log.access]", "token = \"hush\"\n[log.access]")
        .replace("access.log", "other.log");
    gateway.write(&format!("{changed}{route}"));
    let (outcome, logged) = Logged::during(|| gateway.inner().reload());
    outcome.expect("a good file");
    for key in ["admin.token", "log.access.file"] {
        assert!(logged.contains(key), "{logged}");
    }
    assert!(!logged.contains("admin.listen"), "{logged}");
    assert!(!logged.contains("hush"), "{logged}");
}

#[tokio::test]
async fn a_file_that_is_gone_is_a_refused_reload() {
    let gateway = FileGateway::start(&format!(
        "{SERVER}[routes.a]\nrespond = {{ body = \"old\" }}\n"
    ));
    std::fs::remove_file(gateway.path("gateway.toml")).expect("it is there");
    let findings = gateway.reload().await.expect_err("no file");
    assert!(findings.contains("gateway.toml"), "{findings}");
    assert_eq!(get(&gateway, "/").await.0, 200);
}

#[tokio::test]
async fn a_changed_route_takes_effect_on_connections_that_are_open() {
    let gateway = FileGateway::start(&format!(
        "{SERVER}[routes.a]\nrespond = {{ body = \"old\" }}\n"
    ));
    let mut client = Raw::connect(gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "old");
    gateway
        .switch_to(&format!(
            "{SERVER}[routes.a]\nrespond = {{ body = \"new\" }}\n"
        ))
        .await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "new");
}

#[tokio::test]
async fn a_request_of_a_removed_route_is_finished() {
    let origin = Streams::start().await;
    let gateway = FileGateway::start(&all(&origin.server.url()));
    let address = gateway.address();
    let request = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    let waiting = tokio::spawn(Raw::ask(address, request));
    let feed = origin.feed().await;
    gateway
        .switch_to(&format!(
            "{SERVER}[routes.b]\nrespond = {{ status = 204 }}\n"
        ))
        .await;
    assert_eq!(get(&gateway, "/").await.0, 204);
    support::release(feed).await;
    assert_eq!(waiting.await.expect("no panic").text(), "waited");
}

#[tokio::test]
async fn a_listener_that_is_added_opens_and_one_that_is_removed_closes() {
    let answer = "[routes.a]\nrespond = { body = \"here\" }\n";
    let both = "[\"127.0.0.1:0\", \"unix:${folder}/more.sock\"]";
    let with = |listen: &str| format!("{}{answer}", SERVER.replace("[\"127.0.0.1:0\"]", listen));
    let gateway = FileGateway::start(&with("[\"127.0.0.1:0\"]"));
    let (tcp, socket) = (gateway.address(), gateway.path("more.sock"));
    let mut client = Raw::connect(tcp).await;

    gateway.switch_to(&with(both)).await;
    let mut unix = UnixStream::connect(&socket).expect("it listens");
    unix.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .expect("it is open");
    let mut answer = String::new();
    unix.read_to_string(&mut answer).expect("it is open");
    assert!(answer.ends_with("here"), "{answer}");
    assert_eq!(gateway.address(), tcp, "the unchanged one keeps its port");

    gateway
        .switch_to(&with("[\"unix:${folder}/more.sock\"]"))
        .await;
    eventually(|| std::net::TcpStream::connect(tcp).is_err()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(
        client.answer().await.text(),
        "here",
        "open connections stay"
    );
    assert!(UnixStream::connect(&socket).is_ok());

    // Its series stay for as long as its connections, and until the next reload.
    let series = format!("tollgate_listener_connections_open{{listener=\"{tcp}\"}}");
    assert!(gateway.series(&series).is_some());
    drop(client);
    eventually(|| gateway.series(&series).as_deref() == Some("0")).await;
    gateway.reload().await.expect("it is valid");
    assert_eq!(gateway.series(&series), None);
}

#[tokio::test]
async fn an_address_that_is_taken_refuses_the_whole_reload() {
    let owner = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = owner.local_addr().expect("an address");
    let gateway = FileGateway::start(&format!(
        "{SERVER}[routes.a]\nrespond = {{ body = \"old\" }}\n"
    ));
    let before = series_names(&gateway);

    let listen = format!("[\"127.0.0.1:0\", \"{taken}\"]");
    gateway.write(&format!(
        "{}[routes.a]\nrespond = {{ body = \"new\" }}\n\
         [routes.b]\npath = \"/b\"\nupstream = \"http://127.0.0.1:1\"\n",
        SERVER.replace("[\"127.0.0.1:0\"]", &listen)
    ));
    let findings = gateway.reload().await.expect_err("it is taken");

    assert!(findings.contains(&taken.to_string()), "{findings}");
    assert_eq!(get(&gateway, "/b").await, (200, "old".into()));
    let appeared: Vec<_> = series_names(&gateway)
        .into_iter()
        .filter(|name| !before.contains(name) && name.contains("_upstream_"))
        .collect();
    assert_eq!(appeared, [""; 0], "what was refused is not shown");
}

fn series_names(gateway: &FileGateway) -> Vec<String> {
    let text = gateway.inner().metrics();
    let names = text.lines().filter_map(|line| line.rsplit_once(' '));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[tokio::test]
async fn an_unchanged_upstream_keeps_its_connections() {
    let origin = Origin::ok().await;
    let one = all(&origin.url()).replace("workers = 2", "workers = 1");
    let gateway = FileGateway::start(&one);
    assert_eq!(get(&gateway, "/").await.0, 200);
    for turn in 0..3 {
        // The route changes, and something else comes and goes.
        gateway.switch_to(&format!("{one}max_body = {turn}\n[upstreams.x]\nservers = [\"http://127.0.0.1:1\"]\n[routes.x]\npath = \"/x\"\nupstream = \"x\"\n")).await;
        assert_eq!(get(&gateway, "/").await.0, 200);
        gateway.switch_to(&one).await;
        assert_eq!(get(&gateway, "/").await.0, 200);
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_server_keeps_its_connections_when_its_upstream_changes() {
    let origin = Origin::ok().await;
    let upstream = |most| {
        format!(
            "{}[routes.all]\nupstream = \"u\"\n[upstreams.u]\nservers = [\"{}\"]\npool_max_idle = {most}\n",
            SERVER.replace("workers = 2", "workers = 1"),
            origin.url()
        )
    };
    let gateway = FileGateway::start(&upstream(1));
    assert_eq!(get(&gateway, "/").await.0, 200);
    gateway.switch_to(&upstream(2)).await;
    assert_eq!(get(&gateway, "/").await.0, 200);
    assert_eq!(origin.connections(), 1);
}

/// A server that is well at first and fails from some moment on.
async fn failing() -> (Server, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let shown = Arc::clone(&well);
    let server = Server::http1(move |request| {
        let well = request.uri().path() != "/health" || shown.load(SeqCst);
        async move {
            let mut response = reply("ok");
            if !well {
                *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        }
    })
    .await;
    (server, well)
}

#[tokio::test]
async fn what_is_known_of_a_servers_health_outlives_a_reload() {
    let (server, well) = failing().await;
    let checked = |more: &str| {
        format!(
            "{SERVER}[routes.all]\nupstream = \"u\"\n[upstreams.u]\nservers = [\"{}\"]\n{more}\
             [upstreams.u.health_check]\npath = \"/health\"\ninterval = \"1h\"\n",
            server.url()
        )
    };
    well.store(false, SeqCst);
    let gateway = FileGateway::start(&checked(""));
    let labels = format!("{{server=\"{}\",upstream=\"u\"}} ", server.url());
    let healthy = || gateway.series(&format!("tollgate_upstream_server_healthy{labels}"));
    eventually(|| healthy() == Some("0".into())).await;
    // Nothing asks again for an hour, so a server that were forgotten would get requests.
    gateway.switch_to(&checked("")).await;
    assert_eq!(healthy(), Some("0".into()));
    assert_eq!(get(&gateway, "/").await.0, 503);
    gateway.switch_to(&checked("pool_max_idle = 3\n")).await;
    assert_eq!(healthy(), Some("0".into()));
    assert_eq!(get(&gateway, "/").await.0, 503);

    // Without a check nothing would ever find it well again.
    let unchecked = checked("").replace(
        "[upstreams.u.health_check]\npath = \"/health\"\ninterval = \"1h\"\n",
        "",
    );
    gateway.switch_to(&unchecked).await;
    assert_eq!(healthy(), Some("1".into()));
    assert_eq!(get(&gateway, "/").await.0, 200);
}

#[tokio::test]
async fn a_refused_reload_does_not_call_a_failing_server_well() {
    let owner = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = owner.local_addr().expect("an address");
    let (server, well) = failing().await;
    well.store(false, SeqCst);
    let upstream = format!(
        "[routes.all]\nupstream = \"u\"\n[upstreams.u]\nservers = [\"{}\"]\n",
        server.url()
    );
    let check = "[upstreams.u.health_check]\npath = \"/health\"\ninterval = \"1h\"\n";
    let gateway = FileGateway::start(&format!("{SERVER}{upstream}{check}"));
    let labels = format!("{{server=\"{}\",upstream=\"u\"}} ", server.url());
    let healthy = || gateway.series(&format!("tollgate_upstream_server_healthy{labels}"));
    eventually(|| healthy() == Some("0".into())).await;
    let listen = format!("[\"127.0.0.1:0\", \"{taken}\"]");
    gateway.write(&format!(
        "{}{upstream}",
        SERVER.replace("[\"127.0.0.1:0\"]", &listen)
    ));
    gateway.reload().await.expect_err("the address is taken");
    assert_eq!(healthy(), Some("0".into()));
}

#[tokio::test]
async fn the_connections_of_a_removed_upstream_are_closed() {
    let (closed, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let closed = closed.clone();
        async move {
            while peer.request().await.is_some() {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .await;
            }
            let _ = closed.send(());
        }
    })
    .await;
    let gateway = FileGateway::start(&all(&origin.url()));
    assert_eq!(get(&gateway, "/").await.0, 200);
    let open = |gateway: &FileGateway| gateway.series("tollgate_upstream_connections_open{");
    assert!(open(&gateway).expect("it is shown").ends_with(" 1"));
    gateway
        .switch_to(&format!(
            "{SERVER}[routes.b]\nrespond = {{ status = 204 }}\n"
        ))
        .await;
    within(seen.recv())
        .await
        .expect("the idle connection is closed");
    assert_eq!(open(&gateway), None);
}

#[tokio::test]
async fn the_series_of_what_is_gone_are_dropped_and_those_of_the_rest_go_on() {
    let origin = Origin::ok().await;
    let two = format!(
        "{}[routes.gone]\npath = \"/gone\"\nupstream = \"http://127.0.0.1:1\"\n",
        all(&origin.url())
    );
    let gateway = FileGateway::start(&two);
    assert_eq!(get(&gateway, "/").await.0, 200);
    assert_eq!(get(&gateway, "/gone").await.0, 502);
    let counted = r#"tollgate_requests_total{method="GET",route="all",status="200"} "#;
    eventually(|| gateway.series(counted) == Some("1".into())).await;
    eventually(|| {
        gateway
            .inner()
            .metrics()
            .contains("route=\"gone\",status=\"502\"")
    })
    .await;

    gateway.switch_to(&all(&origin.url())).await;

    let text = gateway.inner().metrics();
    assert!(
        !text.contains("gone") && !text.contains("127.0.0.1:1\""),
        "{text}"
    );
    assert_eq!(get(&gateway, "/").await.0, 200);
    eventually(|| gateway.series(counted) == Some("2".into())).await;
}

#[tokio::test]
async fn a_reload_by_the_admin_listener_is_the_same_and_tells_its_findings() {
    let gateway = FileGateway::start(&format!(
        "{SERVER}[routes.a]\nrespond = {{ body = \"old\" }}\n"
    ));
    let post = "POST /api/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    gateway.write("nonsense = 1\n");
    let refused = Raw::ask(gateway.admin(), post).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("nonsense"), "{}", refused.text());
    assert_eq!(get(&gateway, "/").await, (200, "old".into()));

    gateway.write(&format!(
        "{SERVER}[routes.a]\nrespond = {{ body = \"new\" }}\n"
    ));
    let taken_over = Raw::ask(gateway.admin(), post).await;
    assert_eq!(taken_over.status, 200, "{}", taken_over.text());
    assert_eq!(get(&gateway, "/").await, (200, "new".into()));
}

/// The route stays as it is in the file, and must not go on with the conditions that others had before.
#[tokio::test]
async fn a_condition_that_another_route_gets_takes_the_odd_names_that_are_read_as_its_field() {
    let origin = Origin::ok().await;
    let before = format!("{}odd_header_names = \"keep\"\n", all(&origin.url()));
    let guarded = "[routes.guarded]\nmatch_headers = { x-version = \"2\" }\nrespond = {}\n";
    let gateway = FileGateway::start(&before);
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx_version: 2\r\n\r\n";
    assert_eq!(Raw::ask(gateway.address(), ask).await.status, 200);
    gateway.switch_to(&format!("{before}{guarded}")).await;
    assert_eq!(Raw::ask(gateway.address(), ask).await.status, 200);
    let requests = origin.requests();
    let said: Vec<_> = requests.iter().map(|it| it.header("x_version")).collect();
    assert_eq!(said, [Some("2"), None]);
}
