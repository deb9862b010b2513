//! What an HTTP cache may do, as pure functions over a request, a response, what is stored and the
//! time (RFC 9111).
//!
//! Nothing here reads a clock, waits or does IO: the store, fills and the middleware are built on
//! it. In the order in which a request meets it:
//!
//! 1. [`Asked::read`]: what a request asks of the cache, or why it is passed by.
//! 2. [`Nominated::key`]: which variant of a URL it selects.
//! 3. [`reuse()`]: whether what is stored may answer it; [`select()`]: whole, 304, 206 or 416.
//! 4. [`make_conditional`]: the request that validates what is stored; [`merge()`]: what its 304
//!    changes; [`stale_instead`]: whether a failure is answered from the store.
//! 5. [`judge()`]: whether an answer may be stored, for whom and for how long; [`invalidated`]: which
//!    URLs an unsafe request has changed.
//! 6. [`CacheStatus`]: the field that tells it all.
//!
//! What is asked on every hit is computed once, when an answer is stored ([`Facts`]): a hit parses
//! nothing of it.
//!
//! It is our own. By its source `http-cache-semantics` 3.0.0 would lose two dozen of the suite's required
//! tests, and some of what it does could give one client another's answer: `docs/cache.md` says which, and
//! where. One policy of it is one variant: choosing among them would be ours anyway.

mod cache_status;
mod conditional;
mod date;
mod directives;
mod freshness;
mod invalidate;
mod judge;
mod merge;
mod moment;
mod options;
mod ranges;
mod request;
mod reuse;
mod select;
mod stored;
mod targeted;
mod vary;

#[cfg(test)]
mod tests;

pub use cache_status::{CacheStatus, Forwarded};
pub use conditional::{make_conditional, unconditional};
pub use date::{format_http_date, parse_http_date};
pub use directives::{RequestDirectives, ResponseDirectives};
pub use invalidate::{Url, invalidated};
pub use judge::{Answer, NotStored, Verdict, judge, says_nothing_of_others};
pub use merge::{Merged, merge};
pub use moment::Moment;
pub use options::{Options, Scope};
pub use ranges::{ByteRange, RangeSet};
pub use request::{Asked, Bypass, Class, Incoming, is_safe};
pub use reuse::{Failure, Reuse, each_validates, reuse, serves_stale, stale_instead};
pub use select::{
    Selected, has_already, needs_length, not_modified, partial, select, unsatisfiable,
};
pub use stored::{Audience, Facts, StoredHead};
pub use vary::{Nominated, Unkeyed, VariantKey};
