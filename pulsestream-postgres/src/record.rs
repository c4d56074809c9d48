//! Records as JSON.

use pulsestream_core::error::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Fault;

pub(crate) fn encode<T: Serialize>(record: &T, what: &'static str) -> Result<String> {
    serde_json::to_string(record).map_err(|error| {
        Error::new(ErrorKind::Internal, "postgres.encode", "a record cannot be written as JSON")
            .with_context("record", what)
            .with_source(error)
    })
}

pub(crate) fn decode<T: DeserializeOwned>(json: &str, what: &'static str) -> Result<T, Fault> {
    serde_json::from_str(json).map_err(|error| {
        Fault::Typed(
            Error::new(ErrorKind::Corrupt, "postgres.decode", "a stored record cannot be read")
                .with_context("record", what)
                .with_source(error),
        )
    })
}
