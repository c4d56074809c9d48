//! Which status a failure has: the one place that decides.

use axum::http::StatusCode;
use pulsestream_core::ErrorKind;

/// Returns the status of an error of the core.
pub(crate) fn of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Unavailable
        | ErrorKind::OutcomeUnknown
        | ErrorKind::StoreLocked
        | ErrorKind::Fenced
        | ErrorKind::Closed => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Corrupt | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        // The enum may grow: a kind that this version does not know is a failure of the server.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns what a status means, for the title of a problem and for failures whose message is not for strangers.
pub(crate) fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}
