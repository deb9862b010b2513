//! Tables, each declared once.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::{Format, Node, Reader, Scope, quoted_key, unknown};
use crate::config::{diagnostic::Finding, source::Place};

/// A table with fixed keys.
pub(in crate::config) trait Table: Default {
    /// `server.limits`, `routes.NAME`; empty for the file itself.
    const HEADER: &'static str;
    /// Its keys.
    const KEYS: &'static [&'static str];

    /// Reads one key; `false` when the table has no such key.
    fn set(&mut self, node: Node<'_>, reader: &mut Reader<'_>) -> bool;

    /// Checks what concerns several keys.
    fn check(&self, table: TableNode<'_>, reader: &mut Reader<'_>);

    /// What the reference says.
    fn doc() -> TableDoc;
}

/// What the reference says about a table.
#[derive(Clone, Debug)]
pub(in crate::config) struct TableDoc {
    /// What it is for.
    pub(in crate::config) about: String,
    /// Its keys, in the order of their declaration.
    pub(in crate::config) keys: Vec<KeyDoc>,
}

/// What the reference says about a key.
#[derive(Clone, Debug)]
pub(in crate::config) struct KeyDoc {
    /// The key.
    pub(in crate::config) key: &'static str,
    /// What is expected.
    pub(in crate::config) kind: String,
    /// The default as TOML, or in words.
    pub(in crate::config) default: String,
    /// How one is written.
    pub(in crate::config) example: String,
    /// What it means.
    pub(in crate::config) about: String,
}

/// A table that is being checked.
#[derive(Clone, Copy)]
pub(in crate::config) struct TableNode<'t> {
    /// The table as a value.
    pub(in crate::config) node: Node<'t>,
    table: &'t DeTable<'t>,
}

impl TableNode<'_> {
    /// Where a key's value stands; the table itself when it is not set.
    pub(in crate::config) fn value_place(&self, key: &str, reader: &Reader<'_>) -> Place {
        let value = self.table.get(key);
        value.map_or(self.node.place, |value| reader.place(value.span()))
    }

    /// Whether no key is set.
    pub(in crate::config) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether a key is set.
    pub(in crate::config) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }
}

/// Declares a table: the struct, its defaults, its decoding and its part of the reference.
///
/// A field is `doc, key: type => format = default`. The reference shows the default as
/// [`Show`](super::Show) writes it, or what stands behind `;`.
macro_rules! table {
    (
        $(#[doc = $about:literal])*
        #[derive($($derived:ident),*)]
        $vis:vis struct $name:ident [$header:literal $(, check $check:path)?] {
            $(
                $(#[doc = $doc:literal])*
                $field_vis:vis $key:ident: $type:ty => $format:ty = $default:expr $(; $shown:literal)?,
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive($($derived),*)]
        $vis struct $name {
            $( $(#[doc = $doc])* $field_vis $key: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $key: $default, )* }
            }
        }

        impl $crate::config::decode::Table for $name {
            const HEADER: &'static str = $header;
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            fn set(
                &mut self,
                node: $crate::config::decode::Node<'_>,
                reader: &mut $crate::config::decode::Reader<'_>,
            ) -> bool {
                match node.name {
                    $( stringify!($key) => {
                        let read = <$format as $crate::config::decode::Format>::read(node, reader);
                        if let Some(value) = read {
                            self.$key = value;
                        }
                    } )*
                    _ => return false,
                }
                true
            }

            fn check(
                &self,
                _table: $crate::config::decode::TableNode<'_>,
                _reader: &mut $crate::config::decode::Reader<'_>,
            ) {
                $( $check(self, _table, _reader); )?
            }

            fn doc() -> $crate::config::decode::TableDoc {
                $crate::config::decode::TableDoc {
                    about: concat!($($about),*).to_owned(),
                    keys: vec![$(
                        $crate::config::decode::KeyDoc {
                            key: stringify!($key),
                            kind: <$format as $crate::config::decode::Format>::expected(),
                            default: table!(@default $format, $default $(, $shown)?),
                            example: <$format as $crate::config::decode::Format>::example(),
                            about: concat!($($doc),*).to_owned(),
                        }
                    ),*],
                }
            }
        }
    };
    (@default $format:ty, $default:expr, $shown:literal) => { $shown.to_owned() };
    (@default $format:ty, $default:expr) => {
        format!("`{}`", <$format as $crate::config::decode::Show>::show(&$default))
    };
}
pub(in crate::config) use table;

/// Reads a table; wrong keys keep their defaults.
pub(in crate::config) fn read_table<T: Table>(
    node: Node<'_>,
    reader: &mut Reader<'_>,
) -> Option<T> {
    let table = as_table(node, T::doc, reader)?;
    let scope = node.inner(T::KEYS, reader);
    let value: T = read_keys(table, &scope, reader);
    value.check(TableNode { node, table }, reader);
    Some(value)
}

/// Reads the keys of a table and reports those that it does not have.
pub(in crate::config) fn read_keys<T: Table>(
    table: &DeTable<'_>,
    scope: &Scope<'_>,
    reader: &mut Reader<'_>,
) -> T {
    let mut value = T::default();
    for entry in table {
        let child = Node::child(entry, scope, reader);
        if !value.set(child, reader) {
            unknown::report(child, reader);
        }
    }
    value
}

fn as_table<'t>(
    node: Node<'t>,
    doc: impl FnOnce() -> TableDoc,
    reader: &mut Reader<'_>,
) -> Option<&'t DeTable<'t>> {
    if let DeValue::Table(table) = node.value {
        return Some(table);
    }
    let doc = doc();
    let key = doc
        .keys
        .first()
        .map(|key| format!(" = {{ {} = {} }}", key.key, key.example));
    let help = match node.scope.parent {
        None => format!(
            "write `[{}]` on a line of its own, and its keys below",
            node.name
        ),
        Some(_) => format!("for example `{}{}`", node.name, key.unwrap_or_default()),
    };
    reader.wrong(node, "a table", Some(help))
}

/// A table within a table.
pub(in crate::config) struct Sub<T>(PhantomData<T>);

impl<T: Table> Format for Sub<T> {
    type Value = T;

    fn expected() -> String {
        format!("a table, see `[{}]`", T::HEADER)
    }

    fn example() -> String {
        let doc = T::doc();
        let first = doc.keys.first();
        let key = first.map(|key| format!("{} = {}", key.key, key.example));
        format!("{{ {} }}", key.unwrap_or_default())
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<T> {
        read_table(node, reader)
    }
}

/// A table of named tables, such as `[routes.*]`.
pub(in crate::config) struct Named<T>(PhantomData<T>);

/// One of the tables of a [`Named`].
#[derive(Clone, Debug)]
pub(in crate::config) struct Entry<T> {
    /// Where the name stands.
    pub(in crate::config) place: Place,
    /// The table.
    pub(in crate::config) value: T,
}

impl<T: Table> Format for Named<T> {
    type Value = BTreeMap<Arc<str>, Entry<T>>;

    fn expected() -> String {
        format!("tables `[{}]`", T::HEADER)
    }

    fn example() -> String {
        format!("[{}]", T::HEADER)
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let DeValue::Table(table) = node.value else {
            let help = format!(
                "write `[{}.NAME]` on a line of its own, and its keys below",
                node.name
            );
            return reader.wrong(node, "tables with names", Some(help));
        };
        let scope = node.inner(&[], reader);
        let mut entries = BTreeMap::new();
        for entry in table {
            let child = Node::child(entry, &scope, reader);
            check_name(child, reader);
            if let Some(value) = read_entry::<T>(child, reader) {
                entries.insert(
                    Arc::from(child.name),
                    Entry {
                        place: child.key,
                        value,
                    },
                );
            }
        }
        Some(entries)
    }
}

fn read_entry<T: Table>(node: Node<'_>, reader: &mut Reader<'_>) -> Option<T> {
    if let DeValue::Table(_) = node.value {
        return read_table(node, reader);
    }
    let place = node.key;
    let outer = &node.scope.header;
    let finding = Finding::error(
        place,
        format!(
            "`{}` is no key of `[{outer}]`, which holds named tables only",
            node.name
        ),
    );
    let belongs = T::KEYS.contains(&node.name);
    let finding = match belongs {
        true => finding.help(format!(
            "`{}` is a key of `[{}]`: give the table a name",
            node.name,
            T::HEADER
        )),
        false => finding.help(format!(
            "a table begins with a line such as `[{outer}.{}]`",
            quoted_key(node.name)
        )),
    };
    reader.report(finding);
    None
}

/// Names go into logs, metrics and messages.
fn check_name(node: Node<'_>, reader: &mut Reader<'_>) {
    let name = node.name;
    let wrong = if name.is_empty() {
        "a name must not be empty"
    } else if name.chars().count() > LONGEST_NAME {
        "a name has 100 characters at most"
    } else if name.chars().any(char::is_control) {
        "a name must not hold control characters"
    } else {
        return;
    };
    reader.report(Finding::error(node.key, wrong));
}

const LONGEST_NAME: usize = 100;
