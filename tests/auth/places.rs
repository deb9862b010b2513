//! Where tokens stand, and what becomes of them there.

use jsonwebtoken::Algorithm;

use crate::{
    Site, bearer,
    signer::{Signer, alice},
};

const PLACES: &str = "from = ['header:authorization', 'header:x-token', 'cookie:session', \
                      'query:access_token']\n";

fn signer() -> Signer {
    Signer::new(Algorithm::HS256)
}

#[tokio::test]
async fn a_token_is_found_at_each_configured_place_and_no_other() {
    let signer = signer();
    let token = signer.token(&alice());
    let at = |target: &str, fields: String| (format!("GET {target} HTTP/1.1"), fields);
    let requests = [
        at("/", bearer(&token)),
        at("/", format!("authorization: bEaReR   {token}\r\n")),
        at("/", format!("X-Token: {token}\r\n")),
        at("/", format!("X-Token: Bearer {token}\r\n")),
        at("/", format!("Cookie: a=1; session={token}; b=2\r\n")),
        at("/", format!("Cookie: a=1\r\nCookie: session={token}\r\n")),
        at(&format!("/?x=1&access_token={token}"), String::new()),
    ];
    let site = Site::of(&signer, PLACES).await;
    for (line, fields) in &requests {
        assert_eq!(site.ask(line, fields).await.status, 200, "{line} {fields}");
    }
    let plain = Site::of(&signer, "").await;
    for (line, fields) in &requests[2..] {
        let answer = plain.ask(line, fields).await;
        assert_eq!(
            answer.refusal(),
            (401, "auth.missing".to_owned()),
            "{line} {fields}"
        );
    }
    for fields in [
        format!("Authorization: Token {token}\r\n"),
        format!("Authorization: {token}\r\n"),
        format!("Authorization: Bearer{token}\r\n"),
        "Authorization: Basic YTpi\r\n".to_owned(),
        "Authorization:\r\n".to_owned(),
        format!("Proxy-Authorization: Bearer {token}\r\n"),
    ] {
        let answer = plain.get(&fields).await;
        assert_eq!(
            answer.refusal(),
            (401, "auth.missing".to_owned()),
            "{fields}"
        );
    }
    let answer = plain.get("Authorization: Bearer\r\n").await;
    assert_eq!(answer.refusal(), (401, "auth.jwt.malformed".to_owned()));
}

#[tokio::test]
async fn answers_to_tokens_in_cookies_and_queries_are_not_stored() {
    let signer = signer();
    let token = signer.token(&alice());
    let site = Site::of(&signer, PLACES).await;
    let stored = site.bearer(&token).await;
    assert_eq!(stored.header("cache-control"), None);
    let cookie = site.get(&format!("Cookie: session={token}\r\n")).await;
    let line = format!("GET /?access_token={token} HTTP/1.1");
    let query = site.ask(&line, "").await;
    let refused = site.ask("GET /?access_token=x HTTP/1.1", "").await;
    for answer in [cookie, query, refused] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn the_upstream_gets_the_request_as_it_came_unless_told_otherwise() {
    let signer = signer();
    let token = signer.token(&alice());
    let fields = format!("{}Cookie: a=1; b=2\r\n", bearer(&token));
    let site = Site::of(&signer, PLACES).await;
    site.ask("GET /?x=1 HTTP/1.1", &fields).await;
    let seen = site.origin.request();
    assert_eq!(
        seen.header("authorization"),
        Some(&*format!("Bearer {token}"))
    );
    assert_eq!(seen.header("cookie"), Some("a=1; b=2"));
    assert_eq!(seen.target(), "/?x=1");
}

#[tokio::test]
async fn a_stripped_credential_goes_alone() {
    let signer = signer();
    let token = signer.token(&alice());
    let more = format!("{PLACES}forward_credentials = false");
    let site = Site::of(&signer, &more).await;
    let cookies = format!("Cookie: a=1; session={token}; b=2\r\nAuthorization: Basic YTpi\r\n");
    site.get(&cookies).await;
    site.ask(
        &format!("GET /p?x=%2F1&access_token={token}&y HTTP/1.1"),
        "Cookie: a=1\r\n",
    )
    .await;
    site.get(&format!("{}Cookie: sessions=1\r\n", bearer(&token)))
        .await;
    let seen = site.origin.requests();
    assert_eq!(seen[0].header("cookie"), Some("a=1; b=2"));
    // It is no credential of ours.
    assert_eq!(seen[0].header("authorization"), Some("Basic YTpi"));
    assert_eq!(seen[1].target(), "/p?x=%2F1&y");
    assert_eq!(seen[1].header("cookie"), Some("a=1"));
    assert_eq!(seen[2].header("authorization"), None);
    assert_eq!(seen[2].header("cookie"), Some("sessions=1"));
    assert!(!site.origin.received().contains(&token));
}

/// The template is filled in with what the client sent.
#[tokio::test]
async fn a_rewritten_path_does_not_bring_a_stripped_credential_back() {
    let signer = signer();
    let token = signer.token(&alice());
    let tables = format!("[auth.jwt.main]\n{}\n{PLACES}", signer.keys());
    let keys = "auth = 'jwt.main'\nforward_credentials = false\n\
                rewrite = { path = '/x${path}${query}' }";
    let site = Site::with(&tables, keys).await;
    let line = format!("GET /p?access_token={token}&y=1 HTTP/1.1");
    assert_eq!(site.ask(&line, "").await.status, 200);
    assert_eq!(site.origin.request().target(), "/x/p?y=1");
}

#[tokio::test]
async fn a_route_has_the_last_word_on_forwarding_credentials() {
    let signer = signer();
    let token = signer.token(&alice());
    for (method, route, forwarded) in [(true, false, false), (false, true, true)] {
        let tables = format!(
            "[auth.jwt.main]\n{}\nforward_credentials = {method}\n",
            signer.keys()
        );
        let keys = format!("auth = 'jwt.main'\nforward_credentials = {route}");
        let site = Site::with(&tables, &keys).await;
        site.bearer(&token).await;
        assert_eq!(
            site.origin.request().header("authorization").is_some(),
            forwarded
        );
    }
}
