//! What the demo prints: where everything listens, and lines to paste.

use std::{fmt::Write, net::SocketAddr};

use super::{Origin, callers::Callers, output};
use crate::{config::Address, gateway::Gateway};

/// Where the parts of the demo can be reached.
struct Place {
    gateway: String,
    admin: Option<String>,
    backend: String,
}

/// The whole text; `wanted` is where the file asked to listen, clients first and admin last.
pub(super) fn text(
    gateway: &Gateway,
    backend: SocketAddr,
    wanted: &[Address],
    origin: &Origin,
) -> String {
    let clients = gateway.addresses();
    let admin = gateway.admin_address().map(Address::Tcp);
    let place = Place {
        gateway: clients.first().map_or_else(String::new, output::url),
        admin: admin.as_ref().map(output::url),
        backend: format!("http://{backend}"),
    };
    let real: Vec<Address> = clients.into_iter().chain(admin).collect();
    let moved = moved(wanted, &real);
    let addresses = place.addresses(origin);
    let steps = steps(&place.steps(origin.callers.is_some()));
    let first = match &origin.callers {
        Some(callers) => credentials(callers),
        None => OWN_FILE.to_owned(),
    };
    format!("{INTRODUCTION}\n{addresses}{moved}\n{PASTE}{first}{steps}\n{END}")
}

impl Place {
    fn addresses(&self, origin: &Origin) -> String {
        format!(
            "  gateway  {}  (routes of {})\n  admin    {}\n  backend  {}  (in this process)\n",
            self.gateway,
            origin.name,
            self.admin.as_deref().unwrap_or("off"),
            self.backend
        )
    }

    /// What a line shows, and the line.
    fn steps(&self, with_callers: bool) -> Vec<Step> {
        let callers = match with_callers {
            true => self.callers(),
            false => Vec::new(),
        };
        let parts = [self.requests(), callers, self.amounts(), self.admin_steps()];
        parts.into_iter().flatten().collect()
    }

    fn requests(&self) -> Vec<Step> {
        let gateway = &self.gateway;
        vec![
            (
                "The path is rewritten, the request gets an id, and what the caller claims about\n     \
                 itself is not believed: see what the backend received.",
                format!("curl -i -H 'X-Forwarded-For: 6.6.6.6' {gateway}/api/echo"),
            ),
            (
                "A method that the route does not serve: 405 with Allow, as JSON with a reason.",
                format!("curl -i -X PATCH {gateway}/api/items/3"),
            ),
            (
                "Server-sent events arrive one by one.",
                format!("curl -N '{gateway}/api/events?count=5'"),
            ),
            (
                "A redirect takes along what the path captured.",
                format!("curl -iL {gateway}/old/items/3"),
            ),
        ]
    }

    fn callers(&self) -> Vec<Step> {
        let private = format!("{}/private", self.gateway);
        vec![
            (
                "Nobody in particular: 401, with the ways to authenticate.",
                format!("curl -i {private}/items/3"),
            ),
            (
                "A token of a viewer, who may read: 200, and what is left of the quota.",
                format!("curl -i -H \"Authorization: Bearer $TOKEN\" {private}/items/3"),
            ),
            (
                "But not delete: 403.",
                format!("curl -i -X DELETE -H \"Authorization: Bearer $TOKEN\" {private}/items/3"),
            ),
            (
                "An API key of an editor: 200.",
                format!("curl -i -H \"X-Api-Key: $KEY\" {private}/items/3"),
            ),
            (
                "An editor may write: 201.",
                format!(
                    "curl -i -H \"X-Api-Key: $KEY\" -d '{{\"name\": \"saw\"}}' {private}/items"
                ),
            ),
            (
                "A browser asks whether a page of another origin may delete: 204, without a token.",
                format!(
                    "curl -i -X OPTIONS -H 'Origin: https://app.example.com' \
                     -H 'Access-Control-Request-Method: DELETE' {private}/items/3"
                ),
            ),
        ]
    }

    fn amounts(&self) -> Vec<Step> {
        let gateway = &self.gateway;
        vec![
            (
                "Five in ten seconds: RateLimit counts down, the sixth is 429 with Retry-After.\n     \
                 What limits can do stands in docs/limits.md.",
                format!(
                    "for i in 1 2 3 4 5 6; do curl -si '{gateway}/api/slow?ms=0' \
                     | grep -iE '^(http|ratelimit|retry)'; done"
                ),
            ),
            (
                "An answer is kept: paste it twice, Cache-Status says miss and hit, `made` stays. After\n     \
                 five seconds it is stale: it is served once more while a new one is fetched.",
                format!("curl -i {gateway}/api/catalogue"),
            ),
        ]
    }

    fn admin_steps(&self) -> Vec<Step> {
        let Some(admin) = &self.admin else {
            return Vec::new();
        };
        vec![
            (
                "What is kept is forgotten (`tollgate purge` does the same): the next one is a miss.",
                format!("curl -s {admin}/api/cache/purges -d '{{\"route\": \"catalogue\"}}'"),
            ),
            (
                "What happened so far, by route.",
                format!("curl -s {admin}/metrics | grep ^tollgate_requests_total"),
            ),
        ]
    }
}

/// What a line shows, and the line.
type Step = (&'static str, String);

/// Assignments to paste before the lines that use them.
fn credentials(callers: &Callers) -> String {
    let Callers { token, key, .. } = callers;
    format!(
        "\n  0. A token (good for a day) and a key; both end with this demo.\n     TOKEN={token}\n     KEY={key}\n"
    )
}

fn steps(steps: &[Step]) -> String {
    let mut text = String::new();
    for (number, (what, line)) in (1..).zip(steps) {
        // Writing to a String can't fail.
        let _ = write!(text, "\n  {number}. {what}\n     {line}\n");
    }
    text
}

/// Says which ports were taken by another program.
fn moved(wanted: &[Address], real: &[Address]) -> String {
    let pairs = wanted.iter().zip(real);
    pairs
        .filter_map(|(wanted, real)| Some((port(wanted)?, port(real)?)))
        .filter(|(wanted, real)| *wanted != 0 && wanted != real)
        .map(|(wanted, real)| {
            format!("\n  Port {wanted} is taken by another program: {real} serves instead.\n")
        })
        .collect()
}

fn port(address: &Address) -> Option<u16> {
    match address {
        Address::Tcp(address) => Some(address.port()),
        Address::Unix(_) => None,
    }
}

const INTRODUCTION: &str = "Tollgate's demo: a gateway in front of a small backend.\n";
const PASTE: &str = "Paste these into another terminal:\n";
const OWN_FILE: &str =
    "(They were written for the file that Tollgate ships; yours may route otherwise.)\n";
const END: &str = "Ctrl-C drains and ends. A line of the access log follows for each request.\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(port: u16) -> Address {
        Address::Tcp(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn a_port_that_was_taken_is_named_with_the_one_that_serves() {
        let text = moved(&[tcp(8080), tcp(9901)], &[tcp(40_000), tcp(9901)]);
        assert!(
            text.contains("8080 is taken") && text.contains("40000 serves"),
            "{text}"
        );
        assert!(!text.contains("9901"), "{text}");
    }

    #[test]
    fn a_file_that_leaves_the_port_open_has_lost_none() {
        assert_eq!(moved(&[tcp(0)], &[tcp(40_000)]), "");
    }

    #[test]
    fn no_line_is_shown_of_what_is_not_there() {
        let mut place = Place {
            gateway: "http://127.0.0.1:8080".to_owned(),
            admin: Some("http://127.0.0.1:9901".to_owned()),
            backend: "http://127.0.0.1:1".to_owned(),
        };
        let lines = |place: &Place, callers| -> String {
            let steps = place.steps(callers).into_iter();
            steps.map(|(_, line)| line + "\n").collect()
        };
        let all = lines(&place, true);
        assert!(
            all.contains("$TOKEN") && all.contains("$KEY") && all.contains("9901"),
            "{all}"
        );
        let without_callers = lines(&place, false);
        assert!(!without_callers.contains('$'), "{without_callers}");
        place.admin = None;
        assert!(!lines(&place, true).contains("9901"));
    }
}
