//! `tollgate key`: the file that it writes, and a running gateway that follows it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;
use tollgate::config::KeysFile;

use super::{QUICK, Running, run, wait_for};

const FILE: &str = "api-keys.toml";

/// Runs `tollgate key ... --file api-keys.toml` and asserts that it succeeds; its output.
fn key(folder: &Path, arguments: &[&str]) -> String {
    let arguments = [&["key"], arguments, &["--file", FILE]].concat();
    let (status, out, err) = run(folder, &arguments);
    assert_eq!(status, 0, "{arguments:?}: {err}");
    out
}

/// What is said when it fails, and its exit status.
fn refused(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let arguments = [&["key"], arguments, &["--file", FILE]].concat();
    let (status, out, err) = run(folder, &arguments);
    assert_eq!(out, "", "{arguments:?}");
    (status, err)
}

fn read(folder: &Path) -> KeysFile {
    KeysFile::load(&folder.join(FILE)).unwrap()
}

fn text(folder: &Path) -> String {
    fs::read_to_string(folder.join(FILE)).unwrap()
}

#[test]
fn a_new_key_is_printed_once_and_only_its_hash_is_written() {
    let folder = TempDir::new().unwrap();
    let out = key(
        folder.path(),
        &[
            "new",
            "--id",
            "partner-7",
            "--roles",
            "editor,viewer",
            "--permissions",
            "orders:read",
            "--expires",
            "90d",
            "--not-before",
            "2020-01-01",
            "--routes",
            "orders",
            "--cidrs",
            "192.0.2.0/24,::1",
            "--quota",
            "50000/1h",
        ],
    );
    let shown = out.trim();
    assert!(shown.starts_with("tgk_") && shown.len() == 53, "{out}");
    assert!(!text(folder.path()).contains(&shown[4..]));
    assert!(text(folder.path()).starts_with("# API keys: hashes only."));
    let file = read(folder.path());
    let stored = &file.keys["partner-7"];
    let hash = tollgate::exchange::api_key::hash(shown.as_bytes()).unwrap();
    assert_eq!(stored.hash.0, hash.bytes());
    assert_eq!(stored.roles, ["editor", "viewer"]);
    assert_eq!(stored.permissions, ["orders:read"]);
    assert_eq!(stored.routes, ["orders"]);
    assert_eq!(stored.cidrs.len(), 2);
    assert_eq!(stored.quota.len(), 1);
    let life = stored
        .expires
        .unwrap()
        .duration_since(stored.created.unwrap());
    assert_eq!(life.unwrap().as_secs(), 90 * 86_400);
}

#[test]
fn the_file_is_private_and_what_a_person_wrote_in_it_stays() {
    let folder = TempDir::new().unwrap();
    key(folder.path(), &["new", "--id", "a"]);
    let path = folder.path().join(FILE);
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let commented = text(folder.path()).replace("[keys.a]", "# ours\n[keys.a] # since May");
    fs::write(&path, format!("{commented}note = \"x\"   # why\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    key(folder.path(), &["new", "--id", "b.c"]);
    key(folder.path(), &["revoke", "--id", "a"]);
    let text = text(folder.path());
    for kept in [
        "# ours\n[keys.a] # since May",
        "note = \"x\"   # why",
        "[keys.\"b.c\"]",
    ] {
        assert!(text.contains(kept), "{text}");
    }
    assert_eq!(mode(), 0o640, "nobody but its owner and group reads hashes");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn keys_are_listed_with_their_state_and_without_their_hashes() {
    let folder = TempDir::new().unwrap();
    for (id, expires) in [("a", "90d"), ("b", "1d")] {
        key(
            folder.path(),
            &["new", "--id", id, "--expires", expires, "--roles", "editor"],
        );
    }
    key(
        folder.path(),
        &["new", "--id", "later", "--not-before", "1d"],
    );
    key(folder.path(), &["revoke", "--id", "b"]);
    key(folder.path(), &["rotate", "--id", "a"]);
    let list = key(folder.path(), &["list"]);
    let row = |id: &str| list.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(row("ID").contains("STATE"), "{list}");
    assert!(
        row("a").contains("good, 1 old") && row("a").contains("editor"),
        "{list}"
    );
    assert!(row("b").contains("revoked"), "{list}");
    assert!(row("later").contains("not yet"), "{list}");
    for stored in read(folder.path()).keys.values() {
        assert!(!list.contains(&stored.hash.to_string()[..20]), "{list}");
    }
}

#[test]
fn a_rotated_key_leaves_the_old_one_good_for_the_overlap() {
    let folder = TempDir::new().unwrap();
    key(folder.path(), &["new", "--id", "a", "--roles", "editor"]);
    let old = read(folder.path()).keys["a"].clone();
    let first = key(folder.path(), &["rotate", "--id", "a", "--overlap", "7d"]);
    let second = key(folder.path(), &["rotate", "--id", "a", "--overlap", "1d"]);
    assert_ne!(first, second);
    let file = read(folder.path());
    let new = &file.keys["a"];
    assert_eq!(new.roles, ["editor"]);
    let hash = |key: &str| {
        let digest = tollgate::exchange::api_key::hash(key.trim().as_bytes());
        digest.unwrap().bytes()
    };
    assert_eq!(new.hash.0, hash(&second));
    let previous: Vec<_> = new.previous.iter().map(|(hash, _)| hash.0).collect();
    assert_eq!(previous, [old.hash.0, hash(&first)]);
    key(folder.path(), &["rotate", "--id", "a", "--overlap", "0s"]);
    assert_eq!(
        read(folder.path()).keys["a"].previous.len(),
        2,
        "no overlap leaves no trace"
    );
}

#[test]
fn keys_that_a_revoked_one_has_replaced_are_known_as_revoked() {
    let folder = TempDir::new().unwrap();
    key(folder.path(), &["new", "--id", "a"]);
    let old = read(folder.path()).keys["a"].hash;
    key(folder.path(), &["rotate", "--id", "a"]);
    key(folder.path(), &["revoke", "--id", "a"]);
    let file = read(folder.path());
    let revoked = &file.keys["a"];
    assert!(revoked.revoked.is_some());
    assert_eq!(revoked.previous[0].0, old);
    assert!(key(folder.path(), &["list"]).contains("revoked"));
}

#[test]
fn an_old_key_never_outlives_its_own_expiry() {
    let folder = TempDir::new().unwrap();
    key(folder.path(), &["new", "--id", "a", "--expires", "1d"]);
    let old = read(folder.path()).keys["a"].expires.unwrap();
    key(
        folder.path(),
        &["rotate", "--id", "a", "--overlap", "7d", "--expires", "90d"],
    );
    let file = read(folder.path());
    assert_eq!(file.keys["a"].previous[0].1, old);
    assert!(file.keys["a"].expires.unwrap() > old);
}

#[test]
fn what_can_not_be_done_is_told_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    key(folder.path(), &["new", "--id", "a"]);
    key(folder.path(), &["new", "--id", "gone"]);
    key(folder.path(), &["revoke", "--id", "gone"]);
    let before = text(folder.path());
    for (arguments, status, word) in [
        (&["new", "--id", "a"][..], 1, "key rotate"),
        (&["new", "--id", "a b"], 2, "letters, digits"),
        (&["new", "--id", "c", "--expires", "soon"], 2, "90d"),
        (
            &["new", "--id", "c", "--expires", "2001-01-01"],
            2,
            "in the past",
        ),
        (
            &["new", "--id", "c", "--cidrs", "192.0.2.1/24"],
            2,
            "a network such as",
        ),
        (
            &["new", "--id", "c", "--quota", "lots"],
            2,
            "a quota such as",
        ),
        (&["revoke", "--id", "c"], 1, "no key `c`"),
        (&["rotate", "--id", "c"], 1, "no key `c`"),
        (&["new", "--id", "gone"], 1, "choose another id"),
        (&["rotate", "--id", "gone"], 1, "choose another id"),
        (&["rotate", "--id", "a", "--overlap", "2030-01-01"], 2, "7d"),
    ] {
        let (ended, err) = refused(folder.path(), arguments);
        assert_eq!(ended, status, "{arguments:?}: {err}");
        assert!(err.contains(word), "{arguments:?}: {err}");
    }
    assert_eq!(text(folder.path()), before);
}

#[test]
fn a_broken_file_is_not_touched() {
    let folder = TempDir::new().unwrap();
    let broken = "[keys.a]\nhash = \"x\"\n";
    fs::write(folder.path().join(FILE), broken).unwrap();
    let (status, err) = refused(folder.path(), &["new", "--id", "b"]);
    assert_eq!(status, 78);
    assert!(err.contains("api-keys.toml:2"), "{err}");
    assert_eq!(text(folder.path()), broken);
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || key(path, &["new", "--id", &format!("k{number}")]));
        }
    });
    assert_eq!(read(path).keys.len(), 8);
}

/// The first block of a kind in the documentation of keys.
fn documented(kind: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/auth-api-keys.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("```{kind}\n")).unwrap();
    rest.split("```").next().unwrap().to_owned()
}

/// A gateway with the configuration of the documentation, and the key that its command makes.
fn documented_gateway() -> (TempDir, Running, String) {
    let folder = TempDir::new().unwrap();
    let text = format!("{QUICK}{}", documented("toml"));
    fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let commands = documented("sh");
    let command = commands.lines().next().unwrap();
    let words = command.split_ascii_whitespace();
    let arguments: Vec<&str> = words.take_while(|word| *word != "#").collect();
    assert_eq!(arguments[..3], ["tollgate", "key", "new"]);
    let (status, key, err) = run(folder.path(), &arguments[1..]);
    assert_eq!(status, 0, "{err}");
    let gateway = Running::start(folder.path(), &[]);
    (folder, gateway, key.trim().to_owned())
}

fn status(gateway: &Running, key: &str) -> u16 {
    let answer = gateway.get_with("/orders/", &format!("X-Api-Key: {key}"));
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_example_of_the_documentation_works() {
    let (_folder, gateway, key) = documented_gateway();
    assert!(gateway.get("/orders/").contains("auth.missing"));
    assert_eq!(status(&gateway, &key), 200);
}

#[test]
fn a_running_gateway_follows_the_commands_without_a_reload() {
    let (folder, gateway, first) = documented_gateway();
    let command = |arguments: &[&str]| {
        let arguments = [&["key"], arguments].concat();
        let (status, out, err) = run(folder.path(), &arguments);
        assert_eq!(status, 0, "{err}");
        out.trim().to_owned()
    };
    assert!(command(&["list"]).contains("partner-7"));
    let other = command(&["new", "--id", "partner-8"]);
    wait_for(|| status(&gateway, &other) == 200);
    let second = command(&["rotate", "--id", "partner-7", "--overlap", "1h"]);
    wait_for(|| status(&gateway, &second) == 200);
    assert_eq!(status(&gateway, &first), 200, "within the overlap");
    command(&["rotate", "--id", "partner-8", "--overlap", "0s"]);
    wait_for(|| status(&gateway, &other) == 401);
    command(&["revoke", "--id", "partner-7"]);
    wait_for(|| status(&gateway, &second) == 401);
}

/// Makes a key beside a configuration with a limit of this key on the route `open`; what is said
/// beside the key.
fn made_beside(folder: &Path, limit: &str, arguments: &[&str]) -> String {
    let text = format!(
        "[auth.api_keys.partners]\nkeys_file = \"{FILE}\"\n\
         [rate_limits.each]\nkey = \"{limit}\"\nquota = \"10/1m\"\n\
         [roles.viewer]\npermissions = [\"orders:read\"]\n\
         [routes.open]\nauth = \"api_keys.partners\"\nrate_limits = \"each\"\nrespond = {{}}\n"
    );
    fs::write(folder.join("gateway.toml"), text).unwrap();
    let (status, out, err) = run(folder, &[&["key", "new", "--id"], arguments].concat());
    assert_eq!(status, 0, "{err}");
    assert!(out.starts_with("tgk_") && out.lines().count() == 1, "{out}");
    assert!(err.contains("was added to"), "{err}");
    err
}

#[test]
fn what_the_configuration_makes_of_no_use_in_a_new_key_is_told_at_once() {
    let folder = TempDir::new().unwrap();
    let made = |limit, arguments: &[&str]| made_beside(folder.path(), limit, arguments);
    let unapplied = |id: &str| {
        format!("the key `{id}` has a quota of its own, which nothing applies on the route `open`")
    };
    let err = made("route", &["a", "--quota", "2/1h"]);
    assert!(err.contains(&unapplied("a")), "{err}");
    // Of each key, whatever there is to say of others, and by whichever name of the file.
    let err = made("route", &["b", "--quota", "2/1h", "--file", FILE]);
    assert!(
        err.contains(&unapplied("b")) && !err.contains("`a`"),
        "{err}"
    );
    let err = made("route", &["c", "--roles", "veiwer", "--routes", "opne"]);
    assert!(
        err.contains("the role `veiwer`") && err.contains("the route `opne`"),
        "{err}"
    );
    for (limit, arguments) in [
        ("caller", &["d", "--quota", "2/1h"][..]),
        ("route", &["e"]),
        (
            "route",
            &["f", "--quota", "2/1h", "--file", "elsewhere.toml"],
        ),
    ] {
        let err = made(limit, arguments);
        assert!(!err.contains("warning"), "{arguments:?}: {err}");
    }
}

#[test]
fn several_methods_have_to_be_told_apart() {
    let folder = TempDir::new().unwrap();
    let text = "[auth.api_keys.a]\nkeys_file = \"a.toml\"\n[auth.api_keys.b]\nkeys_file = \"b.toml\"\n\
                [routes.all]\nauth = [\"api_keys.a\", \"api_keys.b\"]\nrespond = { status = 204 }\n";
    fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let new = ["key", "new", "--id", "x"];
    let (status, _, err) = run(folder.path(), &new);
    assert_eq!(status, 2);
    assert!(err.contains("--auth"), "{err}");
    let (status, ..) = run(folder.path(), &[&new[..], &["--auth", "b"]].concat());
    assert_eq!(status, 0);
    assert!(folder.path().join("b.toml").exists() && !folder.path().join("a.toml").exists());
}
