//! Remote calls over HTTP, told from other requests.

use http::{HeaderMap, HeaderName, Method, header::CONTENT_TYPE};

/// What of a request bears on who may send it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// The method.
    pub method: &'r Method,
    /// The path in its normal form.
    pub path: &'r str,
    /// The header fields.
    pub headers: &'r HeaderMap,
}

impl Asked<'_> {
    /// Whether it is a call of gRPC, gRPC-Web or Connect, as far as its head tells.
    ///
    /// A client chooses what its head tells: who may send a call must be let in on that account
    /// only where nothing else can be meant.
    #[must_use]
    pub fn is_call(&self) -> bool {
        if *self.method != Method::POST {
            return false;
        }
        let mut values = self.headers.get_all(CONTENT_TYPE).iter();
        let (Some(media_type), None) = (values.next(), values.next()) else {
            return false;
        };
        let media_type = media_type.as_bytes();
        let begins = |prefix: &&[u8]| {
            let start = media_type.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        // Connect sends a single message as plain JSON too, and says so in a field of its own.
        MEDIA_TYPES.iter().any(begins) || self.headers.contains_key(CONNECT_PROTOCOL_VERSION)
    }
}

/// `application/grpc-web` begins like gRPC's own.
const MEDIA_TYPES: [&[u8]; 3] = [
    b"application/grpc",
    b"application/connect+",
    b"application/proto",
];
const CONNECT_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn told(method: &Method, fields: &[(&'static str, &'static str)]) -> bool {
        let fields = fields.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let asked = Asked {
            method,
            path: "/",
            headers: &fields.collect(),
        };
        asked.is_call()
    }

    #[test]
    fn calls_are_posts_with_a_media_type_or_a_version_of_their_own() {
        for media_type in [
            "application/grpc",
            "Application/gRPC+proto",
            "application/grpc-web+proto",
            "application/grpc-web-text",
            "application/connect+json",
            "application/proto",
        ] {
            let fields = [("content-type", media_type)];
            assert!(told(&Method::POST, &fields), "{media_type}");
            assert!(!told(&Method::PUT, &fields), "{media_type}");
        }
        let json = ("content-type", "application/json");
        assert!(told(
            &Method::POST,
            &[json, ("connect-protocol-version", "1")]
        ));
        assert!(!told(&Method::POST, &[json]) && !told(&Method::POST, &[]));
    }
}
