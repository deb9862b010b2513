//! Who guesses at what only the service knows.

use super::*;

/// Two failures a minute; the service knows `good`.
async fn site(keys: &str) -> Site {
    let site = Site::with(&format!("{keys}\n[auth]\nfailures = '2/1m'")).await;
    site.service.decides(knows_good);
    site
}

/// A route of the service and of an issuer, whose tokens may stand in a cookie too.
async fn beside(issuer: &str) -> Site {
    ruled("['external.sso', 'jwt.main']", "'authorization'", issuer).await
}

/// A route with a rule about the issuer and the service, which is sent these headers.
async fn ruled(rule: &str, headers: &str, issuer: &str) -> Site {
    let service = Service::start().await;
    let url = service.server.url();
    let keys = format!(
        "request_headers = {headers}\n[auth]\nfailures = '2/1m'\n\
         [auth.jwt.main]\nsecret = '{SECRET}'\n{issuer}\n\
         [routes.both]\npath = '/both'\nauth = {rule}\nrespond = {{}}\n"
    );
    let site = Site::asking(service, &url, &keys).await;
    site.service.decides(knows_good);
    site
}

fn knows_good(asked: &Parts) -> Response<BoxBody> {
    let said = asked.headers.get("authorization");
    let good = said.is_some_and(|said| said.as_bytes().ends_with(b" good"));
    answer(if good { 200 } else { 401 }, &[], "")
}

/// A token of the issuer.
fn token(expires: u64) -> String {
    let claims = serde_json::json!({ "sub": "alice", "exp": expires });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const CENTURY: u64 = 4_102_444_800;
const EITHER: &str = "from = ['header:authorization', 'cookie:t']";

impl Site {
    async fn ask(&self, credential: &str) -> u16 {
        self.get("/", &format!("{credential}\r\n")).await.status
    }
}

#[tokio::test]
async fn what_a_service_refuses_is_limited_by_address() {
    let site = site("").await;
    for _ in 0..2 {
        assert_eq!(site.ask("Authorization: Basic bad").await, 401);
    }
    let answer = site.get("/", "Authorization: Basic bad\r\n").await;
    let too_many = (429, "auth.too_many_failures".to_owned());
    assert_eq!(answer.refusal(), too_many);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(site.ask("Authorization: Basic good").await, 429);
    assert_eq!(site.service.asked(), 2, "it is spared");
    site.clock.advance(SECOND * 30);
    assert_eq!(site.ask("Authorization: Basic good").await, 200);
}

#[tokio::test]
async fn requests_without_a_credential_and_with_cookies_alone_are_no_guesses() {
    let site = site("").await;
    for _ in 0..5 {
        assert_eq!(site.ask("Accept: */*").await, 401);
        assert_eq!(site.ask("Cookie: session=ended").await, 401);
    }
    for _ in 0..2 {
        assert_eq!(site.ask("Authorization: Basic bad").await, 401);
    }
    assert_eq!(site.ask("Authorization: Basic bad").await, 429);
    assert_eq!(site.ask("Cookie: session=ended").await, 401);
}

#[tokio::test]
async fn a_token_that_is_remembered_is_let_in_while_its_address_is_refused_and_a_password_is_not() {
    let site = site("remember = '10m'").await;
    assert_eq!(site.ask("Authorization: Bearer good").await, 200);
    assert_eq!(site.ask("Authorization: Basic good").await, 200);
    for _ in 0..2 {
        assert_eq!(site.ask("Authorization: Bearer bad").await, 401);
    }
    assert_eq!(site.ask("Authorization: Bearer bad").await, 429);
    assert_eq!(site.ask("Authorization: Bearer good").await, 200);
    assert_eq!(site.ask("Authorization: Basic good").await, 429);
}

#[tokio::test]
async fn guesses_at_the_same_time_all_count() {
    let (release, released) = tokio::sync::watch::channel(false);
    let slow = Origin::start(move |mut peer| {
        let mut released = released.clone();
        async move {
            peer.request().await;
            released.wait_for(|released| *released).await.unwrap();
            let answer =
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            peer.write(answer).await;
        }
    })
    .await;
    let keys = "timeout = '30s'\n[auth]\nfailures = '2/1m'";
    let site = Site::asking(Service::start().await, &slow.url(), keys).await;
    let guess = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic bad\r\n\r\n";
    let answers: Vec<_> = (0..4)
        .map(|_| tokio::spawn(Raw::ask(site.gateway.address(), guess)))
        .collect();
    support::eventually(|| slow.requests().len() == 4).await;
    release.send(true).unwrap();
    for answer in answers {
        assert_eq!(answer.await.unwrap().status, 401);
    }
    // Four were had of two: the next one comes when three of them are paid for.
    site.clock.advance(SECOND * 89);
    assert_eq!(site.ask("Authorization: Basic bad").await, 429);
    site.clock.advance(SECOND);
    assert_eq!(site.ask("Authorization: Basic bad").await, 401);
}

/// A token that has expired is no guess, as long as somebody else on the route can tell.
#[tokio::test]
async fn what_another_method_knows_is_no_guess() {
    let service = Service::start().await;
    service.says(401, &[], "");
    let keys = format!(
        "[auth]\nfailures = '2/1m'\n[auth.jwt.main]\nsecret = '{SECRET}'\n\
         [routes.both]\npath = '/both'\nauth = ['jwt.main', 'external.sso']\nrespond = {{}}\n"
    );
    let url = service.server.url();
    let site = Site::asking(service, &url, &keys).await;
    for _ in 0..5 {
        let field = format!("Authorization: Bearer {}\r\n", token(1));
        assert_eq!(site.get("/both", &field).await.status, 401);
    }
}

/// What another method says of something else that the request has is no excuse: nobody needs to know
/// anything in order to send two cookies.
#[tokio::test]
async fn a_guess_counts_whatever_stands_beside_it() {
    for cookie in [
        "t=a; t=b".to_owned(),
        // It asks for an extension, and nobody has signed it.
        "t=eyJhbGciOiJIUzI1NiIsImNyaXQiOlsieCJdfQ.e30.AA".to_owned(),
        format!("t={}", token(1)),
    ] {
        let site = beside(EITHER).await;
        let fields = format!("Cookie: {cookie}\r\nAuthorization: Basic bad\r\n");
        for _ in 0..2 {
            assert_eq!(site.get("/both", &fields).await.status, 401, "{cookie}");
        }
        assert_eq!(site.get("/both", &fields).await.status, 429, "{cookie}");
        assert_eq!(site.service.asked(), 2, "{cookie}");
    }
}

/// Else a password could be tried for ever behind a session of one's own.
#[tokio::test]
async fn a_guess_counts_although_another_credential_lets_the_request_in() {
    let site = beside(EITHER).await;
    let cookie = format!("Cookie: t={}\r\n", token(CENTURY));
    let guess = format!("{cookie}Authorization: Basic bad\r\n");
    for _ in 0..4 {
        assert_eq!(site.get("/both", &guess).await.status, 200);
    }
    assert_eq!(site.service.asked(), 2, "it is spared");
    assert_eq!(site.ask("Authorization: Basic good").await, 429);
}

#[tokio::test]
async fn what_another_method_accepts_is_no_guess() {
    let site = beside("").await;
    let field = format!("Authorization: Bearer {}\r\n", token(CENTURY));
    for _ in 0..4 {
        assert_eq!(site.get("/both", &field).await.status, 200);
    }
    assert_eq!(site.service.asked(), 4);
    assert_eq!(site.ask("Authorization: Basic bad").await, 401);
}

/// The service is asked first, and does not know what the issuer knows: that is what it has refused.
#[tokio::test]
async fn what_a_service_was_sent_beside_a_good_credential_is_no_guess() {
    let service_first = "['external.sso', 'jwt.main']";
    let site = ruled(service_first, "['authorization', 'x-tenant']", "").await;
    let fields = format!(
        "Authorization: Bearer {}\r\nX-Tenant: acme\r\n",
        token(CENTURY)
    );
    for _ in 0..4 {
        assert_eq!(site.get("/both", &fields).await.status, 200);
    }
    assert_eq!(site.service.asked(), 4);
}

#[tokio::test]
async fn a_password_is_a_guess_although_the_service_was_sent_a_good_credential_too() {
    let (service_first, own) = ("['external.sso', 'jwt.main']", "from = 'header:x-token'");
    let site = ruled(service_first, "['x-token', 'authorization']", own).await;
    let fields = format!(
        "X-Token: {}\r\nAuthorization: Basic bad\r\n",
        token(CENTURY)
    );
    for _ in 0..4 {
        assert_eq!(site.get("/both", &fields).await.status, 200);
    }
    assert_eq!(site.service.asked(), 2, "it is spared");
}

/// The session at the service is over, and the token is still good: a page that goes on asking must not
/// lock out its address.
#[tokio::test]
async fn what_another_method_of_an_alternative_that_fails_accepts_is_no_guess() {
    let all = "{ all = ['jwt.main', 'external.sso'] }";
    let site = ruled(all, "'authorization'", EITHER).await;
    let field = format!("Authorization: Bearer {}\r\n", token(CENTURY));
    for _ in 0..4 {
        assert_eq!(site.get("/both", &field).await.status, 401);
    }
    assert_eq!(site.service.asked(), 4);
    let cookie = format!("Cookie: t={}\r\n", token(CENTURY));
    let guess = format!("{cookie}Authorization: Basic bad\r\n");
    for _ in 0..2 {
        assert_eq!(site.get("/both", &guess).await.status, 401);
    }
    assert_eq!(site.get("/both", &guess).await.status, 429);
}

/// A service that says yes to all knows nothing of a password.
#[tokio::test]
async fn what_a_service_of_an_alternative_that_fails_has_let_pass_is_a_guess() {
    let service = Service::start().await;
    let (url, open) = (service.server.url(), Service::start().await);
    let yes = open.server.url();
    let keys = format!(
        "request_headers = 'authorization'\n[auth]\nfailures = '2/1m'\n\
         [auth.external.yes]\nurl = '{yes}'\nrequest_headers = 'authorization'\n\
         [routes.both]\npath = '/both'\nauth = {{ all = ['external.yes', 'external.sso'] }}\n\
         respond = {{}}\n"
    );
    let site = Site::asking(service, &url, &keys).await;
    site.service.decides(knows_good);
    let guess = "Authorization: Basic bad\r\n";
    for _ in 0..2 {
        assert_eq!(site.get("/both", guess).await.status, 401);
    }
    assert_eq!(site.get("/both", guess).await.status, 429);
}

/// Else passwords could be tried at one service for as long as another is away.
#[tokio::test]
async fn a_service_that_is_away_excuses_what_an_issuer_can_not_read_and_no_guess_at_another_service()
 {
    let service = Service::start().await;
    let (url, away) = (service.server.url(), Origin::ok().await.url());
    let keys = format!(
        "request_headers = 'authorization'\n[auth]\nfailures = '2/1m'\n\
         [auth.external.away]\nurl = '{away}'\nrequest_headers = 'authorization'\n\
         [auth.jwt.main]\nsecret = '{SECRET}'\n\
         [routes.issuer]\npath = '/issuer'\nauth = ['external.away', 'jwt.main']\nrespond = {{}}\n\
         [routes.both]\npath = '/both'\nauth = ['external.sso', 'external.away']\nrespond = {{}}\n"
    );
    let site = Site::asking(service, &url, &keys).await;
    site.service.decides(knows_good);
    for _ in 0..4 {
        let answer = site
            .get("/issuer", "Authorization: Bearer opaque\r\n")
            .await;
        assert_eq!(answer.refusal(), unavailable());
    }
    let guess = "Authorization: Basic bad\r\n";
    for _ in 0..2 {
        assert_eq!(site.get("/both", guess).await.status, 401);
    }
    assert_eq!(site.get("/both", guess).await.status, 429);
}

/// Else passwords could be tried at one service behind the login page of another.
#[tokio::test]
async fn a_service_that_forbids_or_redirects_excuses_what_an_issuer_can_not_read_and_no_guess_at_another_service()
 {
    for status in [302, 403] {
        let (service, login) = (Service::start().await, Service::start().await);
        login.says(status, &[("location", "https://login.test/")], "");
        let (url, login_url) = (service.server.url(), login.server.url());
        let keys = format!(
            "request_headers = 'authorization'\n[auth]\nfailures = '2/1m'\n\
             [auth.external.login]\nurl = '{login_url}'\nrequest_headers = 'authorization'\n\
             pass_redirects = true\n\
             [auth.jwt.main]\nsecret = '{SECRET}'\n\
             [routes.one]\npath = '/one'\nauth = 'external.login'\nrespond = {{}}\n\
             [routes.issuer]\npath = '/issuer'\nauth = ['external.login', 'jwt.main']\nrespond = {{}}\n\
             [routes.both]\npath = '/both'\nauth = ['external.login', 'external.sso']\nrespond = {{}}\n"
        );
        let site = Site::asking(service, &url, &keys).await;
        site.service.decides(knows_good);
        let opaque = "Authorization: Bearer opaque\r\n";
        for path in ["/one", "/one", "/one", "/issuer", "/issuer", "/issuer"] {
            assert_eq!(site.get(path, opaque).await.status, status, "{path}");
        }
        let guess = "Authorization: Basic bad\r\n";
        for _ in 0..2 {
            assert_eq!(site.get("/both", guess).await.status, status);
        }
        assert_eq!(site.get("/both", guess).await.status, 429, "{status}");
        assert_eq!(site.service.asked(), 2, "it is spared");
    }
}
