//! Durations, sizes and counts.

use std::{marker::PhantomData, num::NonZeroU32, time::Duration};

use toml::de::DeValue;

use super::{Format, Node, Problem, Reader, Show};

/// A duration of a millisecond at least: `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"1d"`.
pub(in crate::config) struct Time;

/// A duration that may be zero.
pub(in crate::config) struct TimeOrZero;

/// A size in bytes: `"64KiB"`, `"25MB"`, or a bare number.
pub(in crate::config) struct Size<T, const MIN: u64, const MAX: u64>(PhantomData<T>);

/// A whole number.
pub(in crate::config) struct Count<T, const MIN: u64, const MAX: u64>(PhantomData<T>);

/// A type that counts and sizes are read into.
pub(in crate::config) trait Number: Copy {
    /// `None` when it does not fit.
    fn from_u64(value: u64) -> Option<Self>;
    /// The value.
    fn to_u64(self) -> u64;
}

impl Number for u32 {
    fn from_u64(value: u64) -> Option<Self> {
        value.try_into().ok()
    }

    fn to_u64(self) -> u64 {
        self.into()
    }
}

impl Number for NonZeroU32 {
    fn from_u64(value: u64) -> Option<Self> {
        Self::new(value.try_into().ok()?)
    }

    fn to_u64(self) -> u64 {
        self.get().into()
    }
}

impl Number for u64 {
    fn from_u64(value: u64) -> Option<Self> {
        Some(value)
    }

    fn to_u64(self) -> u64 {
        self
    }
}

impl Number for usize {
    fn from_u64(value: u64) -> Option<Self> {
        value.try_into().ok()
    }

    fn to_u64(self) -> u64 {
        self as u64
    }
}

impl Format for Time {
    type Value = Duration;

    fn expected() -> String {
        "a duration such as \"30s\"".to_owned()
    }

    fn example() -> String {
        "\"30s\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Duration> {
        let time = TimeOrZero::read(node, reader)?;
        if time.is_zero() {
            let problem = Problem::what("it must be longer than nothing");
            return reader.refuse(node, &Self::expected(), problem);
        }
        Some(time)
    }
}

impl Show for Time {
    fn show(value: &Duration) -> String {
        TimeOrZero::show(value)
    }
}

impl Format for TimeOrZero {
    type Value = Duration;

    fn expected() -> String {
        Time::expected()
    }

    fn example() -> String {
        Time::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Duration> {
        if let DeValue::Integer(_) | DeValue::Float(_) = node.value {
            let seconds = reader.sources.quote(node.place);
            let help = format!("a bare number has no unit: write `\"{seconds}s\"` for seconds");
            return reader.wrong(node, &Self::expected(), Some(help));
        }
        reader.parse(node, &Self::expected(), duration)
    }
}

impl Show for TimeOrZero {
    fn show(value: &Duration) -> String {
        let millis = value.as_millis();
        let fits = |(_, unit): &&(&str, u64)| millis.is_multiple_of(u128::from(*unit));
        let (name, unit) = TIMES.iter().rev().find(fits).unwrap_or(&TIMES[0]);
        match millis {
            0 => "\"0s\"".to_owned(),
            _ => format!("\"{}{name}\"", millis / u128::from(*unit)),
        }
    }
}

impl<T: Number, const MIN: u64, const MAX: u64> Format for Size<T, MIN, MAX> {
    type Value = T;

    fn expected() -> String {
        let range = range_text(MIN, MAX, bytes_text);
        format!("a size such as \"64KiB\"{range}")
    }

    fn example() -> String {
        "\"64KiB\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<T> {
        let bytes = match node.value {
            DeValue::Integer(_) => integer(node, reader, &Self::expected())?,
            _ => reader.parse(node, &Self::expected(), size)?,
        };
        in_range(bytes, MIN, MAX).or_else(|| reader.wrong(node, &Self::expected(), None))
    }
}

impl<T: Number, const MIN: u64, const MAX: u64> Show for Size<T, MIN, MAX> {
    fn show(value: &T) -> String {
        format!("\"{}\"", bytes_text(value.to_u64()))
    }
}

impl<T: Number, const MIN: u64, const MAX: u64> Format for Count<T, MIN, MAX> {
    type Value = T;

    fn expected() -> String {
        let range = range_text(MIN, MAX, |number| number.to_string());
        format!("a whole number{range}")
    }

    fn example() -> String {
        MIN.max(10).to_string()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<T> {
        let expected = Self::expected();
        let number = match node.value {
            DeValue::Integer(_) => integer(node, reader, &expected)?,
            DeValue::String(text) if text.contains("${") => {
                reader.parse(node, &expected, |text| {
                    text.parse().map_err(|_| Problem::plain())
                })?
            }
            DeValue::String(text) if text.parse::<u64>().is_ok() => {
                let help = format!("write it without quotes: `{} = {text}`", node.name);
                return reader.wrong(node, &expected, Some(help));
            }
            _ => return reader.wrong(node, &expected, None),
        };
        in_range(number, MIN, MAX).or_else(|| reader.wrong(node, &expected, None))
    }
}

impl<T: Number, const MIN: u64, const MAX: u64> Show for Count<T, MIN, MAX> {
    fn show(value: &T) -> String {
        value.to_u64().to_string()
    }
}

fn in_range<T: Number>(number: u64, min: u64, max: u64) -> Option<T> {
    let fits = (min..=max).contains(&number);
    fits.then(|| T::from_u64(number)).flatten()
}

fn integer(node: Node<'_>, reader: &mut Reader<'_>, expected: &str) -> Option<u64> {
    let DeValue::Integer(integer) = node.value else {
        return reader.wrong(node, expected, None);
    };
    u64::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .or_else(|| reader.wrong(node, expected, None))
}

fn range_text(min: u64, max: u64, show: impl Fn(u64) -> String) -> String {
    match (min, max) {
        (0, u64::MAX) => String::new(),
        (min, u64::MAX) => format!(", {} at least", show(min)),
        (0, max) => format!(", {} at most", show(max)),
        (min, max) => format!(", {} to {}", show(min), show(max)),
    }
}

fn bytes_text(bytes: u64) -> String {
    let fits = |(_, unit): &&(&str, u64)| bytes.is_multiple_of(*unit);
    match BINARY.iter().rev().find(fits) {
        Some((name, unit)) if bytes > 0 => format!("{}{name}", bytes / unit),
        _ => format!("{bytes}B"),
    }
}

/// Splits `250ms` into its digits and its unit.
fn digits_and_unit(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Reads a duration.
pub(in crate::config) fn duration(text: &str) -> Result<Duration, Problem> {
    let Some((digits, unit)) = digits_and_unit(text) else {
        return Err(Problem::plain());
    };
    let Some((_, millis)) = TIMES.iter().find(|(name, _)| *name == unit) else {
        return Err(wrong_time_unit(digits, unit));
    };
    let number: u64 = digits.parse().map_err(|_| too_long())?;
    match number.checked_mul(*millis) {
        Some(millis) if millis <= LONGEST => Ok(Duration::from_millis(millis)),
        _ => Err(too_long()),
    }
}

fn too_long() -> Problem {
    Problem::what("the duration is longer than 3650 days")
}

fn wrong_time_unit(digits: &str, unit: &str) -> Problem {
    let unit = unit.trim().to_ascii_lowercase();
    let meant = match unit.as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => "ms",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        _ => {
            let help = "a whole number and one of `ms`, `s`, `m`, `h`, `d`: `\"90s\"` for `1m30s`, `\"1500ms\"` for `1.5s`";
            return Problem::plain().help(help);
        }
    };
    Problem::plain().help(format!("write `\"{digits}{meant}\"`"))
}

/// Reads a size.
fn size(text: &str) -> Result<u64, Problem> {
    let Some((digits, unit)) = digits_and_unit(text) else {
        return Err(Problem::plain());
    };
    let known = BINARY
        .iter()
        .chain(&DECIMAL)
        .find(|(name, _)| *name == unit);
    let Some((_, factor)) = known else {
        return Err(wrong_size_unit(digits, unit));
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| Problem::what("the size does not fit 64 bits"))
}

fn wrong_size_unit(digits: &str, unit: &str) -> Problem {
    let unit = unit.trim().to_ascii_lowercase();
    let meant = match unit.as_str() {
        "" | "b" | "bytes" => "B",
        // nginx's and the JVM's letters are powers of 1024.
        "k" | "ki" | "kib" => "KiB",
        "m" | "mi" | "mib" => "MiB",
        "g" | "gi" | "gib" => "GiB",
        "t" | "ti" | "tib" => "TiB",
        "kb" => "KB",
        "mb" => "MB",
        "gb" => "GB",
        "tb" => "TB",
        _ => {
            let help = "a whole number and one of `B`, `KiB`, `MiB`, `GiB` (1024) or `KB`, `MB`, `GB` (1000)";
            return Problem::plain().help(help);
        }
    };
    Problem::plain().help(format!("write `\"{digits}{meant}\"`"))
}

/// The units of durations, in milliseconds.
const TIMES: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
/// Far beyond any use, and far from every overflow of a clock.
const LONGEST: u64 = 3650 * 86_400_000;
const BINARY: [(&str, u64); 5] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
const DECIMAL: [(&str, u64); 5] = [
    ("KB", 1000),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type AnySize = Size<u64, 0, { u64::MAX }>;

    fn unquoted(text: &str) -> &str {
        text.trim_matches('"')
    }

    fn help(problem: Result<impl std::fmt::Debug, Problem>) -> String {
        problem.unwrap_err().help.unwrap_or_default()
    }

    #[test]
    fn units_are_decimal_or_binary_as_they_say() {
        assert_eq!(size("25MB"), Ok(25_000_000));
        assert_eq!(size("25MiB"), Ok(26_214_400));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("0B"), Ok(0));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
    }

    #[test]
    fn units_of_other_programs_get_a_suggestion() {
        assert_eq!(help(size("25m")), "write `\"25MiB\"`");
        assert_eq!(help(size("64k")), "write `\"64KiB\"`");
        assert_eq!(help(size("1 gb")), "write `\"1GB\"`");
        assert_eq!(help(duration("30")), "write `\"30s\"`");
        assert_eq!(help(duration("5min")), "write `\"5m\"`");
        assert_eq!(help(duration("30 s")), "write `\"30s\"`");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(size("99999999999999999999B").is_err());
        assert!(size("18446744073709551615TiB").is_err());
        assert!(duration("3651d").is_err());
        assert!(duration("18446744073709551615d").is_err());
        assert!(duration("-1s").is_err());
        assert!(duration("1.5s").is_err());
    }

    proptest! {
        #[test]
        fn sizes_survive_being_written(bytes: u64) {
            prop_assert_eq!(size(unquoted(&AnySize::show(&bytes))), Ok(bytes));
        }

        #[test]
        fn durations_survive_being_written(millis in 0..=LONGEST) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(duration(unquoted(&Time::show(&time))), Ok(time));
        }

        #[test]
        fn a_size_is_its_number_times_its_unit(number: u64, unit in 0..BINARY.len()) {
            let (name, factor) = BINARY[unit];
            prop_assert_eq!(size(&format!("{number}{name}")).ok(), number.checked_mul(factor));
        }

        #[test]
        fn no_text_makes_units_panic(text: String) {
            let _ = (size(&text), duration(&text));
        }
    }
}
