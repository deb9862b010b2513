//! So many at a time: a place is free again when the answer ends, or the client has left.

use super::Limited;
use crate::support::{Events, FrameClient, Raw, Streams, WebSocket, eventually, release, within};

fn slots(url: &str, slots: u32) -> Limited {
    Limited::start(&format!(
        "[routes.all]\nupstream = '{url}'\nrate_limits = ['slots']\n\
         [rate_limits.slots]\nkey = 'client_ip'\nquota = {slots}\nalgorithm = 'concurrency'\n"
    ))
}

async fn held(limited: &Limited, keys: f64) {
    eventually(|| {
        limited
            .gateway
            .metric("tollgate_rate_limit_keys", &["limit=\"slots\""])
            == keys
    })
    .await;
}

const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_place_is_free_again_when_the_answer_has_ended() {
    let origin = Streams::start().await;
    let limited = slots(&origin.server.url(), 1);
    let mut client = Raw::connect(limited.gateway.address()).await;
    client.send(WAIT).await;
    let feed = origin.feed().await;
    let refused = limited.get().await;
    assert_eq!(refused.refusal(), (429, "limit.exceeded".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("ratelimit"), Some("\"slots\";r=0"));
    let policy = "\"slots\";q=1;qu=\"concurrent-requests\"";
    assert_eq!(refused.header("ratelimit-policy"), Some(policy));
    release(feed).await;
    assert_eq!(client.answer().await.status, 200);
    held(&limited, 0.0).await;
    assert_eq!(limited.get().await.status, 200);
}

#[tokio::test]
async fn a_place_is_held_while_the_body_streams() {
    let origin = Streams::start().await;
    let limited = slots(&origin.server.url(), 1);
    let mut events = Events::connect(limited.gateway.address(), &origin).await;
    events.pass("data: 1\n\n").await;
    assert_eq!(limited.get().await.status, 429);
    events.pass("data: 2\n\n").await;
    // The client leaves in the middle of the body.
    drop(events);
    held(&limited, 0.0).await;
    assert_eq!(limited.get().await.status, 200);
}

#[tokio::test]
async fn a_place_is_free_again_when_the_client_leaves_before_the_answer() {
    let origin = Streams::start().await;
    let limited = slots(&origin.server.url(), 1);
    let mut client = Raw::connect(limited.gateway.address()).await;
    client.send(WAIT).await;
    let _feed = origin.feed().await;
    held(&limited, 1.0).await;
    client.reset();
    held(&limited, 0.0).await;
    assert_eq!(limited.get().await.status, 200);
}

#[tokio::test]
async fn a_place_is_free_again_when_the_client_leaves_in_the_middle_of_its_upload() {
    let origin = Streams::start().await;
    let limited = slots(&origin.server.url(), 1);
    let mut client = Raw::connect(limited.gateway.address()).await;
    let begun = "POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbegun";
    client.send(begun).await;
    let _feed = origin.feed().await;
    held(&limited, 1.0).await;
    client.reset();
    held(&limited, 0.0).await;
    assert_eq!(limited.get().await.status, 200);
}

#[tokio::test]
async fn a_stream_of_http2_that_is_reset_gives_its_place_back() {
    let origin = Streams::start().await;
    let limited = slots(&origin.server.url(), 1);
    for path in ["/wait", "/events"] {
        let mut client = FrameClient::connect(limited.gateway.address()).await;
        let fields: [(&str, &[u8]); 4] = [
            (":method", b"GET"),
            (":scheme", b"http"),
            (":path", path.as_bytes()),
            (":authority", b"a.test"),
        ];
        client.request(&fields).await;
        let _feed = origin.feed().await;
        held(&limited, 1.0).await;
        assert_eq!(limited.get().await.status, 429, "{path}");
        client.reset(CANCEL).await;
        held(&limited, 0.0).await;
        // The connection goes on.
        client.send(PING, 0, 0, &[0; 8]).await;
        within(async { while client.frame().await.expect("it is open").kind != PING {} }).await;
        assert_eq!(limited.get().await.status, 200, "{path}");
    }
}

/// RFC 9113 7 and 6.7.
const CANCEL: u32 = 8;
const PING: u8 = 6;

#[tokio::test]
async fn an_upgrade_holds_its_place_until_the_tunnel_ends() {
    let origin = Streams::start().await;
    let limited = slots(&origin.server.url(), 1);
    let mut socket = WebSocket::connect(limited.gateway.address()).await;
    socket.echo("one").await;
    assert_eq!(limited.get().await.status, 429);
    socket.echo("two").await;
    drop(socket);
    held(&limited, 0.0).await;
    assert_eq!(limited.get().await.status, 200);
}

#[tokio::test]
async fn a_place_taken_before_another_limit_refuses_is_given_back() {
    let limited = Limited::answering(
        "['slots', 'few']",
        "[rate_limits.slots]\nkey = 'client_ip'\nquota = 1\nalgorithm = 'concurrency'\n\
         [rate_limits.few]\nkey = 'client_ip'\nquota = '2/1h'\n",
    );
    assert_eq!(limited.passed(5, "").await, 2);
    held(&limited, 0.0).await;
}

#[tokio::test]
async fn bodies_and_heads_pass_untouched() {
    let limited = Limited::by("key = 'client_ip'\nquota = 5\nalgorithm = 'concurrency'");
    let answer = limited.get().await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(answer.header("content-length"), Some("2"));
    assert_eq!(answer.header("ratelimit"), Some("\"one\";r=4"));
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut client = Raw::connect(limited.gateway.address()).await;
    client.send(head).await;
    assert_eq!(
        client.answer_to("HEAD").await.header("content-length"),
        Some("2")
    );
    eventually(|| {
        limited
            .gateway
            .metric("tollgate_rate_limit_keys", &["limit=\"one\""])
            == 0.0
    })
    .await;
}
