//! Users and passwords: who is let in, and a file that changes under a running gateway.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use jsonwebtoken::Algorithm;
use tempfile::TempDir;

use crate::{
    bearer,
    fail_closed::{MORE_THAN_WAIT, SLOW},
    signer::{Signer, alice},
    support::{self, Answer, Gateway, Origin, Raw, Server, eventually, full},
};

/// The cheapest hash that is taken: tests are many.
fn hash(password: &str) -> String {
    bcrypt::hash_with_result(password, 5)
        .unwrap()
        .format_for_version(bcrypt::Version::TwoY)
}

struct Staff {
    folder: TempDir,
    gateway: Gateway,
}

impl Staff {
    /// A gateway with these users, and these further keys of the method and of the route.
    fn start(users: &str, keys: &str, route: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        std::fs::write(&file, users).unwrap();
        let text = format!(
            "[auth.basic.staff]\nusers_file = '{}'\n{keys}\n[routes.all]\nauth = 'basic.staff'\n{route}\n",
            file.display()
        );
        let gateway = Gateway::start(&text);
        Self { folder, gateway }
    }

    fn with(users: &str) -> Self {
        Self::start(users, "", "respond = { body = 'here' }")
    }

    async fn ask(&self, authorization: &str) -> Answer {
        let field = match authorization {
            "" => String::new(),
            value => format!("Authorization: {value}\r\n"),
        };
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        Raw::ask(self.gateway.address(), request).await
    }

    async fn login(&self, user: &str, password: &str) -> (u16, String) {
        self.ask(&basic(user, password)).await.refusal()
    }

    /// Replaces the file and waits until it was read.
    async fn replace(&self, users: &str, result: &str) {
        let labels = ["owner=\"basic.staff\"", result];
        let reads = || self.gateway.metric("tollgate_file_reads_total", &labels);
        let before = reads();
        let new = self.folder.path().join("new");
        std::fs::write(&new, users).unwrap();
        std::fs::rename(new, self.folder.path().join("users")).unwrap();
        eventually(|| reads() > before).await;
    }
}

fn basic(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{user}:{password}"))
    )
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn refused(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

fn let_in() -> (u16, String) {
    refused(200, "")
}

#[tokio::test]
async fn a_right_password_lets_in_and_names_the_caller() {
    let staff = Staff::with(&format!("alice:{}\n", hash("open:sesame")));
    assert_eq!(staff.login("alice", "open:sesame").await, let_in());
    let line = staff.gateway.log_line().await;
    assert_eq!(line["principal"], "basic.staff:alice");
    assert!(!line.to_string().contains("sesame"));
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_told_alike() {
    let staff = Staff::with(&format!("alice:{}\n", hash("secret")));
    let wrong = staff.ask(&basic("alice", "guess")).await;
    let unknown = staff.ask(&basic("mallory", "secret")).await;
    assert_eq!(wrong.refusal(), refused(401, "auth.basic.wrong"));
    assert_eq!(wrong.refusal(), unknown.refusal());
    let message = |answer: &Answer| answer.json()["error"].clone();
    assert_eq!(message(&wrong), message(&unknown));
    let challenge = Some("Basic realm=\"tollgate\", charset=\"UTF-8\"");
    assert_eq!(wrong.header("www-authenticate"), challenge);
}

#[tokio::test]
async fn a_request_without_a_password_is_asked_for_one_with_the_realm() {
    let staff = Staff::start("", "realm = 'The staff'", "respond = { body = 'here' }");
    let answer = staff.ask("").await;
    assert_eq!(answer.refusal(), refused(401, "auth.missing"));
    let challenge = Some("Basic realm=\"The staff\", charset=\"UTF-8\"");
    assert_eq!(answer.header("www-authenticate"), challenge);
}

#[tokio::test]
async fn names_and_passwords_are_utf_8() {
    let staff = Staff::with(&format!("jürgen:{}\n", hash("pässwörd")));
    assert_eq!(staff.login("jürgen", "pässwörd").await, let_in());
    let latin1 = format!("Basic {}", BASE64_STANDARD.encode(b"j\xfcrgen:x"));
    let malformed = refused(401, "auth.basic.malformed");
    assert_eq!(staff.ask(&latin1).await.refusal(), malformed);
    assert_eq!(staff.ask("Basic nonsense!").await.refusal(), malformed);
}

#[tokio::test]
async fn argon2id_is_taken_too() {
    use argon2::{Argon2, Params, PasswordHasher, password_hash::SaltString};
    let params = Params::new(64, 1, 1, None).unwrap();
    let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let salt = SaltString::encode_b64(b"somesaltsomesalt").unwrap();
    let hash = argon2.hash_password(b"secret", &salt).unwrap().to_string();
    let staff = Staff::with(&format!("alice:{hash}\n"));
    assert_eq!(staff.login("alice", "secret").await, let_in());
    assert_eq!(staff.login("alice", "guess").await.0, 401);
}

#[tokio::test]
async fn a_changed_password_is_wrong_although_it_was_remembered() {
    let staff = Staff::with(&format!("alice:{}\n", hash("old")));
    assert_eq!(staff.login("alice", "old").await, let_in());
    staff
        .replace(&format!("alice:{}\n", hash("new")), "success")
        .await;
    assert_eq!(
        staff.login("alice", "old").await,
        refused(401, "auth.basic.wrong")
    );
    assert_eq!(staff.login("alice", "new").await, let_in());
    staff.replace("alice:{SHA}nonsense\n", "failure").await;
    assert_eq!(
        staff.login("alice", "new").await,
        let_in(),
        "a broken file changes nothing"
    );
}

#[tokio::test]
async fn many_requests_at_once_with_one_password_are_all_let_in() {
    let staff = Staff::with(&format!("alice:{}\n", hash("secret")));
    let all = (0..50).map(|_| staff.login("alice", "secret"));
    for outcome in join_all(all).await {
        assert_eq!(outcome, let_in());
    }
}

#[tokio::test]
async fn wrong_passwords_are_limited_by_address_whoever_is_named() {
    let staff = Staff::start(
        &format!("alice:{}\n", hash("secret")),
        "[auth]\nfailures = '3/1m'",
        "respond = { body = 'here' }",
    );
    assert_eq!(staff.login("alice", "secret").await, let_in());
    for user in ["alice", "bob", "carol"] {
        assert_eq!(staff.login(user, "guess").await.0, 401);
    }
    let too_many = refused(429, "auth.too_many_failures");
    assert_eq!(staff.login("dave", "guess").await, too_many);
    let right = staff.login("alice", "secret").await;
    assert_eq!(
        right, too_many,
        "what is remembered would tell a right guess"
    );
}

/// There is no room for so many hashes at once: had any been made, others would be refused as
/// `auth.busy`.
#[tokio::test]
async fn a_password_from_an_address_that_has_guessed_costs_no_hash() {
    let tables = format!(
        "[auth]\nfailures = '2/1m'\n[auth.jwt.main]\nsecret = '{SECRET}'\n\
         [routes.tokens]\npath = '/tokens'\nauth = 'jwt.main'\nrespond = {{}}"
    );
    let users = format!("alice:{SLOW}\n");
    let staff = Staff::start(&users, &tables, "respond = { body = 'here' }");
    let forged = Signer::new(Algorithm::HS256).token(&alice());
    for _ in 0..2 {
        let guess = format!("GET /tokens HTTP/1.1\r\nHost: a\r\n{}\r\n", bearer(&forged));
        let answer = Raw::ask(staff.gateway.address(), guess).await;
        assert_eq!(answer.refusal(), refused(401, "auth.jwt.bad_signature"));
    }
    let passwords: Vec<_> = (0..MORE_THAN_WAIT)
        .map(|number| number.to_string())
        .collect();
    let logins = passwords
        .iter()
        .map(|password| staff.login("alice", password));
    let too_many = refused(429, "auth.too_many_failures");
    for refusal in join_all(logins).await {
        assert_eq!(refusal, too_many);
    }
    let labels = [
        "method=\"basic.staff\"",
        "reason=\"auth.too_many_failures\"",
    ];
    let counted = staff
        .gateway
        .metric("tollgate_auth_decisions_total", &labels);
    assert_eq!(counted, MORE_THAN_WAIT as f64);
}

/// Its users need a token too, and the other file has other users: nothing of that is a guess.
#[tokio::test]
async fn a_password_that_is_right_for_another_file_is_no_failure_without_what_else_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (admins, staff) = (folder.path().join("admins"), folder.path().join("staff"));
    std::fs::write(&admins, format!("bob:{}\n", hash("secret"))).unwrap();
    std::fs::write(&staff, format!("alice:{}\n", hash("secret"))).unwrap();
    let gateway = Gateway::start(&format!(
        "[auth.basic.admins]\nusers_file = '{}'\n[auth.basic.staff]\nusers_file = '{}'\n\
         [auth.jwt.app]\nsecret = '{SECRET}'\nfrom = 'cookie:session'\n\
         [auth]\nfailures = '2/1m'\n\
         [routes.all]\nauth = [{{ all = ['basic.admins', 'jwt.app'] }}, 'basic.staff']\n\
         respond = {{ body = 'here' }}\n",
        admins.display(),
        staff.display()
    ));
    let login = async |password: &str| {
        let credentials = basic("bob", password);
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {credentials}\r\n\r\n");
        Raw::ask(gateway.address(), request).await.status
    };
    for _ in 0..4 {
        assert_eq!(login("secret").await, 401);
    }
    for _ in 0..2 {
        assert_eq!(login("guess").await, 401);
    }
    assert_eq!(login("guess").await, 429);
}

/// Another method's refusal may stand above that of the password: it must not hide the guess.
#[tokio::test]
async fn wrong_passwords_are_limited_whoever_else_refuses() {
    let denies = |_| async {
        let denial = http::Response::builder().status(401);
        denial.body(full("no")).unwrap()
    };
    let service = Server::http1(denies).await;
    let external = format!("[auth.external.sso]\nurl = '{}/auth'\n", service.url());
    let jwt = "[auth.jwt.main]\nsecret = 'a secret of no less than 32 bytes'\n\
               issuer = 'a'\naudience = 'b'\nfrom = 'cookie:session'\n";
    for (method, table, fields) in [
        ("external.sso", &*external, ""),
        ("jwt.main", jwt, "Cookie: session=a; session=b\r\n"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        std::fs::write(&file, format!("alice:{}\n", hash("secret"))).unwrap();
        let gateway = Gateway::start(&format!(
            "{table}[auth.basic.staff]\nusers_file = '{}'\n[auth]\nfailures = '2/1m'\n\
             [routes.all]\nauth = ['{method}', 'basic.staff']\nrespond = {{ body = 'here' }}\n",
            file.display()
        ));
        let login = |password: &str, fields: &str| {
            let credentials = basic("alice", password);
            let request = format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{fields}Authorization: {credentials}\r\n\r\n"
            );
            Raw::ask(gateway.address(), request)
        };
        assert_eq!(login("secret", "").await.status, 200, "{method}");
        for _ in 0..2 {
            assert_ne!(login("guess", fields).await.status, 200, "{method}");
        }
        assert_ne!(login("secret", "").await.status, 200, "{method}");
    }
}

#[tokio::test]
async fn the_upstream_gets_the_password_unless_it_should_not() {
    for (forward, expected) in [(true, true), (false, false)] {
        let origin = Origin::ok().await;
        let staff = Staff::start(
            &format!("alice:{}\n", hash("secret")),
            &format!("forward_credentials = {forward}"),
            &format!("upstream = '{}'", origin.url()),
        );
        assert_eq!(staff.ask(&basic("alice", "secret")).await.status, 200);
        let sent = origin.requests()[0].header("authorization").is_some();
        assert_eq!(sent, expected);
    }
}

#[tokio::test]
async fn every_user_of_a_file_has_its_roles() {
    let staff = Staff::start(
        &format!("alice:{}\n", hash("secret")),
        "roles = ['staff']\n[roles.staff]\npermissions = ['x']\n[roles.boss]\npermissions = ['y']",
        "respond = { body = 'here' }\nroles = 'staff'\n[routes.boss]\npath = '/boss'\n\
         auth = 'basic.staff'\nroles = 'boss'\nrespond = { body = 'there' }",
    );
    assert_eq!(staff.login("alice", "secret").await, let_in());
    let request = format!(
        "GET /boss HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\r\n",
        basic("alice", "secret")
    );
    let answer = Raw::ask(staff.gateway.address(), request).await;
    assert_eq!(answer.refusal(), refused(403, "rbac.denied"));
    // RFC 9110 15.5.4: another login does not help.
    assert_eq!(answer.header("www-authenticate"), None);
}

/// RFC 9110 11.6.1: one field for each scheme. What was wrong stands in the one that it is about.
#[tokio::test]
async fn each_scheme_of_a_route_has_a_challenge_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (users, keys) = (folder.path().join("users"), folder.path().join("keys.toml"));
    std::fs::write(&users, "").unwrap();
    std::fs::write(&keys, "").unwrap();
    let gateway = Gateway::start(&format!(
        "[auth.jwt.app]\nsecret = '{SECRET}'\n\
         [auth.api_keys.partners]\nkeys_file = '{}'\n\
         [auth.basic.staff]\nusers_file = '{}'\n\
         [routes.all]\nauth = ['jwt.app', 'api_keys.partners', 'basic.staff']\nrespond = {{}}\n",
        keys.display(),
        users.display()
    ));
    let ask = async |field: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        Raw::ask(gateway.address(), request).await
    };
    let others = [
        "ApiKey realm=\"tollgate\"",
        "Basic realm=\"tollgate\", charset=\"UTF-8\"",
    ];
    let missing = ask("").await;
    assert_eq!(missing.refusal(), refused(401, "auth.missing"));
    let challenges = missing.all("www-authenticate");
    assert_eq!(challenges[0], "Bearer realm=\"tollgate\"");
    assert_eq!(challenges[1..], others);

    let bad = ask("Authorization: Bearer a.b.c\r\n").await;
    assert_eq!(bad.refusal(), refused(401, "auth.jwt.malformed"));
    let challenges = bad.all("www-authenticate");
    let told = "Bearer realm=\"tollgate\", error=\"invalid_token\"";
    assert!(challenges[0].starts_with(told), "{challenges:?}");
    assert_eq!(challenges[1..], others);
}

/// A method that reads two places has used one of them; what stands at the other is not covered.
#[tokio::test]
async fn a_wrong_password_is_refused_even_beside_a_good_cookie() {
    let staff = Staff::start(
        &format!("alice:{}\n", hash("secret")),
        &format!(
            "[auth.jwt.app]\nsecret = '{SECRET}'\n\
             from = ['header:authorization', 'cookie:session']"
        ),
        "respond = { body = 'here' }\n[routes.both]\npath = '/both'\n\
         auth = ['jwt.app', 'basic.staff']\nrespond = { body = 'there' }",
    );
    let claims = serde_json::json!({ "sub": "alice", "exp": 4_102_444_800_u64 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let ask = async |password: &str| {
        let request = format!(
            "GET /both HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\
             Cookie: session={token}\r\n\r\n",
            basic("alice", password)
        );
        Raw::ask(staff.gateway.address(), request).await.refusal()
    };
    assert_eq!(ask("secret").await, let_in());
    assert_eq!(ask("guess").await, refused(401, "auth.basic.wrong"));
}

/// The first file does not know the password, which is right all the same.
#[tokio::test]
async fn a_password_of_a_second_file_beside_a_good_cookie_is_let_in_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (admins, staff) = (folder.path().join("admins"), folder.path().join("staff"));
    std::fs::write(&admins, format!("bob:{}\n", hash("other"))).unwrap();
    std::fs::write(&staff, format!("alice:{}\n", hash("secret"))).unwrap();
    let claims = serde_json::json!({ "sub": "alice", "exp": 4_102_444_800_u64 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    for methods in [
        "['jwt.app', 'basic.admins', 'basic.staff']",
        "['basic.admins', 'jwt.app', 'basic.staff']",
        "['basic.admins', 'basic.staff', 'jwt.app']",
    ] {
        let gateway = Gateway::start(&format!(
            "[auth.basic.admins]\nusers_file = '{}'\n[auth.basic.staff]\nusers_file = '{}'\n\
             [auth.jwt.app]\nsecret = '{SECRET}'\nfrom = 'cookie:session'\n\
             [auth]\nfailures = '2/1m'\n\
             [routes.all]\nauth = {methods}\nrespond = {{ body = 'here' }}\n",
            admins.display(),
            staff.display()
        ));
        let login = async |password: &str| {
            let request = format!(
                "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\
                 Cookie: session={token}\r\n\r\n",
                basic("alice", password)
            );
            Raw::ask(gateway.address(), request).await.refusal()
        };
        for _ in 0..4 {
            assert_eq!(login("secret").await, let_in(), "{methods}");
        }
        for _ in 0..2 {
            let wrong = refused(401, "auth.basic.wrong");
            assert_eq!(login("guess").await, wrong, "{methods}");
        }
        let too_many = refused(429, "auth.too_many_failures");
        assert_eq!(login("guess").await, too_many, "{methods}");
    }
}

#[tokio::test]
async fn the_example_of_the_page_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.htpasswd");
    std::fs::write(&file, format!("alice:{}\n", hash("secret"))).unwrap();
    let text = support::example("docs/auth-basic.md")
        .replace("users.htpasswd", &file.display().to_string());
    let gateway = Gateway::start(&text);
    let ask = async |field: &str| {
        let request = format!("GET /tools/ HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        Raw::ask(gateway.address(), request).await
    };
    let answer = ask("").await;
    assert_eq!(answer.refusal(), refused(401, "auth.missing"));
    let challenge = Some("Basic realm=\"Staff\", charset=\"UTF-8\"");
    assert_eq!(answer.header("www-authenticate"), challenge);
    let field = format!("Authorization: {}\r\n", basic("alice", "secret"));
    assert_eq!(ask(&field).await.text(), "tools\n");
    assert_eq!(
        gateway.log_lines(2).await[1]["principal"],
        "basic.staff:alice"
    );
}
