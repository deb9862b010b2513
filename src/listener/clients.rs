//! How many connections each client has open.
//!
//! Counted where a limit is set, from the accepted socket to its end, tunnels included. A client is
//! an IPv4 address, or the first 64 bits of an IPv6 address, which one household has to itself. A
//! trusted proxy's connections are many clients', and a unix socket's peer has no address: neither is
//! counted.
//!
//! The table has a client's row for as long as it has a connection, so `max_connections` bounds it. Its
//! lock is taken when a connection opens and when it ends, never for a request.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::exchange::Peer;

use super::settings::Settings;

/// Open connections by client.
#[derive(Debug, Default)]
pub(super) struct Clients {
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A client has as many connections as it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Clients {
    /// A place for one more connection of this peer; none where its connections are not counted.
    ///
    /// # Errors
    ///
    /// When the client has all that it may have.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: Peer,
        settings: &Settings,
    ) -> Result<Option<Place>, TooMany> {
        let Some(most) = settings.limits.max_connections_per_client else {
            return Ok(None);
        };
        if peer == Peer::Unix || settings.trusts(peer.ip()) {
            return Ok(None);
        }
        let client = network(peer.ip());
        let mut open = self.open();
        let count = open.entry(client).or_default();
        if *count >= most {
            return Err(TooMany);
        }
        *count += 1;
        drop(open);
        Ok(Some(Place {
            clients: Arc::clone(self),
            client,
        }))
    }

    fn leave(&self, client: IpAddr) {
        let mut open = self.open();
        if let Some(count) = open.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&client);
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // A count is changed in one step.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of a client's connections, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clients.leave(self.client);
    }
}

/// What one client has to itself.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & HOUSEHOLD).into()),
    }
}

/// The first 64 bits of an IPv6 address.
const HOUSEHOLD: u128 = !(u64::MAX as u128);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Server;

    fn settings(most: usize) -> Settings {
        let mut server = Server::default();
        server.limits.max_connections_per_client = Some(most);
        server.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        Settings::new(&server)
    }

    fn peer(address: &str) -> Peer {
        Peer::Tcp((address.parse::<IpAddr>().unwrap(), 1).into())
    }

    #[test]
    fn a_client_has_its_number_of_places_and_gets_them_back() {
        let (clients, settings) = (Arc::new(Clients::default()), settings(2));
        let admit = |address| clients.admit(peer(address), &settings);
        let first = admit("192.0.2.1").unwrap();
        let _second = admit("192.0.2.1").unwrap();
        assert_eq!(admit("192.0.2.1").err(), Some(TooMany));
        assert!(admit("192.0.2.2").is_ok(), "another one has its own");
        drop(first);
        assert!(admit("192.0.2.1").is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let (clients, settings) = (Arc::new(Clients::default()), settings(1));
        let _place = clients.admit(peer("2001:db8::1"), &settings).unwrap();
        let admit = |address| clients.admit(peer(address), &settings).is_ok();
        assert!(!admit("2001:db8::ffff:1"));
        assert!(admit("2001:db8:0:1::1"));
        // As IPv4 clients look on a socket that takes both.
        let _mapped = clients.admit(peer("::ffff:192.0.2.1"), &settings).unwrap();
        assert!(!admit("192.0.2.1"));
    }

    #[test]
    fn proxies_and_unix_sockets_are_not_counted() {
        let (clients, settings) = (Arc::new(Clients::default()), settings(1));
        for peer in [peer("10.1.2.3"), Peer::Unix] {
            assert!(clients.admit(peer, &settings).unwrap().is_none());
        }
    }

    #[test]
    fn a_client_that_has_left_takes_no_memory() {
        let (clients, settings) = (Arc::new(Clients::default()), settings(1));
        drop(clients.admit(peer("192.0.2.1"), &settings).unwrap());
        assert!(clients.open().is_empty());
    }
}
