//! What was tried against the gateway and worked once: each test is the attack in small.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use hyper::body::Frame;
use socket2::{Domain, Socket, Type};

use crate::support::{
    self, FrameClient, Gateway, Origin, Peer, Raw, Server, chunks, empty, eventually, http2, read,
    reply, request, within,
};

// --- framing ---

#[tokio::test]
async fn the_chunked_body_of_a_get_is_not_lost() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let request =
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(Raw::ask(gateway.address(), request).await.status, 200);
    assert_eq!(origin.request().text(), "hello");
}

#[tokio::test]
async fn the_unsized_body_of_a_get_over_http2_is_not_lost() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let (sender, body) = chunks();
    let answer = client.send_request(request("GET", "/").body(body).unwrap());
    sender
        .send(Ok(Frame::data(Bytes::from("hello"))))
        .await
        .unwrap();
    drop(sender);
    assert_eq!(read(within(answer).await.unwrap()).await.status(), 200);
    assert_eq!(origin.request().text(), "hello");
}

#[tokio::test]
async fn two_lengths_over_http2_are_refused_even_when_they_agree() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = FrameClient::connect(gateway.address()).await;
    let fields: [(&str, &[u8]); 6] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", b"/"),
        (":authority", b"a"),
        ("content-length", b"0"),
        ("content-length", b"0"),
    ];
    client.request(&fields).await;
    assert!(client.outcome().await.is_bad_request());
    assert_eq!(
        gateway.log_line().await["reason"],
        "request.framing_invalid"
    );
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn trailers_bring_in_nothing_that_is_refused_as_a_header() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
         Trailer: forwarded, x-real-ip, x-forwarded-port, via, x_user, x-http-method, x-sum\r\n\r\n0\r\n\
         Forwarded: for=192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-Port: 443\r\nVia: 1.1 a\r\n\
         X_User: admin\r\nX-HTTP-Method: DELETE\r\nX-Sum: 7\r\n\r\n";
    assert_eq!(Raw::ask(gateway.address(), request).await.status, 200);
    let trailers = origin.request().trailers;
    assert_eq!(trailers, [("x-sum".to_owned(), "7".to_owned())]);
}

#[tokio::test]
async fn a_reset_does_not_make_an_upload_look_whole() {
    let origin = early().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = FrameClient::connect(gateway.address()).await;
    let fields: [(&str, &[u8]); 4] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", b"/"),
        (":authority", b"a"),
    ];
    client
        .send(HEADERS, END_HEADERS, 1, &support::encode(&fields))
        .await;
    client.send(DATA, 0, 1, b"part").await;
    while within(client.frame()).await.expect("an answer").kind != DATA {}
    client.send(RST_STREAM, 0, 1, &NO_ERROR).await;
    eventually(|| gateway.metric("tollgate_upstream_connections_open", &[]) == 0.0).await;
    eventually(|| origin.received().contains("part")).await;
    let received = origin.received();
    assert!(!received.ends_with("0\r\n\r\n"), "{received}");
}

#[tokio::test]
async fn a_reset_does_not_make_an_answer_look_whole() {
    let origin = Origin::start(|mut peer: Peer| async move {
        peer.read(24).await;
        peer.write(frame(SETTINGS, 0, 0, b"")).await;
        let stream = requested(&mut peer).await;
        // `:status: 200`
        peer.write(frame(HEADERS, END_HEADERS, stream, &[0x88]))
            .await;
        peer.write(frame(DATA, 0, stream, b"part")).await;
        peer.write(frame(RST_STREAM, 0, stream, &NO_ERROR)).await;
        peer.closed().await;
    })
    .await;
    let url = origin.url().replace("http:", "h2c:");
    let gateway = Gateway::to(&url);
    let mut client = Raw::connect(gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let whole = within(client.answer_or_end())
        .await
        .is_some_and(|answer| answer.complete);
    assert!(!whole);
    assert_eq!(gateway.log_line().await["reason"], "upstream.body_cut");
}

/// The stream of the next request.
async fn requested(peer: &mut Peer) -> u32 {
    loop {
        let head = peer.read(9).await;
        peer.read(u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize)
            .await;
        if head[3] == HEADERS {
            return u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short payload")
        .to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const NO_ERROR: [u8; 4] = [0; 4];

// --- limits ---

#[tokio::test]
async fn neither_a_media_type_nor_a_wish_to_switch_lifts_the_body_limit() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[defaults]\nmax_body = \"4B\"\n[routes.all]\nupstream = \"{}\"\n",
        origin.url()
    ));
    for fields in [
        "Content-Type: application/grpc",
        "Content-Type: application/grpcx",
        "Connection: upgrade\r\nUpgrade: websocket",
    ] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\nContent-Length: 5\r\n\r\nhello");
        let answer = Raw::ask(gateway.address(), request).await;
        assert_eq!(answer.refusal(), (413, "request.body_too_large".to_owned()));
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_media_type_does_not_turn_the_refusal_of_a_get_into_a_200() {
    let gateway = Gateway::to("http://127.0.0.1:1");
    for request in [
        "GET /../a HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n\r\n",
        "POST /../a HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n\r\n",
    ] {
        let answer = Raw::ask(gateway.address(), request).await;
        assert_eq!(answer.refusal(), (400, "request.target_invalid".to_owned()));
    }
}

#[tokio::test]
async fn a_refused_grpc_call_is_not_for_caches() {
    let gateway = Gateway::to("http://127.0.0.1:1");
    let mut client = http2(gateway.address()).await;
    let call = request("POST", "/a.B/C").header("content-type", "application/grpc+proto");
    let answer = client.send_request(call.body(empty()).unwrap());
    let answer = read(within(answer).await.unwrap()).await;
    assert_eq!(
        (answer.status(), answer.header("grpc-status")),
        (200, Some("14"))
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    // The status is the one that was sent, but the failure does not go unnoticed.
    let line = gateway.log_line().await;
    assert_eq!(line["status"], 200);
    assert_eq!(line["level"], "error");
    assert_eq!(line["reason"], "upstream.connect_refused");
    let reason = ["reason=\"upstream.connect_refused\""];
    assert_eq!(gateway.metric("tollgate_rejections_total", &reason), 1.0);
}

#[tokio::test]
async fn fields_are_counted_over_http2_too() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let many = (0..101).fold(request("GET", "/"), |it, _| it.header("x-a", "1"));
    let answer = within(client.send_request(many.body(empty()).unwrap())).await;
    let answer = read(answer.unwrap()).await;
    assert_eq!(
        (answer.status(), &*answer.reason()),
        (431, "http.head_too_large")
    );
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn crumbs_of_a_cookie_count_as_one_field() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    let crumbs = (0..150).fold(request("GET", "/"), |it, n| {
        it.header("cookie", format!("c{n}="))
    });
    let answer = within(client.send_request(crumbs.body(empty()).unwrap())).await;
    assert_eq!(read(answer.unwrap()).await.status(), 200);
    let expected: Vec<_> = (0..150).map(|n| format!("c{n}=")).collect();
    assert_eq!(
        origin.request().header("cookie"),
        Some(&*expected.join("; "))
    );
}

/// An origin that answers as soon as it has a head, and reads what comes behind it.
async fn early() -> Origin {
    Origin::start(|mut peer: Peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        peer.closed().await;
    })
    .await
}

#[tokio::test]
async fn a_body_that_goes_on_behind_an_early_answer_keeps_its_place() {
    let origin = early().await;
    let gateway = Gateway::start(&format!(
        "[upstreams.u]\nservers = [\"{}\"]\nmax_in_flight = 1\n[routes.all]\nupstream = \"u\"\n",
        origin.url()
    ));
    let mut first = Raw::connect(gateway.address()).await;
    first
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        .await;
    assert_eq!(first.answer().await.status, 200);
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let second = Raw::ask(gateway.address(), get).await;
    assert_eq!(second.refusal(), (503, "upstream.overloaded".to_owned()));
    first.send(" done").await;
    let gone = || gateway.metric("tollgate_upstream_connections_open", &[]) == 0.0;
    eventually(gone).await;
    assert_eq!(Raw::ask(gateway.address(), get).await.status, 200);
}

#[tokio::test]
async fn a_body_behind_an_early_answer_holds_its_connection_no_longer_than_a_head() {
    let origin = early().await;
    let gateway = Gateway::start(&format!(
        "[server.limits]\nheader_timeout = \"100ms\"\n[routes.all]\nupstream = \"{}\"\n",
        origin.url()
    ));
    let mut client = Raw::connect(gateway.address()).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        .await;
    assert_eq!(client.answer().await.status, 200);
    client.send("more").await;
    assert!(within(client.answer_or_end()).await.is_none());
    let reason = ["reason=\"http.header_timeout\""];
    let late = || gateway.metric("tollgate_malformed_requests_total", &reason);
    eventually(|| late() == 1.0).await;
    // And the half-sent request is given up.
    eventually(|| gateway.metric("tollgate_upstream_connections_open", &[]) == 0.0).await;
}

/// A stream is in use until both of its sides have ended. Requests beyond the server's limit would
/// wait inside hyper for those that it does not read.
#[tokio::test]
async fn an_upload_behind_an_early_answer_is_still_one_of_the_streams_of_its_h2c_connection() {
    let origin = Origin::start(|mut peer: Peer| async move {
        peer.read(24).await;
        // SETTINGS_MAX_CONCURRENT_STREAMS 1
        peer.write(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1])).await;
        let stream = requested(&mut peer).await;
        // `:status: 200`
        let whole = END_HEADERS | END_STREAM;
        peer.write(frame(HEADERS, whole, stream, &[0x88])).await;
        peer.closed().await;
    })
    .await;
    let url = origin.url().replace("http:", "h2c:");
    let gateway = Gateway::start(&format!(
        "[server]\nworkers = 1\n[routes.all]\nupstream = \"{url}\"\n"
    ));
    let mut first = Raw::connect(gateway.address()).await;
    first
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        .await;
    assert_eq!(first.answer().await.status, 200);
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(Raw::ask(gateway.address(), get).await.status, 200);
    assert_eq!(origin.connections(), 2);
}

/// An origin that answers at once and then reads nothing more of the upload.
async fn deaf_to_uploads() -> Origin {
    Origin::start(|mut peer: Peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        // It stays open, full as it is.
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn a_server_that_answers_and_never_reads_the_rest_of_an_upload_loses_its_connection() {
    let origin = deaf_to_uploads().await;
    let gateway = Gateway::start(&format!(
        "[server.limits]\nheader_timeout = \"1h\"\nkeep_alive = \"1h\"\n\
         [routes.all]\nupstream = \"{}\"\nmax_body = \"unlimited\"\n\
         [routes.all.timeouts]\nidle = \"200ms\"\n",
        origin.url()
    ));
    let mut client = Raw::connect(gateway.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";
    client.send(head).await;
    assert_eq!(client.answer().await.status, 200);
    let open = || gateway.metric("tollgate_upstream_connections_open", &[]);
    // As much as all the sockets on the way take.
    let upload = tokio::spawn(async move {
        let piece = "x".repeat(64 << 10);
        while client.send(piece.clone()).await {}
    });
    eventually(|| open() == 0.0).await;
    within(upload)
        .await
        .expect("the client's side has ended too");
}

#[tokio::test]
async fn a_switch_whose_request_never_ends_is_given_up() {
    let origin = Origin::start(|mut peer: Peer| async move {
        peer.head().await;
        let switch = "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        peer.write(switch).await;
        peer.closed().await;
    })
    .await;
    let half = "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Content-Length: 9\r\n\r\nhalf";
    for (limits, reason) in [
        ("tunnel_idle = \"100ms\"", "tunnel.idle_timeout"),
        (
            "tunnel_idle = \"off\"\ntunnel_lifetime = \"100ms\"",
            "tunnel.lifetime",
        ),
    ] {
        let gateway = Gateway::start(&format!(
            "[routes.all]\nupstream = \"{}\"\n[routes.all.timeouts]\nidle = \"off\"\n{limits}\n",
            origin.url()
        ));
        let mut client = Raw::connect(gateway.address()).await;
        client.send(half).await;
        assert_eq!(client.answer().await.status, 101);
        let line = gateway.log_line().await;
        assert_eq!(
            (&line["complete"], &line["reason"]),
            (&false.into(), &reason.into())
        );
    }
}

// --- one client at the cost of others ---

#[tokio::test]
async fn requests_to_an_unreachable_h2c_server_do_not_wait_for_each_other() {
    let (address, _full) = unreachable();
    let gateway = Gateway::start(&format!(
        "[upstreams.u]\nservers = [\"h2c://{address}\"]\nconnect_timeout = \"200ms\"\n\
         [routes.all]\nupstream = \"u\"\n"
    ));
    let start = Instant::now();
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let asked = (0..30).map(|_| Raw::ask(gateway.address(), get));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(
            answer.refusal(),
            (504, "upstream.connect_timeout".to_owned())
        );
    }
    // One after the other they took 6 seconds.
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn the_total_time_counts_connecting() {
    let (address, _full) = unreachable();
    for scheme in ["http", "h2c"] {
        let gateway = Gateway::start(&format!(
            "[upstreams.u]\nservers = [\"{scheme}://{address}\"]\nconnect_timeout = \"1h\"\n\
             [routes.all]\nupstream = \"u\"\n[routes.all.timeouts]\ntotal = \"50ms\"\n"
        ));
        let answer = Raw::ask(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(answer.refusal(), (504, "upstream.total_timeout".to_owned()));
    }
}

/// Streams that a client does not read hold no more than their own windows of the connection that
/// they share with everybody else's.
#[tokio::test]
async fn clients_that_do_not_read_starve_nobody_on_a_shared_h2c_connection() {
    let sent = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&sent);
    let origin = Server::h2c(move |request| {
        let count = Arc::clone(&count);
        async move {
            if request.uri().path() != "/big" {
                return reply("small");
            }
            let (sender, body) = chunks();
            tokio::spawn(async move {
                let chunk = Bytes::from_static(&[b'x'; 16 << 10]);
                while sender.send(Ok(Frame::data(chunk.clone()))).await.is_ok() {
                    count.fetch_add(chunk.len(), Ordering::SeqCst);
                }
            });
            Response::new(body)
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut deaf = FrameClient::connect(gateway.address()).await;
    // SETTINGS_INITIAL_WINDOW_SIZE 0
    deaf.send(4, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
    let fields: [(&str, &[u8]); 4] = [
        (":method", b"GET"),
        (":scheme", b"http"),
        (":path", b"/big"),
        (":authority", b"a"),
    ];
    for stream in (1..32).step_by(2) {
        deaf.send(1, 5, stream, &support::encode(&fields)).await;
    }
    // A whole connection's window of old.
    eventually(|| sent.load(Ordering::SeqCst) > 1 << 20).await;
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = Raw::ask(gateway.address(), get).await;
    assert_eq!((answer.status, answer.text()), (200, "small"));
    assert_eq!(origin.connections(), 1, "they do share a connection");
}

#[tokio::test]
async fn a_server_that_sends_interim_answers_without_end_is_cut_off() {
    let origin = Origin::start(|mut peer: Peer| async move {
        peer.head().await;
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1000);
        while peer.write(&interim).await {}
    })
    .await;
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"{}\"\n[routes.all.timeouts]\nresponse = \"off\"\n",
        origin.url()
    ));
    let mut client = Raw::connect(gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut head = client.head().await;
    while head.starts_with("HTTP/1.1 103") {
        head = client.head().await;
    }
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert_eq!(
        gateway.log_line().await["reason"],
        "upstream.protocol_error"
    );
    assert_eq!(origin.connections(), 1, "and not asked again");
}

#[tokio::test]
async fn an_h2c_server_that_sends_interim_answers_without_end_is_cut_off() {
    let origin = Origin::start(|mut peer: Peer| async move {
        peer.read(24).await;
        peer.write(frame(SETTINGS, 0, 0, b"")).await;
        // `:status: 103`, a literal without indexing.
        let stream = requested(&mut peer).await;
        let interim = frame(HEADERS, END_HEADERS, stream, b"\x08\x03103").repeat(1000);
        while peer.write(&interim).await {}
    })
    .await;
    let url = origin.url().replace("http:", "h2c:");
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"{url}\"\n[routes.all.timeouts]\nresponse = \"off\"\n"
    ));
    let answer = Raw::ask(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(
        answer.refusal(),
        (502, "upstream.protocol_error".to_owned())
    );
    assert_eq!(origin.connections(), 1, "and not asked again");
}

#[tokio::test]
async fn floods_of_frames_that_ask_for_nothing_end_the_connection() {
    let gateway = Gateway::to("http://127.0.0.1:1");
    let (priority, ping, window_update) = (2, 6, 8);
    let floods = [
        frame(priority, 0, 1, &[0; 5]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]),
        frame(ping, 0, 0, &[0; 8]),
        frame(window_update, 0, 0, &[0, 0, 0, 1]),
    ];
    for (closed, flood) in (1..).zip(floods) {
        let mut client = FrameClient::connect(gateway.address()).await;
        client.send_raw(&flood.repeat(2000)).await;
        while within(client.frame()).await.is_some() {}
        let reason = ["reason=\"http.malformed\""];
        let count = || gateway.metric("tollgate_malformed_requests_total", &reason);
        eventually(|| count() == f64::from(closed)).await;
    }
}

// --- who is asking, and for what ---

const BEHIND_A_PROXY: &str = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\nforwarded = true\n";

async fn behind_a_proxy(field: &'static [u8]) -> (support::Recorded, serde_json::Value) {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "{BEHIND_A_PROXY}[routes.all]\nupstream = \"{}\"\n",
        origin.url()
    ));
    let request = [b"GET / HTTP/1.1\r\nHost: a\r\n", field, b"\r\n\r\n"].concat();
    assert_eq!(Raw::ask(gateway.address(), request).await.status, 200);
    (origin.request(), gateway.log_line().await)
}

#[tokio::test]
async fn an_odd_byte_does_not_hide_the_hop_that_the_proxy_added() {
    let (_, line) = behind_a_proxy(b"X-Forwarded-For: \xff, 203.0.113.7").await;
    assert_eq!(line["client"], "203.0.113.7");
}

#[tokio::test]
async fn scheme_and_host_of_forwarded_are_believed_of_proxies_only() {
    let field = b"Forwarded: for=192.0.2.9;host=evil.test;proto=https, for=203.0.113.7";
    let (request, line) = behind_a_proxy(field).await;
    assert_eq!(line["client"], "203.0.113.7");
    assert_eq!(request.header("x-forwarded-host"), Some("a"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
}

#[tokio::test]
async fn a_claimed_hop_adds_no_parameters_to_forwarded() {
    let field = b"X-Forwarded-For: 192.0.2.9;host=evil.test;proto=https, 2001:db8::7, 203.0.113.7";
    let (request, _) = behind_a_proxy(field).await;
    assert_eq!(
        request.header("forwarded"),
        Some(
            "for=unknown, for=\"[2001:db8::7]\", for=203.0.113.7, \
             for=127.0.0.1;host=\"a\";proto=http"
        )
    );
}

#[tokio::test]
async fn a_prefix_is_stripped_however_the_client_spells_it() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&format!(
        "[routes.all]\npath = \"/v1:pub/**\"\npath_case = \"insensitive\"\nupstream = \"{}\"\n\
         rewrite = {{ strip_prefix = \"/v1:pub\" }}\n",
        origin.url()
    ));
    for path in ["/v1:pub/a", "/v1%3Apub/a", "/V1:PUB/a", "/V1%3aPub/a"] {
        let get = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(Raw::ask(gateway.address(), get).await.status, 200);
    }
    let requests = origin.requests();
    let targets: Vec<_> = requests.iter().map(support::Recorded::target).collect();
    assert_eq!(targets, ["/a"; 4]);
}

#[tokio::test]
async fn a_password_in_a_host_is_not_logged() {
    let gateway = Gateway::to("http://127.0.0.1:1");
    let get = "GET / HTTP/1.1\r\nHost: joe:secret@a.test\r\n\r\n";
    let answer = Raw::ask(gateway.address(), get).await;
    assert_eq!(answer.refusal(), (400, "request.host_invalid".to_owned()));
    assert_eq!(gateway.log_line().await["host"], "a.test");
}

/// An address where connecting neither works nor fails: its queue is full.
fn unreachable() -> (SocketAddr, (Socket, Vec<TcpStream>)) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("loopback works");
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .expect("loopback works");
    socket.listen(0).expect("loopback works");
    let address = socket
        .local_addr()
        .expect("loopback works")
        .as_socket()
        .expect("loopback works");
    let patience = Duration::from_millis(100);
    let connect = || TcpStream::connect_timeout(&address, patience).ok();
    let waiting = std::iter::from_fn(connect).collect();
    (address, (socket, waiting))
}
