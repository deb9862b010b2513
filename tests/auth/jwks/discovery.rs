//! `issuer` alone: its metadata say where the keys are.

use super::*;

/// A provider that is an issuer, and the keys of a route that believes it.
async fn issuer(signer: &Signer) -> (Provider, String) {
    let provider = Provider::of(&[(signer, "a")]).await;
    let issuer = format!("{}/realms/main", provider.url());
    let keys = format!("issuer = '{issuer}'\nrefresh = {{ wait = '30s', max_stale = '2h' }}");
    provider.describes(metadata(&issuer, &format!("{}/keys", provider.url())));
    (provider, keys)
}

fn metadata(issuer: &str, keys: &str) -> serde_json::Value {
    json!({ "issuer": issuer, "jwks_uri": keys, "token_endpoint": "x" })
}

fn of_issuer(signer: &Signer, provider: &Provider) -> String {
    let issuer = format!("{}/realms/main", provider.url());
    token_with(signer, "a", json!({ "iss": issuer }))
}

#[tokio::test]
async fn an_issuer_alone_is_enough() {
    let signer = key();
    let (provider, keys) = issuer(&signer).await;
    let site = Site::with(&keys, "");
    assert_eq!(site.refusal(&of_issuer(&signer, &provider)).await, let_in());
    let paths = ["/realms/main/.well-known/openid-configuration", "/keys"];
    assert_eq!(provider.paths(), paths);
    let another = token_with(&signer, "a", json!({ "iss": "https://id.test" }));
    let refused = (401, "auth.jwt.wrong_issuer".to_owned());
    assert_eq!(site.refusal(&another).await, refused);
}

#[tokio::test]
async fn keys_that_move_are_found_again() {
    let (signer, other) = (key(), key());
    let (provider, keys) = issuer(&signer).await;
    let site = Site::with(&keys, "");
    site.has_fetched(1.0).await;
    let moved = Provider::of(&[(&other, "a")]).await;
    let issuer = format!("{}/realms/main", provider.url());
    provider.describes(metadata(&issuer, &format!("{}/moved", moved.url())));
    site.clock.advance(SECOND * 600);
    site.has_fetched(2.0).await;
    assert_eq!(moved.paths(), ["/moved"]);
    assert_eq!(site.refusal(&of_issuer(&other, &provider)).await, let_in());
}

#[tokio::test]
async fn metadata_of_another_issuer_or_without_keys_are_not_believed() {
    let signer = key();
    let (provider, keys) = issuer(&signer).await;
    let issuer = format!("{}/realms/main", provider.url());
    let keys_url = format!("{}/keys", provider.url());
    for wrong in [
        metadata(&format!("{issuer}/"), &keys_url),
        metadata("https://elsewhere.test", &keys_url),
        json!({ "issuer": issuer }),
        json!({ "issuer": issuer, "jwks_uri": 7 }),
        json!([]),
        metadata(&issuer, "not a url"),
    ] {
        provider.describes(wrong);
        let site = Site::with(&keys, "");
        site.has_failed(1.0).await;
        let token = of_issuer(&signer, &provider);
        assert_eq!(site.refusal(&token).await, unavailable());
    }
    assert!(!provider.paths().contains(&"/keys".to_owned()));
}
