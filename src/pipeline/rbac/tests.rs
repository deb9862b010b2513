use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, header::CONTENT_TYPE};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    config::Config,
    exchange::{
        Clock, Connection, ContextParts, Peer, Protocol, RequestHead, RequestId, TraceContext,
    },
};

const ROLES: &str = "
    [auth.jwt.customers]
    issuer = 'https://id.example.com/'
    algorithms = ['HS256']
    secret = '0123456789abcdef0123456789abcdef'
    [roles.viewer]
    permissions = ['orders:read']
    [roles.editor]
    includes = ['viewer']
    permissions = ['orders:write']
    [roles.exporter]
    permissions = ['orders:export']
    [roles.orders-admin]
    permissions = ['orders:*']
    [roles.admin]
    permissions = ['*']
    includes = ['orders-admin']
";

/// The rules of a route with these keys.
fn rules(keys: &str) -> Rules {
    Rules::from_config(&access(keys))
}

fn access(keys: &str) -> Access {
    let text = format!(
        "{ROLES}\n[routes.one]\nhosts = ['{{tenant}}.example.com']\npath = '/{{tenant}}/**'\n\
         upstream = 'http://127.0.0.1:1'\nauth = 'jwt.customers'\n{keys}"
    );
    let loaded = Config::parse("test.toml", &text).unwrap_or_else(|findings| panic!("{findings}"));
    loaded.config.routes.into_iter().next().unwrap().access
}

fn asked<'r>(method: &'r Method, path: &'r str, headers: &'r HeaderMap) -> Asked<'r> {
    Asked {
        method,
        path,
        headers,
    }
}

/// What a gRPC call says of itself.
fn grpc() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))])
}

fn context() -> Context {
    let peer = Peer::Tcp(SocketAddr::from(([192, 0, 2, 7], 4_242)));
    let connection = Connection::new(0, "http".into(), peer, false, Protocol::Http1);
    let context = Context::new(ContextParts {
        connection: Arc::new(connection),
        id: RequestId::generate(std::time::SystemTime::now()),
        trace: TraceContext::generate(),
        client: [192, 0, 2, 7].into(),
        forwarded_for: None,
        scheme: "http",
        forwarded_host: None,
        head: RequestHead::default(),
        clock: Clock::system(),
        started_at: std::time::SystemTime::now(),
    });
    let captures = [("host.tenant", "acme"), ("path.tenant", "7")];
    let captures = captures.map(|(name, value)| (name.into(), value.into()));
    context.matched(&"one".into(), captures.into());
    context
}

fn caller(roles: &[&str]) -> Principal {
    let mut principal = Principal::new(&"jwt.customers".into(), "alice");
    principal.roles = roles.iter().map(|&role| role.into()).collect();
    principal
}

fn decide(rules: &Rules, principal: Principal, method: &Method, path: &str) -> Result<(), String> {
    decide_as(&HeaderMap::new(), rules, principal, method, path)
}

fn decide_as(
    headers: &HeaderMap,
    rules: &Rules,
    principal: Principal,
    method: &Method,
    path: &str,
) -> Result<(), String> {
    let (context, asked) = (context(), asked(method, path, headers));
    context.identify(Arc::new(principal));
    rules
        .decide(&asked, &context)
        .map_err(|denial| denial.to_string())
}

/// Whether a caller with these roles may use a method.
fn may(rules: &Rules, roles: &[&str], method: &Method) -> bool {
    decide(rules, caller(roles), method, "/a/b").is_ok()
}

fn with_claims(claims: serde_json::Value) -> Principal {
    let mut principal = caller(&[]);
    principal.claims = claims;
    principal
}

fn claim_holds(rules: &Rules, claims: serde_json::Value) -> bool {
    decide(rules, with_claims(claims), &Method::GET, "/a/b").is_ok()
}

#[test]
fn a_role_gives_what_it_grants_and_what_it_includes() {
    let rules = rules("permissions = 'orders:read'");
    for (roles, granted) in [
        (&["viewer"][..], true),
        (&["editor"], true),
        (&["orders-admin"], true),
        (&["admin"], true),
        (&["exporter"], false),
        (&["Viewer"], false),
        (&["nobody", "viewer"], true),
        (&[], false),
    ] {
        assert_eq!(may(&rules, roles, &Method::GET), granted, "{roles:?}");
    }
}

#[test]
fn a_list_asks_for_one_and_all_for_every_one() {
    let any = rules("permissions = ['orders:write', 'orders:export']");
    assert!(may(&any, &["exporter"], &Method::GET) && may(&any, &["editor"], &Method::GET));
    assert!(!may(&any, &["viewer"], &Method::GET));
    let all = rules("permissions = { all = ['orders:write', 'orders:export'] }");
    assert!(!may(&all, &["exporter"], &Method::GET) && !may(&all, &["editor"], &Method::GET));
    assert!(may(&all, &["exporter", "editor"], &Method::GET));
    assert!(may(&all, &["orders-admin"], &Method::GET));
}

#[test]
fn a_method_without_a_rule_is_denied_and_head_follows_get() {
    let rules = rules("permissions = { GET = 'orders:read', DELETE = ['orders:write'] }");
    assert!(may(&rules, &["viewer"], &Method::GET) && may(&rules, &["viewer"], &Method::HEAD));
    assert!(!may(&rules, &["viewer"], &Method::DELETE));
    assert!(may(&rules, &["editor"], &Method::DELETE));
    for method in [Method::POST, Method::OPTIONS, Method::PATCH] {
        assert!(!may(&rules, &["admin"], &method));
    }
}

#[test]
fn a_star_is_for_what_has_no_rule_of_its_own() {
    let rules = rules(
        "permissions = { GET = 'orders:read', HEAD = 'orders:export', '*' = 'orders:write' }",
    );
    assert!(may(&rules, &["editor"], &Method::POST) && !may(&rules, &["viewer"], &Method::POST));
    assert!(may(&rules, &["exporter"], &Method::HEAD) && !may(&rules, &["viewer"], &Method::HEAD));
}

#[test]
fn authenticated_asks_for_a_known_caller_only() {
    let rules = rules("permissions = { GET = 'authenticated', '*' = 'orders:write' }");
    assert!(may(&rules, &[], &Method::GET) && !may(&rules, &[], &Method::POST));
    let denial = rules
        .decide(&asked(&Method::GET, "/", &HeaderMap::new()), &context())
        .map_err(|it| it.to_string());
    assert_eq!(denial, Err("the caller is not known".to_owned()));
}

#[test]
fn a_grpc_call_is_told_by_the_last_segment() {
    let rules = rules(
        "permissions = { 'rpc:GetOrder' = 'orders:read', 'rpc:Drop' = 'orders:export', '*' = 'orders:write' }",
    );
    let may = |role: &str, path: &str| {
        let caller = caller(&[role]);
        decide_as(&grpc(), &rules, caller, &Method::POST, path).is_ok()
    };
    assert!(may("viewer", "/shop.v1.Orders/GetOrder") && may("viewer", "/GetOrder"));
    assert!(
        !may("viewer", "/shop.v1.Orders/AddOrder") && may("editor", "/shop.v1.Orders/AddOrder")
    );
    assert!(!may("editor", "/shop.v1.Orders/Drop") && may("exporter", "/shop.v1.Orders/Drop"));
    assert!(
        !may("editor", "/shop.v1.Orders/Drop;x=1"),
        "a server may ignore the parameter"
    );
    for spelling in [
        "drop",
        "DROP",
        "Drop/",
        "drop//",
        "drop;x=1",
        "Drop%3Bx=1",
        "Drop/;x=1",
        "Drop;x/;y",
    ] {
        let path = format!("/shop.v1.Orders/{spelling}");
        assert!(!may("editor", &path), "a server may run it: {path}");
    }
    for near in [
        "/shop.v1.Orders/getorder",
        "/shop.v1.GetOrder/",
        "/GetOrder/Other",
        "/xGetOrder",
    ] {
        assert!(!may("viewer", near), "{near}");
    }
}

#[test]
fn what_is_no_grpc_call_has_the_rule_of_its_method_too() {
    let rules = rules(
        "permissions = { 'rpc:GetOrder' = 'orders:read', 'rpc:Drop' = 'orders:export', GET = 'authenticated', '*' = 'orders:write' }",
    );
    let may = |roles: &[&str], method: Method, path: &str| {
        decide(&rules, caller(roles), &method, path).is_ok()
    };
    // A thing whose name is that of a call.
    assert!(!may(&["viewer"], Method::DELETE, "/orders/GetOrder"));
    assert!(!may(&["viewer"], Method::POST, "/orders/GetOrder"));
    assert!(may(&["editor"], Method::DELETE, "/orders/GetOrder"));
    // The same call as JSON, or by GET: its own rule is not got around.
    assert!(!may(&["editor"], Method::POST, "/shop.v1.Orders/Drop"));
    assert!(!may(&["editor"], Method::GET, "/shop.v1.Orders/Drop"));
    assert!(may(&["exporter"], Method::GET, "/shop.v1.Orders/Drop"));
    assert!(may(
        &["exporter", "editor"],
        Method::POST,
        "/shop.v1.Orders/Drop"
    ));
}

#[test]
fn a_rule_for_post_holds_for_grpc_calls_too() {
    let rules = rules("permissions = { 'rpc:GetOrder' = 'orders:read', POST = 'orders:export' }");
    for headers in [grpc(), HeaderMap::new()] {
        let may = |roles: &[&str]| {
            let (post, path) = (Method::POST, "/orders/GetOrder");
            decide_as(&headers, &rules, caller(roles), &post, path).is_ok()
        };
        assert!(!may(&["viewer"]) && !may(&["exporter"]));
        assert!(may(&["viewer", "exporter"]));
    }
    assert!(
        decide(
            &rules,
            caller(&["viewer"]),
            &Method::PUT,
            "/orders/GetOrder"
        )
        .is_err()
    );
}

#[test]
fn a_credential_may_carry_permissions_itself() {
    let rules = rules(
        "permissions = { GET = 'orders:read', '*' = { all = ['orders:write', 'orders:export'] } }",
    );
    let mut key = caller(&["exporter"]);
    key.permissions = ["orders:read".into(), "*:write".into()].into();
    assert_eq!(decide(&rules, key, &Method::GET, "/"), Ok(()));
    let mut key = caller(&["exporter"]);
    key.permissions = ["*:write".into()].into();
    assert_eq!(decide(&rules, key, &Method::PUT, "/"), Ok(()));
}

#[test]
fn roles_are_any_of_and_an_including_role_counts() {
    let rules = rules("roles = ['exporter', 'viewer']");
    assert!(may(&rules, &["editor"], &Method::GET), "it includes viewer");
    assert!(may(&rules, &["exporter"], &Method::GET));
    assert!(
        !may(&rules, &["admin"], &Method::GET),
        "a permission is no role"
    );
    assert!(!may(&rules, &[], &Method::GET));
}

#[test]
fn everything_must_hold() {
    let rules =
        rules("permissions = 'orders:read'\nroles = ['exporter']\nclaims = { staff = true }");
    let with = |roles: &[&str], staff: bool| {
        let mut principal = caller(roles);
        principal.claims = json!({ "staff": staff });
        decide(&rules, principal, &Method::GET, "/")
    };
    assert_eq!(with(&["exporter", "viewer"], true), Ok(()));
    assert_eq!(
        with(&["exporter"], true),
        Err("permission needed: orders:read".into())
    );
    assert_eq!(with(&["viewer"], true), Err("role needed: exporter".into()));
    assert_eq!(
        with(&["exporter", "viewer"], false),
        Err("claim needed: staff = true".into())
    );
}

#[test]
fn the_log_is_told_what_was_asked_for() {
    let any = rules("permissions = ['orders:write', 'orders:export']");
    let wanted = "permission needed: orders:write or orders:export";
    assert_eq!(
        decide(&any, caller(&[]), &Method::GET, "/"),
        Err(wanted.into())
    );
    let all = rules("permissions = { all = ['orders:write', 'orders:export'] }");
    let wanted = "permission needed: orders:write and orders:export";
    assert_eq!(
        decide(&all, caller(&[]), &Method::GET, "/"),
        Err(wanted.into())
    );
    let method = rules("permissions = { GET = 'orders:read' }");
    let wanted = "no rule is for this method";
    assert_eq!(
        decide(&method, caller(&[]), &Method::PUT, "/"),
        Err(wanted.into())
    );
    let claim =
        rules("claims = { 'https://a.test/t' = ['a', 7], realm.tenant = '${host.tenant}' }");
    let wanted = "claim needed: https://a.test/t = ['a', 7]";
    assert_eq!(
        decide(&claim, caller(&[]), &Method::GET, "/"),
        Err(wanted.into())
    );
}

#[test]
fn a_claim_is_what_the_host_or_the_path_says() {
    let host = rules("claims = { tenant = '${host.tenant}' }");
    assert!(claim_holds(&host, json!({ "tenant": "acme" })));
    assert!(claim_holds(&host, json!({ "tenant": ["other", "acme"] })));
    for wrong in [
        json!({ "tenant": "other" }),
        json!({ "tenant": "ACME" }),
        json!({ "tenant": "acme2" }),
        json!({ "tenant": "" }),
        json!({ "tenant": null }),
        json!({ "tenant": { "acme": true } }),
        json!({ "tenant": [["acme"]] }),
        json!({}),
        json!(null),
    ] {
        assert!(!claim_holds(&host, wrong.clone()), "{wrong}");
    }
    let path = rules("claims = { tenant = '${path.tenant}' }");
    assert!(
        claim_holds(&path, json!({ "tenant": 7 })) && claim_holds(&path, json!({ "tenant": "7" }))
    );
    for wrong in [json!(7.0), json!(70), json!(-7), json!("07"), json!(true)] {
        assert!(
            !claim_holds(&path, json!({ "tenant": wrong.clone() })),
            "{wrong}"
        );
    }
    let mixed = rules("claims = { scope = 't:${host.tenant}' }");
    assert!(claim_holds(&mixed, json!({ "scope": "t:acme" })));
}

#[test]
fn kinds_of_claims_are_not_converted() {
    let claims = |value: &str| rules(&format!("claims = {{ x = {value} }}"));
    let holds =
        |value: &str, claim: serde_json::Value| claim_holds(&claims(value), json!({ "x": claim }));
    assert!(holds("7", json!(7)) && holds("'7'", json!("7")) && holds("true", json!(true)));
    assert!(holds("['a', 7, false]", json!(false)) && holds("7", json!([1, 7])));
    assert!(!holds("7", json!("7")) && !holds("'7'", json!(7)) && !holds("7", json!(7.5)));
    assert!(
        !holds("true", json!("true")) && !holds("'true'", json!(true)) && !holds("true", json!(1))
    );
    assert!(!holds("'null'", json!(null)) && !holds("7", json!([])));
}

#[test]
fn a_missing_capture_equals_nothing() {
    let rules = rules("claims = { tenant = '${host.tenant}' }");
    let empty = Context::new(ContextParts { ..parts(context()) });
    empty.identify(Arc::new(with_claims(json!({ "tenant": "" }))));
    assert!(
        rules
            .decide(&asked(&Method::GET, "/", &HeaderMap::new()), &empty)
            .is_err()
    );
}

/// The parts of a context that has matched no route.
fn parts(context: Context) -> ContextParts {
    ContextParts {
        connection: context.connection,
        id: context.id,
        trace: context.trace,
        client: context.client,
        forwarded_for: None,
        scheme: "http",
        forwarded_host: None,
        head: context.head,
        clock: context.clock,
        started_at: context.started_at,
    }
}

#[test]
fn a_path_of_claims_is_a_dotted_key_and_a_quoted_key_is_one_name() {
    let path = rules("claims.realm.tenant = 'acme'");
    assert!(claim_holds(&path, json!({ "realm": { "tenant": "acme" } })));
    assert!(!claim_holds(&path, json!({ "realm.tenant": "acme" })));
    let name = rules("claims.'realm.tenant' = 'acme'");
    assert!(claim_holds(&name, json!({ "realm.tenant": "acme" })));
    assert!(!claim_holds(
        &name,
        json!({ "realm": { "tenant": "acme" } })
    ));
}

#[test]
fn a_route_without_rules_has_no_layer() {
    assert!(RbacLayer::from_config(&access("ip = { deny = ['192.0.2.1'] }")).is_none());
    assert!(RbacLayer::from_config(&access("roles = ['viewer']")).is_some());
}

proptest! {
    /// The compiled sets against the definition: some role of the caller grants the permission.
    #[test]
    fn compiled_rules_agree_with_their_definition(
        roles in proptest::collection::vec(
            prop_oneof!["viewer", "editor", "exporter", "orders-admin", "admin", "nobody"], 0..4),
        all in any::<bool>(),
        wanted in proptest::collection::vec(prop_oneof!["orders:read", "orders:write", "orders:export", "bills:read"], 1..4),
    ) {
        let grants = |role: &str, permission: &str| match role {
            "viewer" => permission == "orders:read",
            "editor" => ["orders:read", "orders:write"].contains(&permission),
            "exporter" => permission == "orders:export",
            "orders-admin" => permission.starts_with("orders:"),
            "admin" => true,
            _ => false,
        };
        let has = |permission: &String| roles.iter().any(|role| grants(role, permission));
        let expected = match all {
            true => wanted.iter().all(has),
            false => wanted.iter().any(has),
        };
        let list = serde_json::to_string(&wanted).unwrap();
        let keys = match all {
            true => format!("permissions = {{ all = {list} }}"),
            false => format!("permissions = {list}"),
        };
        let names: Vec<&str> = roles.iter().map(String::as_str).collect();
        prop_assert_eq!(may(&rules(&keys), &names, &Method::GET), expected);
    }
}
