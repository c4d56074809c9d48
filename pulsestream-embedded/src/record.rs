//! One event as bytes, and its parts without a copy.

use pulsestream_core::event::{Context, ErrorDetails, Event, JsonObject, Metrics, Severity, Source, Tags};
use pulsestream_core::id::EventId;
use pulsestream_core::text::Text;
use pulsestream_core::time::Timestamp;

use crate::bytes::{Reader, put_slice, put_varint, unzigzag, zigzag};
use crate::field::{NUMBER_FIELDS, NumberField, TEXT_FIELDS, TextField};

/// The parts of one event, borrowed from wherever it is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) timestamp: i64,
    pub(crate) received_at: i64,
    pub(crate) severity: u8,
    pub(crate) texts: [Option<&'a [u8]>; TEXT_FIELDS],
    /// NaN where there is none; a boolean is 0 or 1.
    pub(crate) numbers: [f64; NUMBER_FIELDS],
}

impl Record<'_> {
    /// Returns about how many bytes the event takes up in memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        let texts: usize = self.texts.iter().flatten().map(|text| text.len()).sum();
        size_of::<Event>() + self.id.len() + texts
    }
}

/// Appends an event: presence bits u32 (texts from bit 0, numbers above), timestamp i64, the distance to its arrival
/// (zigzag varint), severity u8, then id, texts and numbers that are present, in the order of their numbers.
pub(crate) fn encode(event: &Event, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&event.timestamp.as_micros().to_le_bytes());
    let delay = event.received_at.as_micros().wrapping_sub(event.timestamp.as_micros());
    put_varint(bytes, zigzag(delay));
    bytes.push(event.severity as u8);
    put_slice(bytes, event.id.as_str().as_bytes());

    let mut present = 0_u32;
    for (index, text) in texts(event).into_iter().enumerate() {
        if let Some(text) = text {
            present |= 1 << index;
            put_slice(bytes, text.as_bytes());
        }
    }
    let tags = &event.context.tags;
    if !tags.is_empty() {
        present |= 1 << TextField::Tags.index();
        let pairs = tags.iter();
        let length = pairs.map(|(key, value)| sized(key.len()) + sized(value.len())).sum::<usize>();
        put_varint(bytes, length as u64);
        for (key, value) in tags.iter() {
            put_slice(bytes, key.as_bytes());
            put_slice(bytes, value.as_bytes());
        }
    }
    for (field, object) in [(TextField::Payload, &event.payload), (TextField::Metadata, &event.metadata)] {
        if !object.is_empty() {
            present |= 1 << field.index();
            put_slice(bytes, object.as_str().as_bytes());
        }
    }
    for (index, number) in numbers(&event.metrics).into_iter().enumerate() {
        if !number.is_nan() {
            present |= 1 << (TEXT_FIELDS + index);
            put_number(bytes, number);
        }
    }
    bytes[start..start + 4].copy_from_slice(&present.to_le_bytes());
}

/// The texts of an event in the order of their fields, up to the tags.
fn texts(event: &Event) -> [Option<&Text>; TextField::Tags as usize] {
    let error = event.error.as_deref();
    let (source, context) = (&event.source, &event.context);
    [
        Some(&event.event_type),
        event.title.as_ref(),
        event.message.as_ref(),
        source.service.as_ref(),
        source.endpoint.as_ref(),
        source.method.as_ref(),
        source.version.as_ref(),
        source.environment.as_ref(),
        context.user_id.as_ref(),
        context.session_id.as_ref(),
        context.request_id.as_ref(),
        context.ip_address.as_ref(),
        context.user_agent.as_ref(),
        context.referrer.as_ref(),
        error.and_then(|error| error.code.as_ref()),
        error.and_then(|error| error.message.as_ref()),
        error.and_then(|error| error.error_type.as_ref()),
        error.and_then(|error| error.stack_trace.as_ref()),
    ]
}

/// Reads what an event holds outside itself, so that it is there when it is encoded: the processor waits for all of it at once, and not
/// for one text after the other.
pub(crate) fn fetch(event: &Event) {
    const LINE_BYTES: usize = 64;
    let read = |bytes: &[u8]| bytes.iter().step_by(LINE_BYTES).fold(0, |sum, byte| sum ^ byte);
    let texts = texts(event).into_iter().flatten().fold(0, |sum, text| sum ^ read(text.as_bytes()));
    let objects = read(event.payload.as_str().as_bytes()) ^ read(event.metadata.as_str().as_bytes());
    // Without this the compiler would see that nobody needs the sum.
    std::hint::black_box(texts ^ objects);
}

/// Bytes that a slice of this length takes with its length before it.
fn sized(length: usize) -> usize {
    let bits = (usize::BITS - (length | 1).leading_zeros()) as usize;
    length + bits.div_ceil(7)
}

#[allow(clippy::cast_precision_loss, reason = "sizes are at most 2^53")]
fn numbers(metrics: &Metrics) -> [f64; NUMBER_FIELDS] {
    let size = |size: Option<u64>| size.map_or(f64::NAN, |size| size as f64);
    [
        metrics.response_time_ms.unwrap_or(f64::NAN),
        metrics.status_code.map_or(f64::NAN, f64::from),
        size(metrics.request_size_bytes),
        size(metrics.response_size_bytes),
        metrics.cache_hit.map_or(f64::NAN, f64::from),
    ]
}

/// A small whole number takes its varint with the lowest bit clear; any other a 1 and its eight bytes.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "checked"
)]
fn put_number(bytes: &mut Vec<u8>, number: f64) {
    let whole = number as u64;
    if whole < 1 << 53 && (whole as f64).to_bits() == number.to_bits() {
        put_varint(bytes, whole << 1);
    } else {
        bytes.push(1);
        bytes.extend_from_slice(&number.to_bits().to_le_bytes());
    }
}

#[allow(clippy::cast_precision_loss, reason = "at most 2^53")]
fn read_number(reader: &mut Reader<'_>) -> Option<f64> {
    let head = reader.varint()?;
    if head & 1 == 0 { Some((head >> 1) as f64) } else { reader.u64().map(f64::from_bits) }
}

impl<'a> Record<'a> {
    /// Reads what [`encode`] wrote; `None` if the bytes are something else.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let present = reader.u32()?;
        let timestamp = reader.i64()?;
        let received_at = timestamp.wrapping_add(unzigzag(reader.varint()?));
        let severity = reader.u8()?;
        let id = reader.slice()?;
        let mut texts = [None; TEXT_FIELDS];
        for (index, text) in texts.iter_mut().enumerate() {
            if present & (1 << index) != 0 {
                *text = Some(reader.slice()?);
            }
        }
        let mut numbers = [f64::NAN; NUMBER_FIELDS];
        for (index, number) in numbers.iter_mut().enumerate() {
            if present & (1 << (TEXT_FIELDS + index)) != 0 {
                *number = read_number(&mut reader)?;
            }
        }
        Some(Self { id, timestamp, received_at, severity, texts, numbers })
    }

    /// Reads only timestamp and id.
    pub(crate) fn decode_place(bytes: &'a [u8]) -> Option<(i64, &'a [u8])> {
        let mut reader = Reader(bytes);
        reader.u32()?;
        let timestamp = reader.i64()?;
        reader.varint()?;
        reader.u8()?;
        Some((timestamp, reader.slice()?))
    }

    /// Builds the event; `None` when a part is not what the store writes.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "they were integers when written"
    )]
    pub(crate) fn to_event(self) -> Option<Event> {
        let text = |field: TextField| match self.texts[field.index()] {
            Some(bytes) => std::str::from_utf8(bytes).ok().map(|text| Some(Text::from(text))),
            None => Some(None),
        };
        let object = |field: TextField| match self.texts[field.index()] {
            Some(bytes) => std::str::from_utf8(bytes).ok().map(JsonObject::from_normal_form),
            None => Some(JsonObject::default()),
        };
        let number = |field: NumberField| Some(self.numbers[field.index()]).filter(|number| !number.is_nan());
        let id = std::str::from_utf8(self.id).ok()?;
        let error = ErrorDetails {
            code: text(TextField::ErrorCode)?,
            message: text(TextField::ErrorMessage)?,
            error_type: text(TextField::ErrorType)?,
            stack_trace: text(TextField::ErrorStackTrace)?,
        };
        let tags = match self.texts[TextField::Tags.index()] {
            Some(bytes) => read_tags(bytes)?,
            None => Tags::default(),
        };
        Some(Event {
            id: EventId::new(id).ok()?,
            event_type: text(TextField::EventType)??,
            timestamp: Timestamp::from_micros(self.timestamp),
            received_at: Timestamp::from_micros(self.received_at),
            severity: Severity::from_ordinal(self.severity)?,
            title: text(TextField::Title)?,
            message: text(TextField::Message)?,
            source: Source {
                service: text(TextField::SourceService)?,
                endpoint: text(TextField::SourceEndpoint)?,
                method: text(TextField::SourceMethod)?,
                version: text(TextField::SourceVersion)?,
                environment: text(TextField::SourceEnvironment)?,
            },
            context: Context {
                user_id: text(TextField::UserId)?,
                session_id: text(TextField::SessionId)?,
                request_id: text(TextField::RequestId)?,
                ip_address: text(TextField::IpAddress)?,
                user_agent: text(TextField::UserAgent)?,
                referrer: text(TextField::Referrer)?,
                tags,
            },
            metrics: Metrics {
                response_time_ms: number(NumberField::ResponseTimeMs),
                status_code: number(NumberField::StatusCode).map(|number| number as u16),
                request_size_bytes: number(NumberField::RequestSizeBytes).map(|number| number as u64),
                response_size_bytes: number(NumberField::ResponseSizeBytes).map(|number| number as u64),
                cache_hit: number(NumberField::CacheHit).map(|number| number != 0.0),
            },
            error: (error != ErrorDetails::default()).then(|| Box::new(error)),
            payload: object(TextField::Payload)?,
            metadata: object(TextField::Metadata)?,
        })
    }
}

fn read_tags(bytes: &[u8]) -> Option<Tags> {
    tag_pairs(bytes)
        .map(|(key, value)| Some((str::from_utf8(key).ok()?, str::from_utf8(value).ok()?)))
        .collect()
}

/// Iterates over the tags of a row as they are stored.
pub(crate) fn tag_pairs(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut reader = Reader(bytes);
    std::iter::from_fn(move || Some((reader.slice()?, reader.slice()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn full_event() -> Event {
        let mut event =
            Event::new(EventId::new("event-1").unwrap(), "order_placed", Timestamp::from_micros(1_234_567));
        event.received_at = Timestamp::from_micros(1_234_000);
        event.severity = Severity::Critical;
        event.title = Some("Title".into());
        event.message = Some("Gr\u{fc}\u{df}e".into());
        event.source.service = Some("shop".into());
        event.source.endpoint = Some("/cart".into());
        event.source.method = Some("GET".into());
        event.source.version = Some("1.2".into());
        event.source.environment = Some("production".into());
        event.context.user_id = Some("u1".into());
        event.context.session_id = Some("s1".into());
        event.context.request_id = Some("".into());
        event.context.ip_address = Some("10.0.0.1".into());
        event.context.user_agent = Some("curl".into());
        event.context.referrer = Some("/".into());
        event.context.tags = [("a", "x"), ("b", &"y".repeat(200))].into_iter().collect();
        event.metrics = Metrics {
            response_time_ms: Some(12.75),
            status_code: Some(503),
            request_size_bytes: Some(0),
            response_size_bytes: Some((1 << 53) - 1),
            cache_hit: Some(false),
        };
        event.error = Some(Box::new(ErrorDetails {
            code: Some("E1".into()),
            message: Some("failed".into()),
            error_type: Some("Io".into()),
            stack_trace: Some("at line 1".into()),
        }));
        event.payload = JsonObject::parse(r#"{"a": [1, {"b": null}], "plan": "free"}"#).unwrap();
        event.metadata = JsonObject::parse(r#"{"source": 1.50}"#).unwrap();
        event
    }

    #[test]
    fn events_round_trip() {
        let plain = Event::new(EventId::new("x").unwrap(), "t", Timestamp::MIN);
        let mut largest = plain.clone();
        largest.received_at = Timestamp::MAX;
        largest.metrics.response_size_bytes = Some(1 << 53);
        for event in [full_event(), plain, largest] {
            let mut bytes = vec![9];
            encode(&event, &mut bytes);
            let record = Record::decode(&bytes[1..]).unwrap();
            assert_eq!(record.to_event().unwrap(), event);
            let place = Record::decode_place(&bytes[1..]).unwrap();
            assert_eq!(place, (event.timestamp.as_micros(), event.id.as_str().as_bytes()));
        }
    }

    #[test]
    fn cut_bytes_are_no_record() {
        let mut bytes = Vec::new();
        encode(&full_event(), &mut bytes);
        for length in 0..bytes.len() {
            assert!(Record::decode(&bytes[..length]).is_none());
        }
    }
}
