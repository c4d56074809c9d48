//! What the handlers share.

use std::ops::Deref;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use pulsestream::PulseStream;
use pulsestream_core::alerting::AlertingService;
use pulsestream_core::error::Result;
use pulsestream_core::{Error, ErrorKind, FieldError};
use tokio::sync::Semaphore;

use crate::access::Caller;
use crate::body::BodyBudget;
use crate::complaints::Complaints;
use crate::config::{ApiConfig, MetricsAccess};
use crate::credentials;
use crate::failure::{Answer, Failure};
use crate::idempotency::Busy;
use crate::limits::LimitCache;
use crate::places::Places;
use crate::schema::Shapes;
use crate::service::Health;
use crate::telemetry::Telemetry;

/// The state of the router; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) ps: PulseStream,
    pub(crate) config: ApiConfig,
    pub(crate) permits: Semaphore,
    pub(crate) bodies: BodyBudget,
    pub(crate) shapes: Shapes,
    pub(crate) telemetry: Telemetry,
    pub(crate) complaints: Complaints,
    pub(crate) health: Health,
    pub(crate) busy: Busy,
    pub(crate) live: Places,
    /// Requests of tenants that are worked on.
    pub(crate) working: Places,
    pub(crate) limits: LimitCache,
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    pub(crate) fn new(ps: PulseStream, config: ApiConfig) -> Result<Self> {
        config.validate()?;
        let operations = crate::operation::table(config.accounts).operations();
        let http = &ps.settings().http;
        Ok(Self(Arc::new(Inner {
            permits: Semaphore::new(http.max_concurrent_requests),
            bodies: BodyBudget::new(http.max_body_memory_bytes),
            shapes: Shapes::default(),
            telemetry: Telemetry::new(operations),
            complaints: Complaints::default(),
            health: Health::default(),
            busy: Busy::default(),
            live: Places::new(
                http.max_live_connections,
                http.max_live_connections_per_tenant,
                "there are as many live connections as there may be",
            ),
            working: Places::new(
                http.max_concurrent_requests,
                http.max_concurrent_requests_per_tenant,
                "the server works on as many requests of this tenant as it may",
            ),
            limits: LimitCache::default(),
            ps,
            config,
        })))
    }

    pub(crate) fn settings(&self) -> &pulsestream_core::settings::Settings {
        self.ps.settings()
    }

    /// Returns the service of rules, alerts, silences and channels, in the name of the caller.
    pub(crate) fn alerting(&self, caller: &Caller) -> AlertingService {
        self.ps.alerting().acting_as(caller.principal.subject.to_string())
    }

    /// Returns the size of a page of events that was asked for, if it may be as large.
    pub(crate) fn page_limit(&self, asked: usize) -> Answer<usize> {
        let most = self.settings().query.max_page_events;
        if asked <= most {
            return Ok(asked);
        }
        let message = format!("must be at most {most}");
        Err(Failure::invalid_query(vec![FieldError::new("/limit", "out_of_range", message)]))
    }

    pub(crate) fn admit_to_metrics(&self, headers: &HeaderMap) -> Answer<()> {
        let expected = match &self.config.metrics {
            MetricsAccess::Open => return Ok(()),
            MetricsAccess::Off => return Err(Failure::no_route()),
            MetricsAccess::Bearer(expected) => expected,
        };
        let shown = credentials::single(headers, &header::AUTHORIZATION).and_then(credentials::bearer_token);
        // Secrets compare in constant time.
        if shown.is_some_and(|shown| shown == *expected) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unauthenticated, "http.metrics", "reading the metrics takes their token")
            .into())
    }
}
