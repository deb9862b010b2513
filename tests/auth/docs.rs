//! The example of the page does what the page says.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::{Clock, Gateway, Origin, Site, bearer, let_in, refused, signer::alice_with, support};

#[tokio::test]
async fn the_example_of_the_page_runs() {
    let (origin, clock) = (Origin::ok().await, Clock::movable());
    let text = support::example("docs/auth-jwt.md").replace("http://127.0.0.1:3000", &origin.url());
    let gateway = Gateway::start_at(&text, clock.clone());
    let site = Site {
        gateway,
        origin,
        clock,
    };
    let key = EncodingKey::from_secret(b"an example only: make your own secret");
    let claims = alice_with(json!({ "aud": "orders-api" }));
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    let unsigned = format!("{}.AAAA", token.rsplit_once('.').unwrap().0);
    let order = async |fields: &str| site.ask("GET /orders/1 HTTP/1.1", fields).await.refusal();
    assert_eq!(order("").await, refused("auth.missing"));
    let bad = refused("auth.jwt.bad_signature");
    assert_eq!(order(&bearer(&unsigned)).await, bad);
    assert_eq!(order(&bearer(&token)).await, let_in());
    assert_eq!(site.origin.request().header("x-user-id"), Some("alice"));
    assert_eq!(site.get("").await.text(), "hello\n");
}
