//! `/api/v2/dashboard`: the state of a tenant's system, as JSON, CSV and PDF.

mod alerts;
mod config;
mod csv;
mod export;
mod overview;
mod pdf;
mod performance;

use axum::extract::State;
use pulsestream_core::auth::Action;
use pulsestream_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Access;
use crate::app::App;
use crate::operation::Routes;
use crate::service::HealthStatus;

/// Adds the operations.
pub(crate) fn routes(routes: &mut Routes) {
    let read = Access::May(Action::ReadDashboard);
    routes
        .get("/api/v2/dashboard/alerts/summary", Access::May(Action::ReadAlerts), alerts::get)
        .does("Counts alerts by severity, and says how that changes.")
        .gives::<alerts::AlertSummary>(200);
    routes
        .get("/api/v2/dashboard/metrics/real-time", read, performance::real_time)
        .does("Returns volume, throughput, response times and error rates of the last hour.")
        .gives::<performance::RealTime>(200);
    routes
        .get("/api/v2/dashboard/overview", read, overview::get)
        .does("Returns the health of the system with its causes, alerts and performance.")
        .gives::<overview::Overview>(200);
    routes
        .get("/api/v2/dashboard/health", Access::Open, health)
        .does("Says whether the dashboard works.")
        .gives::<DashboardHealth>(200);
    routes
        .get("/api/v2/dashboard/config", read, config::get)
        .does("Returns the configuration of the dashboard.")
        .gives::<config::ConfigOut>(200);
    routes
        .post("/api/v2/dashboard/config", Access::May(Action::WriteDashboard), config::put)
        .does("Puts the configuration of the dashboard; what is absent takes its default.")
        .takes::<config::ConfigIn>()
        .gives::<config::ConfigOut>(200)
        .fails(&[413]);
    routes
        .get("/api/v2/dashboard/widgets/{widget}", read, overview::widget)
        .does("Returns the data of one widget: alerts, metrics, health or performance.")
        .gives::<overview::Widget>(200);
    routes
        .get("/api/v2/dashboard/export/{format}", read, export::get)
        .does("Returns the overview as a file: json, csv or pdf.")
        .gives_media(200, "application/octet-stream");
}

#[derive(Debug, Serialize, ToSchema)]
struct DashboardHealth {
    status: HealthStatus,
    service: &'static str,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
}

async fn health(State(app): State<App>) -> axum::Json<DashboardHealth> {
    axum::Json(DashboardHealth {
        status: app.health_status().await,
        service: "dashboard_v2",
        timestamp: app.ps.env().now(),
    })
}
