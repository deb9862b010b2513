//! `[auth.*]` and the routes' `auth`: what they mean, and what is said when they are wrong.

use super::{ROUTE, error, findings, parse, valid, warning};

const SECRET: &str = "secret = 'thirty-two characters are enough'";

/// A file with one issuer, `jwt.customers`, and these keys of the only route.
fn file(route: &str) -> String {
    format!("[routes.a]\nrespond = {{}}\n{route}\n[auth.jwt.customers]\n{SECRET}\n")
}

/// The rule of the only route: names by alternative, and whether anonymous requests pass.
fn rule(route: &str) -> Option<(String, bool)> {
    let loaded = parse(&file(route)).unwrap_or_else(|findings| panic!("{findings}"));
    let rule = loaded.config.routes[0].auth.clone()?;
    Some((format!("{:?}", rule.alternatives), rule.anonymous))
}

/// The finding about the third line, `auth = ...`.
fn wrong(auth: &str) -> (String, String) {
    let findings = findings(&file(&format!("auth = {auth}")));
    let errors: Vec<_> = findings
        .iter()
        .filter(|one| one.severity == tollgate::config::Severity::Error)
        .map(super::said)
        .collect();
    assert_eq!(errors.len(), 1, "{findings}");
    errors.into_iter().next().unwrap()
}

#[test]
fn a_route_names_whom_it_takes() {
    let one = Some(("[[\"jwt.customers\"]]".to_owned(), false));
    assert_eq!(rule("auth = 'jwt.customers'"), one);
    assert_eq!(rule("auth = ['jwt.customers']"), one);
    assert_eq!(rule("auth = { all = ['jwt.customers'] }"), one);
    assert_eq!(rule("auth = [{ all = 'jwt.customers' }]"), one);
    let or_nobody = rule("auth = ['jwt.customers', 'anonymous']");
    assert_eq!(or_nobody.map(|rule| rule.1), Some(true));
    assert_eq!(rule("auth = 'public'"), None);
    assert_eq!(rule("auth = ['public']"), None);
}

/// `b:alice` of `jwt.a` would be `alice` of `jwt.a:b`.
#[test]
fn a_name_with_a_colon_is_an_error() {
    let route = "[routes.a]\nrespond = {}\nauth = 'jwt.a:b'\n";
    let (message, help) = error(&format!("{route}[auth.jwt.'a:b']\n{SECRET}\n"));
    assert!(message.starts_with("4:"), "{message}");
    assert!(
        message.contains("`jwt.a:b`: a name with a colon"),
        "{message}"
    );
    assert_eq!(help, "write it with a hyphen in its place");
}

#[test]
fn a_route_inherits_whom_it_takes() {
    let text = "[defaults]\nauth = 'jwt.customers'\n[groups.g]\nauth = ['inherit', 'anonymous']\n\
                [routes.a]\npath = '/a'\nrespond = {}\n\
                [routes.b]\npath = '/b'\nrespond = {}\ngroup = 'g'\n\
                [routes.c]\npath = '/c'\nrespond = {}\nauth = 'public'\n";
    let config = valid(&format!("{text}[auth.jwt.customers]\n{SECRET}\n"));
    let rules: Vec<_> = config
        .routes
        .iter()
        .map(|route| {
            route
                .auth
                .as_ref()
                .map(|rule| (rule.alternatives.len(), rule.anonymous))
        })
        .collect();
    assert_eq!(rules, [Some((1, false)), Some((1, true)), None]);
}

#[test]
fn once_there_is_a_way_to_authenticate_every_route_says_whether_it_asks() {
    for target in ["respond = {}", "redirect = '/x'", "upstream = 'http://a'"] {
        let text = format!(
            "[routes.open]\n{target}\n[routes.b]\npath = '/b'\nrespond = {{}}\n\
             auth = 'jwt.customers'\n[auth.jwt.customers]\n{SECRET}\n"
        );
        let (message, help) = error(&text);
        assert_eq!(message, "1:9 the route `open` does not say who may call it");
        assert!(help.contains("auth = \"jwt.customers\""), "{help}");
        assert!(help.contains("auth = \"public\""), "{help}");
    }
    valid(ROUTE);
    valid("[routes.a]\nrespond = {}\nauth = 'public'\n");
}

#[test]
fn names_resolve_or_something_near_is_suggested() {
    let (message, help) = wrong("'jwt.custumers'");
    assert_eq!(
        message,
        "3:8 there is no way to authenticate called `jwt.custumers`"
    );
    assert_eq!(help, "write `\"jwt.customers\"`");
    assert_eq!(wrong("'customers'").1, "write `\"jwt.customers\"`");
    assert_eq!(wrong("'pubic'").1, "write `\"public\"`");
    assert_eq!(
        wrong("'jwt.others-entirely'").1,
        "define it: `[auth.jwt.others-entirely]`"
    );
    assert!(wrong("'elsewhere'").1.contains("begins with its kind"));
    assert!(
        wrong("{ all = ['jwt.customers', 'x'] }")
            .0
            .contains("called `x`")
    );
}

#[test]
fn what_would_admit_everybody_by_accident_is_refused() {
    assert!(wrong("[]").0.contains("an empty list"));
    assert!(wrong("{ all = [] }").0.contains("would admit everybody"));
    assert!(wrong("{}").0.contains("needs `all`"));
    assert!(
        wrong("['public', 'jwt.customers']")
            .0
            .contains("can't stand in a list")
    );
    assert!(wrong("'anonymous'").0.contains("alone admits everybody"));
    assert!(
        wrong("{ all = ['anonymous'] }")
            .0
            .contains("can't stand in `all`")
    );
    assert!(wrong("''").0.contains("it is empty"));
    assert!(wrong("7").0.contains("expected a name such as"));
    assert!(wrong("true").0.contains("expected a name such as"));
}

/// The only finding about these lines of `[auth.jwt.a]`.
fn wrong_jwt(lines: &str) -> (String, String) {
    let text = format!("[routes.a]\nrespond = {{}}\nauth = 'jwt.a'\n[auth.jwt.a]\n{lines}\n");
    error(&text)
}

#[test]
fn the_keys_of_an_issuer_come_from_one_place() {
    assert_eq!(wrong_jwt("").0, "4:11 `[auth.jwt.a]` has no keys");
    assert!(wrong_jwt("issuer = 'me'").0.contains("has no keys"));
    let both = format!("{SECRET}\njwks_url = 'https://a/keys'");
    assert!(
        wrong_jwt(&both)
            .0
            .contains("`secret` and `jwks_url` can't stand together")
    );
    assert!(
        wrong_jwt("jwks_url = 'keys'")
            .0
            .contains("expected a URL such as")
    );
    assert!(
        wrong_jwt("jwks_file = 'nowhere.json'")
            .0
            .contains("can't be read")
    );
    assert!(
        wrong_jwt("public_key = 'nowhere.pem'")
            .0
            .contains("can't be read")
    );
    let text =
        |lines| format!("[routes.a]\nrespond = {{}}\nauth = 'jwt.a'\n[auth.jwt.a]\n{lines}\n");
    valid(&text("issuer = 'https://id.test/'"));
    valid(&text("jwks_url = 'https://id.test:8080/keys'"));
}

#[test]
fn a_key_must_be_good_for_its_algorithms() {
    let (message, help) = wrong_jwt("secret = 'short'");
    assert!(message.contains("the secret is too short"), "{message}");
    assert!(help.contains("openssl rand"), "{help}");
    let rsa = format!("{SECRET}\nalgorithms = ['HS256', 'RS256']");
    assert!(wrong_jwt(&rsa).0.contains("HS256, HS384 or HS512 only"));
    assert!(
        wrong_jwt("algorithms = ['none']\njwks_url = 'https://a/'")
            .0
            .contains("expected \"HS256\"")
    );
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let (public, private) = (pair.public_key_pem(), pair.serialize_pem());
    assert!(
        wrong_jwt(&format!("public_key = '''{private}'''"))
            .0
            .contains("a private key")
    );
    let other = format!("public_key = '''{public}'''\nalgorithms = 'ES384'");
    assert!(
        wrong_jwt(&other)
            .0
            .contains("fits none of the algorithms ES384")
    );
    let hmac = format!("public_key = '''{public}'''\nalgorithms = ['ES256', 'HS256']");
    assert!(wrong_jwt(&hmac).0.contains("need a `secret`"));
    let cut = public.replace("MF", "??");
    assert!(
        wrong_jwt(&format!("public_key = '''{cut}'''"))
            .0
            .contains("no public key")
    );
}

#[test]
fn places_claims_and_headers_are_checked() {
    let with = |line: &str| wrong_jwt(&format!("{SECRET}\n{line}"));
    assert!(
        with("from = 'authorization'")
            .1
            .contains("\"header:authorization\"")
    );
    assert!(with("from = []").0.contains("must stand somewhere"));
    assert!(with("from = 'header:x_token'").1.contains("header:x-token"));
    assert!(with("roles_claim = []").0.contains("a claim has a name"));
    assert!(with("roles_claim = 7").0.contains("the name of a claim"));
    assert!(with("max_size = '1MiB'").0.contains("a size such as"));
    assert!(with("isuer = 'x'").0.contains("unknown key `isuer`"));
    for name in [
        "authorization",
        "host",
        "x-forwarded-for",
        "cookie",
        "connection",
    ] {
        let (message, _) = with(&format!("forward_claims = {{ {name} = 'sub' }}"));
        assert!(message.contains("a meaning of its own"), "{message}");
    }
    assert_eq!(
        with("forward_claims = { x_user = 'sub' }").1,
        "write `x-user`"
    );
    assert!(
        with("forward_claims = { 'x y' = 'sub' }")
            .0
            .contains("not the name of a header")
    );
    assert!(
        with("forward_claims = { x-u = 'sub', X-U = 'b' }")
            .0
            .contains("twice")
    );
}

#[test]
fn a_claim_with_a_dot_is_told_from_a_path() {
    let text = |claim: &str| format!("{}roles_claim = {claim}\n", file("auth = 'jwt.customers'"));
    let (message, help) = warning(&text("'realm_access.roles'"));
    assert_eq!(message, "6:15 `roles_claim`: this is one name, not a path");
    assert_eq!(
        help,
        "write `[\"realm_access\", \"roles\"]` for the path, or `[\"realm_access.roles\"]` if the name has a dot in it"
    );
    for meant in ["['realm_access.roles']", "'https://example.com/roles'"] {
        valid(&text(meant));
    }
}

#[test]
fn a_secret_is_shown_in_no_finding() {
    let shown = findings(&file("auth = 'x'").replace("secret = ", "secrt = ")).to_string();
    assert!(!shown.contains("thirty-two"), "{shown}");
    let shown =
        findings(&file("auth = 'x'").replace("\n[auth", "\n[auth.jwt.b]\nsecret = 'sh0rt'\n[auth"));
    assert!(!shown.to_string().contains("sh0rt"), "{shown}");
    assert!(!format!("{:?}", parse(&file("auth = 'public'"))).contains("thirty-two"));
}

#[test]
fn what_no_route_uses_is_a_warning() {
    let findings = findings(&file("auth = 'public'"));
    let messages: Vec<_> = findings.iter().map(|one| one.message.clone()).collect();
    assert_eq!(messages, ["no route uses `[auth.jwt.customers]`"]);
}

#[test]
fn a_misspelt_key_of_the_table_is_told() {
    let findings = findings(&file("auth = { al = ['jwt.customers'] }")).to_string();
    assert!(findings.contains("unknown key `al`"), "{findings}");
    assert!(findings.contains("write `all`"), "{findings}");
}
