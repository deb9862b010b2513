//! Addresses that the gateway listens on, and networks that it trusts.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};
use toml::de::DeValue;

use super::{
    Address,
    decode::{Format, Node, OneOrList, Problem, Reader, Show, quoted},
    diagnostic::Finding,
};

/// `listen`: addresses, none twice.
pub(super) struct Listen;

/// One address of a listener.
struct ListenAddress;

/// `listen` of `[admin]`: a TCP address, or `"off"`.
pub(super) struct AdminAddress;

/// A list of networks.
pub(super) struct Networks;

impl Format for Listen {
    type Value = Vec<Address>;

    fn expected() -> String {
        "a list of addresses such as [\"0.0.0.0:8080\"]".to_owned()
    }

    fn example() -> String {
        "[\"0.0.0.0:8080\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<Address>> {
        let addresses = OneOrList::<ListenAddress>::read(node, reader)?;
        if addresses.is_empty() {
            let problem = Problem::what("there is no listener")
                .help(format!("write an address: `listen = {}`", Self::example()));
            return reader.refuse(node, &Self::expected(), problem);
        }
        report_overlaps(node, &addresses, reader);
        Some(addresses)
    }
}

impl Show for Listen {
    fn show(value: &Vec<Address>) -> String {
        let all: Vec<_> = value
            .iter()
            .map(|address| quoted(&address.to_string()))
            .collect();
        format!("[{}]", all.join(", "))
    }
}

fn report_overlaps(node: Node<'_>, addresses: &[Address], reader: &mut Reader<'_>) {
    let DeValue::Array(list) = node.value else {
        return;
    };
    for (at, (address, member)) in addresses.iter().zip(list.iter()).enumerate() {
        let Some(before) = addresses[..at]
            .iter()
            .position(|other| overlap(other, address))
        else {
            continue;
        };
        let same = addresses[before] == *address;
        let what = if same {
            "the same address twice"
        } else {
            "two addresses that overlap"
        };
        let finding = Finding::error(reader.place(member.span()), format!("`listen`: {what}"));
        let Some(first) = list.get(before) else {
            continue;
        };
        let first = reader.place(first.span());
        reader.report(finding.label("again here").related(first, "first here"));
    }
}

/// Whether two addresses can't both be bound. Port 0 is a free one each time.
pub(super) fn overlap(one: &Address, other: &Address) -> bool {
    let (Address::Tcp(one), Address::Tcp(other)) = (one, other) else {
        return one == other;
    };
    let family = one.is_ipv4() == other.is_ipv4();
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && family && (any || one.ip() == other.ip())
}

impl Format for ListenAddress {
    type Value = Address;

    fn expected() -> String {
        "an address such as \"0.0.0.0:8080\" or \"unix:/run/tollgate.sock\"".to_owned()
    }

    fn example() -> String {
        "\"0.0.0.0:8080\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Address> {
        if let DeValue::Integer(_) = node.value {
            let port = reader.sources.quote(node.place);
            let help = format!("write `\"0.0.0.0:{port}\"`");
            return reader.wrong(node, &Self::expected(), Some(help));
        }
        reader.parse(node, &Self::expected(), address)
    }
}

/// As `listen` takes it; for the command line.
impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        address(text).map_err(|_| format!("expected {}", ListenAddress::expected()))
    }
}

fn address(text: &str) -> Result<Address, Problem> {
    match text.strip_prefix("unix:") {
        Some(path) => unix_path(path).map(Address::Unix),
        None => socket_address(text).map(Address::Tcp),
    }
}

/// A path that fits `sockaddr_un` (108 bytes with the closing NUL on Linux).
pub(super) fn unix_path(path: &str) -> Result<PathBuf, Problem> {
    if path.is_empty() || path.contains('\0') {
        return Err(Problem::plain().help("a path follows: `unix:/run/tollgate.sock`"));
    }
    if path.len() > LONGEST_SOCKET_PATH {
        let what = format!("the path of a socket has {LONGEST_SOCKET_PATH} bytes at most");
        return Err(Problem::what(what));
    }
    Ok(PathBuf::from(path))
}

fn socket_address(text: &str) -> Result<SocketAddr, Problem> {
    text.parse().map_err(|_| {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let port = if port.is_empty() { "8080" } else { port };
        let meant = match host {
            _ if text.contains('/') => return Problem::plain(),
            "" | "*" => format!("0.0.0.0:{port}"),
            "localhost" => format!("127.0.0.1:{port}"),
            _ if text.parse::<u16>().is_ok() => format!("0.0.0.0:{text}"),
            _ => match text.parse::<IpAddr>() {
                Ok(ip) => SocketAddr::new(ip, 8080).to_string(),
                Err(_) => {
                    return Problem::plain()
                        .help("an IP address and a port; a name is not resolved here");
                }
            },
        };
        Problem::plain().help(format!("write `\"{meant}\"`"))
    })
}

impl Format for AdminAddress {
    type Value = Option<SocketAddr>;

    fn expected() -> String {
        "an address such as \"127.0.0.1:9901\", or \"off\"".to_owned()
    }

    fn example() -> String {
        "\"127.0.0.1:9901\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        reader.parse(node, &Self::expected(), |text| match text {
            "off" => Ok(None),
            text => socket_address(text).map(Some),
        })
    }
}

impl Show for AdminAddress {
    fn show(value: &Self::Value) -> String {
        value.map_or("\"off\"".to_owned(), |address| quoted(&address.to_string()))
    }
}

impl Format for Networks {
    type Value = Vec<IpNet>;

    fn expected() -> String {
        "a list of networks such as [\"10.0.0.0/8\"]".to_owned()
    }

    fn example() -> String {
        "[\"10.0.0.0/8\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<IpNet>> {
        OneOrList::<Network>::read(node, reader)
    }
}

impl Show for Networks {
    fn show(value: &Vec<IpNet>) -> String {
        let all: Vec<_> = value.iter().map(|net| quoted(&net.to_string())).collect();
        format!("[{}]", all.join(", "))
    }
}

struct Network;

impl Format for Network {
    type Value = IpNet;

    fn expected() -> String {
        "a network such as \"10.0.0.0/8\", or an address".to_owned()
    }

    fn example() -> String {
        "\"10.0.0.0/8\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<IpNet> {
        let network = reader.parse(node, &Self::expected(), network)?;
        if network.prefix_len() == 0 {
            let message = format!("`{}`: everybody is trusted", node.name);
            let help = "any client can then claim any address: name the networks of your proxies";
            reader.report(Finding::warning(node.place, message).help(help));
        }
        Some(network)
    }
}

/// Reads a network as one gives it to a command.
///
/// # Errors
///
/// What was expected.
pub fn network_of(text: &str) -> Result<IpNet, String> {
    network(text).map_err(|_| "expected a network such as 192.0.2.0/24, or an address".to_owned())
}

/// A network of IPv4-mapped addresses (RFC 4291 2.5.5.2) is the IPv4 network: that is how clients are
/// known. One that reaches further stays what it is: `::/0` is all of IPv6 and nothing of IPv4.
#[must_use]
pub fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(wide) = network else {
        return network;
    };
    let prefix = wide.prefix_len().checked_sub(MAPPED_PREFIX);
    let mapped = wide.network().to_ipv4_mapped().zip(prefix);
    let narrow = mapped.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    narrow.map_or(network, IpNet::V4)
}

/// A network, or an address as one of its own.
pub(super) struct Cidr;

impl Format for Cidr {
    type Value = IpNet;

    fn expected() -> String {
        "a network such as \"192.0.2.0/24\", or an address".to_owned()
    }

    fn example() -> String {
        "\"192.0.2.0/24\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<IpNet> {
        reader.parse(node, &Self::expected(), network)
    }
}

/// The network of a text.
pub(super) fn network(text: &str) -> Result<IpNet, Problem> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_| Problem::plain())?;
    if network.trunc() != network {
        let help = format!("write `\"{}\"`", network.trunc());
        return Err(Problem::what("the address has bits beyond its prefix").help(help));
    }
    Ok(unmapped(network))
}

/// `::ffff:0:0/96`.
const MAPPED_PREFIX: u8 = 96;
const LONGEST_SOCKET_PATH: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn help(text: &str) -> String {
        address(text).unwrap_err().help.unwrap_or_default()
    }

    #[test]
    fn addresses_of_other_programs_get_a_suggestion() {
        assert_eq!(help(":8080"), "write `\"0.0.0.0:8080\"`");
        assert_eq!(help("*:80"), "write `\"0.0.0.0:80\"`");
        assert_eq!(help("8080"), "write `\"0.0.0.0:8080\"`");
        assert_eq!(help("localhost:8080"), "write `\"127.0.0.1:8080\"`");
        assert_eq!(help("10.0.0.1"), "write `\"10.0.0.1:8080\"`");
        assert_eq!(help("::1"), "write `\"[::1]:8080\"`");
    }

    #[test]
    fn addresses_overlap_when_they_cannot_both_be_bound() {
        let overlaps = |one, other| overlap(&address(one).unwrap(), &address(other).unwrap());
        assert!(overlaps("0.0.0.0:80", "127.0.0.1:80"));
        assert!(overlaps("unix:/a", "unix:/a"));
        assert!(!overlaps("127.0.0.1:0", "127.0.0.1:0"));
        assert!(!overlaps("127.0.0.1:80", "[::1]:80"));
        assert!(!overlaps("127.0.0.1:80", "127.0.0.2:80"));
    }

    #[test]
    fn a_network_has_no_bits_beyond_its_prefix() {
        assert_eq!(network("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        let problem = network("10.0.0.1/8").unwrap_err();
        assert_eq!(problem.help.as_deref(), Some("write `\"10.0.0.0/8\"`"));
    }

    #[test]
    fn mapped_addresses_are_the_ipv4_ones_that_clients_are_known_by() {
        for (text, meant) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), meant);
        }
    }
}
