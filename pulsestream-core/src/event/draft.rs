//! An event while it is read.

use std::str::FromStr;

use super::json::{Kind, Normaliser, Reader, Step};
use super::new_ids::NewIds;
use super::schema::{Dialect, Field, KeyOrder, Section};
use super::{ErrorDetails, Event, EventRules, JsonObject, nearest_of};
use crate::error::{Error, FieldError, Result};
use crate::id::EventId;
use crate::text::Text;
use crate::time::Timestamp;

/// An event of which nothing is known yet.
pub(super) fn blank() -> Event {
    Event::new(EventId::unset(), Text::default(), Timestamp::default())
}

/// Which fields were there, of those that the event itself does not tell apart from a default.
#[derive(Debug, Default)]
pub(super) struct Found {
    id: bool,
    event_type: bool,
    source: bool,
    timestamp: Option<Timestamp>,
    event_timestamp: Option<Timestamp>,
}

impl Found {
    /// Reads one event into a blank one, which stays where it is: an event is large, and moving it takes as long as reading some of
    /// its fields. What is refused is with the reader.
    pub(super) fn read(
        event: &mut Event,
        reader: &mut Reader<'_>,
        normaliser: &mut Normaliser,
        order: &mut KeyOrder,
        rules: &EventRules,
    ) -> Step<Self> {
        let mut found = Self::default();
        match reader.kind()? {
            Kind::Object => Reading { event, found: &mut found, normaliser, order, rules, seen: 0 }
                .section(reader, Section::Event)?,
            other => {
                reader.refuse(
                    "wrong_type",
                    format!("an event must be an object, found {}", other.described()),
                )?;
                normaliser.ignore(reader)?;
            }
        }
        Ok(found)
    }

    /// Fills in what the client left out, checks the whole, and returns everything that is wrong with it.
    pub(super) fn finish(
        self,
        event: &mut Event,
        mut errors: Vec<FieldError>,
        rules: &EventRules,
        ids: &mut NewIds,
        now: Timestamp,
        default_id: Option<&EventId>,
    ) -> Result<Vec<FieldError>> {
        let dialect = rules.dialect;
        if errors.first().is_some_and(|error| error.pointer.is_empty()) {
            return Ok(errors);
        }
        for (field, missing) in
            [(Field::EventType, !self.event_type), (Field::Source, dialect == Dialect::V1 && !self.source)]
        {
            if missing && !is_reported(&errors, field.pointer(dialect)) {
                errors.push(FieldError::new(field.pointer(dialect), "required", "is required"));
            }
        }
        if !self.id {
            event.id = match default_id {
                Some(id) => id.clone(),
                None if errors.is_empty() => ids.take()?,
                None => EventId::from_u128(0),
            };
        }
        let named_otherwise = self.timestamp.is_none() && self.event_timestamp.is_some();
        event.timestamp = self.timestamp.or(self.event_timestamp).unwrap_or(now);
        event.received_at = now;
        event.error.take_if(|error| **error == ErrorDetails::default());
        for mut error in rules.check_read(event, now) {
            if named_otherwise && error.pointer == Field::Timestamp.pointer(dialect) {
                error.pointer = Field::EventTimestamp.pointer(dialect).to_owned();
            }
            if !is_reported(&errors, &error.pointer) {
                errors.push(error);
            }
        }
        Ok(errors)
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
    event: &'d mut Event,
    found: &'d mut Found,
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
            match key.with(|key| section.field(dialect, key, &mut place, self.order)) {
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
                        refuse_unknown(reader, &key.decode(), names.collect::<Vec<_>>().into_iter())?;
                    }
                    self.normaliser.ignore(reader)?;
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, reader: &mut Reader<'_>, field: Field) -> Step<()> {
        match field {
            Field::Id => {
                if let Some(id) = self.parsed(reader)? {
                    (self.event.id, self.found.id) = (id, true);
                }
            }
            Field::EventType => {
                let event_type = string(reader, self.normaliser, |text| Text::from(text))?;
                if let Some(event_type) = event_type {
                    (self.event.event_type, self.found.event_type) = (event_type, true);
                }
            }
            Field::Timestamp => self.found.timestamp = self.parsed(reader)?,
            Field::EventTimestamp => self.found.event_timestamp = self.parsed(reader)?,
            Field::Severity => self.event.severity = self.parsed(reader)?.unwrap_or_default(),
            Field::Title => text(reader, self.normaliser, &mut self.event.title)?,
            Field::Message => text(reader, self.normaliser, &mut self.event.message)?,
            Field::Source => self.found.source = self.optional_section(reader, Section::Source)?,
            Field::Context => _ = self.optional_section(reader, Section::Context)?,
            Field::Metrics => _ = self.optional_section(reader, Section::Metrics)?,
            Field::Error => _ = self.optional_section(reader, Section::Error)?,
            Field::Payload => self.event.payload = self.object(reader)?,
            Field::Metadata => self.event.metadata = self.object(reader)?,
            Field::Service => text(reader, self.normaliser, &mut self.event.source.service)?,
            Field::Endpoint => text(reader, self.normaliser, &mut self.event.source.endpoint)?,
            Field::Method => text(reader, self.normaliser, &mut self.event.source.method)?,
            Field::Version => text(reader, self.normaliser, &mut self.event.source.version)?,
            Field::Environment => text(reader, self.normaliser, &mut self.event.source.environment)?,
            Field::UserId => text(reader, self.normaliser, &mut self.event.context.user_id)?,
            Field::SessionId => text(reader, self.normaliser, &mut self.event.context.session_id)?,
            Field::RequestId => text(reader, self.normaliser, &mut self.event.context.request_id)?,
            Field::IpAddress => text(reader, self.normaliser, &mut self.event.context.ip_address)?,
            Field::UserAgent => text(reader, self.normaliser, &mut self.event.context.user_agent)?,
            Field::Referrer => text(reader, self.normaliser, &mut self.event.context.referrer)?,
            Field::Tags => self.tags(reader)?,
            Field::ResponseTimeMs => self.event.metrics.response_time_ms = self.number(reader)?,
            Field::StatusCode => {
                // What does not fit becomes a number that the rules refuse.
                let code = self.whole_number(reader)?;
                self.event.metrics.status_code = code.map(|code| u16::try_from(code).unwrap_or(u16::MAX));
            }
            Field::RequestSizeBytes => self.event.metrics.request_size_bytes = self.whole_number(reader)?,
            Field::ResponseSizeBytes => self.event.metrics.response_size_bytes = self.whole_number(reader)?,
            Field::CacheHit => self.event.metrics.cache_hit = self.boolean(reader)?,
            Field::ErrorCode => {
                text(reader, self.normaliser, &mut self.event.error.get_or_insert_default().code)?
            }
            Field::ErrorMessage => {
                text(reader, self.normaliser, &mut self.event.error.get_or_insert_default().message)?
            }
            Field::ErrorType => {
                text(reader, self.normaliser, &mut self.event.error.get_or_insert_default().error_type)?
            }
            Field::StackTrace => {
                text(reader, self.normaliser, &mut self.event.error.get_or_insert_default().stack_trace)?
            }
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

    /// Reads a string with a form of its own; what has another form is refused for the reason of its error.
    fn parsed<T: FromStr<Err = Error>>(&mut self, reader: &mut Reader<'_>) -> Step<Option<T>> {
        match string(reader, self.normaliser, str::parse)? {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(error)) => {
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
            let tags = &mut self.event.context.tags;
            // One more than allowed is enough for the rules to refuse them.
            if tags.len() <= self.rules.max_tags && tags.insert(&*key.decode(), &*value).is_some() {
                reader.refuse("duplicate_key", "an object must have each key once")?;
            }
        }
        Ok(())
    }
}

/// Hands over a string; `None` where there is none.
// As for the reader's.
#[inline(always)]
fn string<T>(
    reader: &mut Reader<'_>,
    normaliser: &mut Normaliser,
    visit: impl FnOnce(&str) -> T,
) -> Step<Option<T>> {
    if reader.peek() == Some(b'"') {
        return Ok(Some(reader.string()?.with(visit)));
    }
    optional(reader, normaliser, "a string")?;
    Ok(None)
}

/// Reads a string into its place, which is empty.
fn text(reader: &mut Reader<'_>, normaliser: &mut Normaliser, slot: &mut Option<Text>) -> Step<()> {
    string(reader, normaliser, |text| Text::write(slot, text))?;
    Ok(())
}

/// Refuses the current value for the reason of an error about one field.
#[cold]
fn refuse_as(reader: &mut Reader<'_>, error: &Error) -> Step<()> {
    for field in error.fields() {
        reader.refuse(field.code.clone(), field.message.clone())?;
    }
    Ok(())
}
