//! From a URL to the addresses that a request may go to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use pulsestream_core::{Error, ErrorKind, Result, Retry};
use url::{Host, Url};

use super::policy::EgressPolicy;

const OPERATION: &str = "egress.check";
const MAX_URL_BYTES: usize = 2_048;

/// Looks names up.
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// Returns all addresses of a name.
    async fn resolve(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// Looks names up as the operating system does.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// A URL that may be called, with the addresses that the connection must use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedTarget {
    /// The URL as it was understood.
    pub url: Url,
    /// The name in the URL, without brackets.
    pub host: String,
    /// The checked addresses.
    pub addresses: Vec<SocketAddr>,
}

/// Decides whether a request may go to `url`, and where exactly.
///
/// # Errors
/// `Invalid` when the URL itself is not allowed; `Forbidden` when it leads to an address that is not: the same words whether
/// something listens there or not; `Unavailable` when the name cannot be looked up now. A refusal because of the answer for a name
/// may pass, [`Error::retry`] says so: names change.
pub async fn check_url(url: &str, policy: &EgressPolicy, resolver: &dyn Resolve) -> Result<CheckedTarget> {
    let (url, place) = check_place(url, policy)?;
    let port = url.port_or_known_default().unwrap_or_default();
    let (host, addresses) = match place {
        Place::Address(address) => (address.to_string(), vec![address]),
        Place::Name(name) => {
            let addresses = look_up(&name, policy, resolver).await?;
            (name, addresses)
        }
    };
    let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
    Ok(CheckedTarget { url, host, addresses })
}

/// What the host of a URL is.
pub(crate) enum Place {
    /// A literal address, checked.
    Address(IpAddr),
    /// A name, to be looked up.
    Name(String),
}

/// Checks what can be checked without looking anything up.
pub(crate) fn check_place(url: &str, policy: &EgressPolicy) -> Result<(Url, Place)> {
    let url = parse(url)?;
    if !policy.allows_port(url.port_or_known_default().unwrap_or_default()) {
        return Err(refused());
    }
    let place = match url.host() {
        Some(Host::Ipv4(address)) => Place::Address(address.into()),
        Some(Host::Ipv6(address)) => Place::Address(address.into()),
        Some(Host::Domain(name)) => Place::Name(name.to_owned()),
        None => return Err(invalid("must name a host")),
    };
    match place {
        Place::Address(address) if !policy.allows_address(address) => Err(refused()),
        place => Ok((url, place)),
    }
}

/// Looks a name up, and refuses unless every address of the answer is allowed: which one a connection takes is not ours to
/// choose.
pub(crate) async fn look_up(
    name: &str,
    policy: &EgressPolicy,
    resolver: &dyn Resolve,
) -> Result<Vec<IpAddr>> {
    let unknown = || Error::new(ErrorKind::Unavailable, OPERATION, "the name of the URL cannot be looked up");
    let addresses = resolver.resolve(name).await.map_err(|error| unknown().with_source(error))?;
    if addresses.is_empty() {
        return Err(unknown());
    }
    if !addresses.iter().all(|address| policy.allows_address(*address)) {
        return Err(refused().with_retry(Retry::Maybe));
    }
    Ok(addresses)
}

fn parse(text: &str) -> Result<Url> {
    if text.len() > MAX_URL_BYTES {
        return Err(invalid("must have at most 2,048 bytes"));
    }
    if text.chars().any(|char| char.is_control() || char.is_whitespace() || char == '\\') {
        return Err(invalid("must not hold spaces, control characters or backslashes"));
    }
    let url = Url::parse(text).map_err(|error| invalid(format!("is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("must start with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("must not hold a user name or a password"));
    }
    Ok(url)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid(OPERATION, "/url", "invalid_url", message)
}

fn refused() -> Error {
    Error::new(
        ErrorKind::Forbidden,
        OPERATION,
        "notifications must not go to this place; an operator can open it with --allow-egress",
    )
}
