//! What kind of place an address is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddressClass {
    /// Reachable by everybody.
    Public,
    /// This machine.
    Loopback,
    /// A private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// The local link, with the metadata services of clouds.
    LinkLocal,
    /// A service of a cloud provider at an address that looks public.
    CloudService,
    /// An IPv6 address that stands for an IPv4 address: where it leads is up to a gateway.
    Translated,
    /// Addresses of many receivers.
    Multicast,
    /// Not for use, for documentation, or without meaning as a destination.
    Reserved,
}

/// Classifies an address.
///
/// Source: the IANA special-purpose address registries (RFC 6890).
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    // Azure's virtual public address of the host's own services, and Oracle's and Alibaba's metadata addresses.
    const CLOUD: [[u8; 4]; 3] = [[168, 63, 129, 16], [192, 0, 0, 192], [100, 100, 100, 200]];
    let octets = address.octets();
    if CLOUD.contains(&octets) {
        return AddressClass::CloudService;
    }
    match octets {
        // The service network and the private endpoints of IBM Cloud.
        [161, 26, ..] | [166, 8..=11, ..] => AddressClass::CloudService,
        [127, ..] => AddressClass::Loopback,
        [10, ..] | [192, 168, ..] => AddressClass::Private,
        [172, second, ..] if (16..32).contains(&second) => AddressClass::Private,
        [100, second, ..] if (64..128).contains(&second) => AddressClass::Private,
        [169, 254, ..] => AddressClass::LinkLocal,
        // "This network" reaches the machine itself on several systems.
        [0, ..] => AddressClass::Loopback,
        [192, 0, 0, _] | [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => {
            AddressClass::Reserved
        }
        [198, 18 | 19, ..] => AddressClass::Reserved,
        [224..=239, ..] => AddressClass::Multicast,
        [240..=255, ..] => AddressClass::Reserved,
        _ => AddressClass::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => AddressClass::Loopback,
        // IPv4-mapped and IPv4-compatible (RFC 4291), IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0, 0xffff | 0, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] => AddressClass::Translated,
        // NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380), ISATAP (RFC 5214).
        [0x64, 0xff9b, ..] | [0x2002, ..] | [0x2001, 0, ..] | [_, _, _, _, 0 | 0x0200, 0x5efe, _, _] => {
            AddressClass::Translated
        }
        _ => classify_unicast_v6(address),
    }
}

fn classify_unicast_v6(address: Ipv6Addr) -> AddressClass {
    match address.segments() {
        [first, ..] if first & 0xff00 == 0xff00 => AddressClass::Multicast,
        [first, ..] if first & 0xffc0 == 0xfe80 => AddressClass::LinkLocal,
        [first, ..] if first & 0xffc0 == 0xfec0 => AddressClass::Private,
        [first, ..] if first & 0xfe00 == 0xfc00 => AddressClass::Private,
        // Documentation, benchmarking, ORCHID, and the other IETF assignments below 2001:200::/23.
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => AddressClass::Reserved,
        [0x2001, second, ..] if second < 0x0200 => AddressClass::Reserved,
        // Only 2000::/3 is assigned as global unicast.
        [first, ..] if first & 0xe000 == 0x2000 => AddressClass::Public,
        _ => AddressClass::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        use AddressClass::{
            CloudService, LinkLocal, Loopback, Multicast, Private, Public, Reserved, Translated,
        };
        for (address, class) in [
            ("8.8.8.8", Public),
            ("172.15.255.255", Public),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("172.32.0.0", Public),
            ("100.64.0.1", Private),
            ("100.128.0.0", Public),
            ("127.255.255.254", Loopback),
            ("0.0.0.0", Loopback),
            ("169.254.169.254", LinkLocal),
            ("168.63.129.16", CloudService),
            ("100.100.100.200", CloudService),
            ("161.26.0.10", CloudService),
            ("166.8.0.0", CloudService),
            ("166.11.255.255", CloudService),
            ("166.12.0.0", Public),
            ("198.18.0.1", Reserved),
            ("224.0.0.1", Multicast),
            ("255.255.255.255", Reserved),
            ("::", Loopback),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Translated),
            ("::ffff:8.8.8.8", Translated),
            ("::10.0.0.1", Translated),
            ("::ffff:0:10.0.0.1", Translated),
            ("64:ff9b::a9fe:a9fe", Translated),
            ("64:ff9b:1::1", Translated),
            ("2002:7f00:1::", Translated),
            ("2002:808:808::1", Translated),
            ("2001:0:808:808:0:0:80ff:fffe", Translated),
            ("2001:0:a00:1::", Translated),
            ("2a00:1450:4001::5efe:a00:1", Translated),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("fec0::1", Private),
            ("fd00:ec2::254", Private),
            ("fc00::1", Private),
            ("ff02::1", Multicast),
            ("2001:db8::1", Reserved),
            ("3fff::1", Reserved),
            ("2606:4700::1111", Public),
            ("4000::1", Reserved),
        ] {
            assert_eq!(classify(address.parse().unwrap()), class, "{address}");
        }
    }
}
