//! What a request fails with. A failure travels as an extension of a response; the surface writes its body.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pulsestream_core::{Error, ErrorKind, FieldError, Retry};

use crate::status;

/// The result of a handler.
pub(crate) type Answer<T> = Result<T, Failure>;

/// Which part of a request the refused fields are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Part {
    #[default]
    Body,
    Query,
}

impl Part {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Query => "query",
        }
    }
}

/// Why a request fails: an error of the core, with what HTTP adds to it.
#[derive(Debug, Clone)]
pub(crate) struct Failure(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    error: Error,
    status: StatusCode,
    code: Cow<'static, str>,
    part: Part,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, code) = (status::of(error.kind()), Cow::Borrowed(error.kind().as_str()));
        Self(Arc::new(Inner { error, status, code, part: Part::Body }))
    }
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, error: Error) -> Self {
        Self(Arc::new(Inner { error, status, code: Cow::Borrowed(code), part: Part::Body }))
    }

    /// Nothing is served at this path.
    pub(crate) fn no_route() -> Self {
        Error::new(
            ErrorKind::NotFound,
            "http.route",
            "nothing is served at this path; openapi.json under /api/v1 and /api/v2 lists what is",
        )
        .into()
    }

    /// No such thing of this tenant, or an id that cannot be one.
    pub(crate) fn not_found(operation: &'static str, message: &'static str) -> Self {
        Error::new(ErrorKind::NotFound, operation, message).into()
    }

    /// The path is served with other methods.
    pub(crate) fn method_not_allowed() -> Self {
        let error =
            Error::new(ErrorKind::Invalid, "http.route", "this path does not take that method; see Allow");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", error)
    }

    /// The body has a type or an encoding that is not read.
    pub(crate) fn unsupported_media_type(message: &'static str) -> Self {
        let error = Error::new(ErrorKind::Invalid, "http.body", message);
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", error)
    }

    /// The body is not what its encoding or its length says.
    pub(crate) fn unreadable_body(message: &'static str) -> Self {
        let error = Error::new(ErrorKind::Invalid, "http.body", message);
        Self::new(StatusCode::BAD_REQUEST, "unreadable_body", error)
    }

    /// The body took too long to arrive.
    pub(crate) fn slow_body() -> Self {
        let error = Error::new(ErrorKind::Timeout, "http.body", "the body took too long to arrive");
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", error.with_retry(Retry::Maybe))
    }

    /// The request is wrong in a way that has no field.
    pub(crate) fn bad_request(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, Error::new(ErrorKind::Invalid, "http.request", message))
    }

    /// The thing is not in the version that the request is about.
    pub(crate) fn precondition_failed(message: &'static str) -> Self {
        let error = Error::new(ErrorKind::Conflict, "http.precondition", message);
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", error)
    }

    /// The request is well formed and contradicts an earlier one.
    pub(crate) fn unprocessable(code: &'static str, message: &'static str) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            code,
            Error::new(ErrorKind::Invalid, "http.request", message),
        )
    }

    /// Values in the query are refused.
    pub(crate) fn invalid_query(fields: Vec<FieldError>) -> Self {
        let error = Error::invalid_fields("http.query", fields);
        let (status, code) = (status::of(error.kind()), Cow::Borrowed(error.kind().as_str()));
        Self(Arc::new(Inner { error, status, code, part: Part::Query }))
    }

    /// Values in the body are refused.
    pub(crate) fn invalid_body(fields: Vec<FieldError>) -> Self {
        Error::invalid_fields("http.body", fields).into()
    }

    /// The handler panicked.
    pub(crate) fn panicked() -> Self {
        Error::new(ErrorKind::Internal, "http.handler", "the handler panicked").into()
    }

    /// Turns the core's judgement that values are invalid into another status, where the contract says so.
    pub(crate) fn invalid_as(self, status: StatusCode) -> Self {
        if self.0.error.kind() != ErrorKind::Invalid {
            return self;
        }
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Self(Arc::new(Inner { status, ..inner })),
            Err(shared) => Self(shared),
        }
    }

    pub(crate) fn error(&self) -> &Error {
        &self.0.error
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns the stable snake_case code.
    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    pub(crate) fn part(&self) -> Part {
        self.0.part
    }

    /// Returns the whole seconds after which a retry can help, when that is known; at least 1.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        let retry = self.0.error.retry_after();
        let is_busy =
            matches!(self.0.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        match retry {
            Some(after) => Some(whole_seconds(after)),
            None if is_busy && self.0.error.retry() == Retry::Maybe => Some(1),
            None => None,
        }
    }

    /// Returns the message for the caller. What a failure of the server says is for its log, not for strangers.
    pub(crate) fn message(&self) -> &str {
        if self.hides_its_cause() {
            return "the server could not do this; its log has the cause under the request id";
        }
        self.0.error.message()
    }

    /// Returns whether the caller is not told what happened, but where the operator finds it.
    pub(crate) fn hides_its_cause(&self) -> bool {
        matches!(
            self.0.error.kind(),
            ErrorKind::Corrupt
                | ErrorKind::Internal
                | ErrorKind::StoreLocked
                | ErrorKind::Fenced
                | ErrorKind::Closed
        )
    }

    /// Returns the facts that the caller may see, with their names.
    pub(crate) fn context(&self) -> &[(&'static str, String)] {
        if self.0.status.is_server_error() { &[] } else { self.0.error.context() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = self.0.status;
        response.extensions_mut().insert(self);
        response
    }
}

/// Returns a time to wait in whole seconds, rounded up and at least 1, as `Retry-After` has it.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}
