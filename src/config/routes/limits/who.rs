//! The principals of `overrides` and `exempt`: of a way to authenticate that is not there nobody is one,
//! and what was said of them holds nobody.

use std::sync::Arc;

use super::Builder;
use crate::config::{decode::nearest, diagnostic::Finding, routes::MOST_NAMES, source::Place};

impl Builder<'_> {
    /// Looks the ways to authenticate up by which limits name principals.
    pub(in crate::config::routes) fn check_principals(&mut self) {
        let document = self.document;
        let limits = document.rate_limits.values();
        for (principal, place) in limits.flat_map(|entry| entry.value.principals()) {
            // `METHOD.NAME:SUBJECT`: no name of a method has a colon, and a subject may have some.
            let (method, subject) = principal.split_once(':').unwrap_or((principal, ""));
            if !self.callers.iter().any(|(known, _)| **known == *method) {
                let finding = unknown(method, subject, place, &self.callers);
                self.findings.push(finding);
            }
        }
    }
}

fn unknown(method: &str, subject: &str, place: Place, callers: &[(Arc<str>, Place)]) -> Finding {
    let message = format!(
        "there is no way to authenticate called `{method}`: nobody is `{method}:{subject}`"
    );
    let finding = Finding::error(place, message);
    let known = || callers.iter().map(|(name, _)| &**name);
    if let Some(near) = nearest(method, known()) {
        return finding
            .label(format!("did you mean `{near}`?"))
            .help(format!("write `\"{near}:{subject}\"`"));
    }
    let names: Vec<_> = known()
        .take(MOST_NAMES)
        .map(|name| format!("`{name}`"))
        .collect();
    match names.is_empty() {
        true => finding.help(format!("define it: `[auth.{method}]`")),
        false => finding.help(format!(
            "define it as `[auth.{method}]`, or begin the name with one of {}",
            names.join(", ")
        )),
    }
}
