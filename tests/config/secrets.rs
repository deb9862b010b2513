//! What must never be printed is not.

use super::{ROUTE, findings, only, parse, valid};

/// Asserts that a text is refused, and that what is said about it keeps the secret.
fn kept(text: &str) {
    let findings = findings(text);
    assert!(findings.has_errors(), "{findings}");
    let debug = format!("{findings:?}");
    for said in [findings.render(false), debug] {
        assert!(!said.contains("hush"), "{said}");
    }
}

#[test]
fn a_wrong_secret_is_not_shown() {
    kept(&format!("[admin]\ntoken = \"hush hush\"\n{ROUTE}"));
    kept(&format!("[admin]\ntoken = [\"hush\"]\n{ROUTE}"));
    kept(&format!("[admin]\ntoken = {{ hush = \"hush\" }}\n{ROUTE}"));
}

#[test]
fn a_secret_beside_a_mistake_is_not_shown() {
    kept(&format!(
        "admin = {{ token = \"hush\", lsiten = 1 }}\n{ROUTE}"
    ));
    kept("[admin]\ntoken = \"hush\nlisten = 1\n");
    kept("[admin]\ntoken = \"\"\"\nhush\n");
    kept(
        "[routes.a]\nupstream = \"http://a\"\nmatch_headers = { authorization = \"Bearer hush\", connection = \"x\" }\n",
    );
}

#[test]
fn the_value_of_a_misspelt_secret_is_not_shown() {
    kept(&format!("[admin]\ntokn = \"hush\"\n{ROUTE}"));
    kept(&format!("admin = {{ Tokens = \"hush\" }}\n{ROUTE}"));
    kept(&format!("admin.toekn = \"hush\"\n{ROUTE}"));
}

#[test]
fn a_password_in_a_url_is_not_shown() {
    kept("[routes.a]\nupstream = \"http://me:hush@a\"\n");
    kept("[routes.a]\nupstream = \"a\"\n[upstreams.a]\nservers = [\"http://hush@a:0\"]\n");
}

#[test]
fn a_default_of_a_secret_is_not_shown() {
    kept(&format!(
        "[admin]\ntoken = \"${{env:NO_SUCH_VARIABLE:-hush}} \"\n{ROUTE}"
    ));
}

#[test]
fn what_was_filled_in_is_not_shown() {
    // cargo sets this variable for its tests; its value stands for a secret.
    let value = env!("CARGO_PKG_DESCRIPTION");
    for (table, key) in [
        ("log", "level"),
        ("server", "listen"),
        ("log.access", "query"),
        ("server.limits", "keep_alive"),
    ] {
        let text = format!("[{table}]\n{key} = \"${{env:CARGO_PKG_DESCRIPTION}}\"\n{ROUTE}");
        let rendered = findings(&text).render(false);
        assert!(
            rendered.contains("the value that was filled in is not shown"),
            "{rendered}"
        );
        assert!(!rendered.contains(value), "{rendered}");
    }
}

#[test]
fn a_mistake_within_a_secret_points_at_all_of_it() {
    let text = format!("[admin]\ntoken = \"${{TOLLGATE_TOKEN}}\"\n{ROUTE}");
    let finding = only(&text);
    assert_eq!((finding.line, finding.column), (2, 9));
    let help = "write `${env:TOLLGATE_TOKEN}` for the environment variable";
    assert_eq!(finding.help.as_deref(), Some(help));
    let rendered = findings(&text).render(false);
    assert!(
        rendered.contains("2 | token = ***\n  |         ^^^"),
        "{rendered}"
    );
}

#[test]
fn a_configuration_can_be_printed() {
    let config = valid(&format!("[admin]\ntoken = \"hush\"\n{ROUTE}"));
    assert_eq!(config.admin.token.as_ref().unwrap().expose(), "hush");
    assert!(!format!("{config:?}").contains("hush"));
    assert!(parse(&format!("[admin]\ntoken = \"\"\n{ROUTE}")).is_err());
}
