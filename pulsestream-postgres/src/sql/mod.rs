//! The filter language and aggregates as SQL.
//!
//! The texts of statements hold names that this crate spells and placeholders; everything that a tenant says is bound.

mod aggregate;
mod field;
mod filter;
mod text;

pub(crate) use aggregate::AggregateSql;
pub(crate) use field::{Field, ScanColumn, field};
pub(crate) use filter::{FilterSql, filter};
pub(crate) use text::text_patterns;

use crate::wire::Param;

/// The parameters of a statement under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<Param>);

impl Params {
    /// Adds a parameter and returns its placeholder.
    pub(crate) fn bind(&mut self, param: Param) -> String {
        self.0.push(param);
        format!("${}", self.0.len())
    }

    pub(crate) fn as_slice(&self) -> &[Param] {
        &self.0
    }
}
