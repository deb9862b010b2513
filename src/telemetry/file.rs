//! Metrics of watched files.

use std::sync::Arc;

use super::{
    holders::{HeldSeries, Holder, Holders},
    singles::FileFamilies,
};

/// The handle of one owner's file. The series go with the owner's last handle.
#[derive(Debug)]
pub struct FileMetrics(Holder<FileFamilies>);

impl FileMetrics {
    pub(super) fn new(owner: &str, files: &Arc<Holders<FileFamilies>>) -> Self {
        Self(Holder::new(owner, files))
    }

    /// Counts a reading of new content.
    pub fn was_read(&self, usable: bool) {
        let result = if usable { SUCCESS } else { FAILURE };
        let (owner, families) = (self.0.name(), self.0.families());
        let successful = families.successful.with_label_values(&[owner]);
        successful.set(i64::from(usable));
        families.reads.with_label_values(&[owner, result]).inc();
    }
}

impl HeldSeries for FileFamilies {
    fn remove(&self, owner: &str) {
        // Removing fails only when the series is not there.
        let _ = self.successful.remove_label_values(&[owner]);
        for result in [SUCCESS, FAILURE] {
            let _ = self.reads.remove_label_values(&[owner, result]);
        }
    }
}

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";

#[cfg(test)]
mod tests {
    use crate::telemetry::Metrics;

    #[test]
    fn the_series_of_a_file_live_as_long_as_its_last_handle() {
        let metrics = Metrics::new();
        let old = metrics.file("api_keys.partners");
        old.was_read(false);
        let series = "tollgate_file_last_read_successful{owner=\"api_keys.partners\"} ";
        assert!(metrics.encode().contains(&format!("{series}0")));
        let new = metrics.file("api_keys.partners");
        new.was_read(true);
        drop(old);
        assert!(metrics.encode().contains(&format!("{series}1")));
        drop(new);
        assert!(!metrics.encode().contains("api_keys.partners"));
    }
}
