//! Metrics of watched files.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::{IntCounterVec, IntGaugeVec};

use super::families::Singles;

/// The files of all owners. There are few such files, so they stand outside the cap.
#[derive(Debug)]
pub(super) struct Files {
    successful: IntGaugeVec,
    reads: IntCounterVec,
    /// Handles of each owner: a reload makes the new one before the old one goes.
    held: Mutex<HashMap<Arc<str>, usize>>,
}

impl Files {
    pub(super) fn new(singles: &Singles) -> Arc<Self> {
        Arc::new(Self {
            successful: singles.file_successful.clone(),
            reads: singles.file_reads.clone(),
            held: Mutex::default(),
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        // A number is written as a whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle of one owner's file. The series go with the owner's last handle.
#[derive(Debug)]
pub struct FileMetrics {
    owner: Arc<str>,
    files: Arc<Files>,
}

impl FileMetrics {
    pub(super) fn new(owner: &str, files: &Arc<Files>) -> Self {
        let owner: Arc<str> = owner.into();
        *files.held().entry(Arc::clone(&owner)).or_default() += 1;
        let files = Arc::clone(files);
        Self { owner, files }
    }

    /// Counts a reading of new content.
    pub fn was_read(&self, usable: bool) {
        let result = if usable { SUCCESS } else { FAILURE };
        let (owner, files) = (&*self.owner, &self.files);
        let successful = files.successful.with_label_values(&[owner]);
        successful.set(i64::from(usable));
        files.reads.with_label_values(&[owner, result]).inc();
    }
}

impl Drop for FileMetrics {
    fn drop(&mut self) {
        let mut held = self.files.held();
        let handles = held.entry(Arc::clone(&self.owner)).or_default();
        *handles = handles.saturating_sub(1);
        if *handles > 0 {
            return;
        }
        held.remove(&self.owner);
        // Removing fails only when the series is not there.
        let _ = self.files.successful.remove_label_values(&[&self.owner]);
        for result in [SUCCESS, FAILURE] {
            let _ = self.files.reads.remove_label_values(&[&self.owner, result]);
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
