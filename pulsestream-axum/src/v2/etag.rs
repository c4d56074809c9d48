//! Versions as entity tags: `ETag` on answers, `If-Match` on changes (RFC 9110, 13.1.1).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pulsestream_core::ErrorKind;
use serde::Serialize;

use crate::failure::{Answer, Failure};

/// Answers something that has a version.
pub(super) fn versioned(status: StatusCode, version: u64, body: &impl Serialize) -> Response {
    let mut response = (status, axum::Json(body)).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// How often a change is begun again that others were faster than.
const MAX_TRIES: usize = 8;

/// Changes something with a version. `write` makes the change to the version that was read, which the store compares in the same step;
/// when somebody else was faster, both begin again with what they left, if `If-Match` allows that version.
pub(super) async fn change<T, C, R, W>(
    headers: &HeaderMap,
    read: impl Fn() -> R,
    version: fn(&T) -> u64,
    write: impl Fn(T, u64) -> W,
) -> Answer<C>
where
    R: Future<Output = Answer<T>>,
    W: Future<Output = Answer<C>>,
{
    let (mut tries, mut refused) = (0, None::<(u64, Failure)>);
    loop {
        let stored = read().await?;
        let version = version(&stored);
        // What is refused though nobody changed it is refused for another reason.
        if let Some((before, failure)) = refused.take()
            && (before == version || tries == MAX_TRIES)
        {
            return Err(failure);
        }
        require_match(headers, version)?;
        tries += 1;
        match write(stored, version).await {
            Err(failure) if failure.error().kind() == ErrorKind::Conflict => {
                refused = Some((version, failure))
            }
            done => return done,
        }
    }
}

/// Refuses a change when `If-Match` names other versions than the stored one. Without the header the change is made to whatever
/// is stored.
fn require_match(headers: &HeaderMap, version: u64) -> Answer<()> {
    let mut tags = headers.get_all(header::IF_MATCH).iter().peekable();
    if tags.peek().is_none() {
        return Ok(());
    }
    let stored = format!("\"{version}\"");
    let mut tags = tags.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if tags.any(|tag| matches!(tag.trim(), "*") || tag.trim() == stored) {
        return Ok(());
    }
    Err(Failure::precondition_failed("it was changed meanwhile; get it again and look at the change"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        let matches = |values: &[&'static str]| {
            let values = values.iter().map(|value| (header::IF_MATCH, HeaderValue::from_static(value)));
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                headers.append(name, value);
            }
            require_match(&headers, 3).is_ok()
        };
        assert!(matches(&[]) && matches(&["\"3\""]) && matches(&["*"]) && matches(&["\"1\", \"3\""]));
        assert!(matches(&["\"1\"", "\"3\""]));
        for bad in ["\"4\"", "3", "W/\"3\"", "", "\"33\""] {
            assert!(!matches(&[bad]), "{bad}");
        }
    }
}
