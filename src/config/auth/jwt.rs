//! `[auth.jwt.NAME]`: signed tokens of one issuer.

mod text;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderName, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::{
    Carried, ClaimPath, CredentialPlace, KeyRefresh, KeySet, RevocationList, claim::Claim,
    identity::ForwardClaims, key_set::of_family, place::From, revocation::RevocationKeys,
};
use crate::config::{
    Secret,
    decode::{
        Choice, Flag, Keyed, Off, OneOrList, OptionOf, OrWord, Reader, Set, Size, Sub, TableNode,
        Text, Time, TimeOrZero, Word, table,
    },
    diagnostic::Finding,
};
use text::{ClaimList, FileText, PemText, SecretText, TextFile, UrlText};

/// `[auth.jwt.NAME]`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// The full name: `jwt.customers`.
    pub name: Arc<str>,
    /// `issuer`: what `iss` must be.
    pub issuer: Option<Box<str>>,
    /// `audience`: `aud` must have one of these; when empty, there must be no `aud`.
    pub audience: Vec<Box<str>>,
    /// `algorithms`: what signatures are accepted.
    pub algorithms: Vec<Algorithm>,
    /// Where the keys come from.
    pub keys: KeysFrom,
    /// `refresh`: how keys that are fetched are kept fresh.
    pub refresh: KeyRefresh,
    /// `revocation`: the list of tokens that were taken back.
    pub revocation: Option<RevocationList>,
    /// `from`: where tokens are looked for.
    pub from: Vec<CredentialPlace>,
    /// `leeway`: how far clocks may differ.
    pub leeway: Duration,
    /// `max_age`: how long ago a token may have been issued.
    pub max_age: Option<Duration>,
    /// `required_claims`.
    pub required_claims: Vec<ClaimPath>,
    /// `typ`: which types, in lower case and without `application/`; empty is the usual ones, or none.
    pub types: Vec<Box<str>>,
    /// `max_size`: of a token, in bytes.
    pub max_size: usize,
    /// `subject_claim`.
    pub subject_claim: ClaimPath,
    /// `roles_claim`.
    pub roles_claim: Option<ClaimPath>,
    /// `permissions_claim`.
    pub permissions_claim: Option<ClaimPath>,
    /// `forward_claims`: request headers for the upstream, and the claims that they show.
    pub forward_claims: Vec<(HeaderName, ClaimPath)>,
    /// `forward_credentials`: whether the upstream gets the token.
    pub forward_credentials: bool,
    /// `remember`: how many bytes verified tokens may take in memory.
    pub remember: Option<u64>,
}

/// Where the keys of an issuer come from.
#[derive(Clone, Debug, PartialEq)]
pub enum KeysFrom {
    /// `secret`, `public_key`.
    Fixed(KeySet),
    /// `jwks_file`: a file with a JWK set, read again when it changes.
    JwksFile(PathBuf),
    /// `jwks_url`: a JWK set over HTTP.
    JwksUrl(Box<str>),
    /// `issuer` alone: its metadata tell where the set is (OpenID Connect Discovery 1.0, 4).
    Discovery,
}

impl Word for Algorithm {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("HS256", Self::HS256),
        ("HS384", Self::HS384),
        ("HS512", Self::HS512),
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
    ];
}

type Key<T> = Option<Set<T>>;

table! {
    /// `[auth.jwt.NAME]`: signed tokens (JWT, RFC 7519) of one issuer. The keys come from exactly one
    /// of `secret`, `public_key`, `jwks_file` and `jwks_url`; without any, the issuer's metadata tell
    /// where they are.
    #[derive(Clone, Debug)]
    pub(in crate::config) struct JwtKeys ["auth.jwt.NAME", check check_jwt] {
        /// `issuer`: what `iss` must be, letter by letter.
        issuer: Option<String> => OptionOf<Text> = None; "any issuer",
        /// `audience`: `aud` must have one of these. Without this key there must be no `aud`.
        audience: Vec<String> => OneOrList<Text> = Vec::new(); "none",
        /// `algorithms`: which signatures are accepted, whatever a token says about itself.
        algorithms: Vec<Algorithm> => OneOrList<Choice<Algorithm>> = Vec::new(); "`[\"HS256\"]` with a `secret`, else `[\"RS256\", \"ES256\", \"EdDSA\"]`",
        /// `secret`: the key of HS256, HS384 or HS512, 32 bytes at least.
        secret: Key<Secret> => Keyed<SecretText> = None; "none",
        /// `public_key`: a public key in PEM, or the name of a file with one.
        public_key: Key<String> => Keyed<PemText> = None; "none",
        /// `jwks_file`: a file with a JWK set. It is read again when it changes.
        jwks_file: Key<TextFile> => Keyed<FileText> = None; "none",
        /// `jwks_url`: where a JWK set is fetched, and kept up to date.
        jwks_url: Key<String> => Keyed<UrlText> = None; "none",
        /// `refresh`: how keys that are fetched are kept fresh.
        refresh: KeyRefresh => Sub<KeyRefresh> = KeyRefresh::default(); "see there",
        /// `revocation`: a list of tokens that are refused before their time.
        revocation: Option<RevocationKeys> => OptionOf<Sub<RevocationKeys>> = None; "none",
        /// `from`: where tokens are looked for. In more than one of the places at once is 400. Answers
        /// to requests with a token in the query or a cookie are not stored (`no-store`).
        from: Vec<CredentialPlace> => OneOrList<From> = vec![CredentialPlace::Header(AUTHORIZATION)],
        /// `leeway`: how far the issuer's clock may differ from ours.
        leeway: Duration => TimeOrZero = Duration::from_secs(30),
        /// `max_age`: how long ago a token may have been issued; it then needs `iat`.
        max_age: Option<Duration> => OptionOf<Time> = None; "any age",
        /// `required_claims`: claims that must be there, beside `exp` and the subject.
        required_claims: Vec<ClaimPath> => ClaimList = Vec::new(); "none",
        /// `typ`: the types that a token must have. Without this key a token may have none, `JWT` or
        /// `at+jwt`.
        typ: Vec<String> => OneOrList<Text> = Vec::new(); "see there",
        /// `max_size`: a longer token is refused unread.
        max_size: usize => Size<usize, 64, 65_536> = 8 << 10,
        /// `subject_claim`: who the caller is.
        subject_claim: ClaimPath => Claim = ClaimPath(Box::new(["sub".into()])),
        /// `roles_claim`: the caller's roles: a list, or a text with spaces between them.
        roles_claim: Option<ClaimPath> => OptionOf<Claim> = None; "none",
        /// `permissions_claim`: the caller's permissions, likewise: `"scope"`.
        permissions_claim: Option<ClaimPath> => OptionOf<Claim> = None; "none",
        /// `forward_claims`: request headers for the upstream, and the claims that they show. What
        /// clients send under these names is taken out on every route.
        forward_claims: Vec<(HeaderName, ClaimPath)> => ForwardClaims = Vec::new(); "none",
        /// `forward_credentials`: whether the upstream gets the token too. A route may say otherwise.
        forward_credentials: bool => Flag = true,
        /// `remember`: how much memory verified tokens may take, so that they are not verified anew.
        remember: Option<u64> => OrWord<Size<u64, 65_536, { 1 << 40 }>, Off> = Some(16 << 20),
    }
}

fn check_jwt(jwt: &JwtKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    check_source(jwt, table, reader);
    warn_of_cleartext(jwt, table, reader);
    check_keys(jwt, table, reader);
    if jwt.from.is_empty() && table.has("from") {
        let place = table.value_place("from", reader);
        let finding = Finding::error(place, "`from`: a token must stand somewhere");
        reader.report(finding.help("leave it out for the Authorization header"));
    }
}

fn check_source(jwt: &JwtKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let mut set = SOURCES.into_iter().filter(|key| table.has(key));
    let (first, second) = (set.next(), set.next());
    if let (Some(first), Some(second)) = (first, second) {
        let message =
            format!("the keys come from one place: `{first}` and `{second}` can't stand together");
        let finding = Finding::error(table.value_place(second, reader), message)
            .related(table.value_place(first, reader), "the other one");
        reader.report(finding.help("keep one of them"));
    }
    let discovers = jwt.issuer.as_deref().is_some_and(is_url);
    if first.is_none() && !discovers {
        let message = format!("`[auth.jwt.{}]` has no keys", table.node.name);
        let finding = Finding::error(table.node.key, message).help(
            "write one of `secret`, `public_key`, `jwks_file` and `jwks_url`, or an `issuer` that is a URL",
        );
        reader.report(finding);
    }
}

/// Whoever stands between us and the keys could put others in their place.
fn warn_of_cleartext(jwt: &JwtKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let is_open = |url: &str| {
        let uri = url.parse::<http::Uri>().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        let local = host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.is_loopback());
        uri.scheme_str() == Some("http") && !local
    };
    let elsewhere = SOURCES.iter().any(|key| table.has(key));
    let url = jwt.jwks_url.as_ref().and_then(|set| set.value.as_deref());
    let (key, url) = match (url, jwt.issuer.as_deref()) {
        (Some(url), _) => ("jwks_url", url),
        (None, Some(issuer)) if !elsewhere => ("issuer", issuer),
        _ => return,
    };
    if is_open(url) {
        let message = format!("`{key}`: keys that come over `http://` can be forged on the way");
        let finding = Finding::warning(table.value_place(key, reader), message);
        reader.report(
            finding.help(
                "use `https://`; `[subrequests]` has a `ca_file` for certificates of your own",
            ),
        );
    }
}

/// What the texts are good for shows only together with `algorithms`.
fn check_keys(jwt: &JwtKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let algorithms = jwt.algorithms();
    let hmac = !of_family(&algorithms, AlgorithmFamily::Hmac).is_empty();
    if jwt.secret.is_some()
        && algorithms
            .iter()
            .any(|one| one.family() != AlgorithmFamily::Hmac)
    {
        let place = table.value_place("algorithms", reader);
        let message = "`algorithms`: a `secret` signs with HS256, HS384 or HS512 only";
        reader.report(Finding::error(place, message));
    }
    if jwt.public_key.is_some() && hmac {
        let place = table.value_place("algorithms", reader);
        let message = "`algorithms`: HS256, HS384 and HS512 need a `secret`, not a `public_key`";
        reader.report(Finding::error(place, message));
    }
    let pem = jwt
        .public_key
        .as_ref()
        .map(|set| (set.place, set.value.as_deref()));
    let jwks = jwt.jwks_file.as_ref();
    let jwks = jwks.map(|set| (set.place, set.value.as_ref().map(|file| &*file.text)));
    let texts = [(pem, KeySet::from_pem as Build), (jwks, KeySet::from_jwks)];
    for (text, build) in texts {
        if let Some((place, Some(text))) = text
            && let Err(message) = build(text, &algorithms)
        {
            reader.report(Finding::error(place, message));
        }
    }
}

type Build = fn(&str, &[Algorithm]) -> Result<KeySet, String>;

impl JwtKeys {
    /// The checked table; `None` when it has been found wrong.
    pub(super) fn named(self, name: Arc<str>) -> Option<Jwt> {
        let algorithms = self.algorithms();
        let keys = self.keys(&algorithms)?;
        let revocation = match self.revocation {
            Some(keys) => Some(keys.checked()?),
            None => None,
        };
        Some(Jwt {
            name,
            issuer: self.issuer.map(Into::into),
            audience: boxed(self.audience),
            keys,
            refresh: self.refresh,
            revocation,
            algorithms,
            from: self.from,
            leeway: self.leeway,
            max_age: self.max_age,
            required_claims: self.required_claims,
            types: self.typ.iter().map(|typ| media_type(typ)).collect(),
            max_size: self.max_size,
            subject_claim: self.subject_claim,
            roles_claim: self.roles_claim,
            permissions_claim: self.permissions_claim,
            forward_claims: self.forward_claims,
            forward_credentials: self.forward_credentials,
            remember: self.remember,
        })
    }

    /// What tokens can say of a caller.
    pub(super) fn carried(&self) -> Carried {
        Carried {
            roles: self.roles_claim.is_some(),
            permissions: self.permissions_claim.is_some(),
            claims: true,
        }
    }

    fn algorithms(&self) -> Vec<Algorithm> {
        match (&self.algorithms[..], &self.secret) {
            ([], Some(_)) => vec![Algorithm::HS256],
            ([], None) => vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            (own, _) => own.to_vec(),
        }
    }

    fn keys(&self, algorithms: &[Algorithm]) -> Option<KeysFrom> {
        if let Some(set) = &self.secret {
            let secret = set.value.as_ref()?.expose();
            return Some(KeysFrom::Fixed(KeySet::from_secret(secret, algorithms)));
        }
        if let Some(set) = &self.public_key {
            let keys = KeySet::from_pem(set.value.as_ref()?, algorithms);
            return keys.ok().map(KeysFrom::Fixed);
        }
        if let Some(set) = &self.jwks_file {
            return Some(KeysFrom::JwksFile(set.value.as_ref()?.path.clone()));
        }
        match &self.jwks_url {
            Some(set) => Some(KeysFrom::JwksUrl(set.value.as_deref()?.into())),
            None => Some(KeysFrom::Discovery),
        }
    }
}

fn boxed(texts: Vec<String>) -> Vec<Box<str>> {
    texts.into_iter().map(Into::into).collect()
}

/// RFC 7515 4.1.9: `application/` may be left out, and case makes no difference.
fn media_type(text: &str) -> Box<str> {
    let lower = text.to_ascii_lowercase();
    lower.strip_prefix("application/").unwrap_or(&lower).into()
}

fn is_url(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok();
    uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
    })
}

/// The keys that name the keys.
const SOURCES: [&str; 4] = ["secret", "public_key", "jwks_file", "jwks_url"];
