//! `tollgate token`: tokens that a gateway with the same configuration takes.

use super::{QUICK, Running, folder, run};

const TEXT: &str = r#"
[auth.jwt.app]
secret = "a secret of 32 bytes at the least"
issuer = "https://id.test/"
audience = ["orders"]
roles_claim = ["realm", "roles"]
[auth.jwt.fetched]
jwks_url = "http://127.0.0.1:1/keys"
[roles.editor]
permissions = ["orders:write"]
[routes.all]
auth = ["jwt.app", "jwt.fetched"]
permissions = "orders:write"
respond = { body = "here" }
"#;

fn token(folder: &std::path::Path, arguments: &[&str]) -> (i32, String, String) {
    run(folder, &[&["token"], arguments].concat())
}

#[test]
fn a_token_is_taken_with_its_roles() {
    let folder = folder(&format!("{QUICK}{TEXT}"));
    let gateway = Running::start(folder.path(), &[]);
    let ask = |arguments: &[&str]| {
        let (status, token, err) = token(folder.path(), arguments);
        assert_eq!(status, 0, "{err}");
        gateway.get_with("/", &format!("Authorization: Bearer {}", token.trim()))
    };
    let app = ["--auth", "app", "--sub", "alice"];
    assert!(ask(&[&app[..], &["--roles", "editor"]].concat()).ends_with("here"));
    assert!(ask(&app).contains("rbac.denied"));
    let other = [&app[..], &["--claim", "aud=others"]].concat();
    assert!(ask(&other).contains("auth.jwt.wrong_audience"));
    let past = [&app[..], &["--expires", "2001-01-01"]].concat();
    assert!(ask(&past).contains("auth.jwt.expired"));
}

#[test]
fn only_a_method_with_a_secret_signs() {
    let folder = folder(&format!("{QUICK}{TEXT}"));
    for (arguments, status, word) in [
        (&["--sub", "a"][..], 2, "--auth"),
        (
            &["--auth", "none", "--sub", "a"],
            2,
            "no such [auth.jwt.NAME]",
        ),
        (&["--auth", "fetched", "--sub", "a"], 1, "no `secret`"),
        (
            &["--auth", "app", "--sub", "a", "--permissions", "x"],
            2,
            "permissions_claim",
        ),
        (
            &["--auth", "app", "--sub", "a", "--claim", "x"],
            2,
            "NAME=VALUE",
        ),
    ] {
        let (ended, out, err) = token(folder.path(), arguments);
        assert_eq!((ended, &*out), (status, ""), "{arguments:?}: {err}");
        assert!(err.contains(word), "{arguments:?}: {err}");
    }
}

#[test]
fn a_configuration_without_tokens_signs_none() {
    let folder = folder("[routes.all]\nrespond = {}\n");
    let (ended, _, err) = token(folder.path(), &["--sub", "a"]);
    assert_eq!(ended, 2);
    assert!(err.contains("no [auth.jwt.NAME] to sign for"), "{err}");
}
