//! Questions to an event store and their answers.

mod aggregate;
mod evaluate;
mod find;
mod scan;

pub use aggregate::{
    AggregateOrder, AggregateQuery, AggregateRow, AggregateTable, Bucket, CalendarUnit, MAX_GROUP_PATHS,
    MAX_MEASURES, Measure, OrderKey, TimeZoneName, percentile_of_sorted,
};
pub use evaluate::{Aggregator, CompensatedSum};
pub use find::{Cursor, FindPage, FindQuery, Order};
pub use scan::{Column, ColumnBatch, MAX_SCAN_COLUMNS, ScanQuery};
