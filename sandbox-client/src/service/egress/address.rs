//! Which addresses are of the internet at large.
//!
//! Sources: IANA's registries of special-purpose addresses for IPv4 and IPv6; the clouds' pages on
//! their metadata services. Of IPv6 only what is assigned as global unicast passes, so forms that
//! carry an IPv4 address (mapped, compatible, translated, 6to4, Teredo) are refused as a whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Blocks that are not global: first address, prefix length, what they are.
const BLOCKS: [([u8; 4], u8, &str); 16] = [
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "a private network"),
    ([100, 64, 0, 0], 10, "a provider's own network"),
    ([127, 0, 0, 0], 8, "this machine"),
    // Where all clouds but one have their metadata.
    ([169, 254, 0, 0], 16, "link-local or a metadata service"),
    ([172, 16, 0, 0], 12, "a private network"),
    ([192, 0, 0, 0], 24, "protocol assignments"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 88, 99, 0], 24, "6to4 relays"),
    ([192, 168, 0, 0], 16, "a private network"),
    ([198, 18, 0, 0], 15, "benchmarks"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    // Of Azure: global by its number, answered by the machine's host.
    ([168, 63, 129, 16], 32, "a metadata service"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

/// Blocks within global unicast that are something else.
const BLOCKS_6: [([u16; 3], u8, &str); 4] = [
    ([0x2001, 0, 0], 23, "protocol assignments"),
    ([0x2001, 0xdb8, 0], 32, "documentation"),
    ([0x2002, 0, 0], 16, "6to4"),
    ([0x3fff, 0, 0], 20, "documentation"),
];

/// Says why an address is not reached; `None` when it is global.
pub(super) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_4(address),
        IpAddr::V6(address) => refusal_6(address),
    }
}

fn refusal_4(address: Ipv4Addr) -> Option<&'static str> {
    let address = u32::from(address);
    let within = |first: [u8; 4], length: u8| {
        let differing = address ^ u32::from_be_bytes(first);
        differing.leading_zeros() >= u32::from(length)
    };
    let block = BLOCKS
        .iter()
        .find(|(first, length, _)| within(*first, *length));
    block.map(|(_, _, what)| *what)
}

fn refusal_6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(refusal_4(mapped).unwrap_or("an IPv4 address in another form"));
    }
    let address = u128::from(address);
    let within = |[a, b, c]: [u16; 3], length: u8| {
        let first = u128::from(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0));
        (address ^ first).leading_zeros() >= u32::from(length)
    };
    if !within([0x2000, 0, 0], 3) {
        return Some("not a global unicast address");
    }
    let block = BLOCKS_6
        .iter()
        .find(|(first, length, _)| within(*first, *length));
    block.map(|(_, _, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_internet_at_large_passes() {
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "10.255.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.7",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.9",
            "203.0.113.9",
            "168.63.129.16",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:53aa::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        let passed: Vec<_> = refused
            .iter()
            .filter(|text| refusal(text.parse().unwrap()).is_none())
            .collect();
        assert!(passed.is_empty(), "{passed:?}");
        let global = [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "168.63.129.15",
            "223.255.255.255",
            "2001:200::1",
            "2606:4700::1111",
            "2a00:1450::1",
            "3ffe::1",
        ];
        let refused: Vec<_> = global
            .iter()
            .filter(|text| refusal(text.parse().unwrap()).is_some())
            .collect();
        assert!(refused.is_empty(), "{refused:?}");
    }
}
