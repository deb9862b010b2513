//! `/ws`: a WebSocket (RFC 6455) that says everything back.

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{Body, Request, Response, failure, with_header};

pub(super) fn answer(mut request: Request) -> Response {
    let Some(key) = key(request.headers()) else {
        let message = "This is a WebSocket: send an upgrade.";
        let answer = failure(StatusCode::UPGRADE_REQUIRED, "UPGRADE_REQUIRED", message);
        return switching(answer);
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            echo(upgraded).await;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    with_header(switching(response), header::SEC_WEBSOCKET_ACCEPT, key)
}

/// The answer to the client's key, when the request is a handshake (RFC 6455 section 4.2.1).
fn key(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(header::UPGRADE)?.as_bytes();
    let version = headers.get(header::SEC_WEBSOCKET_VERSION)?.as_bytes();
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
    let handshake = upgrade.eq_ignore_ascii_case(b"websocket") && version == b"13";
    handshake.then(|| HeaderValue::from_str(&derive_accept_key(key)).ok())?
}

fn switching(response: Response) -> Response {
    let response = with_header(
        response,
        header::CONNECTION,
        HeaderValue::from_static("upgrade"),
    );
    with_header(
        response,
        header::UPGRADE,
        HeaderValue::from_static("websocket"),
    )
}

async fn echo(upgraded: Upgraded) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES));
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    while let Some(Ok(message)) = socket.next().await {
        // Pings and closes are answered by the library.
        let is_data = message.is_text() || message.is_binary();
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// The largest message that is taken.
const MESSAGE_BYTES: usize = 64 << 10;
