//! What is counted by key: who has used how much of which quota.
//!
//! ```text
//! key      bytes -> a 128-bit hash under a key of this process: all that is kept of a caller
//! table    hash -> state: bounded, sharded, forgetting; no lock is shared by all
//! counting pure functions over (state, now, cost) -> decision and new state, one file an algorithm
//! throttle a table and one algorithm, for whoever wants to limit something by itself
//! ```
//!
//! Times are nanoseconds in `u64`, from whatever origin the caller counts; they are handed in, and no
//! clock is read here.

mod key;
mod table;
mod throttle;
mod token_bucket;
mod window;

pub use key::{KeyHash, KeyHasher};
pub use table::{Slot, Table, TableFigures};
pub use throttle::{Allowed, Denied, Throttle};
pub use token_bucket::TokenBucket;
pub use window::{Refused, Standing, Window};
