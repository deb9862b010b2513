//! `[groups.*]` and `[defaults]`: what routes share.
//!
//! A key comes from the route, else from its group, else from the defaults, and is replaced as a
//! whole; `"inherit"` in a list puts in what the next layer has.

use std::marker::PhantomData;

use http::Method;
use toml::de::DeValue;

use super::{
    decode::{Format, Node, OneOrList, Problem, Reader, Set, Table, TableDoc, TableNode},
    diagnostic::Finding,
    route::{Key, RouteKeys},
    source::Place,
};

/// A member of a list that can be inherited.
#[derive(Clone, Debug)]
pub(super) enum Item<T> {
    /// A member of its own.
    Own(T),
    /// `"inherit"`: everything that the next layer has.
    Inherit(Place),
}

/// A list that can be inherited.
pub(super) struct Items<F>(PhantomData<F>);

impl<F: Format> Format for Items<F> {
    type Value = Vec<Item<F::Value>>;

    fn expected() -> String {
        format!("{}, or a list", F::expected())
    }

    fn example() -> String {
        format!("[{}]", F::example())
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let items = OneOrList::<OneItem<F>>::read(node, reader)?;
        if items.is_empty() {
            let problem = Problem::what("an empty list can never match")
                .help(format!("leave `{}` out for any", node.name));
            return reader.refuse(node, &Self::expected(), problem);
        }
        Some(items)
    }
}

/// A member of a list that can be inherited, or the whole of it.
pub(super) struct OneItem<F>(PhantomData<F>);

impl<F: Format> Format for OneItem<F> {
    type Value = Item<F::Value>;

    fn expected() -> String {
        F::expected()
    }

    fn example() -> String {
        F::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        match node.value {
            DeValue::String(text) if text == "inherit" => Some(Item::Inherit(node.place)),
            _ => F::read(node, reader).map(Item::Own),
        }
    }
}

/// The name of a group.
pub(super) struct GroupName;

impl Format for GroupName {
    type Value = String;

    fn expected() -> String {
        "the name of a group".to_owned()
    }

    fn example() -> String {
        "\"api\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        reader.parse(node, &Self::expected(), |text| Ok(text.to_owned()))
    }
}

/// A request method.
pub(super) struct MethodName;

impl Format for MethodName {
    type Value = Method;

    fn expected() -> String {
        "a method such as \"GET\"".to_owned()
    }

    fn example() -> String {
        "\"GET\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Method> {
        reader.parse(node, &Self::expected(), method)
    }
}

/// The method of a name; TRACE and CONNECT have none.
pub(in crate::config) fn method(text: &str) -> Result<Method, Problem> {
    let upper = text.to_ascii_uppercase();
    match text {
        "*" | "any" | "ANY" => Err(Problem::plain().help("leave `methods` out for any")),
        "TRACE" | "CONNECT" => Err(Problem::what("TRACE and CONNECT are always refused")),
        _ if upper != text => Err(Problem::plain().help(format!("write `\"{upper}\"`"))),
        _ => Method::try_from(text).map_err(|_| Problem::plain()),
    }
}

/// `[groups.NAME]`: keys that routes share.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupKeys(pub(super) RouteKeys);

/// `[defaults]`: keys of all routes.
#[derive(Clone, Debug, Default)]
pub(super) struct DefaultKeys(pub(super) RouteKeys);

/// The keys of a route that it may share, in its order, with those that only a group may hold.
macro_rules! shared {
    ($($of_groups:literal),*) => {
        &[
            "hosts",
            "path_case",
            "methods",
            $($of_groups,)*
            "priority",
            "rewrite",
            "max_body",
            "timeouts",
            "rate_limits",
            "cost",
            "encoded_slash",
            "override_headers",
            "odd_header_names",
            "upgrade",
            "cors",
            "security_headers",
            "request_headers",
            "response_headers",
            "validation",
            "auth",
            "forward_credentials",
            "close_on_token_expiry",
            "origins",
            "permissions",
            "roles",
            "claims",
            "rbac",
            "ip",
            "cache",
        ]
    };
}

impl Table for GroupKeys {
    const HEADER: &'static str = "groups.NAME";
    const KEYS: &'static [&'static str] = shared!["match_headers", "match_query"];

    fn set(&mut self, node: Node<'_>, reader: &mut Reader<'_>) -> bool {
        set_shared(&mut self.0, Self::KEYS, "a group", node, reader)
    }

    fn check(&self, _: TableNode<'_>, _: &mut Reader<'_>) {}

    fn doc() -> TableDoc {
        let about = " `[groups.NAME]`: keys that several routes share: a route takes part by \
                     `group = \"NAME\"`. Any key of a route but `group`, `path` and the target.";
        shared_doc(about, Self::KEYS)
    }
}

impl Table for DefaultKeys {
    const HEADER: &'static str = "defaults";
    const KEYS: &'static [&'static str] = shared![];

    fn set(&mut self, node: Node<'_>, reader: &mut Reader<'_>) -> bool {
        set_shared(&mut self.0, Self::KEYS, "`[defaults]`", node, reader)
    }

    fn check(&self, _: TableNode<'_>, _: &mut Reader<'_>) {}

    fn doc() -> TableDoc {
        let about = " `[defaults]`: keys of every route. Any key of a route but `group`, `path`, \
                     `match_headers`, `match_query` and the target.";
        shared_doc(about, Self::KEYS)
    }
}

fn shared_doc(about: &str, keys: &[&str]) -> TableDoc {
    let mut doc = RouteKeys::doc();
    doc.keys.retain(|key| keys.contains(&key.key));
    TableDoc {
        about: about.to_owned(),
        keys: doc.keys,
    }
}

fn set_shared(
    keys: &mut RouteKeys,
    shared: &[&str],
    owner: &str,
    node: Node<'_>,
    reader: &mut Reader<'_>,
) -> bool {
    if shared.contains(&node.name) {
        return keys.set(node, reader);
    }
    let known = RouteKeys::KEYS.contains(&node.name);
    if known {
        let message = format!(
            "`{}` can't stand in {owner}: it is each route's own",
            node.name
        );
        let help = format!(
            "write it in the routes: `[routes.NAME]` with `{} = ...`",
            node.name
        );
        reader.report(Finding::error(node.key, message).help(help));
    }
    known
}

/// The tables that a route's keys come from, the nearest first.
#[derive(Clone, Copy)]
pub(super) struct Layers<'a> {
    /// The route, its group, the defaults.
    pub(super) layers: [Option<&'a RouteKeys>; 3],
}

impl<'a> Layers<'a> {
    /// The nearest setting of a key.
    pub(super) fn pick<T>(self, key: impl Fn(&'a RouteKeys) -> &'a Key<T>) -> Option<&'a Set<T>> {
        self.layers
            .into_iter()
            .flatten()
            .find_map(|keys| key(keys).as_ref())
    }

    /// The nearest value of a key.
    pub(super) fn value<T: Clone + 'a>(
        self,
        key: impl Fn(&'a RouteKeys) -> &'a Key<T>,
    ) -> Option<T> {
        self.pick(key)?.value.clone()
    }

    /// A list with everything that it inherits.
    pub(super) fn list<T: Clone + 'a>(
        self,
        key: impl Fn(&'a RouteKeys) -> &'a Key<Vec<Item<T>>> + Copy,
        findings: &mut Vec<Finding>,
    ) -> Option<Vec<T>> {
        let mut layers = self.layers.into_iter().flatten();
        let items = layers.find_map(|keys| key(keys).as_ref())?.value.as_ref()?;
        let mut rest = Layers { layers: [None; 3] };
        for (slot, layer) in rest.layers.iter_mut().zip(layers) {
            *slot = Some(layer);
        }
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Own(value) => list.push(value.clone()),
                Item::Inherit(place) => match rest.pick(key) {
                    Some(_) => list.extend(rest.list(key, findings).unwrap_or_default()),
                    None => findings.push(nothing_to_inherit(*place)),
                },
            }
        }
        Some(list)
    }
}

fn nothing_to_inherit(place: Place) -> Finding {
    Finding::error(place, "there is nothing to inherit")
        .help("neither the route's group nor `[defaults]` has this key: remove `\"inherit\"`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_keys_are_those_of_a_route_without_its_own() {
        let without = |own: &[&str]| -> Vec<_> {
            let all = RouteKeys::KEYS.iter().copied();
            all.filter(|key| !own.contains(key)).collect()
        };
        let own = ["group", "path", "upstream", "split", "respond", "redirect"];
        assert_eq!(GroupKeys::KEYS, without(&own));
        let more = [&own[..], &["match_headers", "match_query"]].concat();
        assert_eq!(DefaultKeys::KEYS, without(&more));
    }

    #[test]
    fn methods_are_written_in_capitals() {
        assert_eq!(method("GET"), Ok(Method::GET));
        assert!(method("PURGE").is_ok());
        assert_eq!(
            method("get").unwrap_err().help.as_deref(),
            Some("write `\"GET\"`")
        );
        assert!(method("TRACE").is_err());
        assert!(method("*").is_err());
    }
}
