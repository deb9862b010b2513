//! `[redis]`: counters and answers that several gateways share.

use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo};

use super::{
    decode::{Flag, Format, Node, OneOrList, OptionOf, Problem, Reader, TableNode, Time, table},
    diagnostic::Finding,
    subrequests::{CaFile, Certificates},
    text::Secret,
};

table! {
    /// `[redis]`: the Redis in which gateways share what they count and store. Whatever says
    /// `store = "redis"` uses it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Redis ["redis", check check_redis] {
        /// `url`: `redis://` or, with TLS, `rediss://`; a list of addresses is a cluster. A user and
        /// a password may stand in it (`redis://user:${env:REDIS_PASSWORD}@host`).
        pub url: Vec<RedisUrl> => OneOrList<UrlFormat> = Vec::new(); "needed",
        /// `timeout`: how long one question to Redis takes at most. Behind it, and while Redis is
        /// away, requests go on without.
        pub timeout: Duration => Time = Duration::from_millis(50),
        /// `prefix`: what all keys begin with. Gateways that share counters have the same.
        pub prefix: String => Prefix = "tollgate:".to_owned(),
        /// `one_key_per_call`: asks about one key at a time, as of a cluster. For a proxy that spreads keys
        /// over several servers by the first key of a call and does not refuse the others: behind it
        /// limits would be counted in several places, and let more through.
        pub one_key_per_call: bool => Flag = false,
        /// `ca_file`: certificates (PEM) that are trusted for `rediss://` in place of the public
        /// ones. Read again by a reload.
        pub ca_file: Option<Certificates> => OptionOf<CaFile> = None; "the public ones",
    }
}

/// The address of a Redis, with its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// The whole URL: a password may stand in it.
    pub url: Secret,
    /// The host, as it may be shown.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The number of the database.
    pub database: i64,
    /// Whether the connection is encrypted: `rediss://`.
    pub tls: bool,
}

impl Redis {
    /// Whether it is a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.url.len() > 1
    }
}

fn check_redis(redis: &Redis, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if !table.has("url") {
        let finding = Finding::error(table.node.key, "`[redis]` has no `url`")
            .help("write for example `url = \"redis://127.0.0.1:6379\"`");
        reader.report(finding);
        return;
    }
    let encrypted = redis.url.iter().filter(|url| url.tls).count();
    if encrypted != 0 && encrypted != redis.url.len() {
        let place = table.value_place("url", reader);
        let finding = Finding::error(place, "`url`: a cluster is encrypted as a whole or not")
            .help("begin all of them with `rediss://`");
        reader.report(finding);
    }
    if redis.is_cluster() && redis.url.iter().any(|url| url.database != 0) {
        let place = table.value_place("url", reader);
        let finding = Finding::error(place, "`url`: a cluster has the database 0 alone")
            .help("leave the number out, and tell gateways apart by their `prefix`");
        reader.report(finding);
    }
    if redis.is_cluster() && redis.one_key_per_call {
        let place = table.value_place("one_key_per_call", reader);
        let finding = Finding::warning(
            place,
            "`one_key_per_call` has no effect: of a cluster each call has the keys of one slot",
        )
        .help("leave it out");
        reader.report(finding);
    }
    if redis.ca_file.is_some() && encrypted == 0 && !redis.url.is_empty() {
        let place = table.value_place("ca_file", reader);
        let finding = Finding::warning(place, "`ca_file` has no effect: nothing is encrypted")
            .help("begin the `url` with `rediss://`");
        reader.report(finding);
    }
}

/// `"redis://127.0.0.1:6379"`.
struct UrlFormat;

impl Format for UrlFormat {
    type Value = RedisUrl;

    fn expected() -> String {
        "a URL such as \"redis://127.0.0.1:6379\"".to_owned()
    }

    fn example() -> String {
        "\"redis://127.0.0.1:6379\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<RedisUrl> {
        reader.parse(node, &Self::expected(), redis_url)
    }
}

/// What it complains of never quotes the text, in which a password may stand.
fn redis_url(text: &str) -> Result<RedisUrl, Problem> {
    let tls = match text.split_once("://") {
        Some(("redis", _)) => false,
        Some(("rediss", _)) => true,
        Some(("redis+sentinel" | "rediss+sentinel", _)) => {
            let help = "name the Redis itself, or the nodes of a cluster";
            return Err(Problem::what("sentinels are not supported").help(help));
        }
        _ => return Err(Problem::what("the scheme is redis:// or rediss://")),
    };
    if text.contains(['?', '#']) {
        let help = "in a password write `?` as %3F and `#` as %23";
        return Err(Problem::what("the URL has no query and no fragment").help(help));
    }
    let info = text.into_connection_info().map_err(|_| Problem::plain())?;
    let (host, port) = match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            (host.clone(), *port)
        }
        _ => return Err(Problem::plain()),
    };
    if host.is_empty() {
        return Err(Problem::what("there is no host"));
    }
    if info.redis_settings().db() < 0 {
        return Err(Problem::what("a database's number is not negative"));
    }
    Ok(RedisUrl {
        host,
        port,
        database: info.redis_settings().db(),
        tls,
        url: Secret::new(text),
    })
}

/// The beginning of keys.
struct Prefix;

impl Format for Prefix {
    type Value = String;

    fn expected() -> String {
        "the beginning of keys such as \"tollgate:\"".to_owned()
    }

    fn example() -> String {
        "\"tollgate:\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        reader.parse(node, &Self::expected(), |text| {
            // Braces would decide on which node of a cluster a key lives.
            let sane = |byte: u8| byte.is_ascii_graphic() && !b"{}".contains(&byte);
            match text.len() <= LONGEST_PREFIX && text.bytes().all(sane) {
                true => Ok(text.to_owned()),
                false => Err(Problem::what(
                    "it has up to 64 printable characters, without spaces and braces",
                )),
            }
        })
    }
}

impl super::decode::Show for Prefix {
    fn show(value: &String) -> String {
        super::decode::quoted(value)
    }
}

const LONGEST_PREFIX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_perhaps_a_database() {
        let url = redis_url("rediss://user:secret@cache.example/2").unwrap();
        assert_eq!(
            (&*url.host, url.port, url.tls),
            ("cache.example", 6379, true)
        );
        assert!(!format!("{url:?}").contains("secret"));
        let url = redis_url("redis://[::1]:7000").unwrap();
        assert_eq!((&*url.host, url.port, url.tls), ("::1", 7000, false));
    }

    #[test]
    fn what_is_no_redis_url_is_refused() {
        for wrong in [
            "",
            "127.0.0.1:6379",
            "http://127.0.0.1",
            "redis://",
            "redis://a/b",
            "redis://a/1?x=y",
            "redis+sentinel://a",
        ] {
            assert!(redis_url(wrong).is_err(), "{wrong}");
        }
    }
}
