//! The requests that a page shows are sent as they stand there, by curl and to `tollgate demo` with the
//! page's first example, and are answered as the page says.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tempfile::TempDir;

use super::{folder, read};

#[test]
fn the_page_on_cors_says_what_is_answered() {
    let shown = Demo::of("docs/cors.md").requests();
    let [allowed, other, preflight] = &shown[..] else {
        panic!("other requests than expected: {shown:#?}");
    };
    let origin = "access-control-allow-origin: https://app.example.com\r\n";
    assert!(allowed.answer.contains(origin), "{allowed:#?}");
    assert!(other.says.contains("no access-control-*"), "{other:#?}");
    assert!(!other.answer.contains("access-control-"), "{other:#?}");
    assert!(preflight.answer.contains(origin), "{preflight:#?}");
    let methods = "access-control-allow-methods: get, post, put\r\n";
    assert!(preflight.answer.contains(methods), "{preflight:#?}");
}

#[test]
fn the_page_on_headers_says_what_is_answered() {
    let shown = Demo::of("docs/headers.md").requests();
    let [edited] = &shown[..] else {
        panic!("other requests than expected: {shown:#?}");
    };
    for part in [
        "cache-control: private\r\n",
        r#""x-order":"7""#,
        r#""x-gateway":"tollgate""#,
        r#""x-seen-by":"orders 127.0.0.1""#,
    ] {
        assert!(edited.answer.contains(part), "{part} is not in {edited:#?}");
    }
    for part in ["x-debug", "x-user", "admin"] {
        assert!(!edited.answer.contains(part), "{part} is in {edited:#?}");
    }
}

#[test]
fn the_page_on_validation_says_what_is_answered() {
    let shown = Demo::of("docs/validation.md").requests();
    let statuses: Vec<_> = shown.iter().map(Shown::status).collect();
    assert_eq!(statuses, ["200", "400", "400", "415"]);
    // The page quotes the second answer.
    let page = read("docs/validation.md").to_lowercase();
    for message in [
        "value is less than the minimum of 1",
        "additional properties are not allowed ('colour' was unexpected)",
    ] {
        assert!(page.contains(message), "{message}");
        assert!(shown[1].answer.contains(message), "{:#?}", shown[1]);
    }
}

/// A request as a page shows it, and its answer.
#[derive(Debug)]
struct Shown {
    /// What the page says of the answer, in a comment.
    says: String,
    /// Head and body, in small letters.
    answer: String,
}

impl Shown {
    fn status(&self) -> &str {
        self.answer.split(' ').nth(1).unwrap_or_default()
    }

    /// A comment begins with a status other than 200, and perhaps a reason.
    fn check(&self) {
        let mut words = self.says.split([' ', ',']);
        let status = words.next().filter(|word| word.parse::<u16>().is_ok());
        assert_eq!(self.status(), status.unwrap_or("200"), "{self:#?}");
        let reason = words.next().filter(|word| word.contains('.'));
        if let (Some(_), Some(reason)) = (status, reason) {
            assert!(self.answer.contains(&format!("\"{reason}\"")), "{self:#?}");
        }
    }
}

/// A running demo with the first example of a page. It does not outlive the test.
struct Demo {
    page: String,
    folder: TempDir,
    child: Child,
    gateway: String,
}

impl Demo {
    fn of(page: &str) -> Self {
        let (page, folder) = (read(page), folder());
        let example = between(&page, "```toml\n", "```");
        let text = format!("{example}\n{FREE_PORTS}");
        fs::write(folder.path().join("gateway.toml"), text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["demo", "--config", "gateway.toml"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut demo = Self {
            page,
            folder,
            child,
            gateway: String::new(),
        };
        demo.gateway = gateway_of(&mut demo.child);
        demo
    }

    /// Sends the requests of the page, each checked against its comment.
    fn requests(&self) -> Vec<Shown> {
        let block = between(&self.page, "```sh\n", "```").replace("\\\n", " ");
        let requests = block.lines().filter(|line| line.starts_with("curl "));
        let others = block.lines().filter(|line| !line.starts_with("curl "));
        let variables: String = others.map(|line| format!("{line}\n")).collect();
        let shown: Vec<_> = requests.map(|line| self.send(&variables, line)).collect();
        shown.iter().for_each(Shown::check);
        shown
    }

    fn send(&self, variables: &str, line: &str) -> Shown {
        let script = format!("{variables}{line}").replace(WRITTEN, &self.gateway);
        let output = Command::new("sh")
            .args(["-c", &script])
            // Neither a proxy nor a .curlrc of whoever runs the tests.
            .env("NO_PROXY", "*")
            .env("HOME", self.folder.path())
            .output()
            .unwrap();
        let says = line.split_once(" # ").map_or("", |(_, says)| says);
        Shown {
            says: says.trim().to_owned(),
            answer: String::from_utf8_lossy(&output.stdout).to_lowercase(),
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the demo says that its gateway listens. What it prints is read for as long as it runs.
fn gateway_of(demo: &mut Child) -> String {
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let (sender, said) = mpsc::channel();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let gateway = line.strip_prefix("  gateway  ");
            let url = gateway.and_then(|rest| rest.split_whitespace().next());
            if let Some(url) = url {
                let _ = sender.send(url.to_owned());
            }
        }
    });
    said.recv_timeout(PATIENCE).expect("the demo starts")
}

/// What stands between the first of two marks and the next of the other.
fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}

/// Where pages say that the gateway listens.
const WRITTEN: &str = "http://127.0.0.1:8080";
const FREE_PORTS: &str = "\
[server]
listen = [\"127.0.0.1:0\"]
[admin]
listen = \"127.0.0.1:0\"
";
const PATIENCE: Duration = Duration::from_secs(20);
