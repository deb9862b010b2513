//! The answer to a request that is too much: 429, and when to come again.

use http::{HeaderValue, header::RETRY_AFTER};

use super::{
    fields::{Reports, seconds},
    grant::{Place, tell},
    limit::Limit,
};
use crate::{
    exchange::{Context, LimitSaid, Reason, Rejection, Response},
    store::{Refused, Standing},
};

/// What a refusing limit says.
pub(super) struct Refusal<'a> {
    pub(super) limit: &'a Limit,
    /// The place of its report among those of the stage.
    pub(super) report: usize,
    /// The window that takes longest.
    pub(super) window: usize,
    pub(super) refused: Refused,
}

impl Refusal<'_> {
    /// The answer. `policies` are those of the whole stage; the refusing window has the word, however
    /// others stand.
    pub(super) fn respond(&self, context: &Context, policies: Reports, place: Place) -> Response {
        let name = &self.limit.config.name;
        context.limited(name, LimitSaid::Deny);
        let wait = self.refused.wait.map(seconds);
        // Where time alone does not help, a second is as good as any.
        let wait_or_so = wait.unwrap_or(1).max(1);
        let mut response = Rejection::new(Reason::LimitExceeded)
            .name("limit", name)
            .header(RETRY_AFTER, HeaderValue::from(wait_or_so))
            .respond(context);
        let standing = Standing {
            remaining: 0,
            reset: self.refused.wait,
        };
        let mut reports = policies;
        reports[self.report].stands = Some((self.window, standing));
        tell(&mut response, &reports, true, place);
        response
    }
}
