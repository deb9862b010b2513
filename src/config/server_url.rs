//! Servers of an upstream and their URLs.

use std::{num::NonZeroU32, sync::Arc};

use toml::de::DeValue;

use super::{
    ServerUrl, UpstreamProtocol, UpstreamServer,
    address::unix_path,
    decode::{Count, Format, Node, OneOrList, OptionOf, Problem, Reader, Sub, TableNode, table},
    diagnostic::Finding,
};

/// `servers`: URLs, or tables with a URL and a weight.
pub(super) struct Servers;

impl Format for Servers {
    type Value = Vec<UpstreamServer>;

    fn expected() -> String {
        "a list of URLs such as [\"http://127.0.0.1:3000\"], or tables".to_owned()
    }

    fn example() -> String {
        "[\"http://10.0.0.5:9000\", \"http://10.0.0.6:9000\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let servers = OneOrList::<Server>::read(node, reader)?;
        if servers.is_empty() {
            let problem = Problem::what("an upstream needs a server")
                .help("write `servers = [\"http://127.0.0.1:3000\"]`");
            return reader.refuse(node, &Self::expected(), problem);
        }
        report_doubles(node, &servers, reader);
        Some(servers)
    }
}

fn report_doubles(node: Node<'_>, servers: &[UpstreamServer], reader: &mut Reader<'_>) {
    let DeValue::Array(list) = node.value else {
        return;
    };
    let mut seen = std::collections::HashMap::new();
    for (server, member) in servers.iter().zip(list.iter()) {
        let place = reader.place(member.span());
        if let Some(first) = seen.insert(&server.url, place) {
            let finding = Finding::error(place, "the same server stands here twice")
                .help("give it a `weight` if it shall get more")
                .related(first, "first here");
            reader.report(finding);
        }
    }
}

/// One of the servers: a URL or a table.
struct Server;

impl Format for Server {
    type Value = UpstreamServer;

    fn expected() -> String {
        Url::expected()
    }

    fn example() -> String {
        Url::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<UpstreamServer> {
        let keys = match node.value {
            DeValue::Table(_) => Sub::<ServerKeys>::read(node, reader)?,
            _ => ServerKeys {
                url: Some(Url::read(node, reader)?),
                ..ServerKeys::default()
            },
        };
        let (name, url) = keys.url?;
        Some(UpstreamServer {
            url,
            name,
            weight: keys.weight,
        })
    }
}

table! {
    /// `[[upstreams.NAME.servers]]`: a server with more than its URL.
    #[derive(Clone, Debug)]
    pub(super) struct ServerKeys ["upstreams.NAME.servers", check check_server] {
        /// `url`: where it is, and what it speaks. As written it is its name in logs and metrics.
        url: Option<(Arc<str>, ServerUrl)> => OptionOf<Url> = None; "needed",
        /// `weight`: its share relative to the others.
        weight: NonZeroU32 => Count<NonZeroU32, 1, 1_000_000> = NonZeroU32::MIN,
    }
}

fn check_server(_: &ServerKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if !table.has("url") {
        let finding = Finding::error(table.node.place, "a server needs a `url`")
            .help("write `url = \"http://127.0.0.1:3000\"`");
        reader.report(finding);
    }
}

/// The URL of a server, with the text that it was written as.
pub(super) struct Url;

impl Format for Url {
    type Value = (Arc<str>, ServerUrl);

    fn expected() -> String {
        "the URL of a server such as \"http://127.0.0.1:3000\"".to_owned()
    }

    fn example() -> String {
        "\"http://127.0.0.1:3000\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        reader.parse(node, &Self::expected(), |text| {
            Ok((Arc::from(text), server_url(text)?))
        })
    }
}

/// Whether a text is meant to be a URL and not the name of an upstream.
pub(super) fn looks_like_url(text: &str) -> bool {
    text.contains("://") || text.starts_with("unix:") || text.starts_with("h2c+unix:")
}

/// Reads the URL of a server.
pub(super) fn server_url(text: &str) -> Result<ServerUrl, Problem> {
    for (prefix, protocol) in SOCKETS {
        if let Some(path) = text.strip_prefix(prefix) {
            let path = unix_path(path)?;
            return Ok(ServerUrl::Unix { protocol, path });
        }
    }
    for (prefix, protocol) in SCHEMES {
        if let Some(authority) = text.strip_prefix(prefix) {
            return tcp(protocol, authority);
        }
    }
    Err(unknown_scheme(text))
}

fn unknown_scheme(text: &str) -> Problem {
    match text.split_once("://") {
        Some(("https", _)) => Problem::what("`https://` upstreams come with a later version")
            .help("write `http://` or `h2c://` for a server that speaks cleartext"),
        Some(("grpc", _)) => Problem::plain().help("write `h2c://`: gRPC runs on HTTP/2"),
        Some(_) => Problem::plain().help(SCHEMES_HELP),
        None => Problem::plain().help(format!("begin with the scheme; {SCHEMES_HELP}")),
    }
}

fn tcp(protocol: UpstreamProtocol, authority: &str) -> Result<ServerUrl, Problem> {
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#']) {
        let help = "leave it out here, and use the route's `rewrite = { add_prefix = \"...\" }`";
        return Err(Problem::what("the URL of a server has no path or query").help(help));
    }
    if authority.contains('@') {
        return Err(Problem::what("the URL of a server has no user or password"));
    }
    let (host, port) = split_port(authority)?;
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let valid = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host(host),
    };
    if !valid {
        return Err(Problem::plain());
    }
    Ok(ServerUrl::Tcp {
        protocol,
        host: address.unwrap_or(host).to_ascii_lowercase().into(),
        port,
    })
}

/// Splits `host:port`; an IPv6 address in brackets stays whole.
fn split_port(authority: &str) -> Result<(&str, u16), Problem> {
    let colon = authority
        .rfind(':')
        .filter(|at| !authority[*at..].contains(']'));
    let Some(at) = colon else {
        return Ok((authority, DEFAULT_PORT));
    };
    let port = &authority[at + 1..];
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if port > 0 && digits => Ok((&authority[..at], port)),
        _ => Err(Problem::what("the port is a number from 1 to 65535")),
    }
}

/// A DNS name or an IPv4 address. Underscores are no host name's, but container networks use them.
fn is_host(host: &str) -> bool {
    let in_label = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label =
        |label: &str| !label.is_empty() && label.len() <= 63 && label.chars().all(in_label);
    host.len() <= 253
        && host
            .strip_suffix('.')
            .unwrap_or(host)
            .split('.')
            .all(is_label)
}

const SCHEMES: [(&str, UpstreamProtocol); 2] = [
    ("http://", UpstreamProtocol::Http1),
    ("h2c://", UpstreamProtocol::Http2),
];
const SOCKETS: [(&str, UpstreamProtocol); 2] = [
    ("unix:", UpstreamProtocol::Http1),
    ("h2c+unix:", UpstreamProtocol::Http2),
];
const SCHEMES_HELP: &str =
    "known are `http://` (HTTP/1.1), `h2c://` (HTTP/2), `unix:` and `h2c+unix:`";
const DEFAULT_PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(text: &str) -> String {
        match server_url(text) {
            Ok(ServerUrl::Tcp {
                protocol,
                host,
                port,
            }) => format!("{protocol:?} {host} {port}"),
            Ok(ServerUrl::Unix { protocol, path }) => format!("{protocol:?} {}", path.display()),
            Err(problem) => problem.what.unwrap_or_else(|| "refused".to_owned()),
        }
    }

    #[test]
    fn the_scheme_says_what_a_server_speaks() {
        assert_eq!(reads("http://Orders:9000"), "Http1 orders 9000");
        assert_eq!(reads("http://10.0.0.5/"), "Http1 10.0.0.5 80");
        assert_eq!(reads("h2c://[::1]:50051"), "Http2 ::1 50051");
        assert_eq!(reads("unix:/run/a.sock"), "Http1 /run/a.sock");
        assert_eq!(reads("h2c+unix:/run/a.sock"), "Http2 /run/a.sock");
    }

    #[test]
    fn what_is_no_server_is_refused() {
        assert_eq!(
            reads("https://a"),
            "`https://` upstreams come with a later version"
        );
        assert_eq!(
            reads("http://a/path"),
            "the URL of a server has no path or query"
        );
        assert_eq!(
            reads("http://me:pw@a"),
            "the URL of a server has no user or password"
        );
        for port in ["0", "65536", "+80", "x", ""] {
            let read = reads(&format!("http://a:{port}"));
            assert_eq!(read, "the port is a number from 1 to 65535");
        }
        for text in [
            "127.0.0.1:3000",
            "http://",
            "http://a b",
            "http://[::1",
            "http://::1:80",
            "unix:",
        ] {
            assert_eq!(reads(text), "refused", "{text}");
        }
    }
}
