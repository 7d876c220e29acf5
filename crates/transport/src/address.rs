//! Which addresses a server may send us to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` is an ordinary address of the public Internet.
///
/// Everything that leads back to this machine, its link, its pod network or a cloud's metadata
/// service is not: loopback, private, shared (100.64/10), link-local, unspecified, multicast and
/// reserved ranges, and the same ranges wrapped in IPv6 (mapped, compatible, NAT64, 6to4).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        // "This network", private, loopback; multicast and reserved, including broadcast.
        [0 | 10 | 127 | 224..=255, ..]
        // Shared address space; 100.100.100.200 is a cloud's metadata service.
        | [100, 64..=127, ..]
        // Link-local; 169.254.169.254 is every other cloud's metadata service.
        | [169, 254, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        // Protocol assignments and the three documentation networks.
        | [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        // Benchmarking.
        | [198, 18 | 19, ..] => false,
        _ => true,
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // Mapped and NAT64 addresses are IPv4 addresses in another spelling.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(embedded(high, low))
        }
        [0x2002, high, low, ..] => is_public_v4(embedded(high, low)),
        // Teredo (2001::/32), documentation (2001:db8::/32).
        [0x2001, 0 | 0xdb8, ..] => false,
        // Only 2000::/3 is handed out as global unicast. The rest is unspecified, loopback,
        // compatible, local NAT64 (64:ff9b:1::/48), unique local, link-local or multicast.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expected: bool, addresses: &[&str]) {
        for text in addresses {
            let address = text.parse().expect("the table holds addresses");
            assert_eq!(is_public(address), expected, "{text}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        check(true, &["1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1"]);
        check(true, &["169.253.1.1", "192.167.1.1", "192.0.1.1", "198.17.0.1", "223.255.255.255"]);
        check(true, &["2606:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1", "64:ff9b::101:101"]);
        check(true, &["2002:101:101::1"]);
    }

    #[test]
    fn addresses_of_this_machine_its_link_and_its_networks_are_not() {
        check(false, &["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.9", "10.1.2.3"]);
        check(false, &["172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1"]);
        check(false, &["224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.0.8"]);
        check(false, &["::", "::1", "fc00::1", "fd12:3456::1", "fe80::1", "fec0::1", "ff02::1"]);
        check(false, &["2001:db8::1", "2001::1", "::7f00:1"]);
    }

    #[test]
    fn metadata_services_are_not_public_in_any_spelling() {
        check(false, &["169.254.169.254", "100.100.100.200", "fd00:ec2::254"]);
        check(false, &["::ffff:169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe"]);
        check(false, &["2002:a9fe:a9fe::1", "64:ff9b:1::a9fe:a9fe", "::a9fe:a9fe"]);
    }
}
