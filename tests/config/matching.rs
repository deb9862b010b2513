//! Routes: what they match, where they lead, and what can't be told apart.

use std::time::Duration;

use super::{error, error_in_route, findings, only, parse, valid, warning};

/// Two routes with these lines.
fn two(first: &str, second: &str) -> String {
    format!(
        "[routes.a]\nupstream = \"http://a\"\n{first}\n[routes.b]\nupstream = \"http://b\"\n{second}\n"
    )
}

fn ambiguous(first: &str, second: &str) {
    let finding = only(&two(first, second));
    assert_eq!(
        finding.message,
        "the routes `a` and `b` can't be told apart"
    );
    assert!(finding.line > 3);
    assert_eq!(finding.related[0].line, 1);
}

#[test]
fn routes_that_take_the_same_requests_are_ambiguous() {
    ambiguous("path = \"/x/{id}\"", "path = \"/x/{name}\"");
    ambiguous("path = \"/x/**\"", "path = \"/x/{*rest}\"");
    ambiguous("path = [\"/x\", \"/y\"]", "path = [\"/z\", \"/y\"]");
    ambiguous("hosts = [\"a.b\", \"A.c\"]", "hosts = [\"a.C\"]");
    ambiguous("hosts = [\"*.b\"]", "hosts = [\"{x}.b\"]");
    ambiguous("methods = [\"GET\", \"PUT\"]", "methods = [\"PUT\"]");
    ambiguous(
        "match_headers = { X-A = \"1\" }",
        "match_headers = { x-a = \"1\" }",
    );
    ambiguous("path = \"/%7Ex\"", "path = \"/~x\"");
    ambiguous("path = \"/items%3abatch\"", "path = \"/items:batch\"");
    ambiguous(
        "path = \"/x%2B/{id}/%40me/**\"",
        "path = \"/x+/{name}/@me/**\"",
    );
    ambiguous(
        "path = \"/A%3AB\"\npath_case = \"insensitive\"",
        "path = \"/a:b\"",
    );
    ambiguous(
        "path = \"/X\"\npath_case = \"insensitive\"",
        "path = \"/x\"",
    );
    ambiguous(
        "path = \"/x\"",
        "path = \"/X\"\npath_case = \"insensitive\"",
    );
}

#[test]
fn routes_that_differ_in_anything_are_told_apart() {
    for (first, second) in [
        ("path = \"/x\"", "path = \"/x/\""),
        ("path = \"/x\"", "path = \"/x/**\""),
        ("path = \"/x/{id}\"", "path = \"/x/me\""),
        ("path = \"/X\"", "path = \"/x\""),
        // Encoded twice, and what no segment can hold, are other names.
        ("path = \"/x%253A\"", "path = \"/x:\""),
        (
            "path = \"/x%2Fy\"\nencoded_slash = \"keep\"",
            "path = \"/x/y\"",
        ),
        ("hosts = [\"a.b\"]", ""),
        ("hosts = [\"*.b\"]", "hosts = [\"**.b\"]"),
        ("methods = [\"GET\"]", "methods = [\"PUT\"]"),
        ("methods = [\"GET\"]", ""),
        (
            "match_headers = { x-a = \"1\" }",
            "match_headers = { x-a = \"2\" }",
        ),
        (
            "match_headers = { x-a = \"1\" }",
            "match_query = { x-a = \"1\" }\npriority = 1",
        ),
        (
            "match_headers = { accept = { media_type = \"a/b\" } }",
            "match_headers = { accept = { media_type = \"a/c\" } }",
        ),
        (
            "match_headers = { x-a = \"1\" }",
            "match_headers = { x-a = \"1\", x-b = \"1\" }",
        ),
    ] {
        valid(&two(first, second));
    }
}

#[test]
fn conditions_that_can_hold_together_tie() {
    let tie = |first, second| only(&two(first, second)).message;
    let message = "a request may meet the conditions of both `a` and `b`";
    assert_eq!(
        tie(
            "match_headers = { x-a = \"1\" }",
            "match_headers = { x-b = \"1\" }"
        ),
        message
    );
    assert_eq!(
        tie(
            "match_headers = { a = \"1\" }",
            "match_query = { a = \"1\" }"
        ),
        message
    );
    assert_eq!(
        tie(
            "match_query = { a = \"1\", b = \"2\" }",
            "match_query = { a = \"1\", c = \"3\" }"
        ),
        message
    );
    valid(&two(
        "match_query = { a = \"1\", b = \"2\" }",
        "match_query = { a = \"2\", c = \"3\" }",
    ));
    valid(&two(
        "match_query = { a = \"1\" }\npriority = 1",
        "match_query = { b = \"1\" }",
    ));
}

/// Whether two routes tie that differ in this condition on one header.
fn ties(first: &str, second: &str) -> bool {
    let with = |condition: &str| format!("match_headers = {{ x-a = {condition} }}");
    let text = two(&with(first), &with(second));
    let all = findings(&text);
    let Some(finding) = all.iter().next() else {
        return false;
    };
    assert_eq!(all.len(), 1, "{all}");
    assert_eq!(
        finding.message,
        "a request may meet the conditions of both `a` and `b`"
    );
    true
}

#[test]
fn conditions_on_one_name_that_a_value_meets_both_tie() {
    for (first, second) in [
        ("\"1\"", "{ present = true }"),
        ("\"12\"", "{ prefix = \"1\" }"),
        ("\"1\"", "{ prefix = \"1\" }"),
        ("\"12\"", "{ regex = \"[0-9]+\" }"),
        ("{ prefix = \"1\" }", "{ present = true }"),
        ("{ prefix = \"1\" }", "{ prefix = \"12\" }"),
        ("{ media_type = \"a/b\" }", "{ present = true }"),
    ] {
        assert!(ties(first, second), "{first} {second}");
        assert!(ties(second, first), "{second} {first}");
    }
}

#[test]
fn conditions_on_one_name_that_exclude_each_other_do_not_tie() {
    for (first, second) in [
        ("\"1\"", "\"2\""),
        ("\"1\"", "{ present = false }"),
        ("\"1\"", "{ prefix = \"12\" }"),
        ("\"12\"", "{ regex = \"[0-9]\" }"),
        ("{ prefix = \"1\" }", "{ present = false }"),
        ("{ prefix = \"12\" }", "{ prefix = \"13\" }"),
        ("{ present = true }", "{ present = false }"),
        // These may hold together; it is not looked for.
        ("{ regex = \"[0-9]+\" }", "{ prefix = \"1\" }"),
        ("{ regex = \"[0-9]+\" }", "{ regex = \"[1-9]+\" }"),
        ("{ regex = \"[0-9]+\" }", "{ present = true }"),
    ] {
        assert!(!ties(first, second), "{first} {second}");
        assert!(!ties(second, first), "{second} {first}");
    }
    valid(&two(
        "match_headers = { x-a = \"1\" }\npriority = 1",
        "match_headers = { x-a = { present = true } }",
    ));
}

#[test]
fn all_names_that_both_ask_for_must_allow_a_tie() {
    let message = only(&two(
        "match_query = { a = \"1\", b = \"2\" }",
        "match_query = { a = { present = true }, c = \"3\" }",
    ))
    .message;
    assert_eq!(
        message,
        "a request may meet the conditions of both `a` and `b`"
    );
    valid(&two(
        "match_query = { a = \"1\", b = \"2\" }",
        "match_query = { a = { present = true }, b = \"3\" }",
    ));
    valid(&two(
        "match_query = { a = \"1\", b = \"2\" }",
        "match_query = { a = { present = false }, c = \"3\" }",
    ));
}

#[test]
fn the_case_of_a_path_without_text_tells_nothing_apart() {
    let text = |path: &str| {
        two(
            &format!(
                "path = \"{path}\"\npath_case = \"insensitive\"\nmatch_query = {{ a = \"1\" }}"
            ),
            &format!("path = \"{path}\"\nmatch_query = {{ b = \"1\" }}"),
        )
    };
    for path in ["/**", "/{x}", "/{x}/**"] {
        assert_eq!(
            only(&text(path)).message,
            "a request may meet the conditions of both `a` and `b`",
            "{path}"
        );
    }
    // Here the route that does not ignore case goes first.
    valid(&text("/x/**"));
    ambiguous("path_case = \"insensitive\"", "");
    assert_eq!(
        only(&two("path_case = \"insensitive\"\npriority = 1", "")).message,
        "the route `b` can never match: `a` takes all of its requests"
    );
}

/// Routes of one path, each with its own condition.
fn many(count: usize, condition: impl Fn(usize) -> String) -> String {
    let route = |at| {
        let condition = condition(at);
        format!("[routes.r{at:05}]\nupstream = \"http://a\"\nmatch_query = {{ {condition} }}\n")
    };
    (0..count).map(route).collect()
}

#[test]
fn too_many_conditions_to_compare_are_said() {
    let (message, help) = warning(&many(65, |at| format!("p{at} = \"1\"")));
    assert_eq!(
        message,
        "1:9 `r00000` and the routes beside it have too many different conditions to look for ties"
    );
    assert_eq!(
        help,
        "give them different `priority`: among equals the first by name wins"
    );
    let (message, _) = warning(&many(3000, |at| format!("a = {{ prefix = \"{at:05}\" }}")));
    assert!(message.starts_with("1:9 `r00000` and"), "{message}");
    valid(&many(1000, |at| format!("a = {{ prefix = \"{at:05}\" }}")));
}

#[test]
fn priority_breaks_a_tie() {
    let text = two(
        "methods = [\"GET\", \"PUT\"]",
        "methods = [\"GET\"]\npriority = 1",
    );
    assert_eq!(valid(&text).routes[1].priority, 1);
}

#[test]
fn a_route_whose_requests_another_takes_can_never_match() {
    let finding = only(&two("priority = 1", ""));
    assert_eq!(
        finding.message,
        "the route `b` can never match: `a` takes all of its requests"
    );
    assert_eq!((finding.line, finding.related[0].line), (4, 1));
    let finding = only(&two(
        "methods = [\"GET\"]",
        "methods = [\"GET\", \"PUT\"]\npriority = 7",
    ));
    assert_eq!(
        finding.message,
        "the route `a` can never match: `b` takes all of its requests"
    );
}

#[test]
fn a_route_that_asks_for_the_impossible_can_never_match() {
    let (message, help) = error_in_route("methods = []");
    assert_eq!(message, "3:11 `methods`: an empty list can never match");
    assert_eq!(help, "leave `methods` out for any");
    assert!(
        error_in_route("hosts = []")
            .0
            .ends_with("an empty list can never match")
    );
    let (message, _) = error_in_route("match_headers = { X-A = \"1\", x-a = \"2\" }");
    assert!(
        message.ends_with("the header field `x-a` stands here twice"),
        "{message}"
    );
    let (message, help) = error_in_route("path = \"/a%2fb\"");
    assert_eq!(
        message,
        "3:8 `/a%2fb` can never match: encoded slashes are refused"
    );
    assert_eq!(help, "write `encoded_slash = \"keep\"` in the route");
    assert!(
        error_in_route("methods = [\"TRACE\"]")
            .0
            .ends_with("always refused")
    );
    assert!(
        error_in_route("match_headers = { x-a = {} }")
            .0
            .ends_with("the condition is empty")
    );
}

#[test]
fn a_route_leads_to_exactly_one_place() {
    let (message, help) = error("[routes.a]\npath = \"/a\"\n");
    assert_eq!(message, "1:9 the route `a` leads nowhere");
    assert_eq!(
        help,
        "write for example `upstream = \"http://127.0.0.1:3000\"`"
    );
    let finding = only("[routes.a]\nupstream = \"http://a\"\nredirect = \"/b\"\n");
    assert_eq!(
        finding.message,
        "a route leads to one place: `upstream` and `redirect` can't stand together"
    );
    assert_eq!((finding.line, finding.related[0].line), (3, 2));
}

#[test]
fn there_must_be_a_route() {
    let (message, help) = error("[server]\nworkers = 1\n");
    assert_eq!(message, "0:0 there is no route");
    assert!(help.contains("[routes.all]\nupstream = \"http://127.0.0.1:3000\""));
}

#[test]
fn unknown_names_get_a_suggestion() {
    let text = "[upstreams.orders]\nservers = [\"http://a\"]\n[routes.b]\nupstream = \"orders\"\n[routes.a]\npath = \"/a\"\n";
    let (message, help) = error(&format!("{text}upstream = \"odrers\"\n"));
    assert_eq!(
        (message.as_str(), help.as_str()),
        ("7:12 there is no upstream `odrers`", "write `\"orders\"`")
    );
    let (message, _) = error(&format!("{text}split = {{ orders = 1, ordres = 2 }}\n"));
    assert_eq!(message, "7:23 there is no upstream `ordres`");
    let (message, help) = error(&format!("{text}upstream = \"backend\"\n"));
    assert_eq!(message, "7:12 there is no upstream `backend`");
    assert_eq!(
        help,
        "define it as `[upstreams.backend]`, or write one of `orders`"
    );
    let (message, _) = error(
        "[groups.api]\nupgrade = true\n[routes.a]\ngroup = \"api\"\nupstream = \"http://a\"\n[routes.b]\npath = \"/b\"\ngroup = \"apo\"\nupstream = \"http://a\"\n",
    );
    assert_eq!(message, "8:9 there is no group `apo`");
}

#[test]
fn a_split_has_weights() {
    let text = |split: &str| format!("[routes.a]\nsplit = {split}\n");
    assert!(
        error(&text("{ \"http://a\" = 0 }"))
            .0
            .ends_with("no part has a weight above 0")
    );
    assert!(
        error(&text("{ \"http://a\" = -1 }"))
            .0
            .contains("expected a whole number")
    );
    assert!(
        error(&text("{ \"http://a\" = 4294967296 }"))
            .0
            .contains("expected a whole number")
    );
    assert!(
        error(&text("[\"a\", \"b\"]"))
            .1
            .starts_with("for example `split = {")
    );
    assert!(error(&text("{ a.b = 1 }")).1.contains("in quotes"));
    assert!(
        error(&text("{}"))
            .0
            .ends_with("no part has a weight above 0")
    );
}

#[test]
fn conditions_are_of_one_kind() {
    let (message, _) =
        error_in_route("match_headers = { x-a = { prefix = \"a\", regex = \"b\" } }");
    assert_eq!(
        message,
        "3:49 `x-a`: `prefix` and `regex` can't stand together"
    );
    let (message, help) = error_in_route("match_headers = { x-a = 1 }");
    assert!(message.contains("found the integer `1`"));
    assert_eq!(help, "values are text: write `\"1\"`");
    assert!(
        error_in_route("match_headers = { x-a = { regex = \"(\" } }")
            .0
            .ends_with("no regular expression")
    );
    assert!(
        error_in_route("match_headers = { host = \"a\" }")
            .1
            .contains("hosts = ")
    );
    assert!(
        error_in_route("match_headers = { connection = \"a\" }")
            .0
            .contains("belongs to the connection")
    );
    assert!(
        error_in_route("match_headers = { \"a b\" = \"a\" }")
            .0
            .ends_with("not the name of a header field")
    );
    assert!(
        error_in_route("match_query = { a = { media_type = \"a/b\" } }")
            .0
            .contains("not for a query")
    );
    assert!(
        error_in_route("match_headers = { accept = { media_type = \"*/*\" } }")
            .1
            .contains("wildcard")
    );
}

#[test]
fn answers_of_the_gateway_are_checked() {
    let respond = |value: &str| error(&format!("[routes.a]\nrespond = {value}\n")).0;
    assert!(respond("{ status = 101 }").contains("200 to 599"));
    assert!(
        respond("{ status = 204, body = \"x\" }")
            .ends_with("an answer with status 204 has no body")
    );
    assert!(
        respond("{ headers = { transfer-encoding = \"chunked\" } }")
            .contains("belongs to the connection")
    );
    assert!(respond("{ headers = { x = \"a\\nb\" } }").contains("the value of a header field"));
    assert!(respond("\"text\"").contains("expected a table"));
    let redirect = |value: &str| error(&format!("[routes.a]\nredirect = {value}\n")).0;
    assert!(redirect("\"example.com\"").contains("expected a location"));
    assert!(redirect("{ status = 301 }").ends_with("`redirect` needs `to`"));
    assert!(redirect("{ to = \"/a\", status = 200 }").contains("301, 302, 303, 307 or 308"));
    assert!(redirect("\"/a b\"").contains("visible ASCII"));
    assert!(redirect("\"/a/{id}\"").ends_with("`redirect`: `{` can't stand here"));
}

#[test]
fn names_as_nginx_writes_them_are_warned_of() {
    let redirect = |to: &str| warning(&format!("[routes.a]\nredirect = \"{to}\"\n"));
    let (message, help) = redirect("https://$host/x");
    assert_eq!(
        message,
        "2:12 `redirect`: `$host` is text and is not filled in"
    );
    assert_eq!(help, "write `${host}`, or `$$host` if the text is meant");
    let (message, help) = redirect("https://example.com${path}?${query}");
    assert_eq!(message, "2:12 `redirect`: `${query}` has its own `?`");
    assert!(!help.is_empty());
    valid("[routes.a]\nredirect = \"/in?to=${path}${query}&by=$$host\"\n");
    let header = "[routes.a]\nupstream = \"http://a\"\n\
                  request_headers = { set = { x-a = \"$remote_addr\" } }\n";
    assert!(warning(header).1.contains("`${client_ip}`"));
}

#[test]
fn rewrites_are_checked() {
    let (message, _) = error_in_route("rewrite = { path = \"/x\", add_prefix = \"/y\" }");
    assert!(
        message.ends_with("so `add_prefix` has no effect"),
        "{message}"
    );
    let (message, _) = error_in_route("path = \"/a/**\"\nrewrite = { strip_prefix = \"/b\" }");
    assert!(
        message.ends_with("no path that `/a/**` takes begins with `/b`"),
        "{message}"
    );
    assert!(
        error_in_route("rewrite = { path = \"/x/${path.id}\" }")
            .0
            .contains("is not captured by every pattern")
    );
    for (path, what) in [
        ("/x?a=b", "a path has no `?` and no `#`"),
        ("/x/{id}", "`{` can't stand here"),
    ] {
        let (message, help) = error_in_route(&format!("rewrite = {{ path = \"{path}\" }}"));
        assert_eq!(message, format!("3:20 `path`: {what}"));
        assert!(!help.is_empty());
    }
    assert!(
        error_in_route("rewrite = { host = \"a b\" }")
            .0
            .contains("\"preserve\", \"server\" or a host")
    );
    valid(
        "[routes.a]\npath = \"/a/{id}\"\nupstream = \"http://a\"\nrewrite = { path = \"/x/${path.id}\" }\n",
    );
    valid(
        "[routes.a]\npath = \"/a:b/**\"\nupstream = \"http://a\"\nrewrite = { strip_prefix = \"/a%3Ab\" }\n",
    );
}

#[test]
fn captures_must_stand_in_every_pattern() {
    let text =
        |hosts| format!("[routes.a]\nhosts = {hosts}\nredirect = \"https://x/${{host.tenant}}\"\n");
    valid(&text("[\"{tenant}.example.com\"]"));
    let (message, _) = error(&text("[\"{tenant}.example.com\", \"example.com\"]"));
    assert_eq!(
        message,
        "3:12 `${host.tenant}` is not captured by every pattern of the route `a`"
    );
}

#[test]
fn a_wrong_pattern_does_not_make_a_route_ambiguous() {
    let all = findings(&two("path = \"/a//b\"", ""));
    assert_eq!(all.len(), 1, "{all}");
}

#[test]
fn inheriting_needs_something_to_inherit() {
    let (message, _) = error_in_route("hosts = [\"inherit\", \"a.b\"]");
    assert_eq!(message, "3:10 there is nothing to inherit");
    let text = "[defaults]\nhosts = [\"inherit\"]\n[routes.a]\nupstream = \"http://a\"\n[routes.b]\npath = \"/b\"\nupstream = \"http://a\"\n";
    assert_eq!(error(text).0, "2:10 there is nothing to inherit");
}

#[test]
fn ten_thousand_routes_load_fast() {
    let mut text = String::new();
    for at in 0..10_000 {
        text.push_str(&format!(
            "[routes.r{at}]\nhosts = [\"h{}.example.com\"]\npath = \"/api/v{at}/items/{{id}}/**\"\nmethods = [\"GET\", \"POST\"]\nmatch_headers = {{ x-a = \"{at}\" }}\nupstream = \"http://10.0.0.{}:9000\"\n",
            at % 100,
            at % 200,
        ));
    }
    let started = computed();
    let loaded = parse(&text).unwrap();
    let took = computed() - started;
    assert_eq!(loaded.config.routes.len(), 10_000);
    // Unoptimised; 10 times less in a release build.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// How long this thread has run, whatever else the machine does.
fn computed() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn ten_thousand_routes_of_one_path_are_compared_without_squaring() {
    let mut text = String::new();
    for at in 0..10_000 {
        text.push_str(&format!(
            "[routes.r{at}]\nmatch_query = {{ a = \"{at}\" }}\nupstream = \"http://a\"\n"
        ));
    }
    let started = computed();
    assert!(parse(&text).is_ok());
    let took = computed() - started;
    assert!(took < Duration::from_secs(10), "{took:?}");
}
