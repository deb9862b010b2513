//! Networks as sorted ranges: a look-up is one binary search, however many there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::unmapped;

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    v4: Vec<(Ipv4Addr, Ipv4Addr)>,
    v6: Vec<(Ipv6Addr, Ipv6Addr)>,
}

impl Ranges {
    /// The addresses of all of these networks.
    #[must_use]
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut ranges = Self::default();
        for network in networks {
            match unmapped(network) {
                IpNet::V4(net) => ranges.v4.push((net.network(), net.broadcast())),
                IpNet::V6(net) => ranges.v6.push((net.network(), net.broadcast())),
            }
        }
        merge(&mut ranges.v4);
        merge(&mut ranges.v6);
        ranges
    }

    /// Whether an address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => is_in(&self.v4, &address),
            IpAddr::V6(address) => is_in(&self.v6, &address),
        }
    }
}

/// Sorts ranges and joins those that overlap, so that no two of them hold the same address.
fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let overlap = next.0 <= kept.1;
        if overlap {
            kept.1 = kept.1.max(next.1);
        }
        overlap
    });
    ranges.shrink_to_fit();
}

fn is_in<T: Ord>(ranges: &[(T, T)], address: &T) -> bool {
    let after = ranges.partition_point(|(first, _)| first <= address);
    after > 0 && *address <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use ipnet::Ipv4Net;
    use proptest::prelude::*;

    use super::*;

    fn ranges(texts: &[&str]) -> Ranges {
        Ranges::new(texts.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn both_ends_of_a_network_belong_to_it() {
        let ranges = ranges(&["192.0.2.0/25", "2001:db8::/126", "0.0.0.0/32"]);
        let contains = |text: &str| ranges.contains(text.parse().unwrap());
        assert!(contains("192.0.2.0") && contains("192.0.2.127") && contains("0.0.0.0"));
        assert!(!contains("192.0.2.128") && !contains("192.0.1.255") && !contains("0.0.0.1"));
        assert!(contains("2001:db8::3") && !contains("2001:db8::4") && !contains("::"));
    }

    #[test]
    fn everything_of_one_family_is_nothing_of_the_other() {
        let (four, six) = (ranges(&["0.0.0.0/0"]), ranges(&["::/0"]));
        let contains = |ranges: &Ranges, text: &str| ranges.contains(text.parse().unwrap());
        assert!(contains(&four, "255.255.255.255") && !contains(&four, "::1"));
        assert!(contains(&six, "::1") && !contains(&six, "127.0.0.1"));
        assert!(contains(&four, "::ffff:127.0.0.1") && !contains(&six, "::ffff:127.0.0.1"));
    }

    #[test]
    fn a_hundred_thousand_networks_are_searched_not_walked() {
        let network = |number: u32| IpNet::V4(Ipv4Net::new_assert((number << 8).into(), 25));
        let ranges = Ranges::new((0..100_000).map(network));
        assert_eq!(ranges.v4.len(), 100_000);
        let address = |number: u32| IpAddr::V4(((99_999 << 8) + number).into());
        assert!(ranges.contains(address(127)) && !ranges.contains(address(128)));
        let compared = std::cell::Cell::new(0);
        let _ = ranges.v4.partition_point(|_| {
            compared.set(compared.get() + 1);
            true
        });
        assert!(compared.get() < 20, "{}", compared.get());
    }

    fn networks() -> impl Strategy<Value = Vec<IpNet>> {
        // Few addresses, so that networks overlap, touch and repeat.
        let network =
            (0_u32..64, 26_u8..=32, any::<bool>()).prop_map(|(address, prefix, mapped)| {
                let net = Ipv4Net::new_assert(address.into(), prefix).trunc();
                match mapped {
                    false => IpNet::V4(net),
                    true => IpNet::new(net.network().to_ipv6_mapped().into(), prefix + 96).unwrap(),
                }
            });
        proptest::collection::vec(network, 0..12)
    }

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_networks_holds(networks in networks(), address in 0_u32..70) {
            let address = Ipv4Addr::from(address);
            let naive = networks.iter().any(|network| {
                network.contains(&IpAddr::V4(address))
                    || network.contains(&IpAddr::V6(address.to_ipv6_mapped()))
            });
            let ranges = Ranges::new(networks);
            prop_assert_eq!(ranges.contains(address.into()), naive);
            prop_assert_eq!(ranges.contains(address.to_ipv6_mapped().into()), naive);
        }
    }
}
