//! Reading projected columns in order of time.

use std::collections::HashMap;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::event::{FieldPath, Severity, ValueRef};
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::EventScan;
use pulsestream_core::query::{Column, ColumnBatch, Order, ScanQuery};
use pulsestream_core::text::Text;

use super::filter::FilterPlan;
use super::search::{Found, Search};
use crate::error::FaultResult;
use crate::field::{NumberField, TextField};
use crate::part::Part;

/// Starts a scan over parts.
///
/// # Errors
/// `Invalid` for a scan that makes no sense, and those of reading columns.
pub(crate) fn scan(parts: Vec<Part>, tenant: TenantId, query: &ScanQuery) -> FaultResult<PartScan> {
    query.validate()?;
    let plan = FilterPlan::new(query.filter.as_ref())?;
    let search = Search::new(parts, tenant, query.range, plan, Order::OldestFirst, None)?;
    Ok(PartScan { search, columns: query.columns.clone(), batch_rows: query.batch_rows })
}

/// The rows that were there when the scan began.
#[derive(Debug)]
pub(crate) struct PartScan {
    search: Search,
    columns: Vec<FieldPath>,
    batch_rows: usize,
}

#[async_trait]
impl EventScan for PartScan {
    async fn next_batch(&mut self) -> Result<Option<ColumnBatch>> {
        self.read_batch().map_err(|fault| fault.during("event_store.scan"))
    }
}

impl PartScan {
    fn read_batch(&mut self) -> FaultResult<Option<ColumnBatch>> {
        let mut found = Vec::new();
        while found.len() < self.batch_rows {
            let Some(one) = self.search.next()? else { break };
            found.push(one);
        }
        if found.is_empty() {
            return Ok(None);
        }
        let timestamps = found.iter().map(|one| self.search.time(*one)).collect();
        let columns =
            self.columns.iter().map(|path| self.column(path, &found)).collect::<FaultResult<_>>()?;
        Ok(Some(ColumnBatch { timestamps, columns }))
    }

    fn column(&self, path: &FieldPath, found: &[Found]) -> FaultResult<Column> {
        match NumberField::of(path) {
            Some(NumberField::CacheHit) => {
                let mut flags = vec![None; found.len()];
                self.for_each(path, found, |index, value| {
                    if let ValueRef::Bool(flag) = value {
                        flags[index] = Some(*flag);
                    }
                })?;
                return Ok(Column::Bools(flags));
            }
            Some(_) => {
                let mut numbers = vec![None; found.len()];
                for (source, indexes) in by_source(found) {
                    let values = self.search.part(source).numbers(path)?;
                    for index in indexes {
                        numbers[index] = Some(values[found[index].1]).filter(|value| !value.is_nan());
                    }
                }
                return Ok(Column::Numbers(numbers));
            }
            None => {}
        }
        if !path.segments().is_empty() {
            let mut values = vec![Default::default(); found.len()];
            self.for_each(path, found, |index, value| values[index] = value.to_value())?;
            return Ok(Column::Values(values));
        }
        let mut dictionary = Vec::new();
        let mut known: HashMap<Text, u32> = HashMap::new();
        let mut codes = vec![None; found.len()];
        self.for_each(path, found, |index, value| {
            let text = match value {
                ValueRef::Text(text) => Text::from(text.as_ref()),
                ValueRef::Severity(severity) => Text::from(Severity::as_str(*severity)),
                _ => return,
            };
            let next = u32::try_from(dictionary.len()).unwrap_or(u32::MAX);
            let code = *known.entry(text.clone()).or_insert(next);
            if code == next {
                dictionary.push(text);
            }
            codes[index] = Some(code);
        })?;
        Ok(Column::Texts { dictionary, codes })
    }

    /// Hands the value at a path of each match to `visit`, with the index of the match.
    fn for_each(
        &self,
        path: &FieldPath,
        found: &[Found],
        mut visit: impl FnMut(usize, &ValueRef<'_>),
    ) -> FaultResult<()> {
        for (source, indexes) in by_source(found) {
            let part: &Part = self.search.part(source);
            let field = TextField::of(path);
            let by_row = *path == FieldPath::Id || field.is_some_and(|field| !part.rows.keeps_dict(field));
            if by_row {
                let mut texts = match field {
                    Some(field) => part.texts(field)?,
                    None => part.rows.ids(&part.cache)?,
                };
                for index in indexes {
                    let text = texts.get(found[index].1)?.and_then(|text| std::str::from_utf8(text).ok());
                    visit(index, &text.map_or(ValueRef::Missing, |text| ValueRef::Text(text.into())));
                }
            } else {
                let column = part.dict(path)?;
                for index in indexes {
                    visit(index, &column.value(found[index].1));
                }
            }
        }
        Ok(())
    }
}

/// Groups the indexes of matches by their part.
fn by_source(found: &[Found]) -> Vec<(usize, Vec<usize>)> {
    let mut grouped: Vec<(usize, Vec<usize>)> = Vec::new();
    for (index, (source, _)) in found.iter().enumerate() {
        match grouped.iter_mut().find(|(known, _)| known == source) {
            Some((_, indexes)) => indexes.push(index),
            None => grouped.push((*source, vec![index])),
        }
    }
    grouped
}
