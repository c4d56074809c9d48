//! The service itself: what it is, whether it is well, and its numbers.

use std::sync::Mutex;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pulsestream::{ComponentStatus, Status};
use pulsestream_core::Error;
use pulsestream_core::ports::event_store::Impairment;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::access::Access;
use crate::app::App;
use crate::operation::Routes;

/// For how long the last look at the dependencies answers `/health`.
const HEALTH_MAX_AGE: Duration = Duration::from_secs(5);
/// How long a dependency may take to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Adds the operations of the service.
pub(crate) fn routes(routes: &mut Routes) {
    routes.get("/", Access::Open, about).does("Says what this is.").gives::<About>(200);
    routes
        .get("/health", Access::Open, health)
        .does("Says whether the service is well.")
        .gives::<HealthView>(200);
    routes
        .get("/health/ready", Access::Open, ready)
        .does("Asks every dependency, and names those that do not answer.")
        .gives::<ReadyView>(200)
        .gives::<ReadyView>(503);
    routes
        .get("/metrics", Access::Metrics, metrics)
        .does("Returns the numbers of the service as Prometheus text.")
        .gives_media(200, "text/plain");
}

/// Returns whether a path is served however many requests there are.
pub(crate) fn is_probe(path: &str) -> bool {
    matches!(path, "/health" | "/health/ready" | "/metrics")
}

/// What the service is.
#[derive(Debug, Serialize, ToSchema)]
struct About {
    name: &'static str,
    version: &'static str,
    description: &'static str,
    docs_url: &'static str,
    health_url: &'static str,
}

async fn about() -> axum::Json<About> {
    axum::Json(About {
        name: "PulseStream",
        version: env!("CARGO_PKG_VERSION"),
        description: env!("CARGO_PKG_DESCRIPTION"),
        docs_url: "/api/v1/openapi.json",
        health_url: "/health",
    })
}

/// How well the service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthStatus {
    /// Everything answers.
    Healthy,
    /// Events are accepted, something else does not answer, or something works less well than it should.
    Degraded,
    /// Events are not accepted.
    Unhealthy,
}

impl HealthStatus {
    fn of(status: &Status) -> Self {
        match (status.is_healthy(), status.is_accepting()) {
            (true, _) => Self::Healthy,
            (false, true) => Self::Degraded,
            (false, false) => Self::Unhealthy,
        }
    }
}

/// The last look at the dependencies.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Option<(Duration, HealthStatus)>>);

#[derive(Debug, Serialize, ToSchema)]
struct HealthView {
    status: HealthStatus,
    version: &'static str,
    /// Seconds since 1970-01-01T00:00:00Z.
    timestamp: i64,
    environment: String,
}

async fn health(State(app): State<App>) -> axum::Json<HealthView> {
    axum::Json(HealthView {
        status: app.health_status().await,
        version: env!("CARGO_PKG_VERSION"),
        timestamp: app.ps.env().now().as_seconds(),
        environment: app.config.environment.clone(),
    })
}

#[derive(Debug, Serialize, ToSchema)]
struct ReadyView {
    /// `ready`; `degraded` when events are accepted and something else does not work, or works less well than it should; `not_ready`.
    status: &'static str,
    uptime_seconds: u64,
    checks: Vec<CheckView>,
}

/// What one dependency answered.
#[derive(Debug, Serialize, ToSchema)]
struct CheckView {
    name: &'static str,
    /// `ok`, `impaired` when it works less well than it should, or `failed`.
    status: &'static str,
    /// Whether no event is accepted without it.
    is_vital: bool,
    /// Why it failed, or is impaired.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// What helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// What it said of itself.
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: Map<String, Value>,
}

impl From<&ComponentStatus> for CheckView {
    fn from(component: &ComponentStatus) -> Self {
        let details = component.details.iter().map(|(name, text)| ((*name).to_owned(), text.clone().into()));
        let impairments = &component.impairments;
        let told = |part: fn(&Impairment) -> &str| {
            let parts: Vec<_> = impairments.iter().map(part).collect();
            (!parts.is_empty()).then(|| parts.join("; "))
        };
        let (status, cause, remedy) = match &component.outcome {
            Err(error) => ("failed", Some(format!("{}: {}", error.kind(), error.message())), None),
            Ok(()) if impairments.is_empty() => ("ok", None, None),
            Ok(()) => ("impaired", told(|it| &it.cause), told(|it| &it.remedy)),
        };
        let (name, is_vital) = (component.name, component.is_vital);
        Self { name, status, is_vital, cause, remedy, details: details.collect() }
    }
}

async fn ready(State(app): State<App>) -> Response {
    let status = app.ps.status().await;
    let mut checks: Vec<CheckView> = status.components.iter().map(CheckView::from).collect();
    if let (Some(store), Some(check)) = (&status.event_store, checks.first_mut())
        && let Ok(Value::Object(shown)) = serde_json::to_value(store)
    {
        check.details = shown;
    }
    let (code, text) = match HealthStatus::of(&status) {
        HealthStatus::Healthy => (StatusCode::OK, "ready"),
        // A node that accepts events is worth having, whatever else it lacks.
        HealthStatus::Degraded => (StatusCode::OK, "degraded"),
        HealthStatus::Unhealthy => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    };
    let view = ReadyView { status: text, uptime_seconds: status.uptime.as_secs(), checks };
    (code, axum::Json(view)).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    let uptime = app.ps.uptime();
    let queue = async {
        match app.ps.ingest().queue() {
            Some(queue) => in_time(queue.depth()).await.ok(),
            None => None,
        }
    };
    let (queue, store) = tokio::join!(queue, in_time(app.ps.event_store().check()));
    let impairments = store.map(|store| store.impairments).unwrap_or_default();
    let page = app.telemetry.render(&app.ps, uptime, app.bodies.used(), queue, &impairments);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

impl App {
    /// Returns how well the service is, by a look that is at most a few seconds old.
    pub(crate) async fn health_status(&self) -> HealthStatus {
        let now = self.ps.env().monotonic();
        let last = *self.health.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((at, status)) = last
            && now.saturating_sub(at) < HEALTH_MAX_AGE
        {
            return status;
        }
        let status = HealthStatus::of(&self.ps.status().await);
        *self.health.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((now, status));
        status
    }
}

async fn in_time<T>(check: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(CHECK_TIMEOUT, check).await.unwrap_or_else(|_| {
        Err(Error::new(pulsestream_core::ErrorKind::Timeout, "health.check", "did not answer in time"))
    })
}
