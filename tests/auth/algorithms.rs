//! Real keys of every algorithm, and what each may be used for.

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde_json::json;

use crate::{
    Site, let_in, refused,
    signer::{ALL, Signer, alice},
};

#[tokio::test]
async fn a_token_of_every_algorithm_is_verified_with_its_key_and_no_other() {
    for algorithm in ALL {
        let signer = Signer::new(algorithm);
        let site = Site::of(&signer, "").await;
        let token = signer.token(&alice());
        assert_eq!(site.refusal(&token).await, let_in(), "{algorithm:?}");
        let other = Signer::new(algorithm).token(&alice());
        let bad = refused("auth.jwt.bad_signature");
        assert_eq!(site.refusal(&other).await, bad, "{algorithm:?}");
        assert_eq!(site.origin.requests().len(), 1, "{algorithm:?}");
    }
}

#[tokio::test]
async fn only_the_configured_algorithms_are_accepted_even_from_the_right_key() {
    let wrong = refused("auth.jwt.wrong_algorithm");
    let rsa = Signer::new(Algorithm::RS256);
    let site = Site::of(&rsa, "").await;
    let rsa = rsa.using(Algorithm::PS256);
    assert_eq!(site.refusal(&rsa.token(&alice())).await, wrong);
    let rsa = rsa.using(Algorithm::RS384);
    assert_eq!(site.refusal(&rsa.token(&alice())).await, wrong);
    let secret = Signer::new(Algorithm::HS256);
    let site = Site::of(&secret, "").await;
    let secret = secret.using(Algorithm::HS512);
    assert_eq!(site.refusal(&secret.token(&alice())).await, wrong);
}

#[tokio::test]
async fn without_algorithms_a_key_has_the_usual_one_of_its_kind() {
    for algorithm in [
        Algorithm::HS256,
        Algorithm::RS256,
        Algorithm::ES256,
        Algorithm::EdDSA,
    ] {
        let signer = Signer::new(algorithm);
        let keys = signer.keys();
        let keys = keys.rsplit_once('\n').unwrap().0;
        let tables = format!("[auth.jwt.main]\n{keys}\n");
        let site = Site::with(&tables, "auth = \"jwt.main\"").await;
        let answer = site.refusal(&signer.token(&alice())).await;
        assert_eq!(answer, let_in(), "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_set_of_keys_is_chosen_from_by_name() {
    let asymmetric = ALL
        .into_iter()
        .filter(|one| one.family() != AlgorithmFamily::Hmac);
    let signers: Vec<_> = asymmetric
        .filter(|one| !matches!(one, Algorithm::RS384 | Algorithm::RS512 | Algorithm::PS384))
        .map(Signer::new)
        .collect();
    let names: Vec<_> = signers
        .iter()
        .map(|one| format!("{:?}", one.algorithm))
        .collect();
    let keys: Vec<_> = signers
        .iter()
        .zip(&names)
        .map(|(one, name)| one.jwk(name))
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    std::fs::write(&file, json!({ "keys": keys }).to_string()).unwrap();
    let tables = format!(
        "[auth.jwt.main]\njwks_file = '{}'\nalgorithms = {names:?}\n",
        file.display()
    );
    let site = Site::with(&tables, "auth = \"jwt.main\"").await;
    for (signer, name) in signers.iter().zip(&names) {
        assert_eq!(
            site.refusal(&signer.named(name, &alice())).await,
            let_in(),
            "{name}"
        );
        let nameless = signer.token(&alice());
        assert_eq!(site.refusal(&nameless).await, let_in(), "{name}");
        let unknown = signer.named("../../dev/null", &alice());
        assert_eq!(
            site.refusal(&unknown).await,
            refused("auth.jwt.unknown_key")
        );
    }
    let wrongly = signers[0].named(&names[1], &alice());
    assert_eq!(site.refusal(&wrongly).await.0, 401);
}
