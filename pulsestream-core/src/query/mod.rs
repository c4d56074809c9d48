//! Questions to an event store and their answers.

mod aggregate;
mod find;
mod scan;

pub use aggregate::{
    AggregateOrder, AggregateQuery, AggregateRow, AggregateTable, Bucket, CalendarUnit, MAX_GROUP_PATHS,
    MAX_MEASURES, Measure, OrderKey, TimeZoneName, percentile_of_sorted,
};
pub use find::{Cursor, FindPage, FindQuery, Order};
pub use scan::{Column, ColumnBatch, ScanQuery};
