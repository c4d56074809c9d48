//! A batch as the stream keeps it.
//!
//! | field | holds |
//! |---|---|
//! | `t` | the tenant's UUID |
//! | `n` | how many events |
//! | `b` | the body: one byte for its format, and the events |
//! | `d` | how often it was handed out as earlier entries, when it was put back |
//! | `r` | how often it was handed out at all, when it is a dead letter |
//! | `w` | why it is a dead letter |
//!
//! Format `1` is a JSON array of events in the form of `pulsestream_core::event::Event`.

use std::collections::HashMap;

use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::text::Text;

const FORMAT_JSON: u8 = b'1';

/// The fields of an entry as Redis gives them.
pub(super) type Fields = HashMap<String, Vec<u8>>;

/// Writes events as a body.
pub(super) fn encode(events: &[Event]) -> Result<Vec<u8>> {
    let mut body = vec![FORMAT_JSON];
    serde_json::to_writer(&mut body, events).map_err(|error| {
        Error::new(ErrorKind::Internal, "ingest_queue.enqueue", "events cannot be written").with_source(error)
    })?;
    Ok(body)
}

/// Reads a body; says what is wrong with one that another version has written.
pub(super) fn decode(body: &[u8]) -> Result<Vec<Event>, String> {
    match body.split_first() {
        Some((&FORMAT_JSON, events)) => serde_json::from_slice(events).map_err(|error| error.to_string()),
        Some((format, _)) => Err(format!("unknown format {format}")),
        None => Err("no body".to_owned()),
    }
}

/// Names an entry, together with what it counts in the size of the queue: `ID/EVENTS/BYTES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) id: String,
    pub(super) events: u64,
    pub(super) bytes: u64,
}

impl Receipt {
    pub(super) fn of(id: String, fields: &Fields) -> Self {
        let bytes = fields.get("b").map_or(0, |body| body.len() as u64);
        Self { id, events: number(fields, "n"), bytes }
    }

    pub(super) fn text(&self) -> Text {
        format!("{}/{}/{}", self.id, self.events, self.bytes).into()
    }

    /// Nothing for what is not a receipt of this queue: like one of a batch that is gone, it is passed over.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (id, events, bytes) = (parts.next()?, parts.next()?, parts.next()?);
        let (milliseconds, sequence) = id.split_once('-')?;
        let is_id = [milliseconds, sequence].iter().all(|part| part.parse::<u64>().is_ok());
        let receipt = Self { id: id.to_owned(), events: events.parse().ok()?, bytes: bytes.parse().ok()? };
        (is_id && parts.next().is_none()).then_some(receipt)
    }
}

pub(super) fn tenant(fields: &Fields) -> Option<TenantId> {
    text(fields, "t")?.parse().ok()
}

pub(super) fn number(fields: &Fields, name: &str) -> u64 {
    text(fields, name).and_then(|text| text.parse().ok()).unwrap_or_default()
}

pub(super) fn text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    std::str::from_utf8(fields.get(name)?).ok()
}

#[cfg(test)]
mod tests {
    use pulsestream_core::event::JsonObject;
    use pulsestream_core::id::EventId;
    use pulsestream_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_body_is_read_back_and_a_foreign_one_is_told() {
        let mut event = Event::new(EventId::new("e1").unwrap(), "order", Timestamp::from_micros(1_234_567));
        event.metrics.response_time_ms = Some(0.1 + 0.2);
        event.payload = JsonObject::parse(r#"{"plan": "free", "n": 1.50, "text": "a\u0001\u00e9"}"#).unwrap();
        let events = vec![event];
        let body = encode(&events).unwrap();
        assert_eq!(body[0], b'1');
        assert_eq!(decode(&body).unwrap(), events);
        assert_eq!(decode(b"").unwrap_err(), "no body");
        assert_eq!(decode(b"2[]").unwrap_err(), "unknown format 50");
        assert!(decode(b"1[{}]").unwrap_err().contains("missing field"));
    }

    #[test]
    fn receipts_are_read_back_and_others_passed_over() {
        let fields = Fields::from([("n".to_owned(), b"3".to_vec()), ("b".to_owned(), b"12345".to_vec())]);
        let receipt = Receipt::of("17-0".to_owned(), &fields);
        assert_eq!(receipt.text().as_str(), "17-0/3/5");
        assert_eq!(Receipt::parse("17-0/3/5"), Some(receipt));
        for wrong in ["", "17-0", "17-0/3", "17/3/5", "17-0/3/5/", "a-b/3/5", "17-0/-3/5", "-/1/1"] {
            assert_eq!(Receipt::parse(wrong), None, "{wrong}");
        }
    }
}
