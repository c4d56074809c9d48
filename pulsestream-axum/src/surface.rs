//! The outermost layer: ids, spans, limits of time and concurrency, counters, and the bodies of failures.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pulsestream_core::{Error, ErrorKind};
use serde_json::Value;
use tracing::Instrument;

use crate::access::OperationIndex;
use crate::app::App;
use crate::failure::Failure;
use crate::trace::{self, REQUEST_ID, RequestId};
use crate::{host, service, unread, v1, v2};

/// Which conventions a path follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    fn of(path: &str) -> Self {
        match path.strip_prefix("/api/v2") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::V2,
            _ => Self::V1,
        }
    }
}

/// Serves one request.
pub(crate) async fn surface(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = app.ps.env().monotonic();
    let id = trace::request_id(request.headers(), app.ps.env());
    let version = Version::of(request.uri().path());
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        request_id = %id.0,
        trace_id = trace::trace_id(request.headers()),
        tenant = tracing::field::Empty,
        status = tracing::field::Empty,
    );
    request.extensions_mut().insert(id.clone());
    let (request, unread) = unread::lend(request);
    let mut response = admitted(&app, request, next).instrument(span.clone()).await;
    // A body that took too long is not waited for again.
    if let Some(unread) = unread
        && response.status() != StatusCode::REQUEST_TIMEOUT
    {
        unread.read_out(&app.settings().http).await;
    }
    span.record("status", response.status().as_u16());
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        span.in_scope(|| log(&app, &failure));
        let headers = std::mem::take(response.headers_mut());
        let index = response.extensions().get::<OperationIndex>().copied();
        response = render(&failure, version, &id);
        response.headers_mut().extend(headers);
        if let Some(index) = index {
            response.extensions_mut().insert(index);
        }
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let took = app.ps.env().monotonic().saturating_sub(started);
    let index = response.extensions().get::<OperationIndex>().map(|index| index.0);
    app.telemetry.served(index, response.status(), took);
    response
}

/// Serves a request unless there are too many, within the time it may take.
async fn admitted(app: &App, request: Request, next: Next) -> Response {
    let _in_flight = app.telemetry.enter();
    if let Err(failure) = host::check(&request) {
        return failure.into_response();
    }
    let _permit = if service::is_probe(request.uri().path()) {
        None
    } else {
        match app.permits.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => {
                app.telemetry.too_many();
                let message = "the server works on as many requests as it may";
                return Failure::from(Error::new(ErrorKind::Unavailable, "http.concurrency", message))
                    .into_response();
            }
        }
    };
    match tokio::time::timeout(app.settings().http.request_timeout, caught(next.run(request))).await {
        Ok(Some(response)) => response,
        Ok(None) => {
            app.telemetry.panicked();
            Failure::panicked().into_response()
        }
        Err(_) => {
            app.telemetry.timed_out();
            let message = "the request took longer than it may; what it changed may be unknown";
            Failure::from(Error::new(ErrorKind::Timeout, "http.timeout", message)).into_response()
        }
    }
}

/// Runs a future; `None` when it panicked. A panic of one request, in a custom backend say, is an answer to that request.
async fn caught<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(None),
    })
    .await
}

fn log(app: &App, failure: &Failure) {
    let (status, code, error) = (failure.status().as_u16(), failure.code(), failure.error());
    if !failure.status().is_server_error() {
        tracing::debug!(status, code, error = one_line(&error.to_string()), "request refused");
        return;
    }
    let line = || {
        let cause = std::error::Error::source(error).map(|cause| one_line(&cause.to_string()));
        (one_line(&error.to_string()), cause)
    };
    if failure.hides_its_cause() {
        let (error, cause) = line();
        tracing::error!(status, code, error, cause, "request failed");
    } else if let Some(left_out) = app.complaints.due(error.operation(), app.ps.env().monotonic()) {
        let (error, cause) = line();
        tracing::error!(status, code, error, cause, left_out, "requests fail");
    }
}

/// Returns a text in which nothing ends a line or steers a terminal, cut to what a log can take: parts of it may be a client's.
fn one_line(text: &str) -> String {
    const MAX_CHARS: usize = 2_000;
    let breaks = |it: char| it.is_control() || matches!(it, '\u{2028}' | '\u{2029}');
    let mut line = String::with_capacity(text.len());
    for it in text.chars().take(MAX_CHARS) {
        if breaks(it) { line.extend(it.escape_default()) } else { line.push(it) }
    }
    line
}

/// Writes the response of a failure in the conventions of its path.
fn render(failure: &Failure, version: Version, id: &RequestId) -> Response {
    let (body, media_type) = match version {
        Version::V1 => (v1::error_body(failure, &id.0), "application/json"),
        Version::V2 => (v2::error_body(failure, &id.0), v2::PROBLEM_MEDIA_TYPE),
    };
    let mut response = Response::new(axum::body::Body::from(Value::to_string(&body)));
    *response.status_mut() = failure.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    if failure.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pulsestream\""));
    }
    if let Some(seconds) = failure.retry_after_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(Version::of("/api/v2"), Version::V2);
        assert_eq!(Version::of("/api/v2/x"), Version::V2);
        assert_eq!(Version::of("/api/v22"), Version::V1);
        assert_eq!(Version::of("/health"), Version::V1);
    }

    #[test]
    fn a_log_line_is_one_line() {
        assert_eq!(one_line("a\n\u{1b}[31mb\u{2028}\u{e9}"), "a\\n\\u{1b}[31mb\\u{2028}\u{e9}");
        assert_eq!(one_line(&"x".repeat(5_000)).len(), 2_000);
    }

    #[tokio::test]
    async fn a_panic_ends_one_future() {
        assert_eq!(caught(async { 7 }).await, Some(7));
        let panics = async {
            tokio::task::yield_now().await;
            panic!("meant to happen")
        };
        assert_eq!(caught::<()>(panics).await, None);
    }
}
