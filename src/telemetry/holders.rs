//! Series that live as long as the last handle of their name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Families of which a name has series.
pub(super) trait HeldSeries {
    /// Removes the series of a name, if there are any.
    fn remove(&self, name: &str);
}

/// Families and the names that are held. These names are few, so they stand outside the cap on series.
#[derive(Debug)]
pub(super) struct Holders<F> {
    families: F,
    /// Handles of each name: a reload makes the new one before the old one goes.
    held: Mutex<HashMap<Arc<str>, usize>>,
}

impl<F> Holders<F> {
    pub(super) fn new(families: F) -> Arc<Self> {
        Arc::new(Self {
            families,
            held: Mutex::default(),
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        // A number is written as a whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One handle of a name. The series go with the name's last.
#[derive(Debug)]
pub(super) struct Holder<F: HeldSeries> {
    name: Arc<str>,
    all: Arc<Holders<F>>,
}

impl<F: HeldSeries> Holder<F> {
    pub(super) fn new(name: &str, all: &Arc<Holders<F>>) -> Self {
        let name: Arc<str> = name.into();
        *all.held().entry(Arc::clone(&name)).or_default() += 1;
        let all = Arc::clone(all);
        Self { name, all }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn families(&self) -> &F {
        &self.all.families
    }
}

impl<F: HeldSeries> Drop for Holder<F> {
    fn drop(&mut self) {
        let mut held = self.all.held();
        let handles = held.entry(Arc::clone(&self.name)).or_default();
        *handles = handles.saturating_sub(1);
        if *handles > 0 {
            return;
        }
        held.remove(&self.name);
        // Under the lock: who makes the name's next handle makes its series after this.
        self.families().remove(&self.name);
    }
}
