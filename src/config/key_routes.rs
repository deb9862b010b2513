//! Routes of API keys that are not there.
//!
//! A key that names its routes is refused on all others. A slip of the pen in a name makes it good
//! for nothing, and whoever has it is told only that it can't be used here.

use std::collections::BTreeSet;

use super::{
    auth::KeysOf, decode::nearest, diagnostic::Finding, keys_file::StoredKey, routes::Built,
    source::Place,
};

/// Warns of such routes, of each once for a file: the first such key stands for all.
pub(super) fn check(files: &[KeysOf], built: &[Built], findings: &mut Vec<Finding>) {
    let known: BTreeSet<&str> = built.iter().map(|one| &*one.route.name).collect();
    for file in files {
        let mut told = BTreeSet::new();
        for (id, key) in &file.keys.keys {
            let missing = missing(key, &known).filter(|route| told.insert(*route));
            findings.extend(missing.map(|route| finding(file.place, id, route, &known)));
        }
    }
}

fn missing<'k>(key: &'k StoredKey, known: &BTreeSet<&str>) -> impl Iterator<Item = &'k str> {
    let routes = key.routes.iter().map(String::as_str);
    routes.filter(move |route| key.revoked.is_none() && !known.contains(*route))
}

fn finding(place: Place, id: &str, route: &str, known: &BTreeSet<&str>) -> Finding {
    let message = format!(
        "`keys_file`: the key `{id}` is for the route `{route}`, and there is no such route"
    );
    let help = nearest(route, known.iter().copied()).map_or_else(
        || "it is good on none but the routes that it names".to_owned(),
        |near| format!("did you mean `\"{near}\"`?"),
    );
    Finding::warning(place, message).help(help)
}
