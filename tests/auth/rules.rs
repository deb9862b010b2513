//! What a route makes of several ways to authenticate.

use jsonwebtoken::Algorithm;

use crate::{
    Site, bearer, let_in, refused,
    signer::{Signer, alice, alice_with},
    support::KeysFile,
};

/// Two issuers that both use Authorization, and one that uses a header of its own.
struct Three {
    one: Signer,
    two: Signer,
    own: Signer,
}

impl Three {
    fn new() -> Self {
        let signer = || Signer::new(Algorithm::HS256);
        Self {
            one: signer(),
            two: signer(),
            own: signer(),
        }
    }

    fn tables(&self) -> String {
        format!(
            "[auth.jwt.one]\n{}\n[auth.jwt.two]\n{}\n[auth.jwt.own]\n{}\nfrom = 'header:x-token'\n\
             [routes.used]\npath = '/used'\nrespond = {{}}\nauth = ['jwt.one', 'jwt.two', 'jwt.own']\n",
            self.one.keys(),
            self.two.keys(),
            self.own.keys()
        )
    }

    async fn site(&self, auth: &str) -> Site {
        Site::with(&self.tables(), &format!("auth = {auth}")).await
    }
}

fn own(token: &str) -> String {
    format!("X-Token: {token}\r\n")
}

#[tokio::test]
async fn any_one_of_a_list_suffices() {
    let three = Three::new();
    let site = three.site("['jwt.one', 'jwt.two', 'jwt.own']").await;
    for fields in [
        bearer(&three.one.token(&alice())),
        bearer(&three.two.token(&alice())),
        own(&three.own.token(&alice())),
    ] {
        assert_eq!(site.get(&fields).await.refusal(), let_in());
    }
    assert_eq!(site.get("").await.refusal(), refused("auth.missing"));
}

#[tokio::test]
async fn a_bad_credential_is_refused_even_beside_a_good_one() {
    let three = Three::new();
    let site = three.site("['jwt.one', 'jwt.two', 'jwt.own']").await;
    let (good, bad) = (
        three.one.token(&alice()),
        Signer::new(Algorithm::HS256).token(&alice()),
    );
    for fields in [
        bearer(&good) + &own(&bad),
        bearer(&bad) + &own(&three.own.token(&alice())),
    ] {
        let answer = site.get(&fields).await;
        assert_eq!(
            answer.refusal(),
            refused("auth.jwt.bad_signature"),
            "{fields}"
        );
    }
    let both = bearer(&good) + &own(&three.own.token(&alice()));
    assert_eq!(site.get(&both).await.refusal(), let_in());
    // One that is no credential of any of them is for the upstream.
    let basic = "Authorization: Basic YTpi\r\n".to_owned() + &own(&three.own.token(&alice()));
    assert_eq!(site.get(&basic).await.refusal(), let_in());
}

/// The second method's first place holds the first method's good token, its second place a bad one.
#[tokio::test]
async fn a_bad_credential_is_refused_behind_a_place_that_is_shared() {
    let signer = || Signer::new(Algorithm::HS256);
    let (one, two) = (signer(), signer());
    let tables = format!(
        "[auth.jwt.one]\n{}\n[auth.jwt.two]\n{}\n\
         from = ['header:authorization', 'cookie:session']\n",
        one.keys(),
        two.keys()
    );
    let good = bearer(&one.token(&alice()));
    let forged = format!("{good}Cookie: session={}\r\n", signer().token(&alice()));
    for methods in ["['jwt.one', 'jwt.two']", "['jwt.two', 'jwt.one']"] {
        let site = Site::with(&tables, &format!("auth = {methods}")).await;
        assert_eq!(site.get(&good).await.refusal(), let_in(), "{methods}");
        let bad = refused("auth.jwt.bad_signature");
        assert_eq!(site.get(&forged).await.refusal(), bad, "{methods}");
        let cookie = format!("Cookie: session={}\r\n", two.token(&alice()));
        for fields in [cookie.clone(), good.clone() + &cookie] {
            assert_eq!(site.get(&fields).await.refusal(), let_in(), "{fields}");
        }
        let twice = bearer(&two.token(&alice())) + &cookie;
        let ambiguous = (400, "auth.ambiguous".to_owned());
        assert_eq!(site.get(&twice).await.refusal(), ambiguous, "{methods}");
    }
}

/// What the second method has refused is the first one's good token; at its other place stands nothing of its
/// scheme.
#[tokio::test]
async fn what_is_for_the_upstream_is_no_bad_credential_whichever_method_is_asked_first() {
    let signer = || Signer::new(Algorithm::HS256);
    let (one, two) = (signer(), signer());
    let tables = format!(
        "[auth.jwt.one]\n{}\nfrom = 'cookie:session'\n\
         [auth.jwt.two]\n{}\nfrom = ['header:authorization', 'cookie:session']\n",
        one.keys(),
        two.keys()
    );
    let cookie = format!("Cookie: session={}\r\n", one.token(&alice()));
    let basic = cookie.clone() + "Authorization: Basic YTpi\r\n";
    let forged = cookie + &bearer(&signer().token(&alice()));
    for methods in ["['jwt.one', 'jwt.two']", "['jwt.two', 'jwt.one']"] {
        let site = Site::with(&tables, &format!("auth = {methods}")).await;
        assert_eq!(site.get(&basic).await.refusal(), let_in(), "{methods}");
        let bad = refused("auth.jwt.bad_signature");
        assert_eq!(site.get(&forged).await.refusal(), bad, "{methods}");
    }
}

/// One issuer looks for its token where the other one's stands too: of two it reads none.
#[tokio::test]
async fn three_good_credentials_are_let_in_in_whatever_order_their_methods_stand() {
    let signer = || Signer::new(Algorithm::HS256);
    let (any, own) = (signer(), signer());
    let mut file = KeysFile::new();
    let key = format!("X-Api-Key: {}\r\n", file.add("partner", ""));
    let tables = format!(
        "[auth.jwt.any]\n{}\nfrom = ['header:authorization', 'cookie:session']\n\
         [auth.jwt.own]\n{}\nfrom = 'cookie:session'\n\
         [auth.api_keys.k]\nkeys_file = '{}'\n",
        any.keys(),
        own.keys(),
        file.path().display()
    );
    let two = format!("{key}Cookie: session={}\r\n", own.token(&alice()));
    let good = two.clone() + &bearer(&any.token(&alice()));
    let forged = two + &bearer(&signer().token(&alice()));
    for methods in [
        "['api_keys.k', 'jwt.any', 'jwt.own']",
        "['api_keys.k', 'jwt.own', 'jwt.any']",
        "['jwt.any', 'api_keys.k', 'jwt.own']",
        "['jwt.any', 'jwt.own', 'api_keys.k']",
    ] {
        let site = Site::with(&tables, &format!("auth = {methods}")).await;
        assert_eq!(site.get(&good).await.refusal(), let_in(), "{methods}");
        let bad = refused("auth.jwt.bad_signature");
        assert_eq!(site.get(&forged).await.refusal(), bad, "{methods}");
    }
}

/// Beside a good credential two tokens were asked about again and again: one request kept its worker
/// busy for ever.
#[tokio::test]
async fn two_tokens_beside_a_good_credential_are_refused() {
    let three = Three::new();
    let good = own(&three.own.token(&alice()));
    for methods in ["['jwt.own', 'jwt.one']", "['jwt.one', 'jwt.own']"] {
        let site = three.site(methods).await;
        let twice = good.clone() + &bearer("a.b.c") + &bearer("d.e.f");
        let ambiguous = (400, "auth.ambiguous".to_owned());
        assert_eq!(site.get(&twice).await.refusal(), ambiguous, "{methods}");
        assert_eq!(site.get(&good).await.refusal(), let_in(), "{methods}");
    }
}

#[tokio::test]
async fn the_issuer_that_knows_a_token_says_what_is_wrong_with_it() {
    let three = Three::new();
    let site = three.site("['jwt.one', 'jwt.two']").await;
    let expired = three
        .two
        .token(&alice_with(serde_json::json!({ "exp": 1 })));
    assert_eq!(site.refusal(&expired).await, refused("auth.jwt.expired"));
}

#[tokio::test]
async fn all_of_several_are_asked_for() {
    let three = Three::new();
    let site = three.site("{ all = ['jwt.one', 'jwt.own'] }").await;
    let (first, second) = (three.one.token(&alice()), three.own.token(&alice()));
    let both = bearer(&first) + &own(&second);
    assert_eq!(site.get(&both).await.refusal(), let_in());
    let line = site.gateway.log_line().await;
    assert_eq!(line["principal"], "jwt.one:alice");
    let missing = refused("auth.missing");
    assert_eq!(site.get(&bearer(&first)).await.refusal(), missing);
    assert_eq!(site.get(&own(&second)).await.refusal(), missing);
    assert_eq!(site.get("").await.refusal(), missing);
    let bad = bearer(&first) + &own(&first);
    assert_eq!(
        site.get(&bad).await.refusal(),
        refused("auth.jwt.bad_signature")
    );
    let site = three
        .site("['jwt.two', { all = ['jwt.one', 'jwt.own'] }]")
        .await;
    assert_eq!(site.get(&both).await.refusal(), let_in());
    let two = bearer(&three.two.token(&alice()));
    assert_eq!(site.get(&two).await.refusal(), let_in());
}

#[tokio::test]
async fn anonymous_means_no_credential_at_all() {
    let three = Three::new();
    let site = three.site("['jwt.one', 'jwt.own', 'anonymous']").await;
    assert_eq!(site.get("").await.refusal(), let_in());
    assert_eq!(site.get("X-Other: 1\r\n").await.refusal(), let_in());
    let good = bearer(&three.one.token(&alice()));
    assert_eq!(site.get(&good).await.refusal(), let_in());
    for bad in [
        bearer("x"),
        own("x"),
        bearer(&three.two.token(&alice())),
        good + &own("x"),
        "Authorization: Basic YTpi\r\n".to_owned(),
        "Authorization: Bearer\r\n".to_owned(),
    ] {
        assert_eq!(site.get(&bad).await.status, 401, "{bad}");
    }
    let lines = site.gateway.log_lines(9).await;
    let principals = lines.iter().filter(|line| line["principal"].is_string());
    assert_eq!(principals.count(), 1);
    let labels = ["method=\"anonymous\"", "reason=\"granted\""];
    let admitted = site
        .gateway
        .metric("tollgate_auth_decisions_total", &labels);
    assert_eq!(admitted, 2.0);
}

#[tokio::test]
async fn routes_that_answer_themselves_are_guarded_too() {
    let three = Three::new();
    let tables = three.tables()
        + "[routes.here]\npath = '/here'\nrespond = { body = 'secret' }\nauth = 'jwt.one'\n\
           [routes.there]\npath = '/there'\nredirect = 'https://a.test/'\nauth = 'jwt.one'\n";
    let site = Site::with(&tables, "auth = 'public'").await;
    let token = bearer(&three.one.token(&alice()));
    for (path, status) in [("/here", 200), ("/there", 308)] {
        let line = format!("GET {path} HTTP/1.1");
        assert_eq!(site.ask(&line, "").await.refusal(), refused("auth.missing"));
        assert_eq!(site.ask(&line, &token).await.status, status);
    }
    assert_eq!(site.get("").await.status, 200);
}

/// RFC 6750 3: what a caller is told, by what it did.
#[tokio::test]
async fn a_refusal_carries_one_challenge_that_fits() {
    let three = Three::new();
    let site = three.site("['jwt.one', 'jwt.two', 'jwt.own']").await;
    let missing = site.get("").await;
    assert_eq!(
        missing.all("www-authenticate"),
        ["Bearer realm=\"tollgate\""]
    );
    let expired = three
        .two
        .token(&alice_with(serde_json::json!({ "exp": 1 })));
    let answer = site.bearer(&expired).await;
    assert_eq!(
        answer.all("www-authenticate"),
        ["Bearer realm=\"tollgate\", error=\"invalid_token\", \
          error_description=\"The token has expired.\""]
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn decisions_are_counted_by_route_method_and_reason() {
    let three = Three::new();
    let site = three.site("['jwt.one', 'jwt.own']").await;
    site.bearer(&three.one.token(&alice())).await;
    site.bearer(&three.one.token(&alice())).await;
    site.get(&own("x")).await;
    site.get("").await;
    let count = |method: &str, reason: &str| {
        let labels = [
            "route=\"all\"".to_owned(),
            format!("method=\"{method}\""),
            format!("reason=\"{reason}\""),
        ];
        let labels = labels.each_ref().map(String::as_str);
        site.gateway
            .metric("tollgate_auth_decisions_total", &labels)
    };
    assert_eq!(count("jwt.one", "granted"), 2.0);
    assert_eq!(count("jwt.own", "auth.jwt.malformed"), 1.0);
    assert_eq!(count("none", "auth.missing"), 1.0);
    // A reload that builds the route anew goes on counting.
    let tables = three.tables().replace("'/used'", "'/unused'");
    let url = site.origin.url();
    let text =
        format!("{tables}\n[routes.all]\nupstream = '{url}'\nmax_body = 7\nauth = 'jwt.one'\n");
    site.gateway.apply(&text);
    site.bearer(&three.one.token(&alice())).await;
    assert_eq!(count("jwt.one", "granted"), 3.0);
}

/// Servers take `delete` for DELETE; here it would be one of "everything else".
#[tokio::test]
async fn a_method_in_small_letters_is_not_let_past_the_rule_of_its_capitals() {
    let signer = Signer::new(Algorithm::HS256);
    let tables = format!("[auth.jwt.main]\n{}\n", signer.keys());
    let rules = "auth = 'jwt.main'\npermissions = { DELETE = 'all', '*' = 'authenticated' }";
    let site = Site::with(&tables, rules).await;
    let token = bearer(&signer.token(&alice()));
    for (method, status) in [("POST", 200), ("PURGE", 200), ("DELETE", 403)] {
        let answer = site.ask(&format!("{method} / HTTP/1.1"), &token).await;
        assert_eq!(answer.status, status, "{method}");
    }
    for method in ["delete", "Delete", "get", "head", "trace"] {
        let answer = site.ask(&format!("{method} / HTTP/1.1"), &token).await;
        assert_eq!(answer.reason(), "request.method_refused", "{method}");
    }
}
