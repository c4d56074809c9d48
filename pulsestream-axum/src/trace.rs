//! The names under which a request is found again: request ids and W3C trace context.

use axum::http::{HeaderMap, HeaderName};
use pulsestream_core::env::Env;

use crate::credentials::single;

/// The header with the id of a request, in both directions.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The id of the request at hand.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// Returns the id that the client gave, if it is fit for a log line, or a new one.
pub(crate) fn request_id(headers: &HeaderMap, env: &Env) -> RequestId {
    let fit = |id: &&str| {
        id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    if let Some(id) = single(headers, &REQUEST_ID).filter(fit) {
        return RequestId(id.to_owned());
    }
    // Without randomness a request still has an id, if not an unguessable one: it names a log line, it opens nothing.
    let bits = env.uuid_v7().unwrap_or_else(|_| env.monotonic().as_nanos());
    RequestId(format!("{bits:032x}"))
}

/// Returns the trace id of a valid `traceparent` (W3C Trace Context, level 1).
pub(crate) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let value = single(headers, &TRACEPARENT)?;
    let mut parts = value.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let nonzero = |text: &str| text.bytes().any(|byte| byte != b'0');
    let is_valid = hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.next().is_none())
        && hex(trace, 32)
        && nonzero(trace)
        && hex(parent, 16)
        && nonzero(parent)
        && hex(flags, 2);
    is_valid.then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulsestream_core::time::Timestamp;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_request_id_is_kept_when_it_is_fit_for_a_log() {
        let (env, _) = Env::manual(Timestamp::from_seconds(1), 1);
        assert_eq!(request_id(&headers("x-request-id", "a-B_9.:"), &env).0, "a-B_9.:");
        for unfit in ["", "a b", "x\"y", &"a".repeat(129)] {
            let id = request_id(&headers("x-request-id", unfit), &env).0;
            assert!(id.len() == 32 && id != unfit, "{unfit:?} gave {id}");
        }
    }

    #[test]
    fn traceparent() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let with = |value: &str| trace_id(&headers("traceparent", value)).map(str::to_owned);
        assert_eq!(with(&format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
        assert_eq!(with(&format!("01-{trace}-00f067aa0ba902b7-01-x")).as_deref(), Some(trace));
        for bad in [
            format!("00-{trace}-00f067aa0ba902b7-01-x"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            "00".to_owned(),
        ] {
            assert_eq!(with(&bad), None, "{bad}");
        }
    }
}
