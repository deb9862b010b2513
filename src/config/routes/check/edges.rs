//! What a route says against itself about header edits, CORS and validation.

use super::Checker;
use crate::config::{
    AuthRule, Route, Target, TemplatePart, Validation, diagnostic::Finding, share::Layers,
    source::Place,
};

impl Checker<'_> {
    pub(super) fn check_edges(&mut self, route: &Route, place: Place, layers: Layers<'_>) {
        let request = layers
            .pick(|keys| &keys.request_headers)
            .map_or(place, |set| set.place);
        let response = layers
            .pick(|keys| &keys.response_headers)
            .map_or(place, |set| set.place);
        let (asked, answered) = (&route.request_headers, &route.response_headers);
        for (_, template) in asked.set.iter().chain(&asked.add) {
            self.check_captures(route, template, request);
        }
        for (_, template) in answered.set.iter().chain(&answered.add) {
            self.check_captures(route, template, response);
        }
        self.check_principal(route, request);
        self.check_cors_edits(route, response);
        if let Some(validation) = &route.validation {
            let place = layers
                .pick(|keys| &keys.validation)
                .map_or(place, |set| set.place);
            self.check_schema(route, validation, place);
        }
        self.check_answering(route, layers);
    }

    /// What one method calls `alice` may be somebody else than the `alice` of another.
    fn check_principal(&mut self, route: &Route, place: Place) {
        let edits = &route.request_headers;
        let naming = |part: TemplatePart| {
            let mut edits = edits.set.iter().chain(&edits.add);
            edits.find(|(_, template)| template.parts.contains(&part))
        };
        let answers = matches!(route.target, Target::Respond(_) | Target::Redirect(_));
        let methods = route.auth.as_ref().and_then(AuthRule::two_that_name);
        let (Some((one, other)), Some((name, _)), None, false) = (
            methods,
            naming(TemplatePart::Principal),
            naming(TemplatePart::Caller),
            answers,
        ) else {
            return;
        };
        let message = format!(
            "`{name}` of the route `{}` can't tell callers of `{one}` from those of `{other}`: \
             `${{principal}}` is a name within one of them",
            route.name
        );
        let help = format!("write `${{caller}}`, which tells the method too: `{one}:alice`");
        self.findings
            .push(Finding::warning(place, message).help(help));
    }

    /// CORS stands outside of header edits and replaces what the inside says.
    fn check_cors_edits(&mut self, route: &Route, place: Place) {
        let edits = &route.response_headers;
        let mut names = edits.set.iter().chain(&edits.add).map(|(name, _)| name);
        let name = names.find(|name| name.as_str().starts_with("access-control-"));
        if let (Some(name), Some(_)) = (name, &route.cors) {
            let message = format!("`{name}` has no effect: `cors` of the route decides it");
            self.findings.push(Finding::warning(place, message));
        }
    }

    /// A body that is to be judged is held in memory as a whole.
    fn check_schema(&mut self, route: &Route, validation: &Validation, place: Place) {
        let fits = route.max_body.is_some_and(|most| most <= LARGEST_JUDGED);
        if validation.body_schema.is_some() && !fits {
            let message = format!(
                "`body_schema` holds bodies in memory: the route `{}` allows too large ones",
                route.name
            );
            let finding = Finding::error(place, message);
            self.findings
                .push(finding.help("write `max_body = \"1MiB\"` in the route; 16MiB is the most"));
        }
    }

    fn check_answering(&mut self, route: &Route, layers: Layers<'_>) {
        if !matches!(route.target, Target::Respond(_) | Target::Redirect(_)) {
            return;
        }
        let own = layers.layers[0];
        let set = [
            (
                "validation",
                own.and_then(|own| Some(own.validation.as_ref()?.key)),
            ),
            (
                "request_headers",
                own.and_then(|own| Some(own.request_headers.as_ref()?.key)),
            ),
        ];
        for (key, place) in set {
            if let Some(place) = place {
                let message = format!("`{key}` has no effect: the gateway answers itself");
                self.findings.push(Finding::warning(place, message));
            }
        }
    }
}

/// The largest body that a schema judges, in bytes.
const LARGEST_JUDGED: u64 = 16 << 20;
