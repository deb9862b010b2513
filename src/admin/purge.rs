//! `/api/cache` and `/api/cache/purges`: what the cache holds, and what is to go.

use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::Refusal;
use crate::exchange::host;

/// What the cache holds and how it serves.
#[derive(Clone, Debug, Serialize)]
pub struct CacheState {
    /// Bytes that stored answers, fetches under way and the bookkeeping may take.
    pub memory_limit: u64,
    /// Bytes that they take.
    pub memory_used: u64,
    /// URLs of which answers are stored.
    pub objects: u64,
    /// URLs that had to make room for others.
    pub evictions: u64,
    /// Fetches under way.
    pub fetches: u64,
    /// Prefixes that were purged and are still looked at.
    pub bans: u64,
    /// Requests that were answered without asking the upstream first, of all that were looked up;
    /// `null` before the first.
    pub hit_ratio: Option<f64>,
    /// The answers that gateways share, where they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<SecondTierState>,
    /// What became of the requests of each route.
    pub routes: Vec<CacheRouteState>,
}

/// How the answers in Redis serve.
#[derive(Clone, Debug, Serialize)]
pub struct SecondTierState {
    /// Looks that found an answer.
    pub hits: u64,
    /// Looks that found none.
    pub misses: u64,
    /// Looks for which Redis had no answer in time, or was away.
    pub away: u64,
    /// Answers that were found there and had been purged.
    pub purged: u64,
    /// What was found there and is none of ours.
    pub invalid: u64,
    /// Hits, of all looks; `null` before the first.
    pub hit_ratio: Option<f64>,
}

/// How far a purge reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// This process.
    Process,
    /// All gateways that share a Redis. Those hear of it in a moment, or when Redis is back.
    Gateways,
}

/// What the cache did with the requests of one route.
#[derive(Clone, Debug, Serialize)]
pub struct CacheRouteState {
    /// The route.
    pub name: String,
    /// Requests by result, and by the detail where there is one.
    pub results: Vec<CacheResult>,
}

/// One of the things that the cache does.
#[derive(Clone, Debug, Serialize)]
pub struct CacheResult {
    /// `hit`, `miss` and so on.
    pub result: &'static str,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'static str>,
    /// How often.
    pub requests: u64,
}

/// What is to be purged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// What.
    pub aims: Vec<PurgeAim>,
    /// Whether it only becomes stale.
    pub soft: bool,
}

/// What one part of a purge is aimed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeAim {
    /// The answers of one URL: its host in lower case, and path with query.
    Url(String, String),
    /// What lies below a path, at one host or at any.
    Prefix(Option<String>, String),
    /// All of one host, at one of its ports or at all of them.
    Host(String),
    /// All that one route stored.
    Route(String),
    /// All with one tag.
    Tag(String),
    /// Everything.
    Everything,
}

impl Purge {
    /// Reads `{ "url": "...", "soft": true }` and the like.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::purge(&format!("the body is not JSON: {error}")))?;
        let Value::Object(keys) = value else {
            return Err(Refusal::purge("the body must be an object"));
        };
        read(&keys).map_err(|fault| Refusal::purge(&fault))
    }
}

fn read(keys: &Map<String, Value>) -> Result<Purge, String> {
    let mut purge = Purge {
        aims: Vec::new(),
        soft: false,
    };
    for (key, value) in keys {
        match (key.as_str(), value) {
            ("soft", Value::Bool(soft)) => purge.soft = *soft,
            ("everything", Value::Bool(true)) => purge.aims.push(PurgeAim::Everything),
            ("soft" | "everything", _) => return Err(format!("`{key}` is true or left out")),
            (kind, value) => {
                for text in texts(kind, value)? {
                    purge.aims.push(aim(kind, text)?);
                }
            }
        }
    }
    match purge.aims.len() {
        0 => Err(format!("nothing is to be purged: give one of {KINDS}")),
        1..=MOST_AIMS => Ok(purge),
        _ => Err(format!("{MOST_AIMS} at once are the most")),
    }
}

/// One text or a list of them.
fn texts<'a>(kind: &str, value: &'a Value) -> Result<Vec<&'a str>, String> {
    let all = match value {
        Value::String(text) => Some(vec![text.as_str()]),
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        _ => None,
    };
    all.ok_or_else(|| format!("`{kind}` is a text or a list of texts"))
}

fn aim(kind: &str, text: &str) -> Result<PurgeAim, String> {
    if text.is_empty() {
        return Err(format!("`{kind}` is empty"));
    }
    Ok(match kind {
        "url" => {
            let (host, target) = url(text)?;
            PurgeAim::Url(host, target)
        }
        "prefix" if text.starts_with('/') => PurgeAim::Prefix(None, text.to_owned()),
        "prefix" => {
            let (host, path) = url(text)?;
            PurgeAim::Prefix(Some(host), path)
        }
        "host" => PurgeAim::Host(host(text)),
        "route" => PurgeAim::Route(text.to_owned()),
        "tag" => PurgeAim::Tag(text.to_owned()),
        other => return Err(format!("`{other}` can't be purged by: give one of {KINDS}")),
    })
}

/// A host in the form in which it is a key. No key has the port that is a scheme's own; which scheme is not said
/// here, so with one of these all of the host is meant.
fn host(text: &str) -> String {
    let host = host::plain(text);
    let name = OWN_PORTS.iter().find_map(|port| host.strip_suffix(*port));
    name.unwrap_or(&host).to_ascii_lowercase()
}

/// The host and the target of a URL, in the form in which they are keys.
fn url(text: &str) -> Result<(String, String), String> {
    let fault = || format!("`{text}` is not a URL such as https://api.example.com/items?page=2");
    let uri: http::Uri = text.parse().map_err(|_| fault())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(fault());
    };
    let port = if scheme == "https" { ":443" } else { ":80" };
    let host = host::plain(authority.as_str());
    let host = host.strip_suffix(port).unwrap_or(&host).to_owned();
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    Ok((host, target.to_owned()))
}

/// Of http and https.
const OWN_PORTS: [&str; 2] = [":80", ":443"];
const KINDS: &str = "url, prefix, host, route, tag, everything";
const MOST_AIMS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(body: &str) -> String {
        let keys: Value = serde_json::from_str(body).unwrap();
        read(keys.as_object().unwrap()).unwrap_err()
    }

    #[test]
    fn a_purge_names_what_goes() {
        let purge = |body: &str| Purge::read(body.as_bytes()).unwrap();
        assert_eq!(
            purge(r#"{"url": "https://API.example.com:443/a?b", "soft": true}"#),
            Purge {
                aims: vec![PurgeAim::Url("api.example.com".into(), "/a?b".into())],
                soft: true,
            }
        );
        let many = purge(r#"{"tag": ["a", "b"], "prefix": ["/x/", "http://h:8080/y"]}"#);
        assert_eq!(
            many.aims,
            [
                PurgeAim::Prefix(None, "/x/".into()),
                PurgeAim::Prefix(Some("h:8080".into()), "/y".into()),
                PurgeAim::Tag("a".into()),
                PurgeAim::Tag("b".into()),
            ]
        );
        assert_eq!(
            purge(r#"{"everything": true}"#).aims,
            [PurgeAim::Everything]
        );
    }

    #[test]
    fn a_host_is_taken_as_its_answers_are_kept() {
        for (told, host) in [
            ("API.example.com.", "api.example.com"),
            ("api.example.com:443", "api.example.com"),
            ("api.example.com:080", "api.example.com"),
            ("api.example.com:8080", "api.example.com:8080"),
            ("[0:0::1]:80", "[::1]"),
            ("[::80]", "[::80]"),
        ] {
            assert_eq!(aim("host", told), Ok(PurgeAim::Host(host.into())), "{told}");
        }
    }

    #[test]
    fn what_is_no_purge_is_refused_with_what_is_wrong() {
        assert!(fault("{}").contains("nothing is to be purged"));
        assert!(fault(r#"{"everything": false}"#).contains("true or left out"));
        assert!(fault(r#"{"tags": "a"}"#).contains("`tags` can't be purged by"));
        assert!(fault(r#"{"url": "/a"}"#).contains("is not a URL"));
        assert!(fault(r#"{"host": ""}"#).contains("empty"));
        assert!(fault(r#"{"tag": 7}"#).contains("a text or a list"));
        assert!(Purge::read(b"[]").is_err());
        assert!(Purge::read(b"{").is_err());
    }
}
