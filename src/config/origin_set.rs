//! Origins compiled: which pages a list means.

use super::Origin;

/// Origins, to be searched.
#[derive(Debug)]
pub struct OriginSet {
    any: bool,
    /// In order, to be searched.
    exact: Box<[Box<[u8]>]>,
    below: Box<[Below]>,
}

/// Origins below a host.
#[derive(Debug)]
struct Below {
    scheme: Box<[u8]>,
    suffix: Box<[u8]>,
    any_depth: bool,
}

impl OriginSet {
    /// The origins of a list.
    #[must_use]
    pub fn new(config: &[Origin]) -> Self {
        let mut exact: Vec<Box<[u8]>> = Vec::new();
        let mut below = Vec::new();
        for origin in config {
            match origin {
                Origin::Any => {}
                Origin::Exact(text) => exact.push(text.as_bytes().into()),
                Origin::Below {
                    scheme,
                    suffix,
                    any_depth,
                } => below.push(Below {
                    scheme: scheme.as_bytes().into(),
                    suffix: suffix.as_bytes().into(),
                    any_depth: *any_depth,
                }),
            }
        }
        exact.sort_unstable();
        Self {
            any: config.contains(&Origin::Any),
            exact: exact.into(),
            below: below.into(),
        }
    }

    /// Whether all origins are meant.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.any
    }

    /// Whether an origin is named, by itself or by what it stands below.
    #[must_use]
    pub fn contains(&self, origin: &[u8]) -> bool {
        let exact = self.exact.binary_search_by(|known| (**known).cmp(origin));
        exact.is_ok() || self.below.iter().any(|below| below.contains(origin))
    }
}

impl Below {
    /// Whether nothing but whole labels stands between the scheme and the host.
    fn contains(&self, origin: &[u8]) -> bool {
        let labels = origin
            .strip_prefix(&*self.scheme)
            .and_then(|rest| rest.strip_suffix(&*self.suffix));
        let in_label = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let is_label = |label: &[u8]| !label.is_empty() && label.iter().all(in_label);
        labels.is_some_and(|labels| match self.any_depth {
            true => labels.split(|byte| *byte == b'.').all(is_label),
            false => is_label(labels),
        })
    }
}
