//! How long a request waits for Redis before it asks the upstream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::store::{Away, Redis};

/// How long Redis may take for all that is asked at a time: each call has its own deadline, but a slow
/// Redis would cost a request several.
pub(super) struct RedisTime {
    redis: Arc<Redis>,
    worker: usize,
    left: Duration,
}

impl RedisTime {
    /// As much as one call may take.
    pub(super) fn new(redis: &Arc<Redis>, worker: usize) -> Self {
        Self {
            redis: Arc::clone(redis),
            worker,
            left: redis.timeout(),
        }
    }

    /// What calls have brought; cut when the time is over. A call that takes all of it has its own
    /// deadline first: that counts for the breaker, a cut does not.
    pub(super) async fn within<T>(
        &mut self,
        calls: impl Future<Output = Result<T, Away>>,
    ) -> Result<T, Away> {
        let began = Instant::now();
        let result = self.redis.within(self.worker, self.left, calls).await;
        self.left = self.left.saturating_sub(began.elapsed());
        result.unwrap_or(Err(Away::Timeout))
    }
}
