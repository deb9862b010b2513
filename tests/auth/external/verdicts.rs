//! What the service is told, and what its answer does.

use super::*;

const COPIED: &str = "subject_header = 'x-auth-user'\nroles_header = 'x-auth-roles'\n\
                      forward_headers = ['x-user-id', 'x-user-mail']";

#[tokio::test]
async fn the_service_is_told_about_the_request_and_nothing_more() {
    let site = Site::with("").await;
    let fields = "Authorization: Bearer abc\r\nCookie: a=b\r\nX-Secret: 1\r\n\
                  X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Uri: /evil\r\nX-Forwarded-Method: PUT\r\n";
    let body = "POST /a/../orders?q=1 HTTP/1.1\r\nHost: Gateway.test\r\nContent-Length: 4\r\n";
    let request = format!("{body}{fields}\r\nbody");
    let answer = Raw::ask(site.gateway.address(), request).await;
    assert_eq!(answer.status, 200);
    let (line, headers) = site.service.question();
    assert_eq!(line, "GET /auth");
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(all("authorization"), ["Bearer abc"]);
    assert_eq!(all("cookie"), ["a=b"]);
    assert_eq!(all("x-forwarded-method"), ["POST"]);
    // What the upstream gets: another path than the one that was judged must not come through.
    assert_eq!(all("x-forwarded-uri"), ["/orders?q=1"]);
    assert_eq!(all("x-forwarded-host"), ["Gateway.test"]);
    assert_eq!(all("x-forwarded-proto"), ["http"]);
    assert_eq!(all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(all("x-request-id").len(), 1);
    assert_eq!(all("user-agent").len(), 1);
    assert!(headers.get("x-secret").is_none());
    assert!(headers.get("content-length").is_none());
    assert_eq!(site.origin.request().target(), "/orders?q=1");
    assert_eq!(site.origin.request().body, b"body");
}

#[tokio::test]
async fn the_service_reads_what_the_upstream_reads() {
    let site = Site::with("").await;
    let mut connection = support::http2(site.gateway.address()).await;
    let request = Request::get("http://gateway.test/")
        .header("cookie", "a=1")
        .header("cookie", "session=x")
        .body(support::empty())
        .unwrap();
    let answer = support::within(connection.send_request(request)).await;
    assert_eq!(answer.unwrap().status(), 200);
    let (_, told) = site.service.question();
    let told: Vec<_> = told.get_all("cookie").iter().collect();
    assert_eq!(told, ["a=1; session=x"]);
    assert_eq!(site.origin.request().all("cookie"), ["a=1; session=x"]);
}

#[tokio::test]
async fn of_two_credentials_the_service_is_not_asked() {
    let site = Site::with("").await;
    let fields = "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n";
    let ambiguous = (400, "auth.ambiguous".to_owned());
    assert_eq!(site.get("/", fields).await.refusal(), ambiguous);
    assert_eq!(site.service.asked(), 0);
}

#[tokio::test]
async fn the_upstream_gets_no_credential_that_the_service_was_sent_where_it_should_not() {
    for (route, kept) in [("", true), ("forward_credentials = false", false)] {
        let keys = "request_headers = ['authorization', 'cookie', 'x-session', 'accept']";
        let site = Site::with_route(keys, route).await;
        let fields = "Authorization: Bearer abc\r\nCookie: a=b\r\nX-Session: s\r\n\
                      Accept: text/plain\r\nX-Other: 1\r\n";
        assert_eq!(site.get("/", fields).await.status, 200);
        let (_, told) = site.service.question();
        let request = site.origin.request();
        for name in ["authorization", "cookie", "x-session"] {
            assert!(told.contains_key(name), "{name}");
            assert_eq!(request.header(name).is_some(), kept, "{name}");
        }
        assert_eq!(request.header("accept"), Some("text/plain"));
        assert_eq!(request.header("x-other"), Some("1"));
    }
}

#[tokio::test]
async fn what_the_service_says_about_the_caller_reaches_the_upstream_and_the_log() {
    let site = Site::with(COPIED).await;
    let fields = &[
        ("x-auth-user", "alice"),
        ("x-auth-roles", "a,b"),
        ("x-user-id", "7"),
        ("x-other", "1"),
    ];
    site.service.says(204, fields, "");
    assert_eq!(site.get("/", "").await.status, 200);
    let request = site.origin.request();
    assert_eq!(request.all("x-user-id"), ["7"]);
    assert_eq!(request.header("x-other"), None);
    assert_eq!(request.header("x-auth-user"), None);
    let line = site.gateway.log_line().await;
    assert_eq!(line["principal"], "external.sso:alice", "{line}");
    assert_eq!(site.results("allowed"), 1.0);
}

#[tokio::test]
async fn what_a_client_sends_under_the_services_names_is_taken_out_on_every_route() {
    let site = Site::with(COPIED).await;
    site.service
        .says(200, &[("x-auth-user", "alice"), ("x-user-id", "7")], "");
    let spoofed = "X-User-Id: 1\r\nx-user-id: 2\r\nX_User_Id: 3\r\nX-User-Mail: a@b.test\r\n";
    for target in ["/", "/open"] {
        assert_eq!(site.get(target, spoofed).await.status, 200);
    }
    let requests = site.origin.requests();
    assert_eq!(requests[0].all("x-user-id"), ["7"]);
    assert!(requests[1].all("x-user-id").is_empty());
    for request in requests {
        assert!(request.header("x_user_id").is_none());
        assert!(request.header("x-user-mail").is_none());
    }
}

#[tokio::test]
async fn a_refusal_reaches_the_client_with_its_challenge_and_its_body() {
    let site = Site::with("").await;
    let fields = &[
        ("www-authenticate", "Basic realm=\"x\""),
        ("content-type", "text/html"),
        ("set-cookie", "a=b"),
        ("x-internal", "1"),
    ];
    for (status, reason) in [(401, "unauthorized"), (403, "forbidden")] {
        site.service.says(status, fields, "<p>no</p>");
        let answer = site.get("/", "").await;
        assert_eq!((answer.status, answer.text()), (status, "<p>no</p>"));
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"x\""));
        assert_eq!(answer.header("content-type"), Some("text/html"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("set-cookie"), None);
        assert_eq!(answer.header("x-internal"), None);
        let label = format!("reason=\"auth.external.{reason}\"");
        let decided = "tollgate_auth_decisions_total";
        assert_eq!(site.gateway.metric(decided, &["external.sso", &label]), 1.0);
    }
    assert!(site.origin.requests().is_empty());
    assert_eq!(site.results("denied"), 2.0);
}

/// RFC 9110 11.6.1: a 401 tells of every scheme that the route takes, not of the service's alone.
#[tokio::test]
async fn a_401_of_the_service_has_the_challenges_of_the_other_methods() {
    let keys = "[auth.jwt.app]\nsecret = '0123456789abcdef0123456789abcdef'";
    let route = "[routes.both]\npath = '/both'\nauth = ['jwt.app', 'external.sso']\nrespond = {}";
    let site = Site::with_route(keys, route).await;
    let bearer = "Bearer realm=\"tollgate\"";
    let basic = "Basic realm=\"x\"";
    site.service
        .says(401, &[("www-authenticate", "Basic realm=\"x\"")], "no");
    let answer = site.get("/both", "").await;
    assert_eq!((answer.status, answer.text()), (401, "no"));
    assert_eq!(answer.all("www-authenticate"), [basic, bearer]);
    assert_eq!(site.get("/", "").await.all("www-authenticate"), [basic]);

    site.service
        .says(401, &[("www-authenticate", "bEARER realm=\"x\"")], "");
    let answer = site.get("/both", "").await;
    assert_eq!(answer.all("www-authenticate"), ["bEARER realm=\"x\""]);

    site.service.says(403, &[], "");
    let answer = site.get("/both", "").await;
    assert_eq!(answer.status, 403);
    assert!(answer.all("www-authenticate").is_empty());
}

/// As with two issuers: what one of them accepts is not held against it by the other.
#[tokio::test]
async fn a_credential_that_the_service_accepts_is_no_bad_one_of_another_method() {
    let secret = "0123456789abcdef0123456789abcdef";
    let keys = format!("[auth.jwt.app]\nsecret = '{secret}'");
    let route = "[routes.one]\npath = '/one'\nauth = ['jwt.app', 'external.sso']\nrespond = {}\n\
                 [routes.other]\npath = '/other'\nauth = ['external.sso', 'jwt.app']\nrespond = {}";
    let site = Site::with_route(&keys, route).await;
    site.service.decides(|asked| {
        let said = asked.headers.get("authorization");
        let good = said.is_some_and(|said| said == "Bearer opaque");
        answer(if good { 200 } else { 401 }, &[], "")
    });
    let claims = serde_json::json!({ "sub": "alice", "exp": 4_102_444_800_u64 });
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    for path in ["/one", "/other"] {
        for (credential, status) in [("opaque", 200), (&*token, 200), ("a.b.c", 401)] {
            let field = format!("Authorization: Bearer {credential}\r\n");
            let answer = site.get(path, &field).await;
            assert_eq!(answer.status, status, "{path} {credential}");
        }
    }
    // With a cookie beside it nobody knows what the service has said yes to.
    site.service.decides(|asked| {
        let good = asked
            .headers
            .get("cookie")
            .is_some_and(|said| said == "session=good");
        answer(if good { 200 } else { 401 }, &[], "")
    });
    for path in ["/one", "/other"] {
        let alone = "Cookie: session=good\r\n";
        assert_eq!(site.get(path, alone).await.status, 200, "{path}");
        let beside = format!("{alone}Authorization: Bearer a.b.c\r\n");
        let malformed = (401, "auth.jwt.malformed".to_owned());
        assert_eq!(site.get(path, &beside).await.refusal(), malformed, "{path}");
    }
    // What the service is not sent it has not judged.
    let site = Site::with_route(&format!("request_headers = 'cookie'\n{keys}"), route).await;
    for path in ["/one", "/other"] {
        let fields = "Authorization: Bearer a.b.c\r\nCookie: a=b\r\n";
        let malformed = (401, "auth.jwt.malformed".to_owned());
        assert_eq!(site.get(path, fields).await.refusal(), malformed, "{path}");
    }
}

/// The page says so, and what to do about it.
#[tokio::test]
async fn a_yes_to_everything_lets_a_wrong_token_through_that_the_service_was_sent() {
    let keys = "forward_headers = 'x-user-id'\n[auth.jwt.app]\n\
                secret = '0123456789abcdef0123456789abcdef'\nforward_claims = { x-claim = 'sub' }";
    let route = "[routes.any]\npath = '/any'\nauth = ['jwt.app', 'external.sso']\n\
                 upstream = 'UPSTREAM'\n\
                 [routes.both]\npath = '/both'\nauth = { all = ['jwt.app', 'external.sso'] }\n\
                 upstream = 'UPSTREAM'";
    let wrong = "Authorization: Bearer a.b.c\r\nX-Claim: admin\r\n";
    let malformed = (401, "auth.jwt.malformed".to_owned());
    let upstream = Origin::ok().await;
    let route = route.replace("UPSTREAM", &upstream.url());
    let site = Site::with_route(keys, &route).await;
    for fields in [wrong, ""] {
        assert_eq!(site.get("/any", fields).await.status, 200, "{fields}");
    }
    assert_eq!(site.get("/both", wrong).await.refusal(), malformed);
    let request = &upstream.requests()[0];
    assert_eq!(request.header("authorization"), Some("Bearer a.b.c"));
    assert_eq!(request.header("x-claim"), None);

    let site = Site::with_route(&format!("request_headers = 'cookie'\n{keys}"), &route).await;
    assert_eq!(site.get("/any", wrong).await.refusal(), malformed);
    assert_eq!(site.get("/any", "").await.status, 200);
}

#[tokio::test]
async fn a_page_of_another_origin_does_nothing_with_the_password_that_a_browser_was_told() {
    let site = Site::with("request_headers = 'authorization'").await;
    for (credential, refusal) in [
        ("Basic YTpi", (403, "origin.denied")),
        ("Negotiate YTpi", (403, "origin.denied")),
        ("Bearer a", (200, "")),
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\
             Origin: https://evil.test\r\nAuthorization: {credential}\r\n\r\n"
        );
        let answer = Raw::ask(site.gateway.address(), request).await;
        let (status, reason) = answer.refusal();
        assert_eq!((status, &*reason), refusal, "{credential}");
    }
    assert_eq!(site.service.asked(), 1);
}

/// Nobody knows which of several values the service has said yes to.
#[tokio::test]
async fn a_yes_is_about_one_value_of_one_header() {
    let keys = "request_headers = ['x-token', 'x-key']\n[auth.jwt.app]\n\
                secret = '0123456789abcdef0123456789abcdef'\nfrom = 'header:x-token'";
    let route = "[routes.one]\npath = '/one'\nauth = ['jwt.app', 'external.sso']\nrespond = {}\n\
                 [routes.other]\npath = '/other'\nauth = ['external.sso', 'jwt.app']\nrespond = {}";
    let site = Site::with_route(keys, route).await;
    let refused = |status, reason: &str| (status, reason.to_owned());
    for (fields, becomes) in [
        ("X-Token: a.b.c\r\n", refused(200, "")),
        (
            "X-Token: a.b.c\r\nX-Token: d.e.f\r\n",
            refused(400, "auth.ambiguous"),
        ),
        (
            "X-Token: a.b.c\r\nX-Key: 1\r\n",
            refused(401, "auth.jwt.malformed"),
        ),
        ("X-Key: 1\r\n", refused(200, "")),
    ] {
        for path in ["/one", "/other"] {
            let answer = site.get(path, fields).await;
            assert_eq!(answer.refusal(), becomes, "{path} {fields}");
        }
    }
}

#[tokio::test]
async fn a_redirect_to_a_login_is_passed_on_by_option() {
    let fields = &[
        ("location", "https://login.test/"),
        ("set-cookie", "state=1"),
    ];
    let site = Site::with("pass_redirects = true").await;
    site.service.says(302, fields, "");
    let answer = site.get("/", "").await;
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header("location"), Some("https://login.test/"));
    assert_eq!(answer.header("set-cookie"), Some("state=1"));

    let site = Site::with("").await;
    site.service.says(302, fields, "");
    let answer = site.get("/", "").await;
    assert_eq!(answer.refusal(), unavailable());
    assert_eq!(answer.header("location"), None);
}

#[tokio::test]
async fn the_service_decides_by_what_it_is_told() {
    let site = Site::with("request_headers = 'x-key'\nsend = ['uri']").await;
    site.service.decides(|question| {
        let is = |name: &str, value: &str| question.headers.get(name).is_some_and(|it| it == value);
        let allowed = is("x-key", "good") && is("x-forwarded-uri", "/a");
        answer(if allowed { 200 } else { 403 }, &[], "")
    });
    assert_eq!(site.get("/a", "X-Key: good\r\n").await.status, 200);
    assert_eq!(site.get("/b", "X-Key: good\r\n").await.status, 403);
    assert_eq!(site.get("/a", "X-Key: bad\r\n").await.status, 403);
    assert_eq!(site.get("/a", "").await.status, 403);
    // Two values reach it as two: which of them counts is not for us to say.
    let asked = site.service.asked();
    site.get("/a", "X-Key: bad\r\nX-Key: good\r\n").await;
    let questions = site.service.shared.asked.lock().unwrap();
    assert_eq!(questions[asked].headers.get_all("x-key").iter().count(), 2);
    assert!(questions[asked].headers.get("x-forwarded-for").is_none());
}
