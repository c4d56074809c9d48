//! An event while it is read.

use std::borrow::Cow;
use std::str::FromStr;

use super::json::{Kind, Normaliser, Reader, Step};
use super::new_ids::NewIds;
use super::schema::{Dialect, Field, KeyOrder, Section};
use super::{Context, ErrorDetails, Event, EventRules, JsonObject, Metrics, Severity, Source, nearest_of};
use crate::error::{Error, FieldError, Result};
use crate::id::EventId;
use crate::text::Text;
use crate::time::Timestamp;

/// The fields found so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    id: Option<EventId>,
    event_type: Option<Text>,
    timestamp: Option<Timestamp>,
    event_timestamp: Option<Timestamp>,
    severity: Severity,
    title: Option<Text>,
    message: Option<Text>,
    has_source: bool,
    source: Source,
    context: Context,
    metrics: Metrics,
    error: ErrorDetails,
    payload: JsonObject,
    metadata: JsonObject,
}

impl Draft {
    /// Reads one event; what is refused is with the reader.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        normaliser: &mut Normaliser,
        order: &mut KeyOrder,
        rules: &EventRules,
    ) -> Step<Self> {
        let mut draft = Self::default();
        match reader.kind()? {
            Kind::Object => Reading { draft: &mut draft, normaliser, order, rules, seen: 0 }
                .section(reader, Section::Event)?,
            other => {
                reader.refuse(
                    "wrong_type",
                    format!("an event must be an object, found {}", other.described()),
                )?;
                normaliser.ignore(reader)?;
            }
        }
        Ok(draft)
    }

    /// Fills in what the client left out and checks the whole.
    pub(super) fn finish(
        self,
        mut errors: Vec<FieldError>,
        rules: &EventRules,
        ids: &mut NewIds,
        now: Timestamp,
        default_id: Option<&EventId>,
    ) -> Result<Result<Event, Vec<FieldError>>> {
        let dialect = rules.dialect;
        if errors.first().is_some_and(|error| error.pointer.is_empty()) {
            return Ok(Err(errors));
        }
        for (field, missing) in [
            (Field::EventType, self.event_type.is_none()),
            (Field::Source, dialect == Dialect::V1 && !self.has_source),
        ] {
            if missing && !is_reported(&errors, field.pointer(dialect)) {
                errors.push(FieldError::new(field.pointer(dialect), "required", "is required"));
            }
        }
        let id = match self.id.or_else(|| default_id.cloned()) {
            Some(id) => id,
            None if errors.is_empty() => ids.take()?,
            None => EventId::from_u128(0),
        };
        let named_otherwise = self.timestamp.is_none() && self.event_timestamp.is_some();
        let event = Event {
            id,
            event_type: self.event_type.unwrap_or_default(),
            timestamp: self.timestamp.or(self.event_timestamp).unwrap_or(now),
            received_at: now,
            severity: self.severity,
            title: self.title,
            message: self.message,
            source: self.source,
            context: self.context,
            metrics: self.metrics,
            error: (self.error != ErrorDetails::default()).then(|| Box::new(self.error)),
            payload: self.payload,
            metadata: self.metadata,
        };
        for mut error in rules.check_read(&event, now) {
            if named_otherwise && error.pointer == Field::Timestamp.pointer(dialect) {
                error.pointer = Field::EventTimestamp.pointer(dialect).to_owned();
            }
            if !is_reported(&errors, &error.pointer) {
                errors.push(error);
            }
        }
        Ok(if errors.is_empty() { Ok(event) } else { Err(errors) })
    }
}

/// Returns whether there is an error at the pointer or at what contains it, from the reading.
fn is_reported(errors: &[FieldError], pointer: &str) -> bool {
    errors.iter().any(|error| {
        pointer
            .strip_prefix(error.pointer.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Refuses a key that is not among `names`, and names the nearest or all.
#[cold]
pub(super) fn refuse_unknown<'n>(
    reader: &mut Reader<'_>,
    key: &str,
    names: impl Iterator<Item = &'n str> + Clone,
) -> Step<()> {
    let message = match nearest_of(key, names.clone()) {
        Some(near) => format!("unknown field; did you mean `{near}`"),
        None => format!("unknown field; valid fields are {}", names.collect::<Vec<_>>().join(", ")),
    };
    reader.refuse("unknown_field", message)
}

/// Passes over a null, and refuses anything else for not being `expected`.
pub(super) fn optional(
    reader: &mut Reader<'_>,
    normaliser: &mut Normaliser,
    expected: &'static str,
) -> Step<()> {
    match reader.kind()? {
        Kind::Null => reader.word("null"),
        _ => wrong_type(reader, normaliser, expected),
    }
}

#[cold]
fn wrong_type(reader: &mut Reader<'_>, normaliser: &mut Normaliser, expected: &'static str) -> Step<()> {
    let found = reader.kind()?.described();
    reader.refuse("wrong_type", format!("must be {expected}, found {found}"))?;
    normaliser.ignore(reader)
}

struct Reading<'d> {
    draft: &'d mut Draft,
    normaliser: &'d mut Normaliser,
    order: &'d mut KeyOrder,
    rules: &'d EventRules,
    /// One bit for each field that was there.
    seen: u64,
}

impl Reading<'_> {
    fn section(&mut self, reader: &mut Reader<'_>, section: Section) -> Step<()> {
        let dialect = self.rules.dialect;
        if !reader.enter()? {
            return Ok(());
        }
        let mut place = 0;
        while let Some(key) = reader.next_key()? {
            let key = key.decode();
            match section.field(dialect, &key, &mut place, self.order) {
                Some(field) => {
                    let bit = 1 << field as u32;
                    if self.seen & bit != 0 {
                        reader.refuse("duplicate_key", "an object must have each key once")?;
                    }
                    self.seen |= bit;
                    self.field(reader, field)?;
                }
                None => {
                    if dialect == Dialect::Strict {
                        let names = section.fields_of(dialect).map(|field| field.name(dialect));
                        refuse_unknown(reader, &key, names.collect::<Vec<_>>().into_iter())?;
                    }
                    self.normaliser.ignore(reader)?;
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, reader: &mut Reader<'_>, field: Field) -> Step<()> {
        match field {
            Field::Id => self.draft.id = self.parsed(reader)?,
            Field::EventType => self.draft.event_type = self.text(reader)?,
            Field::Timestamp => self.draft.timestamp = self.parsed(reader)?,
            Field::EventTimestamp => self.draft.event_timestamp = self.parsed(reader)?,
            Field::Severity => self.draft.severity = self.parsed(reader)?.unwrap_or_default(),
            Field::Title => self.draft.title = self.text(reader)?,
            Field::Message => self.draft.message = self.text(reader)?,
            Field::Source => self.draft.has_source = self.optional_section(reader, Section::Source)?,
            Field::Context => _ = self.optional_section(reader, Section::Context)?,
            Field::Metrics => _ = self.optional_section(reader, Section::Metrics)?,
            Field::Error => _ = self.optional_section(reader, Section::Error)?,
            Field::Payload => self.draft.payload = self.object(reader)?,
            Field::Metadata => self.draft.metadata = self.object(reader)?,
            Field::Service => self.draft.source.service = self.text(reader)?,
            Field::Endpoint => self.draft.source.endpoint = self.text(reader)?,
            Field::Method => self.draft.source.method = self.text(reader)?,
            Field::Version => self.draft.source.version = self.text(reader)?,
            Field::Environment => self.draft.source.environment = self.text(reader)?,
            Field::UserId => self.draft.context.user_id = self.text(reader)?,
            Field::SessionId => self.draft.context.session_id = self.text(reader)?,
            Field::RequestId => self.draft.context.request_id = self.text(reader)?,
            Field::IpAddress => self.draft.context.ip_address = self.text(reader)?,
            Field::UserAgent => self.draft.context.user_agent = self.text(reader)?,
            Field::Referrer => self.draft.context.referrer = self.text(reader)?,
            Field::Tags => self.tags(reader)?,
            Field::ResponseTimeMs => self.draft.metrics.response_time_ms = self.number(reader)?,
            Field::StatusCode => {
                // What does not fit becomes a number that the rules refuse.
                let code = self.whole_number(reader)?;
                self.draft.metrics.status_code = code.map(|code| u16::try_from(code).unwrap_or(u16::MAX));
            }
            Field::RequestSizeBytes => self.draft.metrics.request_size_bytes = self.whole_number(reader)?,
            Field::ResponseSizeBytes => self.draft.metrics.response_size_bytes = self.whole_number(reader)?,
            Field::CacheHit => self.draft.metrics.cache_hit = self.boolean(reader)?,
            Field::ErrorCode => self.draft.error.code = self.text(reader)?,
            Field::ErrorMessage => self.draft.error.message = self.text(reader)?,
            Field::ErrorType => self.draft.error.error_type = self.text(reader)?,
            Field::StackTrace => self.draft.error.stack_trace = self.text(reader)?,
        }
        Ok(())
    }

    /// Reads an object of fields and returns whether there was one.
    fn optional_section(&mut self, reader: &mut Reader<'_>, section: Section) -> Step<bool> {
        if reader.kind()? == Kind::Object {
            self.section(reader, section)?;
            return Ok(true);
        }
        optional(reader, self.normaliser, "an object")?;
        Ok(false)
    }

    // As for the reader's.
    #[inline(always)]
    fn string<'a>(&mut self, reader: &mut Reader<'a>) -> Step<Option<Cow<'a, str>>> {
        if reader.peek() == Some(b'"') {
            return Ok(Some(reader.string()?.decode()));
        }
        optional(reader, self.normaliser, "a string")?;
        Ok(None)
    }

    #[inline]
    fn text(&mut self, reader: &mut Reader<'_>) -> Step<Option<Text>> {
        Ok(self.string(reader)?.map(|text| Text::from(text.as_ref())))
    }

    /// Reads a string with a form of its own; what has another form is refused for the reason of its error.
    fn parsed<T: FromStr<Err = Error>>(&mut self, reader: &mut Reader<'_>) -> Step<Option<T>> {
        let Some(text) = self.string(reader)? else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                refuse_as(reader, &error)?;
                Ok(None)
            }
        }
    }

    fn object(&mut self, reader: &mut Reader<'_>) -> Step<JsonObject> {
        if reader.kind()? == Kind::Object {
            return self.normaliser.object(reader);
        }
        optional(reader, self.normaliser, "an object")?;
        Ok(JsonObject::default())
    }

    fn number(&mut self, reader: &mut Reader<'_>) -> Step<Option<f64>> {
        if reader.kind()? == Kind::Number {
            // Adding zero takes the sign from a negative zero.
            return Ok(reader.number()?.map(|number| number.value() + 0.0));
        }
        optional(reader, self.normaliser, "a number")?;
        Ok(None)
    }

    /// Reads a whole number, also when it is written with a fraction of zero; below 0 or above 2^64 it becomes the largest number,
    /// which every range refuses.
    fn whole_number(&mut self, reader: &mut Reader<'_>) -> Step<Option<u64>> {
        if reader.kind()? != Kind::Number {
            optional(reader, self.normaliser, "a whole number")?;
            return Ok(None);
        }
        let Some(number) = reader.number()? else { return Ok(None) };
        if let Some(whole) = number.whole() {
            return Ok(Some(whole));
        }
        let value = number.value();
        if value.fract() != 0.0 {
            reader.refuse("wrong_type", "must be a whole number")?;
            return Ok(None);
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; saturates")]
        Ok(Some(if value < 0.0 { u64::MAX } else { value as u64 }))
    }

    fn boolean(&mut self, reader: &mut Reader<'_>) -> Step<Option<bool>> {
        if reader.kind()? == Kind::Bool {
            return reader.boolean().map(Some);
        }
        optional(reader, self.normaliser, "a boolean")?;
        Ok(None)
    }

    fn tags(&mut self, reader: &mut Reader<'_>) -> Step<()> {
        if reader.kind()? != Kind::Object {
            return optional(reader, self.normaliser, "an object");
        }
        if !reader.enter()? {
            return Ok(());
        }
        while let Some(key) = reader.next_key()? {
            if reader.peek() != Some(b'"') {
                wrong_type(reader, self.normaliser, "a string")?;
                continue;
            }
            let value = reader.string()?.decode();
            let tags = &mut self.draft.context.tags;
            // One more than allowed is enough for the rules to refuse them.
            if tags.len() <= self.rules.max_tags && tags.insert(&*key.decode(), &*value).is_some() {
                reader.refuse("duplicate_key", "an object must have each key once")?;
            }
        }
        Ok(())
    }
}

/// Refuses the current value for the reason of an error about one field.
#[cold]
fn refuse_as(reader: &mut Reader<'_>, error: &Error) -> Step<()> {
    for field in error.fields() {
        reader.refuse(field.code.clone(), field.message.clone())?;
    }
    Ok(())
}
