//! What is counted by key: who has used how much of which quota.
//!
//! ```text
//! key       bytes -> a 128-bit hash under a key of this process: all that is kept of a caller
//! hashed    for tables elsewhere whose keys are such hashes, and are not hashed again
//! table     hash -> state: bounded, sharded, forgetting; no lock is shared by all
//! counting  pure functions over (state, now, cost) -> decision and new state, one file an algorithm
//! counters  a limit's table and algorithm behind one trait: what a limit kept elsewhere stands in for
//! redis     the Redis that gateways share, and decisions about limits that are made there
//! throttle  a table and a token bucket, for whoever wants to limit something by itself
//! ```
//!
//! Times are nanoseconds in `u64`, from whatever origin the caller counts; they are handed in, and no
//! clock is read here.

mod counters;
mod counting;
mod hashed;
mod key;
mod redis;
mod table;
mod throttle;
mod window;

pub use counters::{Counters, Counting, Decision, Taken};
pub use counting::{
    Algorithm, FixedWindow, InFlight, SlidingLog, SlidingWindow, TokenBucket, Windows,
};
pub use hashed::Hashed;
pub use key::{KeyHash, KeyHasher};
pub use redis::{
    Away, Begun, Guard, Heard, Keeping, LogHead, LogPart, Place, Redis, SOFT, SharedAlgorithm,
    SharedAsk, SharedKeys, SharedLimit, SharedTaken, Turn, Unlisted,
};
pub use table::{Slot, Table};
pub use throttle::{Allowed, Denied, Throttle};
pub use window::{Refused, Standing, Window, nanos};
