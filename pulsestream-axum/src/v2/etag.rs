//! Versions as entity tags: `ETag` on answers, `If-Match` on changes (RFC 9110, 13.1.1).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pulsestream_core::{Error, ErrorKind};
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

/// A change of something with a version. It is made to the version that was read, which the store compares in the same step;
/// when somebody else was faster it begins again with what they left, if `If-Match` allows that version.
#[derive(Debug)]
pub(super) struct Change<'h> {
    headers: &'h HeaderMap,
    tries: usize,
    /// What the store refused, and for which version.
    refused: Option<(u64, Error)>,
}

impl<'h> Change<'h> {
    /// Begins a change.
    pub(super) fn of(headers: &'h HeaderMap) -> Self {
        Self { headers, tries: 0, refused: None }
    }

    /// Returns the version to change, which was just read.
    pub(super) fn version(&mut self, version: u64) -> Answer<u64> {
        if let Some((before, error)) = self.refused.take()
            && (before == version || self.tries == MAX_TRIES)
        {
            return Err(error.into());
        }
        require_match(self.headers, version)?;
        self.tries += 1;
        Ok(version)
    }

    /// Takes the store's refusal to change a version: whether it is final shows when the thing is read again.
    pub(super) fn refused(&mut self, version: u64, error: Error) -> Answer<()> {
        if error.kind() != ErrorKind::Conflict {
            return Err(error.into());
        }
        self.refused = Some((version, error));
        Ok(())
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
