//! Request fields whose names servers may read as others.

use http::{HeaderMap, HeaderName};

use super::fields::{is_ambiguous, is_disguised, reads_as, remove_where};

/// What a route does with fields whose names have more than letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OddNames {
    /// None goes on.
    Drop,
    /// They go on, but for those that may be read as one of these, or as what no client may say anywhere.
    KeepBut(Vec<HeaderName>),
}

impl OddNames {
    /// Takes out those that don't go on.
    pub fn clean(&self, headers: &mut HeaderMap) {
        remove_where(headers, |name| is_ambiguous(name) && !self.lets_pass(name));
    }

    fn lets_pass(&self, name: &str) -> bool {
        match self {
            Self::Drop => false,
            Self::KeepBut(reserved) => !is_disguised(name) && !reads_as(name, reserved),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn left(names: &OddNames) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for name in ["x_tenant", "x_user", "content_length", "x-user", "accept"] {
            headers.append(name, HeaderValue::from_static("1"));
        }
        names.clean(&mut headers);
        let mut left: Vec<_> = headers.keys().map(ToString::to_string).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn odd_names_are_dropped_or_kept_but_for_what_is_reserved() {
        assert_eq!(left(&OddNames::Drop), ["accept", "x-user"]);
        let reserved = vec![HeaderName::from_static("x-user")];
        let kept = left(&OddNames::KeepBut(reserved));
        assert_eq!(kept, ["accept", "x-user", "x_tenant"]);
    }
}
