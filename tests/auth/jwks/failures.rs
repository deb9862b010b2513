//! What becomes of requests when the provider does not do its part.

use super::*;
use provider::{Says, set};

#[tokio::test]
async fn old_keys_serve_while_the_provider_is_away_up_to_max_stale() {
    let signer = key();
    let provider = Provider::of(&[(&signer, "a")]).await;
    let site = Site::of(&provider, "refresh.max_stale = '2h'");
    let remembered = token(&signer, "a");
    assert_eq!(site.refusal(&remembered).await, let_in());
    let gone = provider.die().await;
    site.clock.advance(SECOND * 3600);
    site.has_failed(1.0).await;
    let unseen = token_with(&signer, "a", json!({ "sub": "bob" }));
    assert_eq!(site.refusal(&unseen).await, let_in());
    // A token with an unknown key is refused and not let wait: nobody can say more about it.
    assert_eq!(site.refusal(&token(&signer, "b")).await, unknown_key());

    site.clock.advance(SECOND * 3601);
    eventually(|| site.metric("tollgate_jwks_keys", "") == 0.0).await;
    assert_eq!(site.refusal(&remembered).await, unavailable());
    assert_eq!(site.refusal(&unseen).await, unavailable());

    let provider = gone.revive().await;
    site.clock.advance(SECOND * 61);
    site.has_fetched(2.0).await;
    assert_eq!(site.refusal(&remembered).await, let_in());
    drop(provider);
}

#[tokio::test]
async fn a_refresh_that_hangs_leaves_the_old_keys_in_use_and_is_not_the_last_one() {
    let (old, new) = (key(), key());
    let provider = Provider::of(&[(&old, "old")]).await;
    let site = Site::of(&provider, "refresh.timeout = '200ms'");
    site.has_fetched(1.0).await;
    let remembered = token(&old, "old");
    assert_eq!(site.refusal(&remembered).await, let_in());

    provider.says(Says::Nothing);
    let (asked, failed) = (provider.asked(), site.refreshes("failure"));
    site.clock.advance(SECOND * 600);
    eventually(|| provider.asked() > asked).await;
    let unseen = |number: u32| token_with(&old, "old", json!({ "n": number }));
    assert_eq!(site.refusal(&remembered).await, let_in());
    assert_eq!(site.refusal(&unseen(1)).await, let_in());
    // Given up after its time, it changes nothing either.
    site.has_failed(failed + 1.0).await;
    assert_eq!(site.refusal(&remembered).await, let_in());
    assert_eq!(site.refusal(&unseen(2)).await, let_in());

    provider.has(&[(&new, "new")]);
    site.clock.advance(SECOND * 61);
    site.has_fetched(2.0).await;
    assert_eq!(site.refusal(&token(&new, "new")).await, let_in());
}

#[tokio::test]
async fn what_is_no_key_set_leaves_the_old_keys_in_force() {
    let (signer, other) = (key(), key());
    let provider = Provider::of(&[(&signer, "a")]).await;
    let site = Site::of(&provider, "refresh.max_stale = '1d'");
    site.has_fetched(1.0).await;
    let encryption = set(&[(&other, "b")]).replace("\"kid\"", "\"use\":\"enc\",\"kid\"");
    let oct =
        r#"{"keys":[{"kty":"oct","kid":"a","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;
    let bad = [
        Says::Text("<html>garbage</html>".to_owned()),
        Says::Text(String::new()),
        Says::Text("{\"keys\":[]}".to_owned()),
        Says::Text("[".repeat(100_000)),
        Says::Text(format!("{{\"keys\":[{}]}}", "\"a\",".repeat(2_000_000))),
        Says::Text(format!("{}{}", set(&[(&other, "a")]), " ".repeat(10 << 20))),
        Says::Text(encryption),
        Says::Text(oct.to_owned()),
        Says::Status(500),
        Says::Status(204),
        Says::Status(302),
    ];
    for (failures, says) in (1..).zip(bad) {
        provider.says(says);
        site.clock.advance(SECOND * 700);
        site.has_failed(f64::from(failures)).await;
        let unseen = token_with(&signer, "a", json!({ "n": failures }));
        assert_eq!(site.refusal(&unseen).await, let_in(), "{failures}");
    }
    assert_eq!(site.refusal(&token(&other, "a")).await.0, 401);
    provider.has(&[(&other, "b")]);
    site.clock.advance(SECOND * 61);
    site.has_fetched(2.0).await;
    assert_eq!(site.refusal(&token(&other, "b")).await, let_in());
}

#[tokio::test]
async fn without_any_keys_requests_are_refused_until_there_are_some() {
    let signer = key();
    let provider = Provider::of(&[]).await;
    provider.says_text("garbage");
    let site = Site::of(&provider, "refresh.cooldown = '1h'");
    site.has_failed(1.0).await;
    let refused = site.bearer(&token(&signer, "a")).await;
    assert_eq!(refused.refusal(), unavailable());
    assert_eq!(refused.header("retry-after"), Some("1"));
    provider.has(&[(&signer, "a")]);
    site.clock.advance(SECOND);
    site.has_fetched(1.0).await;
    assert_eq!(site.refusal(&token(&signer, "a")).await, let_in());
}

#[tokio::test]
async fn a_provider_that_fails_is_asked_less_and_less_often() {
    let provider = Provider::of(&[]).await;
    provider.says(Says::Status(503));
    let site = Site::of(&provider, "");
    site.has_failed(1.0).await;
    for failures in 2..8 {
        site.clock.advance(SECOND * 60);
        site.has_failed(f64::from(failures)).await;
    }
    // By now it waits for half a minute at least.
    site.clock.advance(SECOND * 29);
    assert_eq!(site.get("/open", "").await.status, 200);
    assert_eq!(provider.asked(), 7);
}
