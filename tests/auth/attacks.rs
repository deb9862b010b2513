//! What is tried with tokens, each with its reason; nothing of it reaches the origin.

use hyper::client::conn::http1::SendRequest;
use jsonwebtoken::Algorithm;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    Site, let_in, refused,
    signer::{ALL, Signer, alice, alice_with, encode, now, with},
    support::{BoxBody, empty, http1, read, within},
};

/// Everything of a list is refused for one reason, and the good token is not.
async fn all_refused(signer: &Signer, tokens: &[String], reason: &str) {
    let site = Site::of(signer, "").await;
    for token in tokens {
        assert_eq!(site.refusal(token).await, refused(reason), "{token}");
    }
    assert!(site.origin.requests().is_empty());
    assert_eq!(site.refusal(&signer.token(&alice())).await, let_in());
}

fn hs256() -> Signer {
    Signer::new(Algorithm::HS256)
}

/// Signed well, with these fields beside those of the usual header.
fn with_header(signer: &Signer, more: Value) -> String {
    signer.sign(&with(signer.header(), more), &alice())
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let rsa = Signer::new(Algorithm::RS256);
    let mut tokens = Vec::new();
    let pem = rsa.public.clone();
    for secret in [&pem, pem.trim(), &pem.replace("\r\n", "\n")] {
        let forger = Signer::with_secret(Algorithm::HS256, secret);
        tokens.push(forger.token(&alice()));
    }
    all_refused(&rsa, &tokens, "auth.jwt.wrong_algorithm").await;
}

/// Where an issuer has keys of both kinds, a key still serves its own kind only.
#[tokio::test]
async fn a_public_key_is_no_secret_even_where_secrets_are_accepted() {
    let rsa = Signer::new(Algorithm::RS256);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    let jwk = rsa.jwk("a");
    std::fs::write(&file, json!({ "keys": [jwk] }).to_string()).unwrap();
    let tables = format!(
        "[auth.jwt.main]\njwks_file = '{}'\nalgorithms = ['RS256', 'HS256']\n",
        file.display()
    );
    let site = Site::with(&tables, "auth = \"jwt.main\"").await;
    for secret in [rsa.public.as_str(), jwk["n"].as_str().unwrap()] {
        let forger = Signer::with_secret(Algorithm::HS256, secret);
        let token = forger.named("a", &alice());
        assert_eq!(site.refusal(&token).await, refused("auth.jwt.unknown_key"));
    }
}

#[tokio::test]
async fn no_algorithm_is_none_in_whatever_case() {
    let signer = hs256();
    let mut tokens = Vec::new();
    for none in [
        "none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "ES512", "RSA1_5", "dir",
    ] {
        let header = json!({ "alg": none, "typ": "JWT" });
        let signed = signer.sign(&header, &alice());
        let (message, _) = signed.rsplit_once('.').unwrap();
        tokens.push(format!("{message}."));
        tokens.push(signed);
    }
    all_refused(&signer, &tokens, "auth.jwt.wrong_algorithm").await;
}

#[tokio::test]
async fn an_extension_that_is_critical_is_not_understood() {
    let signer = hs256();
    let tokens = [
        json!({ "crit": ["exp"] }),
        json!({ "crit": ["b64"], "b64": false }),
        json!({ "crit": [] }),
        json!({ "crit": "x" }),
        json!({ "crit": null }),
    ];
    let tokens = tokens.map(|crit| with_header(&signer, crit));
    all_refused(&signer, &tokens, "auth.jwt.unknown_critical").await;
}

#[tokio::test]
async fn a_key_that_a_token_brings_or_names_is_not_used() {
    let signer = Signer::new(Algorithm::ES256);
    let forger = Signer::new(Algorithm::ES256);
    let empty = Signer::with_secret(Algorithm::HS256, "");
    let jwk = forger.jwk("x");
    let tokens = [
        json!({ "jwk": jwk }),
        json!({ "jku": "http://127.0.0.1:1/jwks.json" }),
        json!({ "x5u": "http://127.0.0.1:1/a.pem" }),
        json!({ "x5c": ["AAAA"] }),
        json!({ "kid": "../../../../dev/null" }),
        json!({ "kid": "' OR 1=1 --" }),
        json!({ "kid": "x".repeat(2000) }),
        json!({ "kid": "file:///etc/passwd\u{0}" }),
    ];
    let tokens = tokens.map(|header| with_header(&forger, header));
    all_refused(&signer, &tokens, "auth.jwt.bad_signature").await;
    let signer = hs256();
    let tokens = [json!({ "kid": "/dev/null" })].map(|header| with_header(&empty, header));
    all_refused(&signer, &tokens, "auth.jwt.bad_signature").await;
}

#[tokio::test]
async fn a_signature_that_is_empty_or_of_another_form_does_not_hold() {
    for algorithm in ONE_OF_EACH_FAMILY {
        let signer = Signer::new(algorithm);
        let token = signer.token(&alice());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let tokens = [
            format!("{message}."),
            format!("{message}.AA"),
            // What ECDSA's equations hold for when nobody looks whether r and s are above zero.
            format!("{message}.{}", encode([0; 64])),
            format!("{message}.{}", encode([0xff; 64])),
            // The DER form of r = s = 1.
            format!("{message}.{}", encode([0x30, 6, 2, 1, 1, 2, 1, 1])),
            format!("{message}.{signature}{signature}"),
            format!("{message}.{}", &signature[..signature.len() - 2]),
            format!("{message}.{signature}="),
            format!("{message}.{signature}=="),
        ];
        all_refused(&signer, &tokens, "auth.jwt.bad_signature").await;
    }
}

#[tokio::test]
async fn what_is_no_token_in_compact_form_is_malformed() {
    let signer = hs256();
    let token = signer.token(&alice());
    let malformed = "auth.jwt.malformed";
    // These have three parts and a good header, so it is the third part that does not hold.
    let unsigned = "auth.jwt.bad_signature";
    let tokens = [
        (String::new(), malformed),
        (".".to_owned(), malformed),
        ("..".to_owned(), malformed),
        ("a.b.c".to_owned(), malformed),
        ("not-a-token".to_owned(), malformed),
        (format!("{token}.{token}"), malformed),
        (format!("{token}.x"), malformed),
        (format!("{token} x"), unsigned),
        (format!("{token},{token}"), malformed),
        (format!(".{token}"), malformed),
        (token.replacen('.', "=.", 1), malformed),
        (token.replacen('.', "", 1), malformed),
        (format!("{token}\u{e9}"), unsigned),
        // Encrypted, not signed.
        ("a.b.c.d.e".to_owned(), malformed),
    ];
    let site = Site::of(&signer, "").await;
    for (token, reason) in &tokens {
        assert_eq!(site.refusal(token).await, refused(reason), "{token}");
    }
    assert!(site.origin.requests().is_empty());
}

/// The last letter of a part may hold bits that stand for nothing: a reader that lets them be sees
/// one token in many spellings.
#[tokio::test]
async fn the_last_letter_of_each_part_has_one_spelling() {
    for algorithm in ONE_OF_EACH_FAMILY {
        let signer = Signer::new(algorithm);
        let site = Site::of(&signer, "").await;
        // 34 bytes of header and 32 of claims: neither they nor the signatures fill their letters.
        let token = with_header(&signer, json!({ "x": "" }));
        let parts: Vec<_> = token.split('.').collect();
        for (at, part) in parts.iter().enumerate() {
            assert_ne!(part.len() % 4, 0, "part {at} of {token}");
            let (rest, last) = part.split_at(part.len() - 1);
            for letter in LETTERS.chars().filter(|letter| !last.contains(*letter)) {
                let other = format!("{rest}{letter}");
                let mut changed = parts.clone();
                changed[at] = other.as_str();
                let changed = changed.join(".");
                let (status, reason) = site.refusal(&changed).await;
                assert_eq!(status, 401, "{changed} of {token}");
                assert!(reason.starts_with("auth.jwt."), "{changed}: {reason}");
            }
        }
        assert!(site.origin.requests().is_empty());
        assert_eq!(site.refusal(&token).await, let_in());
    }
}

const ONE_OF_EACH_FAMILY: [Algorithm; 4] = [
    Algorithm::HS256,
    Algorithm::RS256,
    Algorithm::ES256,
    Algorithm::EdDSA,
];

/// Those of base64url (RFC 4648 5).
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[tokio::test]
async fn a_header_that_is_not_one_object_with_texts_is_malformed() {
    let signer = hs256();
    let claims = alice().to_string();
    let headers = [
        "",
        "null",
        "[]",
        "{",
        "\"HS256\"",
        r#"{"typ":"JWT"}"#,
        r#"{"alg":1}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"none","\u0061lg":"HS256"}"#,
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"alg":"HS256","kid":null}"#,
        r#"{"alg":"HS256","typ":7}"#,
        r#"{"alg":"HS256"}{}"#,
        r#"{"alg":"HS256"} x"#,
    ];
    let mut tokens = headers
        .map(|header| signer.sign_text(header, &claims))
        .to_vec();
    let nested = format!(
        "{{\"alg\":\"HS256\",\"x\":{}{}}}",
        "[".repeat(1000),
        "]".repeat(1000)
    );
    tokens.push(signer.sign_text(&nested, &claims));
    all_refused(&signer, &tokens, "auth.jwt.malformed").await;
}

/// All of these are signed well: by an issuer that is careless, or that a caller talked into it.
#[tokio::test]
async fn claims_with_more_than_one_reading_are_malformed() {
    let signer = hs256();
    let header = signer.header().to_string();
    let exp = now() + 3600;
    let mut claims: Vec<String> = [
        r#"{"sub":"alice","sub":"root","exp":EXP}"#,
        r#"{"sub":"alice","exp":1,"exp":EXP}"#,
        r#"{"sub":"alice","exp":EXP,"a":{"b":1,"b":2}}"#,
        r#"{"sub":"alice","exp":EXP,"\u0073ub":"root"}"#,
        r#"{"sub":"alice","exp":"EXP"}"#,
        r#"{"sub":"alice","exp":EXP.0}"#,
        r#"{"sub":"alice","exp":EXP.5}"#,
        r#"{"sub":"alice","exp":1e300}"#,
        r#"{"sub":"alice","exp":1e9999}"#,
        r#"{"sub":"alice","exp":-1}"#,
        r#"{"sub":"alice","exp":-EXP}"#,
        r#"{"sub":"alice","exp":18446744073709551615}"#,
        r#"{"sub":"alice","exp":18446744073709551616}"#,
        r#"{"sub":"alice","exp":253402300800}"#,
        r#"{"sub":"alice","exp":99999999999999999999999999999999}"#,
        r#"{"sub":"alice","exp":null}"#,
        r#"{"sub":"alice","exp":true}"#,
        r#"{"sub":"alice","exp":[EXP]}"#,
        r#"{"sub":"alice","exp":{"$date":EXP}}"#,
        r#"{"sub":"alice","exp":0xFFFFFFFF}"#,
        r#"{"sub":"alice","exp":+EXP}"#,
        r#"{"sub":"alice","exp":NaN}"#,
        r#"{"sub":"alice","exp":Infinity}"#,
        r#"{"sub":"alice","exp":EXP,"nbf":"0"}"#,
        r#"{"sub":"alice","exp":EXP,"nbf":0.5}"#,
        r#"{"sub":"alice","exp":EXP,"iat":"0"}"#,
        r#"{"sub":"alice","exp":EXP,"iat":-1}"#,
        r#"{"sub":7,"exp":EXP}"#,
        r#"{"sub":"","exp":EXP}"#,
        r#"{"sub":["alice"],"exp":EXP}"#,
        r#"{"sub":"alice","exp":EXP,"iss":7}"#,
        r#"{"sub":"alice","exp":EXP,"aud":7}"#,
        r#"{"sub":"alice","exp":EXP,"aud":["a",7]}"#,
        r#"{"sub":"alice","exp":EXP,"jti":7}"#,
        r#"{"sub":"alice","exp":EXP}{"sub":"root"}"#,
        r#"{"sub":"alice","exp":EXP}x"#,
        r#"[{"sub":"alice","exp":EXP}]"#,
        r#""alice""#,
        "",
        "{}}",
    ]
    .map(|claims| claims.replace("EXP", &exp.to_string()))
    .to_vec();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let inner = format!("{}1{}", open.repeat(600), close.repeat(600));
        claims.push(format!("{{\"sub\":\"alice\",\"exp\":{exp},\"x\":{inner}}}"));
    }
    let tokens: Vec<_> = claims
        .iter()
        .map(|claims| signer.sign_text(&header, claims))
        .collect();
    all_refused(&signer, &tokens, "auth.jwt.malformed").await;
}

#[tokio::test]
async fn a_token_over_the_limit_is_not_read() {
    let signer = hs256();
    let padding = |length: usize| alice_with(json!({ "x": "y".repeat(length) }));
    let tokens = [
        signer.token(&padding(6200)),
        "x".repeat(8193),
        ".".repeat(20_000),
    ];
    all_refused(&signer, &tokens, "auth.jwt.too_large").await;
    let site = Site::of(&signer, "max_size = '1KiB'").await;
    let large = signer.token(&padding(1000));
    assert_eq!(site.refusal(&large).await, refused("auth.jwt.too_large"));
}

#[tokio::test]
async fn a_token_of_another_type_is_not_for_access() {
    let signer = hs256();
    let typ = |typ: &str| with_header(&signer, json!({ "typ": typ }));
    let tokens = [
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "JWE",
        "application/logout+jwt",
        "",
    ];
    all_refused(&signer, &tokens.map(typ), "auth.jwt.wrong_type").await;
    let site = Site::of(&signer, "").await;
    for good in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        assert_eq!(site.refusal(&typ(good)).await, let_in(), "{good}");
    }
    let without = signer.sign(&json!({ "alg": "HS256" }), &alice());
    assert_eq!(site.refusal(&without).await, let_in());
    let site = Site::of(&signer, "typ = 'at+jwt'").await;
    assert_eq!(site.refusal(&typ("application/AT+jwt")).await, let_in());
    for bad in [typ("JWT"), without] {
        assert_eq!(site.refusal(&bad).await, refused("auth.jwt.wrong_type"));
    }
}

/// RFC 6750 2: whichever of two tokens we took, the server might take the other.
#[tokio::test]
async fn two_tokens_are_none() {
    let signer = hs256();
    let site = Site::of(
        &signer,
        "from = ['header:authorization', 'cookie:t', 'query:t']",
    )
    .await;
    let (good, bad) = (
        signer.token(&alice()),
        Signer::new(Algorithm::HS256).token(&alice()),
    );
    let ambiguous = (400, "auth.ambiguous".to_owned());
    let header = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let cookie = |token: &str| format!("Cookie: t={token}\r\n");
    for fields in [
        header(&good) + &header(&good),
        header(&good) + &header(&bad),
        header(&bad) + &header(&good),
        header(&good) + "Authorization: Basic YTpi\r\n",
        header(&good) + &cookie(&good),
        format!("Cookie: t={good}; t={good}\r\n"),
        cookie(&good) + &cookie(&bad),
    ] {
        let answer = site.get(&fields).await;
        assert_eq!(answer.refusal(), ambiguous, "{fields}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(
            challenge.contains("error=\"invalid_request\""),
            "{challenge}"
        );
    }
    for target in [format!("/?t={good}&%74={good}"), format!("/?t={good}&t")] {
        let answer = site.ask(&format!("GET {target} HTTP/1.1"), "").await;
        assert_eq!(answer.refusal(), ambiguous);
    }
    let answer = site
        .ask(&format!("GET /?t={good} HTTP/1.1"), &header(&good))
        .await;
    assert_eq!(answer.refusal(), ambiguous);
    assert!(site.origin.requests().is_empty());
}

/// Every byte that a field may have (RFC 9110 5.5): `%x21-7E`, those above ASCII, and blanks.
fn sendable() -> Vec<u8> {
    let visible = (0x20..=0xff_u8).filter(|byte| *byte != 0x7f);
    visible.chain([b'\t']).collect()
}

/// Sends a token of which one byte is another one; it must not let in.
async fn refuses_changed(client: &mut SendRequest<BoxBody>, token: &str, at: usize, byte: u8) {
    let mut changed = token.as_bytes().to_vec();
    changed[at] = byte;
    let value = [b"Bearer ", &changed[..]].concat();
    let request = http::Request::get("/").header("host", "gateway.test");
    let request = request.header("authorization", &value[..]);
    let answer = within(client.send_request(request.body(empty()).unwrap())).await;
    let answer = read(answer.unwrap()).await;
    assert_eq!(answer.status(), 401, "byte {at} of {token} became {byte}");
    assert!(
        answer.reason().starts_with("auth.jwt."),
        "{}",
        answer.reason()
    );
}

/// At one place of a token of each algorithm: in its head, its claims and its signature by turns. In each
/// family at the signature's end too, where some bits stand for nothing.
#[tokio::test]
async fn no_other_value_of_a_byte_of_a_token_verifies() {
    for (index, algorithm) in ALL.into_iter().enumerate() {
        let signer = Signer::new(algorithm);
        let site = Site::of(&signer, "").await;
        let token = signer.token(&alice());
        let mut client = http1(site.gateway.address()).await;
        let part = token.split('.').nth(index % 3).unwrap();
        let mut places = vec![token.find(part).unwrap() + index * 7 % part.len()];
        if ONE_OF_EACH_FAMILY.contains(&algorithm) {
            places.push(token.len() - 1);
        }
        for at in places {
            let others = sendable().into_iter();
            for byte in others.filter(|byte| token.as_bytes()[at] != *byte) {
                refuses_changed(&mut client, &token, at, byte).await;
            }
        }
        assert!(site.origin.requests().is_empty(), "{algorithm:?}");
        assert_eq!(site.refusal(&token).await, let_in(), "{algorithm:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Each case changes a hundred bytes, one at a time, at places all over the token.
    #[test]
    fn no_change_of_one_byte_of_a_token_verifies(
        algorithm in proptest::sample::select(ALL.to_vec()),
        seed: u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.unwrap();
        runtime.block_on(async {
            let signer = Signer::new(algorithm);
            let site = Site::of(&signer, "").await;
            let token = signer.token(&alice());
            let (mut random, bytes) = (fastrand::Rng::with_seed(seed), sendable());
            let mut client = http1(site.gateway.address()).await;
            for _ in 0..100 {
                let (at, byte) = (random.usize(..token.len()), bytes[random.usize(..bytes.len())]);
                if token.as_bytes()[at] != byte {
                    refuses_changed(&mut client, &token, at, byte).await;
                }
            }
            assert!(site.origin.requests().is_empty());
            assert_eq!(site.refusal(&token).await, let_in());
        });
    }
}
