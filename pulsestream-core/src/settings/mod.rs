//! Settings: plain data with defaults and limits, validated once.
//!
//! What is part of a format is not a setting: the depth and the number of keys of JSON
//! ([`MAX_DEPTH`](crate::event::MAX_DEPTH), [`MAX_KEYS`](crate::event::MAX_KEYS)) and the lengths of texts, which would make the
//! same event acceptable on one node and not on another.

mod read;

pub use read::read_over;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alerting::MAX_GROUPS;
use crate::error::{Error, FieldError, Result};
use crate::event::{Dialect, EventRules};
use crate::ports::rate_limiter::RateLimit;
use crate::time::{TimeRange, Timestamp, duration_text, format_duration};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Every setting, by area. Durations are written as `5m`, timestamps in RFC 3339, sizes in bytes.
///
/// # Examples
/// ```
/// use pulsestream_core::settings::Settings;
///
/// let settings = Settings::from_json(r#"{"ingest": {"rate_limit_per_minute": 6000, "rate_limit_burst": 10000}}"#)?;
/// assert_eq!(settings.ingest.max_batch_events, 10_000);
///
/// let error = Settings::from_json(r#"{"ingest": {"max_batch_event": 5}}"#).unwrap_err();
/// assert_eq!(error.fields()[0].pointer, "/ingest/max_batch_event");
/// assert!(error.message().contains("did you mean `max_batch_events`"));
/// # Ok::<_, pulsestream_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Accepting events.
    pub ingest: IngestSettings,
    /// Asking for events.
    pub query: QuerySettings,
    /// Rules, alerts and notifications.
    pub alerting: AlertingSettings,
    /// How long things are kept.
    pub housekeeping: HousekeepingSettings,
    /// The HTTP interface.
    pub http: HttpSettings,
}

/// Settings of accepting events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSettings {
    /// Largest payload, and largest metadata, of an event; 1 MiB.
    pub max_payload_bytes: usize,
    /// The same for events of `/api/v1`; 10 MiB.
    pub max_payload_bytes_v1: usize,
    /// Most events in one batch; 10,000.
    pub max_batch_events: usize,
    /// The same for `/api/v1`; 1,000.
    pub max_batch_events_v1: usize,
    /// Most tags of an event; 100.
    pub max_tags: usize,
    /// How far ahead of now the timestamp of an event may lie; 5 minutes.
    #[serde(with = "duration_text")]
    pub future_skew: Duration,
    /// The oldest timestamp of an event; 1970-01-01T00:00:00Z.
    pub oldest_timestamp: Timestamp,
    /// For how long at least the same event is recognised as a duplicate; 72 hours.
    #[serde(with = "duration_text")]
    pub idempotency_window: Duration,
    /// Events a minute and tenant on the long run; 100.
    pub rate_limit_per_minute: u32,
    /// Events of a tenant at once; 200.
    pub rate_limit_burst: u32,
    /// Events a tenant may store in a calendar month (UTC); no limit when absent.
    pub max_events_per_month: Option<u64>,
    /// Most events on their way to the store; 100,000.
    pub max_in_flight_events: usize,
    /// Most bytes of events on their way to the store; 256 MiB.
    pub max_in_flight_bytes: usize,
    /// How many workers of each node move events from the queue into the store, when there is a queue; 4.
    pub queue_workers: usize,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self {
            max_payload_bytes: MIB,
            max_payload_bytes_v1: 10 * MIB,
            max_batch_events: 10_000,
            max_batch_events_v1: 1_000,
            max_tags: 100,
            future_skew: 5 * MINUTE,
            oldest_timestamp: Timestamp::EPOCH,
            idempotency_window: 72 * HOUR,
            rate_limit_per_minute: 100,
            rate_limit_burst: 200,
            max_events_per_month: None,
            max_in_flight_events: 100_000,
            max_in_flight_bytes: 256 * MIB,
            queue_workers: 4,
        }
    }
}

impl IngestSettings {
    /// Returns what events of a dialect must meet.
    pub fn rules(&self, dialect: Dialect) -> EventRules {
        EventRules {
            dialect,
            max_payload_bytes: match dialect {
                Dialect::Strict => self.max_payload_bytes,
                Dialect::V1 => self.max_payload_bytes_v1,
            },
            max_tags: self.max_tags,
            future_skew: self.future_skew,
            oldest: self.oldest_timestamp,
        }
    }

    /// Returns the most events in one batch of a dialect.
    pub const fn batch_limit(&self, dialect: Dialect) -> usize {
        match dialect {
            Dialect::Strict => self.max_batch_events,
            Dialect::V1 => self.max_batch_events_v1,
        }
    }

    /// Returns the rate limit of a tenant that has none of its own.
    ///
    /// # Errors
    /// `Invalid` for settings that [`Settings::validate`] refuses.
    pub fn rate_limit(&self) -> Result<RateLimit> {
        RateLimit::per_minute(self.rate_limit_per_minute, self.rate_limit_burst)
    }
}

/// Settings of asking for events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuerySettings {
    /// Most events on one page of a search over HTTP; 1,000, which is also the most that can be set.
    pub max_page_events: usize,
    /// Most groups of an aggregate; 10,000.
    pub max_groups: usize,
    /// Longest range of an aggregate; 400 days.
    #[serde(with = "duration_text")]
    pub max_aggregate_range: Duration,
    /// How long a question may take; 30 seconds.
    #[serde(with = "duration_text")]
    pub timeout: Duration,
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self {
            max_page_events: 1_000,
            max_groups: 10_000,
            max_aggregate_range: 400 * DAY,
            timeout: Duration::from_secs(30),
        }
    }
}

impl QuerySettings {
    /// Says what is wrong with the range of an aggregate; `None` when nothing is. A question about all events names no range.
    pub fn refuse_range(&self, range: TimeRange) -> Option<FieldError> {
        let is_too_long = range != TimeRange::ALL && range.span() > self.max_aggregate_range;
        is_too_long.then(|| {
            let message = format!("must span at most {}", format_duration(self.max_aggregate_range));
            FieldError::new("/range", "out_of_range", message)
        })
    }
}

/// Settings of rules, alerts and notifications.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertingSettings {
    /// Most rules of a tenant; 1,000.
    pub max_rules: usize,
    /// Most channels of a tenant; 1,000.
    pub max_channels: usize,
    /// Most silences of a tenant; 10,000. When there are more, those that ended first make room for new ones.
    pub max_silences: usize,
    /// Most instances of a rule, which are its groups; further ones share one. 10,000, which is also the most that can be set.
    pub max_instances_per_rule: usize,
    /// Largest output of a template; 64 KiB.
    pub max_template_output_bytes: usize,
    /// How long a lease on a partition outlives a process that died: within about twice this another works on what it left. A
    /// process that is held up for longer loses its partitions, and fencing tokens keep it from writing when it wakes up; 6 seconds.
    #[serde(with = "duration_text")]
    pub lease_ttl: Duration,
}

impl Default for AlertingSettings {
    fn default() -> Self {
        Self {
            max_rules: 1_000,
            max_channels: 1_000,
            max_silences: 10_000,
            max_instances_per_rule: 10_000,
            max_template_output_bytes: 64 * KIB,
            lease_ttl: Duration::from_secs(6),
        }
    }
}

/// Settings of what is deleted after a time. Events are kept until they are deleted, sessions and the audit log as the settings of
/// accounts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HousekeepingSettings {
    /// How often all tenants are visited; 1 hour.
    #[serde(with = "duration_text")]
    pub interval: Duration,
    /// How long an alert is kept after it was resolved, with its timeline; 90 days.
    #[serde(with = "duration_text")]
    pub keep_alerts: Duration,
    /// How long a notification is kept after it was delivered or given up, with the log of its attempts; 30 days. Whether a channel has
    /// failed for five days is read from them.
    #[serde(with = "duration_text")]
    pub keep_deliveries: Duration,
    /// How long the log of changes to rules, channels, silences and routing is kept; 400 days.
    #[serde(with = "duration_text")]
    pub keep_changes: Duration,
    /// How many records of a kind are deleted at once, before the next tenant's turn; 500.
    pub batch: usize,
}

impl Default for HousekeepingSettings {
    fn default() -> Self {
        Self {
            interval: HOUR,
            keep_alerts: 90 * DAY,
            keep_deliveries: 30 * DAY,
            keep_changes: 400 * DAY,
            batch: 500,
        }
    }
}

/// Settings of the HTTP interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Largest body of a request, after decompression; 20 MiB.
    pub max_body_bytes: usize,
    /// How many times larger than its compressed form a body may be; 100.
    pub max_inflate_ratio: usize,
    /// Most memory that the bodies of requests take together, before one more is refused; 256 MiB.
    pub max_body_memory_bytes: usize,
    /// How long a client may take to send a body; 30 seconds.
    #[serde(with = "duration_text")]
    pub body_timeout: Duration,
    /// How long a request may take until its answer begins; 35 seconds.
    #[serde(with = "duration_text")]
    pub request_timeout: Duration,
    /// Most requests worked on at the same time; health checks always pass. 1,024.
    pub max_concurrent_requests: usize,
    /// The same, of one tenant, so that others get in however many one sends; 512.
    pub max_concurrent_requests_per_tenant: usize,
    /// Most live connections, which are WebSockets and event streams; 10,000.
    pub max_live_connections: usize,
    /// The same, of one tenant; 1,000.
    pub max_live_connections_per_tenant: usize,
    /// For how long an answer of the dashboard may be repeated before it is computed again; zero computes each. 5 seconds.
    #[serde(with = "duration_text")]
    pub dashboard_max_age: Duration,
    /// Most connections to the listener of the program, idle ones included; 10,000.
    pub max_connections: usize,
    /// How long a connection may take to send the head of its next request, which bounds idle ones too; 30 seconds.
    #[serde(with = "duration_text")]
    pub header_timeout: Duration,
    /// Most headers of a request; 100.
    pub max_headers: usize,
    /// Largest head of a request; 64 KiB.
    pub max_header_bytes: usize,
    /// How long a client may leave an answer unread; 30 seconds.
    #[serde(with = "duration_text")]
    pub write_timeout: Duration,
    /// How long requests under way and streams may go on after the program was told to stop; 10 seconds.
    #[serde(with = "duration_text")]
    pub drain_timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            max_body_bytes: 20 * MIB,
            max_inflate_ratio: 100,
            max_body_memory_bytes: 256 * MIB,
            body_timeout: 30 * second,
            request_timeout: 35 * second,
            max_concurrent_requests: 1_024,
            max_concurrent_requests_per_tenant: 512,
            max_live_connections: 10_000,
            max_live_connections_per_tenant: 1_000,
            dashboard_max_age: 5 * second,
            max_connections: 10_000,
            header_timeout: 30 * second,
            max_headers: 100,
            max_header_bytes: 64 * KIB,
            write_timeout: 30 * second,
            drain_timeout: 10 * second,
        }
    }
}

impl Settings {
    /// Reads and validates settings in JSON; what is absent has its default.
    ///
    /// # Errors
    /// `Invalid` with a field error for every setting that is unknown, of another type, or out of range.
    pub fn from_json(text: &str) -> Result<Self> {
        let value = serde_json::from_str(text)
            .map_err(|error| Error::invalid("settings.read", "", "invalid_json", error.to_string()))?;
        Self::from_value(&value)
    }

    /// Reads and validates settings from a tree, however it was put together.
    ///
    /// # Errors
    /// As for [`Self::from_json`].
    pub fn from_value(value: &serde_json::Value) -> Result<Self> {
        let settings = read_over(&Self::default(), value)?;
        settings.validate()?;
        Ok(settings)
    }

    /// Checks that every setting is in its range and that they fit together.
    ///
    /// # Errors
    /// `Invalid` with a field error for every setting that is not.
    pub fn validate(&self) -> Result<()> {
        let mut ranges = Ranges::default();
        let Self { ingest, query, alerting, housekeeping, http } = self;
        ranges.number("/ingest/max_payload_bytes", ingest.max_payload_bytes, 1, GIB);
        ranges.number("/ingest/max_payload_bytes_v1", ingest.max_payload_bytes_v1, 1, GIB);
        ranges.number("/ingest/max_batch_events", ingest.max_batch_events, 1, 1_000_000);
        ranges.number("/ingest/max_batch_events_v1", ingest.max_batch_events_v1, 1, 1_000_000);
        ranges.number("/ingest/max_tags", ingest.max_tags, 0, 2_000);
        ranges.span("/ingest/future_skew", ingest.future_skew, Duration::ZERO, 366 * DAY);
        ranges.span("/ingest/idempotency_window", ingest.idempotency_window, MINUTE, 366 * DAY);
        ranges.number("/ingest/max_in_flight_events", ingest.max_in_flight_events, 1, 100_000_000);
        ranges.number("/ingest/max_in_flight_bytes", ingest.max_in_flight_bytes, MIB, 1 << 40);
        ranges.number("/ingest/queue_workers", ingest.queue_workers, 1, 64);
        ranges.number("/query/max_page_events", query.max_page_events, 1, 1_000);
        ranges.number("/query/max_groups", query.max_groups, 1, 1_000_000);
        ranges.span("/query/max_aggregate_range", query.max_aggregate_range, MINUTE, 36_600 * DAY);
        ranges.span("/query/timeout", query.timeout, Duration::from_millis(1), HOUR);
        ranges.number("/alerting/max_rules", alerting.max_rules, 1, 100_000);
        ranges.number("/alerting/max_channels", alerting.max_channels, 1, 100_000);
        ranges.number("/alerting/max_silences", alerting.max_silences, 1, 100_000);
        ranges.number(
            "/alerting/max_instances_per_rule",
            alerting.max_instances_per_rule,
            1,
            MAX_GROUPS as usize,
        );
        ranges.number("/alerting/max_template_output_bytes", alerting.max_template_output_bytes, 1, MIB);
        ranges.span("/alerting/lease_ttl", alerting.lease_ttl, Duration::from_millis(500), 10 * MINUTE);
        ranges.span("/housekeeping/interval", housekeeping.interval, MINUTE, 7 * DAY);
        ranges.span("/housekeeping/keep_alerts", housekeeping.keep_alerts, DAY, 36_600 * DAY);
        ranges.span("/housekeeping/keep_deliveries", housekeeping.keep_deliveries, 7 * DAY, 36_600 * DAY);
        ranges.span("/housekeeping/keep_changes", housekeeping.keep_changes, DAY, 36_600 * DAY);
        ranges.number("/housekeeping/batch", housekeeping.batch, 1, 100_000);
        ranges.number("/http/max_body_bytes", http.max_body_bytes, 1, GIB);
        ranges.number("/http/max_inflate_ratio", http.max_inflate_ratio, 1, 10_000);
        ranges.number("/http/max_body_memory_bytes", http.max_body_memory_bytes, 1, 1 << 40);
        ranges.number("/http/max_concurrent_requests", http.max_concurrent_requests, 1, 1_000_000);
        let of_tenant = http.max_concurrent_requests_per_tenant;
        ranges.number("/http/max_concurrent_requests_per_tenant", of_tenant, 1, 1_000_000);
        ranges.number("/http/max_live_connections", http.max_live_connections, 0, 1_000_000);
        let of_tenant = http.max_live_connections_per_tenant;
        ranges.number("/http/max_live_connections_per_tenant", of_tenant, 0, 1_000_000);
        ranges.number("/http/max_connections", http.max_connections, 1, 1_000_000);
        ranges.number("/http/max_headers", http.max_headers, 10, 10_000);
        ranges.number("/http/max_header_bytes", http.max_header_bytes, 8 * KIB, MIB);
        let instant = Duration::from_millis(1);
        ranges.span("/http/body_timeout", http.body_timeout, instant, HOUR);
        ranges.span("/http/request_timeout", http.request_timeout, instant, HOUR);
        ranges.span("/http/dashboard_max_age", http.dashboard_max_age, Duration::ZERO, HOUR);
        ranges.span("/http/header_timeout", http.header_timeout, instant, HOUR);
        ranges.span("/http/write_timeout", http.write_timeout, instant, HOUR);
        ranges.span("/http/drain_timeout", http.drain_timeout, Duration::ZERO, HOUR);
        let mut errors = ranges.0;
        for (name, value) in
            [("per_minute", ingest.rate_limit_per_minute), ("burst", ingest.rate_limit_burst)]
        {
            if value == 0 {
                let pointer = format!("/ingest/rate_limit_{name}");
                errors.push(FieldError::new(pointer, "out_of_range", "must be at least 1"));
            }
        }
        if let (true, Err(error)) = (errors.is_empty(), ingest.rate_limit()) {
            errors.push(FieldError::new("/ingest/rate_limit_per_minute", "out_of_range", error.message()));
        }
        let smallest = ingest.max_batch_events.max(ingest.max_batch_events_v1);
        if ingest.max_in_flight_events < smallest {
            let message = format!("must be at least the largest batch, {smallest}");
            errors.push(FieldError::new("/ingest/max_in_flight_events", "out_of_range", message));
        }
        let largest = ingest.max_payload_bytes.max(ingest.max_payload_bytes_v1);
        if ingest.max_in_flight_bytes < largest.saturating_mul(2) {
            let message = format!("must be at least twice the largest payload, {largest}");
            errors.push(FieldError::new("/ingest/max_in_flight_bytes", "out_of_range", message));
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::invalid_fields("settings.validate", errors)) }
    }
}

/// Collects what is out of range.
#[derive(Default)]
struct Ranges(Vec<FieldError>);

impl Ranges {
    fn number(&mut self, pointer: &str, value: usize, min: usize, max: usize) {
        if !(min..=max).contains(&value) {
            self.0.push(FieldError::new(pointer, "out_of_range", format!("must be between {min} and {max}")));
        }
    }

    fn span(&mut self, pointer: &str, value: Duration, min: Duration, max: Duration) {
        if !(min..=max).contains(&value) {
            let (min, max) = (crate::time::format_duration(min), crate::time::format_duration(max));
            self.0.push(FieldError::new(pointer, "out_of_range", format!("must be between {min} and {max}")));
        }
    }
}

#[cfg(test)]
mod tests;
