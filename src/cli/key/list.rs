//! `tollgate key list`: the keys of a file and how they stand.

use std::{path::Path, time::SystemTime};

use crate::{
    cli::output::{self, Outcome},
    config::{KeysFile, StoredKey, date_of},
};

pub(super) fn run(path: &Path) -> Outcome {
    let file = KeysFile::load(path).map_err(|findings| output::bad_config(&findings))?;
    let now = SystemTime::now();
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(file.keys.iter().map(|(id, key)| row(id, key, now)));
    output::say(&output::aligned(&rows))
}

fn row(id: &str, key: &StoredKey, now: SystemTime) -> [String; 6] {
    let date = |moment: Option<SystemTime>| {
        let text = moment.map(|moment| date_of(moment).to_string());
        text.unwrap_or_else(|| "-".to_owned())
    };
    [
        id.to_owned(),
        state(key, now),
        list(&key.roles),
        date(key.created),
        date(key.expires),
        // Its beginning.
        format!("{:?}", key.hash),
    ]
}

fn state(key: &StoredKey, now: SystemTime) -> String {
    let old = key.previous.iter().filter(|(_, until)| *until > now);
    match old.count() {
        _ if key.revoked.is_some() => "revoked".to_owned(),
        _ if key.expires.is_some_and(|expires| expires <= now) => "expired".to_owned(),
        _ if key.not_before.is_some_and(|from| from > now) => "not yet".to_owned(),
        0 => "good".to_owned(),
        old => format!("good, {old} old"),
    }
}

fn list(words: &[String]) -> String {
    match words {
        [] => "-".to_owned(),
        words => words.join(","),
    }
}

const HEADINGS: [&str; 6] = ["ID", "STATE", "ROLES", "CREATED", "EXPIRES", "HASH"];
