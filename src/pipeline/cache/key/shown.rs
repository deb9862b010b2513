//! A key as `Cache-Status` shows it, for debugging.
//!
//! A client gets it, and so does whatever logs answers on the way. What may be a credential or name a caller is
//! shown as a digest: the fields that the key holds, the path that a rewrite has made, and for whom an answer is
//! kept. The digests are of a secret of this process, so nobody can try out elsewhere what they are of, and of the URL
//! and the part's name, so no other part of a request can be tried out in its place; two of them tell whether two
//! requests for a URL differ in that part.

use std::hash::{BuildHasher, RandomState};

use http::HeaderName;

use super::{CALLER, EXTRA, HOST, Key, NOBODY, TARGET};

impl Key {
    /// As `Cache-Status` shows it; `names` are the fields that the rule has put into it.
    pub(in crate::pipeline::cache) fn show(
        &self,
        names: &[HeaderName],
        hasher: &RandomState,
    ) -> String {
        let part = |index| String::from_utf8_lossy(self.text().part(index));
        let mut shown = format!(
            "{}:{} {}://{}{}",
            part(0),
            part(1),
            part(2),
            part(HOST),
            part(TARGET)
        );
        let url = hasher.hash_one(&shown);
        let mut add = |name: &str, value: &str| shown.push_str(&format!(" {name}={value}"));
        let digest =
            |name: &str, text: &str| format!("{:016x}", hasher.hash_one((url, name, text)));
        each_of(&part(EXTRA), names, |name, text| match text {
            "" => add(name, ABSENT),
            text => add(name, &digest(name, text)),
        });
        match &*part(CALLER) {
            "" => {}
            NOBODY => add("caller", "nobody"),
            caller => add("caller", &digest("caller", caller)),
        }
        shown
    }
}

/// What [`extra`](super::extra) has put together, part by part with what each is called.
fn each_of(extra: &str, names: &[HeaderName], mut take: impl FnMut(&str, &str)) {
    let mut rest = extra;
    if let Some((path, behind)) = rewritten(rest) {
        take("rewrite", path);
        rest = behind;
    }
    for name in names {
        let (values, behind) = rest.split_once('\r').unwrap_or((rest, ""));
        take(name.as_str(), values);
        rest = behind;
    }
    for told in rest.split('\t').skip(1) {
        let (name, values) = told.split_once('\n').unwrap_or((told, ""));
        take(name, values);
    }
}

/// The path that a rewrite has made, and what stands behind it.
fn rewritten(extra: &str) -> Option<(&str, &str)> {
    let (length, behind) = extra.strip_prefix('\u{b}')?.split_once(':')?;
    behind.split_at_checked(length.parse().ok()?)
}

/// Shown for a field that the request does not have.
const ABSENT: &str = "-";

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{
        super::{KeyParts, Sought, extra},
        *,
    };
    use crate::config::CacheQuery;

    const TENANT: HeaderName = HeaderName::from_static("x-tenant");

    /// The key of a request with these fields and this path behind the rewrite, for that caller.
    fn shown(
        fields: &[(&'static str, &'static str)],
        rewritten: Option<&str>,
        caller: &str,
        hasher: &RandomState,
    ) -> String {
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.append(name, http::HeaderValue::from_static(value));
        }
        let names = [TENANT];
        let parts = KeyParts {
            zone: "",
            route: "",
            target: "/",
            query: &CacheQuery::AsIs,
            headers: &names,
            rewritten: rewritten.map(ToOwned::to_owned),
            identity: &[],
            told_more: true,
        };
        let extra = extra(&parts, &headers);
        let parts = ["app", "r", "http", "a.test", "/a?b", caller, &*extra];
        let key = Sought::made(parts.map(str::as_bytes)).to_key();
        key.show(&names, hasher)
    }

    /// What each part is called, and what is shown of it.
    fn parts(shown: &str) -> Vec<(&str, &str)> {
        let parts = shown.split(' ').skip(2);
        parts.map(|part| part.split_once('=').unwrap()).collect()
    }

    #[test]
    fn all_that_makes_a_difference_is_shown_by_a_digest_of_its_own() {
        let hasher = RandomState::new();
        let fields = [("x-tenant", "blue"), ("x-forwarded-prefix", "/p")];
        let path = Some("/alice\r\tx-evil\n:");
        let one = shown(&fields, path, "jwt.t:alice", &hasher);
        assert!(one.starts_with("app:r http://a.test/a?b rewrite="), "{one}");
        let names: Vec<_> = parts(&one).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["rewrite", "x-tenant", "x-forwarded-prefix", "caller"]
        );
        for hidden in ["alice", "blue", "/p", "evil"] {
            assert!(!one.contains(hidden), "{hidden} in {one}");
        }
        let tenant = [("x-tenant", "red"), fields[1]];
        let prefix = [fields[0], ("x-forwarded-prefix", "/q")];
        for (other, part) in [
            (shown(&fields, Some("/bob"), "jwt.t:alice", &hasher), 0),
            (shown(&tenant, path, "jwt.t:alice", &hasher), 1),
            (shown(&prefix, path, "jwt.t:alice", &hasher), 2),
            (shown(&fields, path, "jwt.t:bob", &hasher), 3),
        ] {
            let both = parts(&one).into_iter().zip(parts(&other));
            let differ: Vec<_> = both.map(|(one, other)| one != other).collect();
            let only: Vec<_> = (0..4).map(|index| index == part).collect();
            assert_eq!(differ, only, "{one} and {other}");
        }
        assert_eq!(one, shown(&fields, path, "jwt.t:alice", &hasher));
    }

    #[test]
    fn what_is_not_there_and_who_is_nobody_is_shown_as_such() {
        let hasher = RandomState::new();
        let none = shown(&[], None, "", &hasher);
        assert_eq!(none, "app:r http://a.test/a?b x-tenant=-");
        let nobodys = shown(&[], None, NOBODY, &hasher);
        assert_eq!(nobodys, format!("{none} caller=nobody"));
        let empty = shown(&[("x-tenant", "")], None, "", &hasher);
        assert_ne!(empty, none, "an empty field is another than none");
    }

    #[test]
    fn nobody_outside_of_the_process_can_make_its_digests() {
        let fields = [("x-tenant", "blue")];
        let shown = || shown(&fields, None, "", &RandomState::new());
        assert_ne!(shown(), shown());
    }
}
