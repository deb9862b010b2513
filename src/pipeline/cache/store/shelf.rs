//! What is stored under one key.

use std::{
    slice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use smallvec::SmallVec;

use super::{Kept, passes::Passes};
use crate::pipeline::cache::key::Label;

/// The variants of one key. A copy of it counts a reference.
#[derive(Debug)]
pub struct Shelf<V>(Variants<V>);

#[derive(Debug)]
enum Variants<V> {
    /// What nearly every key has.
    One(Arc<V>),
    Several(Arc<Several<V>>),
}

/// Several variants, or none, and what is known of their key.
#[derive(Debug)]
struct Several<V> {
    label: Label,
    variants: Box<[Arc<V>]>,
    /// Until when requests for which nothing is here do not wait for each other: answers of this key
    /// turned out to be for one caller each.
    passes: Passes,
    /// When it was last looked elsewhere for what is not here, in vain; zero where it was not.
    missed: AtomicU64,
    weight: u64,
}

impl<V: Kept> Shelf<V> {
    pub(super) fn new(label: &Label, variants: SmallVec<[Arc<V>; 1]>, passes: Passes) -> Self {
        if let ([one], true) = (variants.as_slice(), passes.is_empty()) {
            return Self(Variants::One(Arc::clone(one)));
        }
        let objects: u64 = variants.iter().map(|variant| variant.weight()).sum();
        let held = size_of::<Several<V>>() + COUNTS + variants.len() * size_of::<Arc<V>>();
        Self(Variants::Several(Arc::new(Several {
            weight: objects + (held + label.heap() + passes.heap()) as u64,
            label: label.clone(),
            variants: variants.into_boxed_slice(),
            passes,
            missed: AtomicU64::new(0),
        })))
    }

    /// The same, for which it was last looked elsewhere when it was for another.
    #[must_use]
    pub(super) fn missed_with(self, other: Option<&Self>) -> Self {
        if let Some(Variants::Several(other)) = other.map(|other| &other.0) {
            self.note_look(Some(other.missed.load(Relaxed)));
        }
        self
    }

    pub(super) fn label(&self) -> &Label {
        match &self.0 {
            Variants::One(variant) => variant.label(),
            Variants::Several(several) => &several.label,
        }
    }

    pub(super) fn weight(&self) -> u64 {
        match &self.0 {
            Variants::One(variant) => variant.weight(),
            Variants::Several(several) => several.weight,
        }
    }
}

impl<V> Shelf<V> {
    /// The variants, the newest first.
    #[must_use]
    pub fn variants(&self) -> &[Arc<V>] {
        match &self.0 {
            Variants::One(variant) => slice::from_ref(variant),
            Variants::Several(several) => &several.variants,
        }
    }

    /// One of the variants, which costs no reference more where there is but one.
    #[must_use]
    pub fn take(self, index: usize) -> Option<Arc<V>> {
        match self.0 {
            Variants::One(variant) => (index == 0).then_some(variant),
            Variants::Several(several) => several.variants.get(index).cloned(),
        }
    }

    /// Whether requests for which nothing is here should not wait for each other now, whoever asks.
    #[must_use]
    pub fn passes(&self, now: u64) -> bool {
        match &self.0 {
            Variants::One(_) => false,
            Variants::Several(several) => now < several.passes.until(),
        }
    }

    /// Whether that was learnt of this one.
    #[must_use]
    pub fn passes_alone(&self, asker: u64, now: u64) -> bool {
        match &self.0 {
            Variants::One(_) => false,
            Variants::Several(several) => now < several.passes.until_for(asker),
        }
    }

    /// Whether that was learnt of one's group, and is so or was so long ago at most, and nothing has come
    /// here since.
    #[must_use]
    pub fn passed_within(&self, asker: u64, now: u64, ago: u64) -> bool {
        match &self.0 {
            Variants::One(_) => false,
            Variants::Several(several) => {
                let until = several.passes.until_for_group_of(asker);
                until > 0 && now < until.saturating_add(ago)
            }
        }
    }

    /// Whether it may be looked elsewhere for what is not here: where there was nothing a moment ago, now and then,
    /// and by one alone.
    #[must_use]
    pub(super) fn may_look(&self, now: u64) -> bool {
        let Variants::Several(several) = &self.0 else {
            return true;
        };
        let missed = several.missed.load(Relaxed);
        let is_due = now >= missed.saturating_add(BETWEEN_LOOKS);
        let is_first = || {
            let noted = several
                .missed
                .compare_exchange(missed, now, Relaxed, Relaxed);
            noted.is_ok()
        };
        missed == 0 || (is_due && is_first())
    }

    /// Notes when it was looked so in vain, or that there was something.
    pub(super) fn note_look(&self, in_vain: Option<u64>) {
        if let Variants::Several(several) = &self.0 {
            several.missed.store(in_vain.unwrap_or(0), Relaxed);
        }
    }

    pub(super) fn passes_of_all(&self) -> Passes {
        match &self.0 {
            Variants::One(_) => Passes::default(),
            Variants::Several(several) => several.passes.clone(),
        }
    }
}

impl<V> Clone for Shelf<V> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Variants::One(variant) => Variants::One(Arc::clone(variant)),
            Variants::Several(several) => Variants::Several(Arc::clone(several)),
        })
    }
}

/// The counts of what is shared.
const COUNTS: usize = 16;
/// How long it is not looked elsewhere behind a look that was in vain.
const BETWEEN_LOOKS: u64 = Duration::from_millis(250).as_nanos() as u64;
