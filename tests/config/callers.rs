//! `[auth.api_keys.*]`, `[auth.basic.*]` and their files.

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;
use tollgate::config::{Config, CredentialPlace, Diagnostics, KeyScheme};

use super::said;

const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A folder with a configuration that uses one method, and files beside it.
fn folder(table: &str, method: &str, files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let text =
        format!("{table}\n[routes.all]\nauth = \"{method}\"\nrespond = {{ status = 204 }}\n");
    fs::write(folder.path().join("gateway.toml"), text).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn load(folder: &Path) -> Result<Config, Diagnostics> {
    Config::load(&folder.join("gateway.toml")).map(|loaded| loaded.config)
}

/// The message and help of the only finding of a table that the route uses.
fn only(table: &str, method: &str, files: &[(&str, &str)]) -> (String, String) {
    let folder = folder(table, method, files);
    let findings = match Config::load(&folder.path().join("gateway.toml")) {
        Ok(loaded) => loaded.warnings,
        Err(findings) => findings,
    };
    assert_eq!(findings.len(), 1, "{findings}");
    said(findings.iter().next().unwrap())
}

const KEYS: &str = "[auth.api_keys.a]\nkeys_file = \"keys.toml\"";

#[test]
fn keys_are_in_a_file_beside_the_configuration() {
    let text = format!("[keys.x]\nhash = \"{HASH}\"\n");
    let table =
        format!("{KEYS}\nfrom = [\"query:key\", \"header:authorization\"]\nscheme = \"Bearer\"");
    let folder = folder(&table, "api_keys.a", &[("keys.toml", &text)]);
    let config = load(folder.path()).unwrap();
    let keys = &config.auth.api_keys["api_keys.a"];
    assert_eq!(keys.keys_file, folder.path().join("keys.toml"));
    assert_eq!(keys.from[0], CredentialPlace::Query("key".into()));
    assert_eq!(keys.scheme, KeyScheme::Bearer);
    assert_eq!(config.auth.failures, Some((20, Duration::from_secs(60))));
}

#[test]
fn a_missing_file_of_keys_says_how_to_make_one_and_does_not_keep_one_from_it() {
    let (message, help) = only(KEYS, "api_keys.a", &[]);
    assert!(
        message.starts_with("2:13 `keys_file`: the file can't be read"),
        "{message}"
    );
    assert!(help.contains("tollgate key new --id NAME"), "{help}");
    let folder = folder(KEYS, "api_keys.a", &[]);
    let files = Config::keys_files(&folder.path().join("gateway.toml")).unwrap();
    assert_eq!(
        files,
        [("api_keys.a".into(), folder.path().join("keys.toml"))]
    );
}

#[test]
fn what_is_wrong_in_a_file_of_keys_is_found_where_it_stands() {
    let folder = folder(
        KEYS,
        "api_keys.a",
        &[("keys.toml", "[keys.x]\nhsh = \"x\"\n")],
    );
    let findings = load(folder.path()).unwrap_err();
    let files: Vec<_> = findings
        .iter()
        .map(|it| (it.file.ends_with("keys.toml"), it.line))
        .collect();
    assert!(files.contains(&(true, 2)), "{findings}");
}

#[test]
fn a_role_of_a_key_that_nothing_knows_is_a_warning() {
    let roles = "[roles.editor]\npermissions = \"x:write\"";
    let keys = |lines: &str| format!("[keys.x]\nhash = \"{HASH}\"\n{lines}\n");
    let unknown = keys("roles = [\"editor\", \"editr\"]");
    let table = format!("{KEYS}\n{roles}");
    let (message, help) = only(&table, "api_keys.a", &[("keys.toml", &unknown)]);
    assert_eq!(
        message,
        "2:13 `keys_file`: the key `x` has the role `editr`, which grants nothing: there is no such role"
    );
    assert_eq!(help, "did you mean `\"editor\"`?");
    let gone = keys("roles = \"editr\"\nrevoked = 2020-01-01");
    for (table, keys) in [
        (&*table, keys("roles = \"editor\"")),
        (&*table, gone),
        // Nothing to compare with.
        (KEYS, unknown),
    ] {
        let folder = folder(table, "api_keys.a", &[("keys.toml", &keys)]);
        let loaded = Config::load(&folder.path().join("gateway.toml")).unwrap();
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
}

/// Two keys, one with a quota, and the routes `a` and `b` with these lines.
fn quotas(key: &str, a: &str, b: &str) -> TempDir {
    let other = HASH.replace('9', "8");
    let keys = format!("[keys.plain]\nhash = \"{other}\"\n[keys.x]\nhash = \"{HASH}\"\n{key}\n");
    let text = format!(
        "{KEYS}\n[auth.jwt.j]\nsecret = \"a secret of thirty-two bytes or more\"\nroles_claim = \"roles\"\n\
         [rate_limits.each]\nkey = [\"route\", \"caller\"]\nquota = \"9/1m\"\n\
         [rate_limits.roles]\nkey = \"role\"\nquota = \"9/1m\"\n\
         [rate_limits.slots]\nkey = \"caller\"\nquota = 9\nalgorithm = \"concurrency\"\n\
         [routes.a]\nrespond = {{}}\n{a}\n\
         [routes.b]\npath = \"/b\"\nrespond = {{}}\n{b}\n\
         [routes.used]\npath = \"/used\"\nrespond = {{}}\nauth = \"jwt.j\"\n\
         rate_limits = [\"each\", \"roles\", \"slots\"]\n"
    );
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("gateway.toml"), text).unwrap();
    fs::write(folder.path().join("keys.toml"), keys).unwrap();
    folder
}

fn warnings(folder: &TempDir) -> Diagnostics {
    Config::load(&folder.path().join("gateway.toml"))
        .unwrap()
        .warnings
}

const QUOTA: &str = "quota = \"5/1m\"";
const TAKES_KEYS: &str = "auth = [\"jwt.j\", \"api_keys.a\"]";

#[test]
fn a_quota_of_a_key_that_a_route_does_not_apply_is_a_warning() {
    let limited = |limits: &str| format!("{TAKES_KEYS}\nrate_limits = {limits}");
    let without = |limits: &str| quotas(QUOTA, &limited(limits), "auth = \"public\"");
    for limits in ["\"roles\"", "\"slots\""] {
        let findings = warnings(&without(limits));
        assert_eq!(findings.len(), 1, "{findings}");
        let finding = findings.iter().next().unwrap();
        let (message, help) = said(finding);
        assert_eq!(
            message,
            "2:13 `keys_file`: the key `x` has a quota of its own, which nothing applies on the route `a`"
        );
        assert!(help.contains("one with `key = \"caller\"`"), "{help}");
        let related = &finding.related[0];
        assert_eq!(
            (related.line, &*related.label),
            (16, "no limit by caller"),
            "{findings}"
        );
    }
    let both = warnings(&quotas(QUOTA, TAKES_KEYS, TAKES_KEYS));
    assert_eq!(both.len(), 1, "{both}");
    assert!(
        both.to_string().contains("on the routes `a`, `b`"),
        "{both}"
    );
}

#[test]
fn a_route_of_a_key_that_is_not_there_is_a_warning() {
    let keys = "routes = [\"usde\", \"usde\", \"a\"]";
    let findings = warnings(&quotas(keys, TAKES_KEYS, TAKES_KEYS));
    assert_eq!(findings.len(), 1, "{findings}");
    let (message, help) = said(findings.iter().next().unwrap());
    assert_eq!(
        message,
        "2:13 `keys_file`: the key `x` is for the route `usde`, and there is no such route"
    );
    assert_eq!(help, "did you mean `\"used\"`?");
    let gone = format!("revoked = 2020-01-01\n{keys}");
    let findings = warnings(&quotas(&gone, TAKES_KEYS, TAKES_KEYS));
    assert!(findings.is_empty(), "{findings}");
}

#[test]
fn a_quota_of_a_key_that_does_not_name_the_caller_is_a_warning() {
    let route = "auth = { all = [\"jwt.j\", \"api_keys.a\"] }\nrate_limits = \"each\"";
    let findings = warnings(&quotas(QUOTA, route, "auth = \"public\""));
    assert_eq!(findings.len(), 1, "{findings}");
    let text = findings.to_string();
    for part in [
        "on the route `a`",
        "another method names the caller",
        "put `\"api_keys.a\"` in front",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_quota_that_is_applied_wherever_its_key_is_good_is_none() {
    let limited = format!("{TAKES_KEYS}\nrate_limits = [\"roles\", \"each\"]");
    let first = "auth = { all = [\"api_keys.a\", \"jwt.j\"] }\nrate_limits = \"each\"";
    for (key, a, b) in [
        (QUOTA, &*limited, "auth = \"public\""),
        (QUOTA, first, "auth = \"jwt.j\""),
        ("routes = \"a\"\nquota = \"5/1m\"", &*limited, TAKES_KEYS),
        (
            "revoked = 2020-01-01\nquota = \"5/1m\"",
            TAKES_KEYS,
            TAKES_KEYS,
        ),
        ("", TAKES_KEYS, TAKES_KEYS),
    ] {
        let findings = warnings(&quotas(key, a, b));
        assert!(findings.is_empty(), "{key} {a} {b}: {findings}");
    }
}

#[test]
fn mistakes_in_tables_of_callers_are_findings() {
    let keys = [("keys.toml", "")];
    let (message, help) = only("[auth.api_keys.a]", "api_keys.a", &keys);
    assert_eq!(message, "1:16 `[auth.api_keys.a]` has no keys");
    assert!(help.contains("keys_file = \"api-keys.toml\""), "{help}");
    let (message, help) = only(&format!("{KEYS}\nkeys_fil = \"x\""), "api_keys.a", &keys);
    assert_eq!(message, "3:1 unknown key `keys_fil` in `[auth.api_keys.a]`");
    assert_eq!(help, "write `keys_file`");
    let (message, _) = only(&format!("{KEYS}\nscheme = \"Bearer\""), "api_keys.a", &keys);
    assert_eq!(message, "3:10 `scheme` has no effect");
    let (message, _) = only(
        &format!("{KEYS}\nfrom = \"header:authorization\"\nscheme = \"Basic\""),
        "api_keys.a",
        &keys,
    );
    assert!(message.contains("\"ApiKey\" or \"Bearer\""), "{message}");
    let (message, _) = only(
        &format!("[auth]\nfailures = \"many\"\n{KEYS}"),
        "api_keys.a",
        &keys,
    );
    assert!(
        message.starts_with("2:12 `failures`: expected a quota"),
        "{message}"
    );
}

#[test]
fn failures_can_be_off_or_another_quota() {
    for (value, expected) in [
        ("off", None),
        ("5/1h", Some((5, Duration::from_secs(3600)))),
    ] {
        let table = format!("[auth]\nfailures = \"{value}\"\n{KEYS}");
        let folder = folder(&table, "api_keys.a", &[("keys.toml", "")]);
        assert_eq!(load(folder.path()).unwrap().auth.failures, expected);
    }
}

const USERS: &str = "[auth.basic.a]\nusers_file = \"users\"";

#[test]
fn hashes_of_users_are_checked_and_never_shown() {
    let (message, help) = only(USERS, "basic.a", &[]);
    assert!(
        message.starts_with("2:14 `users_file`: the file can't be read"),
        "{message}"
    );
    assert!(help.contains("htpasswd -B"), "{help}");
    let folder = folder(
        USERS,
        "basic.a",
        &[("users", "a:{SHA}hush\nb:$apr1$hush\n")],
    );
    let findings = load(folder.path()).unwrap_err();
    assert_eq!(findings.len(), 2, "{findings}");
    let text = findings.render(false);
    assert!(
        text.contains("line 1: SHA-1") && text.contains("line 2: MD5"),
        "{text}"
    );
    assert!(!text.contains("hush"), "{text}");
}

#[test]
fn a_realm_fits_between_quotes() {
    let (message, _) = only(
        &format!("{USERS}\nrealm = 'a\"b'"),
        "basic.a",
        &[("users", "")],
    );
    assert!(
        message.starts_with("3:9 `realm`: expected a text of visible"),
        "{message}"
    );
}
