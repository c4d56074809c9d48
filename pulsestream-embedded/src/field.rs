//! The fields of an event as columns, with the numbers they have on disk.

use pulsestream_core::event::FieldPath;

macro_rules! text_fields {
    ($($variant:ident = $number:literal $(, $path:ident)?;)*) => {
        /// A field that holds text, or bytes that only this crate reads.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub(crate) enum TextField {
            $($variant = $number,)*
        }

        impl TextField {
            pub(crate) const ALL: [Self; TEXT_FIELDS] = [$(Self::$variant,)*];

            /// Returns the field of a path with a fixed name.
            pub(crate) fn of(path: &FieldPath) -> Option<Self> {
                match path {
                    $($(FieldPath::$path => Some(Self::$variant),)?)*
                    _ => None,
                }
            }

            /// Returns the path, unless the field holds a tree of values.
            pub(crate) fn path(self) -> Option<FieldPath> {
                match self {
                    $($(Self::$variant => Some(FieldPath::$path),)?)*
                    _ => None,
                }
            }
        }
    };
}

/// Number of text fields.
pub(crate) const TEXT_FIELDS: usize = 21;

// The numbers are part of the format; a new field gets a new number.
text_fields! {
    EventType = 0, EventType;
    Title = 1, Title;
    Message = 2, Message;
    SourceService = 3, SourceService;
    SourceEndpoint = 4, SourceEndpoint;
    SourceMethod = 5, SourceMethod;
    SourceVersion = 6, SourceVersion;
    SourceEnvironment = 7, SourceEnvironment;
    UserId = 8, UserId;
    SessionId = 9, SessionId;
    RequestId = 10, RequestId;
    IpAddress = 11, IpAddress;
    UserAgent = 12, UserAgent;
    Referrer = 13, Referrer;
    ErrorCode = 14, ErrorCode;
    ErrorMessage = 15, ErrorMessage;
    ErrorType = 16, ErrorType;
    ErrorStackTrace = 17, ErrorStackTrace;
    Tags = 18;
    Payload = 19;
    Metadata = 20;
}

impl TextField {
    /// Returns whether values are mostly different and long, so that a filter looks at them last and row by row.
    pub(crate) fn is_wide(self) -> bool {
        matches!(
            self,
            Self::Title
                | Self::Message
                | Self::RequestId
                | Self::ErrorMessage
                | Self::ErrorStackTrace
                | Self::Tags
                | Self::Payload
                | Self::Metadata
        )
    }

    /// Returns the index in an array of [`TEXT_FIELDS`] elements.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// A field that holds a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum NumberField {
    ResponseTimeMs = 0,
    StatusCode = 1,
    RequestSizeBytes = 2,
    ResponseSizeBytes = 3,
    CacheHit = 4,
}

/// Number of number fields.
pub(crate) const NUMBER_FIELDS: usize = 5;

impl NumberField {
    pub(crate) const ALL: [Self; NUMBER_FIELDS] = [
        Self::ResponseTimeMs,
        Self::StatusCode,
        Self::RequestSizeBytes,
        Self::ResponseSizeBytes,
        Self::CacheHit,
    ];

    /// Returns the field of a path.
    pub(crate) fn of(path: &FieldPath) -> Option<Self> {
        match path {
            FieldPath::ResponseTimeMs => Some(Self::ResponseTimeMs),
            FieldPath::StatusCode => Some(Self::StatusCode),
            FieldPath::RequestSizeBytes => Some(Self::RequestSizeBytes),
            FieldPath::ResponseSizeBytes => Some(Self::ResponseSizeBytes),
            FieldPath::CacheHit => Some(Self::CacheHit),
            _ => None,
        }
    }

    /// Returns the index in an array of [`NUMBER_FIELDS`] elements.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// A field that every row has and that holds an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum IntField {
    Timestamp = 0,
    ReceivedAt = 1,
    Position = 2,
    Severity = 3,
}

impl IntField {
    pub(crate) const ALL: [Self; 4] = [Self::Timestamp, Self::ReceivedAt, Self::Position, Self::Severity];
}
