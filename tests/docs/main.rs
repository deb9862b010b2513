//! What the documentation and the design say, held against the code.

mod arrows;
mod limits_chart;
mod pages;

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

/// Where the sources and the documents are.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
