//! `claims` of a route as written.
//!
//! A key is the literal name of a claim; a dotted key, or a table within the table, is a path. So
//! `claims."https://example.com/tenant"` is one name and `claims.realm.tenant` a path of two.

use toml::de::{DeTable, DeValue};

use super::{
    super::{
        TemplatePart,
        decode::{Format, Node, Problem, Reader},
        diagnostic::Finding,
    },
    ClaimRule, ClaimValue,
};

/// The format of `claims`.
pub(in crate::config) struct Claims;

impl Format for Claims {
    type Value = Vec<ClaimRule>;

    fn expected() -> String {
        "a table of claims and their values".to_owned()
    }

    fn example() -> String {
        "{ tenant = \"${host.tenant}\" }".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let DeValue::Table(table) = node.value else {
            let help = format!("for example `claims = {}`", Self::example());
            return reader.wrong(node, &Self::expected(), Some(help));
        };
        let mut walk = Walk {
            rules: Vec::new(),
            complete: true,
        };
        walk.table(node, table, &[], reader);
        walk.complete.then_some(walk.rules)
    }
}

struct Walk {
    rules: Vec<ClaimRule>,
    complete: bool,
}

impl Walk {
    fn table(
        &mut self,
        node: Node<'_>,
        table: &DeTable<'_>,
        path: &[Box<str>],
        reader: &mut Reader<'_>,
    ) {
        if table.is_empty() || path.len() >= DEEPEST {
            let message = match table.is_empty() {
                true => format!("`{}`: the table is empty", node.name),
                false => format!("a claim stands {DEEPEST} tables deep at most"),
            };
            let finding = Finding::error(node.place, message);
            reader.report(finding.help(format!("for example `claims = {}`", Claims::example())));
            self.complete = false;
            return;
        }
        let scope = node.inner(&[], reader);
        for entry in table {
            let child = Node::child(entry, &scope, reader);
            let path = [path, &[child.name.into()]].concat();
            match child.value {
                DeValue::Table(table) => self.table(child, table, &path, reader),
                _ => self.rule(child, path, reader),
            }
        }
    }

    fn rule(&mut self, node: Node<'_>, path: Vec<Box<str>>, reader: &mut Reader<'_>) {
        let Some(any) = values(node, reader) else {
            self.complete = false;
            return;
        };
        let written = reader.sources.quote(node.place).into();
        self.rules.push(ClaimRule { path, any, written });
    }
}

fn values(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<ClaimValue>> {
    let DeValue::Array(list) = node.value else {
        return value(node, reader).map(|one| vec![one]);
    };
    if list.is_empty() {
        let problem = Problem::what("an empty list denies everybody");
        return reader.refuse(node, VALUES, problem);
    }
    let values: Vec<_> = list
        .iter()
        .map(|member| value(node.member(member, reader), reader))
        .collect();
    values.into_iter().collect()
}

fn value(node: Node<'_>, reader: &mut Reader<'_>) -> Option<ClaimValue> {
    match node.value {
        DeValue::String(_) => text(node, reader),
        DeValue::Boolean(value) => Some(ClaimValue::Bool(*value)),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map(ClaimValue::Integer)
            .ok()
            .or_else(|| reader.refuse(node, VALUES, Problem::what("the number is too large"))),
        _ => reader.wrong(node, VALUES, None),
    }
}

fn text(node: Node<'_>, reader: &mut Reader<'_>) -> Option<ClaimValue> {
    let template = reader.template(node)?;
    match template.parts.as_slice() {
        [] => {
            let problem = Problem::what("an empty text can't be asked for");
            reader.refuse(node, VALUES, problem)
        }
        [TemplatePart::Literal(text)] => Some(ClaimValue::Text(text.clone())),
        _ => Some(ClaimValue::Template(template)),
    }
}

const VALUES: &str = "a string, an integer, `true` or `false`, or a list of these";

const DEEPEST: usize = 8;
