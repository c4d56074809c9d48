//! `/api/v1/ingestion`: sending events, finding them, and how that goes.

mod event_out;
mod find;
mod status;
mod submit;

use pulsestream_core::auth::Action;
use pulsestream_core::event::{Severity, V1_EVENT_TYPES};

use crate::access::Access;
use crate::operation::Routes;
use crate::v1::Message;

/// Adds the operations.
pub(crate) fn routes(routes: &mut Routes) {
    let (write, read) = (Access::May(Action::WriteEvents), Access::May(Action::ReadEvents));
    let manage = Access::May(Action::ManageEvents);
    routes
        .post("/api/v1/ingestion/events", write, submit::one)
        .does("Stores one event.")
        .takes::<submit::EventIn>()
        .gives::<submit::EventAnswer>(200)
        .fails(&[507]);
    routes
        .post("/api/v1/ingestion/events/batch", write, submit::batch)
        .does("Stores many events, each on its own: one bad event never refuses the others.")
        .takes::<submit::BatchIn>()
        .gives::<submit::BatchAnswer>(200)
        .fails(&[507]);
    routes
        .get("/api/v1/ingestion/events/search", read, find::search)
        .does("Finds events, newest first.")
        .query::<find::Search>()
        .gives::<find::SearchAnswer>(200);
    routes
        .get("/api/v1/ingestion/events/types", read, async || axum::Json(V1_EVENT_TYPES))
        .does("Lists the types that an event may have.")
        .gives::<Vec<String>>(200);
    routes
        .get("/api/v1/ingestion/events/severities", read, async || axum::Json(Severity::ALL))
        .does("Lists the severities that an event may have.")
        .gives::<Vec<String>>(200);
    routes
        .get("/api/v1/ingestion/events/{event_id}", read, find::get)
        .does("Returns an event.")
        .gives::<event_out::EventOut>(200);
    routes
        .delete("/api/v1/ingestion/events/{event_id}", manage, find::delete)
        .does("Deletes an event.")
        .gives::<Message>(200);
    routes
        .post("/api/v1/ingestion/events/{event_id}/retry", manage, find::retry)
        .does("Runs the background processing of an event again, without doubling any effect.")
        .gives::<Message>(200);
    routes
        .get("/api/v1/ingestion/stats", read, status::stats)
        .does("Counts the tenant's events.")
        .gives::<status::Stats>(200);
    routes
        .get("/api/v1/ingestion/health", read, status::health)
        .does("Measures how ingestion goes.")
        .gives::<status::IngestionHealth>(200);
    // A key that may send should be able to learn how much.
    routes
        .get("/api/v1/ingestion/rate-limit", write, status::rate_limit)
        .does("Says how much of the tenant's rate limit is left.")
        .gives::<status::RateLimitView>(200);
}
