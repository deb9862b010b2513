//! How long a request waits for Redis before it asks the upstream.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::store::Away;

/// How long Redis may take for all that is asked at a time: each call has its own deadline, but a slow
/// Redis would cost a request several.
pub(super) struct RedisTime(Duration);

impl RedisTime {
    /// So much.
    pub(super) fn new(most: Duration) -> Self {
        Self(most)
    }

    /// What calls have brought; cut when the time is over. A call that takes all of it has its own
    /// deadline first: that counts for the breaker, a cut does not.
    pub(super) async fn within<T>(
        &mut self,
        calls: impl Future<Output = Result<T, Away>>,
    ) -> Result<T, Away> {
        let began = Instant::now();
        let result = timeout(self.0 + TIMER, calls).await;
        self.0 = self.0.saturating_sub(began.elapsed());
        result.unwrap_or(Err(Away::Timeout))
    }
}

/// What the runtime's timers are exact to, twice.
const TIMER: Duration = Duration::from_millis(2);
