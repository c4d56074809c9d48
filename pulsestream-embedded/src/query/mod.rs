//! Answering questions over parts.

mod accumulate;
mod aggregate;
mod columns;
mod filter;
mod intern;
mod kernels;
mod percentile;
mod range;
mod scan;
mod search;
mod slots;

pub(crate) use aggregate::aggregate;
pub(crate) use filter::FilterPlan;
pub(crate) use intern::Interners;
pub(crate) use range::matching_rows;
pub(crate) use scan::scan;
pub(crate) use search::{find, get};
