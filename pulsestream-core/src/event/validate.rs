//! The rules that every event meets before it is stored.

use std::time::Duration;

use super::schema::{Dialect, Field, Length, V1_EVENT_TYPES};
use super::{Event, JsonObject, Metrics, nearest_of};
use crate::error::FieldError;
use crate::text::Text;
use crate::time::{Timestamp, format_duration};

/// The longest event type, in bytes.
pub const MAX_EVENT_TYPE_BYTES: usize = 100;

/// The longest name of a tag, in characters.
pub const MAX_TAG_NAME_CHARS: usize = 200;

/// The longest value of a tag, in characters.
pub const MAX_TAG_VALUE_CHARS: usize = 2_000;

/// The largest size in bytes that an event may state: up to it every integer is a double of its own.
pub const MAX_STATED_BYTES: u64 = 1 << 53;

/// What an event must meet. `Settings` makes one for each dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRules {
    /// How pointers are spelled, which fields are required, and how long texts may be.
    pub dialect: Dialect,
    /// The largest payload, and the largest metadata, in bytes of normal form.
    pub max_payload_bytes: usize,
    /// The largest number of tags.
    pub max_tags: usize,
    /// How far a timestamp may lie ahead of now.
    pub future_skew: Duration,
    /// The oldest timestamp.
    pub oldest: Timestamp,
}

impl EventRules {
    /// Checks everything about an event and returns all that is wrong with it.
    pub fn check(&self, event: &Event, now: Timestamp) -> Vec<FieldError> {
        self.check_all(event, now, true)
    }

    /// Does the same for an event that was read from JSON, whose strings hold no NUL: the reader refuses them.
    pub(super) fn check_read(&self, event: &Event, now: Timestamp) -> Vec<FieldError> {
        self.check_all(event, now, false)
    }

    fn check_all(&self, event: &Event, now: Timestamp, may_hold_nul: bool) -> Vec<FieldError> {
        let mut check = Check { rules: self, may_hold_nul, errors: Vec::new() };
        check.id_and_type(event);
        check.timestamp(event.timestamp, now);
        check.texts(event);
        check.tags(event);
        check.metrics(&event.metrics);
        check.json(Field::Payload, &event.payload);
        check.json(Field::Metadata, &event.metadata);
        check.errors
    }
}

struct Check<'r> {
    rules: &'r EventRules,
    may_hold_nul: bool,
    errors: Vec<FieldError>,
}

impl Check<'_> {
    #[cold]
    fn refuse(&mut self, field: Field, code: &'static str, message: impl Into<String>) {
        self.errors.push(FieldError::new(field.pointer(self.rules.dialect), code, message));
    }

    fn id_and_type(&mut self, event: &Event) {
        self.text(Field::Id, event.id.as_str());
        self.text(Field::EventType, &event.event_type);
        match self.rules.dialect {
            Dialect::Strict if (1..=MAX_EVENT_TYPE_BYTES).contains(&event.event_type.len()) => {}
            Dialect::Strict => {
                let message = format!("must have 1 to {MAX_EVENT_TYPE_BYTES} bytes");
                self.refuse(Field::EventType, "length", message);
            }
            Dialect::V1 if V1_EVENT_TYPES.contains(&event.event_type.as_str()) => {}
            Dialect::V1 => {
                let mut message = format!("must be one of {}", V1_EVENT_TYPES.join(", "));
                if let Some(near) = nearest_of(&event.event_type, V1_EVENT_TYPES.into_iter()) {
                    message.push_str(&format!("; did you mean `{near}`"));
                }
                self.refuse(Field::EventType, "unknown_value", message);
            }
        }
    }

    fn timestamp(&mut self, at: Timestamp, now: Timestamp) {
        let rules = self.rules;
        if at > now.plus(rules.future_skew) {
            let skew = format_duration(rules.future_skew);
            self.refuse(
                Field::Timestamp,
                "in_the_future",
                format!("must be at most {skew} ahead of now, {now}"),
            );
        }
        if at < rules.oldest {
            self.refuse(Field::Timestamp, "too_old", format!("must not be before {}", rules.oldest));
        }
    }

    fn texts(&mut self, event: &Event) {
        let is_v1 = self.rules.dialect == Dialect::V1;
        let source = &event.source;
        for (field, text, required) in [
            (Field::Title, &event.title, is_v1),
            (Field::Service, &source.service, is_v1),
            (Field::Endpoint, &source.endpoint, is_v1),
            (Field::Method, &source.method, is_v1),
        ] {
            if required && text.is_none() {
                self.refuse(field, "required", "is required");
            }
            self.optional(field, text);
        }
        let context = &event.context;
        self.optional(Field::Message, &event.message);
        self.optional(Field::Version, &source.version);
        self.optional(Field::Environment, &source.environment);
        self.optional(Field::UserId, &context.user_id);
        self.optional(Field::SessionId, &context.session_id);
        self.optional(Field::RequestId, &context.request_id);
        self.optional(Field::IpAddress, &context.ip_address);
        self.optional(Field::UserAgent, &context.user_agent);
        self.optional(Field::Referrer, &context.referrer);
        if let Some(error) = event.error.as_deref() {
            self.optional(Field::ErrorCode, &error.code);
            self.optional(Field::ErrorMessage, &error.message);
            self.optional(Field::ErrorType, &error.error_type);
            self.optional(Field::StackTrace, &error.stack_trace);
        }
    }

    #[inline]
    fn optional(&mut self, field: Field, text: &Option<Text>) {
        if let Some(text) = text {
            self.text(field, text);
        }
    }

    #[inline]
    fn text(&mut self, field: Field, text: &str) {
        let length = field.length(self.rules.dialect);
        if !has_length(text, length) {
            self.refuse(field, "length", length_message(length));
        }
        if self.may_hold_nul && holds_nul(text) {
            self.refuse(field, "nul_character", "must not hold the NUL character");
        }
    }

    fn tags(&mut self, event: &Event) {
        let tags = &event.context.tags;
        if tags.len() > self.rules.max_tags {
            self.refuse(Field::Tags, "too_many", format!("must have at most {} tags", self.rules.max_tags));
            return;
        }
        for (name, value) in tags.iter() {
            for (part, text, max) in
                [("name", name, MAX_TAG_NAME_CHARS), ("value", value, MAX_TAG_VALUE_CHARS)]
            {
                let length = Length { min: usize::from(part == "name"), max };
                if !has_length(text, length) {
                    self.refuse_tag(name, "length", format!("its {part} {}", length_message(length)));
                }
                if self.may_hold_nul && holds_nul(text) {
                    self.refuse_tag(
                        name,
                        "nul_character",
                        format!("its {part} must not hold the NUL character"),
                    );
                }
            }
        }
    }

    #[cold]
    fn refuse_tag(&mut self, name: &str, code: &'static str, message: String) {
        let mut pointer = Field::Tags.pointer(self.rules.dialect).to_owned();
        super::json::push_segment(&mut pointer, name);
        self.errors.push(FieldError::new(pointer, code, message));
    }

    fn metrics(&mut self, metrics: &Metrics) {
        if metrics.response_time_ms.is_some_and(|value| !value.is_finite() || value < 0.0) {
            self.refuse(Field::ResponseTimeMs, "out_of_range", "must be a finite number of at least 0");
        }
        if metrics.status_code.is_some_and(|code| !(100..=599).contains(&code)) {
            self.refuse(Field::StatusCode, "out_of_range", "must be between 100 and 599");
        }
        for (field, size) in [
            (Field::RequestSizeBytes, metrics.request_size_bytes),
            (Field::ResponseSizeBytes, metrics.response_size_bytes),
        ] {
            if size.is_some_and(|size| size > MAX_STATED_BYTES) {
                self.refuse(field, "out_of_range", "must be between 0 and 2^53");
            }
        }
    }

    fn json(&mut self, field: Field, object: &JsonObject) {
        let max = self.rules.max_payload_bytes;
        if object.as_str().len() > max {
            self.refuse(field, "too_large", format!("must have at most {max} bytes"));
        }
    }
}

/// Compares the number of characters, which are counted only when the number of bytes leaves it open.
#[inline]
fn has_length(text: &str, length: Length) -> bool {
    (text.len() <= length.max || text.chars().count() <= length.max) && (length.min == 0 || !text.is_empty())
}

/// Eight bytes at a time: this is asked of every text of every event.
#[inline]
fn holds_nul(text: &str) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let in_word = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        word.wrapping_sub(ONES) & !word & (ONES << 7) != 0
    };
    words.iter().any(in_word) || rest.contains(&0)
}

fn length_message(length: Length) -> String {
    let Length { min, max } = length;
    if min == 0 {
        format!("must have at most {max} characters")
    } else {
        format!("must have {min} to {max} characters")
    }
}
