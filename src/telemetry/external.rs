//! Metrics of external auth.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec};

/// How a question to a service of external auth ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalResult {
    /// It let the request through.
    Allowed,
    /// It refused.
    Denied,
    /// It gave no answer that can be used, or none in time.
    Failed,
    /// It was not asked: it let the same through a short time ago.
    Remembered,
}

impl ExternalResult {
    /// In the order of their numbers.
    const ALL: [Self; 4] = [Self::Allowed, Self::Denied, Self::Failed, Self::Remembered];

    fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Remembered => "remembered",
        }
    }
}

/// The handle of one service. A service that a reload took away keeps its counts.
#[derive(Debug)]
pub struct ExternalMetrics([IntCounter; ExternalResult::ALL.len()]);

impl ExternalMetrics {
    pub(super) fn new(service: &Arc<str>, questions: &IntCounterVec) -> Self {
        Self(
            ExternalResult::ALL
                .map(|result| questions.with_label_values(&[&**service, result.as_str()])),
        )
    }

    /// Counts a question.
    pub fn count(&self, result: ExternalResult) {
        self.0[result as usize].inc();
    }
}
