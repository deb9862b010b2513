//! How large a request may be and how many may be under way.

use tokio::sync::mpsc;

use crate::support::{
    Gateway, Origin, Raw, Server, body, chunks, eventually, http2, read, reply, request, within,
};

fn small(url: &str) -> Gateway {
    Gateway::start(&format!(
        "[routes.all]\nupstream = \"{url}\"\nmax_body = \"1KiB\""
    ))
}

const TOO_LARGE: (u16, &str) = (413, "request.body_too_large");

#[tokio::test]
async fn a_declared_body_over_the_limit_is_refused_at_once() {
    let origin = Origin::ok().await;
    let gateway = small(&origin.url());
    let fits = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n{}",
        "x".repeat(1024)
    );
    assert_eq!(Raw::ask(gateway.address(), fits).await.status, 200);
    let over = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\nx";
    let answer = Raw::ask_and_close(gateway.address(), over).await;
    assert_eq!(answer.refusal(), (TOO_LARGE.0, TOO_LARGE.1.to_owned()));
    assert_eq!(answer.json()["error"]["details"]["max_bytes"], 1024);
    assert_eq!(answer.json()["error"]["code"], "PAYLOAD_TOO_LARGE");
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_cut_and_refused() {
    let (told, mut outcome) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let told = told.clone();
        async move {
            let _ = told.send(peer.request().await.is_some());
        }
    })
    .await;
    let gateway = small(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head).await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    for _ in 0..3 {
        client.send(&chunk).await;
    }
    let answer = client.answer().await;
    assert_eq!(answer.refusal(), (TOO_LARGE.0, TOO_LARGE.1.to_owned()));
    assert_eq!(
        within(outcome.recv()).await,
        Some(false),
        "{}",
        origin.received()
    );
    assert_eq!(gateway.log_line().await["reason"], TOO_LARGE.1);
}

#[tokio::test]
async fn a_client_that_goes_on_sending_still_reads_its_refusal() {
    let origin = Origin::ok().await;
    let gateway = small(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n";
    client.send(head).await;
    client.send(vec![b'x'; 500_000]).await;
    let answer = client.answer().await;
    assert_eq!(answer.refusal(), (TOO_LARGE.0, TOO_LARGE.1.to_owned()));
}

/// Sends on behind a refusal for as long as it can; tells the status, and how much could be sent.
async fn send_on(gateway: &Gateway, head: &str, chunk: usize) -> (u16, usize) {
    let mut client = Raw::connect(gateway.address()).await;
    client.send(head).await;
    let status = client.answer().await.status;
    let chunk = vec![b'x'; chunk];
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(10));
    let mut sent = 0;
    while client.send(&chunk).await {
        sent += chunk.len();
        ticks.tick().await;
    }
    (status, sent)
}

#[tokio::test]
async fn a_client_that_never_stops_sending_behind_its_refusal_is_let_go() {
    let origin = Origin::ok().await;
    let gateway = small(&origin.url());
    let head = |fields: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 1000000000000\r\n\r\n")
    };
    let (too_large, two_hosts) = (head(""), head("Host: b\r\n"));
    // A byte at a time, and as much as the sockets take.
    let clients = [1, 4 << 20].map(|chunk| {
        let both = [&too_large, &two_hosts].map(|head| send_on(&gateway, head, chunk));
        futures_util::future::join_all(both)
    });
    for both in within(futures_util::future::join_all(clients)).await {
        let statuses: Vec<_> = both.iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses, [413, 400]);
        // What is thrown away, and what the buffers of both sockets hold at the most.
        assert!(both.iter().all(|(_, sent)| *sent < 64 << 20), "{both:?}");
    }
    let open = || gateway.metric("tollgate_listener_connections_open", &[]);
    eventually(|| open() == 0.0).await;
}

#[tokio::test]
async fn bodies_over_http_2_have_the_same_limit() {
    let origin = Server::http1(|request| async {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        reply("ok")
    })
    .await;
    let gateway = small(&origin.url());
    let mut client = http2(gateway.address()).await;
    let declared = request("POST", "/")
        .body(body(vec![b'x'; 1025]))
        .expect("a request");
    let answer = read(within(client.send_request(declared)).await.expect("a head")).await;
    assert_eq!(
        (answer.status(), answer.reason()),
        (TOO_LARGE.0, TOO_LARGE.1.to_owned())
    );
    let (feed, streamed) = chunks();
    let streamed = request("POST", "/").body(streamed).expect("a request");
    let answer = tokio::spawn(client.send_request(streamed));
    while feed
        .send(Ok(hyper::body::Frame::data("0123456789".repeat(20).into())))
        .await
        .is_ok()
    {}
    let answer = read(within(answer).await.expect("no panic").expect("a head")).await;
    assert_eq!(
        (answer.status(), answer.reason()),
        (TOO_LARGE.0, TOO_LARGE.1.to_owned())
    );
}

#[tokio::test]
async fn a_body_is_limited_to_ten_mebibytes_unless_said_otherwise() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let over = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10485761\r\n\r\n";
    let answer = Raw::ask_and_close(gateway.address(), over).await;
    assert_eq!(answer.reason(), "request.body_too_large");
}

#[tokio::test]
async fn a_request_over_max_in_flight_is_refused_and_room_returns_with_the_answers_end() {
    let (told, mut came) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let told = told.clone();
        async move {
            while peer.request().await.is_some() {
                let (go, wait) = tokio::sync::oneshot::channel::<()>();
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
                    .await;
                let _ = told.send(go);
                let _ = wait.await;
                peer.write("lf").await;
            }
        }
    })
    .await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[upstreams.u]\nservers = [\"{url}\"]\nmax_in_flight = 1\n[routes.all]\nupstream = \"u\""
    ));
    let mut first = Raw::connect(gateway.address()).await;
    for _ in 0..3 {
        first.send(crate::GET).await;
        let go = within(came.recv()).await.expect("a request");
        // The head is there, the body is not: it still counts.
        first.head().await;
        let refused = Raw::ask(gateway.address(), crate::GET).await;
        assert_eq!(refused.refusal(), (503, "upstream.overloaded".to_owned()));
        assert_eq!(refused.header("retry-after"), Some("1"));
        go.send(()).expect("it waits");
        assert_eq!(first.read(4).await, b"half");
        // The room has returned when the request is over.
        let in_flight = || gateway.metric("tollgate_requests_in_flight", &[]);
        eventually(|| in_flight() == 0.0).await;
    }
}

#[tokio::test]
async fn a_wish_to_upgrade_does_not_lift_the_limit() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                   Content-Length: 10485761\r\n\r\n";
    let answer = Raw::ask_and_close(gateway.address(), request).await;
    assert_eq!(answer.reason(), "request.body_too_large");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_fault_of_the_clients_body_is_told_as_such_behind_an_h2c_server() {
    let (told, mut ended) = mpsc::unbounded_channel();
    let origin = Server::h2c(move |request| {
        let told = told.clone();
        async move {
            let body = http_body_util::BodyExt::collect(request.into_body()).await;
            let _ = told.send(body.is_ok());
            reply("ok")
        }
    })
    .await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"{url}\"\nmax_body = \"1KiB\"\ntimeouts = {{ idle = \"100ms\" }}"
    ));
    let long = format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(2048));
    for (body, status, reason) in [
        (&*long, 413, "request.body_too_large"),
        ("4\r\nhalf\r\nxyz\r\n", 400, "request.body_invalid"),
        ("4\r\nhalf\r\n", 408, "request.body_timeout"),
    ] {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut client = Raw::connect(gateway.address()).await;
        client.send(format!("{head}{body}")).await;
        let answer = client.answer().await;
        assert_eq!(answer.refusal(), (status, reason.to_owned()));
        assert_eq!(answer.header("connection"), Some("close"), "{reason}");
        assert_eq!(within(ended.recv()).await, Some(false), "{reason}");
    }
}
