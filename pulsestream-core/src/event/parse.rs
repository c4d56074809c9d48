//! Reads events from JSON bytes, in one pass and with every error at once.

use std::borrow::Cow;
use std::ops::Deref;

use super::draft::{Found, blank};
use super::json::{Kind, Normaliser, Reader, Step, Stop, utf8};
use super::new_ids::NewIds;
use super::schema::KeyOrder;
use super::{Dialect, Event, EventRules};
use crate::env::Env;
use crate::error::{Error, ErrorKind, FieldError, Result};
use crate::id::EventId;
use crate::text::Text;
use crate::time::Timestamp;

/// Bytes of field errors of one batch that are listed in full; after that each refused event keeps its first.
const MAX_BATCH_ERROR_BYTES: usize = 4 << 20;

/// Places of a body that are not UTF-8 and are attributed to single events; with more the body is refused.
const MAX_UTF8_FAULTS: usize = 10_000;

/// The longest `batch_id` and `source_application`, in characters.
const MAX_LABEL_CHARS: usize = 200;

/// How several events are put into one body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchForm {
    /// `[event, ...]`
    Array,
    /// One event on each line; empty lines are passed over.
    Lines,
    /// `{"events": [event, ...], "batch_id": text, "source_application": text}`, the last two optional.
    Envelope,
}

/// What one body held.
#[derive(Debug, Default)]
pub struct ParsedBatch {
    /// One outcome for each event, in the order of the body; pointers are relative to the event.
    pub events: ParsedEvents,
    /// The client's name for the batch, from an envelope.
    pub batch_id: Option<Text>,
    /// The application that sent it, from an envelope.
    pub source_application: Option<Text>,
}

/// What became of the events of one body: each is valid, or has all its errors. Read them as a slice.
#[derive(Debug, Default)]
pub struct ParsedEvents {
    outcomes: Vec<Result<Event, Vec<FieldError>>>,
    /// What each event met; `None` where nothing was read.
    rules: Option<EventRules>,
}

impl ParsedEvents {
    /// Returns whether every event that is valid here meets these rules.
    pub(crate) fn meets(&self, rules: &EventRules) -> bool {
        self.rules.as_ref() == Some(rules)
    }

    /// Returns the outcomes.
    pub fn into_inner(self) -> Vec<Result<Event, Vec<FieldError>>> {
        self.outcomes
    }
}

impl Deref for ParsedEvents {
    type Target = [Result<Event, Vec<FieldError>>];

    fn deref(&self) -> &Self::Target {
        &self.outcomes
    }
}

impl IntoIterator for ParsedEvents {
    type Item = Result<Event, Vec<FieldError>>;
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.outcomes.into_iter()
    }
}

/// Reads events of one dialect; keeps its buffers from one call to the next.
///
/// An event without an id gets a UUIDv7, one without a timestamp the current time.
#[derive(Debug)]
pub struct EventParser {
    env: Env,
    rules: EventRules,
    max_batch_events: usize,
    normaliser: Normaliser,
    order: KeyOrder,
    ids: NewIds,
}

impl EventParser {
    /// Creates a parser that refuses what `rules` refuse, and batches of more than `max_batch_events` events.
    pub fn new(env: Env, rules: EventRules, max_batch_events: usize) -> Self {
        Self {
            ids: NewIds::new(env.clone()),
            env,
            rules,
            max_batch_events,
            normaliser: Normaliser::default(),
            order: KeyOrder::default(),
        }
    }

    /// Reads one event.
    ///
    /// # Errors
    /// `Invalid` with every field error of the event; `Unavailable` when an id is needed and there is no randomness.
    pub fn event(&mut self, body: &[u8]) -> Result<Event> {
        self.single(body, None)
    }

    /// Reads one event that gets `id` when it has none of its own: reading the same text again gives the same event.
    ///
    /// # Errors
    /// `Invalid` with every field error of the event.
    pub fn event_or_id(&mut self, body: &[u8], id: &EventId) -> Result<Event> {
        self.single(body, Some(id))
    }

    fn single(&mut self, body: &[u8], default_id: Option<&EventId>) -> Result<Event> {
        let (mut event, now) = (blank(), self.env.now());
        let errors = self.text(&mut event, body, now, default_id)?;
        if errors.is_empty() { Ok(event) } else { Err(Error::invalid_fields("event.parse", errors)) }
    }

    /// Reads several events. One refused event does not affect the others, as long as its brackets and quotes close.
    ///
    /// # Errors
    /// `Invalid` when the body as a whole has not the stated form; `TooLarge` when it holds more events than allowed;
    /// `Unavailable` when an id is needed and there is no randomness.
    pub fn batch(&mut self, body: &[u8], form: BatchForm) -> Result<ParsedBatch> {
        self.read_batch(body, form, None)
    }

    /// Reads several events, as [`Self::batch`]; one without an id gets that which `id` returns for its place in the body:
    /// reading the same text again gives the same events.
    ///
    /// # Errors
    /// As for [`Self::batch`].
    pub fn batch_or_ids(
        &mut self,
        body: &[u8],
        form: BatchForm,
        id: &dyn Fn(usize) -> EventId,
    ) -> Result<ParsedBatch> {
        self.read_batch(body, form, Some(id))
    }

    fn read_batch(&mut self, body: &[u8], form: BatchForm, id: Option<IdOfPlace<'_>>) -> Result<ParsedBatch> {
        self.ids.begin_batch();
        let batch = self.read_events(body, form, id);
        self.ids.end_batch();
        batch
    }

    fn read_events(
        &mut self,
        body: &[u8],
        form: BatchForm,
        id: Option<IdOfPlace<'_>>,
    ) -> Result<ParsedBatch> {
        let mut batch = ParsedBatch::default();
        batch.events.rules = Some(self.rules.clone());
        let mut reading = Reading { batch, error_bytes: 0, now: self.env.now(), id };
        if form == BatchForm::Lines {
            for line in body.split(|byte| *byte == b'\n') {
                if !line.trim_ascii().is_empty() {
                    self.ensure_room(&reading)?;
                    reading.add(|event, now, id| self.text(event, line, now, id))?;
                }
            }
            return Ok(reading.batch);
        }
        let body = Body::new(body)?;
        let mut reader = Reader::new(&body.text);
        let mut spans = Vec::new();
        let read = match form {
            BatchForm::Envelope => self.envelope(&mut reader, &mut reading, &mut spans),
            _ => self.elements(&mut reader, &mut reading, &mut spans),
        };
        let read = read.and_then(|()| Ok(reader.end()?));
        match (read, reader.take_refusals()) {
            (Err(Halt::Failed(error)), _) => return Err(error),
            (Ok(()), refusals) if refusals.is_empty() => {}
            (_, refusals) => return Err(Error::invalid_fields("batch.parse", refusals)),
        }
        body.refuse_faults(&spans, &mut reading.batch.events.outcomes)?;
        Ok(reading.batch)
    }

    /// Reads a text that is one event into a blank one, and returns what is wrong with it.
    fn text(
        &mut self,
        event: &mut Event,
        text: &[u8],
        now: Timestamp,
        default_id: Option<&EventId>,
    ) -> Result<Vec<FieldError>> {
        let text = match utf8(text) {
            Ok(text) => text,
            Err(field) => return Ok(vec![field]),
        };
        let mut reader = Reader::new(text);
        let found = self.document(event, &mut reader).and_then(|found| reader.end().map(|()| found));
        self.finish(event, found, &mut reader, now, default_id)
    }

    fn document(&mut self, event: &mut Event, reader: &mut Reader<'_>) -> Step<Found> {
        Found::read(event, reader, &mut self.normaliser, &mut self.order, &self.rules)
    }

    fn finish(
        &mut self,
        event: &mut Event,
        found: Step<Found>,
        reader: &mut Reader<'_>,
        now: Timestamp,
        default_id: Option<&EventId>,
    ) -> Result<Vec<FieldError>> {
        let refusals = reader.take_refusals();
        match found {
            Ok(found) => found.finish(event, refusals, &self.rules, &mut self.ids, now, default_id),
            Err(Stop) => Ok(refusals),
        }
    }

    fn ensure_room(&self, reading: &Reading<'_>) -> Result<()> {
        if reading.batch.events.len() < self.max_batch_events {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TooLarge, "batch.parse", "the batch has more events than max_batch_events")
            .with_context("max_batch_events", self.max_batch_events))
    }

    /// Reads the array of events and notes where each stands.
    fn elements(
        &mut self,
        reader: &mut Reader<'_>,
        reading: &mut Reading<'_>,
        spans: &mut Vec<(usize, usize)>,
    ) -> Result<(), Halt> {
        if reader.peek() != Some(b'[') {
            return Ok(reader.fault("an array of events")?);
        }
        reader.enter()?;
        while reader.next_element()? {
            self.ensure_room(reading)?;
            reader.peek();
            let start = reader.position();
            let mut failed = false;
            reading.add(|event, now, id| {
                let found = reader.as_document(|reader| self.document(event, reader));
                failed = found.is_err();
                self.finish(event, found, reader, now, id)
            })?;
            if failed {
                reader.skip_from(start)?;
            }
            spans.push((start, reader.position()));
            if let [(first, after)] = spans[..] {
                // The others are probably about as long.
                let guess = (reader.left() / (after - first).max(1)).min(self.max_batch_events);
                reading.batch.events.outcomes.reserve(guess);
                spans.reserve(guess);
            }
        }
        Ok(())
    }

    fn envelope(
        &mut self,
        reader: &mut Reader<'_>,
        reading: &mut Reading<'_>,
        spans: &mut Vec<(usize, usize)>,
    ) -> Result<(), Halt> {
        const NAMES: [&str; 3] = ["events", "batch_id", "source_application"];
        if reader.peek() != Some(b'{') {
            return Ok(reader.fault("an object with the key `events`")?);
        }
        let mut seen = [false; NAMES.len()];
        let mut refusals = Vec::new();
        reader.enter()?;
        while let Some(key) = reader.next_key()? {
            let key = key.decode();
            let known = NAMES.iter().position(|name| *name == key);
            if let Some(index) = known
                && std::mem::replace(&mut seen[index], true)
            {
                reader.refuse("duplicate_key", "an object must have each key once")?;
                self.normaliser.ignore(reader)?;
                continue;
            }
            match known {
                Some(0) => {
                    refusals.append(&mut reader.take_refusals());
                    self.elements(reader, reading, spans)?;
                }
                Some(1) => reading.batch.batch_id = self.label(reader)?,
                Some(_) => reading.batch.source_application = self.label(reader)?,
                None => {
                    if self.rules.dialect == Dialect::Strict {
                        super::draft::refuse_unknown(reader, &key, NAMES.into_iter())?;
                    }
                    self.normaliser.ignore(reader)?;
                }
            }
        }
        if !seen[0] {
            refusals.push(FieldError::new("/events", "required", "is required"));
        }
        refusals.append(&mut reader.take_refusals());
        if refusals.is_empty() {
            return Ok(());
        }
        Err(Halt::Failed(Error::invalid_fields("batch.parse", refusals)))
    }

    fn label(&mut self, reader: &mut Reader<'_>) -> Step<Option<Text>> {
        if reader.kind()? == Kind::String {
            let text = reader.string()?.decode();
            if text.chars().count() > MAX_LABEL_CHARS {
                reader.refuse("length", format!("must have at most {MAX_LABEL_CHARS} characters"))?;
            }
            return Ok(Some(Text::from(text.as_ref())));
        }
        super::draft::optional(reader, &mut self.normaliser, "a string")?;
        Ok(None)
    }
}

/// The id of an event that has none of its own, by its place in the body.
type IdOfPlace<'i> = &'i dyn Fn(usize) -> EventId;

/// A batch while it is read.
struct Reading<'i> {
    batch: ParsedBatch,
    error_bytes: usize,
    now: Timestamp,
    id: Option<IdOfPlace<'i>>,
}

impl Reading<'_> {
    /// Adds the event that `read` makes of a blank one, in its place, or everything that is wrong with it. It is given the time and the
    /// id that the event gets when it has none of its own, if ids are not made up.
    fn add(
        &mut self,
        read: impl FnOnce(&mut Event, Timestamp, Option<&EventId>) -> Result<Vec<FieldError>>,
    ) -> Result<()> {
        let outcomes = &mut self.batch.events.outcomes;
        let id = self.id.map(|id| id(outcomes.len()));
        outcomes.push(Ok(blank()));
        let Some(outcome) = outcomes.last_mut() else { return Ok(()) };
        let Ok(event) = outcome else { return Ok(()) };
        let mut fields = read(event, self.now, id.as_ref())?;
        if !fields.is_empty() {
            if self.error_bytes >= MAX_BATCH_ERROR_BYTES {
                fields.truncate(1);
                fields.shrink_to_fit();
            }
            let bytes =
                |field: &FieldError| size_of::<FieldError>() + field.pointer.len() + field.message.len();
            self.error_bytes += fields.iter().map(bytes).sum::<usize>();
            *outcome = Err(fields);
        }
        Ok(())
    }
}

/// Why a batch is not read further.
enum Halt {
    /// The reader holds the reason.
    Stopped,
    /// This is the reason.
    Failed(Error),
}

impl From<Stop> for Halt {
    fn from(_: Stop) -> Self {
        Self::Stopped
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A body as text, with the places where its bytes were none.
struct Body<'b> {
    text: Cow<'b, str>,
    faults: Vec<usize>,
}

impl<'b> Body<'b> {
    fn new(bytes: &'b [u8]) -> Result<Self> {
        let error = match utf8(bytes) {
            Ok(text) => return Ok(Self { text: Cow::Borrowed(text), faults: Vec::new() }),
            Err(field) => field,
        };
        let mut text = String::with_capacity(bytes.len());
        let mut faults = Vec::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                if faults.len() >= MAX_UTF8_FAULTS {
                    return Err(Error::invalid_fields("batch.parse", vec![error]));
                }
                faults.push(text.len());
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Ok(Self { text: Cow::Owned(text), faults })
    }

    /// Refuses the events in whose spans the faults lie; a fault outside of all refuses the body.
    fn refuse_faults(
        &self,
        spans: &[(usize, usize)],
        events: &mut [Result<Event, Vec<FieldError>>],
    ) -> Result<()> {
        for fault in &self.faults {
            let index = spans.partition_point(|(_, end)| end <= fault);
            match (spans.get(index), events.get_mut(index)) {
                (Some((start, _)), Some(event)) if start <= fault => {
                    let message = format!("the event is not UTF-8 from byte {} on", fault - start);
                    match event {
                        Err(fields) if fields.iter().any(|field| field.code == "invalid_utf8") => {}
                        _ => *event = Err(vec![FieldError::new("", "invalid_utf8", message)]),
                    }
                }
                _ => {
                    let message = "the text between the events is not UTF-8";
                    return Err(Error::invalid("batch.parse", "", "invalid_utf8", message));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
