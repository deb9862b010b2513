//! Limits by what nobody has on a route: no pattern of it captures that, or none of its credentials carries
//! it. Such a limit holds nobody there, or refuses everybody.
//!
//! A limit that a route has from its group or from `[defaults]` may be there for the others of them, and
//! `on_missing_key` says what becomes of this one: then it is enough that one route has what it counts by.
//! That a limit of callers holds nobody where nobody is asked who it is has to be said by the route itself.

use std::{collections::HashSet, sync::Arc};

use super::Builder;
use crate::config::{
    AuthRule, HostPattern, LimitKey, MissingKey, PathSegment, RateLimit, Route,
    decode::nearest,
    diagnostic::Finding,
    rate_limit::LimitReference,
    share::{Item, Layers},
    source::Place,
};

/// What is known of a route. Where something could not be read, it may be the one that is missed.
#[derive(Clone, Copy)]
pub(super) struct Told {
    /// Whether its `auth` is.
    pub(super) callers: bool,
    /// Whether its hosts and paths are.
    pub(super) patterns: bool,
}

/// What there may be to say when all routes are known.
#[derive(Default)]
pub(in crate::config::routes) struct Gaps {
    /// The limits by what somebody has, on one route at least.
    had: HashSet<Arc<str>>,
    /// Limits that routes have from elsewhere, by what nobody has there.
    inherited: Vec<(Arc<str>, Finding)>,
}

/// A part of a limit's key that nobody has on a route.
struct Gap<'r> {
    route: &'r Route,
    limit: &'r RateLimit,
    key: &'r LimitKey,
    why: Why,
}

/// Why nobody has it.
enum Why {
    /// Nobody is asked who it is.
    Public,
    /// No API key names a caller; one that is asked for stands behind what does.
    NoApiKey(Option<Arc<str>>),
    /// No credential carries roles.
    NoRoles,
    /// No credential has claims.
    NoClaims,
    /// No pattern captures it; one captures something with a similar name.
    NotCaptured(Option<String>),
}

impl Builder<'_> {
    /// Looks for what nobody has among the keys of a route's limits.
    pub(super) fn check_missing(
        &mut self,
        route: &Route,
        layers: Layers<'_>,
        limits: &[LimitReference],
        told: Told,
    ) {
        let document = self.document;
        for reference in limits {
            let Some(limit) = self.rate_limits.get(&reference.name) else {
                continue;
            };
            let gaps = self.gaps(route, limit, told);
            if gaps.is_empty() {
                self.limit_gaps.had.insert(Arc::clone(&reference.name));
            }
            let keys = document.rate_limits.get(&reference.name);
            for gap in gaps {
                let key_place = keys.and_then(|entry| entry.value.place_of(gap.key));
                let finding = gap.finding(reference.place, key_place);
                if gap.may_be_meant() && !is_own(layers, &reference.name) {
                    let inherited = (Arc::clone(&reference.name), finding);
                    self.limit_gaps.inherited.push(inherited);
                } else {
                    self.findings.push(finding);
                }
            }
        }
    }

    /// Tells of the limits that routes have from elsewhere and that hold nobody on any of them.
    pub(in crate::config::routes) fn tell_inherited_gaps(&mut self) {
        let Gaps { had, inherited } = std::mem::take(&mut self.limit_gaps);
        let nowhere = inherited
            .into_iter()
            .filter(|(limit, _)| !had.contains(limit));
        self.findings.extend(nowhere.map(|(_, finding)| finding));
    }

    fn gaps<'r>(&self, route: &'r Route, limit: &'r RateLimit, told: Told) -> Vec<Gap<'r>> {
        let gap = |key: &'r LimitKey| {
            let why = match key {
                LimitKey::Capture(name) if told.patterns => not_captured(route, name),
                key if key.needs_principal() && told.callers => self.not_of_caller(route, key),
                _ => None,
            };
            Some(Gap {
                route,
                limit,
                key,
                why: why?,
            })
        };
        limit.key.iter().filter_map(gap).collect()
    }

    /// Why no caller of a route has a part of a key; `None` when one may.
    fn not_of_caller(&self, route: &Route, key: &LimitKey) -> Option<Why> {
        let Some(rule) = &route.auth else {
            return Some(Why::Public);
        };
        let carried = |name: &Arc<str>| self.document.auth.carried(name);
        let mut naming = rule.naming();
        let (is_there, why) = match key {
            LimitKey::ApiKey => (naming.any(is_api_keys), Why::NoApiKey(keys_behind(rule))),
            LimitKey::Role => (naming.any(|name| carried(name).roles), Why::NoRoles),
            LimitKey::Claim(_) => (naming.any(|name| carried(name).claims), Why::NoClaims),
            _ => return None,
        };
        (!is_there).then_some(why)
    }
}

impl Gap<'_> {
    /// Whether it may be there for other routes: not where it refuses everybody, and not where nobody
    /// is asked who it is.
    fn may_be_meant(&self) -> bool {
        let refuses = self.limit.on_missing_key == MissingKey::Refuse;
        !refuses && !matches!(self.why, Why::Public)
    }

    fn finding(&self, place: Place, key_place: Option<Place>) -> Finding {
        let message = format!(
            "the limit `{}` counts by `{}`, which nobody has on the route `{}`: {}",
            self.limit.name,
            self.key,
            self.route.name,
            self.reason()
        );
        let finding = match self.limit.on_missing_key {
            MissingKey::ClientIp => Finding::warning(place, message),
            MissingKey::Skip | MissingKey::Refuse => Finding::error(place, message),
        };
        let finding = finding.help(format!("{}{}", self.effect(), self.remedy()));
        let label = match &self.why {
            Why::NotCaptured(Some(near)) => format!("did you mean `{near}`?"),
            _ => "it counts by this".to_owned(),
        };
        match key_place {
            Some(key_place) => finding.related(key_place, label),
            None => finding,
        }
    }

    fn reason(&self) -> &'static str {
        match (&self.why, self.key) {
            (Why::Public, _) => "it is public",
            (Why::NoApiKey(_), _) => "no API key names a caller there",
            (Why::NoRoles, _) => "no credential that `auth` takes carries roles",
            (Why::NoClaims, _) => "no credential that `auth` takes has claims",
            (Why::NotCaptured(_), LimitKey::Capture(name)) if name.starts_with("host.") => {
                "none of its `hosts` captures it"
            }
            (Why::NotCaptured(_), _) => "no `path` of it captures it",
        }
    }

    fn effect(&self) -> &'static str {
        match self.limit.on_missing_key {
            MissingKey::ClientIp => "it counts by the client's address there",
            MissingKey::Skip => "it limits nobody there",
            MissingKey::Refuse => "it refuses everybody there",
        }
    }

    fn remedy(&self) -> String {
        let counts = self.limit.on_missing_key == MissingKey::ClientIp;
        match &self.why {
            Why::Public if counts => "; `key = \"caller\"` says so".to_owned(),
            Why::NoApiKey(Some(keys)) => format!(
                ": of `{{ all = [...] }}` the first names the caller: put `\"{keys}\"` in front"
            ),
            Why::Public | Why::NoApiKey(None) | Why::NoClaims => {
                ": write `key = \"caller\"`, or leave the limit out".to_owned()
            }
            Why::NoRoles => {
                ": say where roles come from (`roles_claim` in `[auth.jwt.NAME]`, `roles` in \
                 `[auth.basic.NAME]`, `roles_header` in `[auth.external.NAME]`), or write \
                 `key = \"caller\"`"
                    .to_owned()
            }
            Why::NotCaptured(Some(near)) => format!(": write `key = \"{near}\"`"),
            Why::NotCaptured(None) => self.pattern(),
        }
    }

    /// The pattern that would capture it.
    fn pattern(&self) -> String {
        let key = self.key.to_string();
        match key.strip_prefix("host.") {
            Some(name) => {
                format!(": write `{{{name}}}.example.com` in `hosts`, or leave the limit out")
            }
            None => {
                let name = key.strip_prefix("path.").unwrap_or(&key);
                format!(": write `{{{name}}}` in `path`, or leave the limit out")
            }
        }
    }
}

/// Whether the route itself names a limit.
fn is_own(layers: Layers<'_>, limit: &str) -> bool {
    let own = layers.layers[0].and_then(|own| own.rate_limits.as_ref());
    let items = own.and_then(|set| set.value.as_ref());
    let mut items = items.into_iter().flatten();
    items.any(|item| matches!(item, Item::Own(reference) if *reference.name == *limit))
}

fn is_api_keys(method: &Arc<str>) -> bool {
    method.starts_with(API_KEYS)
}

/// Keys that a route asks for beside another credential, which names the caller.
fn keys_behind(rule: &AuthRule) -> Option<Arc<str>> {
    rule.methods().find(|name| is_api_keys(name)).cloned()
}

/// `None` when a pattern of the route captures what has that name: one of several is enough.
fn not_captured(route: &Route, name: &str) -> Option<Why> {
    let captured = captured(route);
    if captured.iter().any(|known| known == name) {
        return None;
    }
    let near = nearest(name, captured.iter().map(String::as_str));
    Some(Why::NotCaptured(near.map(str::to_owned)))
}

/// What the patterns of a route capture, as keys name it.
fn captured(route: &Route) -> Vec<String> {
    let of_hosts = route.hosts.iter().filter_map(|host| match host {
        HostPattern::Capture { name, .. } => Some(format!("host.{name}")),
        _ => None,
    });
    let of_paths = route.paths.iter().flat_map(|path| {
        let segments = path.segments.iter().filter_map(|segment| match segment {
            PathSegment::Capture(name) => Some(name),
            PathSegment::Literal(_) => None,
        });
        let rest = path.rest.iter().flatten();
        segments.chain(rest).map(|name| format!("path.{name}"))
    });
    of_hosts.chain(of_paths).collect()
}

const API_KEYS: &str = "api_keys.";
