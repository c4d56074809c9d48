//! The `Host` header, which every request over HTTP/1.1 has exactly once (RFC 9112, 3.2).
//!
//! Two parties that read a request for different hosts are how requests are smuggled past a proxy, so one that leaves this open is
//! refused. Only what came over a socket is judged: a request that a program makes for the router has no line to a host.

use axum::extract::Request;
use axum::http::{HeaderMap, Version, header};

use crate::client;
use crate::failure::{Answer, Failure};

/// Refuses a request over HTTP/1.1 that does not say once which host it is for.
pub(crate) fn check(request: &Request) -> Answer<()> {
    let is_from_socket = client::peer(request.extensions()).is_some();
    if request.version() != Version::HTTP_11 || !is_from_socket || is_named_once(request.headers()) {
        return Ok(());
    }
    let message = "a request over HTTP/1.1 has one Host header, with a name or an address and perhaps a port";
    Err(Failure::bad_request("invalid_host", message))
}

fn is_named_once(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::HOST).iter();
    match (values.next(), values.next()) {
        // It may be empty: that is how a client says that its target has no host.
        (Some(value), None) => value.as_bytes().iter().all(|byte| is_of_a_host(*byte)),
        _ => false,
    }
}

/// Returns whether a byte may stand in a host or its port (RFC 3986, 3.2.2); no name of a user goes before them.
fn is_of_a_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}
