//! When keys are fetched, and who waits for it.

use super::*;

#[tokio::test]
async fn keys_are_fetched_once_for_all_tokens() {
    let signer = key();
    let provider = Provider::of(&[(&signer, "a")]).await;
    let site = Site::of(&provider, "");
    for _ in 0..3 {
        assert_eq!(site.refusal(&token(&signer, "a")).await, let_in());
    }
    assert_eq!(provider.paths(), ["/jwks"]);
    assert_eq!(site.refreshes("success"), 1.0);
    assert_eq!(site.metric("tollgate_jwks_keys", ""), 1.0);
    let at = site.metric("tollgate_jwks_last_refresh_timestamp_seconds", "");
    assert!((at - now() as f64).abs() < 60.0, "{at}");
}

#[tokio::test]
async fn requests_that_come_early_wait_for_one_fetch() {
    let signer = key();
    let provider = Provider::of(&[(&signer, "a")]).await;
    provider.open(false);
    let site = Site::of(&provider, "refresh.wait = '30s'");
    let token = token(&signer, "a");
    let waiting: Vec<_> = (0..8).map(|_| site.bearer(&token)).collect();
    let opened = async {
        eventually(|| provider.asked() == 1).await;
        // Meanwhile others are served.
        assert_eq!(site.get("/open", "").await.status, 200);
        provider.open(true);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(waiting), opened);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn a_provider_that_hangs_holds_up_its_own_routes_only_and_not_for_long() {
    let signer = key();
    let provider = Provider::of(&[]).await;
    provider.says(provider::Says::Nothing);
    let site = Site::of(&provider, "refresh = { wait = '50ms' }");
    assert_eq!(site.get("/open", "").await.text(), "open");
    let refused = site.bearer(&token(&signer, "a")).await;
    assert_eq!(refused.refusal(), unavailable());
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn a_provider_that_hangs_at_the_first_fetch_does_not_keep_requests_away() {
    let provider = Provider::of(&[]).await;
    provider.says(provider::Says::Nothing);
    let site = Site::of(&provider, "refresh.timeout = '1m'");
    eventually(|| provider.asked() == 1).await;
    let probe = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = Raw::ask(site.gateway.admin(), probe).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["status"], "ok");
    // It has not ended meanwhile.
    let ended = site.refreshes("success") + site.refreshes("failure");
    assert_eq!(ended, 0.0);
}

#[tokio::test]
async fn keys_are_fetched_again_before_they_expire_and_remembered_tokens_survive() {
    let signer = key();
    let provider = Provider::of(&[(&signer, "a")]).await;
    provider.max_age(1000);
    let site = Site::of(&provider, "");
    site.has_fetched(1.0).await;
    assert_eq!(site.refusal(&token(&signer, "a")).await, let_in());
    for fetches in 2..4 {
        site.clock.advance(SECOND * 700);
        site.clock.advance(SECOND * 250);
        site.has_fetched(f64::from(fetches)).await;
        assert_eq!(site.refusal(&token(&signer, "a")).await, let_in());
    }
}

#[tokio::test]
async fn what_the_provider_says_about_freshness_is_kept_within_bounds() {
    let signer = key();
    let provider = Provider::of(&[(&signer, "a")]).await;
    provider.max_age(31_536_000);
    let site = Site::of(
        &provider,
        "refresh = { max_interval = '10m', max_stale = '1d' }",
    );
    site.has_fetched(1.0).await;
    site.clock.advance(SECOND * 601);
    site.has_fetched(2.0).await;
    provider.max_age(0);
    site.clock.advance(SECOND * 601);
    site.has_fetched(3.0).await;
    // A lifetime of nothing counts as the minute of `min_interval`.
    site.clock.advance(SECOND * 30);
    assert_eq!(site.refusal(&token(&signer, "a")).await, let_in());
    assert_eq!(provider.asked(), 3);
    site.clock.advance(SECOND * 31);
    site.has_fetched(4.0).await;
}

#[tokio::test]
async fn a_reload_that_keeps_the_issuer_keeps_its_keys_and_one_that_does_not_ends_the_fetching() {
    let signer = key();
    let provider = Provider::of(&[(&signer, "a")]).await;
    let keys = format!("jwks_url = '{}/jwks'", provider.url());
    let site = Site::with(&keys, "");
    site.has_fetched(1.0).await;
    site.gateway.apply(&text(&keys, "[log]\nlevel = 'warn'"));
    assert_eq!(site.refusal(&token(&signer, "a")).await, let_in());
    assert_eq!(provider.asked(), 1);

    let secret = "secret = 'a secret of the test, thirty-two bytes'";
    site.gateway
        .apply(&text(secret, "").replace("ES256", "HS256"));
    // The task lets go of its series where it ran.
    eventually(|| site.metric("tollgate_jwks_keys", "") == 0.0).await;
    site.clock.advance(DAY);
    assert_eq!(site.get("/open", "").await.status, 200);
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn keys_are_fetched_over_tls_from_whom_the_configuration_trusts() {
    let signer = key();
    let authority = support::Authority::new();
    let provider = Provider::https(&authority, &[(&signer, "a")]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    authority.write(&file);
    let keys = format!("jwks_url = '{}/jwks'\nrefresh.wait = '30s'", provider.url());
    let trust = format!("[subrequests]\nca_file = '{}'", file.display());
    let site = Site::with(&keys, &trust);
    assert_eq!(site.refusal(&token(&signer, "a")).await, let_in());

    let stranger = Site::with(&keys, "");
    assert_eq!(stranger.refusal(&token(&signer, "a")).await, unavailable());
    assert_eq!(provider.asked(), 1);
}
