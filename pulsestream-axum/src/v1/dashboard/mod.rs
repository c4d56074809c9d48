//! `/api/v1/dashboard`: what the dashboard shows, at once and live.

mod metrics;
mod overview;
mod pushed;
mod socket;
mod socket_message;

use pulsestream_core::auth::Action;

use crate::access::Access;
use crate::operation::Routes;

/// Adds the operations.
pub(crate) fn routes(routes: &mut Routes) {
    let events = Access::May(Action::ReadEvents);
    routes
        .get("/api/v1/dashboard/overview", events, overview::overview)
        .does("Sums up events, alerts and rules.")
        .gives::<overview::OverviewAnswer>(200);
    routes
        .get("/api/v1/dashboard/events/stream", events, overview::stream)
        .does("Returns the latest events.")
        .query::<overview::StreamQuery>()
        .gives::<overview::StreamAnswer>(200);
    routes
        .get("/api/v1/dashboard/alerts/summary", Access::May(Action::ReadAlerts), overview::alerts)
        .does("Sums up alerts.")
        .gives::<overview::AlertsAnswer>(200);
    routes
        .get("/api/v1/dashboard/metrics/real-time", events, metrics::real_time)
        .does("Returns volume, errors and the busiest endpoints of the last while.")
        .query::<metrics::RealTimeQuery>()
        .gives::<metrics::RealTimeAnswer>(200);
    routes
        .get("/api/v1/dashboard/connections/stats", events, overview::connections)
        .does("Counts the live connections of the tenant.")
        .gives::<overview::ConnectionsAnswer>(200);
    routes
        .get("/api/v1/dashboard/ws/{tenant_id}", Access::MayWithTicket(Action::ReadEvents), socket::connect)
        .does("Opens a WebSocket with live events and alerts.")
        .gives_media(101, "application/json")
        .fails(&[400, 426]);
}
