//! Header fields that rules name and that never arrive: their names have more than letters, digits and
//! hyphens, and the route drops those.

use http::HeaderName;

use super::Builder;
use crate::config::{
    AuthRule, LimitKey, MissingKey, OddHeaderNames, Route, Target, ValueMatch, diagnostic::Finding,
    header::in_plain_letters, share::Layers, source::Place,
};

/// How grave it is.
type Report = fn(Place, String) -> Finding;

impl Builder<'_> {
    /// Looks at the names in the rules of one route.
    pub(super) fn check_odd_names(&mut self, route: &Route, layers: Layers<'_>) {
        self.check_odd_conditions(route, layers);
        if route.odd_header_names == OddHeaderNames::Keep {
            return;
        }
        self.check_odd_limits(route, layers);
        self.check_odd_questions(route, layers);
        // What the gateway answers itself is neither validated nor stored.
        if matches!(route.target, Target::Upstream(_) | Target::Split(_)) {
            self.check_odd_validation(route, layers);
            self.check_odd_cache(route, layers);
        }
    }

    /// Which route it is says what becomes of such fields, so they can't say which route it is.
    fn check_odd_conditions(&mut self, route: &Route, layers: Layers<'_>) {
        let Some(set) = layers.pick(|keys| &keys.match_headers) else {
            return;
        };
        for (name, _) in &route.match_headers {
            let Some(plain) = in_plain_letters(name.as_str()) else {
                continue;
            };
            let message = format!(
                "route `{}`: `match_headers` can't depend on `{name}`: servers read its signs in different ways",
                route.name
            );
            let help = format!("let clients send `{plain}`, and match that");
            self.findings
                .push(Finding::error(set.place, message).help(help));
        }
    }

    /// Where it is enforced, nobody meets what asks for a field that never comes.
    fn check_odd_validation(&mut self, route: &Route, layers: Layers<'_>) {
        let set = layers.pick(|keys| &keys.validation);
        let (Some(validation), Some(set)) = (&route.validation, set) else {
            return;
        };
        for (name, wanted) in &validation.headers {
            // That it is absent holds.
            if matches!(wanted, ValueMatch::Present(false)) {
                continue;
            }
            let report: Report = match validation.enforce {
                true => Finding::error,
                false => Finding::warning,
            };
            let found = dropped(route, "`validation` asks for", name, set.place, report);
            self.findings.extend(found);
        }
    }

    fn check_odd_limits(&mut self, route: &Route, layers: Layers<'_>) {
        let Some(set) = layers.pick(|keys| &keys.rate_limits) else {
            return;
        };
        let limits = route.rate_limits.iter();
        for limit in limits.filter_map(|name| self.rate_limits.get(name)) {
            // By the client's address it is still a limit; else it holds nobody, or refuses everybody.
            let report: Report = match limit.on_missing_key {
                MissingKey::ClientIp => Finding::warning,
                MissingKey::Skip | MissingKey::Refuse => Finding::error,
            };
            let what = format!("the limit `{}` counts by", limit.name);
            let headers = limit.key.iter().filter_map(|key| match key {
                LimitKey::Header(name) => Some(name),
                _ => None,
            });
            let found = headers.filter_map(|name| dropped(route, &what, name, set.place, report));
            self.findings.extend(found);
        }
    }

    fn check_odd_cache(&mut self, route: &Route, layers: Layers<'_>) {
        let set = layers.pick(|keys| &keys.cache);
        let (Some(rule), Some(set)) = (&route.cache, set) else {
            return;
        };
        let what = "`key_headers` of its cache rule has";
        let names = rule.key_headers.iter();
        let found =
            names.filter_map(|name| dropped(route, what, name, set.place, Finding::warning));
        self.findings.extend(found);
    }

    /// What a service of external auth is told.
    fn check_odd_questions(&mut self, route: &Route, layers: Layers<'_>) {
        let Some(set) = layers.pick(|keys| &keys.auth) else {
            return;
        };
        for method in route.auth.iter().flat_map(AuthRule::methods) {
            let what = format!("`request_headers` of `[auth.{method}]` has");
            let names = self.document.auth.told_headers(method).iter();
            let found =
                names.filter_map(|name| dropped(route, &what, name, set.place, Finding::warning));
            self.findings.extend(found);
        }
    }
}

/// What there is to say about a name that never arrives on a route; `None` for one that may.
fn dropped(
    route: &Route,
    what: &str,
    name: &HeaderName,
    place: Place,
    report: Report,
) -> Option<Finding> {
    let plain = in_plain_letters(name.as_str())?;
    let message = format!(
        "route `{}`: {what} `{name}`, which is dropped: servers read its signs in different ways",
        route.name
    );
    let help = format!(
        "write `odd_header_names = \"keep\"` in the route, or let clients send `{plain}` instead"
    );
    Some(report(place, message).help(help))
}
