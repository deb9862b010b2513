//! Upgrades: after a 101 bytes go both ways, and the log waits for the end.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Gateway, Origin, Raw, within};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: echo\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: Echo\r\n\
                      X-A: 1\r\n\r\n";

/// Switches and echoes four bytes at a time; tells when the gateway closes.
async fn echo() -> (Origin, mpsc::UnboundedReceiver<()>) {
    let (told, closed) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let told = told.clone();
        async move {
            peer.request().await;
            // The first bytes of the new protocol may come with the head.
            peer.write(format!("{SWITCH}hello")).await;
            loop {
                let bytes = peer.read(4).await;
                if bytes.len() < 4 || !peer.write(bytes).await {
                    break;
                }
            }
            let _ = told.send(());
        }
    })
    .await;
    (origin, closed)
}

#[tokio::test]
async fn a_web_socket_passes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut socket = tokio_tungstenite::accept_async(stream)
            .await
            .expect("a handshake");
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.expect("an echo");
            }
        }
    });
    let gateway = Gateway::to(&url);
    let url = format!("ws://{}/chat", gateway.address());
    let (mut socket, answer) = within(tokio_tungstenite::connect_async(url))
        .await
        .expect("a handshake");
    assert_eq!(answer.status(), 101);
    assert!(answer.headers().contains_key("x-request-id"));
    for text in ["one", "two", &"x".repeat(100_000)] {
        socket.send(Message::text(text)).await.expect("it is open");
        let echoed = within(socket.next())
            .await
            .expect("a message")
            .expect("whole");
        assert_eq!(echoed, Message::text(text));
    }
    assert!(gateway.log().is_empty(), "it is not over");
    socket.close(None).await.expect("it is open");
    while within(socket.next()).await.is_some() {}
    drop(socket);
    let line = gateway.log_line().await;
    assert_eq!(
        (&line["status"], &line["upgraded"]),
        (&101.into(), &true.into())
    );
    for bytes in ["bytes_in", "bytes_out"] {
        assert!(line[bytes].as_u64() > Some(100_000), "{line:#}");
    }
}

#[tokio::test]
async fn a_tunnel_is_logged_when_it_ends_with_its_bytes() {
    let (origin, mut closed) = echo().await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    // Bytes of the new protocol behind the request are the client's risk; they arrive.
    client.send(format!("{ASK}ping")).await;
    let head = client.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    for field in ["connection: upgrade\r\n", "upgrade: echo\r\n", "x-a: 1\r\n"] {
        assert!(head.contains(field), "{head}");
    }
    assert_eq!(client.read(9).await, b"helloping");
    let request = origin.request();
    assert_eq!(request.header("connection"), Some("upgrade"));
    assert_eq!(request.header("upgrade"), Some("echo"));
    client.send("pong").await;
    assert_eq!(client.read(4).await, b"pong");
    assert!(gateway.log().is_empty());
    drop(client);
    within(closed.recv()).await;
    let line = gateway.log_line().await;
    assert_eq!(
        (&line["status"], &line["route"]),
        (&101.into(), &"all".into())
    );
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&8.into(), &13.into()),
        "{line:#}"
    );
    assert_eq!(
        (&line["upgraded"], line.get("complete")),
        (&true.into(), None)
    );
    assert_eq!(gateway.metric("tollgate_requests_in_flight", &[]), 0.0);
}

#[tokio::test]
async fn an_origin_that_ends_a_tunnel_ends_the_clients_side() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.write(format!("{SWITCH}bye")).await;
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(ASK).await;
    client.head().await;
    assert_eq!(client.rest().await, b"bye");
    client.finish().await;
    let line = gateway.log_line().await;
    assert_eq!(line["bytes_out"], 3, "{line:#}");
}

#[tokio::test]
async fn a_client_that_only_ends_its_sending_still_receives() {
    let (told, mut ended) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let told = told.clone();
        async move {
            peer.request().await;
            peer.write(SWITCH).await;
            let all = peer.closed().await;
            let _ = told.send(all);
            peer.write("late").await;
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    client.send(ASK).await;
    client.head().await;
    client.send("all of it").await;
    client.finish().await;
    assert_eq!(within(ended.recv()).await.expect("its end"), b"all of it");
    assert_eq!(client.rest().await, b"late");
    let line = gateway.log_line().await;
    assert_eq!(line.get("complete"), None, "{line:#}");
}

#[tokio::test]
async fn a_silent_tunnel_is_closed() {
    let (origin, mut closed) = echo().await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"{url}\"\ntimeouts = {{ tunnel_idle = \"150ms\" }}"
    ));
    let mut client = Raw::connect(gateway.address()).await;
    client.send(ASK).await;
    client.head().await;
    assert_eq!(client.rest().await, b"hello");
    within(closed.recv()).await;
    let line = gateway.log_line().await;
    assert_eq!(
        (&line["upgraded"], &line["complete"]),
        (&true.into(), &false.into())
    );
    assert_eq!(line["reason"], "tunnel.idle_timeout");
}

#[tokio::test]
async fn a_tunnel_is_closed_when_it_has_lasted_for_as_long_as_it_may_however_busy_it_is() {
    let (origin, mut closed) = echo().await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"{url}\"\ntimeouts = {{ tunnel_lifetime = \"300ms\" }}"
    ));
    let start = Instant::now();
    let mut client = Raw::connect(gateway.address()).await;
    client.send(ASK).await;
    client.head().await;
    let busy = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while client.send("ping").await {
            ticks.tick().await;
        }
    };
    within(busy).await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    within(closed.recv()).await;
    let line = gateway.log_line().await;
    assert_eq!(
        (&line["status"], &line["reason"], &line["complete"]),
        (&101.into(), &"tunnel.lifetime".into(), &false.into())
    );
    assert!(line["bytes_in"].as_u64() >= Some(4), "{line:#}");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let origin = Origin::answering(
        "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: echo/2\r\n\
         Content-Length: 2\r\n\r\nno",
    )
    .await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..2 {
        client.send(ASK).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (426, "no"));
    }
    assert_eq!(gateway.log_lines(2).await[0].get("upgraded"), None);
}

#[tokio::test]
async fn a_route_may_refuse_upgrades() {
    let origin = Origin::ok().await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[routes.all]\nupstream = \"{url}\"\nupgrade = false"
    ));
    assert_eq!(Raw::ask(gateway.address(), ASK).await.text(), "ok");
    let request = origin.request();
    assert_eq!(
        (request.header("upgrade"), request.header("connection")),
        (None, None)
    );
}

#[tokio::test]
async fn a_tunnel_is_not_opened_to_an_h2c_server() {
    let origin = crate::support::Server::h2c(|request| async move {
        assert!(!request.headers().contains_key("upgrade"));
        crate::support::reply("ok")
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    assert_eq!(Raw::ask(gateway.address(), ASK).await.text(), "ok");
}
