//! What tokens say, and what is made of it. Clocks are moved.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::{
    Site, let_in, refused,
    signer::{Signer, alice, alice_with, now},
};

const MINUTE: Duration = Duration::from_secs(60);

fn signer() -> Signer {
    Signer::new(Algorithm::HS256)
}

async fn check(site: &Site, signer: &Signer, claims: Value, expected: (u16, String)) {
    let token = signer.token(&claims);
    assert_eq!(site.refusal(&token).await, expected, "{claims}");
}

#[tokio::test]
async fn a_token_expires_when_its_time_and_the_leeway_are_over() {
    let signer = signer();
    let site = Site::of(&signer, "leeway = '5m'").await;
    let token = signer.token(&json!({ "sub": "alice", "exp": now() + 60 }));
    for minutes in [0, 3, 2] {
        site.clock.advance(MINUTE * minutes);
        assert_eq!(site.refusal(&token).await, let_in());
    }
    site.clock.advance(MINUTE * 2);
    assert_eq!(site.refusal(&token).await, refused("auth.jwt.expired"));
    check(
        &site,
        &signer,
        json!({ "sub": "a", "exp": 0 }),
        refused("auth.jwt.expired"),
    )
    .await;
    let endless = json!({ "sub": "a" });
    check(&site, &signer, endless, refused("auth.jwt.claim_missing")).await;
    let last = json!({ "sub": "a", "exp": 253_402_300_799_u64 });
    check(&site, &signer, last, let_in()).await;
}

#[tokio::test]
async fn a_token_is_not_valid_before_its_time() {
    let signer = signer();
    let site = Site::of(&signer, "").await;
    let early = refused("auth.jwt.not_yet_valid");
    let soon = alice_with(json!({ "nbf": now() + 600 }));
    check(&site, &signer, soon.clone(), early.clone()).await;
    // An issuer's clock may go before ours a little.
    check(
        &site,
        &signer,
        alice_with(json!({ "nbf": now() + 20 })),
        let_in(),
    )
    .await;
    check(
        &site,
        &signer,
        alice_with(json!({ "iat": now() + 20 })),
        let_in(),
    )
    .await;
    check(
        &site,
        &signer,
        alice_with(json!({ "iat": now() + 600 })),
        early,
    )
    .await;
    site.clock.advance(MINUTE * 11);
    check(&site, &signer, soon, let_in()).await;
}

#[tokio::test]
async fn a_token_may_have_a_greatest_age() {
    let signer = signer();
    let site = Site::of(&signer, "max_age = '10m'").await;
    let token = alice_with(json!({ "iat": now() - 300 }));
    check(&site, &signer, token.clone(), let_in()).await;
    check(&site, &signer, alice(), refused("auth.jwt.claim_missing")).await;
    site.clock.advance(MINUTE * 6);
    check(&site, &signer, token, refused("auth.jwt.too_old")).await;
}

#[tokio::test]
async fn issuer_and_audience_are_compared_letter_by_letter() {
    let signer = signer();
    let more = "issuer = 'https://id.test/'\naudience = ['orders', 'items']";
    let site = Site::of(&signer, more).await;
    let with = |iss: Value, aud: Value| alice_with(json!({ "iss": iss, "aud": aud }));
    let right = json!("https://id.test/");
    for aud in [json!("orders"), json!(["x", "items"])] {
        check(&site, &signer, with(right.clone(), aud), let_in()).await;
    }
    for aud in [json!("Orders"), json!("orders "), json!(["x"]), json!([])] {
        let wrong = refused("auth.jwt.wrong_audience");
        check(&site, &signer, with(right.clone(), aud), wrong).await;
    }
    for iss in [
        "https://id.test",
        "https://ID.test/",
        "https://id.test/x",
        "",
    ] {
        let wrong = refused("auth.jwt.wrong_issuer");
        check(&site, &signer, with(json!(iss), json!("orders")), wrong).await;
    }
    let none = alice_with(json!({ "iss": right }));
    check(&site, &signer, none, refused("auth.jwt.wrong_audience")).await;
    check(&site, &signer, alice(), refused("auth.jwt.wrong_issuer")).await;
    // RFC 7519 4.1.3: one that is meant for others is not for us.
    let site = Site::of(&signer, "").await;
    let others = alice_with(json!({ "aud": "others" }));
    check(&site, &signer, others, refused("auth.jwt.wrong_audience")).await;
}

#[tokio::test]
async fn claims_may_be_required() {
    let signer = signer();
    let more = "required_claims = ['tenant', ['realm', 'id']]\nsubject_claim = 'uid'";
    let site = Site::of(&signer, more).await;
    let missing = || refused("auth.jwt.claim_missing");
    let claims = json!({ "uid": "u7", "exp": now() + 60, "tenant": "t", "realm": { "id": 0 } });
    check(&site, &signer, claims.clone(), let_in()).await;
    for (name, value) in [
        ("tenant", Value::Null),
        ("realm", json!({})),
        ("realm", json!("id")),
        ("uid", Value::Null),
    ] {
        let mut less = claims.clone();
        less[name] = value;
        check(&site, &signer, less, missing()).await;
    }
}
