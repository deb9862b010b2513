//! What a token costs: seen for the first time, beside the library's own decoding and its check of
//! the signature alone, and remembered.

// Panics end a benchmark, which is what they are for here.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    hint::black_box,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use tollgate::{
    config::{Config, Jwt, KeysFrom},
    exchange::{Body, Request, RequestHead},
    pipeline::auth::{
        jwt::{JwtMethod, keys::Fixed},
        method::{Method, Verdict},
    },
    telemetry::Metrics,
};

struct Case {
    name: &'static str,
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: DecodingKey,
    /// The line of the configuration that names the key.
    key: String,
}

fn cases() -> [Case; 3] {
    let secret = "a secret of more than thirty-two bytes";
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let rsa = rsa.unwrap();
    let ec = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let public = |pair: &rcgen::KeyPair| format!("public_key = '''{}'''", pair.public_key_pem());
    [
        Case {
            name: "hs256",
            algorithm: Algorithm::HS256,
            signing: EncodingKey::from_secret(secret.as_bytes()),
            verifying: DecodingKey::from_secret(secret.as_bytes()),
            key: format!("secret = '{secret}'"),
        },
        Case {
            name: "rs256",
            algorithm: Algorithm::RS256,
            signing: EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap(),
            verifying: DecodingKey::from_rsa_pem(rsa.public_key_pem().as_bytes()).unwrap(),
            key: public(&rsa),
        },
        Case {
            name: "es256",
            algorithm: Algorithm::ES256,
            signing: EncodingKey::from_ec_pem(ec.serialize_pem().as_bytes()).unwrap(),
            verifying: DecodingKey::from_ec_pem(ec.public_key_pem().as_bytes()).unwrap(),
            key: public(&ec),
        },
    ]
}

fn claims() -> Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    json!({
        "iss": "https://id.example.com/", "sub": "5f0b6f6e-1d3a-4a53-9c8f-0c2b1d9a7e11",
        "aud": "orders", "exp": now + 3600, "iat": now, "jti": "7d1f2f0a",
        "realm_access": { "roles": ["viewer", "editor"] }, "tenant": "acme", "scope": "a b c",
    })
}

fn config(case: &Case, remember: &str) -> Jwt {
    let text = format!(
        "[routes.a]\nrespond = {{}}\nauth = 'jwt.a'\n[auth.jwt.a]\n{}\n\
         issuer = 'https://id.example.com/'\naudience = 'orders'\nremember = '{remember}'\n\
         roles_claim = ['realm_access', 'roles']\n",
        case.key
    );
    let loaded = Config::parse("bench.toml", &text).unwrap();
    loaded.config.auth.jwt["jwt.a"].clone()
}

fn method(case: &Case, remember: &str) -> JwtMethod {
    let config = config(case, remember);
    let KeysFrom::Fixed(keys) = config.keys.clone() else {
        unreachable!("the key stands in the configuration");
    };
    JwtMethod::with(&config, Arc::new(Fixed(keys)), None, &Metrics::new())
}

fn request(token: &str) -> Request {
    let request = http::Request::get("/").header("authorization", format!("Bearer {token}"));
    request.body(Body::empty()).unwrap()
}

fn tokens(criterion: &mut Criterion) {
    let context = Arc::new(support::context(RequestHead::default()));
    for case in cases() {
        let header = Header::new(case.algorithm);
        let token = jsonwebtoken::encode(&header, &claims(), &case.signing).unwrap();
        let request = request(&token);
        let mut validation = Validation::new(case.algorithm);
        validation.set_audience(&["orders"]);
        validation.set_issuer(&["https://id.example.com/"]);
        criterion.bench_function(&format!("auth/library/{}", case.name), |bench| {
            bench.iter(|| {
                jsonwebtoken::decode::<Value>(black_box(&token), &case.verifying, &validation)
                    .unwrap()
            });
        });
        let (message, signature) = token.rsplit_once('.').unwrap();
        criterion.bench_function(&format!("auth/verify/{}", case.name), |bench| {
            bench.iter(|| {
                let (signature, message) = (black_box(signature), black_box(message).as_bytes());
                let (key, algorithm) = (&case.verifying, case.algorithm);
                let holds = jsonwebtoken::crypto::verify(signature, message, key, algorithm);
                assert!(holds.unwrap());
            });
        });
        for (sight, remember) in [("first_sight", "off"), ("remembered", "16MiB")] {
            let method = method(&case, remember);
            criterion.bench_function(&format!("auth/{sight}/{}", case.name), |bench| {
                bench.iter(|| {
                    let verdict = method.check(black_box(&request), &context);
                    assert!(matches!(verdict, Verdict::Granted(_)), "{verdict:?}");
                    verdict
                });
            });
        }
    }
}

criterion_group!(benches, tokens);
criterion_main!(benches);
