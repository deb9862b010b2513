//! The requests that a page shows are sent as they stand there, by curl and to `tollgate demo` with the
//! page's first example, and are answered as the page says.

use super::{demo::Demo, read};

#[test]
fn the_page_on_cors_says_what_is_answered() {
    let shown = requests("docs/cors.md");
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
    let shown = requests("docs/headers.md");
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
    let shown = requests("docs/validation.md");
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

/// Sends the requests of a page to a demo with its first example, each checked against its comment.
fn requests(page: &str) -> Vec<Shown> {
    let page = read(page);
    let demo = Demo::with(between(&page, "```toml\n", "```"));
    let block = between(&page, "```sh\n", "```").replace("\\\n", " ");
    let requests = block.lines().filter(|line| line.starts_with("curl "));
    let others = block.lines().filter(|line| !line.starts_with("curl "));
    let variables: String = others.map(|line| format!("{line}\n")).collect();
    let shown: Vec<_> = requests
        .map(|line| Shown::of(line, &demo.shell(&format!("{variables}{line}"))))
        .collect();
    shown.iter().for_each(Shown::check);
    shown
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
    fn of(line: &str, answer: &str) -> Self {
        let says = line.split_once(" # ").map_or("", |(_, says)| says);
        Self {
            says: says.trim().to_owned(),
            answer: answer.to_lowercase(),
        }
    }

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

/// What stands between the first of two marks and the next of the other.
fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}
