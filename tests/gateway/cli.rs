//! The command as a person or a supervisor meets it: output, exit status, signals.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod keys;
mod token;

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tollgate::cli::DemoBackend;

#[test]
fn check_accepts_a_good_file() {
    let folder = folder("[routes.all]\nupstream = \"http://127.0.0.1:1\"\n");
    let (status, out, _) = run(folder.path(), &["check"]);
    assert_eq!(status, 0);
    assert_eq!(out, "gateway.toml: good (1 route, 1 upstream)\n");
}

/// The allocator complains on standard error about what it does not know.
#[test]
fn the_setting_of_the_allocator_that_the_documentation_names_is_one() {
    let page = include_str!("../../docs/operations.md");
    let named = page
        .split('`')
        .find_map(|code| code.strip_prefix("_RJEM_MALLOC_CONF="));
    let folder = folder(ANSWERS);
    for (value, is_one) in [
        (named.expect("the page names one"), true),
        ("thp:some", false),
    ] {
        let mut command = tollgate(folder.path(), &["check"]);
        let output = command.env("_RJEM_MALLOC_CONF", value).output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stderr.is_empty(), is_one, "{output:?}");
    }
}

#[test]
fn check_tells_what_a_lease_may_let_through() {
    let folder = folder(
        "[redis]\nurl = 'redis://127.0.0.1:1'\n\
         [routes.all]\nrespond = {}\nrate_limits = ['one', 'exact']\n\
         [rate_limits.one]\nkey = 'client_ip'\nquota = '500/1m'\nstore = 'redis'\nlease = 50\n\
         [rate_limits.exact]\nkey = 'client_ip'\nquota = '500/1m'\nstore = 'redis'\n",
    );
    let (status, out, _) = run(folder.path(), &["check"]);
    assert_eq!(status, 0);
    assert_eq!(out.matches("lease").count(), 1, "{out}");
    let told = "limit `one`: with its lease each gateway may let 49 more through in a window than the quota says\n";
    assert!(out.contains(told), "{out}");
}

#[test]
fn check_tells_that_each_tier_has_leases_of_its_own() {
    let folder = folder(
        "[redis]\nurl = 'redis://127.0.0.1:1'\n\
         [auth.jwt.main]\nsecret = 'a secret of at least 32 bytes, for tests'\nroles_claim = 'roles'\n\
         [routes.all]\nrespond = {}\nauth = 'jwt.main'\nrate_limits = ['one']\n\
         [rate_limits.one]\nkey = 'claim:tenant'\nquota = '500/1m'\nstore = 'redis'\nlease = 50\n\
         [rate_limits.one.overrides]\n'role:gold' = '5000/1m'\n",
    );
    let (status, out, _) = run(folder.path(), &["check"]);
    assert_eq!(status, 0, "{out}");
    let told = "49 more through in a window than the quota says, for each tier of a caller\n";
    assert!(out.contains(told), "{out}");
}

#[test]
fn check_tells_all_findings_of_a_bad_file_and_ends_with_78() {
    let folder = folder("[server]\nlissten = []\n[routes.all]\nupstrem = \"x\"\n");
    let (status, out, err) = run(folder.path(), &["check"]);
    assert_eq!(status, 78);
    assert_eq!(out, "");
    assert!(
        err.contains("lissten") && err.contains("gateway.toml:2:"),
        "{err}"
    );
    assert!(
        err.contains("upstrem") && err.contains("gateway.toml:4:"),
        "{err}"
    );
    assert!(!err.contains('\u{1b}'), "no colours where no terminal is");
}

#[test]
fn a_missing_file_is_bad_configuration_and_says_what_else_can_be_done() {
    let empty = TempDir::new().unwrap();
    for arguments in [&["check"][..], &["run"], &[]] {
        let (status, _, err) = run(empty.path(), arguments);
        assert_eq!(status, 78, "{arguments:?}");
        assert!(
            err.contains("gateway.toml") && err.contains("--to URL"),
            "{err}"
        );
    }
}

#[test]
fn bad_usage_ends_with_2() {
    let empty = TempDir::new().unwrap();
    for arguments in [
        &["frobnicate"][..],
        &["run", "--to", "http://127.0.0.1:1", "--config", "x"],
        &["run", "--listen", "127.0.0.1:0"],
        &["run", "--to", "http://127.0.0.1:1", "--listen", "nowhere"],
        &["run", "--to", "not a url"],
        &["roles", "who-can", "get", "/x"],
    ] {
        let (status, _, err) = run(empty.path(), arguments);
        assert_eq!(status, 2, "{arguments:?}: {err}");
        assert!(!err.is_empty());
    }
}

const GUARDED: &str = r#"
[auth.jwt.customers]
issuer = "https://id.example.com/"
algorithms = ["HS256"]
secret = "0123456789abcdef0123456789abcdef"
roles_claim = "roles"
[roles.viewer]
permissions = ["orders:read"]
[roles.editor]
includes = ["viewer"]
permissions = ["orders:write"]
[roles.exporter]
permissions = ["orders:export"]
[ip_sets.office]
cidrs = ["192.0.2.0/24"]
[routes.orders]
hosts = ["{tenant}.example.com"]
path = "/orders/**"
methods = ["GET", "PUT", "POST", "DELETE"]
auth = "jwt.customers"
claims = { tenant = "${host.tenant}" }
ip = { allow = ["@office"], deny = ["192.0.2.9"] }
upstream = "http://127.0.0.1:1"
[routes.orders.permissions]
GET = "orders:read"
PUT = { all = ["orders:write", "orders:export"] }
POST = ["orders:write", "orders:export"]
DELETE = "orders:write"
[routes.reports]
path = "/reports"
match_headers = { x-beta = "1" }
auth = ["jwt.customers", "anonymous"]
roles = ["exporter"]
permissions = { GET = "authenticated" }
rbac = { enforce = false }
upstream = "http://127.0.0.1:1"
[routes.open]
path = "/open"
auth = "public"
upstream = "http://127.0.0.1:1"
"#;

/// What `roles who-can` says about a request, without its first line, and the exit status.
fn who_can(arguments: &[&str]) -> (i32, String) {
    let folder = folder(GUARDED);
    let (status, out, err) = run(folder.path(), &[&["roles", "who-can"], arguments].concat());
    assert_eq!(err, "");
    let (_, answer) = out.split_once('\n').unwrap();
    (status, answer.to_owned())
}

#[test]
fn who_can_tells_what_a_request_needs_and_who_has_it() {
    let host = ["--host", "acme.example.com"];
    let of = |method: &str| who_can(&[&[method, "/orders/x/../1?a=b"], &host[..]].concat());
    let (status, answer) = of("DELETE");
    let wanted = "  route       orders
  auth        jwt.customers
  address     only @office; not 192.0.2.9/32
  permission  orders:write (granted by editor)
  claim       tenant = \"${host.tenant}\"
  may         whoever has the role editor and that claim
";
    assert_eq!((status, &*answer), (0, wanted));
    let verdict = |method: &str| of(method).1.lines().last().unwrap().trim().to_owned();
    let may = "may         whoever has";
    assert_eq!(
        verdict("HEAD"),
        format!("{may} the role editor or viewer and that claim")
    );
    assert_eq!(
        verdict("POST"),
        format!("{may} the role editor or exporter and that claim")
    );
    let wanted = format!("{may} all of that and that claim; no single role is enough");
    assert_eq!(verdict("PUT"), wanted);
}

#[test]
fn who_can_says_what_the_page_shows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/authorization.md");
    let page = fs::read_to_string(path).unwrap();
    let block = |fence: &str| {
        let (_, rest) = page.split_once(fence).unwrap();
        rest.split("```").next().unwrap().to_owned()
    };
    let (command, shown) = {
        let text = block("```text\n$ tollgate ");
        let (command, shown) = text.split_once('\n').unwrap();
        (command.to_owned(), shown.to_owned())
    };
    let folder = folder(&block("```toml\n"));
    let arguments: Vec<&str> = command.split(' ').collect();
    let (status, out, err) = run(folder.path(), &arguments);
    assert_eq!((status, out, err), (0, shown, String::new()));
}

#[test]
fn who_can_names_the_api_keys_that_may() {
    let folder = folder(
        r#"
        [auth.api_keys.partners]
        keys_file = "keys.toml"
        [roles.reader]
        permissions = ["orders:read"]
        [routes.orders]
        auth = "api_keys.partners"
        permissions = { GET = "orders:read", PUT = "orders:write" }
        upstream = "http://127.0.0.1:1"
        "#,
    );
    let key =
        |id: &str, more: &str| format!("[keys.{id}]\nhash = \"sha256:{:064}\"\n{more}\n", id.len());
    let keys = [
        key("one", "roles = [\"reader\"]"),
        key("four", "permissions = [\"orders:*\"]"),
        key(
            "revoked",
            "roles = [\"reader\"]\nrevoked = 2020-01-01T00:00:00Z",
        ),
        key("other-route", "roles = [\"reader\"]\nroutes = [\"other\"]"),
        key("stranger", "roles = [\"stranger\"]"),
    ];
    fs::write(folder.path().join("keys.toml"), keys.concat()).unwrap();
    for (method, wanted) in [("GET", "four, one"), ("PUT", "four")] {
        let (status, out, err) = run(folder.path(), &["roles", "who-can", method, "/x"]);
        assert_eq!(status, 0, "{err}");
        let last = out.lines().last().unwrap();
        assert_eq!(last, format!("  keys        api_keys.partners: {wanted}"));
    }
}

#[test]
fn who_can_tells_a_call_from_another_request_of_its_name() {
    let folder = folder(
        r#"
        [auth.jwt.customers]
        secret = "0123456789abcdef0123456789abcdef"
        [roles.reader]
        permissions = ["orders:read"]
        [roles.editor]
        includes = ["reader"]
        permissions = ["orders:write"]
        [routes.shop]
        auth = "jwt.customers"
        permissions = { "rpc:GetOrder" = "orders:read", "*" = "orders:write" }
        upstream = "http://127.0.0.1:1"
        "#,
    );
    let ask = ["roles", "who-can", "POST", "/shop.v1.Orders/GetOrder"];
    let may = |more: &[&str]| {
        let (_, out, _) = run(folder.path(), &[&ask[..], more].concat());
        out.lines().last().unwrap().trim_start().to_owned()
    };
    let grpc = ["--header", "content-type: application/grpc"];
    assert_eq!(
        may(&grpc),
        "may         whoever has the role editor or reader"
    );
    assert_eq!(may(&[]), "may         whoever has the role editor");
}

#[test]
fn who_can_follows_the_router_and_says_nobody_with_status_1() {
    for (arguments, wanted) in [
        (
            &["PATCH", "/orders/1", "--host", "a.example.com"][..],
            "  nobody: 405 route.method_not_allowed\n",
        ),
        (
            &["GET", "/reports"],
            "  nobody: 404 route.not_found\n  some routes are for certain hosts: name one with --host\n",
        ),
        (
            &["TRACE", "/open"],
            "  nobody: 405 request.method_refused\n",
        ),
        (
            &["GET", "/open/../../x"],
            "  nobody: 400 request.target_invalid\n",
        ),
    ] {
        assert_eq!(who_can(arguments), (1, wanted.to_owned()), "{arguments:?}");
    }
    let beta = ["--header", "x-beta: 1"];
    let (status, answer) = who_can(&[&["GET", "/reports"], &beta[..]].concat());
    let wanted = "  route       reports
  auth        jwt.customers, or no credential at all
  permission  to be known is enough, not enforced
  role        exporter (held by exporter), not enforced
  may         anybody
";
    assert_eq!((status, &*answer), (0, wanted));
    let (status, answer) = who_can(&[&["PUT", "/reports"], &beta[..]].concat());
    assert_eq!(status, 0, "it is not enforced: {answer}");
    let (status, answer) = who_can(&["GET", "/open"]);
    assert_eq!(
        (status, &*answer),
        (
            0,
            "  route       open\n  auth        none\n  may         anybody\n"
        )
    );
}

#[test]
fn help_names_every_command_and_is_a_success() {
    let empty = TempDir::new().unwrap();
    let (status, out, _) = run(empty.path(), &["--help"]);
    assert_eq!(status, 0);
    for command in [
        "run",
        "check",
        "routes",
        "roles",
        "reference",
        "demo",
        "health",
        "key",
        "token",
        "purge",
    ] {
        assert!(out.contains(&format!("\n  {command} ")), "{command}");
    }
}

#[test]
fn routes_are_printed_in_the_order_in_which_they_are_tried() {
    let folder = folder(
        r#"
        [routes.all]
        respond = { status = 204 }
        [routes.deep]
        path = "/a/**"
        respond = { status = 204 }
        [routes.one]
        path = "/a/{x}"
        respond = { status = 204 }
        [routes.fixed]
        path = "/a/b"
        respond = { status = 204 }
        [routes.reading]
        path = "/a/b"
        methods = ["GET"]
        respond = { status = 204 }
        [routes.wild]
        hosts = ["**.example.com"]
        respond = { status = 204 }
        [routes.tenant]
        hosts = ["{t}.example.com"]
        respond = { status = 204 }
        [routes.exact]
        hosts = ["a.example.com"]
        respond = { status = 204 }
        "#,
    );
    let (status, out, err) = run(folder.path(), &["routes"]);
    assert_eq!(status, 0, "{err}");
    let names: Vec<&str> = out
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().rev().nth(2))
        .collect();
    let order = [
        "exact", "tenant", "wild", "reading", "fixed", "one", "deep", "all",
    ];
    assert_eq!(names, order, "{out}");
}

#[test]
fn a_gateway_without_a_file_forwards_everything() {
    let backend = DemoBackend::start().unwrap();
    let to = format!("http://{}", backend.address());
    let empty = TempDir::new().unwrap();
    let gateway = Running::start(
        empty.path(),
        &[
            "run",
            "--to",
            &to,
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ],
    );
    assert!(gateway.get("/items/3").contains("chisel"));
}

#[test]
fn without_a_file_the_admin_listener_is_never_one_that_others_reach() {
    let empty = TempDir::new().unwrap();
    let to = ["run", "--to", "http://127.0.0.1:1"];
    let (status, _, err) = run(empty.path(), &[&to[..], &["--admin", "0.0.0.0:0"]].concat());
    assert_eq!(status, 2);
    assert!(err.contains("needs a token"), "{err}");
}

#[test]
fn an_address_that_is_taken_is_a_failure_at_run_time() {
    let owner = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = folder(&format!(
        "[server]\nlisten = [\"{}\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n{ANSWERS}",
        owner.local_addr().unwrap()
    ));
    let (status, _, err) = run(folder.path(), &[]);
    assert_eq!(status, 1);
    assert!(err.contains("can't listen on"), "{err}");
}

#[test]
fn what_can_t_be_opened_is_named() {
    let owner = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = owner.local_addr().unwrap();
    let of_admin = folder(&format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"{taken}\"\n{ANSWERS}"
    ));
    let (status, _, err) = run(of_admin.path(), &[]);
    assert_eq!(status, 1);
    assert!(
        err.contains(&format!("[admin]: can't listen on {taken}")) && err.contains("help: "),
        "{err}"
    );
    let of_log = folder(&format!(
        "{QUICK}[log.access]\nfile = \"no/such/access.log\"\n{ANSWERS}"
    ));
    let (status, _, err) = run(of_log.path(), &[]);
    assert_eq!(status, 1);
    assert!(err.contains("the access log no/such/access.log"), "{err}");
}

#[test]
fn a_signal_drains_and_ends_with_0() {
    for signal in ["TERM", "INT"] {
        let folder = folder(&format!("{QUICK}{ANSWERS}"));
        let mut gateway = Running::start(folder.path(), &[]);
        assert!(gateway.get("/").starts_with("HTTP/1.1 200"));
        gateway.signal(signal);
        assert_eq!(gateway.wait().code(), Some(0), "{signal}");
    }
}

/// The demo's backend, and a folder whose configuration leads to it.
fn in_front_of_a_backend() -> (DemoBackend, TempDir) {
    let backend = DemoBackend::start().unwrap();
    let route = format!(
        "[routes.all]\nupstream = \"http://{}\"\n",
        backend.address()
    );
    let folder = folder(&format!("{QUICK}{route}"));
    (backend, folder)
}

#[test]
fn a_request_under_way_is_finished_before_the_end() {
    let (_backend, folder) = in_front_of_a_backend();
    let mut gateway = Running::start(folder.path(), &[]);
    let mut events = gateway.ask("/events?count=2");
    read_until(&mut events, "\"number\":1");
    gateway.signal("TERM");
    read_until(&mut events, "\"number\":2");
    drop(events);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once_with_1() {
    let (_backend, folder) = in_front_of_a_backend();
    let mut gateway = Running::start(folder.path(), &[]);
    let mut slow = gateway.ask("/events?count=3600");
    read_until(&mut slow, "\"number\":1");
    gateway.signal("TERM");
    gateway.logged("draining");
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(1));
}

#[test]
fn hangup_reloads_the_file_and_a_bad_one_changes_nothing() {
    let folder = folder(&format!("{QUICK}{ANSWERS}"));
    let file = folder.path().join("gateway.toml");
    let gateway = Running::start(folder.path(), &[]);

    fs::write(&file, format!("{QUICK}nonsense = true")).unwrap();
    gateway.signal("HUP");
    gateway.logged("refused");
    assert!(gateway.get("/").contains("first"));

    fs::write(
        &file,
        format!("{QUICK}{}", ANSWERS.replace("first", "second")),
    )
    .unwrap();
    gateway.signal("HUP");
    gateway.logged("reloaded");
    assert!(gateway.get("/").contains("second"));
}

#[test]
fn user_signal_1_opens_the_access_log_anew() {
    let folder = folder(&format!(
        "{QUICK}[log.access]\nfile = \"access.log\"\n{ANSWERS}"
    ));
    let (log, old) = (
        folder.path().join("access.log"),
        folder.path().join("access.log.1"),
    );
    let mut gateway = Running::start(folder.path(), &[]);
    gateway.get("/before");
    wait_for(|| fs::read_to_string(&log).unwrap().contains("/before"));
    fs::rename(&log, &old).unwrap();
    gateway.signal("USR1");
    wait_for(|| log.exists());
    gateway.get("/after");
    gateway.signal("TERM");
    gateway.wait();
    assert!(fs::read_to_string(old).unwrap().contains("/before"));
    assert!(fs::read_to_string(log).unwrap().contains("/after"));
}

#[test]
fn health_tells_how_a_running_gateway_is() {
    let folder = folder(&format!("{QUICK}{ANSWERS}"));
    let gateway = Running::start(folder.path(), &[]);
    let ask = ["health", "--ready", "--admin", gateway.admin()];
    let (status, out, _) = run(folder.path(), &ask);
    assert_eq!(status, 0);
    assert!(out.contains(r#""status":"ok""#), "{out}");
}

#[test]
fn the_demo_needs_nothing_and_ends_well() {
    let empty = TempDir::new().unwrap();
    let mut demo = Running::spawn(empty.path(), &["demo"]);
    let gateway = demo.printed("  gateway  http://");
    let gateway = gateway.split_whitespace().next().unwrap().to_owned();
    let token = demo.printed("     TOKEN=");
    let key = demo.printed("     KEY=");
    let line = demo.printed("     curl -i -H");
    assert!(line.contains("/api/echo"));
    demo.printed("Ctrl-C");
    demo.gateway = gateway;
    let answer = demo.get("/api/items?limit=1");
    assert!(answer.contains("anvil"), "{answer}");
    callers_are_told_apart(&demo, &token, &key);
    demo.signal("INT");
    assert_eq!(demo.wait().code(), Some(0));
    let left: Vec<_> = fs::read_dir(empty.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn callers_are_told_apart(demo: &Running, token: &str, key: &str) {
    let nobody = demo.get("/private/items/3");
    assert!(nobody.starts_with("HTTP/1.1 401"), "{nobody}");
    let alice = demo.get_with("/private/echo", &format!("Authorization: Bearer {token}"));
    assert!(alice.contains(r#""x-user-id":"alice""#), "{alice}");
    let bearer = format!("Authorization: Bearer {token}");
    let forbidden = demo.send_with("DELETE", "/private/items/3", &bearer);
    assert!(forbidden.starts_with("HTTP/1.1 403"), "{forbidden}");
    assert!(forbidden.contains("rbac.denied"), "{forbidden}");
    let partner = demo.get_with("/private/items/3", &format!("X-Api-Key: {key}"));
    assert!(partner.starts_with("HTTP/1.1 200"), "{partner}");
    let stranger = demo.get_with("/private/items/3", "Authorization: Bearer made.up.token");
    assert!(stranger.contains("auth.jwt."), "{stranger}");
}

#[test]
fn the_demo_of_another_file_adds_no_callers() {
    let folder = folder(&format!("{QUICK}{ANSWERS}"));
    let mut demo = Running::spawn(folder.path(), &["demo"]);
    let gateway = demo.printed("  gateway  http://");
    demo.gateway = gateway.split_whitespace().next().unwrap().to_owned();
    demo.printed("(They were written for the file that Tollgate ships");
    assert!(demo.get("/private/items/3").contains("first"));
}

/// Free ports, and a drain that does not wait for a load balancer.
const QUICK: &str = "\
[admin]
listen = \"127.0.0.1:0\"
[server]
listen = [\"127.0.0.1:0\"]
[server.drain]
delay = \"0s\"
grace = \"0s\"
";

const ANSWERS: &str = "\
[routes.all]
respond = { body = \"first\" }
";

fn folder(configuration: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("gateway.toml"), configuration).unwrap();
    folder
}

fn tollgate(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .args(arguments)
        .current_dir(folder)
        // What is left behind anywhere is left where tests look.
        .env("TMPDIR", folder)
        .stdin(Stdio::null());
    command
}

/// Runs to the end: exit status, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = tollgate(folder, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let status = output.status.code().unwrap();
    (status, text(output.stdout), text(output.stderr))
}

/// A gateway process; it does not outlive the test.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// `host:port`.
    gateway: String,
    admin: String,
}

impl Running {
    /// Starts a gateway and waits until it listens.
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut running = Self::spawn(folder, arguments);
        let field = |line: &str, name: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line[name].as_str().unwrap().to_owned()
        };
        running.gateway = field(&running.logged(r#""listening""#), "address");
        running.admin = field(&running.logged(r#""admin listening""#), "admin");
        running
    }

    fn spawn(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = tollgate(folder, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        forward(child.stdout.take().unwrap(), sender.clone());
        forward(child.stderr.take().unwrap(), sender);
        Self {
            child,
            lines,
            gateway: String::new(),
            admin: String::new(),
        }
    }

    fn admin(&self) -> &str {
        &self.admin
    }

    /// The next line with this text, of the log or of the output.
    fn logged(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with {text}: {seen:#?}"),
            }
        }
    }

    /// What follows a text on the line that begins with it.
    fn printed(&self, start: &str) -> String {
        let line = self.logged(start);
        line.strip_prefix(start).unwrap().to_owned()
    }

    /// The answer to a GET with a header field more.
    fn get_with(&self, path: &str, field: &str) -> String {
        self.send_with("GET", path, field)
    }

    fn send_with(&self, method: &str, path: &str, field: &str) -> String {
        let mut stream = TcpStream::connect(&self.gateway).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: a\r\n{field}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Sends a request and leaves its answer to be read.
    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.gateway).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        stream
    }

    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        self.ask(path).read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        // The shell's own kill: a program of that name is not everywhere.
        let kill = ["-c", r#"kill -s "$0" "$1""#, signal, &pid];
        let sent = Command::new("sh").args(kill).status();
        assert!(sent.unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends each line of a stream on.
fn forward(stream: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // The test may have ended.
            let _ = lines.send(line);
        }
    });
}

fn read_until(stream: &mut TcpStream, text: &str) {
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.contains(text) {
        let length = match stream.read(&mut buffer) {
            // A read with a timeout is not started again after a signal.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert!(length > 0, "the answer ended without {text}: {seen}");
        seen += &String::from_utf8_lossy(&buffer[..length]);
    }
}

/// What another process does can only be waited for.
fn wait_for(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long");
        thread::sleep(Duration::from_millis(10));
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
