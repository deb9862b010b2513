//! Verified tokens are remembered, and forgotten in time.

use std::time::Duration;

use jsonwebtoken::Algorithm;

use crate::{
    Site, bearer, let_in, refused,
    signer::{Signer, alice},
};

fn remembered(site: &Site, result: &str) -> f64 {
    let labels = ["method=\"jwt.main\"", &format!("result=\"{result}\"")];
    site.gateway
        .metric("tollgate_auth_remembered_total", &labels)
}

#[tokio::test]
async fn the_second_request_with_a_token_costs_a_look_up() {
    let signer = Signer::new(Algorithm::RS256);
    let site = Site::of(&signer, "").await;
    let token = signer.token(&alice());
    for _ in 0..3 {
        assert_eq!(site.refusal(&token).await, let_in());
    }
    assert_eq!(
        (remembered(&site, "hit"), remembered(&site, "miss")),
        (2.0, 1.0)
    );
    // So does one that is another issuer's.
    let bad = Signer::new(Algorithm::RS256).token(&alice());
    for _ in 0..2 {
        assert_eq!(site.refusal(&bad).await, refused("auth.jwt.bad_signature"));
    }
    assert_eq!(
        (remembered(&site, "hit"), remembered(&site, "miss")),
        (3.0, 2.0)
    );
}

#[tokio::test]
async fn a_remembered_token_expires_as_any_other() {
    let signer = Signer::new(Algorithm::HS256);
    let site = Site::of(&signer, "").await;
    let token = signer.token(&alice());
    assert_eq!(site.refusal(&token).await, let_in());
    site.clock.advance(Duration::from_secs(3700));
    assert_eq!(site.refusal(&token).await, refused("auth.jwt.expired"));
}

#[tokio::test]
async fn remembering_can_be_turned_off() {
    let signer = Signer::new(Algorithm::HS256);
    let site = Site::of(&signer, "remember = 'off'").await;
    let token = signer.token(&alice());
    for _ in 0..2 {
        assert_eq!(site.refusal(&token).await, let_in());
    }
    assert_eq!(
        (remembered(&site, "hit"), remembered(&site, "miss")),
        (0.0, 0.0)
    );
}

#[tokio::test]
async fn a_reload_with_another_key_forgets_the_tokens_of_the_old_one() {
    let (old, new) = (Signer::new(Algorithm::HS256), Signer::new(Algorithm::HS256));
    let site = Site::of(&old, "").await;
    let text = |signer: &Signer, more: &str| {
        format!(
            "[auth.jwt.main]\n{}\n[routes.all]\nupstream = '{}'\nauth = 'jwt.main'\n{more}",
            signer.keys(),
            site.origin.url()
        )
    };
    let token = old.token(&alice());
    assert_eq!(site.refusal(&token).await, let_in());
    // Another key of the route leaves the issuer as it is.
    site.gateway.apply(&text(&old, "max_body = 7"));
    assert_eq!(site.refusal(&token).await, let_in());
    assert_eq!(remembered(&site, "hit"), 1.0);
    site.gateway.apply(&text(&new, ""));
    assert_eq!(
        site.refusal(&token).await,
        refused("auth.jwt.bad_signature")
    );
    assert_eq!(site.refusal(&new.token(&alice())).await, let_in());
}

#[tokio::test]
async fn more_tokens_than_there_is_room_for_are_verified_anew() {
    let signer = Signer::new(Algorithm::HS256);
    let site = Site::of(&signer, "remember = '64KiB'").await;
    let ask_all = async || {
        for number in 0..200 {
            let claims = serde_json::json!({ "sub": number.to_string(), "exp": 9_999_999_999_u64 });
            let answer = site.get(&bearer(&signer.token(&claims))).await;
            assert_eq!(answer.status, 200);
        }
    };
    ask_all().await;
    assert_eq!(remembered(&site, "miss"), 200.0);
    ask_all().await;
    // Each takes more than 1 KiB, so fewer than 64 can have been kept.
    let (hits, misses) = (remembered(&site, "hit"), remembered(&site, "miss"));
    assert!(hits < 64.0, "{hits}");
    assert_eq!(hits + misses, 400.0);
}
