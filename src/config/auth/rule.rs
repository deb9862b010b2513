//! A route's `auth`: which ways to authenticate it accepts.

use std::sync::Arc;

use toml::de::DeValue;

use crate::config::{
    decode::{Format, Node, OneOrList, Problem, Reader, Sub, TableNode, Text, nearest, table},
    diagnostic::Finding,
    source::Place,
};

/// A route's `auth`, resolved. A route without one is public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRule {
    /// Any one suffices. Each is a list of full names (`jwt.customers`) that must all hold; none is
    /// empty.
    pub alternatives: Vec<Vec<Arc<str>>>,
    /// `"anonymous"`: a request without any credential passes too.
    pub anonymous: bool,
}

impl AuthRule {
    /// Every name of the rule; one that stands there twice comes twice.
    pub fn methods(&self) -> impl Iterator<Item = &Arc<str>> {
        self.alternatives.iter().flatten()
    }

    /// The methods that may name the caller: of several that must all hold the first does.
    pub(in crate::config) fn naming(&self) -> impl Iterator<Item = &Arc<str>> {
        self.alternatives.iter().filter_map(|all| all.first())
    }

    /// Two methods that may name the caller, if there are so many.
    pub(in crate::config) fn two_that_name(&self) -> Option<(&Arc<str>, &Arc<str>)> {
        let mut naming = self.naming();
        let one = naming.next()?;
        Some((one, naming.find(|other| *other != one)?))
    }
}

/// A member of `auth`.
#[derive(Clone, Debug)]
pub(in crate::config) enum Member {
    /// A name, `"public"` or `"anonymous"`.
    One(Reference),
    /// `{ all = [...] }`.
    All(Vec<Reference>),
}

/// A name and where it stands.
#[derive(Clone, Debug)]
pub(in crate::config) struct Reference {
    name: Arc<str>,
    place: Place,
}

/// The format of a [`Member`].
pub(in crate::config) struct MemberFormat;

impl Format for MemberFormat {
    type Value = Member;

    fn expected() -> String {
        "a name such as \"jwt.customers\", `{ all = [...] }`, \"anonymous\" or \"public\""
            .to_owned()
    }

    fn example() -> String {
        "\"jwt.customers\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Member> {
        match node.value {
            DeValue::String(_) => Name::read(node, reader).map(Member::One),
            DeValue::Table(_) => Some(Member::All(Sub::<AllKeys>::read(node, reader)?.all)),
            _ => reader.wrong(node, &Self::expected(), None),
        }
    }
}

table! {
    /// `auth = { all = [...] }`: every one of these must hold. The first names the caller.
    #[derive(Clone, Debug)]
    pub(in crate::config) struct AllKeys ["routes.NAME.auth", check check_all] {
        /// `all`: full names.
        pub(in crate::config) all: Vec<Reference> => AllNames = Vec::new(); "needed",
    }
}

fn check_all(_: &AllKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if !table.has("all") {
        let finding = Finding::error(table.node.place, "`auth` as a table needs `all`")
            .help("write `{ all = [\"jwt.customers\", \"api_keys.partners\"] }`");
        reader.report(finding);
    }
}

struct AllNames;

impl Format for AllNames {
    type Value = Vec<Reference>;

    fn expected() -> String {
        OneOrList::<Name>::expected()
    }

    fn example() -> String {
        "[\"jwt.customers\", \"api_keys.partners\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<Reference>> {
        let names = OneOrList::<Name>::read(node, reader)?;
        if names.is_empty() {
            let problem = Problem::what("an empty list would admit everybody");
            return reader.refuse(node, &Self::expected(), problem);
        }
        Some(names)
    }
}

struct Name;

impl Format for Name {
    type Value = Reference;

    fn expected() -> String {
        "a name such as \"jwt.customers\"".to_owned()
    }

    fn example() -> String {
        "\"jwt.customers\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Reference> {
        let name = Text::read(node, reader)?;
        if name.is_empty() {
            return reader.refuse(node, &Self::expected(), Problem::what("it is empty"));
        }
        Some(Reference {
            name: name.into(),
            place: node.place,
        })
    }
}

/// Resolves the members of a route's `auth` among the names that exist; `None` for `"public"`.
pub(in crate::config) fn resolve(
    members: &[Member],
    names: &[Arc<str>],
    findings: &mut Vec<Finding>,
) -> Option<AuthRule> {
    if let Some(Member::One(public)) = members.iter().find(|one| is_word(one, "public")) {
        if members.len() > 1 {
            let finding = Finding::error(public.place, "\"public\" can't stand in a list").help(
                "`auth = \"public\"` admits everybody; \"anonymous\" in a list admits \
                       requests without a credential",
            );
            findings.push(finding);
        }
        return None;
    }
    let mut rule = AuthRule {
        alternatives: Vec::with_capacity(members.len()),
        anonymous: false,
    };
    for member in members {
        match member {
            Member::One(one) if &*one.name == "anonymous" => rule.anonymous = true,
            Member::One(one) => rule
                .alternatives
                .extend(known(one, names, findings).map(|n| vec![n])),
            Member::All(all) => {
                let all: Vec<_> = all.iter().map(|one| known(one, names, findings)).collect();
                rule.alternatives
                    .extend(all.into_iter().collect::<Option<Vec<_>>>());
            }
        }
    }
    if let (true, [Member::One(only)]) = (rule.anonymous, members) {
        let finding = Finding::error(only.place, "\"anonymous\" alone admits everybody")
            .help("write `auth = \"public\"` if that is meant");
        findings.push(finding);
    }
    Some(rule)
}

fn is_word(member: &Member, word: &str) -> bool {
    matches!(member, Member::One(one) if &*one.name == word)
}

fn known(one: &Reference, names: &[Arc<str>], findings: &mut Vec<Finding>) -> Option<Arc<str>> {
    let found = names.iter().find(|name| **name == one.name);
    if found.is_none() {
        findings.push(unknown(one, names));
    }
    found.cloned()
}

fn unknown(one: &Reference, names: &[Arc<str>]) -> Finding {
    let name = &*one.name;
    if matches!(name, "public" | "anonymous" | "inherit") {
        return Finding::error(one.place, format!("\"{name}\" can't stand in `all`"));
    }
    let finding = Finding::error(
        one.place,
        format!("there is no way to authenticate called `{name}`"),
    );
    let words = ["public", "anonymous", "inherit"].into_iter();
    let all = || names.iter().map(|name| &**name).chain(words.clone());
    let short = || {
        names
            .iter()
            .find(|full| full.split_once('.').is_some_and(|(_, own)| own == name))
    };
    if let Some(near) = short().map(|name| &**name).or_else(|| nearest(name, all())) {
        return finding
            .label(format!("did you mean `{near}`?"))
            .help(format!("write `\"{near}\"`"));
    }
    match name.split_once('.') {
        Some(_) => finding.help(format!("define it: `[auth.{name}]`")),
        None => finding.help("a name begins with its kind: `\"jwt.NAME\"` for `[auth.jwt.NAME]`"),
    }
}
