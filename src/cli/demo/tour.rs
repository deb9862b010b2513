//! What the demo prints: where everything listens, and five lines to paste.

use std::{fmt::Write, net::SocketAddr};

use super::{Origin, output};
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
    let steps = steps(&place.steps());
    let fit = if origin.is_shipped { "" } else { OWN_FILE };
    format!("{INTRODUCTION}\n{addresses}{moved}\n{PASTE}{fit}{steps}\n{END}")
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
    fn steps(&self) -> Vec<(&'static str, String)> {
        let gateway = &self.gateway;
        let metrics = self.admin.as_ref().map(|admin| {
            let line = format!("curl -s {admin}/metrics | grep ^tollgate_requests_total");
            ("What happened so far, by route.", line)
        });
        let steps = [
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
        ];
        steps.into_iter().chain(metrics).collect()
    }
}

fn steps(steps: &[(&str, String)]) -> String {
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
    fn five_lines_are_shown_and_none_of_a_listener_that_is_off() {
        let mut place = Place {
            gateway: "http://127.0.0.1:8080".to_owned(),
            admin: Some("http://127.0.0.1:9901".to_owned()),
            backend: "http://127.0.0.1:1".to_owned(),
        };
        assert_eq!(place.steps().len(), 5);
        place.admin = None;
        assert!(
            place
                .steps()
                .iter()
                .all(|(_, line)| !line.contains("metrics"))
        );
    }
}
