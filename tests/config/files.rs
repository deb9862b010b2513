//! Files: includes, `${env:X}` and `${file:F}`.

use std::{fs, path::PathBuf};

use tempfile::TempDir;
use tollgate::config::{Config, Diagnostics, Loaded, Target, TemplatePart};

use super::{ROUTE, error, valid};

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn load(directory: &TempDir) -> Result<Loaded, Diagnostics> {
    Config::load(&directory.path().join("gateway.toml"))
}

const INCLUDE: &str = "[include]\nfiles = [\"conf.d/*.toml\"]\n";

#[test]
fn included_files_are_read_in_the_order_of_their_names() {
    let directory = directory(&[
        ("gateway.toml", &format!("{INCLUDE}{ROUTE}")),
        (
            "conf.d/b.toml",
            "[routes.b]\npath = \"/b\"\nupstream = \"shared\"\n",
        ),
        (
            "conf.d/a.toml",
            "[upstreams.shared]\nservers = [\"http://a\"]\n",
        ),
        ("conf.d/a.toml.bak", "this is no TOML"),
        ("conf.d/.c.toml", "this is no TOML"),
    ]);
    let loaded = load(&directory).unwrap();
    let names: Vec<_> = loaded
        .config
        .routes
        .iter()
        .map(|route| &*route.name)
        .collect();
    assert_eq!(names, ["all", "b"]);
    let path = |name: &str| directory.path().join(name);
    assert_eq!(
        loaded.files,
        ["gateway.toml", "conf.d/a.toml", "conf.d/b.toml"].map(path)
    );
}

#[test]
fn a_name_in_two_files_names_both_places() {
    let directory = directory(&[
        (
            "gateway.toml",
            &format!("{INCLUDE}[server]\nworkers = 1\n{ROUTE}"),
        ),
        (
            "conf.d/a.toml",
            "\n[routes.all]\nupstream = \"http://b\"\n[server]\nworkers = 2\n",
        ),
    ]);
    let findings = load(&directory).unwrap_err();
    let all: Vec<_> = findings.iter().collect();
    assert_eq!(all.len(), 2, "{findings}");
    assert!(
        all[0]
            .message
            .starts_with("`[routes.all]` is defined in two files, first at ")
    );
    assert!(all[0].message.ends_with("gateway.toml:6"));
    assert!(all[0].file.ends_with("a.toml") && all[0].related[0].file.ends_with("gateway.toml"));
    assert_eq!((all[0].line, all[0].related[0].line), (2, 6));
    assert!(
        all[1]
            .message
            .starts_with("`[server]` is defined in two files")
    );
}

#[test]
fn findings_of_all_files_come_at_once() {
    let directory = directory(&[
        (
            "gateway.toml",
            &format!("{INCLUDE}[server]\nlsiten = 1\n{ROUTE}"),
        ),
        ("conf.d/a.toml", "[log]\nlevle = 1\n"),
        ("conf.d/b.toml", "a = \n"),
    ]);
    let findings = load(&directory).unwrap_err();
    let files: Vec<_> = findings
        .iter()
        .map(|one| one.file.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(files, ["gateway.toml", "a.toml", "b.toml"]);
}

#[test]
fn includes_go_one_level_deep() {
    let directory = directory(&[
        ("gateway.toml", &format!("{INCLUDE}{ROUTE}")),
        ("conf.d/a.toml", INCLUDE),
    ]);
    let findings = load(&directory).unwrap_err();
    assert_eq!(
        findings.iter().next().unwrap().message,
        "an included file can't include others"
    );
}

#[test]
fn a_pattern_that_takes_the_file_itself_leaves_it_out() {
    let directory = directory(&[
        (
            "gateway.toml",
            &format!("[include]\nfiles = [\"*.toml\", \"a.toml\"]\n{ROUTE}"),
        ),
        (
            "a.toml",
            "[routes.b]\npath = \"/b\"\nupstream = \"http://b\"\n",
        ),
    ]);
    let loaded = load(&directory).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.files.len(), 2);
}

#[test]
fn an_include_that_is_not_there_is_an_error() {
    let main = "[include]\nfiles = [\"no/*.toml\", \"no.toml\", \"*/a.toml\"]\n";
    let directory = directory(&[("gateway.toml", &format!("{main}{ROUTE}"))]);
    let findings = load(&directory).unwrap_err();
    let all: Vec<_> = findings.iter().map(|one| one.message.as_str()).collect();
    assert!(all[0].starts_with("`files`: the directory `") && all[0].contains("can't be read"));
    assert!(
        all[1].starts_with("`files`: there is no file `"),
        "{}",
        all[1]
    );
    assert_eq!(
        all[2],
        "`files`: `*` can stand in the file name only, not in a directory"
    );
}

#[test]
fn a_pattern_may_find_nothing() {
    let directory = directory(&[
        ("gateway.toml", &format!("{INCLUDE}{ROUTE}")),
        ("conf.d/README", "none yet"),
    ]);
    assert!(load(&directory).unwrap().warnings.is_empty());
}

#[test]
fn a_missing_file_is_told() {
    let directory = directory(&[]);
    let findings = load(&directory).unwrap_err();
    let finding = findings.iter().next().unwrap();
    assert_eq!(finding.line, 0);
    assert!(
        finding.message.starts_with("the file can't be read: "),
        "{}",
        finding.message
    );
    assert!(findings.render(false).contains("gateway.toml"));
}

#[test]
fn files_fill_in_values_relative_to_where_they_are_named() {
    let directory = directory(&[
        ("gateway.toml", &format!("{INCLUDE}{ROUTE}")),
        (
            "conf.d/a.toml",
            "[admin]\ntoken = \"${file:secrets/token}\"\n",
        ),
        ("conf.d/secrets/token", "from-a-file\r\n"),
    ]);
    let loaded = load(&directory).unwrap();
    assert_eq!(loaded.config.admin.token.unwrap().expose(), "from-a-file");
    let token: PathBuf = directory.path().join("conf.d").join("secrets/token");
    assert!(loaded.files.contains(&token));
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let (message, _) = error(&format!(
        "[admin]\ntoken = \"${{file:no/such/file}}\"\n{ROUTE}"
    ));
    assert!(
        message.starts_with("2:10 `token`: the file `no/such/file` can't be read: "),
        "{message}"
    );
}

#[test]
fn variables_fill_in_any_string() {
    // cargo sets this variable for its tests.
    let config = valid(&format!(
        "[log.access]\nfile = \"/var/${{env:CARGO_PKG_NAME}}/${{env:NO_SUCH:-x}}$$.log\"\n{ROUTE}"
    ));
    assert_eq!(
        config.log.access.file,
        Some(PathBuf::from("/var/tollgate/x$.log"))
    );
    let config = valid(&format!(
        "[server]\nworkers = \"${{env:NO_SUCH:-2}}\"\n[server.limits]\nmax_headers = \"${{env:NO_SUCH:-50}}\"\n{ROUTE}"
    ));
    assert_eq!(config.server.workers.map(usize::from), Some(2));
    assert_eq!(config.server.limits.max_headers, 50);
}

#[test]
fn an_unset_variable_is_an_error() {
    let (message, help) = error(&format!(
        "[admin]\ntoken = \"a${{env:NO_SUCH_VARIABLE}}\"\n{ROUTE}"
    ));
    assert_eq!(
        message,
        "2:9 `token`: the environment variable `NO_SUCH_VARIABLE` is not set"
    );
    assert_eq!(
        help,
        "set it, or give a default: `${env:NO_SUCH_VARIABLE:-...}`"
    );
}

#[test]
fn other_names_are_known_only_per_request() {
    let (message, help) = error("[routes.a]\nrespond = { body = \"${client_ip}\" }\n");
    assert_eq!(
        message,
        "2:21 `body`: `${client_ip}` is known only per request, and this is read at load"
    );
    assert_eq!(
        help,
        "known here: `${env:X}`, `${file:F}`; `$$` is a dollar"
    );
    let (message, help) = error("[routes.a]\nredirect = \"/${clientip}\"\n");
    assert_eq!(message, "2:14 `redirect`: unknown name `${clientip}`");
    assert!(help.contains("`${client_ip}`") && help.contains("`${path.NAME}`"));
    let (message, _) = error("[routes.a]\nredirect = \"/${host\"\n");
    assert_eq!(message, "2:14 `redirect`: `${` without its `}`");
}

#[test]
fn what_was_filled_in_is_not_filled_in_again() {
    let directory = directory(&[
        ("gateway.toml", "[routes.a]\nredirect = \"/${file:part}\"\n"),
        ("part", "${host}"),
    ]);
    let loaded = load(&directory).unwrap();
    let Target::Redirect(redirect) = &loaded.config.routes[0].target else {
        panic!("a redirect");
    };
    assert_eq!(
        redirect.to.parts,
        [TemplatePart::Literal("/${host}".into())]
    );
}
