//! What an operator opens.

use std::net::IpAddr;
use std::str::FromStr;

use pulsestream_core::{Error, Result};

use super::address::{AddressClass, classify};

/// A range of addresses, for example `10.1.0.0/16` or `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Returns whether the range holds `address`; IPv4 and IPv4-mapped addresses are the same.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => same_prefix(
                u128::from(network.to_bits()) << 96,
                u128::from(address.to_bits()) << 96,
                self.prefix,
            ),
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                same_prefix(network.to_bits(), address.to_bits(), self.prefix)
            }
            _ => false,
        }
    }
}

fn same_prefix(left: u128, right: u128, bits: u8) -> bool {
    bits == 0 || (left ^ right) >> (128 - u32::from(bits)) == 0
}

impl FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || {
            Error::invalid(
                "cidr.parse",
                "",
                "invalid_cidr",
                "must be an address range such as 10.1.0.0/16 or fd00::/8",
            )
        };
        let (address, prefix) =
            text.trim().split_once('/').map_or((text.trim(), None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if !digits.bytes().all(|byte| byte.is_ascii_digit()) => return Err(refuse()),
            Some(digits) => digits.parse().ok().filter(|prefix| *prefix <= most).ok_or_else(refuse)?,
            None => most,
        };
        Ok(Self { address, prefix })
    }
}

/// Where notifications may go besides public addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    allowed: Vec<Cidr>,
    ports: Vec<u16>,
}

impl EgressPolicy {
    /// Creates the default: public addresses, ports 80, 443, and 1024 and above except those of stores and of other
    /// protocols.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a range that is not public.
    #[must_use]
    pub fn allow(mut self, range: Cidr) -> Self {
        self.allowed.push(range);
        self
    }

    /// Opens a port that is closed by default.
    #[must_use]
    pub fn allow_port(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// Returns whether a request may go to `address`.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        classify(address) == AddressClass::Public || self.allowed.iter().any(|range| range.contains(address))
    }

    /// Returns whether a request may go to `port`.
    pub fn allows_port(&self, port: u16) -> bool {
        // Services that hold data without a password or take an HTTP request for commands.
        const STORES: [u16; 25] = [
            1_433, 1_521, 2_181, 2_375, 2_376, 2_379, 2_380, 3_306, 4_001, 5_432, 5_672, 5_984, 6_379, 6_380,
            6_443, 8_086, 8_500, 9_042, 9_200, 9_300, 10_250, 10_255, 11_211, 26_379, 27_017,
        ];
        // The ports from 1024 on that browsers refuse, because other protocols live there (WHATWG Fetch, "bad port").
        const OTHER_PROTOCOLS: [u16; 19] = [
            1_719, 1_720, 1_723, 2_049, 3_659, 4_045, 4_190, 5_060, 5_061, 6_000, 6_566, 6_665, 6_666, 6_667,
            6_668, 6_669, 6_679, 6_697, 10_080,
        ];
        let is_closed = |port| STORES.contains(&port) || OTHER_PROTOCOLS.contains(&port);
        matches!(port, 80 | 443) || (port >= 1_024 && !is_closed(port)) || self.ports.contains(&port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range: Cidr = "10.1.0.0/16".parse().unwrap();
        assert!(range.contains("10.1.255.255".parse().unwrap()));
        assert!(range.contains("::ffff:10.1.0.9".parse().unwrap()));
        assert!(!range.contains("10.2.0.0".parse().unwrap()));
        assert!("fd00::/8".parse::<Cidr>().unwrap().contains("fdff::1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("127.0.0.1".parse().unwrap()));
        for text in
            ["", "10.0.0.0/33", "10.0.0/8", "::/129", "x/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1"]
        {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn policy_opens_only_what_it_names() {
        let policy = EgressPolicy::new().allow("127.0.0.1/32".parse().unwrap()).allow_port(25);
        assert!(policy.allows_address("127.0.0.1".parse().unwrap()));
        assert!(!policy.allows_address("127.0.0.2".parse().unwrap()));
        assert!(policy.allows_port(25) && policy.allows_port(8_443));
        for port in [0, 21, 22, 110, 1_023, 5_432, 6_379, 6_667, 10_080] {
            assert!(!policy.allows_port(port), "{port}");
        }
    }
}
