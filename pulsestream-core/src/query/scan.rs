//! Reading projected columns of many events, for analytics.

use crate::error::{Error, FieldError, Result};
use crate::event::{FieldPath, Value};
use crate::filter::Filter;
use crate::text::Text;
use crate::time::{TimeRange, Timestamp};

/// Largest number of columns of a scan.
pub const MAX_SCAN_COLUMNS: usize = 64;

/// What to scan.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanQuery {
    /// When the events happened.
    pub range: TimeRange,
    /// What they must match; `None` matches all.
    pub filter: Option<Filter>,
    /// Which columns to read, at most [`MAX_SCAN_COLUMNS`].
    pub columns: Vec<FieldPath>,
    /// How many rows a batch holds at most, at least 1.
    pub batch_rows: usize,
}

impl Default for ScanQuery {
    fn default() -> Self {
        Self { range: TimeRange::ALL, filter: None, columns: Vec::new(), batch_rows: 8_192 }
    }
}

impl ScanQuery {
    /// Checks what every backend must refuse the same way.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        if self.columns.len() > MAX_SCAN_COLUMNS {
            let message = format!("must have at most {MAX_SCAN_COLUMNS} columns");
            fields.push(FieldError::new("/columns", "length", message));
        }
        if self.batch_rows == 0 {
            fields.push(FieldError::new("/batch_rows", "out_of_range", "must be at least 1"));
        }
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("event_store.scan", fields)) }
    }
}

/// One column of a batch, as long as the batch has rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Numbers; `None` where there is none or another type.
    Numbers(Vec<Option<f64>>),
    /// Text through a dictionary; `None` where there is none or another type.
    Texts {
        /// The different texts.
        dictionary: Vec<Text>,
        /// For each row, the index of its text.
        codes: Vec<Option<u32>>,
    },
    /// Booleans; `None` where there is none or another type.
    Bools(Vec<Option<bool>>),
    /// Values of several types.
    Values(Vec<Value>),
}

impl Column {
    /// Returns the value of a row, [`Value::Missing`] when the row does not exist.
    pub fn value(&self, row: usize) -> Value {
        match self {
            Self::Numbers(values) => values.get(row).copied().flatten().map_or(Value::Missing, Value::Number),
            Self::Texts { dictionary, codes } => codes
                .get(row)
                .copied()
                .flatten()
                .and_then(|code| dictionary.get(code as usize))
                .map_or(Value::Missing, |text| Value::Text(text.clone())),
            Self::Bools(values) => values.get(row).copied().flatten().map_or(Value::Missing, Value::Bool),
            Self::Values(values) => values.get(row).cloned().unwrap_or_default(),
        }
    }

    /// Returns how many rows it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Texts { codes, .. } => codes.len(),
            Self::Bools(values) => values.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Returns whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Rows of a scan, column by column. Batches and the rows in them come in ascending order of (timestamp, id).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ColumnBatch {
    /// The timestamp of each row.
    pub timestamps: Vec<Timestamp>,
    /// The columns, in the order asked.
    pub columns: Vec<Column>,
}
