//! A media type in an `Accept` list or in `Content-Type` (RFC 9110 sections 8.3.1 and 12.5.1).

use super::condition::{FULL, Quality};

/// A media type to look for: `application/vnd.example.v2+json`, or with parameters
/// `application/json; version=2`.
#[derive(Debug)]
pub(super) struct MediaType {
    /// `type/subtype`.
    essence: Box<str>,
    /// All of these must be there; others may.
    parameters: Box<[(Box<str>, Box<str>)]>,
}

impl MediaType {
    pub(super) fn new(text: &str) -> Self {
        let mut parts = split(text, ';');
        let essence = parts.next().unwrap_or_default().into();
        let parameters = parts.map(parameter);
        Self {
            essence,
            parameters: parameters
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }

    /// The greatest weight that a list gives the type by name. Ranges such as `*/*` don't count,
    /// neither do members with weight 0, nor those whose weight is not valid.
    pub(super) fn quality_in(&self, list: &[u8]) -> Option<Quality> {
        let list = std::str::from_utf8(list).ok()?;
        split(list, ',')
            .filter_map(|member| self.quality_of(member))
            .max()
    }

    fn quality_of(&self, member: &str) -> Option<Quality> {
        let mut parts = split(member, ';');
        if !parts.next()?.eq_ignore_ascii_case(&self.essence) {
            return None;
        }
        let given: Vec<_> = parts.map(parameter).collect();
        let has = |(name, value): &(Box<str>, Box<str>)| {
            let mut given = given.iter();
            given.any(|(known, text)| known.eq_ignore_ascii_case(name) && **text == **value)
        };
        if !self.parameters.iter().all(has) {
            return None;
        }
        let weight = given
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("q"));
        weight
            .map_or(Some(FULL), |(_, text)| parse_weight(text))
            .filter(|quality| *quality > 0)
    }
}

/// Splits outside quoted strings and trims the parts.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    let parts = text.split(move |character| {
        let was_escaped = escaped;
        escaped = quoted && !was_escaped && character == '\\';
        quoted ^= character == '"' && !was_escaped;
        character == separator && !quoted
    });
    parts.map(str::trim)
}

/// A parameter's name and value, without the quotes around it.
fn parameter(text: &str) -> (&str, &str) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let unquoted = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    (name, unquoted.unwrap_or(value))
}

/// `qvalue` of RFC 9110 section 12.4.2 in thousandths.
fn parse_weight(text: &str) -> Option<Quality> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_valid = matches!(whole, "0" | "1")
        && fraction.len() <= 3
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !is_valid {
        return None;
    }
    let thousandths: Quality = format!("{whole}{fraction:0<3}").parse().ok()?;
    (thousandths <= FULL).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quality(wanted: &str, list: &str) -> Option<Quality> {
        MediaType::new(wanted).quality_in(list.as_bytes())
    }

    #[test]
    fn a_type_counts_only_by_name() {
        assert_eq!(quality("application/v2+json", "*/*, application/*"), None);
        assert_eq!(quality("application/v2+json", ""), None);
        assert_eq!(
            quality("application/v2+json", "application/v2+json-x"),
            None
        );
        assert_eq!(
            quality("application/v2+json", "text/html,Application/V2+JSON"),
            Some(FULL)
        );
    }

    #[test]
    fn a_weight_of_zero_refuses_and_one_that_is_not_valid_does_not_count() {
        assert_eq!(quality("a/b", "a/b;q=0"), None);
        assert_eq!(quality("a/b", "a/b;q=0.000"), None);
        assert_eq!(quality("a/b", "a/b;q=2"), None);
        assert_eq!(quality("a/b", "a/b;q=1.001"), None);
        assert_eq!(quality("a/b", "a/b;q=-1"), None);
        assert_eq!(quality("a/b", "a/b;q="), None);
    }

    #[test]
    fn the_greatest_weight_counts() {
        assert_eq!(quality("a/b", "a/b;q=0.25 , a/b ; Q=0.5"), Some(500));
        assert_eq!(quality("a/b", "a/b;q=1."), Some(FULL));
        assert_eq!(quality("a/b", "a/b;q=0.001"), Some(1));
    }

    #[test]
    fn wanted_parameters_must_be_there() {
        assert_eq!(quality("a/b; version=2", "a/b"), None);
        assert_eq!(quality("a/b; version=2", "a/b;version=1"), None);
        assert_eq!(
            quality("a/b; version=2", "a/b; charset=utf-8; Version=\"2\"; q=0.3"),
            Some(300)
        );
    }

    #[test]
    fn separators_in_quotes_separate_nothing() {
        assert_eq!(quality("a/b", r#"x/y;p="\", a/b""#), None);
        assert_eq!(quality("a/b", r#"x/y;p="\\", a/b"#), Some(FULL));
        assert_eq!(quality("a/b", r#"a/b;p="x;q=0""#), Some(FULL));
    }
}
