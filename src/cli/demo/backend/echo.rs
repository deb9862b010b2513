//! `/echo`: tells what the backend received, which is how one sees what the gateway sent.

use std::pin::Pin;

use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::{Request, Response, failure, success};

pub(super) async fn answer(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = read(body).await else {
        return failure(
            StatusCode::BAD_REQUEST,
            "VALIDATION_ERROR",
            "The body broke off.",
        );
    };
    let data = json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "version": format!("{:?}", head.version),
        "headers": headers(&head.headers),
        "body": {
            "bytes": body.bytes,
            "start": String::from_utf8_lossy(&body.start),
            "trailers": headers(&body.trailers),
        },
    });
    success(StatusCode::OK, &data)
}

/// What is kept of a body: it is counted to its end, and only its start is held in memory.
#[derive(Default)]
struct Received {
    bytes: u64,
    start: Vec<u8>,
    trailers: HeaderMap,
}

async fn read(body: Incoming) -> Result<Received, hyper::Error> {
    let mut body = Pin::new(Box::new(body));
    let mut received = Received::default();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                received.bytes += data.len() as u64;
                let room = START_BYTES.saturating_sub(received.start.len());
                received.start.extend(data.iter().take(room));
            }
            Err(frame) => received
                .trailers
                .extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok(received)
}

/// Names to values; a name that came more than once has a list.
fn headers(headers: &HeaderMap) -> Value {
    let mut map = Map::new();
    for name in headers.keys() {
        let mut values: Vec<Value> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into())
            .collect();
        let value = match values.len() {
            1 => values.remove(0),
            _ => Value::Array(values),
        };
        map.insert(name.to_string(), value);
    }
    Value::Object(map)
}

/// How much of a body is shown.
const START_BYTES: usize = 4096;
