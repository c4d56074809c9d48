//! How much memory an event takes.

use super::Event;
use crate::text::Text;

/// Returns about how many bytes of memory an event occupies: the struct and what its texts and objects hold on the heap.
pub fn event_bytes(event: &Event) -> u64 {
    let Event { id: _, event_type, title, message, source, context, error, payload, metadata, .. } = event;
    let optional = |text: &Option<Text>| text.as_ref().map_or(0, Text::heap_bytes);
    let error_bytes = error.as_deref().map_or(0, |error| {
        size_of_val(error)
            + [&error.code, &error.message, &error.error_type, &error.stack_trace]
                .map(optional)
                .iter()
                .sum::<usize>()
    });
    let tag_bytes: usize = context
        .tags
        .iter()
        .map(|(key, value)| 2 * size_of::<Text>() + key.heap_bytes() + value.heap_bytes())
        .sum();
    let texts = [
        title,
        message,
        &source.service,
        &source.endpoint,
        &source.method,
        &source.version,
        &source.environment,
        &context.user_id,
        &context.session_id,
        &context.request_id,
        &context.ip_address,
        &context.user_agent,
        &context.referrer,
    ];
    let bytes = size_of::<Event>()
        + event_type.heap_bytes()
        + event.id.as_str().len()
        + texts.map(optional).iter().sum::<usize>()
        + error_bytes
        + tag_bytes
        + payload.as_str().len()
        + metadata.as_str().len();
    bytes as u64
}
