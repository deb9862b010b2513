//! The answer to a request that is too much: 429, and when to come again.

use std::sync::Arc;

use http::{HeaderValue, header::RETRY_AFTER};

use super::{
    fields::{Report, Reports, seconds},
    grant::tell,
    limit::Limit,
    tier::Tier,
};
use crate::{
    exchange::{Context, Reason, Rejection, Response},
    store::{Refused, Standing},
};

/// What a refusing limit says.
pub(super) struct Refusal<'a> {
    pub(super) limit: &'a Limit,
    pub(super) tier: &'a Arc<Tier>,
    /// The window that takes longest.
    pub(super) window: usize,
    pub(super) refused: Refused,
}

impl Refusal<'_> {
    /// The answer. `reports` names the policies of the whole stage.
    pub(super) fn respond(&self, context: &Context, mut reports: Reports, outer: bool) -> Response {
        let name = &self.limit.config.name;
        context.limited_by(name);
        let wait = self.refused.wait.map(seconds);
        // Where time alone does not help, a second is as good as any.
        let wait_or_so = wait.unwrap_or(1).max(1);
        let mut response = Rejection::new(Reason::LimitExceeded)
            .detail("limit", &**name)
            .header(RETRY_AFTER, HeaderValue::from(wait_or_so))
            .respond(context);
        // The refusing window has the word, however others stand.
        reports.tightest = None;
        reports.stands(Report {
            tier: Arc::clone(self.tier),
            headers: self.limit.config.headers,
            window: self.window,
            standing: Standing {
                remaining: 0,
                reset: self.refused.wait,
            },
        });
        tell(&mut response, reports, true, outer);
        response
    }
}
