//! What the demo prints: where everything listens, and five lines to paste.

use std::{fmt::Write, net::SocketAddr};

use super::output;
use crate::{config::Address, gateway::Gateway};

/// The whole text; `wanted` is where the file asked to listen, clients first and admin last.
pub(super) fn text(gateway: &Gateway, backend: SocketAddr, wanted: &[Address]) -> String {
    let admin = gateway.admin_address().map(Address::Tcp);
    let real: Vec<Address> = gateway
        .addresses()
        .into_iter()
        .chain(admin.clone())
        .collect();
    let clients = real
        .iter()
        .find(|address| matches!(address, Address::Tcp(_)));
    let place = Place {
        gateway: clients.map_or_else(String::new, output::url),
        admin: admin.as_ref().map(output::url),
        backend: format!("http://{backend}"),
    };
    [
        INTRODUCTION.to_owned(),
        place.lines(),
        moved(wanted, &real),
        place.tour(),
        END.to_owned(),
    ]
    .concat()
}

struct Place {
    gateway: String,
    admin: Option<String>,
    backend: String,
}

impl Place {
    fn lines(&self) -> String {
        let admin = self.admin.as_deref().unwrap_or("off");
        format!(
            "  gateway  {}\n  admin    {admin}\n  backend  {}  (in this process)\n",
            self.gateway, self.backend
        )
    }

    fn tour(&self) -> String {
        let gateway = &self.gateway;
        let mut steps = vec![
            (
                "The path is rewritten, the request gets an id, and what the caller claims about\n     itself is not believed: see what the backend received.",
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
                "A redirect takes what the path captured along.",
                format!("curl -iL {gateway}/old/items/3"),
            ),
        ];
        if let Some(admin) = &self.admin {
            steps.push((
                "What happened so far, by route.",
                format!("curl -s {admin}/metrics | grep ^tollgate_requests_total"),
            ));
        }
        let mut text = "\nPaste these into another terminal:\n".to_owned();
        for (number, (what, line)) in (1..).zip(&steps) {
            // Writing to a String can't fail.
            let _ = write!(text, "\n  {number}. {what}\n     {line}\n");
        }
        text
    }
}

/// Says which ports were taken by another program.
fn moved(wanted: &[Address], real: &[Address]) -> String {
    wanted
        .iter()
        .zip(real)
        .filter(|(wanted, real)| {
            port(wanted).is_some_and(|port| port != 0) && port(wanted) != port(real)
        })
        .filter_map(|(wanted, real)| Some((port(wanted)?, port(real)?)))
        .map(|(wanted, real)| {
            format!("\n  Port {wanted} is taken by another program: port {real} serves instead.\n")
        })
        .collect()
}

fn port(address: &Address) -> Option<u16> {
    match address {
        Address::Tcp(address) => Some(address.port()),
        Address::Unix(_) => None,
    }
}

const INTRODUCTION: &str = "\
Tollgate's demo: a gateway in front of a small backend.

";
const END: &str = "
Ctrl-C drains and ends. A line of the access log follows for each request.
";
