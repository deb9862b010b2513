//! `tollgate check`: reads a configuration and tells everything that is wrong with it.

use std::path::Path;

use crate::config::{LimitStore, RateLimit};

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
    ))?;
    for limit in loaded.config.rate_limits.values() {
        if limit.store == LimitStore::Redis && limit.lease > 1 {
            output::say(&overshoot(limit))?;
        }
    }
    Ok(())
}

/// What taking tokens in advance may cost at worst.
fn overshoot(limit: &RateLimit) -> String {
    let (name, most) = (&limit.name, limit.lease - 1);
    let tiers = match limit.has_tiers() {
        true => ", for each tier of a caller",
        false => "",
    };
    format!(
        "limit `{name}`: with its lease each gateway may let {most} more through in a window than the quota says{tiers}"
    )
}
