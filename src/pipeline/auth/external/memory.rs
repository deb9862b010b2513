//! Answers that let a request through, remembered for a while within a bound.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache;

use super::super::method::Grant;

/// The answers of one service. When it is full, those that are seldom asked for go.
pub(super) struct Memory {
    answers: Cache<[u8; 32], Entry>,
    time: Duration,
}

#[derive(Clone)]
struct Entry {
    grant: Arc<Grant>,
    until: Duration,
}

impl Memory {
    /// Remembers each answer for so long.
    pub(super) fn new(time: Duration) -> Self {
        Self {
            answers: Cache::new(MOST),
            time,
        }
    }

    /// The answer that is still good at a moment.
    pub(super) fn get(&self, key: &[u8; 32], now: Duration) -> Option<Arc<Grant>> {
        let entry = self.answers.get(key)?;
        (now < entry.until).then_some(entry.grant)
    }

    /// Remembers an answer, unless it is a large one.
    pub(super) fn insert(&self, key: [u8; 32], grant: &Arc<Grant>, now: Duration) {
        let headers = grant.headers.iter().map(|(_, value)| value.len());
        let roles = grant.principal.roles.iter().map(|role| role.len());
        if headers.chain(roles).sum::<usize>() <= LARGEST {
            let grant = Arc::clone(grant);
            let until = now.saturating_add(self.time);
            self.answers.insert(key, Entry { grant, until });
        }
    }
}

const MOST: usize = 10_000;
const LARGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::exchange::Principal;

    fn grant(value: &str) -> Arc<Grant> {
        let value = HeaderValue::from_str(value).unwrap();
        Arc::new(Grant {
            principal: Arc::new(Principal::new(&"external.sso".into(), "a")),
            headers: Box::new([(HeaderName::from_static("x-user-id"), value)]),
        })
    }

    #[test]
    fn an_answer_is_good_for_its_time() {
        let memory = Memory::new(Duration::from_secs(10));
        memory.insert([1; 32], &grant("a"), Duration::from_secs(5));
        assert!(memory.get(&[1; 32], Duration::from_secs(14)).is_some());
        assert!(memory.get(&[1; 32], Duration::from_secs(15)).is_none());
        assert!(memory.get(&[2; 32], Duration::from_secs(5)).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let memory = Memory::new(Duration::from_secs(10));
        let small = grant("a");
        for index in 0..3 * MOST as u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&index.to_be_bytes());
            memory.insert(key, &small, Duration::ZERO);
        }
        assert!(memory.answers.len() <= MOST);
        memory.insert([9; 32], &grant(&"a".repeat(LARGEST + 1)), Duration::ZERO);
        assert!(memory.get(&[9; 32], Duration::ZERO).is_none());
    }
}
