//! The example of the page does what the page says.

use super::*;

#[tokio::test]
async fn the_example_of_the_page_runs() {
    let signer = Signer::new(Algorithm::RS256);
    let provider = Provider::of(&[(&signer, "a")]).await;
    let issuer = format!("{}/", provider.url());
    provider.describes(json!({ "issuer": issuer, "jwks_uri": format!("{issuer}keys") }));
    let origin = support::Origin::ok().await;
    let text = support::example("docs/auth-jwks.md")
        .replace("https://id.example.com/", &issuer)
        .replace("http://127.0.0.1:3000", &origin.url());
    let clock = Clock::movable();
    let gateway = Gateway::start_at(&text, clock.clone());
    let site = Site { gateway, clock };
    let token = token_with(&signer, "a", json!({ "iss": issuer, "aud": "orders-api" }));
    let fields = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(site.get("/orders/1", &fields).await.text(), "ok");
    let missing = (401, "auth.missing".to_owned());
    assert_eq!(site.get("/orders/1", "").await.refusal(), missing);
}
