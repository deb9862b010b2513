//! What can't be told is a refusal. Whatever keeps a credential from being judged, the answer is 503
//! with its reason and says nothing of the credential, and the upstream is never asked; neither is it
//! where requests without any credential may pass.

use std::{path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::future::select_all;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tollgate::exchange::Clock;

use crate::{
    jwks::provider::{Provider, Says},
    signer::{Signer, alice_with, now},
    support::{Answer, Gateway, KeysFile, Origin, Raw, eventually, free_port},
};

/// A gateway with a route `/only` for a method, a route `/either` for that or nobody, and the origin
/// behind both.
struct Site {
    gateway: Gateway,
    origin: Origin,
    clock: Clock,
}

impl Site {
    /// `ORIGIN` stands for the origin's URL.
    async fn with(tables: &str, method: &str) -> Self {
        Self::after(tables, method, || {}).await
    }

    /// The same, after what happens between the check of the configuration and the start.
    async fn after(tables: &str, method: &str, meanwhile: impl FnOnce()) -> Self {
        let (origin, clock) = (Origin::ok().await, Clock::movable());
        let text = format!(
            "{tables}\n[auth]\nfailures = 'off'\n\
             [routes.only]\npath = '/only'\nauth = '{method}'\nupstream = 'ORIGIN'\n\
             [routes.either]\npath = '/either'\nauth = ['{method}', 'anonymous']\n\
             upstream = 'ORIGIN'\n"
        );
        let text = text.replace("ORIGIN", &origin.url());
        Self {
            gateway: Gateway::start_after(&text, clock.clone(), meanwhile),
            origin,
            clock,
        }
    }

    async fn get(&self, path: &str, fields: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n");
        Raw::ask(self.gateway.address(), request).await
    }

    /// A credential that can't be judged is refused on both routes.
    async fn refuses(&self, fields: &str, secret: &str, reason: &str) {
        let before = self.origin.received();
        for path in ["/only", "/either"] {
            let answer = self.get(path, fields).await;
            assert_refused(&answer, secret, reason);
        }
        assert_eq!(self.origin.received(), before, "the upstream was asked");
        self.tells_nothing(secret, reason, 2).await;
    }

    /// Log and metrics have so many refusals for a reason, and not the secret.
    async fn tells_nothing(&self, secret: &str, reason: &str, times: usize) {
        let refused = || {
            let lines = self.gateway.log().into_iter();
            let lines = lines.filter(|line| line["reason"] == reason);
            lines.collect::<Vec<Value>>()
        };
        eventually(|| refused().len() == times).await;
        for line in refused() {
            assert_eq!(line["status"], 503, "{line:#}");
            assert!(line["principal"].is_null(), "{line:#}");
            assert!(!line.to_string().contains(secret), "{line:#}");
        }
        let label = format!("reason=\"{reason}\"");
        let counted = self
            .gateway
            .metric("tollgate_auth_decisions_total", &[&label]);
        assert_eq!(counted, times as f64);
        assert!(!self.gateway.inner().metrics().contains(secret));
    }

    /// The same credential is good once it can be judged: it was not refused for anything else.
    async fn lets_in(&self, fields: &str) {
        assert_eq!(self.get("/only", fields).await.text(), "ok");
    }

    /// Waits until the last reading of a watched file has had that result.
    async fn was_read(&self, owner: &str, successful: f64) {
        let owner = format!("owner=\"{owner}\"");
        let name = "tollgate_file_last_read_successful";
        eventually(|| self.gateway.metric(name, &[&owner]) == successful).await;
    }
}

#[track_caller]
fn assert_refused(answer: &Answer, secret: &str, reason: &str) {
    assert_eq!(answer.refusal(), (503, reason.to_owned()));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    // Another login does not help.
    assert!(answer.all("www-authenticate").is_empty(), "{answer:?}");
    let told = format!("{:?} {}", answer.fields, answer.text());
    assert!(!told.contains(secret), "{told}");
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A token of a key `a` that is good for a year, whatever the clock says.
fn token(signer: &Signer) -> String {
    let lasting = json!({ "exp": now() + 365 * 86_400, "jti": "1" });
    signer.named("a", &alice_with(lasting))
}

fn issuer(provider: &Provider, more: &str) -> String {
    let url = provider.url();
    format!("[auth.jwt.main]\nalgorithms = 'ES256'\njwks_url = '{url}/jwks'\n{more}\n")
}

/// An issuer with a secret and a list of revoked tokens.
fn revoking(signer: &Signer, list: &str) -> String {
    let keys = signer.keys();
    format!("[auth.jwt.main]\n{keys}\nrevocation = {{ {list}, max_stale = '1h' }}\n")
}

/// Puts a file in the place of another at once.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn without_the_keys_of_an_issuer_no_token_is_let_in() {
    let signer = Signer::new(Algorithm::ES256);
    let provider = Provider::of(&[]).await;
    provider.says(Says::Status(500));
    let site = Site::with(&issuer(&provider, ""), "jwt.main").await;
    let token = token(&signer);
    let reason = "auth.jwt.keys_unavailable";
    site.refuses(&bearer(&token), &token, reason).await;
    let again = site.get("/only", &bearer(&token)).await;
    assert!(again.header("retry-after").is_some(), "{again:?}");

    provider.has(&[(&signer, "a")]);
    site.clock.advance(MINUTE);
    let fetched = || {
        let name = "tollgate_jwks_refreshes_total";
        site.gateway.metric(name, &["result=\"success\""])
    };
    eventually(|| fetched() >= 1.0).await;
    site.lets_in(&bearer(&token)).await;
}

#[tokio::test]
async fn with_keys_that_are_too_old_no_token_is_let_in_remembered_or_not() {
    let signer = Signer::new(Algorithm::ES256);
    let provider = Provider::of(&[(&signer, "a")]).await;
    let tables = issuer(&provider, "refresh.max_stale = '2h'");
    let site = Site::with(&tables, "jwt.main").await;
    let remembered = token(&signer);
    site.lets_in(&bearer(&remembered)).await;
    let _gone = provider.die().await;
    site.clock.advance(DAY);
    eventually(|| site.gateway.metric("tollgate_jwks_keys", &[]) == 0.0).await;
    let reason = "auth.jwt.keys_unavailable";
    site.refuses(&bearer(&remembered), &remembered, reason)
        .await;
    let unseen = signer.named("a", &alice_with(json!({ "exp": now() + 10 * 86_400 })));
    let answer = site.get("/only", &bearer(&unseen)).await;
    assert_refused(&answer, &unseen, reason);
}

#[tokio::test]
async fn without_a_list_of_revoked_tokens_no_token_is_let_in() {
    let signer = Signer::new(Algorithm::HS256);
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("revoked.txt");
    let file = format!("file = '{}'", list.display());
    let site = Site::with(&revoking(&signer, &file), "jwt.main").await;
    let token = token(&signer);
    let reason = "auth.jwt.revocation_unknown";
    site.refuses(&bearer(&token), &token, reason).await;
    replace(&list, "");
    site.was_read("jwt.main.revocation", 1.0).await;
    site.lets_in(&bearer(&token)).await;
}

#[tokio::test]
async fn with_a_list_of_revoked_tokens_that_is_too_old_no_token_is_let_in() {
    let signer = Signer::new(Algorithm::HS256);
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("revoked.txt");
    replace(&list, "2\n");
    let file = format!("file = '{}'", list.display());
    let site = Site::with(&revoking(&signer, &file), "jwt.main").await;
    let token = token(&signer);
    site.lets_in(&bearer(&token)).await;
    replace(&list, "not a list\n");
    site.was_read("jwt.main.revocation", 0.0).await;
    site.lets_in(&bearer(&token)).await;
    site.clock.advance(HOUR + MINUTE);
    let reason = "auth.jwt.revocation_unknown";
    site.refuses(&bearer(&token), &token, reason).await;
}

#[tokio::test]
async fn without_the_redis_that_has_the_revoked_tokens_no_token_is_let_in() {
    let signer = Signer::new(Algorithm::HS256);
    let tables = format!(
        "{}[redis]\nurl = 'redis://127.0.0.1:{}'\n",
        revoking(&signer, "redis_set = 'revoked'"),
        free_port()
    );
    let site = Site::with(&tables, "jwt.main").await;
    let token = token(&signer);
    let reason = "auth.jwt.revocation_unknown";
    site.refuses(&bearer(&token), &token, reason).await;
}

#[tokio::test]
async fn without_the_service_that_decides_nobody_is_let_in() {
    // Nobody listens there any more.
    let url = Origin::ok().await.url();
    let tables = format!("[auth.external.sso]\nurl = '{url}/auth'\nremember = '1h'\n");
    let site = Site::with(&tables, "external.sso").await;
    let reason = "auth.external.unavailable";
    let fields = "Authorization: Bearer hush-hush\r\nCookie: session=hush-hush\r\n";
    site.refuses(fields, "hush", reason).await;
    // It would have had a say about requests without a credential too.
    let answer = site.get("/either", "").await;
    assert_refused(&answer, "hush", reason);
}

#[tokio::test]
async fn without_the_file_of_keys_no_key_is_let_in() {
    let mut file = KeysFile::new();
    let key = file.add("a", "");
    let path = file.path();
    let tables = format!(
        "[auth.api_keys.partners]\nkeys_file = '{}'\n",
        path.display()
    );
    let gone = || std::fs::remove_file(&path).unwrap();
    let site = Site::after(&tables, "api_keys.partners", gone).await;
    let fields = format!("X-Api-Key: {key}\r\n");
    site.refuses(&fields, &key, "auth.unavailable").await;
    file.replace(file.text());
    site.was_read("api_keys.partners", 1.0).await;
    site.lets_in(&fields).await;
}

/// The file may hold the address that is to be denied, and need not hold the one that is allowed. No
/// credential is at stake here: the answer is the 403 of any address that is not admitted.
#[tokio::test]
async fn without_the_file_of_a_set_of_addresses_nobody_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("networks");
    std::fs::write(&file, "192.0.2.1\n").unwrap();
    let origin = Origin::ok().await;
    let text = format!(
        "[ip_sets.x]\nfile = '{}'\n\
         [routes.denied]\npath = '/denied'\nip = {{ deny = ['@x'] }}\nupstream = '{1}'\n\
         [routes.allowed]\npath = '/allowed'\nip = {{ allow = ['@x'] }}\nupstream = '{1}'\n",
        file.display(),
        origin.url()
    );
    let gone = || std::fs::remove_file(&file).unwrap();
    let gateway = Gateway::start_after(&text, Clock::system(), gone);
    let get = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
        Raw::ask(gateway.address(), request).await
    };
    for path in ["/denied", "/allowed"] {
        let answer = get(path).await;
        assert_eq!(answer.refusal(), (403, "ip.denied".to_owned()), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(origin.received(), "", "the upstream was asked");
    let labels = ["owner=\"ip_sets.x\"", "result=\"success\""];
    let reads = || gateway.metric("tollgate_file_reads_total", &labels);
    for (times, networks, denied, allowed) in [
        (1.0, "192.0.2.1\n", 200, 403),
        (2.0, "127.0.0.1\n", 403, 200),
    ] {
        replace(&file, networks);
        eventually(|| reads() == times).await;
        assert_eq!(get("/denied").await.status, denied, "{networks}");
        assert_eq!(get("/allowed").await.status, allowed, "{networks}");
    }
}

fn basic(password: &str) -> String {
    let credentials = BASE64_STANDARD.encode(format!("alice:{password}"));
    format!("Authorization: Basic {credentials}\r\n")
}

#[tokio::test]
async fn without_the_file_of_users_no_password_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    let users = format!("alice:{}\n", bcrypt::hash("hush", 5).unwrap());
    std::fs::write(&file, &users).unwrap();
    let tables = format!("[auth.basic.staff]\nusers_file = '{}'\n", file.display());
    let gone = || std::fs::remove_file(&file).unwrap();
    let site = Site::after(&tables, "basic.staff", gone).await;
    let fields = basic("hush");
    site.refuses(
        &fields,
        &BASE64_STANDARD.encode("alice:hush"),
        "auth.unavailable",
    )
    .await;
    replace(&file, &users);
    site.was_read("basic.staff", 1.0).await;
    site.lets_in(&fields).await;
}

/// More passwords at once than hashes are made and wait: what does not fit is answered at once.
#[tokio::test]
async fn without_room_for_a_hash_no_password_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    std::fs::write(&file, format!("alice:{SLOW}\n")).unwrap();
    let tables = format!("[auth.basic.staff]\nusers_file = '{}'\n", file.display());
    let site = Site::with(&tables, "basic.staff").await;
    let fields: Vec<String> = (100..100 + MORE_THAN_WAIT)
        .map(|number| basic(&format!("hush-{number}")))
        .collect();
    let logins = fields
        .iter()
        .map(|fields| Box::pin(site.get("/only", fields)));
    let mut waiting: Vec<_> = logins.collect();
    let refused = loop {
        let (answer, _, others) = select_all(waiting).await;
        match answer.status {
            // A machine that is slow in sending them may have judged one.
            401 => waiting = others,
            _ => break answer,
        }
    };
    // What all of these passwords begin with.
    let secret = BASE64_STANDARD.encode("alice:hus");
    assert_refused(&refused, &secret, "auth.busy");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(site.origin.received(), "", "the upstream was asked");
    for line in site.gateway.log() {
        assert!(!line.to_string().contains(&secret), "{line:#}");
        assert!(!line.to_string().contains("hush"), "{line:#}");
    }
}

/// Whoever presents it should hear of it, and not be taken for somebody else.
#[tokio::test]
async fn a_credential_that_cant_be_judged_is_refused_even_beside_a_good_one() {
    let signer = Signer::new(Algorithm::ES256);
    let provider = Provider::of(&[]).await;
    provider.says(Says::Status(500));
    let mut file = KeysFile::new();
    let key = file.add("a", "");
    let tables = format!(
        "{}[auth.api_keys.partners]\nkeys_file = '{}'\n\
         [routes.first]\npath = '/first'\nupstream = 'ORIGIN'\n\
         auth = ['jwt.main', 'api_keys.partners']\n\
         [routes.second]\npath = '/second'\nupstream = 'ORIGIN'\n\
         auth = ['api_keys.partners', 'jwt.main']\n\
         [routes.both]\npath = '/both'\nupstream = 'ORIGIN'\n\
         auth = {{ all = ['api_keys.partners', 'jwt.main'] }}\n",
        issuer(&provider, ""),
        file.path().display()
    );
    let site = Site::with(&tables, "jwt.main").await;
    let token = token(&signer);
    let fields = format!("{}X-Api-Key: {key}\r\n", bearer(&token));
    for path in ["/first", "/second", "/both"] {
        let answer = site.get(path, &fields).await;
        assert_refused(&answer, &token, "auth.jwt.keys_unavailable");
    }
    assert_eq!(site.origin.received(), "", "the upstream was asked");
    let alone = site.get("/first", &format!("X-Api-Key: {key}\r\n")).await;
    assert_eq!(alone.text(), "ok");
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Four threads at most make hashes, and sixteen passwords wait for each.
pub(crate) const MORE_THAN_WAIT: usize = 4 * 17 + 8;
/// A hash that takes a quarter of a second at the least, of a password that nobody knows.
pub(crate) const SLOW: &str = "$2y$12$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u";
