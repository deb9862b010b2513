//! Mistakes that TOML, other programs and habit lead to.

use super::{ROUTE, error, error_in, error_in_route, findings, only, parse};

#[test]
fn a_key_that_a_sub_table_swallowed_is_led_back() {
    let text = "[routes.a]\n[routes.a.timeouts]\nidle = \"1s\"\nupstream = \"http://a\"\n";
    let all = findings(text);
    let swallowed = all.iter().find(|one| one.line == 4).unwrap();
    assert_eq!(
        swallowed.message,
        "unknown key `upstream` in `[routes.a.timeouts]`"
    );
    assert_eq!(
        swallowed.help.as_deref(),
        Some(
            "`upstream` belongs to `[routes.a]`: move it above line 2, where `[routes.a.timeouts]` begins"
        )
    );
}

#[test]
fn a_table_beside_a_key_of_its_name_names_both_places() {
    let text = "[routes.a]\nupstream = \"http://a\"\ntimeouts = { idle = \"1s\" }\n[routes.a.timeouts]\ntotal = \"9s\"\n";
    let finding = only(text);
    assert_eq!((finding.line, finding.column), (4, 11));
    assert_eq!(finding.message, "`timeouts` is defined twice");
    let first = &finding.related[0];
    assert_eq!((first.line, first.column), (3, 1));
}

#[test]
fn a_key_after_its_table_names_both_places() {
    let text = "[routes.a.timeouts]\ntotal = \"9s\"\n[routes.a]\nupstream = \"http://a\"\ntimeouts = { idle = \"1s\" }\n";
    let finding = only(text);
    assert_eq!((finding.line, finding.related[0].line), (5, 1));
}

#[test]
fn duplicate_keys_are_reported_beside_everything_else() {
    let text = format!("[server]\nworkers = 1\nworkers = 2\nlsiten = 1\n{ROUTE}");
    let all = findings(&text);
    let messages: Vec<_> = all.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "`workers` is defined twice",
            "unknown key `lsiten` in `[server]`"
        ]
    );
    assert_eq!(all.iter().next().unwrap().related[0].line, 2);
}

#[test]
fn a_dotted_name_needs_quotes() {
    let (message, help) =
        error("[routes.api.v1]\nupstream = \"http://a\"\n[routes.api]\nupstream = \"http://a\"");
    assert_eq!(message, "1:13 unknown key `v1` in `[routes.api]`");
    assert_eq!(
        help,
        "a dot separates tables: if the name is `api.v1`, write `[routes.\"api.v1\"]`"
    );
    let (message, help) = error_in_route("partner.7 = \"x\"");
    assert_eq!(message, "3:1 unknown key `partner` in `[routes.a]`");
    assert_eq!(
        help,
        "a dot separates tables: if the name is `partner.7`, write `\"partner.7\"`"
    );
    let (_, help) = error_in_route("match_query = { partner.7 = \"x\" }");
    assert_eq!(
        help,
        "a dot separates tables: if the name is `partner.7`, write `\"partner.7\"`"
    );
}

#[test]
fn include_is_a_table_of_the_top_level() {
    let (message, help) = error_in("server", "include = [\"conf.d/*.toml\"]");
    assert_eq!(message, "2:1 unknown key `include` in `[server]`");
    assert_eq!(
        help,
        "`include` stands at the top level: write `[include]` on a line of its own, and its keys below"
    );
    let (message, help) = error(&format!("include = [\"a.toml\"]\n{ROUTE}"));
    assert_eq!(message, "1:11 `include`: expected a table, found a list");
    assert_eq!(
        help,
        "write `[include]` on a line of its own, and its keys below"
    );
}

#[test]
fn a_slip_of_the_pen_is_not_taken_for_a_table_of_the_top_level() {
    let all = findings("[upstreams.a]\nserver = \"http://a\"\n[routes.a]\nupstream = \"a\"\n");
    let finding = all.iter().find(|one| one.line == 2).unwrap();
    assert_eq!(finding.message, "unknown key `server` in `[upstreams.a]`");
    assert_eq!(finding.help.as_deref(), Some("write `servers`"));
}

#[test]
fn who_looks_for_tls_is_told_that_there_is_none() {
    let (message, help) = error_in("server", "tls = { cert = \"a.pem\" }");
    assert_eq!(message, "2:1 unknown key `tls` in `[server]`");
    assert!(help.starts_with("there is no TLS yet"), "{help}");
}

#[test]
fn units_of_nginx_get_the_right_one() {
    let finding = only("[routes.a]\nupstream = \"http://a\"\nmax_body = \"25m\"\n");
    assert_eq!((finding.line, finding.column), (3, 12));
    assert_eq!(
        finding.message,
        "`max_body`: expected a size such as \"64KiB\", found the string `\"25m\"`"
    );
    assert_eq!(
        finding.label,
        "expected a size such as \"64KiB\", or \"unlimited\""
    );
    assert_eq!(finding.help.as_deref(), Some("write `\"25MiB\"`"));
}

#[test]
fn a_bare_number_is_no_duration() {
    let (message, help) = error_in("server.limits", "header_timeout = 10");
    assert_eq!(
        message,
        "2:18 `header_timeout`: expected a duration such as \"30s\", found the integer `10`"
    );
    assert_eq!(
        help,
        "a bare number has no unit: write `\"10s\"` for seconds"
    );
}

#[test]
fn misspelt_keys_inside_string_or_table_values_are_found() {
    for (line, key, near) in [
        (
            "match_headers = { x-a = { preffix = \"x\" } }",
            "preffix",
            "prefix",
        ),
        ("match_query = { a = { regx = \"x\" } }", "regx", "regex"),
        (
            "rewrite = { strip_prefx = \"/x\" }",
            "strip_prefx",
            "strip_prefix",
        ),
        ("timeouts = { respnse = \"1s\" }", "respnse", "response"),
    ] {
        let finding = only(&format!("[routes.a]\nupstream = \"http://a\"\n{line}\n"));
        assert!(
            finding.message.starts_with(&format!("unknown key `{key}`")),
            "{finding:?}"
        );
        assert_eq!(finding.label, format!("did you mean `{near}`?"));
    }
    for line in [
        "redirect = { to = \"/b\", sttus = 301 }",
        "respond = { bdy = \"x\" }",
    ] {
        let finding = only(&format!("[routes.a]\n{line}\n"));
        assert!(finding.message.starts_with("unknown key"), "{finding:?}");
    }
    let finding = only(
        "[routes.a]\nupstream = \"a\"\n[[upstreams.a.servers]]\nurl = \"http://a\"\nwieght = 2\n",
    );
    assert_eq!(finding.label, "did you mean `weight`?");
}

#[test]
fn every_unknown_key_is_found_at_once() {
    let text = format!(
        "[server]\nlsiten = 1\n[server.limits]\nmax_header = 1\n[loog]\nlevel = 1\n{ROUTE}"
    );
    let all = findings(&text);
    let seen: Vec<_> = all
        .iter()
        .map(|one| (one.line, one.label.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (2, "did you mean `listen`?"),
            (4, "did you mean `max_headers`?"),
            (5, "did you mean `log`?")
        ]
    );
}

#[test]
fn a_key_of_another_table_is_told_where_it_belongs() {
    let (_, help) = error_in("server", "header_timeout = \"10s\"");
    assert_eq!(help, "`header_timeout` is a key of `[server.limits]`");
    let (message, help) = error(&format!("[upstreams]\nservers = [\"http://a\"]\n{ROUTE}"));
    assert_eq!(
        message,
        "2:1 `servers` is no key of `[upstreams]`, which holds named tables only"
    );
    assert_eq!(
        help,
        "`servers` is a key of `[upstreams.NAME]`: give the table a name"
    );
}

#[test]
fn tables_of_later_versions_are_unknown() {
    for table in ["tls", "listeners.public"] {
        let finding = only(&format!("[{table}]\n{ROUTE}"));
        assert!(finding.message.starts_with("unknown table"), "{finding:?}");
    }
}

#[test]
fn a_key_that_is_each_routes_own_cannot_be_shared() {
    let (message, help) = error_in("defaults", "upstream = \"http://a\"");
    assert_eq!(
        message,
        "2:1 `upstream` can't stand in `[defaults]`: it is each route's own"
    );
    assert_eq!(
        help,
        "write it in the routes: `[routes.NAME]` with `upstream = ...`"
    );
    assert!(
        error_in("defaults", "match_query = { a = \"1\" }")
            .0
            .contains("can't stand")
    );
    let text = "[groups.g]\npath = \"/a\"\n[routes.a]\ngroup = \"g\"\nupstream = \"http://a\"\n";
    assert!(
        error(text)
            .0
            .starts_with("2:1 `path` can't stand in a group")
    );
}

#[test]
fn values_without_quotes_are_no_toml() {
    let (message, help) = error_in("server", "listen = 0.0.0.0:8080");
    assert!(message.starts_with("2:13 this is not TOML"), "{message}");
    assert_eq!(help, "a string stands in quotes: `key = \"value\"`");
}

#[test]
fn a_finding_shows_its_line_with_a_caret() {
    let text = format!("[server]\nworkers = 2\nlsiten = \"0.0.0.0:8080\"\n{ROUTE}");
    let rendered = parse(&text).unwrap_err().render(false);
    let wanted = "\
error: unknown key `lsiten` in `[server]`
 --> gateway.toml:3:1
  |
3 | lsiten = \"0.0.0.0:8080\"
  | ^^^^^^ did you mean `listen`?
  |
  = help: write `listen`

";
    assert_eq!(rendered, wanted);
    assert!(!rendered.contains('\x1b'));
    assert!(parse(&text).unwrap_err().render(true).contains('\x1b'));
}

#[test]
fn a_finding_about_two_places_shows_both() {
    let text = "[routes.a]\nupstream = \"http://a\"\n\n\n\n[routes.b]\nupstream = \"http://b\"\n";
    let wanted = "\
error: the routes `a` and `b` can't be told apart
 --> gateway.toml:6:9
  |
6 | [routes.b]
  |         ^ the same host, path, methods and conditions
  |
 ::: gateway.toml:1:9
  |
1 | [routes.a]
  |         - as here
  |
  = help: make one more specific, or give one a higher `priority`

";
    assert_eq!(parse(text).unwrap_err().render(false), wanted);
}

#[test]
fn terminal_codes_in_a_file_are_not_repeated() {
    let text = format!("[server]\n\"a\\u001b[31m\" = 1\nlisten = \"\u{7f}\"\n{ROUTE}");
    let rendered = findings(&text).render(false);
    assert!(!rendered.contains(['\x1b', '\x7f']), "{rendered:?}");
}
