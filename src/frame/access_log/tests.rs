use std::{
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderValue, Method, Uri};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::exchange::{
    Clock, Connection, ContextParts, LimitPolicy, LimitReport, LimitSaid, Peer, Principal,
    Protocol, Reason, RequestHead, RequestId, TraceContext,
};

fn context(target: &str, change: impl FnOnce(&mut ContextParts)) -> Context {
    let peer = Peer::Tcp(SocketAddr::from(([192, 0, 2, 7], 4_242)));
    let connection = Connection::new(0, "http".into(), peer, false, Protocol::Http1);
    let mut parts = ContextParts {
        connection: Arc::new(connection),
        id: RequestId::from_caller(&HeaderValue::from_static("id-1")).unwrap(),
        trace: TraceContext::generate(),
        client: [192, 0, 2, 7].into(),
        forwarded_for: None,
        scheme: "http",
        forwarded_host: None,
        head: RequestHead {
            method: Method::GET,
            target: target.parse::<Uri>().unwrap(),
            version: Version::HTTP_11,
            host: Some(HeaderValue::from_static("api.example.com")),
            origin: None,
            user_agent: Some(HeaderValue::from_static("curl/8.5.0")),
            accept: None,
            grpc: false,
            upgrade: None,
            trailers: false,
            told_more: false,
        },
        clock: Clock::system(),
        started_at: std::time::SystemTime::now(),
    };
    change(&mut parts);
    let mut context = Context::new(parts);
    context.started_at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    context
}

fn end(status: u16) -> End {
    End {
        status,
        bytes_out: 1_024,
        first_byte: Some(Duration::from_micros(1_500)),
        duration: Duration::from_micros(2_250),
        complete: true,
        upgraded: false,
    }
}

fn options(query: QueryLogging) -> LineOptions {
    LineOptions::from(&AccessLog {
        query,
        ..AccessLog::default()
    })
}

fn text(context: &Context, end: &End, options: &LineOptions) -> String {
    let mut out = Vec::new();
    line(&mut out, context, end, options);
    String::from_utf8(out).unwrap()
}

fn logged(context: &Context, end: &End) -> Value {
    serde_json::from_str(&text(context, end, &options(QueryLogging::Mask))).unwrap()
}

fn path(target: &str, query: QueryLogging) -> String {
    let context = context(target, |_| {});
    let line: Value = serde_json::from_str(&text(&context, &end(200), &options(query))).unwrap();
    line["path"].as_str().unwrap().to_owned()
}

#[test]
fn a_proxied_request_is_told_in_full() {
    let context = context("/orders/7?full=1", |_| {});
    context.matched(&"orders".into(), Vec::new());
    context.received(12);
    let attempt = |server: &str, connect, response| Attempt {
        upstream: "orders".into(),
        server: server.into(),
        connect,
        response,
    };
    let ms = Duration::from_millis;
    context.attempt(attempt("http://10.0.0.1", Some(ms(9)), None));
    context.attempt(attempt("http://10.0.0.2", Some(ms(1)), Some(ms(3))));
    let trace = context.trace.trace_id();
    let expected = format!(
        concat!(
            r#"{{"timestamp":"2023-11-14T22:13:20.002250Z","level":"info","message":"request","#,
            r#""request_id":"id-1","trace_id":"{trace}","client":"192.0.2.7","method":"GET","#,
            r#""host":"api.example.com","path":"/orders/7?full=***","protocol":"HTTP/1.1","#,
            r#""user_agent":"curl/8.5.0","route":"orders","status":200,"bytes_in":12,"#,
            r#""bytes_out":1024,"duration_ms":2.250,"ttfb_ms":1.500,"upstream":"orders","#,
            r#""server":"http://10.0.0.2","upstream_connect_ms":1.000,"#,
            r#""upstream_response_ms":3.000,"attempts":2}}"#
        ),
        trace = trace
    );
    assert_eq!(
        text(&context, &end(200), &options(QueryLogging::Mask)),
        expected
    );
}

#[test]
fn what_is_not_known_is_left_out() {
    let context = context("/", |parts| {
        parts.head.host = None;
        parts.head.user_agent = None;
    });
    let line = logged(
        &context,
        &End {
            first_byte: None,
            ..end(200)
        },
    );
    let absent = [
        "host",
        "user_agent",
        "route",
        "reason",
        "ttfb_ms",
        "upstream",
        "attempts",
        "complete",
        "upgraded",
        "limit",
        "limit_decision",
        "limit_remaining",
        "request_headers",
    ];
    for name in absent {
        assert_eq!(line.get(name), None, "{name}");
    }
}

#[test]
fn a_caller_is_told_with_the_method_that_identified_it() {
    let context = context("/", |_| {});
    assert_eq!(logged(&context, &end(200)).get("auth"), None);
    let method: Arc<str> = "jwt.customers".into();
    context.identify(Arc::new(Principal::new(&method, "alice")));
    let line = logged(&context, &end(200));
    assert_eq!(line["auth"], "jwt.customers");
    assert_eq!(line["principal"], "jwt.customers:alice");
}

#[test]
fn the_tightest_limit_is_told_until_one_refuses() {
    let context = context("/", |_| {});
    let told = |name: &str, said| {
        let policy = Arc::new(LimitPolicy {
            limit: name.into(),
            enforced: true,
            draft: true,
            legacy: false,
            text: HeaderValue::from_static("\"any\""),
            windows: Box::default(),
        });
        context.limited(LimitReport {
            policy,
            window: 0,
            said,
        });
        let line = logged(&context, &end(200));
        let fields = ["limit", "limit_decision", "limit_remaining"];
        fields.map(|field| line.get(field).cloned().unwrap_or_default())
    };
    let allow = |remaining| LimitSaid::Allow {
        remaining,
        reset: Some(1),
    };
    let passed = |name: &str, remaining: u32| -> [Value; 3] {
        [name.into(), "allow".into(), remaining.into()]
    };
    let refused =
        |name: &str, word: &str| -> [Value; 3] { [name.into(), word.into(), Value::Null] };
    assert_eq!(told("wide", allow(9)), passed("wide", 9));
    assert_eq!(told("tight", allow(2)), passed("tight", 2));
    assert_eq!(told("wider", allow(5)), passed("tight", 2));
    assert_eq!(
        told("watches", LimitSaid::ShadowDeny),
        refused("watches", "shadow_deny")
    );
    let deny = LimitSaid::Deny { reset: None };
    assert_eq!(told("no", deny), refused("no", "deny"));
}

#[test]
fn the_query_is_logged_as_configured() {
    use QueryLogging::{Drop, Keep, Mask};
    assert_eq!(path("/a?token=s3cret&b=2", Keep), "/a?token=s3cret&b=2");
    assert_eq!(path("/a?token=s3cret&b=2", Drop), "/a");
    assert_eq!(path("/a?token=s3cret&b=2", Mask), "/a?token=***&b=***");
    assert_eq!(
        path("/a?x=1;token=s3cret&flag&=v&", Mask),
        "/a?x=***&flag&=***&"
    );
    assert_eq!(path("/a?", Mask), "/a?");
    assert_eq!(path("/a", Drop), "/a");
}

#[test]
fn long_values_are_cut() {
    let long = format!("/{}?{}=1", "p".repeat(3_000), "q".repeat(3_000));
    assert_eq!(
        path(&long, QueryLogging::Keep).chars().count(),
        LONGEST_PATH + 1
    );
    let query = format!("/?{}", "name=value&".repeat(1_000));
    let masked = path(&query, QueryLogging::Mask);
    assert_eq!(masked.chars().count(), LONGEST_PATH + 1);
    assert!(!masked.contains("value"));
    let context = context("/", |parts| {
        parts.head.user_agent = Some(HeaderValue::from_str(&"a".repeat(5_000)).unwrap());
    });
    let agent = logged(&context, &end(200))["user_agent"].to_string();
    assert_eq!(agent.chars().count(), LONGEST_HEADER + 3);
}

#[test]
fn the_level_follows_whose_fault_it_was() {
    let level = |reason: Option<Reason>, status: u16| {
        let context = context("/", |_| {});
        reason.inspect(|reason| context.note(*reason));
        logged(&context, &end(status))["level"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(level(None, 200), "info");
    // The upstream's own refusal is its business.
    assert_eq!(level(None, 404), "info");
    assert_eq!(level(Some(Reason::RouteNotFound), 404), "warn");
    assert_eq!(level(None, 500), "error");
    assert_eq!(level(Some(Reason::UpstreamCut), 200), "error");
    assert_eq!(level(Some(Reason::ClientGone), 200), "warn");
}

#[test]
fn an_exchange_that_was_cut_says_so() {
    let context = context("/", |_| {});
    context.note(Reason::ClientGone);
    let line = logged(
        &context,
        &End {
            complete: false,
            ..end(200)
        },
    );
    assert_eq!(line["complete"], false);
    assert_eq!(line["reason"], "client.gone");
    let tunnel = logged(
        &context,
        &End {
            upgraded: true,
            ..end(101)
        },
    );
    assert_eq!(tunnel["upgraded"], true);
}

#[test]
fn a_client_behind_a_proxy_is_the_caller_and_not_the_proxy() {
    let caller = "2001:db8::1:2".parse().unwrap();
    let context = context("/", |parts| parts.client = caller);
    assert_eq!(logged(&context, &end(200))["client"], "2001:db8::1:2");
}

#[test]
fn the_longest_address_fits() {
    let longest = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
    let context = context("/", |parts| parts.client = longest);
    assert_eq!(logged(&context, &end(200))["client"], longest.to_string());
}

#[test]
fn configured_header_fields_are_logged_and_no_others() {
    let options = LineOptions::from(&AccessLog {
        request_headers: ["x-tenant", "referer", "x-user"]
            .map(|name| name.parse().unwrap())
            .to_vec(),
        ..AccessLog::default()
    });
    let mut headers = HeaderMap::new();
    headers.insert("x-tenant", HeaderValue::from_static("acme \"1\""));
    headers.insert("authorization", HeaderValue::from_static("Bearer s3cret"));
    // Nobody but the gateway may say it: a client's own word would be taken for ours.
    headers.insert("x-user", HeaderValue::from_static("root"));
    let identity = ["x-user".parse().unwrap()];
    let context = context("/", |_| {});
    options.capture(&headers, &identity, &context);
    let text = text(&context, &end(200), &options);
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        line["request_headers"],
        serde_json::json!({"x-tenant": "acme \"1\""})
    );
    assert!(!text.contains("s3cret"));
}

#[test]
fn sampling_keeps_every_error_and_refusal() {
    let none = LineOptions::from(&AccessLog {
        sample: 0.0,
        ..AccessLog::default()
    });
    let quiet = context("/", |_| {});
    assert!(!none.keep(&quiet, &end(200)));
    assert!(!none.keep(&quiet, &end(404)));
    assert!(none.keep(&quiet, &end(502)));
    quiet.note(Reason::RouteNotFound);
    assert!(none.keep(&quiet, &end(404)));
    let all = options(QueryLogging::Mask);
    assert!(all.keep(&context("/", |_| {}), &end(200)));
}

#[test]
fn sampling_keeps_about_its_share() {
    let some = LineOptions::from(&AccessLog {
        sample: 0.25,
        ..AccessLog::default()
    });
    let context = context("/", |_| {});
    fastrand::seed(7);
    let kept = (0..10_000)
        .filter(|_| some.keep(&context, &end(200)))
        .count();
    assert!((2_300..2_700).contains(&kept), "{kept}");
}

#[test]
fn a_clock_before_1970_breaks_no_line() {
    let mut context = context("/", |_| {});
    context.started_at = SystemTime::UNIX_EPOCH - Duration::from_secs(10);
    assert!(logged(&context, &end(200)).is_object());
}

proptest! {
    #[test]
    fn every_line_is_json_whatever_bytes_come(
        host: Vec<u8>,
        agent: Vec<u8>,
        header: Vec<u8>,
        method in "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}",
        target in "/[!-\"$-~]{0,60}",
        status in 0_u16..1_000,
    ) {
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).ok();
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        let context = context("/", |parts| {
            parts.head.host = value(&host);
            parts.head.user_agent = value(&agent);
            parts.head.method = Method::from_bytes(method.as_bytes()).unwrap();
            parts.head.target = uri;
        });
        if let Some(header) = value(&header) {
            context.log_headers([(http::header::REFERER, header)].into());
        }
        for query in [QueryLogging::Mask, QueryLogging::Keep, QueryLogging::Drop] {
            let line = text(&context, &end(status), &options(query));
            prop_assert!(line.bytes().all(|byte| byte >= b' '));
            let parsed: Value = serde_json::from_str(&line).unwrap();
            let shown = parsed["method"].as_str().unwrap().trim_end_matches('\u{2026}');
            prop_assert!(method.starts_with(shown));
            prop_assert_eq!(&parsed["status"], status);
        }
    }
}
