//! `/api/v2/events`: sending, finding, counting and following events.

mod aggregate;
mod find;
mod shapes;
mod stream;
mod submit;

use pulsestream_core::auth::Action;
use pulsestream_core::{FieldError, Filter};

use crate::access::Access;
use crate::operation::Routes;

/// Adds the operations.
pub(super) fn routes(routes: &mut Routes) {
    let (write, read) = (Access::May(Action::WriteEvents), Access::May(Action::ReadEvents));
    let manage = Access::May(Action::ManageEvents);
    routes
        .post("/api/v2/events", write, submit::submit)
        .does("Stores one event, or many: a JSON array, or one event on each line as application/x-ndjson.")
        .takes::<shapes::EventsIn>()
        .gives::<submit::Submitted>(200)
        .takes_key()
        .fails(&[507]);
    routes
        .get("/api/v2/events", read, find::search)
        .does("Finds events, a page at a time.")
        .query::<find::Search>()
        .gives::<find::PageOut>(200)
        .fails(&[400]);
    routes
        .delete("/api/v2/events", manage, find::delete_matching)
        .does("Deletes the events that match.")
        .query::<find::Selection>()
        .gives::<find::Deleted>(200);
    routes
        .post("/api/v2/events/aggregate", read, aggregate::aggregate)
        .does("Measures events in groups and buckets of time.")
        .takes::<aggregate::AggregateIn>()
        .gives::<aggregate::AggregateOut>(200);
    routes
        .get("/api/v2/events/stream", Access::MayWithTicket(Action::ReadEvents), stream::stream)
        .does("Sends events as they are stored, as server-sent events; Last-Event-ID resumes without gaps.")
        .query::<stream::StreamQuery>()
        .gives_media(200, "text/event-stream")
        .fails(&[400]);
    routes
        .post("/api/v2/events/stream/ticket", read, stream::ticket)
        .does("Makes a short-lived ticket for the query of a stream, for clients that cannot send headers.")
        .gives::<stream::TicketOut>(200);
    routes
        .get("/api/v2/events/{event_id}", read, find::get)
        .does("Returns an event.")
        .gives::<shapes::EventOut>(200);
    routes
        .delete("/api/v2/events/{event_id}", manage, find::delete)
        .does("Deletes an event.")
        .gives_nothing(204);
}

/// Reads the text of a filter that stood at `pointer`.
fn filter(text: Option<&str>, pointer: &str) -> Result<Option<Filter>, FieldError> {
    let parsed = text.map(Filter::parse).transpose();
    parsed.map_err(|error| {
        let code = error.fields().first().map_or("invalid_filter".into(), |field| field.code.clone());
        FieldError::new(pointer, code, error.message())
    })
}
