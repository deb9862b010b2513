//! Quotas: `100/1m`, `100/min`, `10/s`; a number alone is how many at a time.

use std::{fmt, time::Duration};

use toml::de::DeValue;

use super::{Count, Format, Node, OneOrList, Problem, Reader};
use crate::config::decode::{Show, TimeOrZero, duration};

/// So many in such a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    /// How many.
    pub count: u32,
    /// In which time; `None` is at a time.
    pub per: Option<Duration>,
}

impl Quota {
    /// The time as it is written: `1m`.
    #[must_use]
    pub fn time(&self) -> Option<String> {
        let shown = TimeOrZero::show(&self.per?);
        Some(shown.trim_matches('"').to_owned())
    }
}

/// As it is written: `100/1m`, or how many at a time.
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time() {
            Some(time) => write!(f, "{}/{time}", self.count),
            None => write!(f, "{}", self.count),
        }
    }
}

/// One quota.
pub(super) struct QuotaText;

/// One quota or a list of them.
pub(super) type Quotas = OneOrList<QuotaText>;

impl Format for QuotaText {
    type Value = Quota;

    fn expected() -> String {
        "a quota such as \"100/1m\" or \"10/s\"".to_owned()
    }

    fn example() -> String {
        "\"100/1m\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Quota> {
        if let DeValue::Integer(_) = node.value {
            let count = Count::<u32, 1, { u32::MAX as u64 }>::read(node, reader)?;
            return Some(Quota { count, per: None });
        }
        reader.parse(node, &Self::expected(), quota)
    }
}

/// Reads a quota with a time.
pub(in crate::config) fn quota(text: &str) -> Result<Quota, Problem> {
    let Some((count, per)) = text.split_once('/') else {
        let help = "so many and such a time, with `/` between: `\"100/1m\"`";
        return Err(Problem::plain().help(help));
    };
    let (count, per) = (count.trim_end(), per.trim_start());
    let count = count.parse::<u32>().ok().filter(|count| *count > 0);
    let count = count.ok_or_else(|| {
        Problem::what("how many is a number from 1 to 4294967295")
            .help("a number alone: what nginx calls `10r/s` is `\"10/s\"`")
    })?;
    let per = Some(time(per)?);
    Ok(Quota { count, per })
}

/// `1m`, or a unit alone.
fn time(text: &str) -> Result<Duration, Problem> {
    let seconds = match text {
        "s" | "sec" | "second" => 1,
        "m" | "min" | "minute" => 60,
        "h" | "hour" => 3600,
        "d" | "day" => 86_400,
        text => {
            let time = duration(text)?;
            return match time.is_zero() {
                true => Err(Problem::what("the time must be longer than nothing")),
                false => Ok(time),
            };
        }
    };
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<(u32, u64)> {
        let quota = quota(text).ok()?;
        Some((quota.count, u64::try_from(quota.per?.as_millis()).ok()?))
    }

    #[test]
    fn a_quota_is_so_many_in_such_a_time() {
        assert_eq!(read("100/1m"), Some((100, 60_000)));
        assert_eq!(read("100/min"), Some((100, 60_000)));
        assert_eq!(read("10/s"), Some((10, 1_000)));
        assert_eq!(read("5 / 100ms"), Some((5, 100)));
        assert_eq!(read("1/day"), Some((1, 86_400_000)));
        for wrong in [
            "100",
            "0/s",
            "-1/s",
            "1/0s",
            "1/",
            "/s",
            "1/5000d",
            "4294967296/s",
            "1/s/s",
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_quota_panic(text: String) {
            let _ = quota(&text);
        }
    }
}
