//! The one public error type and what a caller should do about it.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A specialised `Result` for PulseStream operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms of what the caller should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is wrong as it stands: correct it, using [`Error::fields`].
    Invalid,
    /// No such thing for this tenant: check the id. Another tenant's id answers the same.
    NotFound,
    /// Something else has that name, or changed since it was read: read again and decide.
    Conflict,
    /// Credentials are missing, wrong or expired: sign in again.
    Unauthenticated,
    /// The caller is known and may not do this: ask for a role or a scope.
    Forbidden,
    /// Too many requests: wait for [`Error::retry`], then send again.
    RateLimited,
    /// A named limit in `Settings` was exceeded: send less, or raise the limit.
    TooLarge,
    /// A dependency or a bounded queue cannot take the work now: retry after the stated time.
    Unavailable,
    /// The deadline passed and the operation had no effect: retry, or ask for less.
    Timeout,
    /// The reply was lost, so the effect is unknown: retry with the same ids, which is safe.
    OutcomeUnknown,
    /// The backend cannot do this: see its `capabilities()`.
    Unsupported,
    /// The disk or the quota is full: free space, then retry.
    StorageFull,
    /// Another process owns the store: stop it, or open another folder.
    StoreLocked,
    /// Stored data failed its checksum: restore from a snapshot, see `pulsestream doctor`.
    Corrupt,
    /// A newer holder of the lease exists: stop working on that partition.
    Fenced,
    /// The component was closed: open it again.
    Closed,
    /// A defect or an unexpected failure: report it with the message.
    Internal,
}

impl ErrorKind {
    /// Returns the stable snake_case name of the kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Unsupported => "unsupported",
            Self::StorageFull => "storage_full",
            Self::StoreLocked => "store_locked",
            Self::Corrupt => "corrupt",
            Self::Fenced => "fenced",
            Self::Closed => "closed",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether sending the same request again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It cannot: the answer will be the same.
    Never,
    /// It can, after this long.
    After(Duration),
    /// It may: back off and try.
    Maybe,
    /// It was tried often enough already.
    Exhausted,
}

/// One field that was refused, with its place in the document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) to the value, for example `/metrics/status_code`; empty for the whole document.
    pub pointer: String,
    /// Stable snake_case code, for example `out_of_range`.
    pub code: Cow<'static, str>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl FieldError {
    /// Creates a field error.
    pub fn new(
        pointer: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { pointer: pointer.into(), code: code.into(), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "document" } else { self.pointer.as_str() };
        write!(f, "{place}: {}", self.message)
    }
}

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    operation: &'static str,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    fields: Vec<FieldError>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The error of every PulseStream operation: a kind, whether a retry helps, what was being done, and why it failed.
pub struct Error(Box<Inner>);

impl Error {
    /// Creates an error of `kind` while doing `operation` (a dotted name such as `event_store.append`).
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let retry = match kind {
            ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::OutcomeUnknown
            | ErrorKind::RateLimited
            | ErrorKind::StorageFull => Retry::Maybe,
            _ => Retry::Never,
        };
        Self(Box::new(Inner {
            kind,
            retry,
            operation,
            message: message.into(),
            context: Vec::new(),
            fields: Vec::new(),
            source: None,
        }))
    }

    /// Creates an [`ErrorKind::Invalid`] error that carries every refused field.
    pub fn invalid_fields(operation: &'static str, fields: Vec<FieldError>) -> Self {
        let message = match fields.as_slice() {
            // What is refused is refused whole: there is no place to name.
            [only] if only.pointer.is_empty() => Cow::Owned(only.message.clone()),
            [only] => Cow::Owned(only.to_string()),
            many => Cow::Owned(format!("{} fields are refused", many.len())),
        };
        let mut error = Self::new(ErrorKind::Invalid, operation, message);
        error.0.fields = fields;
        error
    }

    /// Creates an [`ErrorKind::Invalid`] error for one field.
    pub fn invalid(
        operation: &'static str,
        pointer: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self::invalid_fields(operation, vec![FieldError::new(pointer, code, message)])
    }

    /// Adds a key and a value that help to find the cause; secrets must not be given.
    #[must_use]
    pub fn with_context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Adds one refused field and keeps the message.
    #[must_use]
    pub fn with_field(mut self, field: FieldError) -> Self {
        self.0.fields.push(field);
        self
    }

    /// Says whether and when to retry.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Attaches the underlying cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns what kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether sending the same request again can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Returns how long to wait before a retry, when that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.0.retry {
            Retry::After(duration) => Some(duration),
            _ => None,
        }
    }

    /// Returns the dotted name of what was being done.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// Returns the message without its context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the keys and values that were attached.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// Returns the refused fields of an [`ErrorKind::Invalid`] error.
    pub fn fields(&self) -> &[FieldError] {
        &self.0.fields
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.operation, self.0.message)?;
        for (key, value) in &self.0.context {
            write!(f, ", {key}=`{value}`")?;
        }
        if self.0.fields.len() > 1 {
            for field in &self.0.fields {
                write!(f, "; {field}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("retry", &self.0.retry)
            .field("operation", &self.0.operation)
            .field("message", &self.0.message)
            .field("context", &self.0.context)
            .field("fields", &self.0.fields)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_puts_variables_last() {
        let error = Error::new(ErrorKind::NotFound, "rules.get", "no such rule").with_context("rule", 7);
        assert_eq!(error.to_string(), "rules.get: no such rule, rule=`7`");
        assert_eq!(error.retry(), Retry::Never);
    }

    #[test]
    fn invalid_lists_every_field() {
        let error = Error::invalid_fields(
            "ingest",
            vec![
                FieldError::new("/title", "required", "is required"),
                FieldError::new("", "depth", "too deep"),
            ],
        );
        assert_eq!(
            error.to_string(),
            "ingest: 2 fields are refused; /title: is required; document: too deep"
        );
        let one = |pointer| Error::invalid("rules.put", pointer, "length", "must not be empty");
        assert_eq!(one("/title").message(), "/title: must not be empty");
        assert_eq!(one("").message(), "must not be empty");
    }
}
