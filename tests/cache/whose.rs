//! Random callers, requests and answers, and whose answer may be served to whom: for every cache.

// Test files are crates of their own: nothing in them is public.
#![allow(unreachable_pub)]

use std::{env, str::FromStr};

use fastrand::Rng;
use http::Response;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use crate::support::{BoxBody, Sent, answer};

pub const AUTH: &str = "[auth.jwt.t]\nsecret = 'a secret of thirty-two bytes or more'\n";
const CLAIMS: &str = "forward_claims = { x-tenant = 'tenant' }\n";

/// Cache rules under which callers are tried.
pub const RULES: [&str; 5] = [
    "",
    "scope = 'shared'\ndefault_ttl = '1m'",
    "scope = 'principal'\ndefault_ttl = '1m'",
    "scope = 'principal'\noverride_ttl = '1m'\nset_cookie = true",
    "scope = 'shared'\nstale_while_revalidate = '1m'\nrequest_directives = true",
];

const CONTROLS: [&str; 8] = [
    "",
    "max-age=60",
    "public, max-age=60",
    "s-maxage=60",
    "private, max-age=60",
    "no-cache",
    "max-age=60, must-revalidate",
    "max-age=0, stale-while-revalidate=60",
];
const VARIES: [&str; 6] = ["", "x-a", "X-A, accept", "authorization", "cookie", "*"];
/// The fields that tell who asks.
const WHO: [&str; 3] = ["authorization", "x-a", "cookie"];
/// The last of three answers of a kind sets a cookie.
const SETS_COOKIE: usize = 2;

/// What a test tries at random: the same in each run, so that what fails does so again, unless
/// `TOLLGATE_TEST_SEED` and `TOLLGATE_TEST_CASES` say what else, and how many requests. Of fewer than usual
/// there may be none that share an answer, which the tests ask for too.
pub struct Trials {
    pub random: Rng,
    pub cases: usize,
}

impl Trials {
    pub fn of(seed: u64, cases: usize) -> Self {
        let (seed, cases) = (told(SEED, seed), told(CASES, cases));
        // The output of a test that passes is not shown.
        println!("{SEED}={seed} {CASES}={cases}");
        Self {
            random: Rng::with_seed(seed),
            cases,
        }
    }
}

/// A number that a variable of the environment holds.
fn told<T: FromStr>(name: &str, usual: T) -> T {
    match env::var(name) {
        Ok(text) => match text.parse() {
            Ok(number) => number,
            Err(_) => panic!("{name} is no number: {text}"),
        },
        Err(_) => usual,
    }
}

/// A token of a subject, as a field value.
pub fn bearer(subject: &str) -> String {
    signed(&json!({ "sub": subject, "exp": 99_999_999_999_u64 }))
}

/// A token of a subject that expires then.
pub fn bearer_until(subject: &str, expires: u64) -> String {
    signed(&json!({ "sub": subject, "exp": expires }))
}

/// A token that says more of its subject.
pub fn bearer_for(subject: &str, tenant: &str) -> String {
    signed(&json!({ "sub": subject, "tenant": tenant, "exp": 99_999_999_999_u64 }))
}

fn signed(claims: &serde_json::Value) -> String {
    let key = EncodingKey::from_secret(b"a secret of thirty-two bytes or more");
    let token = encode(&Header::default(), claims, &key).expect("a token");
    format!("Bearer {token}")
}

/// A route for known callers and one for all, both with this rule.
pub fn configuration(rule: &str) -> String {
    format!(
        "{AUTH}{CLAIMS}\
         [routes.site]\nupstream = 'ORIGIN'\nauth = ['jwt.t', 'anonymous']\n\
         [routes.site.cache]\n{rule}\n\
         [routes.open]\nupstream = 'ORIGIN'\npath = '/open/**'\nauth = 'public'\n\
         [routes.open.cache]\n{rule}\n"
    )
}

/// What the origin answers: its fields by the target; to whom stands in the body, in a field and in the
/// cookie, if it sets one.
pub fn answered<'h>(target: &str, header: impl Fn(&str) -> Option<&'h str>) -> Response<BoxBody> {
    let parts: Vec<_> = target.split('/').collect();
    let number = |at: usize| parts[at].parse::<usize>().expect("a number");
    let (control, vary) = (CONTROLS[number(2)], VARIES[number(3)]);
    let who = WHO.map(|name| header(name).unwrap_or("-")).join("|");
    let cookie = match number(4) {
        SETS_COOKIE => format!("{COOKIE}{who}"),
        _ => String::new(),
    };
    let all = [
        ("cache-control", control),
        ("vary", vary),
        ("etag", "\"e\""),
        ("x-for", &*who),
        ("set-cookie", &*cookie),
    ];
    let fields: Vec<_> = all
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    match header("if-none-match").is_some() && vary != "*" {
        true => answer(304, &fields, ""),
        false => answer(200, &fields, who.clone()),
    }
}

/// A request of somebody.
#[derive(Debug)]
pub struct Asked {
    pub method: &'static str,
    pub path: String,
    fields: Vec<(&'static str, String)>,
    control: &'static str,
    vary: &'static str,
    sets_cookie: bool,
}

impl Asked {
    /// A random one.
    pub fn random(random: &mut Rng) -> Self {
        let (control, vary) = (random.usize(..CONTROLS.len()), random.usize(..VARIES.len()));
        let number = random.usize(..=SETS_COOKIE);
        // The route with auth refuses what is no token.
        let open = random.bool();
        let user = match random.u8(..if open { 5 } else { 4 }) {
            0 => String::new(),
            1 => bearer_for("alice", "one"),
            2 => bearer_for("alice", "two"),
            3 => bearer("bob"),
            _ => "Basic YTpi".to_owned(),
        };
        let mut fields = vec![("authorization", user)];
        if random.bool() {
            fields.push(("x-a", random.u8(..2).to_string()));
        }
        if random.bool() {
            fields.push(("cookie", format!("s={}", random.u8(..2))));
        }
        let mut method = "GET";
        match random.u8(..10) {
            0 => fields.push(("range", "bytes=0-".to_owned())),
            1 => fields.push(("if-none-match", "\"e\"".to_owned())),
            2 => method = "HEAD",
            _ => {}
        }
        fields.retain(|(_, value)| !value.is_empty());
        let prefix = if open { "open" } else { "closed" };
        Self {
            method,
            path: format!("/{prefix}/{control}/{vary}/{number}"),
            fields,
            control: CONTROLS[control],
            vary: VARIES[vary],
            sets_cookie: number == SETS_COOKIE,
        }
    }

    pub fn fields(&self) -> Vec<(&str, &str)> {
        let fields = self.fields.iter();
        fields.map(|(name, value)| (*name, &**value)).collect()
    }

    fn own(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(known, _)| *known == name);
        field.map(|(_, value)| &**value)
    }

    /// Whether this answer, which tells to whom it was given, may be served to this one.
    pub fn check(&self, sent: &Sent, rule: &str) {
        let is_asked_for = match sent.status() {
            200 => true,
            206 => self.own("range").is_some(),
            304 => self.own("if-none-match").is_some(),
            _ => false,
        };
        assert!(is_asked_for, "{sent:?} to {self:?} under {rule:?}");
        self.check_given(sent.header("x-for").expect("who it is for"), rule);
        if let Some(cookie) = sent.header("set-cookie") {
            let given = cookie.strip_prefix(COOKIE).expect("the origin's cookie");
            self.check_given(given, rule);
        }
        // A 304 and the answer to HEAD have none.
        if !sent.body.is_empty() {
            self.check_given(&String::from_utf8_lossy(&sent.body), rule);
        }
    }

    fn check_given(&self, given: &str, rule: &str) {
        let (control, vary) = (self.control, self.vary);
        let said = format!("{given} to {self:?} under {rule:?}");
        let given: Vec<_> = given.split('|').collect();
        let own = WHO.map(|name| self.own(name).unwrap_or("-"));
        // Nobody else's at all, whatever tells the two apart.
        let is_set = self.sets_cookie && !rule.contains("set_cookie");
        if control.contains("private") || vary == "*" || is_set {
            assert_eq!(given, own, "{said}");
        }
        if given[0] != own[0] {
            let marked = ["public", "s-maxage", "must-revalidate"];
            let marked = marked.iter().any(|mark| control.contains(mark));
            assert!(given[0] == "-" || marked, "{said}");
            assert_ne!(vary, "authorization", "{said}");
        }
        if vary.to_lowercase().contains("x-a") {
            assert_eq!(given[1], own[1], "{said}");
        }
        if vary == "cookie" {
            assert_eq!(given[2], own[2], "{said}");
        }
        // What only the rule makes fresh is not for requests with cookies.
        if control.is_empty() && rule.contains("default_ttl") {
            assert!(given[2] == "-" || given[2] == own[2], "{said}");
        }
    }
}

const SEED: &str = "TOLLGATE_TEST_SEED";
const CASES: &str = "TOLLGATE_TEST_CASES";
/// What the origin's cookie begins with.
const COOKIE: &str = "for=";
