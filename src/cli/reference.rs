//! `tollgate reference`: every key of the configuration, as this very program reads it.

use super::output::{self, Outcome};
use crate::config;

pub(super) fn run() -> Outcome {
    output::say(&config::reference())
}
