//! `tollgate check`: reads a configuration and tells everything that is wrong with it.

use std::path::Path;

use super::output::{self, Outcome};

pub(super) fn run(file: &Path) -> Outcome {
    let loaded = output::load(file)?;
    let routes = output::count(loaded.config.routes.len(), "route");
    let upstreams = output::count(loaded.config.upstreams.len(), "upstream");
    let warnings = match loaded.warnings.len() {
        0 => String::new(),
        number => format!(", {}", output::count(number, "warning")),
    };
    output::say(&format!(
        "{}: good ({routes}, {upstreams}{warnings})",
        file.display()
    ))
}
