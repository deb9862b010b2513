//! What a valid configuration means.

use std::time::Duration;

use http::Method;
use tollgate::config::{
    Address, Config, EncodedSlash, HostRewrite, PathSegment, QueryLogging, ServerUrl, Target,
    TemplatePart, UpstreamProtocol, ValueMatch,
};

use super::{ROUTE, parse, valid};

#[test]
fn a_small_file_does_a_lot() {
    let config = valid(ROUTE);
    let route = &config.routes[0];
    assert_eq!(&*route.name, "all");
    assert_eq!(&*route.paths[0].text, "/**");
    assert_eq!(route.max_body, Some(10 << 20));
    assert!(route.upgrade && !route.max_body_is_own);
    assert!(matches!(&route.target, Target::Upstream(name) if &**name == "http://127.0.0.1:3000"));
    let server = &config.upstreams["http://127.0.0.1:3000"].servers[0];
    assert!(matches!(&server.url, ServerUrl::Tcp { port: 3000, .. }));
    assert_eq!(config.server, tollgate::config::Server::default());
    assert_eq!(
        config.server.listen,
        [Address::Tcp("0.0.0.0:8080".parse().unwrap())]
    );
    assert_eq!(config.admin.listen, "127.0.0.1:9901".parse().ok());
}

#[test]
fn the_tables_of_the_server_are_read() {
    let config = valid(&format!(
        "[server]\nlisten = [\"127.0.0.1:80\", \"unix:/run/t.sock\"]\nworkers = 3\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nforwarded = true\n\
         [server.limits]\nheader_bytes = \"16KB\"\nkeep_alive = \"2m\"\n[server.http2]\nmax_streams = 7\n[server.drain]\ndelay = \"0s\"\n\
         [log]\nlevel = \"info,tollgate::upstream=debug\"\n[log.access]\nfile = \"/tmp/a\"\nsample = 0.5\nquery = \"drop\"\nrequest_headers = [\"User-Agent\"]\n{ROUTE}"
    ));
    assert_eq!(config.server.listen.len(), 2);
    assert_eq!(config.server.workers.map(usize::from), Some(3));
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert!(config.server.forwarded);
    assert_eq!(config.server.limits.header_bytes, 16_000);
    assert_eq!(config.server.limits.keep_alive, Duration::from_secs(120));
    assert_eq!(config.server.limits.max_headers, 100);
    assert_eq!(config.server.http2.max_streams, 7);
    assert!(config.server.drain.delay.is_zero());
    assert_eq!(config.log.access.sample, 0.5);
    assert_eq!(config.log.access.query, QueryLogging::Drop);
    assert_eq!(config.log.access.request_headers, ["user-agent"]);
}

#[test]
fn upstreams_have_servers_by_url_or_by_table() {
    let config = valid(
        "[routes.a]\nsplit = { a = 90, \"h2c://[::1]:50051\" = 10 }\n\
         [upstreams.a]\nconnect_timeout = \"1s\"\nmax_in_flight = 5\n\
         [[upstreams.a.servers]]\nurl = \"http://x:1\"\nweight = 2\n[[upstreams.a.servers]]\nurl = \"unix:/run/x\"\n\
         [upstreams.a.health_check]\npath = \"/up\"\nrequired = false\n",
    );
    let upstream = &config.upstreams["a"];
    assert_eq!(upstream.servers.len(), 2);
    assert_eq!(
        (&*upstream.servers[0].name, upstream.servers[0].weight.get()),
        ("http://x:1", 2)
    );
    assert_eq!(upstream.max_in_flight, Some(5));
    let check = upstream.health_check.as_ref().unwrap();
    assert_eq!(
        (check.path.as_str(), check.rise, check.required),
        ("/up", 2, false)
    );
    let ServerUrl::Tcp {
        protocol,
        host,
        port,
    } = &config.upstreams["h2c://[::1]:50051"].servers[0].url
    else {
        panic!("a TCP server");
    };
    assert_eq!(
        (*protocol, &**host, *port),
        (UpstreamProtocol::Http2, "::1", 50051)
    );
    let Target::Split(parts) = &config.routes[0].target else {
        panic!("a split");
    };
    let parts: Vec<_> = parts
        .iter()
        .map(|(name, weight)| (&**name, *weight))
        .collect();
    assert_eq!(parts, [("a", 90), ("h2c://[::1]:50051", 10)]);
}

#[test]
fn everything_of_a_route_is_read() {
    let config = valid(
        "[routes.a]\nhosts = \"{tenant}.example.com\"\npath = [\"/a/{id}\", \"/b/{id}/**\"]\npath_case = \"insensitive\"\n\
         methods = [\"GET\"]\npriority = -1\nmax_body = \"unlimited\"\nencoded_slash = \"keep\"\nupgrade = false\n\
         match_headers = { x-a = \"1\", x-b.present = false }\nmatch_query = { v = { regex = \"[0-9]+\" } }\n\
         upstream = \"http://a\"\nrewrite = { path = \"/x/${path.id}${query}\", host = \"server\" }\n\
         timeouts = { response = \"off\", total = \"1m\", tunnel_lifetime = \"12h\" }\n",
    );
    let route = &config.routes[0];
    assert!(route.ignore_case && !route.upgrade && route.max_body_is_own);
    assert_eq!(route.methods.as_deref(), Some(&[Method::GET][..]));
    assert_eq!((route.priority, route.max_body), (-1, None));
    assert_eq!(route.encoded_slash, EncodedSlash::Keep);
    assert_eq!(
        route.paths[1].segments[1],
        PathSegment::Capture("id".into())
    );
    assert!(matches!(
        &route.match_headers[1].1,
        ValueMatch::Present(false)
    ));
    assert!(
        matches!(&route.match_query[0].1, ValueMatch::Regex(regex) if regex.is_match("12") && !regex.is_match("1a"))
    );
    assert_eq!(route.rewrite.host, HostRewrite::Server);
    let parts = &route.rewrite.path.as_ref().unwrap().parts;
    assert_eq!(
        parts[1..],
        [TemplatePart::Capture("path.id".into()), TemplatePart::Query]
    );
    assert_eq!(route.timeouts.response, None);
    assert_eq!(route.timeouts.idle, Some(Duration::from_secs(60)));
    let lifetime = |config: &Config| config.routes[0].timeouts.tunnel_lifetime;
    assert_eq!(lifetime(&config), Some(Duration::from_secs(12 * 3600)));
    assert_eq!(lifetime(&valid(ROUTE)), None);
}

#[test]
fn answers_and_redirects_are_read() {
    let config = valid(
        "[routes.a]\nrespond = { status = 404, body = \"no $$\", headers = { X-A = \"b\" } }\n\
         [routes.b]\npath = \"/b\"\nredirect = \"https://${host}/x\"\n[routes.c]\npath = \"/c\"\nredirect = { to = \"/d\", status = 302 }\n",
    );
    let Target::Respond(respond) = &config.routes[0].target else {
        panic!("an answer");
    };
    assert_eq!(
        (respond.status.as_u16(), &respond.body[..]),
        (404, &b"no $"[..])
    );
    assert_eq!(respond.headers[0].0, "x-a");
    let Target::Redirect(redirect) = &config.routes[1].target else {
        panic!("a redirect");
    };
    assert_eq!(redirect.status.as_u16(), 308);
    assert_eq!(
        redirect.to.parts,
        [
            TemplatePart::Literal("https://".into()),
            TemplatePart::Host,
            TemplatePart::Literal("/x".into())
        ]
    );
}

#[test]
fn a_key_comes_from_the_route_its_group_or_the_defaults() {
    let config = valid(
        "[defaults]\nmax_body = \"1KiB\"\nhosts = [\"d.x\"]\n[defaults.timeouts]\nresponse = \"1s\"\ntotal = \"9s\"\n\
         [groups.g]\nhosts = [\"g.x\", \"inherit\"]\nmax_body = \"2KiB\"\nmatch_headers = { x-a = \"1\" }\n\
         [routes.a]\ngroup = \"g\"\nhosts = [\"a.x\", \"inherit\"]\nupstream = \"http://a\"\n[routes.a.timeouts]\nresponse = \"2s\"\n\
         [routes.b]\nupstream = \"http://a\"\n[routes.c]\ngroup = \"g\"\npath = \"/c\"\nmax_body = 3\nupstream = \"http://a\"\n",
    );
    let [a, b, c] = &config.routes[..] else {
        panic!("three routes");
    };
    assert_eq!((a.hosts.len(), b.hosts.len(), c.hosts.len()), (3, 1, 2));
    assert_eq!(
        (a.max_body, b.max_body, c.max_body),
        (Some(2048), Some(1024), Some(3))
    );
    assert_eq!((a.max_body_is_own, c.max_body_is_own), (false, true));
    assert_eq!((a.match_headers.len(), b.match_headers.len()), (1, 0));
    // A key is replaced as a whole, a table too.
    assert_eq!(a.timeouts.response, Some(Duration::from_secs(2)));
    assert_eq!(
        (a.timeouts.total, b.timeouts.total),
        (None, Some(Duration::from_secs(9)))
    );
}

#[test]
fn a_start_without_a_file_needs_one_url() {
    let config = Config::to_upstream("http://127.0.0.1:3000").unwrap();
    let mut parsed = valid(ROUTE);
    // Without a file there are no tables that keys could stand in.
    parsed.route_sources.clear();
    assert_eq!(format!("{config:?}"), format!("{parsed:?}"));
    let findings = Config::to_upstream("127.0.0.1:3000").unwrap_err();
    let finding = findings.iter().next().unwrap();
    assert_eq!((&*finding.file, finding.line), ("--to", 1));
    assert!(
        finding
            .help
            .as_deref()
            .unwrap()
            .starts_with("begin with the scheme")
    );
    assert!(
        !Config::to_upstream("http://me:secret@a")
            .unwrap_err()
            .render(false)
            .contains("secret")
    );
}

#[test]
fn a_text_that_was_read_is_no_file() {
    assert!(parse(ROUTE).unwrap().files.is_empty());
}
