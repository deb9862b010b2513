//! Whatever somebody calls a configuration gets an answer.

use proptest::prelude::*;
use tollgate::config::Config;

use super::{ROUTE, error, findings, parse};

#[test]
fn an_empty_file_is_told_what_the_smallest_is() {
    for text in ["", " \n\t\n", "# nothing\n"] {
        let (message, help) = error(text);
        assert_eq!(message, "0:0 the configuration is empty");
        assert!(
            parse(
                help.strip_prefix("the smallest configuration is\n")
                    .unwrap()
            )
            .is_ok()
        );
    }
}

#[test]
fn a_binary_file_is_told_apart() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [0x7f, b'E', b'L', b'F', 0, 0xff]).unwrap();
    let findings = Config::load(file.path()).unwrap_err();
    assert_eq!(
        findings.iter().next().unwrap().message,
        "this is a binary file, not a configuration"
    );
}

#[test]
fn a_file_that_is_not_utf8_is_told_where() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"[server]\n# caf\xe9\n").unwrap();
    let findings = Config::load(file.path()).unwrap_err();
    let finding = findings.iter().next().unwrap();
    assert_eq!((finding.line, finding.column), (2, 6));
    assert_eq!(
        finding.message,
        "this is not UTF-8: the byte 0xe9 can't stand here"
    );
}

#[test]
fn a_byte_order_mark_is_no_harm() {
    assert!(parse(&format!("\u{feff}{ROUTE}")).is_ok());
    assert!(parse(&ROUTE.replace('\n', "\r\n")).is_ok());
}

#[test]
fn a_huge_file_is_refused_unread() {
    let huge = "#".repeat((16 << 20) + 1);
    assert_eq!(error(&huge).0, "0:0 the configuration has more than 16 MiB");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &huge).unwrap();
    let findings = Config::load(file.path()).unwrap_err();
    assert_eq!(
        findings.iter().next().unwrap().message,
        "the configuration has more than 16 MiB"
    );
    assert!(Config::load(std::path::Path::new("/dev/zero")).is_err());
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}1{}", "{ b = ".repeat(50_000), " }".repeat(50_000)),
        format!("[{}a]", "a.".repeat(50_000)),
        format!("{}a = 1", "a.".repeat(50_000)),
    ] {
        assert!(findings(&text).has_errors());
    }
}

#[test]
fn a_directory_is_no_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let findings = Config::load(directory.path()).unwrap_err();
    assert!(
        findings
            .iter()
            .next()
            .unwrap()
            .message
            .starts_with("the file can't be read")
    );
}

#[test]
fn many_findings_are_cut() {
    let text: String = (0..5000).map(|at| format!("key{at} = 1\n")).collect();
    let findings = findings(&text);
    assert_eq!(findings.len(), 1000);
    assert!(
        findings.render(false).contains("and 4001 findings more"),
        "{}",
        findings.len()
    );
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let text = format!(
        "[server]\nlisten = [\"{}\", 1]\n{ROUTE}",
        "a".repeat(100_000)
    );
    let rendered = findings(&text).render(false);
    assert!(rendered.len() < 5000, "{}", rendered.len());
    assert!(rendered.contains("gateway.toml:2:100015"), "{rendered}");
}

#[test]
fn every_value_may_have_every_type() {
    let values = [
        "1",
        "-1",
        "1.5",
        "\"\"",
        "\"x\"",
        "true",
        "[]",
        "[[]]",
        "[1]",
        "{}",
        "{ a = {} }",
        "1979-05-27",
    ];
    let tables = [
        (
            "",
            vec![
                "include",
                "server",
                "admin",
                "log",
                "upstreams",
                "defaults",
                "groups",
                "routes",
            ],
        ),
        (
            "server",
            vec![
                "listen",
                "workers",
                "trusted_proxies",
                "forwarded",
                "limits",
                "http2",
                "drain",
            ],
        ),
        ("admin", vec!["listen", "token"]),
        ("log", vec!["level", "access"]),
        (
            "log.access",
            vec!["enabled", "file", "sample", "query", "request_headers"],
        ),
        (
            "upstreams.a",
            vec![
                "servers",
                "connect_timeout",
                "pool_max_idle",
                "max_in_flight",
                "health_check",
            ],
        ),
        (
            "routes.b",
            vec![
                "group",
                "hosts",
                "path",
                "path_case",
                "methods",
                "match_headers",
                "match_query",
                "priority",
                "upstream",
                "split",
                "respond",
                "redirect",
                "rewrite",
                "max_body",
                "timeouts",
                "encoded_slash",
                "upgrade",
            ],
        ),
    ];
    for (table, keys) in tables {
        for key in keys {
            for value in values {
                let header = if table.is_empty() {
                    String::new()
                } else {
                    format!("[{table}]\n")
                };
                let _ = findings(&format!("{header}{key} = {value}\n")).render(false);
            }
        }
    }
}

/// Lines that a configuration may be made of, in any order.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("[routes.a]".to_owned()),
        Just("[routes.a.timeouts]".to_owned()),
        Just("[[upstreams.u.servers]]".to_owned()),
        Just("[defaults]".to_owned()),
        Just("upstream = \"u\"".to_owned()),
        Just("hosts = [\"inherit\"]".to_owned()),
        Just("token = \"hush".to_owned()),
        "[a-z_.]{1,8} = (\"[^\"\n]{0,8}\"|[0-9]{1,3}|\\[\\]|\\{\\})",
        "[\\[\\]a-z.\"={}$#]{0,12}",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text: String) {
        let _ = findings(&text).render(false);
    }

    #[test]
    fn no_lines_make_the_parser_panic(lines in proptest::collection::vec(line(), 0..12)) {
        let _ = findings(&lines.join("\n")).render(false);
    }
}
