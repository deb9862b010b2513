//! Dates in configuration: moments in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toml::{
    de::DeValue,
    value::{Date, Datetime, Offset, Time},
};

use super::decode::{Format, Node, Problem, Reader, duration};

/// A moment: `2026-12-31T00:00:00Z`; a mere date is its first second in UTC.
pub(super) struct Moment;

impl Format for Moment {
    type Value = SystemTime;

    fn expected() -> String {
        "a date such as 2026-12-31T00:00:00Z".to_owned()
    }

    fn example() -> String {
        "2026-12-31T00:00:00Z".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<SystemTime> {
        match node.value {
            DeValue::Datetime(date) => match moment(date) {
                Ok(moment) => Some(moment),
                Err(problem) => reader.refuse(node, &Self::expected(), problem),
            },
            DeValue::String(text) if text.parse::<Datetime>().is_ok() => {
                let help = format!("write it without quotes: `{} = {text}`", node.name);
                reader.wrong(node, &Self::expected(), Some(help))
            }
            _ => reader.wrong(node, &Self::expected(), None),
        }
    }
}

fn moment(datetime: &Datetime) -> Result<SystemTime, Problem> {
    let date = datetime.date.ok_or_else(Problem::plain)?;
    let Some(time) = datetime.time else {
        return at(days(date) * DAY);
    };
    let offset = match datetime.offset {
        Some(Offset::Z) => 0,
        Some(Offset::Custom { minutes }) => i64::from(minutes) * 60,
        None => {
            let help = format!("write `{datetime}Z` for a time in UTC");
            return Err(Problem::what("the time has no zone").help(help));
        }
    };
    let of_day = i64::from(time.hour) * 3600
        + i64::from(time.minute) * 60
        + i64::from(time.second.unwrap_or(0));
    at(days(date) * DAY + of_day - offset)
}

fn at(seconds: i64) -> Result<SystemTime, Problem> {
    let seconds = u64::try_from(seconds).map_err(|_| Problem::what("the date is before 1970"))?;
    // Years have four digits, so it is far from every overflow.
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Reads a moment as one gives it to a command: a date, or a time from now such as `90d`.
///
/// # Errors
///
/// What was expected.
pub fn moment_of(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    let from_now = duration(text).ok().and_then(|time| now.checked_add(time));
    let date = || moment(&text.parse().ok()?).ok();
    from_now.or_else(date).ok_or_else(|| {
        "expected a time from now such as 90d, or a date such as 2026-12-31T00:00:00Z".to_owned()
    })
}

/// A moment as TOML writes it, to the second, in UTC.
#[must_use]
pub fn date_of(moment: SystemTime) -> Datetime {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).map_or(LAST, |seconds| seconds.min(LAST));
    // Each is below its unit's length.
    let part = |seconds: i64| u8::try_from(seconds).unwrap_or(u8::MAX);
    Datetime {
        date: Some(civil(seconds / DAY)),
        time: Some(Time {
            hour: part(seconds / 3600 % 24),
            minute: part(seconds / 60 % 60),
            second: Some(part(seconds % 60)),
            nanosecond: None,
        }),
        offset: Some(Offset::Z),
    }
}

/// Days from 1970-01-01: Howard Hinnant's `days_from_civil`, for years from 0.
fn days(date: Date) -> i64 {
    let (month, day) = (i64::from(date.month), i64::from(date.day));
    // The year begins on 1 March, so that the leap day is its last.
    let year = i64::from(date.year) - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The other way round, for days that are not negative.
fn civil(days: i64) -> Date {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = (from_march + 2) % 12 + 1;
    let year = era * 400 + year + i64::from(month <= 2);
    Date {
        year: u16::try_from(year).unwrap_or(9999),
        month: u8::try_from(month).unwrap_or(1),
        day: u8::try_from(of_year - (153 * from_march + 2) / 5 + 1).unwrap_or(1),
    }
}

const DAY: i64 = 86_400;
/// 9999-12-31T23:59:59Z.
const LAST: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str) -> Result<u64, Problem> {
        let moment = moment(&text.parse().unwrap())?;
        Ok(moment.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn dates_are_moments_in_utc() {
        assert_eq!(seconds("1970-01-01"), Ok(0));
        assert_eq!(seconds("2000-02-29T00:00:00Z"), Ok(951_782_400));
        assert_eq!(seconds("2000-02-29T01:00:00+01:00"), Ok(951_782_400));
        assert_eq!(seconds("9999-12-31T23:59:59Z"), Ok(LAST.unsigned_abs()));
        assert!(seconds("1969-12-31").is_err());
        assert!(seconds("12:00:00").is_err());
        let help = seconds("2026-01-01T00:00:00").unwrap_err().help;
        assert_eq!(
            help.as_deref(),
            Some("write `2026-01-01T00:00:00Z` for a time in UTC")
        );
    }

    proptest! {
        #[test]
        fn a_moment_survives_being_written(second in 0..=LAST.unsigned_abs()) {
            let text = date_of(UNIX_EPOCH + Duration::from_secs(second)).to_string();
            prop_assert_eq!(seconds(&text), Ok(second));
        }
    }
}
