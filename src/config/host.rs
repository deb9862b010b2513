//! Host patterns.

use std::{net::Ipv4Addr, net::Ipv6Addr, sync::Arc};

use super::{
    HostPattern,
    decode::{Format, Node, Problem, Reader},
};

/// A pattern of `hosts`.
pub(super) struct Host;

impl Format for Host {
    type Value = HostPattern;

    fn expected() -> String {
        "a host such as \"api.example.com\", \"*.example.com\" or \"{tenant}.example.com\""
            .to_owned()
    }

    fn example() -> String {
        "\"api.example.com\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HostPattern> {
        reader.parse(node, &Self::expected(), pattern)
    }
}

/// Reads a pattern.
pub(super) fn pattern(text: &str) -> Result<HostPattern, Problem> {
    let lower = text.to_ascii_lowercase();
    if let Some(suffix) = lower.strip_prefix("**.") {
        return Ok(HostPattern::AnyDepth(name(suffix)?));
    }
    if let Some(suffix) = lower.strip_prefix("*.") {
        return Ok(HostPattern::OneLabel(name(suffix)?));
    }
    if let Some((label, _)) = text
        .strip_prefix('{')
        .and_then(|text| text.split_once("}."))
    {
        return Ok(HostPattern::Capture {
            name: captured(label)?,
            suffix: name(&lower[label.len() + 3..])?,
        });
    }
    exact(&lower).map(HostPattern::Exact)
}

fn exact(text: &str) -> Result<Box<str>, Problem> {
    let address = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Some(address) = address.and_then(|text| text.parse::<Ipv6Addr>().ok()) {
        return Ok(format!("[{address}]").into());
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Problem::plain().help(format!("write it in brackets: `\"[{text}]\"`")));
    }
    // `_` is what nginx calls a host that nobody asks for.
    if ["*", "**", "_", ""].contains(&text) {
        return Err(Problem::plain().help("leave `hosts` out for any host"));
    }
    match text.parse::<Ipv4Addr>() {
        Ok(address) => Ok(address.to_string().into()),
        Err(_) => name(text),
    }
}

fn captured(label: &str) -> Result<Arc<str>, Problem> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if label.is_empty() || !label.chars().all(in_name) {
        return Err(Problem::what(
            "a name in braces has letters, digits and `_`",
        ));
    }
    Ok(label.into())
}

/// A DNS name in lower case.
fn name(text: &str) -> Result<Box<str>, Problem> {
    if !text.is_ascii() {
        return Err(Problem::plain().help("write the name as DNS has it: `xn--...` (punycode)"));
    }
    if text.contains("://") || text.contains('/') {
        return Err(Problem::plain().help("a host alone, without scheme or path"));
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        let is_port = port.parse::<u16>().is_ok() || port == "*";
        let help = format!("leave the port out: `\"{host}\"` matches every port");
        return Err(if is_port {
            Problem::plain().help(help)
        } else {
            Problem::plain()
        });
    }
    if text.contains(['*', '{', '}']) {
        return Err(Problem::plain().help("a wildcard stands for whole labels at the front"));
    }
    if let Some(host) = text.strip_prefix('.') {
        let help = format!("write both: `[\"{host}\", \"**.{host}\"]`");
        return Err(Problem::plain().help(help));
    }
    let in_label = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(in_label);
    if let Some(host) = text.strip_suffix('.') {
        return Err(Problem::plain().help(format!("without the dot at the end: `\"{host}\"`")));
    }
    if text.len() > 253 || !text.split('.').all(is_label) {
        return Err(Problem::plain());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn help(text: &str) -> String {
        pattern(text).unwrap_err().help.unwrap_or_default()
    }

    #[test]
    fn hosts_are_lower_case_names_addresses_or_wildcards() {
        assert_eq!(
            pattern("API.example.com"),
            Ok(HostPattern::Exact("api.example.com".into()))
        );
        assert_eq!(
            pattern("*.example.com"),
            Ok(HostPattern::OneLabel("example.com".into()))
        );
        assert_eq!(
            pattern("**.example.com"),
            Ok(HostPattern::AnyDepth("example.com".into()))
        );
        let capture = HostPattern::Capture {
            name: "Tenant".into(),
            suffix: "example.com".into(),
        };
        assert_eq!(pattern("{Tenant}.EXAMPLE.com"), Ok(capture));
        assert_eq!(pattern("[::0:1]"), Ok(HostPattern::Exact("[::1]".into())));
        assert_eq!(
            pattern("127.0.0.1"),
            Ok(HostPattern::Exact("127.0.0.1".into()))
        );
    }

    #[test]
    fn what_is_no_host_gets_a_suggestion() {
        assert!(help("example.com:8080").starts_with("leave the port out: `\"example.com\"`"));
        assert_eq!(help("::1"), "write it in brackets: `\"[::1]\"`");
        assert_eq!(help("*"), "leave `hosts` out for any host");
        assert_eq!(help("_"), "leave `hosts` out for any host");
        assert_eq!(
            help(".example.com"),
            "write both: `[\"example.com\", \"**.example.com\"]`"
        );
        assert!(help("https://example.com").starts_with("a host alone"));
        assert!(help("b\u{fc}cher.de").contains("punycode"));
        assert!(help("api.*.com").starts_with("a wildcard stands"));
        assert!(help("example.com.").starts_with("without the dot"));
        assert!(pattern("a..b").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_host_panic(text: String) {
            let _ = pattern(&text);
        }
    }
}
