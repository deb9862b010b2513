//! One fetch of an issuer's keys: from a URL, or found by the issuer's metadata (OpenID Connect
//! Discovery 1.0).
//!
//! Everything that comes is capped and judged: the metadata must name the issuer that was asked
//! (section 4.3), and must not lead from `https://` to a place where anybody on the way could give
//! us keys.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header::ACCEPT};
use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::schedule;
use crate::{
    config::KeySet,
    exchange::{SharedSubrequest, SubrequestError, SubrequestLimits},
};

/// Where keys are.
pub(in crate::pipeline::auth) enum KeysAt {
    /// At this URL.
    Url(Box<str>),
    /// Where the metadata of this issuer say.
    Issuer(Box<str>),
}

/// Fetches the keys of one issuer.
pub(in crate::pipeline::auth) struct Fetcher {
    /// The gateway's own client.
    pub(in crate::pipeline::auth) client: SharedSubrequest,
    /// Where the keys are.
    pub(in crate::pipeline::auth) at: KeysAt,
    /// What keys are wanted for.
    pub(in crate::pipeline::auth) algorithms: Vec<Algorithm>,
    /// How long each request may take.
    pub(in crate::pipeline::auth) timeout: Duration,
}

/// What a fetch has brought.
pub(super) struct Fetched {
    /// One key at least.
    pub(super) keys: KeySet,
    /// How long the answer says that it is fresh.
    pub(super) max_age: Option<Duration>,
}

/// Why a fetch brought nothing. It quotes nothing of what came.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}")]
    NoAnswer(#[from] SubrequestError),
    #[error("the answer has the status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the address is not a URL")]
    NoUrl,
    #[error("the answer is no issuer's metadata")]
    NoMetadata,
    #[error("the metadata are those of another issuer")]
    OtherIssuer,
    #[error(
        "the metadata lead to keys that could be forged on the way: their URL must be `https://`"
    )]
    Unsafe,
    #[error("{0}")]
    Keys(String),
    #[error("reading the answer panicked")]
    Panicked,
}

/// What is read of an issuer's metadata.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    /// Fetches the keys.
    pub(super) async fn fetch(&self) -> Result<Fetched, FetchError> {
        let answer = match &self.at {
            KeysAt::Url(url) => self.get(url).await?,
            KeysAt::Issuer(issuer) => {
                let metadata = self.get(&metadata_url(issuer)).await?;
                self.get(&keys_url(issuer, metadata.body())?).await?
            }
        };
        let text = std::str::from_utf8(answer.body());
        let text = text.map_err(|_| FetchError::Keys("this is not JSON".to_owned()))?;
        Ok(Fetched {
            keys: KeySet::from_fetched_jwks(text, &self.algorithms).map_err(FetchError::Keys)?,
            max_age: schedule::max_age(answer.headers()),
        })
    }

    async fn get(&self, url: &str) -> Result<Response<Bytes>, FetchError> {
        let request = Request::get(url).header(ACCEPT, JSON).body(Bytes::new());
        let request = request.map_err(|_| FetchError::NoUrl)?;
        let limits = SubrequestLimits {
            deadline: self.timeout,
            body: MOST_BYTES,
        };
        let answer = self.client.send(request, limits).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            status => Err(FetchError::Status(status)),
        }
    }
}

/// OpenID Connect Discovery 1.0, 4.1: a slash at the issuer's end is taken away first.
fn metadata_url(issuer: &str) -> String {
    let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
    format!("{issuer}/.well-known/openid-configuration")
}

fn keys_url(issuer: &str, metadata: &[u8]) -> Result<String, FetchError> {
    let metadata: Metadata =
        serde_json::from_slice(metadata).map_err(|_| FetchError::NoMetadata)?;
    // 4.3: exactly; any other spelling is another issuer.
    if metadata.issuer != issuer {
        return Err(FetchError::OtherIssuer);
    }
    let is_safe = is_https(&metadata.jwks_uri) || !is_https(issuer);
    match is_safe {
        true => Ok(metadata.jwks_uri),
        false => Err(FetchError::Unsafe),
    }
}

fn is_https(url: &str) -> bool {
    let uri = url.parse::<Uri>();
    uri.is_ok_and(|uri| uri.scheme_str() == Some("https"))
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Of the metadata, and of the keys; with certificate chains a set has some 30 KiB.
const MOST_BYTES: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_of(issuer: &str, named: &str, uri: &str) -> Result<String, FetchError> {
        let metadata = serde_json::json!({ "issuer": named, "jwks_uri": uri, "more": [1] });
        keys_url(issuer, metadata.to_string().as_bytes())
    }

    #[test]
    fn metadata_are_where_discovery_says() {
        let url = "https://id.test/a/.well-known/openid-configuration";
        assert_eq!(metadata_url("https://id.test/a/"), url);
        assert_eq!(metadata_url("https://id.test/a"), url);
    }

    #[test]
    fn metadata_must_name_the_issuer_letter_by_letter() {
        let keys = "https://keys.test/k";
        let issuer = "https://id.test";
        assert_eq!(keys_of(issuer, issuer, keys).unwrap(), keys);
        for other in [
            "https://id.test/",
            "https://ID.test",
            "https://id.test.evil",
        ] {
            let refused = keys_of(issuer, other, keys);
            assert!(matches!(refused, Err(FetchError::OtherIssuer)), "{other}");
        }
        let nothing = keys_url(issuer, b"{}");
        assert!(matches!(nothing, Err(FetchError::NoMetadata)));
    }

    #[test]
    fn a_safe_issuer_does_not_lead_to_keys_in_cleartext() {
        let (safe, local) = ("https://id.test", "http://127.0.0.1:1");
        for uri in ["http://id.test/k", "ftp://id.test/k", "/k", ""] {
            let refused = keys_of(safe, safe, uri);
            assert!(matches!(refused, Err(FetchError::Unsafe)), "{uri}");
        }
        assert!(keys_of(local, local, "http://127.0.0.1:1/k").is_ok());
        assert!(keys_of(local, local, "https://id.test/k").is_ok());
    }
}
