//! What each failure of Redis means to the caller.

use pulsestream_core::error::{Error, ErrorKind};
use redis::RedisError;

/// What happens when a command is carried out and its reply is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It only reads.
    Read,
    /// It writes, and doing it twice is the same as once for whoever looks at the result.
    Repeatable,
    /// It writes, and doing it twice is wrong.
    Once,
}

/// What the server says by the first word of an error reply. Each was refused before it had an effect.
const REFUSALS: &[(&str, ErrorKind, &str)] = &[
    ("LOADING", ErrorKind::Unavailable, "redis is loading its data"),
    ("BUSY", ErrorKind::Unavailable, "redis is busy with a script"),
    ("READONLY", ErrorKind::Unavailable, "this redis is a replica and takes no writes"),
    ("MASTERDOWN", ErrorKind::Unavailable, "this redis is a replica and its master is gone"),
    ("CLUSTERDOWN", ErrorKind::Unavailable, "the redis cluster is down"),
    ("TRYAGAIN", ErrorKind::Unavailable, "the redis cluster moves these keys"),
    ("MOVED", ErrorKind::Unavailable, "another node of the redis cluster has these keys"),
    ("ASK", ErrorKind::Unavailable, "another node of the redis cluster gets these keys"),
    ("OOM", ErrorKind::Unavailable, "redis has reached its memory limit"),
    ("MISCONF", ErrorKind::Unavailable, "redis cannot write to its disk"),
    ("NOREPLICAS", ErrorKind::Unavailable, "redis has too few replicas to take writes"),
    ("NOSCRIPT", ErrorKind::Unavailable, "redis forgets scripts while they are sent"),
    ("NOGROUP", ErrorKind::Unavailable, "the queue is gone from redis"),
    ("UNBLOCKED", ErrorKind::Unavailable, "redis ended the wait"),
    ("NOAUTH", ErrorKind::Unavailable, "redis asks for a password"),
    ("WRONGPASS", ErrorKind::Unavailable, "redis refuses the password"),
    ("NOPERM", ErrorKind::Unavailable, "redis does not let this user do this"),
    ("WRONGTYPE", ErrorKind::Conflict, "another program uses a key of ours; choose another key prefix"),
    ("CROSSSLOT", ErrorKind::Internal, "keys of one command are in different slots"),
    ("EXECABORT", ErrorKind::Internal, "redis gave up a transaction"),
];

/// Words after which this server will go on refusing, and another behind the same address may not.
const WRONG_SERVER: &[&str] = &["READONLY", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK"];

/// Explains why there is no connection; the command was not sent.
pub(crate) fn not_connected(error: &RedisError, address: &str, operation: &'static str) -> Error {
    let kind = match error.kind() {
        redis::ErrorKind::InvalidClientConfig => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    let message = match code(error) {
        Some(code) => refusal(&code).map_or("redis refuses the connection", |(_, message)| message),
        None if error.kind() == redis::ErrorKind::AuthenticationFailed => "redis refuses the login",
        None => "cannot connect to redis",
    };
    Error::new(kind, operation, message).with_context("address", address).with_source(error.clone())
}

/// Explains why a command that was sent has no result.
pub(crate) fn failed(error: &RedisError, effect: Effect, operation: &'static str) -> Error {
    let (kind, message) = match code(error) {
        Some(code) => refusal(&code).unwrap_or((ErrorKind::Internal, "redis answers with an error")),
        None => match (effect, error.is_timeout()) {
            (Effect::Read, true) => (ErrorKind::Timeout, "redis did not answer in time"),
            (Effect::Read, false) if is_lost(error) => {
                (ErrorKind::Unavailable, "the connection to redis was lost")
            }
            (Effect::Read, false) => (ErrorKind::Internal, "redis answers with something unexpected"),
            (_, true) => (ErrorKind::OutcomeUnknown, "redis did not answer in time"),
            (_, false) => (ErrorKind::OutcomeUnknown, "the reply of redis was lost"),
        },
    };
    Error::new(kind, operation, message).with_source(error.clone())
}

/// Explains a reply that was understood by the connection and not by us.
pub(crate) fn unexpected(operation: &'static str, detail: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, operation, "redis answers with something unexpected")
        .with_context("detail", detail)
}

/// Returns whether the connection broke while the command was on its way, so that a new one may carry it.
pub(crate) fn is_lost(error: &RedisError) -> bool {
    code(error).is_none() && !error.is_timeout() && (error.is_io_error() || error.is_unrecoverable_error())
}

/// Returns whether the next command needs another connection: this one broke, went silent, or leads to the wrong server.
pub(crate) fn spoils_connection(error: &RedisError) -> bool {
    is_lost(error) || error.is_timeout() || code(error).is_some_and(|code| WRONG_SERVER.contains(&&*code))
}

/// The first word of the server's error reply, also of one within a pipeline.
pub(crate) fn code(error: &RedisError) -> Option<String> {
    if let Some(code) = error.code() {
        return Some(code.to_owned());
    }
    let errors = error.clone().into_server_errors()?;
    errors.first().map(|(_, error)| error.code().to_owned())
}

fn refusal(code: &str) -> Option<(ErrorKind, &'static str)> {
    REFUSALS.iter().find(|(word, _, _)| *word == code).map(|(_, kind, message)| (*kind, *message))
}

#[cfg(test)]
mod tests {
    use std::io;

    use pulsestream_core::error::Retry;

    use super::*;

    fn reply(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn every_reply_of_the_server_has_its_kind() {
        let moved = "MOVED 3999 127.0.0.1:6381";
        let table = [
            ("LOADING Redis is loading the dataset in memory", ErrorKind::Unavailable, false),
            ("BUSY Redis is busy running a script.", ErrorKind::Unavailable, false),
            ("READONLY You can't write against a read only replica.", ErrorKind::Unavailable, true),
            ("MASTERDOWN Link with MASTER is down", ErrorKind::Unavailable, true),
            ("CLUSTERDOWN The cluster is down", ErrorKind::Unavailable, true),
            ("TRYAGAIN Multiple keys request during rehashing of slot", ErrorKind::Unavailable, false),
            (moved, ErrorKind::Unavailable, true),
            ("ASK 3999 127.0.0.1:6381", ErrorKind::Unavailable, true),
            ("OOM command not allowed when used memory > 'maxmemory'.", ErrorKind::Unavailable, false),
            (
                "MISCONF Errors writing to the AOF file: No space left on device",
                ErrorKind::Unavailable,
                false,
            ),
            ("NOREPLICAS Not enough good replicas to write.", ErrorKind::Unavailable, false),
            ("NOSCRIPT No matching script.", ErrorKind::Unavailable, false),
            ("NOGROUP No such key or consumer group", ErrorKind::Unavailable, false),
            ("UNBLOCKED the stream key no longer exists", ErrorKind::Unavailable, false),
            ("NOAUTH Authentication required.", ErrorKind::Unavailable, false),
            ("NOPERM this user has no permissions", ErrorKind::Unavailable, false),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", ErrorKind::Conflict, false),
            ("CROSSSLOT Keys in request don't hash to the same slot", ErrorKind::Internal, false),
            ("ERR unknown command", ErrorKind::Internal, false),
            ("NEWWORD of a later version", ErrorKind::Internal, false),
        ];
        for (line, kind, spoils) in table {
            for effect in [Effect::Read, Effect::Repeatable, Effect::Once] {
                let error = failed(&reply(line), effect, "test");
                assert_eq!(error.kind(), kind, "{line}");
                let retry = if kind == ErrorKind::Unavailable { Retry::Maybe } else { Retry::Never };
                assert_eq!(error.retry(), retry, "{line}");
            }
            assert_eq!(spoils_connection(&reply(line)), spoils, "{line}");
            assert!(!is_lost(&reply(line)), "{line}");
        }
    }

    #[test]
    fn a_lost_reply_leaves_the_outcome_of_a_write_open() {
        let table = [
            (io::ErrorKind::TimedOut, ErrorKind::Timeout, false),
            (io::ErrorKind::BrokenPipe, ErrorKind::Unavailable, true),
            (io::ErrorKind::ConnectionReset, ErrorKind::Unavailable, true),
            (io::ErrorKind::UnexpectedEof, ErrorKind::Unavailable, true),
        ];
        for (cause, read, lost) in table {
            let error = RedisError::from(io::Error::from(cause));
            assert_eq!(failed(&error, Effect::Read, "test").kind(), read);
            assert_eq!(failed(&error, Effect::Once, "test").kind(), ErrorKind::OutcomeUnknown);
            assert_eq!(failed(&error, Effect::Repeatable, "test").kind(), ErrorKind::OutcomeUnknown);
            assert!(spoils_connection(&error));
            assert_eq!(is_lost(&error), lost);
            assert_eq!(not_connected(&error, "h:1", "test").kind(), ErrorKind::Unavailable);
        }
    }

    #[test]
    fn what_prevents_a_connection_is_named() {
        let refused =
            not_connected(&RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused)), "h:1", "t");
        assert_eq!(refused.to_string(), "t: cannot connect to redis, address=`h:1`");
        let password = not_connected(&reply("WRONGPASS invalid username-password pair"), "h:1", "t");
        assert_eq!(password.to_string(), "t: redis refuses the password, address=`h:1`");
        let config = RedisError::from((redis::ErrorKind::InvalidClientConfig, "Redis URL did not parse"));
        assert_eq!(not_connected(&config, "h:1", "t").kind(), ErrorKind::Invalid);
    }
}
