//! Roles, permissions, claims and addresses: what is said when they are wrong, or hardly meant.

use std::fs;

use super::{ROUTE, error, error_in_route, findings, said, valid, warning};

const AUTH: &str = "[auth.jwt.c]\nissuer = \"https://id.example.com/\"\nalgorithms = [\"HS256\"]\n\
                    secret = \"0123456789abcdef0123456789abcdef\"\n\
                    roles_claim = \"roles\"\npermissions_claim = \"scope\"\n";

/// A route with these keys and callers, and roles; the keys begin in line 3.
fn route(keys: &str) -> String {
    format!(
        "[routes.a]\nupstream = \"http://a\"\n{keys}\nauth = \"jwt.c\"\n[roles.viewer]\npermissions = [\"orders:read\"]\n\
         [roles.editor]\nincludes = [\"viewer\"]\npermissions = [\"orders:write\"]\n{AUTH}"
    )
}

/// The same without roles.
fn without_roles(keys: &str) -> String {
    format!("[routes.a]\nupstream = \"http://a\"\n{keys}\nauth = \"jwt.c\"\n{AUTH}")
}

#[test]
fn roles_are_resolved_with_what_they_include() {
    let text = "[roles.a]\nincludes = [\"b\"]\n[roles.b]\nincludes = \"c\"\npermissions = \"x:b\"\n\
                [roles.c]\npermissions = [\"x:c\", \"x:*\"]\n";
    let config = valid(&format!("{text}{ROUTE}"));
    let names = |names: &[std::sync::Arc<str>]| names.join(" ");
    assert_eq!(names(&config.roles["a"].includes), "b c");
    assert_eq!(names(&config.roles["a"].permissions), "x:* x:b x:c");
    assert_eq!(names(&config.roles["c"].includes), "");
}

#[test]
fn an_unknown_included_role_is_an_error_with_a_suggestion() {
    let text = format!(
        "[roles.viewer]\npermissions = [\"a\"]\n[roles.editor]\nincludes = [\"veiwer\"]\n{ROUTE}"
    );
    let (message, help) = error(&text);
    assert_eq!(message, "4:13 there is no role `veiwer`");
    assert_eq!(help, "write `\"viewer\"`");
}

#[test]
fn roles_that_include_themselves_are_told_once() {
    let text = "[roles.c]\nincludes = [\"a\"]\n[roles.a]\nincludes = [\"b\"]\n[roles.b]\nincludes = [\"c\"]\n\
                [roles.z]\nincludes = [\"a\"]\n";
    let (message, help) = error(&format!("{text}{ROUTE}"));
    assert_eq!(message, "4:13 the role `a` includes itself: a > b > c > a");
    assert_eq!(help, "take one of these `includes` out");
    let (message, _) = error(&format!("[roles.a]\nincludes = [\"a\"]\n{ROUTE}"));
    assert_eq!(message, "2:13 the role `a` includes itself");
}

#[test]
fn permissions_are_names_in_segments() {
    let role = |line: &str| error(&format!("[roles.a]\n{line}\n{ROUTE}"));
    let (message, help) = role("permissions = [\"orders:re*\"]");
    assert_eq!(message, "2:16 `permissions`: `*` stands for whole segments");
    assert_eq!(help, "segments are separated by `:`, as in `orders:*`");
    assert!(
        role("permissions = [\"orders::read\"]")
            .0
            .starts_with("2:16 `permissions`: expected")
    );
    assert!(
        role("permissions = [\"authenticated\"]")
            .0
            .contains("is no permission")
    );
    let (message, help) = error_in_route("permissions = \"orders:*\"");
    assert_eq!(
        message,
        "3:15 `permissions`: a route asks for one permission by its whole name"
    );
    assert_eq!(
        help,
        "wildcards stand in `[roles.NAME]`: they grant, they don't ask"
    );
}

#[test]
fn keys_of_permissions_are_checked_like_all_others() {
    for (line, message, help) in [
        (
            "permissions = { get = \"a\" }",
            "3:17 `get` is no method",
            "write `\"GET\"`",
        ),
        (
            "permissions = { al = [\"a\"] }",
            "3:17 `al` is no method",
            "write `all`",
        ),
        (
            "permissions = {}",
            "3:15 `permissions`: a table without methods denies everybody",
            "",
        ),
        (
            "permissions = []",
            "3:15 `permissions`: an empty list denies everybody",
            "write `\"authenticated\"` for any caller that is known",
        ),
        (
            "permissions = { all = [] }",
            "3:23 `all`: an empty list denies everybody",
            "write `\"authenticated\"` for any caller that is known",
        ),
        (
            "permissions = { GET = { al = \"a\" } }",
            "3:25 unknown key `al` in `[routes.a.permissions.GET]`",
            "write `all`",
        ),
        (
            "permissions = { \"rpc:a.B/Get\" = \"a\" }",
            "3:17 `rpc:` is followed by the name of a method alone",
            "as in `\"rpc:GetOrder\" = \"orders:read\"`, without the service",
        ),
        (
            "rbac = { enforced = false }",
            "3:10 unknown key `enforced` in `[routes.a.rbac]`",
            "write `enforce`",
        ),
    ] {
        assert_eq!(
            error_in_route(line),
            (message.to_owned(), help.to_owned()),
            "{line}"
        );
    }
    let (message, help) = error_in_route("permissions = { all = \"a\", GET = \"b\" }");
    assert_eq!(
        message,
        "3:28 `all` is for every method: `GET` can't stand beside it"
    );
    assert_eq!(help, "write `GET = { all = [...] }`");
    let (message, _) = error_in_route("permissions = true");
    assert!(
        message.starts_with("3:15 `permissions`: expected the name of a permission"),
        "{message}"
    );
}

#[test]
fn claims_have_values_that_can_be_compared() {
    for (line, message) in [
        (
            "claims = { tenant = [] }",
            "3:21 `tenant`: an empty list denies everybody",
        ),
        (
            "claims = { tenant = \"\" }",
            "3:21 `tenant`: an empty text can't be asked for",
        ),
        ("claims = {}", "3:10 `claims`: the table is empty"),
    ] {
        assert_eq!(error_in_route(line).0, message);
    }
    let (message, _) = error_in_route("claims = { tenant = 1.5 }");
    assert!(
        message.starts_with("3:21 `tenant`: expected a string, an integer"),
        "{message}"
    );
    let (message, help) = error(&without_roles("claims = { tenant = \"${host.tenant}\" }"));
    assert_eq!(
        message,
        "3:10 `${host.tenant}` is not captured by every pattern of the route `a`"
    );
    assert_eq!(help, "write `{NAME}.example.com` in each of `hosts`");
    let (message, _) = error_in_route("claims = \"tenant\"");
    assert!(
        message.starts_with("3:10 `claims`: expected a table"),
        "{message}"
    );
}

#[test]
fn a_permission_that_no_role_grants_is_a_warning() {
    let (message, help) = warning(&route(
        "permissions = { GET = \"orders:raed\", \"*\" = \"orders:write\" }",
    ));
    assert_eq!(message, "3:23 no role grants `orders:raed`");
    assert_eq!(help, "did you mean `orders:read`?");
    let (message, help) = warning(&route("permissions = \"bills:pay\""));
    assert_eq!(message, "3:15 no role grants `bills:pay`");
    assert!(help.contains("add it to a role"));
    // Without any role, credentials carry permissions themselves.
    valid(&without_roles("permissions = \"bills:pay\""));
}

/// A route with these keys and one way to authenticate, `[auth.METHOD]` with more keys.
fn by(method: &str, more: &str, keys: &str) -> String {
    let auth = match method {
        "jwt.c" => {
            "issuer = \"https://id.example.com/\"\nsecret = \"0123456789abcdef0123456789abcdef\""
        }
        _ => "url = \"http://127.0.0.1:1\"",
    };
    format!(
        "[routes.a]\nupstream = \"http://a\"\n{keys}\nauth = \"{method}\"\n[auth.{method}]\n{auth}\n{more}\n"
    )
}

const VIEWER: &str = "[roles.viewer]\npermissions = \"x:read\"";

#[test]
fn what_no_credential_of_a_route_can_carry_is_a_warning() {
    let permission =
        "3:15 route `a`: nobody has `x:read`: no credential that `auth` takes can carry it";
    let roles =
        "3:1 route `a`: nobody has any of `roles`: no credential that `auth` takes can carry it";
    let claims =
        "3:1 route `a`: nobody has any of `claims`: no credential that `auth` takes can carry it";
    let roles_header = "roles_header = \"x-roles\"";
    for (method, more, keys, said) in [
        ("jwt.c", "", "permissions = \"x:read\"", permission),
        ("jwt.c", VIEWER, "permissions = \"x:read\"", permission),
        (
            "jwt.c",
            "roles_claim = \"roles\"",
            "permissions = \"x:read\"",
            permission,
        ),
        (
            "external.c",
            roles_header,
            "permissions = \"x:read\"",
            permission,
        ),
        ("jwt.c", "", "roles = \"viewer\"", roles),
        ("external.c", "", "roles = \"viewer\"", roles),
        (
            "external.c",
            roles_header,
            "claims = { tenant = \"t\" }",
            claims,
        ),
    ] {
        let (message, help) = warning(&by(method, more, keys));
        assert_eq!(message, said, "{method} {more}");
        assert!(!help.is_empty());
    }
}

#[test]
fn what_a_credential_of_a_route_may_carry_is_no_warning() {
    let roles_claim = "roles_claim = \"roles\"";
    let with_role = format!("{roles_claim}\n{VIEWER}");
    for (method, more, keys) in [
        (
            "jwt.c",
            "permissions_claim = \"scope\"",
            "permissions = \"x:read\"",
        ),
        ("jwt.c", &with_role, "permissions = \"x:read\""),
        ("jwt.c", "", "permissions = \"authenticated\""),
        ("jwt.c", roles_claim, "roles = \"viewer\""),
        ("jwt.c", "", "claims = { tenant = \"t\" }"),
        (
            "external.c",
            "roles_header = \"x-roles\"",
            "roles = \"viewer\"",
        ),
    ] {
        valid(&by(method, more, keys));
    }
}

#[test]
fn an_unknown_role_of_a_route_is_a_warning() {
    let (message, help) = warning(&route("roles = [\"editor\", \"editr\"]"));
    assert_eq!(
        message,
        "3:20 there is no role `editr`: only who carries that name has it"
    );
    assert_eq!(help, "did you mean `\"editor\"`?");
    let (_, help) = warning(&route("roles = \"billing\""));
    assert_eq!(help, "define it, if only by name: `[roles.billing]`");
    valid(&without_roles("roles = \"billing\""));
}

#[test]
fn an_unknown_role_of_users_or_of_a_limit_is_a_warning() {
    let text = |role: &str, limits: &str| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("users"), "").unwrap();
        let main = folder.path().join("gateway.toml");
        let text = format!(
            "[auth.basic.a]\nusers_file = \"users\"\nroles = [\"{role}\"]\n\
             [rate_limits.l]\nkey = \"caller\"\nquota = \"5/s\"\n{limits}\n\
             [routes.a]\nauth = \"basic.a\"\nroles = \"viewer\"\nrate_limits = \"l\"\nrespond = {{}}\n\
             [roles.viewer]\npermissions = \"x\"\n"
        );
        fs::write(&main, text).unwrap();
        let found = tollgate::config::Config::load(&main).unwrap().warnings;
        found.iter().map(said).collect::<Vec<_>>()
    };
    let found = |message: &str, help: &str| vec![(message.to_owned(), help.to_owned())];
    assert_eq!(
        text("veiwer", ""),
        found(
            "3:10 there is no role `veiwer`: it grants nothing, and no route asks for it",
            "did you mean `\"viewer\"`?"
        )
    );
    assert_eq!(
        text("viewer", "exempt = [\"10.0.0.0/8\", \"role:veiwer\"]"),
        found(
            "7:25 there is no role `veiwer`: only who carries that name has it",
            "did you mean `\"role:viewer\"`?"
        )
    );
    // A token or a key may bring any role, of which no file here knows.
    assert!(text("viewer", "overrides = { \"role:gold\" = \"9/s\" }").is_empty());
    assert!(text("viewer", "exempt = \"role:viewer\"").is_empty());
    assert!(text("gold", "exempt = \"role:gold\"").is_empty());
}

#[test]
fn rules_that_are_never_asked_are_warnings() {
    let methods = "methods = [\"GET\", \"POST\"]\n";
    let (message, _) = warning(&route(&format!(
        "{methods}permissions = {{ GET = \"orders:read\", PUT = \"orders:write\", \"*\" = \"orders:write\" }}"
    )));
    assert_eq!(
        message,
        "4:38 route `a`: the rule for `PUT` is never asked: it is not one of `methods`"
    );
    let (message, _) = warning(&route(&format!(
        "{methods}permissions = {{ GET = \"orders:read\", POST = \"orders:write\", \"*\" = \"orders:write\" }}"
    )));
    assert_eq!(
        message,
        "4:61 route `a`: the rule for `*` is never asked: each of `methods` has one of its own"
    );
    let (message, help) = warning(&route(&format!(
        "{methods}permissions = {{ GET = \"orders:read\" }}"
    )));
    assert_eq!(message, "4:1 route `a`: nobody may use `POST`");
    assert_eq!(
        help,
        "give each of `methods` a rule, or write one for `\"*\"`"
    );
    valid(&route(&format!(
        "{methods}permissions = {{ HEAD = \"orders:read\", \"*\" = \"orders:write\" }}"
    )));
}

#[test]
fn a_rule_for_calls_on_a_route_without_them_is_a_warning() {
    let text = |methods: &str| {
        route(&format!(
            "methods = [{methods}]\npermissions = {{ \"rpc:GetOrder\" = \"orders:read\", \"*\" = \"orders:write\" }}"
        ))
    };
    let (message, _) = warning(&text("\"PUT\""));
    assert_eq!(
        message,
        "4:17 route `a`: no call comes to the rule for `rpc:GetOrder`: `POST` is not one of `methods`"
    );
    valid(&text("\"POST\""));
    // Connect has calls by GET.
    valid(&text("\"GET\""));
}

#[test]
fn fields_that_get_around_rules_by_method_are_a_warning() {
    let keep = "override_headers = \"keep\"";
    let by_method = "permissions = { GET = \"orders:read\", \"*\" = \"orders:write\" }";
    for rules in [by_method, "methods = [\"GET\", \"POST\"]"] {
        let (message, help) = warning(&route(&format!("{keep}\n{rules}")));
        assert_eq!(
            message,
            "3:20 route `a`: its rules go by the method, and `override_headers` lets clients name another one to the upstream"
        );
        assert_eq!(help, "take `override_headers` out if no client needs them");
        let strip = "override_headers = \"strip\"";
        assert_eq!(findings(&route(&format!("{strip}\n{rules}"))).len(), 0);
    }
    let always = format!("{keep}\npermissions = \"orders:read\"");
    assert_eq!(findings(&route(&always)).len(), 0);
}

#[test]
fn a_group_shares_its_rules_and_a_route_replaces_them_whole() {
    let text = "[defaults]\nauth = \"jwt.c\"\n[groups.g]\nroles = [\"one\"]\n[groups.g.permissions]\nGET = \"a\"\n\"*\" = \"b\"\n\
                [routes.x]\ngroup = \"g\"\nupstream = \"http://a\"\npath = \"/x\"\nroles = [\"two\", \"inherit\"]\n\
                [routes.y]\ngroup = \"g\"\nupstream = \"http://a\"\npath = \"/y\"\npermissions = \"c\"\n";
    let config = valid(&format!("{text}{AUTH}"));
    let shown = |route: usize| format!("{:?}", config.routes[route].access.permissions);
    assert!(shown(0).contains("\"b\"") && !shown(1).contains("\"b\""));
    let roles = config.routes[0].access.roles.as_ref().unwrap();
    assert_eq!(roles.to_string(), "two or one");
}

#[test]
fn addresses_are_networks_or_names_of_sets() {
    for (line, message, help) in [
        (
            "ip = { allow = [\"office\"] }",
            "3:17 `allow`: expected a network such as \"192.0.2.0/24\", an address, or \"@NAME\" of a set, found the string `\"office\"`",
            "a set is named with `@`: write `\"@office\"`",
        ),
        (
            "ip = { allow = [\"192.0.2.1/24\"] }",
            "3:17 `allow`: the address has bits beyond its prefix",
            "write `\"192.0.2.0/24\"`",
        ),
        (
            "ip = { allow = [\"@office\"] }",
            "3:17 there is no set of networks `office`",
            "define it: `[ip_sets.office]`",
        ),
        (
            "ip = { enforce = false }",
            "3:6 `ip` needs `allow` or `deny`",
            "write for example `ip = { allow = [\"192.0.2.0/24\"] }`",
        ),
        (
            "ip = { allow = [] }",
            "3:16 `allow`: an empty list denies everybody",
            "",
        ),
        (
            "ip = { alow = [\"192.0.2.1\"], deny = [\"192.0.2.1\"] }",
            "3:8 unknown key `alow` in `[routes.a.ip]`",
            "write `allow`",
        ),
    ] {
        assert_eq!(error_in_route(line), (message.to_owned(), help.to_owned()));
    }
}

#[test]
fn the_file_of_a_set_is_checked_with_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("gateway.toml");
    let load = |list: &str| {
        fs::write(folder.path().join("office.txt"), list).unwrap();
        let text = format!("[ip_sets.office]\nfile = \"office.txt\"\n{ROUTE}");
        fs::write(&main, text).unwrap();
        tollgate::config::Config::load(&main)
    };
    let config = load("192.0.2.0/24\n").unwrap().config;
    assert_eq!(
        config.ip_sets["office"].file,
        Some(folder.path().join("office.txt"))
    );
    let findings = load("192.0.2.0/24\nhere\n").unwrap_err();
    let finding = findings.iter().next().unwrap();
    assert!(
        finding.message.ends_with("office.txt`: line 2: no network"),
        "{}",
        finding.message
    );
    assert_eq!((finding.line, finding.column), (2, 8));
    fs::remove_file(folder.path().join("office.txt")).unwrap();
    let findings = tollgate::config::Config::load(&main).unwrap_err();
    assert!(
        findings
            .iter()
            .next()
            .unwrap()
            .message
            .contains("it can't be read")
    );
}

#[test]
fn a_set_that_holds_nobody_is_a_warning() {
    let (message, _) = warning(&format!("[ip_sets.office]\ncidrs = []\n{ROUTE}"));
    assert_eq!(message, "1:10 the set `office` holds nobody");
}

#[test]
fn trusted_proxies_that_cover_an_allowed_network_are_a_warning() {
    let text = |allow: &str| {
        format!(
            "[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\n[ip_sets.office]\ncidrs = [\"10.1.0.0/16\", \"192.0.2.0/24\"]\n\
             [routes.a]\nupstream = \"http://a\"\nip = {{ allow = [{allow}] }}\n"
        )
    };
    let (message, help) = warning(&text("\"@office\""));
    assert_eq!(
        message,
        "7:17 `trusted_proxies` has `10.0.0.0/8`, which covers the allowed network `10.1.0.0/16`"
    );
    assert!(help.contains("can claim any address"));
    assert_eq!(
        warning(&text("\"10.2.3.4\"")).0.split(' ').next(),
        Some("7:17")
    );
    assert_eq!(findings(&text("\"192.0.2.0/24\", \"0.0.0.0/0\"")).len(), 0);
}

#[test]
fn allowed_networks_that_are_all_denied_are_a_warning() {
    let text = |allow: &str, deny: &str| {
        format!(
            "[routes.a]\nupstream = \"http://a\"\nip = {{ allow = [{allow}], deny = [{deny}] }}\n\
             [ip_sets.office]\ncidrs = [\"10.1.0.0/16\"]\n"
        )
    };
    for (allow, deny) in [
        ("\"10.1.2.0/24\"", "\"10.0.0.0/8\""),
        ("\"10.1.2.0/24\", \"10.1.3.4\"", "\"@office\""),
        ("\"@office\"", "\"@office\""),
        ("\"@office\"", "\"10.0.0.0/8\""),
    ] {
        let (message, help) = warning(&text(allow, deny));
        assert_eq!(
            message, "3:1 nobody may come: `deny` covers every network of `allow`",
            "{allow} {deny}"
        );
        assert!(help.contains("stands above"), "{help}");
    }
    for (allow, deny) in [
        ("\"10.0.0.0/8\"", "\"@office\""),
        ("\"@office\", \"192.0.2.0/24\"", "\"10.0.0.0/8\""),
        ("\"::/0\"", "\"0.0.0.0/0\""),
    ] {
        valid(&text(allow, deny));
    }
}

#[test]
fn rules_about_callers_need_callers() {
    let route = "[routes.a]\nupstream = \"http://a\"\n";
    for key in [
        "permissions = \"a\"",
        "roles = [\"a\"]",
        "claims = { a = 1 }",
    ] {
        let name = key.split(' ').next().unwrap();
        let (message, help) = error(&format!("{route}{key}\n"));
        let wanted = format!("3:1 `{name}` on the route `a`, which asks nobody who they are");
        assert_eq!(message, wanted);
        assert!(help.starts_with("define a way to authenticate"), "{help}");
        let (message, help) = error(&format!(
            "{route}{key}\nauth = \"public\"\n{AUTH}[routes.b]\npath = \"/b\"\nauth = \"jwt.c\"\nupstream = \"http://a\"\n"
        ));
        assert_eq!(
            (message, &*help),
            (wanted, "write for example `auth = \"jwt.c\"`")
        );
    }
}

#[test]
fn a_route_without_auth_is_told_once() {
    let (message, _) = error(&format!(
        "[routes.a]\nupstream = \"http://a\"\npermissions = \"a\"\n{AUTH}[routes.b]\npath = \"/b\"\nauth = \"jwt.c\"\nupstream = \"http://a\"\n"
    ));
    assert!(
        message.starts_with("1:9 the route `a` does not say who may call it"),
        "{message}"
    );
}

#[test]
fn a_public_route_of_a_guarded_group_is_public() {
    let text = "[groups.g]\nauth = \"jwt.c\"\npermissions = \"a\"\nclaims = { b = 1 }\n\
                [routes.open]\ngroup = \"g\"\npath = \"/open\"\nauth = \"public\"\nupstream = \"http://a\"\n\
                [routes.shut]\ngroup = \"g\"\nupstream = \"http://a\"\n";
    let config = valid(&format!("{text}{AUTH}"));
    let needs = |at: usize| config.routes[at].access.needs_principal();
    assert!(!needs(0) && needs(1));
}

#[test]
fn origins_are_words_or_origins() {
    for (line, message, help) in [
        (
            "origins = \"*\"",
            "3:11 `origins`: expected \"same-host\", \"any\", or a list of origins, found the string `\"*\"`",
            "write `\"any\"` if every page may act as its reader",
        ),
        (
            "origins = []",
            "3:11 `origins`: an empty list denies every page",
            "",
        ),
        (
            "origins = [\"any\", \"same-host\"]",
            "3:11 `origins`: \"any\" can't stand in a list",
            "",
        ),
        (
            "origins = \"https://a.test/\"",
            "3:11 `origins`: an origin has no path",
            "write `\"https://a.test\"`",
        ),
    ] {
        assert_eq!(error_in_route(line), (message.to_owned(), help.to_owned()));
    }
}

#[test]
fn a_route_that_takes_cookies_has_the_rule_same_host() {
    let jwt = |from: &str| AUTH.to_owned() + from;
    let route = "[routes.a]\nupstream = \"http://a\"\nauth = \"jwt.c\"\n";
    let origins = |from: &str| {
        let config = valid(&format!("{route}{}", jwt(from)));
        config.routes[0].origins.clone()
    };
    assert_eq!(origins(""), None);
    let rule = origins("from = [\"header:authorization\", \"cookie:session\"]\n").unwrap();
    assert!(rule.same_host && rule.only_credentials && rule.others.is_empty());
}

/// The service may ask for passwords, which browsers send again by themselves.
#[test]
fn so_has_a_route_whose_service_gets_cookies_or_authorization() {
    let has_rule = |sent: &str| {
        let config = valid(&format!(
            "[routes.a]\nupstream = \"http://a\"\nauth = \"external.e\"\n\
             [auth.external.e]\nurl = \"http://127.0.0.1:1\"\nrequest_headers = \"{sent}\"\n"
        ));
        config.routes[0].origins.is_some()
    };
    assert!(has_rule("cookie") && has_rule("authorization"));
    assert!(!has_rule("x-key"));
}
