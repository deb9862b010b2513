//! Whether anybody still waits for a fetch or reads it. Without that it goes on in one of few places.

use std::sync::Arc;

use super::{Fill, State};
use crate::pipeline::cache::places::{Place, Places};

/// One who waits for the head.
pub(super) struct Waiting<'a, T: Clone>(&'a Fill<T>);

impl<'a, T: Clone> Waiting<'a, T> {
    pub(super) fn on(fill: &'a Fill<T>) -> Self {
        let mut state = fill.locked();
        let was_attended = state.is_attended();
        state.waiting += 1;
        drop(state);
        if !was_attended {
            fill.attended.notify_one();
        }
        Self(fill)
    }
}

impl<T: Clone> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.locked();
        state.waiting -= 1;
        let is_attended = state.is_attended();
        drop(state);
        if !is_attended {
            self.0.attended.notify_one();
        }
    }
}

impl<T: Clone> Fill<T> {
    /// Ready when nobody waits for the fetch or reads it, and there is no place for it, or none any
    /// more. While it has a client it needs none.
    pub(in crate::pipeline::cache) async fn forsaken(
        &self,
        places: &Arc<Places>,
        mut place: Option<Place>,
    ) {
        loop {
            let lost = match &place {
                None => {
                    self.attended.notified().await;
                    false
                }
                Some(place) => tokio::select! {
                    biased;
                    () = self.attended.notified() => false,
                    () = place.lost() => true,
                },
            };
            if lost {
                if self.locked().forsake() {
                    return;
                }
                place = None;
            }
            let is_attended = self.locked().is_attended();
            place = match is_attended {
                true => None,
                false => match place.or_else(|| places.take()) {
                    None if self.locked().forsake() => return,
                    place => place,
                },
            };
        }
    }
}

impl<T> State<T> {
    /// Whether anybody waits for it or reads it.
    pub(super) fn is_attended(&self) -> bool {
        self.reading + self.waiting > 0
    }

    /// Lets nobody new read along, unless somebody has come meanwhile.
    fn forsake(&mut self) -> bool {
        self.forsaken = !self.is_attended();
        self.forsaken
    }
}
