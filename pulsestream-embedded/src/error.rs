//! What can fail below the ports, and how it reaches the caller.

use std::io;
use std::time::Duration;

use pulsestream_core::{Error, ErrorKind, Retry};

/// A failure of the store's own layers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{action} failed, file=`{file}`")]
    Io { action: &'static str, file: String, source: io::Error },
    #[error("stored data is damaged: {reason}, file=`{file}`, offset=`{offset}`")]
    Corrupt { file: String, offset: u64, reason: &'static str },
    #[error("the file was written by a newer version, file=`{file}`, version=`{version}`")]
    Newer { file: String, version: u32 },
    #[error("another process has the folder open, pid=`{pid}`")]
    Locked { pid: u32 },
    #[error("an earlier write to disk failed, so the store takes no more writes until it is opened again")]
    Poisoned,
    #[error("the write reached the disk in part or not at all, and a sync failed")]
    SyncFailed { file: String, source: io::Error },
    #[error("the store is closed")]
    Closed,
    #[error("{queue} is full")]
    Full { queue: &'static str },
    #[error("{what} is larger than its limit, bytes=`{bytes}`, limit=`{limit}`")]
    TooLarge { what: &'static str, bytes: usize, limit: usize },
    #[error("nobody waits for the answer")]
    GivenUp,
    #[error("the question took longer than `query_timeout`")]
    Late { timeout: Duration },
    #[error("the question takes up more than `query_bytes`, bytes=`{bytes}`, limit=`{limit}`")]
    TooMuchHeld { bytes: usize, limit: usize },
    #[error(transparent)]
    Core(#[from] Error),
}

pub(crate) type FaultResult<T> = Result<T, Fault>;

impl Fault {
    /// Wraps an I/O error with what was being done to which file.
    pub(crate) fn io(action: &'static str, file: &str, source: io::Error) -> Self {
        Self::Io { action, file: file.to_owned(), source }
    }

    /// Reports damage at `offset` of `file`.
    pub(crate) fn corrupt(file: &str, offset: u64, reason: &'static str) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, reason }
    }

    /// Returns whether the disk or the quota is full.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if classify(source).0 == ErrorKind::StorageFull)
    }

    /// Returns a copy for a second waiter of the same group commit; the cause keeps its kind and text.
    pub(crate) fn share(&self) -> Self {
        let copy = |source: &io::Error| match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(source.kind(), source.to_string()),
        };
        match self {
            Self::Io { action, file, source } => {
                Self::Io { action, file: file.clone(), source: copy(source) }
            }
            Self::Corrupt { file, offset, reason } => {
                Self::Corrupt { file: file.clone(), offset: *offset, reason }
            }
            Self::Newer { file, version } => Self::Newer { file: file.clone(), version: *version },
            Self::Locked { pid } => Self::Locked { pid: *pid },
            Self::Poisoned => Self::Poisoned,
            Self::SyncFailed { file, source } => {
                Self::SyncFailed { file: file.clone(), source: copy(source) }
            }
            Self::Closed => Self::Closed,
            Self::Full { queue } => Self::Full { queue },
            Self::TooLarge { what, bytes, limit } => Self::TooLarge { what, bytes: *bytes, limit: *limit },
            Self::GivenUp => Self::GivenUp,
            Self::Late { timeout } => Self::Late { timeout: *timeout },
            Self::TooMuchHeld { bytes, limit } => Self::TooMuchHeld { bytes: *bytes, limit: *limit },
            Self::Core(error) => {
                Self::Core(Error::new(error.kind(), error.operation(), error.message().to_owned()))
            }
        }
    }

    /// Turns the fault into the public error of `operation`.
    pub(crate) fn during(self, operation: &'static str) -> Error {
        let make = |kind, message: &'static str| Error::new(kind, operation, message);
        match self {
            Self::Core(error) => error,
            Self::Io { action, file, source } => {
                let (kind, message) = classify(&source);
                make(kind, message)
                    .with_context("action", action)
                    .with_context("file", file)
                    .with_context("cause", &source)
                    .with_source(source)
            }
            Self::Corrupt { file, offset, reason } => make(ErrorKind::Corrupt, "stored data is damaged")
                .with_context("file", file)
                .with_context("offset", offset)
                .with_context("reason", reason),
            Self::Newer { file, version } => {
                make(ErrorKind::Unsupported, "the folder was written by a newer version of the library")
                    .with_context("file", file)
                    .with_context("version", version)
            }
            Self::Locked { pid } => make(
                ErrorKind::StoreLocked,
                "another process has the folder open: stop it, or open another folder",
            )
            .with_context("pid", pid),
            Self::Poisoned => make(
                ErrorKind::Unavailable,
                "an earlier write to disk failed, so the store takes no more writes until it is opened again",
            )
            .with_retry(Retry::Never),
            Self::SyncFailed { file, source } => make(
                ErrorKind::OutcomeUnknown,
                "the disk did not confirm the write: open the store again and retry",
            )
            .with_context("file", file)
            .with_context("cause", &source)
            .with_source(source),
            Self::Closed => make(ErrorKind::Closed, "the store is closed"),
            Self::Full { queue } => make(ErrorKind::Unavailable, "overloaded: a queue is full")
                .with_context("queue", queue)
                .with_retry(Retry::After(Duration::from_millis(100))),
            Self::TooLarge { what, bytes, limit } => make(ErrorKind::TooLarge, "larger than the limit")
                .with_context("what", what)
                .with_context("bytes", bytes)
                .with_context("limit", limit),
            Self::GivenUp => make(ErrorKind::Timeout, "nobody waits for the answer"),
            Self::Late { timeout } => make(
                ErrorKind::Timeout,
                "the question took too long; narrow the range or the filter, or raise the setting",
            )
            .with_context("setting", "query_timeout")
            .with_context("timeout_ms", timeout.as_millis()),
            Self::TooMuchHeld { bytes, limit } => make(
                ErrorKind::TooLarge,
                "the question takes up too much memory; narrow the range, group by less, or raise the setting",
            )
            .with_context("setting", "query_bytes")
            .with_context("bytes", bytes)
            .with_context("limit", limit),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        fault.during("embedded")
    }
}

fn classify(source: &io::Error) -> (ErrorKind, &'static str) {
    if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return (ErrorKind::Forbidden, "a symbolic link stands where a file belongs");
    }
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::StorageFull, "the disk or the quota is full")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Forbidden, "the operating system refuses access to the folder")
        }
        _ => (ErrorKind::Unavailable, "the disk refused an operation"),
    }
}
