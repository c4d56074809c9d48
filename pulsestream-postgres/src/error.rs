//! What the faults of PostgreSQL mean to a caller.

use std::time::Duration;

use pulsestream_core::error::{Error, ErrorKind, Retry};

/// How long a caller should wait when the server or the pool is short of something that frees itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const REPLY_LOST: &str = "the connection broke before the server answered; the same request again is safe";

/// Why a unit of work failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// sqlx or the server said so.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// The work itself said so.
    #[error("{0}")]
    Typed(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Typed(error)
    }
}

/// How far the work had come, which decides what a broken connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing was changed, or what was changed is rolled back.
    BeforeCommit,
    /// The commit was sent: when the reply is lost, the effect is unknown.
    Commit,
}

impl Fault {
    /// Returns the error for the caller.
    pub(crate) fn into_error(self, operation: &'static str, phase: Phase) -> Error {
        match self {
            Self::Typed(error) => error,
            Self::Sql(error) => from_sqlx(operation, phase, error),
        }
    }

    /// Returns the five characters that name the server's error, when it was the server.
    pub(crate) fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => error.code().map(std::borrow::Cow::into_owned),
            _ => None,
        }
    }

    /// Returns whether two transactions got in each other's way and one of them was chosen to start again.
    pub(crate) fn is_conflict(&self) -> bool {
        self.sqlstate().is_some_and(|code| matches!(code.as_str(), "40001" | "40P01"))
    }

    /// Returns whether the server could not compute with a value, as when a sum exceeds the largest double.
    pub(crate) fn is_data_exception(&self) -> bool {
        self.sqlstate().is_some_and(|code| code.starts_with("22"))
    }

    /// Returns whether the connection is of no further use.
    pub(crate) fn is_broken_connection(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_)) => true,
            Self::Sql(sqlx::Error::Database(_)) => {
                self.sqlstate().is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
            }
            _ => false,
        }
    }
}

/// Converts an error of sqlx.
pub(crate) fn from_sqlx(operation: &'static str, phase: Phase, error: sqlx::Error) -> Error {
    let (kind, message, retry) = match &error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            let (kind, message, retry) = match phase {
                // The server may end a connection after the commit became durable and before it says so.
                Phase::Commit if code.starts_with("57P") || code.starts_with("08") => {
                    (ErrorKind::OutcomeUnknown, REPLY_LOST, Some(Retry::Maybe))
                }
                _ => meaning_of(&code),
            };
            let (constraint, said) =
                (database.constraint().map(str::to_owned), database.message().to_owned());
            let mut converted = Error::new(kind, operation, message).with_context("sqlstate", code);
            if let Some(retry) = retry {
                converted = converted.with_retry(retry);
            }
            if let Some(constraint) = constraint {
                converted = converted.with_context("constraint", constraint);
            }
            return converted.with_context("server", said).with_source(error);
        }
        sqlx::Error::PoolTimedOut => (
            ErrorKind::Unavailable,
            "every connection is busy or the server does not answer",
            Some(Retry::After(RETRY_AFTER)),
        ),
        sqlx::Error::PoolClosed => (ErrorKind::Closed, "the store was closed", None),
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) if phase == Phase::Commit => {
            (ErrorKind::OutcomeUnknown, REPLY_LOST, Some(Retry::Maybe))
        }
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => {
            (ErrorKind::Unavailable, "the connection to the server broke", Some(Retry::After(RETRY_AFTER)))
        }
        sqlx::Error::Tls(_) => {
            (ErrorKind::Unavailable, "no TLS connection to the server", Some(Retry::Maybe))
        }
        sqlx::Error::Configuration(_) => (ErrorKind::Invalid, "the URL of the server is wrong", None),
        _ => (ErrorKind::Internal, "the server's answer was not understood", None),
    };
    let mut converted = Error::new(kind, operation, message);
    if let Some(retry) = retry {
        converted = converted.with_retry(retry);
    }
    converted.with_source(error)
}

/// Returns what an SQLSTATE means (PostgreSQL manual, appendix A).
fn meaning_of(code: &str) -> (ErrorKind, &'static str, Option<Retry>) {
    use ErrorKind as Kind;
    let soon = Some(Retry::After(RETRY_AFTER));
    match code {
        "40001" | "40P01" => (Kind::Unavailable, "too many writers changed the same rows", soon),
        "55P03" => (Kind::Unavailable, "a lock was not free in time", soon),
        "57014" => (Kind::Timeout, "the statement took too long and was cancelled", None),
        "25006" => {
            (Kind::Unavailable, "the server is read-only: a standby, or a primary that was replaced", soon)
        }
        "25P03" | "25P04" => (Kind::Timeout, "the transaction took too long and was ended", None),
        "53100" => (Kind::StorageFull, "the server's disk is full", None),
        "53200" => (Kind::Unavailable, "the server is out of memory", soon),
        "53300" => (Kind::Unavailable, "the server has no free connection", soon),
        "57P01" | "57P02" | "57P05" => (Kind::Unavailable, "the server ended the connection", soon),
        "57P03" => (Kind::Unavailable, "the server is starting or stopping", soon),
        "57P04" => (Kind::Unavailable, "the database was dropped", None),
        "23505" => (Kind::Conflict, "something else has that name", None),
        "23503" => {
            (Kind::Conflict, "something that it refers to is missing, or something refers to it", None)
        }
        "23502" | "23514" | "23P01" => (Kind::Invalid, "a constraint of the schema refuses the value", None),
        "42501" => (Kind::Forbidden, "the database role lacks a privilege", None),
        "28000" | "28P01" => (Kind::Unauthenticated, "the server refuses the role or its password", None),
        "26000" | "42P05" => (
            Kind::Unsupported,
            "a prepared statement belongs to another session: behind a pooler of transactions set `direct_url`",
            None,
        ),
        "3D000" => (Kind::NotFound, "the database does not exist", None),
        "3F000" | "42P01" | "42703" | "42883" => (
            Kind::Unsupported,
            "the schema lacks something; it was not migrated, or was changed by hand",
            None,
        ),
        "54000" | "54001" | "54011" | "54023" => {
            (Kind::TooLarge, "the statement is too complex for the server", None)
        }
        "58P01" | "58P02" | "58030" => (Kind::Unavailable, "the server cannot read or write a file", None),
        "XX001" | "XX002" => (Kind::Corrupt, "the server found damaged data", None),
        _ => match code.get(..2).unwrap_or_default() {
            "08" => (Kind::Unavailable, "the connection to the server broke", soon),
            "22" => (Kind::Invalid, "the server cannot take the value", None),
            "53" => (Kind::Unavailable, "the server is short of a resource", soon),
            "57" => (Kind::Unavailable, "an operator intervened at the server", soon),
            _ => (Kind::Internal, "the server refused the statement", None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_have_their_kind() {
        use ErrorKind as Kind;
        let table = [
            ("40001", Kind::Unavailable, true),
            ("40P01", Kind::Unavailable, true),
            ("55P03", Kind::Unavailable, true),
            ("57014", Kind::Timeout, true),
            ("25006", Kind::Unavailable, true),
            ("53100", Kind::StorageFull, true),
            ("53200", Kind::Unavailable, true),
            ("53300", Kind::Unavailable, true),
            ("53999", Kind::Unavailable, true),
            ("57P01", Kind::Unavailable, true),
            ("57P02", Kind::Unavailable, true),
            ("57P03", Kind::Unavailable, true),
            ("08006", Kind::Unavailable, true),
            ("23505", Kind::Conflict, false),
            ("23503", Kind::Conflict, false),
            ("23514", Kind::Invalid, false),
            ("22P05", Kind::Invalid, false),
            ("42501", Kind::Forbidden, false),
            ("28P01", Kind::Unauthenticated, false),
            ("42P01", Kind::Unsupported, false),
            ("42P05", Kind::Unsupported, false),
            ("54001", Kind::TooLarge, false),
            ("XX001", Kind::Corrupt, false),
            ("XX000", Kind::Internal, false),
            ("", Kind::Internal, false),
        ];
        for (code, kind, retryable) in table {
            let (found, message, retry) = meaning_of(code);
            assert_eq!(found, kind, "{code}");
            let mut error = Error::new(found, "test", message);
            if let Some(retry) = retry {
                error = error.with_retry(retry);
            }
            assert_eq!(error.retry() != Retry::Never, retryable, "{code}");
        }
    }

    #[test]
    fn a_lost_reply_is_unknown_only_after_the_commit_was_sent() {
        let broken = || sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        assert_eq!(from_sqlx("test", Phase::BeforeCommit, broken()).kind(), ErrorKind::Unavailable);
        assert_eq!(from_sqlx("test", Phase::Commit, broken()).kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(
            from_sqlx("test", Phase::Commit, sqlx::Error::PoolTimedOut).retry(),
            Retry::After(RETRY_AFTER)
        );
    }
}
