//! Moments as RFC 3339 text, without a formatter and without an allocation.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment as `2026-11-20T08:15:30.123456Z`.
///
/// UTC, microseconds, always 27 bytes. Moments before 1970 are shown as 1970 and such after 9999
/// as 9999: a clock that wrong must not break the log's form.
#[must_use]
pub fn rfc3339(moment: SystemTime) -> [u8; 27] {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs().min(LAST_SECOND);
    let (year, month, day) = civil(seconds / 86_400);
    let second = seconds % 86_400;
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], second / 3_600);
    digits(&mut text[14..16], second / 60 % 60);
    digits(&mut text[17..19], second % 60);
    digits(&mut text[20..26], u64::from(since.subsec_micros()));
    text
}

/// Year, month and day of a day counted from 1970-01-01: Howard Hinnant's `civil_from_days`, for
/// days that are not negative.
fn civil(days: u64) -> (u64, u64, u64) {
    // Eras of 400 years that begin on 1 March, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let leaps = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

fn digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn text(seconds: u64, micros: u32) -> String {
        let moment = UNIX_EPOCH + Duration::new(seconds, micros * 1_000 + 999);
        String::from_utf8(rfc3339(moment).to_vec()).unwrap()
    }

    #[test]
    fn moments_are_written_to_the_microsecond() {
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(951_782_400, 5), "2000-02-29T00:00:00.000005Z");
        assert_eq!(text(1_709_251_199, 999_999), "2024-02-29T23:59:59.999999Z");
        assert_eq!(text(1_709_251_200, 0), "2024-03-01T00:00:00.000000Z");
        assert_eq!(text(4_107_542_399, 1), "2100-02-28T23:59:59.000001Z");
        assert_eq!(text(4_107_542_400, 1), "2100-03-01T00:00:00.000001Z");
        assert_eq!(text(LAST_SECOND, 0), "9999-12-31T23:59:59.000000Z");
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let mut last = (1969, 12, 31);
        for day in 0..80_000 {
            let (year, month, date) = civil(day);
            let next_day = (last.0, last.1, last.2 + 1);
            let next_month = (last.0, last.1 + 1, 1);
            let next_year = (last.0 + 1, 1, 1);
            let now = (year, month, date);
            assert!([next_day, next_month, next_year].contains(&now), "{now:?}");
            assert!((1..=12).contains(&month) && (1..=31).contains(&date));
            last = now;
        }
    }

    #[test]
    fn a_clock_out_of_range_keeps_the_form() {
        assert_eq!(
            rfc3339(UNIX_EPOCH - Duration::from_secs(5)),
            rfc3339(UNIX_EPOCH)
        );
        assert_eq!(text(LAST_SECOND + 1, 0), "9999-12-31T23:59:59.000000Z");
    }
}
