//! New keys, and names of keys that nobody has.

use super::*;

#[tokio::test]
async fn a_token_with_a_new_key_has_the_keys_fetched_and_one_with_an_old_key_is_refused_then() {
    let (old, new) = (key(), key());
    let provider = Provider::of(&[(&old, "old")]).await;
    let site = Site::of(&provider, "");
    assert_eq!(site.refusal(&token(&old, "old")).await, let_in());
    provider.has(&[(&new, "new")]);
    // It is remembered, and the keys are still fresh.
    assert_eq!(site.refusal(&token(&old, "old")).await, let_in());
    site.clock.advance(SECOND * 11);
    let wanted = token(&new, "new");
    let many = (0..8).map(|_| site.refusal(&wanted));
    for refusal in futures_util::future::join_all(many).await {
        assert_eq!(refusal, let_in());
    }
    assert_eq!(provider.asked(), 2);
    assert_eq!(site.refusal(&token(&old, "old")).await, unknown_key());
}

#[tokio::test]
async fn a_key_that_changes_under_its_name_takes_remembered_tokens_with_it() {
    let (old, new) = (key(), key());
    let provider = Provider::of(&[(&old, "a")]).await;
    let site = Site::of(&provider, "");
    let remembered = token(&old, "a");
    assert_eq!(site.refusal(&remembered).await, let_in());
    provider.has(&[(&new, "a")]);
    site.clock.advance(SECOND * 600);
    site.has_fetched(2.0).await;
    let refused = (401, "auth.jwt.bad_signature".to_owned());
    assert_eq!(site.refusal(&remembered).await, refused);
    assert_eq!(site.refusal(&token(&new, "a")).await, let_in());
}

#[tokio::test]
async fn made_up_names_do_not_make_the_gateway_ask_more_often_than_it_may() {
    let signer = key();
    let provider = Provider::of(&[(&signer, "a")]).await;
    let site = Site::of(&provider, "refresh.cooldown = '1m'");
    site.has_fetched(1.0).await;
    // Behind this one the first fetch has ended, whether or not it has waited for it.
    let early = token(&signer, "early");
    assert_eq!(site.refusal(&early).await, unknown_key());
    let [fetched, cooldown, remembered] = site.unknown_keys();
    // With the early one they are as many guesses as an address has.
    for index in 0..19 {
        let made_up = token(&signer, &format!("made-up-{index}"));
        assert_eq!(site.refusal(&made_up).await, unknown_key());
    }
    assert_eq!(provider.asked(), 1);
    let so_far = [fetched, cooldown + 19.0, remembered];
    assert_eq!(site.unknown_keys(), so_far);
    site.clock.advance(SECOND * 60);
    for index in 0..20 {
        let made_up = token(&signer, &format!("made-up-{index}"));
        assert_eq!(site.refusal(&made_up).await, unknown_key());
    }
    assert_eq!(provider.asked(), 2);
    // The first of them had the keys fetched, and the others came too soon after it.
    let now = [fetched + 1.0, cooldown + 38.0, remembered];
    assert_eq!(site.unknown_keys(), now);
}

#[tokio::test]
async fn a_name_that_was_looked_for_is_not_looked_for_again_until_there_are_new_keys() {
    let (one, other) = (key(), key());
    let provider = Provider::of(&[(&one, "a")]).await;
    let site = Site::of(&provider, "refresh = { cooldown = '1s', interval = '1h' }");
    site.has_fetched(1.0).await;
    assert_eq!(site.refusal(&token(&one, "a")).await, let_in());
    for _ in 0..3 {
        site.clock.advance(SECOND * 2);
        assert_eq!(site.refusal(&token(&other, "b")).await, unknown_key());
    }
    assert_eq!(provider.asked(), 2);
    // The first fetch may still have been under way when the first of them came.
    let [fetched, cooldown, remembered] = site.unknown_keys();
    assert_eq!((fetched + remembered, cooldown), (3.0, 0.0));
    assert!(remembered >= 1.0, "{remembered}");
    provider.has(&[(&one, "a"), (&other, "b")]);
    site.clock.advance(SECOND * 2);
    // Another name has the keys fetched, and the forgotten name is known.
    assert_eq!(site.refusal(&token(&other, "c")).await, unknown_key());
    assert_eq!(site.refusal(&token(&other, "b")).await, let_in());
    assert_eq!(provider.asked(), 3);
}

#[tokio::test]
async fn a_name_is_compared_and_nothing_else() {
    let signer = key();
    let provider = Provider::of(&[(&signer, "a")]).await;
    let site = Site::of(&provider, "refresh.cooldown = '1ms'");
    site.has_fetched(1.0).await;
    let elsewhere = format!("{}/other", provider.url());
    for trick in [
        "../../etc/passwd",
        "/dev/null",
        "A",
        "a ",
        "a\u{0}",
        "' OR 1=1 --",
        &elsewhere,
    ] {
        site.clock.advance(SECOND);
        assert_eq!(
            site.refusal(&token(&signer, trick)).await,
            unknown_key(),
            "{trick:?}"
        );
    }
    assert!(provider.paths().iter().all(|path| path == "/jwks"));
}

#[tokio::test]
async fn a_token_that_brings_its_key_or_says_where_it_is_changes_nothing() {
    let (ours, theirs) = (key(), key());
    let provider = Provider::of(&[(&ours, "a")]).await;
    let site = Site::of(&provider, "");
    site.has_fetched(1.0).await;
    let evil = Provider::of(&[(&theirs, "a")]).await;
    let mut header = theirs.header();
    header["kid"] = "a".into();
    header["jwk"] = theirs.jwk("a");
    header["jku"] = format!("{}/jwks", evil.url()).into();
    header["x5u"] = header["jku"].clone();
    let forged = theirs.sign(&header, &alice_with(json!({})));
    assert_eq!(site.bearer(&forged).await.status, 401);
    assert_eq!(evil.asked(), 0);
}
