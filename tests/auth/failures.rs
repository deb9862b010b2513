//! The limit on what is made up, where tokens are asked for.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{
    Signer, Site, bearer, let_in, refused,
    signer::{alice, alice_with},
    support::KeysFile,
};

async fn site(signer: &Signer) -> Site {
    let tables = format!(
        "[auth.jwt.main]\n{}\n[auth]\nfailures = '2/1m'\n",
        signer.keys()
    );
    Site::limited(&tables, "auth = 'jwt.main'").await
}

#[tokio::test]
async fn a_token_that_was_seen_before_is_let_in_while_its_address_is_refused() {
    let signer = Signer::new(Algorithm::HS256);
    let site = site(&signer).await;
    let seen = signer.token(&alice());
    let unseen = signer.token(&alice_with(json!({ "sub": "bob" })));
    assert_eq!(site.refusal(&seen).await, let_in());
    let forged = Signer::new(Algorithm::HS256).token(&alice());
    for _ in 0..2 {
        let bad = refused("auth.jwt.bad_signature");
        assert_eq!(site.refusal(&forged).await, bad);
    }
    let too_many = (429, "auth.too_many_failures".to_owned());
    assert_eq!(site.refusal(&forged).await, too_many);
    assert_eq!(site.refusal(&unseen).await, too_many);
    assert_eq!(site.refusal(&seen).await, let_in());
    site.clock.advance(Duration::from_secs(30));
    assert_eq!(site.refusal(&unseen).await, let_in());
}

#[tokio::test]
async fn a_token_that_was_once_good_is_no_failure() {
    let signer = Signer::new(Algorithm::HS256);
    let site = site(&signer).await;
    let token = signer.token(&alice());
    site.clock.advance(Duration::from_secs(7200));
    for _ in 0..5 {
        assert_eq!(site.refusal(&token).await, refused("auth.jwt.expired"));
    }
}

/// Another issuer of the route does not know its key; that is no guess.
#[tokio::test]
async fn a_token_that_another_issuer_does_not_know_is_no_failure() {
    let (one, other) = (Signer::new(Algorithm::HS256), Signer::new(Algorithm::HS256));
    let tables = format!(
        "[auth.jwt.one]\n{}\n[auth.jwt.other]\n{}\n[auth]\nfailures = '2/1m'\n",
        one.keys(),
        other.keys()
    );
    let site = Site::limited(&tables, "auth = ['jwt.one', 'jwt.other']").await;
    let token = other.token(&alice());
    for _ in 0..3 {
        assert_eq!(site.refusal(&token).await, let_in());
    }
    site.clock.advance(Duration::from_secs(7200));
    for _ in 0..5 {
        assert_eq!(site.refusal(&token).await, refused("auth.jwt.expired"));
    }
}

/// A site with two issuers, one of which has a cookie of its own, by this rule.
async fn two(one: &Signer, own: &Signer, more: &str, methods: &str) -> Site {
    let tables = format!(
        "[auth.jwt.one]\n{}\n{more}\n[auth.jwt.own]\n{}\nfrom = 'cookie:own'\n\
         [auth]\nfailures = '2/1m'\n",
        one.keys(),
        own.keys()
    );
    Site::limited(&tables, &format!("auth = {methods}")).await
}

/// Uses up what the client's address has.
async fn guess(site: &Site) {
    let forged = Signer::new(Algorithm::HS256).token(&alice());
    for _ in 0..2 {
        let bad = refused("auth.jwt.bad_signature");
        assert_eq!(site.refusal(&forged).await, bad);
    }
    let too_many = (429, "auth.too_many_failures".to_owned());
    assert_eq!(site.refusal(&forged).await, too_many);
}

/// What is of another scheme is for the upstream: no method would read it.
#[tokio::test]
async fn a_seen_token_beside_what_is_for_the_upstream_is_let_in_while_its_address_is_refused() {
    let (one, own) = (Signer::new(Algorithm::HS256), Signer::new(Algorithm::HS256));
    let cookie = format!("Cookie: own={}\r\n", own.token(&alice()));
    let both = cookie + "Authorization: Basic YTpi\r\n";
    for methods in ["['jwt.own', 'jwt.one']", "['jwt.one', 'jwt.own']"] {
        let site = two(&one, &own, "", methods).await;
        assert_eq!(site.get(&both).await.refusal(), let_in(), "{methods}");
        guess(&site).await;
        assert_eq!(site.get(&both).await.refusal(), let_in(), "{methods}");
    }
}

/// One of them looks where the other's stands too.
#[tokio::test]
async fn two_seen_tokens_of_two_issuers_are_let_in_while_their_address_is_refused() {
    let (one, own) = (Signer::new(Algorithm::HS256), Signer::new(Algorithm::HS256));
    let cookie = format!("Cookie: own={}\r\n", own.token(&alice()));
    let both = bearer(&one.token(&alice())) + &cookie;
    let places = "from = ['header:authorization', 'cookie:own']";
    for methods in ["['jwt.own', 'jwt.one']", "['jwt.one', 'jwt.own']"] {
        let site = two(&one, &own, places, methods).await;
        assert_eq!(site.get(&both).await.refusal(), let_in(), "{methods}");
        guess(&site).await;
        assert_eq!(site.get(&both).await.refusal(), let_in(), "{methods}");
    }
}

/// The first issuer does not know the second one's token, which is good all the same.
#[tokio::test]
async fn a_token_of_a_second_issuer_beside_a_good_key_is_let_in_and_no_failure() {
    let (one, two) = (Signer::new(Algorithm::HS256), Signer::new(Algorithm::HS256));
    let mut file = KeysFile::new();
    let key = format!("X-Api-Key: {}\r\n", file.add("partner", ""));
    let tables = format!(
        "[auth.jwt.one]\n{}\n[auth.jwt.two]\n{}\n[auth.api_keys.k]\nkeys_file = '{}'\n\
         [auth]\nfailures = '2/1m'\n",
        one.keys(),
        two.keys(),
        file.path().display()
    );
    let both = key.clone() + &bearer(&two.token(&alice()));
    let forged = key + &bearer(&Signer::new(Algorithm::HS256).token(&alice()));
    for methods in [
        "['api_keys.k', 'jwt.one', 'jwt.two']",
        "['jwt.one', 'api_keys.k', 'jwt.two']",
        "['jwt.one', 'jwt.two', 'api_keys.k']",
    ] {
        let site = Site::limited(&tables, &format!("auth = {methods}")).await;
        for _ in 0..4 {
            assert_eq!(site.get(&both).await.refusal(), let_in(), "{methods}");
        }
        for _ in 0..2 {
            let bad = refused("auth.jwt.bad_signature");
            assert_eq!(site.get(&forged).await.refusal(), bad, "{methods}");
        }
        let too_many = (429, "auth.too_many_failures".to_owned());
        assert_eq!(site.get(&forged).await.refusal(), too_many, "{methods}");
        assert_eq!(site.get(&both).await.refusal(), let_in(), "{methods}");
    }
}
