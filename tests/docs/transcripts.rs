//! What pages show of a gateway is what one with the configuration beside it prints.
//!
//! In a block of ```` ```sh ```` the comments behind a command are what it prints, line by line. A block
//! of ```` ```json ```` has lines of the access log. `…` stands for anything; of ages, of times until
//! more is left and of what is left the digits count and not their value, since they go by.

use std::fmt::Write;

use regex::Regex;

use super::{
    demo::{Demo, eventually},
    read,
};
use crate::support::RedisServer;

#[test]
fn the_page_on_limits_shows_what_is_printed() {
    let mut page = Page::read("docs/limits.md");
    let demo = Demo::with(&page.example("Rate limits"));
    page.follow(&demo, "Rate limits");
    page.follow(&demo, "Looking and helping");
    let demo = Demo::with(&page.example("Trying a limit out"));
    page.follow(&demo, "Trying a limit out");
    page.was_followed();
}

#[test]
fn the_page_on_the_cache_shows_what_is_printed() {
    let mut page = Page::read("docs/cache.md");
    let demo = Demo::with(&page.example("The response cache"));
    for heading in ["The response cache", "Why is it not kept?", "Purging"] {
        page.follow(&demo, heading);
    }
    let redis = RedisServer::start();
    let shared = at(&redis.url(), &page.example("Several gateways"));
    let [one, another] = [(); 2].map(|()| Demo::with(&shared));
    let blocks = page.take("Several gateways", "sh");
    let [stores, finds] = &blocks[..] else {
        panic!("other blocks than expected: {blocks:#?}");
    };
    run(&one, stores);
    // Nobody waits for storing.
    let metrics = || one.shell("curl -s http://127.0.0.1:9901/metrics");
    let stored = eventually(|| metrics().contains(STORED).then_some(()));
    assert!(stored.is_some(), "{}", metrics());
    run(&another, finds);
    page.was_followed();
}

#[test]
fn the_page_on_redis_shows_what_is_printed() {
    const TITLE: &str = "What gateways share over Redis";
    let mut page = Page::read("docs/redis.md");
    let redis = RedisServer::start();
    // The gateway gets no more rights than the page says.
    let rights = page.take(TITLE, "text").concat();
    let said = redis.run(rights.trim());
    assert!(said.starts_with("+OK"), "{rights}: {said}");
    // A set is read at the start, and not again before the test has ended.
    for line in page.take("Revoked tokens", "sh").concat().lines() {
        if let Some(command) = line.strip_prefix("redis-cli ") {
            redis.run(command);
        }
    }
    let url = format!("redis://gate:PASSWORD@127.0.0.1:{}", redis.port());
    let demo = Demo::with(&at(&url, &page.example(TITLE))).beside_redis(redis.port());
    for heading in [TITLE, "Purges", "Revoked tokens"] {
        page.follow(&demo, heading);
    }
    page.was_followed();
}

#[test]
fn what_goes_by_is_compared_by_its_digits_and_all_else_as_it_stands() {
    let is_as_shown = |shown: &str, line: &str| pattern(shown).is_match(line);
    assert!(is_as_shown("retry-after: 3", "retry-after: 1"));
    assert!(!is_as_shown("retry-after: 3", "retry-after: 60"));
    assert!(is_as_shown("\"a\";r=19;t=3", "\"a\";r=19;t=2"));
    assert!(!is_as_shown("\"a\";r=19;t=3", "\"a\";r=18;t=3"));
    assert!(is_as_shown(
        "{…,\"status\":200}",
        "{\"a\":1,\"status\":200}"
    ));
    assert!(!is_as_shown(
        "{…,\"status\":200}",
        "{\"a\":1,\"status\":2001}"
    ));
}

/// A page, and which of its parts were not followed yet.
struct Page {
    name: &'static str,
    /// A heading and what stands under it.
    parts: Vec<Part>,
}

struct Part {
    text: String,
    followed: bool,
}

impl Page {
    fn read(name: &'static str) -> Self {
        let text = read(name);
        let parts = text.split("\n## ").map(|text| Part {
            text: text.to_owned(),
            followed: false,
        });
        Self {
            name,
            parts: parts.collect(),
        }
    }

    /// The first whole configuration under a heading.
    #[track_caller]
    fn example(&mut self, heading: &str) -> String {
        let examples = blocks(&self.part(heading).text, "toml");
        examples.into_iter().next().expect("it has an example")
    }

    /// Runs what stands under a heading, and looks for its lines in the access log.
    #[track_caller]
    fn follow(&mut self, demo: &Demo, heading: &str) {
        for block in self.take(heading, "sh") {
            run(demo, &block);
        }
        for block in self.take(heading, "json") {
            for shown in block.lines() {
                let pattern = pattern(shown);
                demo.logs(shown, |line| pattern.is_match(line));
            }
        }
    }

    /// The blocks of a kind under a heading, which are followed then.
    #[track_caller]
    fn take(&mut self, heading: &str, kind: &str) -> Vec<String> {
        let part = self.part(heading);
        part.followed = true;
        blocks(&part.text, kind)
    }

    #[track_caller]
    fn part(&mut self, heading: &str) -> &mut Part {
        let name = self.name;
        let mut parts = self.parts.iter_mut();
        let part = parts.find(|part| part.heading() == heading);
        part.unwrap_or_else(|| panic!("{name} has no heading {heading}"))
    }

    /// No part shows what no test has run.
    #[track_caller]
    fn was_followed(&self) {
        let shows = |part: &&Part| {
            let has = |kind| !blocks(&part.text, kind).is_empty();
            has("sh") || has("json")
        };
        let left = self.parts.iter().filter(|part| !part.followed);
        let left: Vec<_> = left.filter(shows).map(Part::heading).collect();
        assert!(left.is_empty(), "{}: {left:?}", self.name);
    }
}

impl Part {
    fn heading(&self) -> &str {
        let line = self.text.lines().next().unwrap_or_default();
        // The title's mark stands before the first heading of the second order.
        line.trim_start_matches("# ")
    }
}

/// The fenced blocks of a kind.
fn blocks(text: &str, kind: &str) -> Vec<String> {
    let fence = format!("\n```{kind}\n");
    let behind = text.split(fence.as_str()).skip(1);
    let blocks = behind.map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.map(str::to_owned).collect()
}

/// A configuration with that Redis in the place of the page's. A machine that is slow for a moment is no
/// Redis that is away, so calls may take long.
#[track_caller]
fn at(url: &str, example: &str) -> String {
    let lines = example
        .lines()
        .filter(|line| !line.starts_with("timeout = "));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let written = "url = \"redis://127.0.0.1:6379\"";
    assert!(text.contains(written), "{written} is not in {text}");
    text.replace(written, &format!("url = \"{url}\"\ntimeout = \"5s\""))
}

/// Runs the commands of a block; they print what it shows.
#[track_caller]
fn run(demo: &Demo, block: &str) {
    let mut variables = String::new();
    for step in steps(block) {
        if step.is_assignment() {
            variables.push_str(&step.command);
            variables.push('\n');
            continue;
        }
        step.check(&demo.shell(&format!("{variables}{}", step.command)));
    }
}

/// A command, and what the page says that it prints.
#[derive(Debug)]
struct Step {
    command: String,
    prints: Vec<String>,
}

fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.replace("\\\n", " ").lines() {
        match (line.strip_prefix("# "), steps.last_mut()) {
            (Some(shown), Some(step)) => step.prints.push(shown.to_owned()),
            _ => steps.push(Step {
                command: line.to_owned(),
                prints: Vec::new(),
            }),
        }
    }
    steps
}

impl Step {
    fn is_assignment(&self) -> bool {
        let name = self.command.split('=').next().unwrap_or_default();
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.len() < self.command.len() && name.chars().all(is_of_name)
    }

    /// A page need not show what a command prints.
    #[track_caller]
    fn check(&self, printed: &str) {
        if self.prints.is_empty() {
            return;
        }
        let lines: Vec<&str> = printed.lines().collect();
        let mut pairs = self.prints.iter().zip(&lines);
        let is_as_shown = pairs.all(|(shown, line)| pattern(shown).is_match(line));
        assert!(
            is_as_shown && lines.len() == self.prints.len(),
            "{self:#?} has printed:\n{printed}"
        );
    }
}

/// What a shown line stands for.
fn pattern(shown: &str) -> Regex {
    let mut pattern = String::from("^");
    let mut from = 0;
    for found in Regex::new(VARIES).unwrap().captures_iter(shown) {
        let whole = found.get(0).unwrap();
        pattern.push_str(&regex::escape(&shown[from..whole.start()]));
        from = whole.end();
        let _ = match (found.get(1), found.get(2)) {
            (Some(name), Some(number)) => {
                let (name, digits) = (regex::escape(name.as_str()), number.as_str().len());
                write!(pattern, "{name}\\d{{1,{digits}}}")
            }
            _ => pattern.write_str(".+"),
        };
    }
    pattern.push_str(&regex::escape(&shown[from..]));
    pattern.push('$');
    Regex::new(&pattern).unwrap()
}

/// Anything, or a name and a number that goes by.
const VARIES: &str = r#"…|(age: |ttl=|retry-after: |;t=|"remaining":)(\d+)"#;
/// The series of the first answer that was written to Redis.
const STORED: &str = "tollgate_cache_redis_stores_total{result=\"stored\"} 1";
