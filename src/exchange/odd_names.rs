//! Request fields whose names servers may read as others.
//!
//! A name is odd that has more in it than letters, digits and hyphens; any other is plain. Many servers take
//! the odd `x_tenant` for the plain `x-tenant`, and some take every sign for a hyphen. So two fields that
//! are two to the gateway may be one to the server behind it, which may take the one that no rule has judged.

use http::{HeaderMap, HeaderName};

use super::fields::{is_alike, is_ambiguous, is_disguised, reads_as, remove_where};

/// What a route does with fields whose names have more than letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OddNames {
    /// None goes on.
    Drop,
    /// They go on, but for those that may be read as what no client may say anywhere, or as what these
    /// are about.
    Keep(KeptNames),
}

/// What a route that keeps odd names has to say of single ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptNames {
    /// As which no odd name may be read.
    reserved: Vec<HeaderName>,
    /// What rules look at, in whatever signs: it is meant as it is, and nothing else may be read as it.
    named: Vec<HeaderName>,
    /// The odd ones of them that go on, as which no plain name may be read either.
    named_oddly: Vec<HeaderName>,
    /// Those of them that tell stored answers apart.
    keyed: Vec<HeaderName>,
}

impl OddNames {
    /// Takes out those that don't go on; and plain ones that may be read as an odd one which a rule
    /// looks at.
    pub fn clean(&self, headers: &mut HeaderMap) {
        remove_where(headers, |name| !self.lets_pass(name));
    }

    fn lets_pass(&self, name: &str) -> bool {
        match self {
            Self::Drop => !is_ambiguous(name),
            Self::Keep(kept) if is_ambiguous(name) => kept.lets_odd_pass(name),
            Self::Keep(kept) => !kept.is_said_oddly(name),
        }
    }

    /// Whether requests without any odd name have to be cleaned too. Asked for every request.
    #[must_use]
    pub fn concerns_plain(&self) -> bool {
        matches!(self, Self::Keep(kept) if !kept.named_oddly.is_empty())
    }

    /// Whether an odd name is there that goes on and tells no stored answers apart: how it is read only
    /// the server knows.
    #[must_use]
    pub fn has_unkeyed(&self, headers: &HeaderMap) -> bool {
        let Self::Keep(kept) = self else {
            return false;
        };
        let mut names = headers.keys();
        names.any(|name| is_ambiguous(name.as_str()) && !kept.keyed.contains(name))
    }
}

impl KeptNames {
    /// No odd name may be read as one that is `reserved`, and no name at all as one that is `named` but this
    /// itself. Those that are `keyed` tell stored answers apart, and are among the named.
    #[must_use]
    pub fn new(reserved: Vec<HeaderName>, named: Vec<HeaderName>, keyed: Vec<HeaderName>) -> Self {
        let mut kept = Self {
            reserved,
            named,
            named_oddly: Vec::new(),
            keyed,
        };
        let goes_on = |name: &&HeaderName| {
            let name = name.as_str();
            is_ambiguous(name) && kept.lets_odd_pass(name)
        };
        kept.named_oddly = kept.named.iter().filter(goes_on).cloned().collect();
        kept
    }

    fn lets_odd_pass(&self, name: &str) -> bool {
        let may_be_said = !is_disguised(name) && !reads_as(name, &self.reserved);
        may_be_said && (self.names(name) || !reads_as(name, &self.named))
    }

    /// Whether a plain name may be read as an odd one that a rule looks at, and that goes on. That one was
    /// judged, and a server might take the other.
    fn is_said_oddly(&self, name: &str) -> bool {
        let mut odd = self.named_oddly.iter();
        odd.any(|odd| is_alike(odd.as_str(), name)) && !self.names(name)
    }

    fn names(&self, name: &str) -> bool {
        self.named.iter().any(|named| named.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NAMES: [&str; 7] = [
        "x_tenant",
        "x_user",
        "x-tenant",
        "x.tenant",
        "content_length",
        "x-user",
        "accept",
    ];

    fn left(names: &OddNames) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for name in NAMES {
            headers.append(name, HeaderValue::from_static("1"));
        }
        names.clean(&mut headers);
        let mut left: Vec<_> = headers.keys().map(ToString::to_string).collect();
        left.sort_unstable();
        left
    }

    fn kept(reserved: &[&'static str], named: &[&'static str]) -> OddNames {
        let (reserved, named) = (header_names(reserved), header_names(named));
        OddNames::Keep(KeptNames::new(reserved, named, Vec::new()))
    }

    fn header_names(names: &[&'static str]) -> Vec<HeaderName> {
        let names = names.iter().copied();
        names.map(HeaderName::from_static).collect()
    }

    #[test]
    fn odd_names_are_dropped_or_kept_but_for_what_is_reserved() {
        assert_eq!(left(&OddNames::Drop), ["accept", "x-tenant", "x-user"]);
        assert_eq!(
            left(&kept(&["x-user"], &[])),
            ["accept", "x-tenant", "x-user", "x.tenant", "x_tenant"]
        );
    }

    #[test]
    fn nothing_but_itself_is_read_as_a_name_that_a_rule_looks_at() {
        for (named, expected) in [
            (&["x-tenant"][..], &["x-tenant"][..]),
            (&["x_tenant"][..], &["x_tenant"][..]),
            (&["x-tenant", "x_tenant"][..], &["x-tenant", "x_tenant"][..]),
        ] {
            let mut expected = [&["accept", "x-user"][..], expected].concat();
            expected.sort_unstable();
            assert_eq!(left(&kept(&["x-user"], named)), expected, "{named:?}");
        }
    }

    #[test]
    fn an_odd_name_that_never_goes_on_takes_no_plain_one_out() {
        let names = kept(&["x-user"], &["x_user", "content_length"]);
        assert!(left(&names).contains(&"x-user".to_owned()));
        let mut headers = HeaderMap::new();
        headers.append("content-length", HeaderValue::from_static("1"));
        names.clean(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn requests_without_odd_names_are_cleaned_where_a_rule_names_an_odd_one_that_goes_on() {
        assert!(!OddNames::Drop.concerns_plain());
        for (named, expected) in [
            (&[][..], false),
            (&["x-tenant"][..], false),
            (&["x_user", "content_length"][..], false),
            (&["x-tenant", "x_tenant"][..], true),
        ] {
            let names = kept(&["x-user"], named);
            assert_eq!(names.concerns_plain(), expected, "{named:?}");
        }
    }

    #[test]
    fn only_an_odd_name_of_the_key_tells_stored_answers_apart() {
        let keyed = header_names(&["x_tenant"]);
        let names = OddNames::Keep(KeptNames::new(Vec::new(), keyed.clone(), keyed));
        for (name, expected) in [("x_tenant", false), ("x-user", false), ("x_user", true)] {
            let mut headers = HeaderMap::new();
            headers.append(name, HeaderValue::from_static("1"));
            assert_eq!(names.has_unkeyed(&headers), expected, "{name}");
            assert!(!OddNames::Drop.has_unkeyed(&headers));
        }
    }
}
