//! HTTP dates (RFC 9110 5.6.7), read as strictly as the grammar is.
//!
//! A date that is wrong makes an answer stale, so a lenient reader is no kindness: it would take
//! `Expires: Thu, 18 Aug 2050 02:01:18 UTC` for a promise that nobody made.

use http::HeaderValue;

use super::Moment;

/// The seconds since 1970 of a date in any of its three forms; `None` for anything else.
///
/// Names and `GMT` may be of any case. The day's name must be one, but need not be the right one.
/// `now` places the two-digit year of the form of RFC 850.
#[must_use]
pub fn parse_http_date(text: &[u8], now: Moment) -> Option<i64> {
    match text.get(3)? {
        b',' => imf_fixdate(text),
        b' ' => asctime(text),
        _ => rfc850(text, now),
    }
}

/// The preferred form of a date, which is what we send.
#[must_use]
pub fn format_http_date(moment: Moment) -> HeaderValue {
    let (days, second) = (moment.seconds() / DAY, moment.seconds() % DAY);
    let (year, month, day) = civil(days);
    let weekday = SHORT_DAYS[usize::try_from((days + 4) % 7).unwrap_or_default()];
    let month = MONTHS[month - 1];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let text =
        format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
    // ASCII by construction; an empty value is never used.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: &[u8]) -> Option<i64> {
    let fits = text.len() == 29
        && one_of(&SHORT_DAYS, &text[..3]).is_some()
        && text[3..5] == *b", "
        && text[7] == b' '
        && text[11] == b' '
        && text[16] == b' '
        && is_gmt(&text[25..]);
    let month = one_of(&MONTHS, text.get(8..11)?)? + 1;
    fits.then_some(())?;
    let (day, year) = (digits(&text[5..7])?, digits(&text[12..16])?);
    seconds(year, month, day, time(&text[17..25])?)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(text: &[u8], now: Moment) -> Option<i64> {
    let comma = text.iter().position(|byte| *byte == b',')?;
    let (weekday, rest) = text.split_at(comma);
    let fits = rest.len() == 24
        && one_of(&LONG_DAYS, weekday).is_some()
        && rest[..2] == *b", "
        && rest[4] == b'-'
        && rest[8] == b'-'
        && rest[11] == b' '
        && is_gmt(&rest[20..]);
    fits.then_some(())?;
    let (day, month) = (digits(&rest[2..4])?, one_of(&MONTHS, &rest[5..8])? + 1);
    let (short, time) = (digits(&rest[9..11])?, time(&rest[12..20])?);
    let this = civil(now.seconds() / DAY).0;
    let in_this_century = seconds(this - this % 100 + short, month, day, time);
    // A date more than 50 years ahead is the latest past year with those digits, and one that the
    // calendar lacks in this century (29 February) may be in the last (RFC 9110 5.6.7).
    in_this_century
        .filter(|date| date - now.seconds() <= FIFTY_YEARS)
        .or_else(|| seconds(this - this % 100 - 100 + short, month, day, time))
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &[u8]) -> Option<i64> {
    let fits = text.len() == 24
        && one_of(&SHORT_DAYS, &text[..3]).is_some()
        && text[7] == b' '
        && text[10] == b' '
        && text[19] == b' ';
    fits.then_some(())?;
    let day = match text[8] {
        b' ' => digits(&text[9..10])?,
        _ => digits(&text[8..10])?,
    };
    let month = one_of(&MONTHS, &text[4..7])? + 1;
    seconds(digits(&text[20..])?, month, day, time(&text[11..19])?)
}

/// `08:49:37` as a second of the day; a leap second is let through.
fn time(text: &[u8]) -> Option<i64> {
    (text[2] == b':' && text[5] == b':').then_some(())?;
    let (hour, minute, second) = (
        digits(&text[..2])?,
        digits(&text[3..5])?,
        digits(&text[6..8])?,
    );
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
}

fn is_gmt(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b" GMT")
}

fn one_of(names: &[&str], text: &[u8]) -> Option<usize> {
    names
        .iter()
        .position(|name| name.as_bytes().eq_ignore_ascii_case(text))
}

/// A number of at most four digits, and of nothing else.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

fn seconds(year: i64, month: usize, day: i64, time: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = if month == 2 && leap {
        29
    } else {
        MONTH_DAYS[month - 1]
    };
    (1..=length).contains(&day).then_some(())?;
    Some(days(year, month, day) * DAY + time)
}

/// The days from 1970 to a date, by Howard Hinnant's `days_from_civil`: years begin in March, so
/// that the leap day comes last.
fn days(year: i64, month: usize, day: i64) -> i64 {
    let month = i64::try_from(month).unwrap_or_default();
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The year, month and day so many days after 1970: `civil_from_days`.
fn civil(days: i64) -> (i64, usize, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year + i64::from(month <= 2);
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    (year, usize::try_from(month).unwrap_or(1), day)
}

const DAY: i64 = 86_400;
/// Fifty years of 365.25 days.
const FIFTY_YEARS: i64 = 50 * 31_557_600;
const SHORT_DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const LONG_DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const MONTH_DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// In July 2026.
    const NOW: Moment = Moment::from_millis(1_783_000_000_000);

    fn read(text: &str) -> Option<i64> {
        parse_http_date(text.as_bytes(), NOW)
    }

    #[test]
    fn the_three_forms_name_the_same_second() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "sun, 06 nov 1994 08:49:37 gmt",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(read(text), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn what_the_grammar_does_not_allow_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            "foo",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050  02:01:18  GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 18 Aug 2050 24:01:18 GMT",
            "Thu, 31 Jun 2050 02:01:18 GMT",
            "Thu, 29 Feb 2051 02:01:18 GMT",
            "Thu, 18 Foo 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT ",
            "Thu, +8 Aug 2050 02:01:18 GMT",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_two_digit_year_is_never_more_than_fifty_years_ahead() {
        assert_eq!(
            read("Thursday, 18-Aug-50 02:01:18 GMT"),
            read("Thu, 18 Aug 2050 02:01:18 GMT")
        );
        assert_eq!(
            read("Friday, 18-Aug-78 02:01:18 GMT"),
            read("Fri, 18 Aug 1978 02:01:18 GMT")
        );
    }

    #[test]
    fn years_far_from_ours_are_years() {
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(read("Wed, 31 Dec 1969 23:59:59 GMT"), Some(-1));
        assert!(read("Thu, 18 Aug 2286 02:01:18 GMT").is_some());
    }

    proptest! {
        #[test]
        fn a_written_date_reads_as_itself(second in 0_i64..253_402_300_800) {
            let moment = Moment::from_millis(u64::try_from(second).unwrap() * 1000);
            let text = format_http_date(moment);
            prop_assert_eq!(parse_http_date(text.as_bytes(), NOW), Some(second), "{:?}", text);
        }

        #[test]
        fn any_bytes_are_a_date_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_http_date(&bytes, NOW);
        }

        #[test]
        fn a_date_with_one_byte_changed_does_no_harm(at in 0_usize..29, byte: u8) {
            let mut text = *b"Sun, 06 Nov 1994 08:49:37 GMT";
            text[at] = byte;
            let _ = parse_http_date(&text, NOW);
        }
    }
}
