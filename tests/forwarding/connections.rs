//! Connections to the upstream: kept, shared, lost, repeated.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use tokio::sync::{Barrier, mpsc};

use crate::support::{Gateway, Origin, Raw, Server, empty, http2, read, reply, request, within};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

/// Answers the first request of each connection; of those that had one before, it reads the second
/// and closes without a word.
async fn dying_at_reuse() -> Origin {
    Origin::start(|mut peer| async move {
        peer.request().await;
        peer.write(crate::OK).await;
        peer.request().await;
    })
    .await
}

#[tokio::test]
async fn a_request_that_meets_a_dying_connection_is_repeated_once_and_silently() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let origin = dying_at_reuse().await;
        let gateway = Gateway::to(&origin.url());
        assert_eq!(Raw::ask(gateway.address(), crate::GET).await.status, 200);
        let mut client = Raw::connect(gateway.address()).await;
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(client.answer_to(method).await.status, 200, "{method}");
        let lines: Vec<_> = origin.requests().iter().map(|it| it.line.clone()).collect();
        let expected = format!("{method} / HTTP/1.1");
        assert_eq!(lines[1..], [expected.clone(), expected], "{method}");
        let line = gateway.log_lines(2).await.remove(1);
        assert!(line.get("reason").is_none(), "{line:#}");
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_served_is_not_repeated() {
    let put = POST.replace("POST", "PUT");
    let bare = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    for request in [POST.to_owned(), put, bare.to_owned()] {
        let origin = dying_at_reuse().await;
        let gateway = Gateway::to(&origin.url());
        assert_eq!(Raw::ask(gateway.address(), crate::GET).await.status, 200);
        let answer = Raw::ask(gateway.address(), request).await;
        assert_eq!(answer.refusal(), (502, "upstream.closed".to_owned()));
        assert_eq!(origin.requests().len(), 2);
        assert_eq!(origin.connections(), 1);
    }
}

#[tokio::test]
async fn a_new_connection_that_dies_is_not_tried_again() {
    let origin = Origin::start(|mut peer| async move {
        peer.request().await;
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let answer = Raw::ask(gateway.address(), crate::GET).await;
    assert_eq!(answer.refusal(), (502, "upstream.closed".to_owned()));
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_post_takes_a_new_connection_where_the_old_one_has_closed() {
    let (told, mut closed) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let told = told.clone();
        async move {
            peer.request().await;
            peer.write(crate::OK).await;
            drop(peer);
            let _ = told.send(());
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    for _ in 0..20 {
        let answer = Raw::ask(gateway.address(), POST).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        within(closed.recv()).await;
    }
    assert_eq!(origin.requests().len(), 20);
}

#[tokio::test]
async fn gets_survive_a_server_that_closes_behind_each_answer() {
    let origin = Origin::answering_once(crate::OK).await;
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    for count in 0..50 {
        client.send(crate::GET).await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), "ok", "request {count}: {answer:?}");
    }
}

#[tokio::test]
async fn idle_connections_are_kept_up_to_the_cap() {
    let barrier = Arc::new(Barrier::new(4));
    let origin = Server::http1(move |request| {
        let barrier = Arc::clone(&barrier);
        async move {
            if request.uri().path() == "/together" {
                barrier.wait().await;
            }
            reply("ok")
        }
    })
    .await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[upstreams.u]\nservers = [\"{url}\"]\npool_max_idle = 2\n[routes.all]\nupstream = \"u\""
    ));
    let together = "GET /together HTTP/1.1\r\nHost: a\r\n\r\n";
    let asked = (0..4).map(|_| Raw::ask(gateway.address(), together));
    join_all(asked).await;
    assert_eq!(origin.connections(), 4);
    crate::support::eventually(|| gateway.metric("tollgate_upstream_connections_open", &[]) == 2.0)
        .await;
    Raw::ask(gateway.address(), crate::GET).await;
    assert_eq!(origin.connections(), 4);
}

#[tokio::test]
async fn a_hundred_requests_share_few_h2c_connections() {
    let open = Arc::new(AtomicUsize::new(0));
    let barrier = Arc::new(Barrier::new(100));
    let seen = Arc::clone(&open);
    let origin = Server::h2c(move |request| {
        let (barrier, seen) = (Arc::clone(&barrier), Arc::clone(&seen));
        async move {
            assert_eq!(request.version(), http::Version::HTTP_2);
            seen.fetch_add(1, Ordering::SeqCst);
            // All hundred are open at once.
            barrier.wait().await;
            reply("ok")
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let asked = (0..100).map(|_| Raw::ask(gateway.address(), crate::GET));
    let answers = within(join_all(asked)).await;
    assert!(answers.iter().all(|answer| answer.text() == "ok"));
    assert_eq!(open.load(Ordering::SeqCst), 100);
    assert!(origin.connections() <= 2, "{}", origin.connections());
}

#[tokio::test]
async fn more_streams_than_an_h2c_server_takes_go_to_more_connections() {
    let barrier = Arc::new(Barrier::new(40));
    let origin = Server::h2c_with(8, move |_| {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            reply("ok")
        }
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let asked = (0..40).map(|_| Raw::ask(gateway.address(), crate::GET));
    let answers = within(join_all(asked)).await;
    assert!(answers.iter().all(|answer| answer.text() == "ok"));
    assert!(origin.connections() >= 5, "{}", origin.connections());
}

#[tokio::test]
async fn an_h2c_server_that_goes_away_costs_no_request() {
    let origin = Server::h2c(|_| async { reply("one") }).await;
    let address = origin.address();
    let gateway = Gateway::to(&origin.url());
    assert_eq!(Raw::ask(gateway.address(), crate::GET).await.text(), "one");
    origin.stop().await;
    let origin = Server::h2c_at(address, |_| async { reply("two") }).await;
    assert_eq!(Raw::ask(gateway.address(), crate::GET).await.text(), "two");
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn an_h2c_server_sees_the_same_request() {
    let origin = Server::h2c(|request| async move {
        let host = request.uri().authority().map(ToString::to_string);
        assert_eq!(host.as_deref(), Some("a.test"));
        assert_eq!(request.uri().path_and_query().expect("a path"), "/x?y");
        let headers = request.headers();
        assert_eq!(headers["x-a"], "1");
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
        for name in ["connection", "host", "keep-alive", "transfer-encoding"] {
            assert!(!headers.contains_key(name), "{name}");
        }
        reply("ok")
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    let request = "GET /x?y HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive\r\nX-A: 1\r\n\r\n";
    let answer = Raw::ask(gateway.address(), request).await;
    assert_eq!(answer.text(), "ok");
}

#[tokio::test]
async fn an_h2c_server_is_told_a_length_as_one_number() {
    let origin = Server::h2c(|request| async move {
        reply(format!("{:?}", request.headers()["content-length"]))
    })
    .await;
    let gateway = Gateway::to(&origin.url());
    for length in ["5", "005"] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello");
        let answer = Raw::ask(gateway.address(), request).await;
        assert_eq!(answer.text(), "\"5\"", "{length}");
    }
}

#[tokio::test]
async fn a_server_on_a_unix_socket_is_reached() {
    let directory = tempfile::tempdir().expect("a directory");
    let origin = Server::unix(directory.path(), |request| async move {
        reply(format!("{:?}", request.headers()["host"]))
    });
    let gateway = Gateway::to(&origin.url());
    let mut client = Raw::connect(gateway.address()).await;
    for _ in 0..3 {
        client.send(crate::GET).await;
        assert_eq!(client.answer().await.text(), "\"a.test\"");
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(gateway.log_lines(3).await[0]["server"], origin.url());
}

#[tokio::test]
async fn http_1_and_http_2_clients_share_the_connections_to_an_origin() {
    let origin = Server::http1(|_| async { reply("ok") }).await;
    let gateway = Gateway::to(&origin.url());
    let mut client = http2(gateway.address()).await;
    for _ in 0..3 {
        let ask = request("GET", "/").body(empty()).expect("a request");
        let answer = within(client.send_request(ask)).await.expect("a head");
        assert_eq!(read(answer).await.body, "ok");
        assert_eq!(Raw::ask(gateway.address(), crate::GET).await.text(), "ok");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_server_that_speaks_no_http_2_is_bad_gateway_at_once() {
    for answer in ["HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", ""] {
        let origin = Origin::start(move |mut peer| async move {
            peer.head().await;
            peer.write(answer).await;
        })
        .await;
        let gateway = Gateway::to(&origin.url().replace("http", "h2c"));
        let answer = Raw::ask(gateway.address(), crate::GET).await;
        let expected = (502, "upstream.connect_failed".to_owned());
        assert_eq!(answer.refusal(), expected);
    }
}

#[tokio::test]
async fn a_client_that_closes_does_not_cost_the_origins_connection() {
    let origin = Origin::ok().await;
    let gateway = Gateway::to(&origin.url());
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for _ in 0..3 {
        let answer = Raw::ask_and_close(gateway.address(), request).await;
        assert_eq!(answer.text(), "ok");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_connection_past_its_idle_time_is_closed_and_not_used() {
    let (told, mut closed) = mpsc::unbounded_channel();
    let origin = Origin::start(move |mut peer| {
        let told = told.clone();
        async move {
            while peer.request().await.is_some() {
                peer.write(crate::OK).await;
            }
            let _ = told.send(());
        }
    })
    .await;
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "[upstreams.u]\nservers = [\"{url}\"]\npool_idle_timeout = \"100ms\"\n\
         [routes.all]\nupstream = \"u\""
    ));
    assert_eq!(Raw::ask(gateway.address(), crate::GET).await.text(), "ok");
    within(closed.recv()).await;
    assert_eq!(Raw::ask(gateway.address(), crate::GET).await.text(), "ok");
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_server_may_be_known_by_name() {
    let origin = Origin::ok().await;
    // It may stand for `::1` too, where nobody listens.
    let gateway = Gateway::to(&origin.url().replace("127.0.0.1", "localhost"));
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for _ in 0..2 {
        assert_eq!(Raw::ask(gateway.address(), get).await.status, 200);
    }
}
