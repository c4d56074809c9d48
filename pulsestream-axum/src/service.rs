//! The service itself: what it is, whether it is well, and its numbers.

use std::sync::Mutex;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pulsestream_core::Error;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::StoreStatus;
use serde::Serialize;
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
    /// Events are accepted, something else does not answer.
    Degraded,
    /// Events are not accepted.
    Unhealthy,
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
    /// `ready` or `not_ready`.
    status: &'static str,
    uptime_seconds: u64,
    checks: Vec<CheckView>,
}

/// What one dependency answered.
#[derive(Debug, Serialize, ToSchema)]
struct CheckView {
    name: &'static str,
    /// `ok` or `failed`.
    status: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// What it said of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    details: Option<StoreStatus>,
}

impl CheckView {
    fn of(name: &'static str, outcome: Result<Option<StoreStatus>, Error>) -> Self {
        let (status, cause, details) = match outcome {
            Ok(Some(store)) if !store.writable => {
                ("failed", Some("does not accept writes".to_owned()), Some(store))
            }
            Ok(details) => ("ok", None, details),
            Err(error) => ("failed", Some(format!("{}: {}", error.kind(), error.message())), None),
        };
        Self { name, status, cause, details }
    }

    fn is_ok(&self) -> bool {
        self.cause.is_none()
    }
}

async fn ready(State(app): State<App>) -> Response {
    let checks = app.look().await;
    let is_ready = checks.iter().all(CheckView::is_ok);
    let view = ReadyView {
        status: if is_ready { "ready" } else { "not_ready" },
        uptime_seconds: app.ps.uptime().as_secs(),
        checks,
    };
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(view)).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    let uptime = app.ps.uptime();
    let queue = match app.ps.ingest().queue() {
        Some(queue) => in_time(queue.depth()).await.ok(),
        None => None,
    };
    let page = app.telemetry.render(&app.ps, uptime, app.bodies.used(), queue);
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
        let checks = self.look().await;
        let status = match checks.split_first() {
            Some((store, _)) if !store.is_ok() => HealthStatus::Unhealthy,
            _ if checks.iter().all(CheckView::is_ok) => HealthStatus::Healthy,
            _ => HealthStatus::Degraded,
        };
        *self.health.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((now, status));
        status
    }

    /// Asks every dependency; the event store comes first.
    async fn look(&self) -> Vec<CheckView> {
        let nobody = TenantId::from_u128(0);
        let store = async { self.ps.event_store().check().await.map(Some) };
        let limiter = async {
            let limit = self.settings().ingest.rate_limit()?;
            self.ps.rate_limiter().peek(nobody, "readiness", limit).await.map(|_| None)
        };
        let (store, limiter) = tokio::join!(in_time(store), in_time(limiter));
        vec![CheckView::of("event_store", store), CheckView::of("rate_limiter", limiter)]
    }
}

async fn in_time<T>(check: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(CHECK_TIMEOUT, check).await.unwrap_or_else(|_| {
        Err(Error::new(pulsestream_core::ErrorKind::Timeout, "health.check", "did not answer in time"))
    })
}
