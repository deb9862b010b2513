//! `rewrite`: what the upstream sees instead.

use http::HeaderValue;

use super::{
    Template, TemplatePart,
    decode::{Format, Node, OptionOf, Problem, Reader, Show, TableNode, quoted, table},
    diagnostic::Finding,
    path::Prefix,
    target::refuse_controls,
};

table! {
    /// `rewrite`: what the upstream sees instead.
    #[derive(Clone, Debug)]
    pub struct Rewrite ["routes.NAME.rewrite", check check_rewrite] {
        /// `strip_prefix`: taken off the path at a segment boundary; normal form, no slash at its end.
        pub strip_prefix: Option<Box<str>> => OptionOf<Prefix> = None; "none",
        /// `add_prefix`: put before the path; normal form, no slash at its end.
        pub add_prefix: Option<Box<str>> => OptionOf<Prefix> = None; "none",
        /// `path`: the whole path; excludes the other two. `${path.NAME}` and others are filled in.
        pub path: Option<Template> => OptionOf<WholePath> = None; "none",
        /// `host`: the Host sent: `"preserve"` the client's, `"server"` the server's own, or a host.
        pub host: HostRewrite => HostText = HostRewrite::Preserve,
    }
}

fn check_rewrite(rewrite: &Rewrite, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let other = ["strip_prefix", "add_prefix"]
        .into_iter()
        .find(|key| table.has(key));
    if let (Some(other), true) = (other, rewrite.path.is_some()) {
        let message = format!("`path` replaces the whole path, so `{other}` has no effect");
        let place = table.value_place("path", reader);
        let related = table.value_place(other, reader);
        let finding = Finding::error(place, message).related(related, "no effect");
        reader.report(finding.help("keep one of them"));
    }
}

/// The Host that the upstream sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostRewrite {
    /// `"preserve"`: the client's.
    #[default]
    Preserve,
    /// `"server"`: the server's own, from its URL.
    Server,
    /// Any other text.
    Literal(HeaderValue),
}

struct WholePath;

impl Format for WholePath {
    type Value = Template;

    fn expected() -> String {
        "a path such as \"/v2/items/${path.id}\"".to_owned()
    }

    fn example() -> String {
        "\"/v2/items/${path.id}\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Template> {
        let template = reader.template(node)?;
        let slash = match template.parts.first() {
            Some(TemplatePart::Literal(text)) => text.starts_with('/'),
            first => matches!(first, Some(TemplatePart::Path)),
        };
        if !slash {
            return reader.wrong(node, &Self::expected(), Some("begin with `/`".to_owned()));
        }
        let sane = refuse_query(node, &template, reader);
        (refuse_controls(node, &template, reader) && sane).then_some(template)
    }
}

/// The client's query stays behind the path: with another before it the server would get two.
fn refuse_query(node: Node<'_>, template: &Template, reader: &mut Reader<'_>) -> bool {
    let sane = !template.literals().any(|text| text.contains(['?', '#']));
    if !sane {
        let message = format!("`{}`: a path has no `?` and no `#`", node.name);
        let help = "leave the query out: the client's goes on as it came";
        reader.report(Finding::error(node.place, message).help(help));
    }
    sane
}

struct HostText;

impl Format for HostText {
    type Value = HostRewrite;

    fn expected() -> String {
        "\"preserve\", \"server\" or a host".to_owned()
    }

    fn example() -> String {
        "\"server\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HostRewrite> {
        reader.parse(node, &Self::expected(), |text| match text {
            "preserve" => Ok(HostRewrite::Preserve),
            "server" => Ok(HostRewrite::Server),
            text => {
                let authority = text.parse::<http::uri::Authority>();
                let sane = authority.is_ok() && !text.contains('@');
                let value = HeaderValue::from_str(text).ok().filter(|_| sane);
                value.map(HostRewrite::Literal).ok_or_else(Problem::plain)
            }
        })
    }
}

impl Show for HostText {
    fn show(value: &HostRewrite) -> String {
        match value {
            HostRewrite::Preserve => quoted("preserve"),
            HostRewrite::Server => quoted("server"),
            HostRewrite::Literal(host) => quoted(host.to_str().unwrap_or_default()),
        }
    }
}
