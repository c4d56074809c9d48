//! From a request and its response to an event.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::MatchedPath;
use axum::http::{HeaderMap, Request, StatusCode, header};
use pulsestream_core::event::{Event, Severity};
use pulsestream_core::id::EventId;
use pulsestream_core::text::Text;
use pulsestream_core::time::Timestamp;

use super::recorder::Shared;
use crate::client;
use crate::trace::REQUEST_ID;

/// The longest text that is taken from a request, in characters.
const MAX_TEXT_CHARS: usize = 500;

/// What is known of a request before it is served.
#[derive(Debug)]
pub(super) struct Seen {
    shared: Arc<Shared>,
    at: Timestamp,
    started: Duration,
    method: String,
    endpoint: String,
    address: Option<IpAddr>,
    user_agent: Option<Text>,
    referrer: Option<Text>,
    request_id: Option<Text>,
    request_bytes: Option<u64>,
}

/// A request that was answered, whose body is on its way.
#[derive(Debug)]
pub(super) struct Pending {
    seen: Option<Seen>,
    status: StatusCode,
    took: Duration,
}

impl Seen {
    pub(super) fn of<B>(shared: Arc<Shared>, request: &Request<B>) -> Self {
        let headers = request.headers();
        // The route, not the path: one endpoint is one value, however many ids it is called with, and no id is recorded.
        let endpoint = match request.extensions().get::<MatchedPath>() {
            Some(route) => route.as_str().to_owned(),
            None if shared.config.record_raw_paths => cut(request.uri().path()),
            None => "unmatched".to_owned(),
        };
        Self {
            at: shared.env.now(),
            started: shared.env.monotonic(),
            method: request.method().as_str().chars().take(10).collect(),
            endpoint,
            address: client::address(
                client::peer(request.extensions()),
                headers,
                &shared.config.trusted_proxies,
            ),
            user_agent: text(headers, &header::USER_AGENT),
            referrer: text(headers, &header::REFERER),
            request_id: text(headers, &REQUEST_ID),
            request_bytes: content_length(headers),
            shared,
        }
    }

    /// Notes the answer; the event is recorded when its body ends.
    pub(super) fn answered(mut self, status: StatusCode, headers: &HeaderMap) -> Pending {
        // The application may give the id only in its answer.
        self.request_id = self.request_id.take().or_else(|| text(headers, &REQUEST_ID));
        let took = self.shared.env.monotonic().saturating_sub(self.started);
        Pending { seen: Some(self), status, took }
    }

    /// Records a request whose service failed without an answer.
    pub(super) fn failed(self) {
        let took = self.shared.env.monotonic().saturating_sub(self.started);
        Pending { seen: Some(self), status: StatusCode::INTERNAL_SERVER_ERROR, took }.finish(0);
    }
}

impl Pending {
    pub(super) fn finish(mut self, response_bytes: u64) {
        if let Some(seen) = self.seen.take() {
            let shared = seen.shared.clone();
            shared.record(|| self.event(seen, response_bytes));
        }
    }

    fn event(&self, seen: Seen, response_bytes: u64) -> Option<Event> {
        let config = &seen.shared.config;
        let id = EventId::from_u128(seen.shared.env.uuid_v7().ok()?);
        let mut event = Event::new(id, "api_call", seen.at);
        let code = self.status.as_u16();
        event.severity = match code {
            500.. => Severity::Error,
            400.. => Severity::Warning,
            _ => Severity::Info,
        };
        event.title = Some(Text::from(format!("{} {} {code}", seen.method, seen.endpoint)));
        event.source.service = Some(Text::from(config.service.as_str()));
        event.source.endpoint = Some(Text::from(seen.endpoint));
        event.source.method = Some(Text::from(seen.method));
        event.source.version = config.version.as_deref().map(Text::from);
        event.source.environment = config.environment.as_deref().map(Text::from);
        event.context.request_id = seen.request_id;
        event.context.user_agent = seen.user_agent;
        event.context.referrer = seen.referrer;
        event.context.ip_address = seen.address.map(|address| Text::from(address.to_string()));
        event.metrics.status_code = Some(code).filter(|code| (100..=599).contains(code));
        event.metrics.response_time_ms = Some(self.took.as_secs_f64() * 1e3);
        event.metrics.request_size_bytes = seen.request_bytes;
        event.metrics.response_size_bytes = Some(response_bytes);
        Some(event)
    }
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> Option<Text> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(Text::from(cut(value))).filter(|value| !value.is_empty())
}

fn cut(value: &str) -> String {
    value.chars().take(MAX_TEXT_CHARS).collect()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    const EXACT: u64 = 1 << 53;
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok().filter(|bytes| *bytes <= EXACT)
}
