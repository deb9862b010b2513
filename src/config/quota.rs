//! Quotas as one writes them: `"1000/1h"`, so many in such a time.

use std::time::Duration;

use super::decode::{Format, Node, Problem, Reader, Show, TimeOrZero, duration, quoted};

/// `"1000/1h"`.
pub(super) struct Quota;

impl Format for Quota {
    type Value = (u64, Duration);

    fn expected() -> String {
        "a quota such as \"1000/1h\"".to_owned()
    }

    fn example() -> String {
        "\"1000/1h\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<(u64, Duration)> {
        reader.parse(node, &Self::expected(), quota)
    }
}

impl Show for Quota {
    fn show(value: &(u64, Duration)) -> String {
        quoted(&quota_text(*value))
    }
}

/// Reads a quota: `100/1m`, `100/min`, `10/s`.
fn quota(text: &str) -> Result<(u64, Duration), Problem> {
    let (count, window) = text.split_once('/').ok_or_else(Problem::plain)?;
    let count: u64 = count.parse().map_err(|_| Problem::plain())?;
    let window = window_of(window)?;
    if count == 0 {
        return Err(Problem::what("a quota of nothing admits nobody"));
    }
    if window < SHORTEST {
        return Err(Problem::what(
            "the time is too short: it has a second at least",
        ));
    }
    Ok((count, window))
}

fn window_of(text: &str) -> Result<Duration, Problem> {
    match text {
        "s" | "sec" | "second" => Ok(Duration::from_secs(1)),
        "m" | "min" | "minute" => Ok(Duration::from_secs(60)),
        "h" | "hour" => Ok(Duration::from_secs(3600)),
        "d" | "day" => Ok(Duration::from_secs(86_400)),
        _ => duration(text),
    }
}

/// Reads a quota as one gives it to a command.
///
/// # Errors
///
/// What was expected.
pub fn quota_of(text: &str) -> Result<(u64, Duration), String> {
    quota(text).map_err(|_| "expected a quota such as 1000/1h".to_owned())
}

/// A quota as it is written.
#[must_use]
pub fn quota_text((count, window): (u64, Duration)) -> String {
    format!("{count}/{}", TimeOrZero::show(&window).trim_matches('"'))
}

const SHORTEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_number_and_a_time() {
        assert_eq!(quota("100/1m"), Ok((100, Duration::from_secs(60))));
        assert_eq!(quota("100/min"), Ok((100, Duration::from_secs(60))));
        assert_eq!(quota("10/s"), Ok((10, Duration::from_secs(1))));
        assert_eq!(quota("5/90s"), Ok((5, Duration::from_secs(90))));
        for wrong in [
            "", "5", "/1m", "0/1m", "5/", "5/0s", "5/1ms", "-1/s", "5/1y",
        ] {
            assert!(quota(wrong).is_err(), "{wrong}");
        }
        assert_eq!(quota_text((5, Duration::from_secs(90))), "5/90s");
        assert_eq!(quota_text((5, Duration::from_secs(3600))), "5/1h");
    }
}
