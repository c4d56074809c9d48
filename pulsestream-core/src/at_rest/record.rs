//! Stored records: one format byte, then JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// The format written today; others are refused, never guessed at.
const FORMAT: u8 = 1;

/// Returns the stored form of a record.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, record).map_err(|error| {
        Error::new(ErrorKind::Internal, "record.encode", "the record has no JSON form").with_source(error)
    })?;
    Ok(bytes)
}

/// Reads a stored record; `what` names it in the error.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T> {
    let corrupt = |message: &'static str| {
        Error::new(ErrorKind::Corrupt, "record.decode", message).with_context("record", what)
    };
    match bytes.split_first() {
        Some((&FORMAT, json)) => serde_json::from_slice(json).map_err(|error| {
            // The text of a serde error may quote the value: only its place is told.
            corrupt("a stored record cannot be read").with_context("column", error.column())
        }),
        Some((format, _)) => Err(Error::new(
            ErrorKind::Unsupported,
            "record.decode",
            "a stored record has a format this version does not know: use a newer version",
        )
        .with_context("record", what)
        .with_context("format", format)),
        None => Err(corrupt("a stored record is empty")),
    }
}
