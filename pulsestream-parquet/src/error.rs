//! What can fail, as the public error.

use parquet::errors::ParquetError;
use pulsestream_core::{Error, ErrorKind};

/// Turns a failure to write into the public error; a full disk stays one.
pub(crate) fn cannot_write(error: ParquetError) -> Error {
    let kind = match io_kind(&error) {
        Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => ErrorKind::StorageFull,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "parquet.write", "the Parquet file cannot be written")
        .with_context("cause", &error)
        .with_source(error)
}

/// Turns a failure to read into the public error.
pub(crate) fn cannot_read(error: ParquetError) -> Error {
    Error::new(
        ErrorKind::Invalid,
        "parquet.read",
        "the file is no Parquet file, or it is damaged or of a later version",
    )
    .with_context("cause", &error)
    .with_source(error)
}

fn io_kind(error: &ParquetError) -> Option<std::io::ErrorKind> {
    match error {
        ParquetError::External(source) => source.downcast_ref::<std::io::Error>().map(std::io::Error::kind),
        _ => None,
    }
}
