//! The reference of all tables and keys, made from the declarations that decode them.

use std::fmt::Write;

use super::{
    Admin, Cache, CacheRule, Cors, Log, Rbac, RequestEdits, ResponseEdits, SecurityHeaders,
    Validation,
    access::{AllKeys as AllPermissions, IpKeys, IpSetKeys},
    auth::{
        AllKeys, ApiKeysTable, AuthTables, BasicTable, ExternalKeys, JwtKeys, KeyRefresh,
        RevocationKeys,
    },
    condition::ConditionKeys,
    decode::{KeyDoc, Table, TableDoc},
    document::{Document, Include},
    log::AccessLog,
    rate_limit::RateLimitKeys,
    redis::Redis,
    rewrite::Rewrite,
    role::RoleKeys,
    route::{RouteKeys, Timeouts},
    server::{Drain, Http2, Limits, Server},
    server_url::ServerKeys,
    share::{DefaultKeys, GroupKeys},
    subrequests::Subrequests,
    target::{RedirectKeys, Respond},
    upstream::{HealthCheck, UpstreamKeys},
};

/// A table as the reference lists it.
pub(super) struct Listed {
    /// Its header, as [`Table::HEADER`].
    pub(super) header: &'static str,
    /// Its keys.
    pub(super) keys: &'static [&'static str],
    /// What there is to say about it. Made when it is asked for: a finding about an unknown key needs
    /// headers and names alone, and may come thousands of times.
    doc: fn() -> TableDoc,
}

impl Listed {
    const fn of<T: Table>() -> Self {
        Self {
            header: T::HEADER,
            keys: T::KEYS,
            doc: T::doc,
        }
    }
}

/// All tables, in the order of the reference.
pub(super) const TABLES: [Listed; 43] = [
    Listed::of::<Document>(),
    Listed::of::<Include>(),
    Listed::of::<Server>(),
    Listed::of::<Limits>(),
    Listed::of::<Http2>(),
    Listed::of::<Drain>(),
    Listed::of::<Admin>(),
    Listed::of::<Log>(),
    Listed::of::<AccessLog>(),
    Listed::of::<Cache>(),
    Listed::of::<CacheRule>(),
    Listed::of::<Cors>(),
    Listed::of::<AuthTables>(),
    Listed::of::<JwtKeys>(),
    Listed::of::<KeyRefresh>(),
    Listed::of::<RevocationKeys>(),
    Listed::of::<ExternalKeys>(),
    Listed::of::<ApiKeysTable>(),
    Listed::of::<BasicTable>(),
    Listed::of::<RoleKeys>(),
    Listed::of::<IpSetKeys>(),
    Listed::of::<Subrequests>(),
    Listed::of::<Redis>(),
    Listed::of::<UpstreamKeys>(),
    Listed::of::<ServerKeys>(),
    Listed::of::<HealthCheck>(),
    Listed::of::<RateLimitKeys>(),
    Listed::of::<RouteKeys>(),
    Listed::of::<ConditionKeys>(),
    Listed::of::<AllKeys>(),
    Listed::of::<Respond>(),
    Listed::of::<RedirectKeys>(),
    Listed::of::<Rewrite>(),
    Listed::of::<Timeouts>(),
    Listed::of::<SecurityHeaders>(),
    Listed::of::<RequestEdits>(),
    Listed::of::<ResponseEdits>(),
    Listed::of::<Validation>(),
    Listed::of::<AllPermissions>(),
    Listed::of::<Rbac>(),
    Listed::of::<IpKeys>(),
    Listed::of::<GroupKeys>(),
    Listed::of::<DefaultKeys>(),
];

/// All tables and keys of `gateway.toml` in Markdown: type, default, example and meaning.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    for table in &TABLES {
        push_table(&mut text, table);
    }
    text
}

fn push_table(text: &mut String, table: &Listed) {
    let heading = match table.header {
        "" => "The file".to_owned(),
        header => format!("`[{header}]`"),
    };
    let doc = (table.doc)();
    let about = sentence(&doc.about);
    // Writing to a string can't fail.
    let _ = writeln!(text, "### {heading}\n\n{about}\n");
    if SHARED.contains(&table.header) {
        let keys: Vec<_> = doc
            .keys
            .iter()
            .map(|key| format!("`{}`", key.key))
            .collect();
        let _ = writeln!(text, "Keys, as in `[routes.NAME]`: {}.\n", keys.join(", "));
        return;
    }
    text.push_str("| key | expects | default | example | meaning |\n|---|---|---|---|---|\n");
    for key in &doc.keys {
        push_key(text, key);
    }
    text.push('\n');
}

fn push_key(text: &mut String, key: &KeyDoc) {
    let cells = [
        format!("`{}`", key.key),
        key.kind.clone(),
        key.default.clone(),
        format!("`{}`", key.example),
        sentence(&key.about),
    ];
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

/// A doc comment as a sentence: without the name that it begins with, with a capital.
fn sentence(doc: &str) -> String {
    let doc = doc.trim();
    let named = doc
        .split_once("`: ")
        .filter(|(name, _)| name.starts_with('`') && !name[1..].contains('`'));
    let text = named.map_or(doc, |(_, text)| text);
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Tables that repeat keys of another.
const SHARED: [&str; 2] = ["groups.NAME", "defaults"];
