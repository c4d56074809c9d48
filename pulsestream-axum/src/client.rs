//! Where a request comes from: the address of the client, behind proxies that are trusted.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use pulsestream_core::error::{Error, Result};
use pulsestream_core::ports::auth::Origin;
use pulsestream_core::text::Text;

/// A range of addresses in CIDR form, such as `10.0.0.0/8`; an address alone is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Returns whether an address is in the range; an IPv4 address mapped into IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || {
            Error::invalid(
                "network.parse",
                "",
                "invalid_network",
                "must be an address or a range such as 10.0.0.0/8",
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| refuse())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.trim().parse().ok().filter(|prefix| *prefix <= most).ok_or_else(refuse)?,
            None => most,
        };
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Returns the address of the client, given that of the connection.
///
/// `X-Forwarded-For` is read from the right, because each proxy appends the address it saw: an entry is believed as long as
/// everything to its right is a trusted proxy. Whatever a client wrote there itself lies further left.
pub(crate) fn address(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer?.to_canonical();
    if !is_trusted(client) {
        return Some(client);
    }
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    for line in lines.iter().rev() {
        let Ok(line) = line.to_str() else { return Some(client) };
        for entry in line.rsplit(',') {
            let Some(address) = forwarded_address(entry.trim()) else { return Some(client) };
            client = address.to_canonical();
            if !is_trusted(client) {
                return Some(client);
            }
        }
    }
    Some(client)
}

/// Reads an entry, which some proxies write with a port.
fn forwarded_address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

/// Returns the address of the connection, when the host serves with connection info.
pub(crate) fn peer(extensions: &axum::http::Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

/// Returns where a request comes from.
pub(crate) fn origin(parts: &Parts, trusted: &[Network]) -> Origin {
    Origin {
        address: address(peer(&parts.extensions), &parts.headers, trusted),
        user_agent: parts
            .headers
            .get(header::USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .map(Text::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "2001:db8::/32", "127.0.0.1"].iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        address(peer.parse().ok(), &headers, &trusted).map_or_else(String::new, |address| address.to_string())
    }

    #[test]
    fn only_what_trusted_proxies_say_is_believed() {
        for (peer, forwarded, expected) in [
            ("203.0.113.9", vec!["1.2.3.4"], "203.0.113.9"),
            ("10.1.1.1", vec![], "10.1.1.1"),
            ("10.1.1.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("10.1.1.1", vec!["1.2.3.4, 198.51.100.7"], "198.51.100.7"),
            ("10.1.1.1", vec!["1.2.3.4, 198.51.100.7, 10.2.2.2"], "198.51.100.7"),
            ("10.1.1.1", vec!["1.2.3.4", "198.51.100.7, 10.2.2.2"], "198.51.100.7"),
            ("10.1.1.1", vec!["198.51.100.7:4711"], "198.51.100.7"),
            ("10.1.1.1", vec!["[2001:4860::1]:443"], "2001:4860::1"),
            ("10.1.1.1", vec!["198.51.100.7, evil"], "10.1.1.1"),
            ("10.1.1.1", vec!["10.3.3.3"], "10.3.3.3"),
            ("::ffff:10.1.1.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("127.0.0.2", vec!["198.51.100.7"], "127.0.0.2"),
        ] {
            assert_eq!(seen(peer, &forwarded), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn ranges() {
        for text in ["10.0.0.0/33", "10.0.0/8", "::/129", "", "x", "10.0.0.0/"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains([203, 0, 113, 9].into()) && !all.contains("::1".parse().unwrap()));
        assert_eq!("10.1.2.3".parse::<Network>().unwrap().to_string(), "10.1.2.3/32");
    }
}
