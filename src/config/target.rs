//! Where a route leads: `upstream`, `split`, `respond`, `redirect`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use toml::de::DeValue;

use super::{
    Redirect, ServerUrl, Template, TemplatePart,
    decode::{Count, Format, Node, OptionOf, Problem, Reader, Show, Sub, TableNode, table},
    diagnostic::Finding,
    header::Fields,
    server_url::{Url, looks_like_url, server_url},
    source::Place,
};

/// A reference to an upstream, by name or by the URL of its only server.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    /// The name or the URL.
    pub(super) name: Arc<str>,
    /// The URL, when it is one.
    pub(super) url: Option<ServerUrl>,
    /// Where it stands.
    pub(super) place: Place,
}

/// The format of a [`Reference`].
pub(super) struct UpstreamName;

impl Format for UpstreamName {
    type Value = Reference;

    fn expected() -> String {
        "the name of an upstream or the URL of a server".to_owned()
    }

    fn example() -> String {
        Url::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Reference> {
        let (name, url) = reader.parse(node, &Self::expected(), reference)?;
        let place = node.place;
        Some(Reference { name, url, place })
    }
}

fn reference(text: &str) -> Result<(Arc<str>, Option<ServerUrl>), Problem> {
    let is_url = looks_like_url(text);
    let url = is_url.then(|| server_url(text)).transpose()?;
    match text {
        "" => Err(Problem::plain()),
        text => Ok((text.into(), url)),
    }
}

/// `split = { a = 90, b = 10 }`.
pub(super) struct Split;

impl Format for Split {
    type Value = Vec<(Reference, u32)>;

    fn expected() -> String {
        "a table of upstreams and weights".to_owned()
    }

    fn example() -> String {
        "{ orders = 90, orders-next = 10 }".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let DeValue::Table(table) = node.value else {
            let help = format!("for example `split = {}`", Self::example());
            return reader.wrong(node, &Self::expected(), Some(help));
        };
        let scope = node.inner(&[], reader);
        let parts: Vec<_> = table
            .iter()
            .map(|entry| share(Node::child(entry, &scope, reader), reader))
            .collect();
        let parts: Option<Vec<_>> = parts.into_iter().collect();
        let parts = parts?;
        if parts.iter().all(|(_, weight)| *weight == 0) {
            let problem = Problem::what("no part has a weight above 0");
            return reader.refuse(node, &Self::expected(), problem);
        }
        Some(parts)
    }
}

fn share(node: Node<'_>, reader: &mut Reader<'_>) -> Option<(Reference, u32)> {
    if let DeValue::Table(_) = node.value {
        let help = "a dot separates tables: write the name in quotes".to_owned();
        return reader.wrong(node, &Weight::expected(), Some(help));
    }
    let weight = Weight::read(node, reader)?;
    match reference(node.name) {
        Ok((name, url)) => {
            let place = node.key;
            Some((Reference { name, url, place }, weight))
        }
        Err(problem) => reader.refuse(node, &UpstreamName::expected(), problem),
    }
}

/// Small enough that no sum of weights overflows.
type Weight = Count<u32, 0, 1_000_000>;

table! {
    /// `respond`: an answer of the gateway's own.
    #[derive(Clone, Debug)]
    pub struct Respond ["routes.NAME.respond", check check_respond] {
        /// `status`: of the answer, 200 to 599.
        pub status: StatusCode => Status = StatusCode::OK,
        /// `headers`: fields of the answer.
        pub headers: Vec<(HeaderName, HeaderValue)> => Fields = Vec::new(); "`{}`",
        /// `body`: its media type is `text/plain; charset=utf-8` unless `headers` says otherwise.
        pub body: Bytes => BodyText = Bytes::new(),
    }
}

fn check_respond(respond: &Respond, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let bodiless = [
        StatusCode::NO_CONTENT,
        StatusCode::RESET_CONTENT,
        StatusCode::NOT_MODIFIED,
    ];
    if bodiless.contains(&respond.status) && !respond.body.is_empty() {
        let message = format!(
            "an answer with status {} has no body",
            respond.status.as_u16()
        );
        let place = table.value_place("body", reader);
        reader.report(Finding::error(place, message));
    }
}

/// A status from 200 to 599.
struct Status;

impl Format for Status {
    type Value = StatusCode;

    fn expected() -> String {
        Count::<u32, 200, 599>::expected()
    }

    fn example() -> String {
        "404".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<StatusCode> {
        let code = Count::<u32, 200, 599>::read(node, reader)?;
        StatusCode::from_u16(code.try_into().ok()?).ok()
    }
}

impl Show for Status {
    fn show(value: &StatusCode) -> String {
        value.as_u16().to_string()
    }
}

struct BodyText;

impl Format for BodyText {
    type Value = Bytes;

    fn expected() -> String {
        "a string".to_owned()
    }

    fn example() -> String {
        "\"not here\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Bytes> {
        let text = |text: &str| Ok(Bytes::copy_from_slice(text.as_bytes()));
        reader.parse(node, &Self::expected(), text)
    }
}

impl Show for BodyText {
    fn show(value: &Bytes) -> String {
        super::decode::quoted(&String::from_utf8_lossy(value))
    }
}

/// `redirect`: a location, or a table.
pub(super) struct RedirectTo;

impl Format for RedirectTo {
    type Value = Redirect;

    fn expected() -> String {
        "a location such as \"https://${host}${path}\", or `{ to, status }`".to_owned()
    }

    fn example() -> String {
        "\"https://${host}${path}${query}\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Redirect> {
        let keys = match node.value {
            DeValue::String(_) => RedirectKeys {
                to: Some(Location::read(node, reader)?),
                ..RedirectKeys::default()
            },
            DeValue::Table(_) => Sub::<RedirectKeys>::read(node, reader)?,
            _ => return reader.wrong(node, &Self::expected(), None),
        };
        Some(Redirect {
            to: keys.to?,
            status: keys.status,
        })
    }
}

table! {
    /// `redirect`: an answer that sends the client elsewhere. A string alone is `to`.
    #[derive(Clone, Debug)]
    pub(super) struct RedirectKeys ["routes.NAME.redirect", check check_redirect] {
        /// `to`: the Location. `${host}`, `${path}`, `${query}`, `${path.NAME}` and others are filled in.
        to: Option<Template> => OptionOf<Location> = None; "needed",
        /// `status`: 301, 302, 303, 307 or 308.
        status: StatusCode => RedirectStatus = StatusCode::PERMANENT_REDIRECT,
    }
}

fn check_redirect(_: &RedirectKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if !table.has("to") {
        let finding = Finding::error(table.node.place, "`redirect` needs `to`")
            .help("write `redirect = { to = \"https://${host}${path}\" }`");
        reader.report(finding);
    }
}

struct RedirectStatus;

impl Format for RedirectStatus {
    type Value = StatusCode;

    fn expected() -> String {
        "301, 302, 303, 307 or 308".to_owned()
    }

    fn example() -> String {
        "302".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<StatusCode> {
        let status = Status::read(node, reader)?;
        if ![301, 302, 303, 307, 308].contains(&status.as_u16()) {
            return reader.wrong(node, &Self::expected(), None);
        }
        Some(status)
    }
}

impl Show for RedirectStatus {
    fn show(value: &StatusCode) -> String {
        Status::show(value)
    }
}

struct Location;

impl Format for Location {
    type Value = Template;

    fn expected() -> String {
        "a location such as \"https://${host}${path}\"".to_owned()
    }

    fn example() -> String {
        RedirectTo::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Template> {
        let template = reader.template(node)?;
        let starts_right = match template.parts.first() {
            Some(TemplatePart::Literal(text)) => {
                text.starts_with('/') || text.starts_with("http://") || text.starts_with("https://")
            }
            first => matches!(first, Some(TemplatePart::Path | TemplatePart::Scheme)),
        };
        if !starts_right {
            let help = "begin with `/`, `http://` or `https://`".to_owned();
            return reader.wrong(node, &Self::expected(), Some(help));
        }
        warn_of_second_mark(node, &template, reader);
        refuse_controls(node, &template, reader).then_some(template)
    }
}

/// `${query}` begins with its own `?`. Elsewhere in the text there may be one before it: a location
/// can be told to a login page in that page's query.
fn warn_of_second_mark(node: Node<'_>, template: &Template, reader: &mut Reader<'_>) {
    let doubled = template.parts.windows(2).any(|pair| match pair {
        [TemplatePart::Literal(text), TemplatePart::Query] => text.ends_with(['?', '&']),
        _ => false,
    });
    if doubled {
        let message = format!("`{}`: `${{query}}` has its own `?`", node.name);
        let help = "leave out what stands before it; without a query it is empty";
        reader.report(Finding::warning(node.place, message).help(help));
    }
}

/// A location or a path goes into a header or a request line.
pub(super) fn refuse_controls(
    node: Node<'_>,
    template: &Template,
    reader: &mut Reader<'_>,
) -> bool {
    if template.names_principal() {
        let is_caller = template.parts.contains(&TemplatePart::Caller);
        let part = if is_caller { "caller" } else { "principal" };
        // A subject is any text; in a path it could lead anywhere.
        let message = format!("`{}`: `${{{part}}}` can't stand here", node.name);
        let help = "write it in `request_headers`";
        reader.report(Finding::error(node.place, message).help(help));
        return false;
    }
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let sane = template.literals().all(visible);
    if !sane {
        let message = format!(
            "`{}`: only visible ASCII characters can stand here",
            node.name
        );
        let help = "percent-encode the others";
        reader.report(Finding::error(node.place, message).help(help));
    }
    sane && refuse_braces(node, template, reader)
}

/// `{id}` is for patterns. A URL has no braces, so what stands in them was meant to be filled in.
fn refuse_braces(node: Node<'_>, template: &Template, reader: &mut Reader<'_>) -> bool {
    let sane = !template.literals().any(has_pattern);
    if !sane {
        let message = format!("`{}`: `{{` can't stand here", node.name);
        let help = "write `${path.NAME}` for what `{NAME}` in the path took";
        reader.report(Finding::error(node.place, message).help(help));
    }
    sane
}

/// Whether a brace opens that has no dollar before it; with one it is a dollar on purpose (`$${a}`),
/// or came out of a file.
fn has_pattern(text: &str) -> bool {
    let mut braces = text.match_indices('{');
    braces.any(|(at, _)| !text[..at].ends_with('$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_a_url_or_a_name() {
        assert!(reference("http://127.0.0.1:3000").unwrap().1.is_some());
        assert!(reference("unix:/run/a.sock").unwrap().1.is_some());
        assert!(reference("orders.v2").unwrap().1.is_none());
        assert!(reference("ftp://a").is_err());
        assert!(reference("").is_err());
    }
}
