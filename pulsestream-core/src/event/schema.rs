//! The fields of an event as they are spelled and limited on the wire.

use crate::text::same;

/// Which spelling and which limits an event follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The names of [`Event`](super::Event); a field that is not known is refused with the nearest name.
    #[default]
    Strict,
    /// The names, required fields and tighter limits of `/api/v1`; a field that is not known is ignored.
    V1,
}

/// The event types of `/api/v1`.
pub const V1_EVENT_TYPES: [&str; 5] =
    ["api_call", "user_action", "system_event", "error_event", "custom_event"];

/// An object that holds fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Event,
    Source,
    Context,
    Metrics,
    Error,
}

/// How long a text may be, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Length {
    pub(super) min: usize,
    pub(super) max: usize,
}

const fn up_to(max: usize) -> Length {
    Length { min: 0, max }
}

const fn between(min: usize, max: usize) -> Length {
    Length { min, max }
}

/// No text, or a text that is limited by something else than its length.
const ANY: Length = up_to(usize::MAX);

macro_rules! schema {
    ($($section:ident $strict_prefix:literal $v1_prefix:literal {
        $($field:ident $strict:literal ($strict_length:expr) $v1:literal ($v1_length:expr);)*
    })*) => {
        /// A field of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Field {
            $($($field,)*)*
        }

        impl Field {
            /// Returns the key in its object.
            pub(super) const fn name(self, dialect: Dialect) -> &'static str {
                match (self, dialect) {
                    $($((Self::$field, Dialect::Strict) => $strict, (Self::$field, Dialect::V1) => $v1,)*)*
                }
            }

            /// Returns the JSON pointer in the event.
            pub(super) const fn pointer(self, dialect: Dialect) -> &'static str {
                match (self, dialect) {
                    $($(
                        (Self::$field, Dialect::Strict) => concat!($strict_prefix, "/", $strict),
                        (Self::$field, Dialect::V1) => concat!($v1_prefix, "/", $v1),
                    )*)*
                }
            }

            /// Returns how long its text may be.
            pub(super) const fn length(self, dialect: Dialect) -> Length {
                match (self, dialect) {
                    $($(
                        (Self::$field, Dialect::Strict) => $strict_length,
                        (Self::$field, Dialect::V1) => $v1_length,
                    )*)*
                }
            }
        }

        impl Section {
            /// Returns the keys of the fields, in the order of [`Self::fields`].
            const fn names(self, dialect: Dialect) -> &'static [&'static str] {
                match (self, dialect) {
                    $(
                        (Self::$section, Dialect::Strict) => &[$($strict,)*],
                        (Self::$section, Dialect::V1) => &[$($v1,)*],
                    )*
                }
            }

            /// Returns the fields of the object.
            pub(super) const fn fields(self) -> &'static [Field] {
                match self {
                    $(Self::$section => &[$(Field::$field,)*],)*
                }
            }
        }
    };
}

schema! {
    Event "" "" {
        Id "id" (between(1, 128)) "event_id" (between(1, 100));
        EventType "event_type" (ANY) "event_type" (ANY);
        Timestamp "timestamp" (ANY) "timestamp" (ANY);
        Severity "severity" (ANY) "severity" (ANY);
        Title "title" (up_to(1_000)) "title" (between(1, 200));
        Message "message" (up_to(65_536)) "message" (up_to(2_000));
        Source "source" (ANY) "source" (ANY);
        Context "context" (ANY) "context" (ANY);
        Metrics "metrics" (ANY) "metrics" (ANY);
        Error "error" (ANY) "error_details" (ANY);
        Payload "payload" (ANY) "payload" (ANY);
        Metadata "metadata" (ANY) "metadata" (ANY);
        EventTimestamp "event_timestamp" (ANY) "event_timestamp" (ANY);
    }
    Source "/source" "/source" {
        Service "service" (up_to(200)) "service" (between(1, 100));
        Endpoint "endpoint" (up_to(2_000)) "endpoint" (between(1, 500));
        Method "method" (up_to(100)) "method" (between(1, 10));
        Version "version" (up_to(100)) "version" (up_to(20));
        Environment "environment" (up_to(100)) "environment" (up_to(50));
    }
    Context "/context" "/context" {
        UserId "user_id" (up_to(1_000)) "user_id" (up_to(1_000));
        SessionId "session_id" (up_to(1_000)) "session_id" (up_to(1_000));
        RequestId "request_id" (up_to(1_000)) "request_id" (up_to(1_000));
        IpAddress "ip_address" (up_to(100)) "ip_address" (up_to(100));
        UserAgent "user_agent" (up_to(2_000)) "user_agent" (up_to(500));
        Referrer "referrer" (up_to(8_000)) "referrer" (up_to(8_000));
        Tags "tags" (ANY) "tags" (ANY);
    }
    Metrics "/metrics" "/metrics" {
        ResponseTimeMs "response_time_ms" (ANY) "response_time_ms" (ANY);
        StatusCode "status_code" (ANY) "status_code" (ANY);
        RequestSizeBytes "request_size_bytes" (ANY) "request_size_bytes" (ANY);
        ResponseSizeBytes "response_size_bytes" (ANY) "response_size_bytes" (ANY);
        CacheHit "cache_hit" (ANY) "cache_hit" (ANY);
    }
    Error "/error" "/error_details" {
        ErrorCode "code" (up_to(200)) "error_code" (up_to(100));
        ErrorMessage "message" (up_to(65_536)) "error_message" (up_to(1_000));
        ErrorType "type" (up_to(200)) "error_type" (up_to(100));
        StackTrace "stack_trace" (up_to(262_144)) "stack_trace" (up_to(262_144));
    }
}

impl Section {
    /// Returns the fields that the dialect knows.
    pub(super) fn fields_of(self, dialect: Dialect) -> impl Iterator<Item = Field> {
        let is_known = move |field: &Field| dialect == Dialect::V1 || *field != Field::EventTimestamp;
        self.fields().iter().copied().filter(is_known)
    }

    /// Returns the field with this key, which comes after the one at `place`: 0 is the start of the object. Most clients send the
    /// same fields in the same order every time, and then the first comparison succeeds.
    #[inline]
    pub(super) fn field(
        self,
        dialect: Dialect,
        key: &str,
        place: &mut usize,
        order: &mut KeyOrder,
    ) -> Option<Field> {
        let names = self.names(dialect);
        let is_key = |name: &&&str| same(name.as_bytes(), key.as_bytes());
        let guess = &mut order.0[self as usize][*place];
        if names.get(usize::from(*guess)).filter(is_key).is_none() {
            let found = names.iter().position(|name| is_key(&name))?;
            *guess = u8::try_from(found).ok()?;
        }
        let field = self.fields()[usize::from(*guess)];
        *place = usize::from(*guess) + 1;
        (dialect == Dialect::V1 || field != Field::EventTimestamp).then_some(field)
    }
}

/// The most fields of one object.
const MAX_FIELDS: usize = 13;

/// Which field of each object came after which, the last time.
#[derive(Debug)]
pub(super) struct KeyOrder([[u8; MAX_FIELDS + 1]; 5]);

impl Default for KeyOrder {
    /// The order of the documentation.
    fn default() -> Self {
        Self([std::array::from_fn(|place| u8::try_from(place).unwrap_or_default()); 5])
    }
}

const _: () = {
    let sections = [Section::Event, Section::Source, Section::Context, Section::Metrics, Section::Error];
    let mut index = 0;
    while index < sections.len() {
        assert!(sections[index] as usize == index && sections[index].fields().len() <= MAX_FIELDS);
        index += 1;
    }
};
