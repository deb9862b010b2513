//! One request on a connection of its own, by either protocol.

use std::net::SocketAddr;

use http::Request;

use super::{BoxBody, Sent, http1, http2, read, within};

/// Both protocols that a client may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// HTTP/1.1 and HTTP/2.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// Sends a request with these header fields and reads its answer.
pub async fn ask(
    address: SocketAddr,
    protocol: Protocol,
    (method, path): (&str, &str),
    fields: &[(&str, &str)],
    body: BoxBody,
) -> Sent {
    let builder = match protocol {
        Protocol::Http1 => Request::builder().uri(path).header("host", "gateway.test"),
        Protocol::Http2 => Request::builder().uri(format!("http://gateway.test{path}")),
    };
    let builder = builder.method(method);
    let builder = fields.iter().fold(builder, |builder, (name, value)| {
        builder.header(*name, *value)
    });
    let request = builder.body(body).expect("a request");
    match protocol {
        Protocol::Http1 => {
            let mut connection = http1(address).await;
            let answer = within(connection.send_request(request)).await;
            read(answer.expect("an answer")).await
        }
        Protocol::Http2 => {
            let mut connection = http2(address).await;
            let answer = within(connection.send_request(request)).await;
            read(answer.expect("an answer")).await
        }
    }
}
