//! Numbers of this router, and their Prometheus text.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use pulsestream::PulseStream;
use pulsestream_core::ports::event_store::Impairment;
use pulsestream_core::ports::ingest_queue::QueueDepth;

use crate::operation::Operation;

/// Upper bounds of the histogram, in milliseconds.
const BUCKETS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters since the router was made.
#[derive(Debug)]
pub(crate) struct Telemetry {
    operations: Vec<(Operation, [AtomicU64; 5])>,
    /// Requests that met no operation: unknown paths, wrong methods, refused before routing.
    unrouted: [AtomicU64; 5],
    buckets: [AtomicU64; BUCKETS_MS.len()],
    requests: AtomicU64,
    micros: AtomicU64,
    in_flight: AtomicU64,
    too_many: AtomicU64,
    timed_out: AtomicU64,
    panicked: AtomicU64,
}

/// Counts a request as worked on until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight<'t>(&'t AtomicU64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Telemetry {
    pub(crate) fn new(operations: Vec<Operation>) -> Self {
        Self {
            operations: operations.into_iter().map(|operation| (operation, Default::default())).collect(),
            unrouted: Default::default(),
            buckets: Default::default(),
            requests: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            too_many: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
        }
    }

    pub(crate) fn enter(&self) -> InFlight<'_> {
        add(&self.in_flight);
        InFlight(&self.in_flight)
    }

    pub(crate) fn too_many(&self) {
        add(&self.too_many);
    }

    pub(crate) fn timed_out(&self) {
        add(&self.timed_out);
    }

    pub(crate) fn panicked(&self) {
        add(&self.panicked);
    }

    /// Counts a response.
    pub(crate) fn served(&self, operation: Option<usize>, status: StatusCode, took: Duration) {
        let counters = operation.and_then(|index| self.operations.get(index)).map(|(_, counters)| counters);
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        add(&counters.unwrap_or(&self.unrouted)[class]);
        add(&self.requests);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(index) = BUCKETS_MS.iter().position(|bound| took <= Duration::from_millis(*bound)) {
            add(&self.buckets[index]);
        }
    }

    /// Writes everything in the Prometheus text format 0.0.4.
    pub(crate) fn render(
        &self,
        ps: &PulseStream,
        uptime: Duration,
        body_bytes: usize,
        queue: Option<QueueDepth>,
        impairments: &[Impairment],
    ) -> String {
        let mut page = Page::default();
        page.head("build_info", "gauge", "The version that runs.");
        page.line("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.head("uptime_seconds", "gauge", "How long it has been open.");
        page.line("uptime_seconds", &[], uptime.as_secs());
        self.render_ingest(ps, &mut page);
        if let Some(depth) = queue {
            render_queue(depth, &mut page);
        }
        page.head(
            "rate_limit_local",
            "gauge",
            "1 while this node limits rates on its own, without the others.",
        );
        page.line("rate_limit_local", &[], u8::from(ps.limits_locally()));
        let name = "event_store_impaired";
        page.head(
            name,
            "gauge",
            "1 for each way in which the store works less well than it should; health/ready says more.",
        );
        let codes: BTreeSet<_> = impairments.iter().map(|impairment| impairment.code).collect();
        codes.iter().for_each(|code| page.line(name, &[("code", code)], 1));
        self.render_http(body_bytes, &mut page);
        page.0
    }

    fn render_ingest(&self, ps: &PulseStream, page: &mut Page) {
        let counts = ps.ingest().counts();
        page.head("events_stored_total", "counter", "Events stored for the first time.");
        page.line("events_stored_total", &[], counts.stored);
        page.head("events_duplicate_total", "counter", "Events recognised as stored already.");
        page.line("events_duplicate_total", &[], counts.duplicates);
        page.head("events_queued_total", "counter", "Events accepted into the ingest queue.");
        page.line("events_queued_total", &[], counts.queued);
        page.head("events_refused_total", "counter", "Events refused, by reason.");
        for (reason, events) in counts.refused {
            page.line("events_refused_total", &[("reason", reason.as_str())], events);
        }
        page.head("ingest_in_flight_events", "gauge", "Events on their way to the store.");
        page.line("ingest_in_flight_events", &[], counts.in_flight_events as u64);
        page.head("ingest_in_flight_bytes", "gauge", "Bytes of events on their way to the store.");
        page.line("ingest_in_flight_bytes", &[], counts.in_flight_bytes as u64);
    }

    fn render_http(&self, body_bytes: usize, page: &mut Page) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        page.head("http_requests_total", "counter", "Requests answered, by operation and class of status.");
        let rows = self.operations.iter().map(|(it, counters)| (it.method.as_str(), it.path, counters));
        for (method, route, counters) in rows.chain([("", "unrouted", &self.unrouted)]) {
            for (class, counter) in CLASSES.iter().zip(counters).filter(|(_, counter)| read(counter) > 0) {
                let labels = [("method", method), ("route", route), ("status", *class)];
                page.line("http_requests_total", &labels, read(counter));
            }
        }
        let name = "http_request_duration_seconds";
        page.head(name, "histogram", "How long requests took until their answer began.");
        let mut below = 0;
        for (bound, counter) in BUCKETS_MS.iter().zip(&self.buckets) {
            below += read(counter);
            let bound = Duration::from_millis(*bound).as_secs_f64().to_string();
            page.line("http_request_duration_seconds_bucket", &[("le", &bound)], below);
        }
        page.line("http_request_duration_seconds_bucket", &[("le", "+Inf")], read(&self.requests));
        let sum = Duration::from_micros(read(&self.micros)).as_secs_f64();
        page.line("http_request_duration_seconds_sum", &[], sum);
        page.line("http_request_duration_seconds_count", &[], read(&self.requests));
        page.head("http_in_flight_requests", "gauge", "Requests worked on now.");
        page.line("http_in_flight_requests", &[], read(&self.in_flight));
        page.head("http_body_bytes", "gauge", "Memory that bodies of requests take now.");
        page.line("http_body_bytes", &[], body_bytes as u64);
        page.head("http_failed_total", "counter", "Requests that the server could not serve, by reason.");
        for (reason, counter) in
            [("concurrency", &self.too_many), ("timeout", &self.timed_out), ("panic", &self.panicked)]
        {
            page.line("http_failed_total", &[("reason", reason)], read(counter));
        }
    }
}

fn render_queue(depth: QueueDepth, page: &mut Page) {
    page.head("queue_batches", "gauge", "Batches that wait in the ingest queue of all nodes.");
    page.line("queue_batches", &[], depth.batches);
    page.head("queue_dead_batches", "gauge", "Batches that were given up and wait for a decision.");
    page.line("queue_dead_batches", &[], depth.dead);
    page.head("queue_events", "gauge", "Events of both.");
    page.line("queue_events", &[], depth.events);
}

/// Text in the exposition format.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP pulsestream_{name} {help}\n# TYPE pulsestream_{name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str("pulsestream_");
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }
}
