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

/// All tables and keys of `gateway.toml` in Markdown: type, default, example and meaning.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    for table in tables() {
        push_table(&mut text, &table);
    }
    text
}

/// All tables, in the order of the reference.
pub(super) fn tables() -> Vec<TableDoc> {
    vec![
        Document::doc(),
        Include::doc(),
        Server::doc(),
        Limits::doc(),
        Http2::doc(),
        Drain::doc(),
        Admin::doc(),
        Log::doc(),
        AccessLog::doc(),
        Cache::doc(),
        CacheRule::doc(),
        Cors::doc(),
        AuthTables::doc(),
        JwtKeys::doc(),
        KeyRefresh::doc(),
        RevocationKeys::doc(),
        ExternalKeys::doc(),
        ApiKeysTable::doc(),
        BasicTable::doc(),
        RoleKeys::doc(),
        IpSetKeys::doc(),
        Subrequests::doc(),
        UpstreamKeys::doc(),
        ServerKeys::doc(),
        HealthCheck::doc(),
        RateLimitKeys::doc(),
        RouteKeys::doc(),
        ConditionKeys::doc(),
        AllKeys::doc(),
        Respond::doc(),
        RedirectKeys::doc(),
        Rewrite::doc(),
        Timeouts::doc(),
        SecurityHeaders::doc(),
        RequestEdits::doc(),
        ResponseEdits::doc(),
        Validation::doc(),
        AllPermissions::doc(),
        Rbac::doc(),
        IpKeys::doc(),
        GroupKeys::doc(),
        DefaultKeys::doc(),
    ]
}

fn push_table(text: &mut String, table: &TableDoc) {
    let heading = match table.header {
        "" => "The file".to_owned(),
        header => format!("`[{header}]`"),
    };
    let about = sentence(&table.about);
    // Writing to a string can't fail.
    let _ = writeln!(text, "### {heading}\n\n{about}\n");
    if SHARED.contains(&table.header) {
        let keys: Vec<_> = table
            .keys
            .iter()
            .map(|key| format!("`{}`", key.key))
            .collect();
        let _ = writeln!(text, "Keys, as in `[routes.NAME]`: {}.\n", keys.join(", "));
        return;
    }
    text.push_str("| key | expects | default | example | meaning |\n|---|---|---|---|---|\n");
    for key in &table.keys {
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
