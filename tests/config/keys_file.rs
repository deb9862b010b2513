//! The file of API keys: what it says, and what is said when it is wrong.

use std::time::{Duration, UNIX_EPOCH};

use tollgate::config::{Diagnostic, Diagnostics, KeysFile};

use super::said;

const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const OTHER: &str = "sha256:0f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn read(text: &str) -> Result<KeysFile, Diagnostics> {
    KeysFile::parse("api-keys.toml", text)
}

/// The only error of an entry `a` with these lines; the second line is its hash.
fn error(lines: &str) -> (String, String) {
    let findings = read(&format!("[keys.a]\nhash = \"{HASH}\"\n{lines}\n")).unwrap_err();
    only(&findings)
}

fn only(findings: &Diagnostics) -> (String, String) {
    let all: Vec<&Diagnostic> = findings.iter().collect();
    assert_eq!(all.len(), 1, "{findings}");
    said(all[0])
}

#[test]
fn a_key_has_a_hash_and_what_it_may_do() {
    let file = read(&format!(
        r#"
        [keys.partner-7]
        hash = "{HASH}"
        previous = [{{ hash = "{OTHER}", until = 2000-02-29T00:00:00Z }}]
        roles = ["editor", "viewer"]
        permissions = "orders:read"
        created = 2000-01-01
        not_before = 2000-01-02
        expires = 2000-02-29T01:00:00+01:00
        routes = ["orders"]
        cidrs = ["192.0.2.0/24", "::1"]
        quota = "100/1m"
        note = "their second one"
        "#
    ))
    .unwrap();
    let key = &file.keys["partner-7"];
    let leap_day = UNIX_EPOCH + Duration::from_secs(951_782_400);
    assert_eq!(key.hash.to_string(), HASH);
    assert_eq!(key.previous[0].0.to_string(), OTHER);
    assert_eq!(key.previous[0].1, leap_day);
    assert_eq!(key.roles, ["editor", "viewer"]);
    assert_eq!(key.permissions, ["orders:read"]);
    assert_eq!(key.expires, Some(leap_day));
    assert_eq!(key.routes, ["orders"]);
    assert_eq!(key.cidrs.len(), 2);
    assert_eq!(key.quota, [(100, Duration::from_secs(60))]);
    assert_eq!(key.revoked, None);
}

#[test]
fn an_empty_file_has_no_keys() {
    assert!(read("").unwrap().keys.is_empty());
    assert!(read("# nobody yet\n").unwrap().keys.is_empty());
}

#[test]
fn mistakes_are_found_where_they_stand() {
    assert_eq!(
        error("expres = 2030-01-01"),
        (
            "3:1 unknown key `expres` in `[keys.a]`".to_owned(),
            "write `expires`".to_owned()
        )
    );
    let (message, help) = error("expires = \"2030-01-01\"");
    assert!(
        message.starts_with("3:11 `expires`: expected a date"),
        "{message}"
    );
    assert_eq!(help, "write it without quotes: `expires = 2030-01-01`");
    let (message, help) = error("expires = 2030-01-01T00:00:00");
    assert_eq!(message, "3:11 `expires`: the time has no zone");
    assert_eq!(help, "write `2030-01-01T00:00:00Z` for a time in UTC");
    assert_eq!(
        error("cidrs = [\"192.0.2.1/24\"]").1,
        "write `\"192.0.2.0/24\"`"
    );
    assert!(error("quota = \"many\"").0.contains("expected a quota"));
    assert!(error("roles = [\"\"]").0.contains("an empty string"));
    assert_eq!(
        error("not_before = 2030-01-01\nexpires = 2029-01-01").0,
        "4:11 `expires`: the key is never good"
    );
    assert_eq!(
        error(&format!("previous = [{{ hash = \"{OTHER}\" }}]")).0,
        "3:1 `until` is missing"
    );
}

#[test]
fn an_entry_without_a_hash_is_an_error() {
    let findings = read("[keys.a]\nroles = [\"x\"]\n").unwrap_err();
    assert_eq!(only(&findings).0, "1:7 `hash` is missing");
    let findings = read("[keys.a]\nhash = \"sha256:00\"\n").unwrap_err();
    assert!(only(&findings).0.contains("64 hexadecimal digits"));
}

#[test]
fn a_key_under_two_ids_is_an_error() {
    let findings = read(&format!(
        "[keys.a]\nhash = \"{HASH}\"\n[keys.b]\nhash = \"{HASH}\"\n"
    ))
    .unwrap_err();
    assert_eq!(only(&findings).0, "4:8 the same key stands here twice");
}

#[test]
fn a_key_in_place_of_its_hash_is_not_shown() {
    let findings = read("[keys.a]\nhash = \"tgk_hush\"\n").unwrap_err();
    assert!(only(&findings).0.contains("a key, not its hash"));
    assert!(!findings.render(false).contains("hush"), "{findings}");
}
