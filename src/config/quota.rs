//! Quotas that always have a time: those of API keys, and of failures.

use std::time::Duration;

use super::{
    Quota,
    decode::{Format, Node, Problem, Reader, Show, quoted},
    rate_limit::quota,
};

/// `"1000/1h"`.
pub(super) struct TimedQuota;

impl Format for TimedQuota {
    type Value = (u64, Duration);

    fn expected() -> String {
        "a quota such as \"1000/1h\"".to_owned()
    }

    fn example() -> String {
        "\"1000/1h\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<(u64, Duration)> {
        reader.parse(node, &Self::expected(), timed)
    }
}

impl Show for TimedQuota {
    fn show((count, per): &(u64, Duration)) -> String {
        let quota = Quota {
            count: u32::try_from(*count).unwrap_or(u32::MAX),
            per: Some(*per),
        };
        quoted(&quota.to_string())
    }
}

fn timed(text: &str) -> Result<(u64, Duration), Problem> {
    let quota = quota(text)?;
    let per = quota.per.ok_or_else(Problem::plain)?;
    Ok((u64::from(quota.count), per))
}

/// Reads a quota as one gives it to a command.
///
/// # Errors
///
/// What was expected.
pub fn quota_of(text: &str) -> Result<(u64, Duration), String> {
    timed(text).map_err(|_| "expected a quota such as 1000/1h".to_owned())
}
