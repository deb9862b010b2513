//! Values of `[server]`, `[admin]`, `[log]` and `[upstreams.*]` that are refused.

use super::{ROUTE, error, error_in, only, parse, valid, warning};

#[test]
fn there_must_be_a_listener() {
    let (message, help) = error_in("server", "listen = []");
    assert_eq!(message, "2:10 `listen`: there is no listener");
    assert_eq!(help, "write an address: `listen = [\"0.0.0.0:8080\"]`");
}

#[test]
fn no_address_is_listened_on_twice() {
    let text =
        format!("[server]\nlisten = [\"127.0.0.1:80\", \"unix:/a\", \"127.0.0.1:80\"]\n{ROUTE}");
    let finding = only(&text);
    assert_eq!(finding.message, "`listen`: the same address twice");
    assert_eq!((finding.column, finding.related[0].column), (38, 11));
    let (message, _) = error_in("server", "listen = [\"127.0.0.1:80\", \"0.0.0.0:80\"]");
    assert!(message.ends_with("two addresses that overlap"), "{message}");
    let (message, _) = error(&format!("[server]\nlisten = \"127.0.0.1:9901\"\n{ROUTE}"));
    assert_eq!(message, "1:2 `[admin]` listens on an address of `[server]`");
    valid(&format!(
        "[server]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n{ROUTE}"
    ));
}

#[test]
fn workers_are_auto_or_a_number() {
    for wrong in ["0", "-1", "\"many\"", "1.5", "100000", "true"] {
        let (message, _) = error_in("server", &format!("workers = {wrong}"));
        assert!(
            message.starts_with("2:11 `workers`: expected \"auto\" or a whole number"),
            "{message}"
        );
    }
}

#[test]
fn limits_have_bounds() {
    let (message, _) = error_in("server.limits", "header_bytes = \"4KiB\"");
    assert!(
        message.contains("expected a size such as \"64KiB\", 8KiB to 16MiB, found"),
        "{message}"
    );
    assert!(
        error_in("server.limits", "max_headers = 0")
            .0
            .contains("1 to 10000")
    );
    assert!(
        error_in("server.limits", "header_timeout = \"0s\"")
            .0
            .ends_with("longer than nothing")
    );
    assert!(
        error_in("server.http2", "stream_window = \"2GiB\"")
            .0
            .contains("expected a size")
    );
    assert!(
        error_in("server.limits", "max_connections = 99999999999999999999")
            .0
            .contains("whole number")
    );
}

#[test]
fn the_drain_leaves_time_for_requests() {
    let (message, _) = error_in("server.drain", "deadline = \"5s\"");
    assert_eq!(
        message,
        "2:12 `deadline` (\"5s\") must be longer than `delay` (\"5s\") and `grace` (\"1s\") together"
    );
}

#[test]
fn trusting_everybody_is_warned_of() {
    for all in ["0.0.0.0/0", "::/0"] {
        let (message, _) = warning(&format!("[server]\ntrusted_proxies = [\"{all}\"]\n{ROUTE}"));
        assert_eq!(message, "2:20 `trusted_proxies`: everybody is trusted");
    }
}

#[test]
fn admin_beyond_loopback_needs_a_token() {
    let (message, help) = error_in("admin", "listen = \"0.0.0.0:9901\"");
    assert_eq!(
        message,
        "2:10 `[admin]` listens beyond loopback and has no `token`"
    );
    assert!(help.starts_with("add `token = \"${env:TOLLGATE_ADMIN_TOKEN}\"`"));
    valid(&format!("[admin]\nlisten = \"[::1]:9901\"\n{ROUTE}"));
    valid(&format!(
        "[admin]\nlisten = \"0.0.0.0:9901\"\ntoken = \"a\"\n{ROUTE}"
    ));
    assert!(
        valid(&format!("[admin]\nlisten = \"off\"\n{ROUTE}"))
            .admin
            .listen
            .is_none()
    );
}

#[test]
fn credentials_are_not_logged() {
    for name in [
        "authorization",
        "Cookie",
        "proxy-authorization",
        "x-api-key",
    ] {
        let (message, _) = error_in("log.access", &format!("request_headers = [\"{name}\"]"));
        assert!(
            message.ends_with("credentials are never logged"),
            "{message}"
        );
    }
    assert!(
        error_in("log.access", "request_headers = [\"a b\"]")
            .0
            .contains("the name of a header field")
    );
}

#[test]
fn credentials_are_not_logged_wherever_they_are_looked_for() {
    let secret = "secret = '0123456789abcdef0123456789abcdef'";
    let jwt = |from: &str| format!("[auth.jwt.main]\n{secret}\nfrom = ['{from}']\n");
    let asked = "[auth.external.main]\nurl = 'http://127.0.0.1:1'\n\
                 request_headers = ['x-session', 'user-agent']\n";
    let file = |log: &str, auth: &str, kind: &str| {
        format!("[log.access]\n{log}\n{auth}[routes.a]\nrespond = {{}}\nauth = '{kind}.main'\n")
    };
    for (log, auth, kind, wanted) in [
        (
            "request_headers = ['x-token']",
            &*jwt("header:x-token"),
            "jwt",
            "has `x-token`, in which `[auth.jwt.main]` gets credentials",
        ),
        (
            "request_headers = ['x-session', 'user-agent']",
            asked,
            "external",
            "has `x-session`, in which `[auth.external.main]` gets credentials",
        ),
        (
            "query = 'keep'",
            &jwt("query:access_token"),
            "jwt",
            "would log the credentials of `[auth.jwt.main]`, which stand in the query",
        ),
        (
            "request_headers = ['referer']",
            &jwt("query:access_token"),
            "jwt",
            "may hold credentials of `[auth.jwt.main]` in its query",
        ),
    ] {
        let (message, _) = error(&file(log, auth, kind));
        assert!(message.ends_with(wanted), "{message}");
    }
    valid(&file("request_headers = ['user-agent']", asked, "external"));
    let header = jwt("header:authorization");
    valid(&file("request_headers = ['referer']", &header, "jwt"));
    valid(&file("query = 'keep'", &header, "jwt"));
}

#[test]
fn a_log_without_lines_is_warned_of() {
    let (message, help) = warning(&format!("[log.access]\nsample = 0\n{ROUTE}"));
    assert_eq!(message, "2:10 `sample`: only errors are logged");
    assert!(help.contains("enabled = false"));
    for wrong in ["1.5", "-0.1", "nan", "\"half\""] {
        assert!(
            error_in("log.access", &format!("sample = {wrong}"))
                .0
                .contains("a share from 0.0 to 1.0")
        );
    }
}

#[test]
fn words_are_checked() {
    let (message, help) = error_in("log.access", "query = \"maks\"");
    assert_eq!(
        message,
        "2:9 `query`: expected \"mask\" or \"keep\" or \"drop\", found the string `\"maks\"`"
    );
    assert_eq!(help, "did you mean `\"mask\"`?");
    let (message, _) = error_in("log.access", "format = \"text\"");
    assert_eq!(
        message,
        "2:10 `format`: expected \"json\", found the string `\"text\"`"
    );
    assert_eq!(
        error_in("log", "level = \"wran\"").1,
        "did you mean `warn`?"
    );
}

#[test]
fn every_wrong_type_is_named() {
    for (value, found) in [
        ("1", "the integer `1`"),
        ("1.5", "the number `1.5`"),
        ("1979-05-27", "the date `1979-05-27`"),
        ("[1]", "a list"),
        ("{ a = 1 }", "a table"),
        ("\"yes\"", "the string `\"yes\"`"),
        ("\"\"", "an empty string"),
    ] {
        let (message, _) = error_in("server", &format!("forwarded = {value}"));
        assert_eq!(
            message,
            format!("2:13 `forwarded`: expected `true` or `false`, found {found}")
        );
    }
    assert_eq!(
        error_in("server", "forwarded = \"true\"").1,
        "write it without quotes: `forwarded = true`"
    );
}

#[test]
fn an_upstream_has_servers() {
    let used = "[routes.a]\nupstream = \"a\"\n";
    let (message, help) = error(&format!("[upstreams.a]\n{used}"));
    assert_eq!(message, "1:12 `[upstreams.a]` has no servers");
    assert_eq!(help, "write `servers = [\"http://127.0.0.1:3000\"]`");
    let (message, _) = error(&format!("[upstreams.a]\nservers = []\n{used}"));
    assert_eq!(message, "2:11 `servers`: an upstream needs a server");
    let (message, _) = error(&format!(
        "[upstreams.\"http://a\"]\nservers = [\"http://x\"]\n{ROUTE}"
    ));
    assert_eq!(
        message,
        "1:12 the name of an upstream must not look like a URL"
    );
    let (message, _) = error(&format!("[[upstreams.a.servers]]\nweight = 2\n{used}"));
    assert_eq!(message, "1:1 a server needs a `url`");
    let (message, _) = error(&format!(
        "[upstreams.a]\nservers = [\"http://x\", \"http://x:80\"]\n{used}"
    ));
    assert_eq!(message, "2:24 the same server stands here twice");
}

#[test]
fn https_upstreams_are_announced() {
    let (message, _) = error("[routes.a]\nupstream = \"https://a\"\n");
    assert_eq!(
        message,
        "2:12 `upstream`: `https://` upstreams come with a later version"
    );
}

#[test]
fn health_thresholds_are_above_zero() {
    let check = |line| {
        let text = "[routes.a]\nupstream = \"a\"\n[upstreams.a]\nservers = [\"http://x\"]\n[upstreams.a.health_check]\n";
        error(&format!("{text}{line}\n"))
    };
    for key in ["rise", "fall"] {
        assert!(
            check(format!("{key} = 0"))
                .0
                .contains("expected a whole number, 1 to 1000")
        );
    }
    assert!(
        check("interval = \"0s\"".to_owned())
            .0
            .contains("longer than nothing")
    );
    assert!(
        check("path = \"health\"".to_owned())
            .0
            .contains("expected a path")
    );
}

#[test]
fn an_upstream_or_group_that_no_route_uses_is_warned_of() {
    let (message, _) = warning(&format!("[upstreams.a]\nservers = [\"http://x\"]\n{ROUTE}"));
    assert_eq!(message, "1:12 no route uses the upstream `a`");
    let (message, _) = warning(&format!("[groups.g]\nupgrade = false\n{ROUTE}"));
    assert_eq!(message, "1:9 no route uses the group `g`");
}

#[test]
fn warnings_do_not_stop_the_load() {
    let loaded = parse(&format!("[log.access]\nsample = 0.0\n{ROUTE}")).unwrap();
    assert!(!loaded.warnings.has_errors());
    assert_eq!(loaded.config.routes.len(), 1);
}
