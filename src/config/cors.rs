//! `[cors.*]`, and `cors` of a route: which pages of other origins may call it.

use std::time::Duration;

use http::{HeaderName, Method};
use toml::de::DeValue;

use super::{
    decode::{
        Flag, Format, Node, OneOrList, OptionOf, Problem, Reader, Show, Sub, TableNode, Text, Time,
        quoted, table,
    },
    diagnostic::Finding,
    source::Place,
};

table! {
    /// `[cors.NAME]`: pages of which other origins may call, and how. A route names it by
    /// `cors = "NAME"`, or writes the table itself.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Cors ["cors.NAME", check check_cors] {
        /// `origins`: whose pages may read answers: `"https://app.example.com"`,
        /// `"https://*.example.com"` (one label), `"https://**.example.com"` (any depth), `"null"`,
        /// or `"*"` for all.
        pub origins: Vec<Origin> => OneOrList<OriginText> = Vec::new(); "needed",
        /// `methods`: what they may call beside the methods that need no question.
        pub methods: Vec<Method> => Methods = vec![Method::GET, Method::HEAD, Method::POST],
        /// `request_headers`: which header fields they may send; `"*"` is whatever they ask for.
        pub request_headers: Fields => FieldList = Fields::List(Vec::new()),
        /// `expose_headers`: which header fields of answers they may read; `"*"` is all, without
        /// `credentials`.
        pub expose_headers: Fields => FieldList = Fields::List(Vec::new()),
        /// `credentials`: whether cookies and the like may come along.
        pub credentials: bool => Flag = false,
        /// `max_age`: how long browsers may remember what a preflight was told.
        pub max_age: Option<Duration> => OptionOf<Time> = None; "not told: browsers take 5s",
        /// `private_network`: whether pages of public networks may call into this private one.
        pub private_network: bool => Flag = false,
    }
}

/// A member of `origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `"*"`: any origin.
    Any,
    /// One origin as browsers write it, or `null`.
    Exact(Box<str>),
    /// `https://*.example.com`, `https://**.example.com`: origins below a host.
    Below {
        /// `https://`.
        scheme: Box<str>,
        /// What follows the star: `.example.com`, perhaps with a port.
        suffix: Box<str>,
        /// Whether several labels may stand for the star.
        any_depth: bool,
    },
}

/// Names of header fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fields {
    /// `"*"`.
    Any,
    /// These.
    List(Vec<HeaderName>),
}

/// `cors` of a route.
#[derive(Clone, Debug)]
pub(super) enum CorsUse {
    /// The name of a `[cors.*]` table, and where it stands.
    Named(String, Place),
    /// A table of the route's own.
    Own(Cors),
}

/// The format of a [`CorsUse`].
pub(super) struct CorsRule;

impl Format for CorsRule {
    type Value = CorsUse;

    fn expected() -> String {
        "the name of a `[cors.*]` table, or a table like it".to_owned()
    }

    fn example() -> String {
        "\"web\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<CorsUse> {
        match node.value {
            DeValue::String(_) => Some(CorsUse::Named(Text::read(node, reader)?, node.place)),
            DeValue::Table(_) => Sub::<Cors>::read(node, reader).map(CorsUse::Own),
            _ => reader.wrong(node, &Self::expected(), None),
        }
    }
}

fn check_cors(cors: &Cors, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if !table.has("origins") {
        let finding = Finding::error(table.node.place, "a `cors` table needs `origins`")
            .help("write `origins = [\"https://app.example.com\"]`");
        reader.report(finding);
    }
    let place = table.value_place("origins", reader);
    if cors.origins.contains(&Origin::Any) && cors.origins.len() > 1 {
        let message = "`*` stands for all origins: the others have no effect";
        reader.report(Finding::warning(place, message).help("remove `\"*\"`, or the others"));
    }
    if cors.credentials {
        check_credentials(cors, table, reader);
    }
}

/// With credentials every page of an allowed origin acts as its reader.
fn check_credentials(cors: &Cors, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let origins = table.value_place("origins", reader);
    let credentials = table.value_place("credentials", reader);
    let say = |finding: Finding| finding.related(credentials, "with credentials");
    for origin in &cors.origins {
        let finding = match origin {
            Origin::Any => Finding::error(origins, "`credentials` and any origin: every page on the web could act as its reader")
                .help("name the origins, or leave `credentials` out"),
            Origin::Below { suffix, .. } => Finding::warning(origins, format!("whoever gets a page onto any host below `{}` can act as its reader", &suffix[1..]))
                .help("name the origins one by one if you can"),
            Origin::Exact(text) if &**text == "null" => Finding::warning(origins, "any page can make its origin `null`, by a sandboxed frame, and then act as its reader")
                .help("leave `\"null\"` out, or `credentials`"),
            Origin::Exact(_) => continue,
        };
        reader.report(say(finding));
    }
    if cors.expose_headers == Fields::Any {
        // Fetch standard: with credentials `*` is the name of a field.
        let place = table.value_place("expose_headers", reader);
        let finding = Finding::error(
            place,
            "with `credentials` browsers take `*` for the name of a header field",
        )
        .help("name the fields");
        reader.report(say(finding));
    }
}

/// One origin.
pub(super) struct OriginText;

impl Format for OriginText {
    type Value = Origin;

    fn expected() -> String {
        "an origin such as \"https://app.example.com\"".to_owned()
    }

    fn example() -> String {
        "\"https://app.example.com\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Origin> {
        reader.parse(node, &Self::expected(), origin)
    }
}

/// Reads an origin. It must be written as browsers write it, or it would never match.
fn origin(text: &str) -> Result<Origin, Problem> {
    match text {
        "*" => return Ok(Origin::Any),
        "null" => return Ok(Origin::Exact(text.into())),
        _ => {}
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return Err(Problem::what("an origin begins with its scheme")
            .help(format!("write `\"https://{text}\"`")));
    };
    if let Some((authority, _)) = authority.split_once(['/', '?', '#']) {
        return Err(Problem::what("an origin has no path")
            .help(format!("write `\"{scheme}://{authority}\"`")));
    }
    let written = as_browsers_write(scheme, authority);
    if written != text {
        return Err(Problem::what("browsers write this origin in another way")
            .help(format!("write `\"{written}\"`")));
    }
    let prefix = format!("{scheme}://");
    let below = |any_depth, suffix: &str| Origin::Below {
        scheme: prefix.as_str().into(),
        suffix: suffix.into(),
        any_depth,
    };
    let (origin, host) = if let Some(suffix) = authority.strip_prefix("**") {
        (below(true, suffix), suffix.strip_prefix('.'))
    } else if let Some(suffix) = authority.strip_prefix('*') {
        (below(false, suffix), suffix.strip_prefix('.'))
    } else {
        (Origin::Exact(text.into()), Some(authority))
    };
    let host = host.ok_or_else(|| star_alone(scheme))?;
    match is_scheme(scheme) && is_host(host) {
        true => Ok(origin),
        false if host.contains('*') => Err(star_alone(scheme)),
        false => Err(Problem::plain()),
    }
}

fn star_alone(scheme: &str) -> Problem {
    Problem::what("`*` stands for whole labels in front of a host only")
        .help(format!("write for example `\"{scheme}://*.example.com\"`"))
}

/// Fetch standard, "serialising an origin": lower case, no default port.
fn as_browsers_write(scheme: &str, authority: &str) -> String {
    let scheme = scheme.to_ascii_lowercase();
    let authority = authority.to_ascii_lowercase();
    let default = match &*scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let host = authority.strip_suffix(default).unwrap_or(&authority);
    format!("{scheme}://{host}")
}

fn is_scheme(scheme: &str) -> bool {
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(in_scheme)
}

fn is_host(host: &str) -> bool {
    let authority = host.parse::<http::uri::Authority>();
    authority.is_ok() && !host.contains(['@', '*'])
}

/// `methods`.
struct Methods;

impl Format for Methods {
    type Value = Vec<Method>;

    fn expected() -> String {
        OneOrList::<MethodName>::expected()
    }

    fn example() -> String {
        "[\"GET\", \"PUT\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        OneOrList::<MethodName>::read(node, reader)
    }
}

impl Show for Methods {
    fn show(value: &Vec<Method>) -> String {
        let all: Vec<_> = value.iter().map(|method| quoted(method.as_str())).collect();
        format!("[{}]", all.join(", "))
    }
}

struct MethodName;

impl Format for MethodName {
    type Value = Method;

    fn expected() -> String {
        "a method such as \"GET\"".to_owned()
    }

    fn example() -> String {
        "\"GET\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Method> {
        reader.parse(node, &Self::expected(), |text| {
            let upper = text.to_ascii_uppercase();
            match text {
                "*" => Err(Problem::plain().help("name the methods")),
                "TRACE" | "CONNECT" | "TRACK" => {
                    Err(Problem::what("browsers never let a page send this method"))
                }
                _ if upper != text => Err(Problem::plain().help(format!("write `\"{upper}\"`"))),
                _ => Method::try_from(text).map_err(|_| Problem::plain()),
            }
        })
    }
}

/// A list of header fields, or `"*"`.
struct FieldList;

impl Format for FieldList {
    type Value = Fields;

    fn expected() -> String {
        "names of header fields, or \"*\"".to_owned()
    }

    fn example() -> String {
        "[\"content-type\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Fields> {
        let names = OneOrList::<FieldOrStar>::read(node, reader)?;
        let list: Option<Vec<_>> = names.into_iter().collect();
        Some(list.map_or(Fields::Any, Fields::List))
    }
}

impl Show for FieldList {
    fn show(value: &Fields) -> String {
        match value {
            Fields::Any => quoted("*"),
            Fields::List(names) => {
                let all: Vec<_> = names.iter().map(|name| quoted(name.as_str())).collect();
                format!("[{}]", all.join(", "))
            }
        }
    }
}

/// `None` is the star, which is a valid name too.
struct FieldOrStar;

impl Format for FieldOrStar {
    type Value = Option<HeaderName>;

    fn expected() -> String {
        "the name of a header field".to_owned()
    }

    fn example() -> String {
        "\"content-type\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        reader.parse(node, &Self::expected(), |text| match text {
            "*" => Ok(None),
            text => HeaderName::try_from(text)
                .map(Some)
                .map_err(|_| Problem::plain()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        let right = |text: &str| origin(text).unwrap();
        assert_eq!(right("*"), Origin::Any);
        for exact in [
            "null",
            "https://a.test",
            "http://[::1]:8080",
            "capacitor://localhost",
        ] {
            assert_eq!(right(exact), Origin::Exact(exact.into()));
        }
        let help = |text: &str| origin(text).unwrap_err().help.unwrap_or_default();
        assert_eq!(help("https://a.test/"), "write `\"https://a.test\"`");
        assert_eq!(help("a.test"), "write `\"https://a.test\"`");
        assert_eq!(help("https://A.test:443"), "write `\"https://a.test\"`");
        assert_eq!(help("http://a.test:80"), "write `\"http://a.test\"`");
    }

    #[test]
    fn a_star_stands_for_labels_in_front() {
        let below = |any_depth| Origin::Below {
            scheme: "https://".into(),
            suffix: ".a.test:8443".into(),
            any_depth,
        };
        assert_eq!(origin("https://*.a.test:8443"), Ok(below(false)));
        assert_eq!(origin("https://**.a.test:8443"), Ok(below(true)));
        for wrong in [
            "https://*a.test",
            "https://a.*.test",
            "https://*",
            "https://*.",
            "*://a.test",
            "https://a@b",
            "https://",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
