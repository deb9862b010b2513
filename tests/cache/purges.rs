//! Purges of every kind, by the admin listener and by the command.

use std::{
    process::{Command, Output},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    site::{Site, answer, change_elsewhere, numbered},
    support::{Gateway, Origin, Peer, Raw, empty, eventually, http1, read, within},
};

const GET: &str = "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n";

const ROUTES: &str = "[routes.x]\nupstream = 'ORIGIN'\npath = '/x/**'\ncache = {}\n\
                      [routes.y]\nupstream = 'ORIGIN'\npath = '/y/**'\ncache = {}\n";

/// Two routes; the answers of `/x/1` have the tags `one` and `both`, all others `both`.
async fn site() -> Site {
    Site::configured(ROUTES, |count, seen| {
        let tags = match seen.target.as_str() {
            "/x/1" => "one, both",
            _ => "both",
        };
        let fields = [
            ("cache-control", "max-age=60"),
            ("x-cache-tags", tags),
            ("etag", "\"e\""),
        ];
        match seen.header("if-none-match") {
            Some(_) => answer(304, &fields, ""),
            None => answer(200, &fields, count.to_string()),
        }
    })
    .await
}

/// What is asked for, by host and path; all of it is stored.
const ALL: [(&str, &str); 5] = [
    ("a.test", "/x/1"),
    ("a.test", "/x/1?q"),
    ("a.test", "/x/2"),
    ("b.test", "/x/1"),
    ("a.test", "/y/1"),
];

async fn ask_all(site: &Site) -> Vec<String> {
    let mut bodies = Vec::new();
    for (host, path) in ALL {
        let sent = site.get_with(path, &[("host", host)]).await;
        assert_eq!(
            sent.header("x-cache-tags"),
            None,
            "tags are the upstream's and ours"
        );
        bodies.push(String::from_utf8_lossy(&sent.body).into_owned());
    }
    bodies
}

#[tokio::test]
async fn each_kind_of_purge_forgets_what_it_names() {
    for (purge, gone) in [
        (json!({"url": "http://a.test/x/1"}), &[0][..]),
        (json!({"url": "http://A.TEST:80/x/1?q"}), &[1]),
        (
            json!({"url": ["http://a.test/x/1", "http://b.test/x/1"]}),
            &[0, 3],
        ),
        (json!({"prefix": "/x/"}), &[0, 1, 2, 3]),
        (json!({"prefix": "http://a.test/x/"}), &[0, 1, 2]),
        (json!({"host": "b.test"}), &[3]),
        (json!({"route": "y"}), &[4]),
        (json!({"tag": "one"}), &[0, 3]),
        (json!({"tag": "both"}), &[0, 1, 2, 3, 4]),
        (json!({"everything": true}), &[0, 1, 2, 3, 4]),
        (json!({"tag": "none"}), &[]),
    ] {
        let site = site().await;
        let before = ask_all(&site).await;
        assert_eq!(ask_all(&site).await, before);
        let answer = site.purge(&purge.to_string()).await;
        assert_eq!(answer.status(), 200);
        let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(told["data"]["reach"], "process");
        let after = ask_all(&site).await;
        let changed: Vec<_> = (0..ALL.len())
            .filter(|at| before[*at] != after[*at])
            .collect();
        assert_eq!(changed, gone, "{purge}");
        assert_eq!(ask_all(&site).await, after, "what came since is kept");
    }
}

/// Who asks at a port that is not the scheme's own names it in `Host`.
#[tokio::test]
async fn a_purge_of_a_host_without_a_port_reaches_it_at_every_port() {
    const HOSTS: [&str; 4] = ["a.test", "a.test:8080", "a.test:9090", "[::1]:8080"];
    for (arguments, gone) in [
        (&["--host", "a.test"][..], &[0, 1, 2][..]),
        (&["--host", "A.test.:080", "--soft"], &[0, 1, 2]),
        (&["--host", "a.test:8080"], &[1]),
        (&["--host", "[::1]"], &[3]),
        (&["--host", "test"], &[]),
        (&["--prefix", "http://a.test/x/"], &[0]),
    ] {
        let site = Site::configured(ROUTES, |count, _| {
            numbered(count, &[("cache-control", "max-age=60")])
        })
        .await;
        let ask_all = async || {
            let mut bodies = Vec::new();
            for host in HOSTS {
                bodies.push(site.get_with("/x/1", &[("host", host)]).await.body);
            }
            bodies
        };
        let before = ask_all().await;
        assert_eq!(ask_all().await, before);
        let output = command(&site, arguments).await;
        assert!(output.status.success(), "{output:?}");
        let after = ask_all().await;
        let changed: Vec<_> = (0..HOSTS.len())
            .filter(|at| before[*at] != after[*at])
            .collect();
        assert_eq!(changed, gone, "{arguments:?}");
    }
}

/// However much they were asked for: nobody can have them any more.
#[tokio::test]
async fn variants_that_were_purged_leave_their_room_to_others() {
    const FIELDS: &[(&str, &str)] = &[
        ("cache-control", "max-age=600"),
        ("vary", "accept-encoding"),
    ];
    let site = Site::with("", FIELDS).await;
    let get = async |coding: String| {
        let fields = [("accept-encoding", &*coding)];
        assert_eq!(site.get_with("/a", &fields).await.status(), 200);
    };
    for _ in 0..3 {
        for number in 0..32 {
            get(format!("x{number}")).await;
        }
        site.later(1);
    }
    assert_eq!(site.count(), 32);
    let sent = site.purge(r#"{"url": "http://a.test/a"}"#).await;
    assert_eq!(sent.status(), 200, "{sent:?}");
    site.later(1);
    let new = async || {
        for number in 0..32 {
            get(format!("y{number}")).await;
        }
    };
    new().await;
    new().await;
    assert_eq!(site.count(), 64, "there is room for all of them");
}

/// A purge means what clients ask for, however either of them spells it.
#[tokio::test]
async fn a_purge_reaches_every_spelling_of_what_it_names() {
    for (host, path) in [
        ("a.test", "/x/~1"),
        ("A.test.", "/x/%7E1"),
        ("a.test:080", "/x//./~1"),
        ("a.test.:80", "/y/../x/~1"),
    ] {
        for purge in [
            json!({"url": "http://a.test/x/%7e1"}),
            json!({"url": "http://a.test.:80/x//~1"}),
            json!({"prefix": "/x/%7E"}),
            json!({"prefix": "http://A.test:080//x/~"}),
            json!({"host": "A.TEST."}),
        ] {
            let site = site().await;
            let fields = [("host", host)];
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            for _ in 0..2 {
                assert_eq!(
                    Raw::ask(site.gateway.address(), request.clone())
                        .await
                        .text(),
                    "1"
                );
            }
            site.purge(&purge.to_string()).await;
            let again = Raw::ask(site.gateway.address(), request.clone()).await;
            assert_eq!(again.text(), "2", "{purge} {fields:?} {path}");
        }
    }
}

#[tokio::test]
async fn what_was_purged_is_told_as_if_it_had_never_been_there() {
    for purge in [json!({"route": "x"}), json!({"tag": "one"})] {
        let site = site().await;
        site.get("/x/1").await;
        site.purge(&purge.to_string()).await;
        let sent = site.get("/x/1").await;
        let status = sent.header("cache-status");
        assert_eq!(status, Some("tollgate; fwd=uri-miss; stored"), "{purge}");
    }
}

#[tokio::test]
async fn a_soft_purge_lets_what_is_stored_be_validated_and_stand_in() {
    for purge in [
        json!({"url": "http://a.test/x/1", "soft": true}),
        json!({"prefix": "/x", "soft": true}),
        json!({"tag": "one", "soft": true}),
        json!({"everything": true, "soft": true}),
    ] {
        let site = site().await;
        site.get("/x/1").await;
        site.purge(&purge.to_string()).await;
        let sent = site.get("/x/1").await;
        let status = sent.header("cache-status").expect("a status").to_owned();
        assert_eq!(
            status, "tollgate; fwd=stale; fwd-status=304; stored",
            "{purge}"
        );
        assert_eq!((&*sent.body, site.count()), (&b"1"[..], 2));
        let hit = site.get("/x/1").await;
        assert_eq!(hit.header("cache-status"), Some("tollgate; hit"), "{purge}");
    }
}

#[tokio::test]
async fn a_fetch_under_way_cannot_bring_the_old_answer_back() {
    for purge in [
        json!({"url": "http://a.test/a"}),
        json!({"prefix": "/"}),
        json!({"host": "a.test"}),
        json!({"route": "r"}),
        json!({"tag": "t"}),
        json!({"everything": true}),
    ] {
        let go_on = Arc::new(Semaphore::new(0));
        let waiting = Arc::clone(&go_on);
        let origin = Origin::start(move |mut peer: Peer| {
            let waiting = Arc::clone(&waiting);
            async move {
                while peer.request().await.is_some() {
                    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\
                                Surrogate-Key: t u\r\nContent-Length: 3\r\n\r\n";
                    peer.write(head).await;
                    waiting.acquire().await.expect("open").forget();
                    peer.write("old").await;
                }
            }
        })
        .await;
        let text = format!("[routes.r]\nupstream = '{}'\ncache = {{}}\n", origin.url());
        let gateway = Gateway::start(&text);
        let mut first = Raw::connect(gateway.address()).await;
        first.send(GET).await;
        eventually(|| origin.requests().len() == 1).await;
        post(&gateway, &purge).await;
        // Who asks now is not given what began before.
        let mut second = Raw::connect(gateway.address()).await;
        second.send(GET).await;
        eventually(|| origin.requests().len() == 2).await;
        go_on.add_permits(1);
        let answer = first.answer().await;
        assert_eq!(answer.text(), "old", "{purge}");
        assert_eq!(answer.header("surrogate-key"), None);
        go_on.add_permits(10);
        second.answer().await;
        Raw::ask(gateway.address(), GET).await;
        assert_eq!(origin.requests().len(), 2, "the second is kept: {purge}");
    }
}

/// Any client may change any number of URLs, and of most of them nothing is stored.
#[tokio::test]
async fn changes_of_urls_of_which_nothing_is_stored_cost_no_answer() {
    let text = "[cache]\nmemory = '1MiB'\nmax_object = '192KiB'\n\
                [routes.c]\nupstream = 'ORIGIN'\npath = '/c/**'\ncache = {}\n\
                [routes.w]\nupstream = 'ORIGIN'\npath = '/w'\n";
    let site = Site::configured(text, |count, seen| match seen.method.as_str() {
        "GET" => numbered(count, &[("cache-control", "max-age=3600")]),
        _ => answer(204, &[], ""),
    })
    .await;
    let paths: Vec<_> = (0..300).map(|number| format!("/c/{number}")).collect();
    for path in &paths {
        site.get(path).await;
    }
    change_elsewhere(&site.gateway, 2_000).await;
    for path in &paths {
        let status = site
            .get(path)
            .await
            .header("cache-status")
            .map(str::to_owned);
        assert_eq!(status.as_deref(), Some("tollgate; hit"), "{path}");
    }
    site.send("POST", "/c/7", &[], empty()).await;
    for path in &paths {
        let hit = site.get(path).await.header("cache-status") == Some("tollgate; hit");
        assert_eq!(hit, path != "/c/7", "{path}");
    }
}

/// Before the head nobody knows the tags of what is under way: who joins in is told when they are
/// known.
#[tokio::test]
async fn who_joins_a_fetch_behind_the_purge_of_its_tag_gets_another() {
    let go_on = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&go_on);
    let origin = Origin::start(move |mut peer: Peer| {
        let waiting = Arc::clone(&waiting);
        async move {
            while peer.request().await.is_some() {
                waiting.acquire().await.expect("open").forget();
                let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\
                            Surrogate-Key: t\r\nContent-Length: 1\r\n\r\n";
                peer.write(format!("{head}{}", peer.index)).await;
            }
        }
    })
    .await;
    let text = format!("[routes.r]\nupstream = '{}'\ncache = {{}}\n", origin.url());
    let gateway = Gateway::start(&text);
    let mut clients = Vec::new();
    for asked in 1..=2 {
        let mut client = Raw::connect(gateway.address()).await;
        client.send(GET).await;
        clients.push(client);
        let in_flight = || gateway.metric("tollgate_requests_in_flight", &[]);
        eventually(|| in_flight() == f64::from(asked)).await;
        eventually(|| !origin.requests().is_empty()).await;
        post(&gateway, &json!({"tag": "t"})).await;
    }
    assert_eq!(origin.requests().len(), 1, "the second waits for the first");
    go_on.add_permits(10);
    assert_eq!(clients[0].answer().await.text(), "0");
    let second = clients[1].answer().await;
    assert_eq!(origin.requests().len(), 2);
    assert_eq!(second.text().len(), 1);
}

/// The upstream can't know that what it says to be right still was purged meanwhile.
#[tokio::test]
async fn a_304_does_not_bring_back_what_was_purged_while_it_was_waited_for() {
    let go_on = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&go_on);
    let origin = Origin::start(move |mut peer: Peer| {
        let waiting = Arc::clone(&waiting);
        async move {
            while let Some(request) = peer.request().await {
                waiting.acquire().await.expect("open").forget();
                let fields = "Cache-Control: max-age=60\r\nETag: \"e\"\r\n";
                let answer = match request.header("if-none-match") {
                    Some(_) => format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"),
                    None => format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 1\r\n\r\nx"),
                };
                peer.write(answer).await;
            }
        }
    })
    .await;
    let text = format!("[routes.r]\nupstream = '{}'\ncache = {{}}\n", origin.url());
    let clock = tollgate::exchange::Clock::movable();
    let gateway = Gateway::start_at(&text, clock.clone());
    go_on.add_permits(1);
    Raw::ask(gateway.address(), GET).await;
    clock.advance(std::time::Duration::from_secs(61));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Raw::connect(gateway.address()).await;
        client.send(GET).await;
        clients.push(client);
    }
    eventually(|| origin.requests().len() == 2).await;
    eventually(|| gateway.metric("tollgate_requests_in_flight", &[]) == 2.0).await;
    post(&gateway, &json!({"url": "http://a.test/a"})).await;
    go_on.add_permits(10);
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "x");
    }
    let requests = origin.requests();
    let last = requests.last().expect("a request");
    assert_eq!(last.header("if-none-match"), None, "{requests:?}");
}

async fn post(gateway: &Gateway, body: &Value) {
    let request = http::Request::post("/api/cache/purges")
        .header("host", "localhost")
        .body(crate::support::full(body.to_string()))
        .expect("a request");
    let mut connection = http1(gateway.admin()).await;
    let answer = within(connection.send_request(request)).await;
    assert_eq!(read(answer.expect("an answer")).await.status(), 200);
}

#[tokio::test]
async fn what_is_no_purge_is_refused_with_the_reason() {
    let site = site().await;
    for (body, reason) in [
        ("{}", "admin.purge_invalid"),
        ("{", "admin.purge_invalid"),
        (r#"{"url": "/x"}"#, "admin.purge_invalid"),
        (r#"{"colour": "red"}"#, "admin.purge_invalid"),
    ] {
        let sent = site.purge(body).await;
        assert_eq!((sent.status(), &*sent.reason()), (400, reason), "{body}");
    }
    let without = Gateway::to("http://127.0.0.1:9");
    let request = http::Request::post("/api/cache/purges").header("host", "localhost");
    let request = request.body(crate::support::full(r#"{"everything": true}"#));
    let mut connection = http1(without.admin()).await;
    let answer = within(connection.send_request(request.expect("a request"))).await;
    let sent = read(answer.expect("an answer")).await;
    assert_eq!((sent.status(), &*sent.reason()), (404, "admin.no_cache"));
}

#[tokio::test]
async fn the_admin_listener_tells_what_the_cache_holds() {
    let site = site().await;
    for path in ["/x/1", "/x/1", "/x/1", "/x/2"] {
        site.get(path).await;
    }
    let request = http::Request::get("/api/cache").header("host", "localhost");
    let mut connection = http1(site.gateway.admin()).await;
    let answer = within(connection.send_request(request.body(empty()).expect("a request"))).await;
    let sent = read(answer.expect("an answer")).await;
    let state: Value = serde_json::from_slice(&sent.body).expect("JSON");
    let state = &state["data"];
    assert_eq!(
        (&state["objects"], &state["hit_ratio"]),
        (&json!(2), &json!(0.5))
    );
    assert_eq!(state["memory_limit"], 256 << 20);
    let results = &state["routes"][0]["results"];
    assert_eq!(results[0], json!({"result": "miss", "requests": 2}));
    assert_eq!(results[1], json!({"result": "hit", "requests": 2}));
}

/// Runs `tollgate purge` against a gateway.
async fn command(site: &Site, arguments: &[&str]) -> Output {
    command_with(site, arguments, None).await
}

/// The same, with a token.
async fn command_with(site: &Site, arguments: &[&str], token: Option<&str>) -> Output {
    let admin = site.gateway.admin().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["purge", "--admin", &admin]).args(arguments);
    command.env_remove(TOKEN);
    command.envs(token.map(|token| (TOKEN, token)));
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.expect("no panic").expect("it runs")
}

#[tokio::test]
async fn the_command_purges_a_running_gateway() {
    for (arguments, purged, gone) in [
        (&["--tag", "one", "--route", "y"][..], 2, &[0, 3, 4][..]),
        (&["--url", "http://a.test/x/1"], 1, &[0]),
        (&["--prefix", "/x/"], 1, &[0, 1, 2, 3]),
        (&["--prefix", "http://a.test/x/"], 1, &[0, 1, 2]),
        (&["--host", "b.test"], 1, &[3]),
        (&["--everything"], 1, &[0, 1, 2, 3, 4]),
        (&["--everything", "--soft"], 1, &[]),
    ] {
        let site = site().await;
        let before = ask_all(&site).await;
        let output = command(&site, arguments).await;
        assert!(output.status.success(), "{output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(told["data"]["purged"], purged, "{arguments:?}");
        assert_eq!(told["data"]["soft"], arguments.contains(&"--soft"));
        let after = ask_all(&site).await;
        let changed: Vec<_> = (0..ALL.len())
            .filter(|at| before[*at] != after[*at])
            .collect();
        assert_eq!(changed, gone, "{arguments:?}");
    }
}

#[tokio::test]
async fn what_the_command_purges_softly_is_validated() {
    for arguments in [
        &["--prefix", "/x/", "--soft"][..],
        &["--host", "a.test", "--soft"],
        &["--url", "http://a.test/x/1", "--soft"],
        &["--route", "x", "--soft"],
        &["--tag", "one", "--soft"],
        &["--everything", "--soft"],
    ] {
        let site = site().await;
        site.get("/x/1").await;
        let output = command(&site, arguments).await;
        assert!(output.status.success(), "{output:?}");
        let sent = site.get("/x/1").await;
        let status = sent.header("cache-status");
        let validated = Some("tollgate; fwd=stale; fwd-status=304; stored");
        assert_eq!(status, validated, "{arguments:?}");
        assert_eq!((&*sent.body, site.count()), (&b"1"[..], 2));
    }
}

#[tokio::test]
async fn the_command_shows_the_admin_token_that_it_was_given() {
    let text = format!("[admin]\ntoken = 's3cret'\n{ROUTES}");
    let site = Site::configured(&text, |count, _| {
        numbered(count, &[("cache-control", "max-age=60")])
    })
    .await;
    assert_eq!(site.get("/x/1").await.body, "1");
    for token in [None, Some("wrong")] {
        let output = command_with(&site, &["--everything"], token).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains("admin.unauthorized"), "{told}");
        assert_eq!(site.get("/x/1").await.body, "1");
    }
    let output = command_with(&site, &["--everything"], Some("s3cret")).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(site.get("/x/1").await.body, "2");
}

const TOKEN: &str = "TOLLGATE_ADMIN_TOKEN";

#[tokio::test]
async fn the_command_tells_what_is_no_purge() {
    let output = command(&site().await, &["--url", "nonsense"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("admin.purge_invalid"));
}
